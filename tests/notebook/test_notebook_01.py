"""The tutorial runs from top to bottom, and what it shows is true."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytest.importorskip("cv2")

PATH = Path(__file__).parents[2] / "notebooks" / "01-scopes.ipynb"
LARGEST = 400_000
PROMISED = [
    "(ThreadProc(0, 0), ThreadProc(1, 0), ThreadProc(2, 0), ThreadProc(3, 0))",
    # the reads went to the handle, each to the next frame
    "[12.0, 21.9, 31.6, 41.4]",
    *(f"'read_frame-{index}': 'ran on worker 2'" for index in range(1, 5)),
    "read_frame-1 runs on node b, worker 2, thread 0",
    # one model, called three times
    "[((5, 3), 1), ((5, 3), 2), ((5, 3), 3)]",
    # the mapped file
    "sum: 19999900000",
    "nodes: {'a'}",
    "sum on worker 1 is 19999900000",
    "scope= allows node b",
    # the connection
    "means: {'cold': 5.0, 'hot': 85.0}",
    "threads: 1",
    "processors: {'worker 3, thread 0'}",
    # the records
    "mean: 3746.5 and 3746.5",
    "valid only on worker 2 or worker 3",
    # the mismatch
    "argument 'left' allows",
    "argument 'right' allows",
    # the cell
    "count frames: done on node b, worker 2, thread 0",
]


@pytest.fixture(scope="module")
def fresh(own_folders):
    notebook = nbformat.read(PATH, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": PATH.parent}}).execute()
    return notebook


@pytest.fixture(params=["as committed", "run now"])
def notebook(request):
    if request.param == "run now":
        return request.getfixturevalue("fresh")
    return nbformat.read(PATH, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def shown(notebook):
    texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs(notebook)]
    return "\n".join(texts)


def test_it_shows_what_it_promises(notebook):
    text = shown(notebook)

    assert [promise for promise in PROMISED if promise not in text] == []
    assert "error" not in {output.output_type for output in outputs(notebook)}
    assert "stderr" not in {output.get("name") for output in outputs(notebook)}


def test_it_shows_the_graph_and_the_timeline(notebook):
    pictures = [o for o in outputs(notebook) if "image/png" in o.get("data", {})]

    assert len(pictures) >= 2


def test_it_says_what_a_user_would_type():
    code = [c.source for c in nbformat.read(PATH, as_version=4).cells if c.cell_type == "code"]

    assert code[0].startswith("import scopekit as sk\n")
    assert "scopekit.demo" not in "".join(code)
    assert code[-1].startswith("session.close()")


def test_the_committed_file_is_small_and_names_no_machine():
    text = PATH.read_text()

    assert len(text) < LARGEST
    assert re.findall(r"/(?:home|root|tmp|work|Users|var)/\S+", text) == []
