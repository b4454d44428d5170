"""An initializer runs once in a process, and what it made is there for the calls."""

import functools
import os
import threading
import types

import pytest

import scopekit as sk
from scopekit.engine.initializing import InitializerError, _Once
from scopekit.wire.codec import dump_value, load_value

ran = []


def note(*args):
    ran.append(args)


def wait_for_another():
    sharing["once"].run(b"", "here")


sharing = {}


@pytest.fixture(autouse=True)
def _fresh():
    ran.clear()


def notebook(source):
    """Run a cell, whose functions travel by value."""
    namespace = {"__name__": "__main__"}
    exec(source, namespace)
    return types.SimpleNamespace(**namespace)


def test_it_runs_once():
    once = _Once()
    for _ in range(3):
        once.run(dump_value((note, (1, 2))), "here")

    assert ran == [(1, 2)]


def test_others_wait_until_it_has_run():
    once = _Once()
    pickled = dump_value((note, ()))
    seen = []

    def work():
        once.run(pickled, "here")
        seen.append(len(ran))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert seen == [1] * 8


def test_one_that_failed_is_not_tried_again():
    once = _Once()
    for _ in range(2):
        with pytest.raises(InitializerError, match=r"here.*ZeroDivisionError"):
            once.run(dump_value((divmod, (1, 0))), "here")


def test_one_that_exits_has_failed():
    with pytest.raises(InitializerError, match="SystemExit"):
        _Once().run(dump_value((exit, (1,))), "here")


def test_whoever_needs_it_while_it_waits_is_told():
    """Its thread runs others meanwhile; to wait for it there would be to wait for oneself."""
    once = sharing["once"] = _Once()

    with pytest.raises(InitializerError, match="Wait for nothing in it"):
        once.run(dump_value((wait_for_another, ())), "here")


def test_the_error_survives_pickling():
    with pytest.raises(InitializerError) as caught:
        _Once().run(dump_value((divmod, (1, 0))), "node a, worker 0")
    again = load_value(dump_value(caught.value))

    assert str(again) == str(caught.value)
    assert "node a, worker 0" in str(again)


CELL = """
count, kept = 0, {}
helper_made = None
def helper():
    global helper_made
    helper_made = "by the helper"
def prepare():
    global count, added
    count, added = 5, "new"
    kept["x"] = 1
    helper()
def look():
    return count, globals().get("added"), kept, helper_made
class Callable:
    def __call__(self):
        return look()
    def method(self):
        return look()
"""


@pytest.mark.parametrize(
    "choose",
    [
        lambda cell: cell.look,
        lambda cell: functools.partial(cell.look),
        lambda cell: cell.Callable(),
        lambda cell: cell.Callable().method,
    ],
    ids=["function", "partial", "object", "method"],
)
def test_a_function_of_the_notebook_sees_the_globals_that_it_made(choose):
    cell = notebook(CELL)
    once = _Once()
    once.run(dump_value((cell.prepare, ())), "here")
    f = load_value(dump_value(choose(cell)))

    once.share(f)

    assert f() == (5, "new", {"x": 1}, "by the helper")


def test_the_globals_are_given_once_and_then_the_calls_own():
    cell = notebook("n = 0\ndef prepare():\n  global n\n  n = 5\ndef up():\n  global n\n  n += 1")
    once = _Once()
    once.run(dump_value((cell.prepare, ())), "here")
    up = load_value(dump_value(cell.up))

    for _ in range(3):
        once.share(up)
        up()

    assert up.__globals__["n"] == 8


def test_a_function_of_another_module_gets_nothing():
    cell = notebook("n = 0\ndef prepare():\n  global n\n  n = 5")
    once = _Once()
    once.run(dump_value((cell.prepare, ())), "here")
    before = dict(vars(os.path))

    for f in (os.path.join, len, note):
        once.share(f)

    assert vars(os.path) == before
    assert "n" not in globals()


def test_where_the_calls_run_here_it_runs_here():
    with sk.start(0) as session, session.executor(initializer=note, initargs=(7,)) as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
    assert ran == [(7,)]
