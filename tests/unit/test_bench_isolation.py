"""A measuring process has a limit and leaves nothing; what it says shows no paths."""

import sys
import time
from pathlib import Path

import pytest

from scopekit.bench import isolation
from scopekit.bench.child import Order
from scopekit.wire.reaper import marked_processes

SPEAK = "import json, os, sys, time; pipe = json.loads(sys.argv[1])['pipe']\n"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Measures with a program in place of the child; returns what was said."""

    def run(program, limit=20.0):
        (tmp_path / "stand_in.py").write_text(SPEAK + program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(isolation, "_CHILD", "stand_in")
        said = []
        order = Order("direct", ("chain", "tree"), 1, quick=True, patterns=())
        isolation.measure(order, limit, said.append)
        return said

    return run


def test_what_it_says_is_taken(run):
    said = run('os.write(pipe, b\'{"kind": "begun", "workload": "tree"}\\n{"kind": "ended"}\\n\')')

    assert said == [{"kind": "begun", "workload": "tree"}]


def test_silence_is_ended_by_the_limit_and_named(run):
    began = time.monotonic()

    said = run(
        'os.write(pipe, b\'{"kind": "begun", "workload": "tree"}\\n\'); time.sleep(60)',
        limit=0.5,
    )

    assert said[1:] == [
        {
            "kind": "failed",
            "workload": "tree",
            "reason": "nothing came of it in 0.5 s",
            "fatal": True,
        }
    ]
    assert time.monotonic() - began < 30


def test_a_crash_is_told_by_its_last_words(run):
    (failed,) = run("raise KeyError('/some/where/else.py is gone')")

    assert failed["workload"] == "chain"
    assert failed["reason"] == "it ended early: KeyError: '<path> is gone'"


def test_what_it_leaves_is_ended_and_its_folder_removed(run, tmp_path):
    note = tmp_path / "note"
    run(
        "import subprocess\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        f"open({str(note)!r}, 'w').write(os.environ['SCOPEKIT_BENCH'] + ' ' + os.getcwd())\n"
        'os.write(pipe, b\'{"kind": "ended"}\\n\')'
    )

    mark, folder = note.read_text().split(" ", 1)
    assert marked_processes([f"SCOPEKIT_BENCH={mark}"]) == set()
    assert not Path(folder).exists()


def test_an_interrupt_ends_it_too(run, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(isolation, "_listen", interrupt)

    with pytest.raises(KeyboardInterrupt):
        run("time.sleep(60)")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("OSError: [Errno 2] '/home/me/x.py'", "OSError: [Errno 2] '<path>'"),
        ("see https://example.org/a/b and 1/2", "see https://example.org/a/b and 1/2"),
        ("first\nsecond", "first"),
        ("\n  File ~/a/b, line 3", "File <path>, line 3"),
        ("", ""),
    ],
)
def test_reasons_show_one_line_and_no_paths(text, told):
    assert isolation.without_paths(text) == told


def test_the_child_is_a_module_that_there_is():
    assert isolation._CHILD == "scopekit.bench.child"
    assert sys.modules[isolation._CHILD].main
