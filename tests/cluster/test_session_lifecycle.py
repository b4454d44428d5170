"""A session leaves nothing behind, however it ends."""

import os
import subprocess
import sys
import textwrap
import threading

import psutil
import pytest

import scopekit as sk


def opened():
    """Counts what a process can leak by itself."""
    return {
        "files": psutil.Process().num_fds(),
        "threads": threading.active_count(),
        "children": len(psutil.Process().children(recursive=True)),
    }


def one_session():
    with sk.start(2) as session:
        assert session.fetch([session.spawn(abs, -n) for n in range(4)]) == [0, 1, 2, 3]
        session.spawn(abs, -1, scope=sk.ProcessScope("client")).result()


def test_a_session_gives_back_every_thread_and_process():
    before = opened()
    one_session()
    after = opened()

    assert after["threads"] == before["threads"]
    assert after["children"] == before["children"]


@pytest.mark.slow
def test_twenty_sessions_leave_no_file_thread_or_process():
    one_session()  # what is loaded once, such as ZeroMQ's own context, is no leak
    before = opened()
    for _ in range(20):
        one_session()

    assert opened() == before


def test_tasks_under_way_at_the_close_end_in_an_error_that_says_so():
    with sk.start(1) as session:
        running = session.spawn(_wait_for_long)
        waiting = session.spawn(abs, running)

    for task in (running, waiting):
        with pytest.raises(sk.TaskCancelledError, match="not done when its session was closed"):
            task.result(timeout=0)


def _wait_for_long():
    import threading

    threading.Event().wait(60)


def test_a_closed_session_says_so_and_closes_twice():
    session = sk.start(0)
    session.close()
    session.close()

    with pytest.raises(sk.ScopekitError, match="is closed; start another"):
        session.spawn(abs, -1)


SCRIPT = textwrap.dedent("""
    import scopekit as sk
    session = sk.start(2)
    task = session.spawn(abs, -5)
    assert task.result() == 5
    {end}
""")


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise SystemExit(7)", 7), ("raise KeyboardInterrupt", 1)],
    ids=["exit", "SystemExit", "KeyboardInterrupt"],
)
def test_a_script_that_never_closes_its_session_leaves_quietly(end, code, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(end=end))
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script], env=env, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode == code) or (code == 1 and done.returncode in (1, 130, -2))
    assert done.stdout == ""
    assert "Exception ignored" not in done.stderr
    assert ("Traceback" in done.stderr) == (end == "raise KeyboardInterrupt")
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


@pytest.mark.parametrize(("option", "meant"), [({"thread": 2}, "threads"), ({"node": {}}, "nodes")])
def test_a_misspelt_option_of_start_is_refused_with_what_was_meant(option, meant):
    with pytest.raises(sk.ScopeError, match=f"Did you mean {meant}=?"):
        sk.start(1, **option)


def test_a_module_beside_the_notebook_is_found_by_the_engines(tmp_path):
    """In a notebook, as with -c, the empty entry of the search path means the folder one is in."""
    (tmp_path / "beside.py").write_text("def answer():\n    return 42\n")
    code = (
        "import scopekit as sk, beside\n"
        "with sk.start(1) as session: print(session.spawn(beside.answer).result())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "42\n", done.stderr
