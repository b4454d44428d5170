"""The command line answers in words and in exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

import scopekit
from scopekit import cli


def test_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"scopekit {scopekit.__version__}\n"


def test_python_m_scopekit_is_the_same_command():
    command = [sys.executable, "-m", "scopekit", "--version"]

    answer = subprocess.run(command, capture_output=True, text=True, check=True)

    assert answer.stdout == f"scopekit {scopekit.__version__}\n"


def test_a_command_is_asked_for(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([])

    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "name"), [("cv2", "OpenCV"), ("numpy", "numpy")])
def test_what_the_demo_lacks_is_told_in_one_line(module, name, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)  # to Python, a module that is not installed

    code = cli.main(["demo", "--headless", "--out", str(tmp_path)])

    error = capsys.readouterr().err
    assert code == 2
    assert error == f'scopekit: the demo needs {name}. Install it: pip install "scopekit[demo]"\n'


def test_an_output_folder_that_cannot_be_made_is_told(capsys, tmp_path):
    pytest.importorskip("cv2")
    taken = tmp_path / "taken"
    taken.write_text("a file")

    code = cli.main(["demo", "--headless", "--out", str(taken)])

    assert code == 2
    assert capsys.readouterr().err == f"scopekit: --out {taken}: File exists\n"


def test_lab_without_jupyterlab_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jupyterlab", None)

    code = cli.main(["lab"])

    assert code == 2
    assert 'pip install "scopekit[lab]"' in capsys.readouterr().err


def test_the_notebooks_of_a_checkout_are_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert cli._notebooks() == Path(scopekit.__file__).parents[1] / "notebooks"


def test_lab_says_where_the_notebooks_are_if_not_here(monkeypatch, capsys, tmp_path):
    pytest.importorskip("jupyterlab")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scopekit, "__file__", str(tmp_path / "scopekit" / "__init__.py"))

    code = cli.main(["lab"])

    assert code == 2
    assert "Clone the repository" in capsys.readouterr().err


def test_the_command_line_loads_nothing_heavy():
    heavy = ("cv2", "numpy", "matplotlib", "ipyparallel", "IPython", "zmq", "networkx")
    script = f"import sys, scopekit.cli; print([m for m in {heavy} if m in sys.modules])"

    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"
