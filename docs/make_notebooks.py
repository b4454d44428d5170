"""Runs the notebooks and keeps their outputs, without what belongs to one machine.

Run it as ``python docs/make_notebooks.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LARGEST = 400_000
_DURATION = re.compile(r" in [\d.]+ m?s\b")
_PATHS = re.compile(r"/(?:home|root|tmp|work|Users|var)/\S+")


def main() -> None:
    """Runs every notebook in place."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": NOTEBOOKS}}).execute()
        _clean(notebook)
        text = nbformat.writes(notebook) + "\n"
        if found := _PATHS.search(text):
            raise SystemExit(f"{path.name} shows a path of this machine: {found[0]}")
        if len(text) > LARGEST:
            raise SystemExit(f"{path.name} has {len(text)} bytes, more than {LARGEST}")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text)} bytes")


def _clean(notebook: Any) -> None:
    """Takes out times and versions, which would change with every run."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            for kind, text in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = _DURATION.sub("", text)


if __name__ == "__main__":
    main()
