"""Binder's files build an environment in which the tutorial runs.

The rehearsal does what repo2docker does with them, in a fresh virtual environment.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")


def requirements():
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_requirement_has_an_exact_version():
    assert [line for line in requirements() if not re.fullmatch(r"[\w-]+==[\w.]+", line)] == []


def test_every_dependency_of_ours_is_among_them():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["demo"]
    names = {re.match(r"[\w-]+", line)[0] for line in needed}

    assert names - {line.partition("==")[0] for line in requirements()} == set()


def test_the_python_is_one_we_support():
    assert (BINDER / "runtime.txt").read_text() == "python-3.11\n"


def test_nothing_is_built_with_node():
    assert "npm" not in (BINDER / "postBuild").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_runs_in_what_binder_builds(tmp_path, monkeypatch):
    repository = shutil.copytree(ROOT, tmp_path / "repository", ignore=LEFT_OUT)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    monkeypatch.setenv("PATH", f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for command in (
        ["pip", "install", "--no-cache-dir", "-r", "binder/requirements.txt"],
        ["bash", "binder/postBuild"],
    ):
        subprocess.run(command, cwd=repository, check=True, stdin=subprocess.DEVNULL)
    kernel = tmp_path / "jupyter" / "kernels" / "binder"
    kernel.mkdir(parents=True)
    python = str(environment / "bin" / "python")
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Binder"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.read(repository / "notebooks" / "01-scopes.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys\nsys.prefix"))

    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="binder",
        resources={"metadata": {"path": repository / "notebooks"}},
    ).execute()

    assert notebook.cells[-1].outputs[0].data["text/plain"] == repr(str(environment))
    assert any(
        "image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", ())
    )
