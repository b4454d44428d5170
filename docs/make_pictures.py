"""Draws the README's picture from stories that really run.

Run it as ``python docs/make_pictures.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import scopekit as sk
from scopekit.demo.stories import NODES, camera, mismatch

IMAGES = Path(__file__).parent / "images"
TITLE = "A camera handle stays in its process, and frames are free to leave"


def main() -> None:
    """Runs two of the stories and draws where their tasks went."""
    IMAGES.mkdir(exist_ok=True)
    with sk.start(nodes=NODES) as session, tempfile.TemporaryDirectory() as folder:
        for story in (camera, mismatch):
            if not story(session, Path(folder)).ok:
                raise SystemExit(f"the story of the {story.__name__} did not go as it should")
        for theme in ("light", "dark"):
            figure = sk.plot_dag(session, by="placement", theme=theme, title=TITLE)
            path = IMAGES / f"placement-{theme}.png"
            figure.savefig(path, dpi=150)
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
