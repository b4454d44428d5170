"""Results that are brought as soon as they are made, on real engines."""

import gc
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import scopekit as sk
from scopekit import ProcessScope
from scopekit.engine import lanes

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE, TWO = ProcessScope(1), ProcessScope(2)


def numbers(n):
    return list(range(n))


def test_the_value_is_here_when_the_task_is_done(until):
    with sk.start(2) as session:
        task = session.options(get_result=True, scope=ONE).spawn(np.arange, 100_000)
        late = session.spawn(np.arange, 100_000, scope=ONE)
        session.wait([task, late], 30)
        pid = session.spawn(os.getpid, scope=ONE).result(30)

        os.kill(pid, signal.SIGKILL)
        until(lambda: 1 not in session.workers, "the engine is gone")

        assert task.result(0).sum() == sum(range(100_000))
        assert task.result(0) is task.result(0)
        assert task.exception(0) is None
        assert task.state == "done", "it is not made again for those who have it"
        with pytest.raises(sk.NoProcessorError):
            session.spawn(sum, [], scope=ONE)


def test_many_are_brought(session):
    with sk.with_options(get_result=True):
        tasks = [session.spawn(numbers, n) for n in range(200)]

    assert session.fetch(tasks, timeout=30) == [numbers(n) for n in range(200)]
    assert all(task.plain_value is not None for task in tasks)
    assert session.spawn(len, tasks[7]).result(30) == 7


def test_callbacks_find_the_value(session):
    found = []
    called = threading.Event()
    task = session.options(get_result=True).spawn(numbers, 3)

    def look(done):
        found.append(done.plain_value)
        called.set()

    task.add_done_callback(look)

    assert called.wait(30)
    assert found == [([0, 1, 2],)]


def test_a_value_that_may_not_come_stays_and_the_error_says_why(session):
    """C121, C187."""
    task = session.options(get_result=True, result_scope=ONE).spawn(numbers, 3)

    assert task.wait(30).worker == 1
    with pytest.raises(sk.ScopeViolationError, match="valid only on worker 1, and the client"):
        task.result(30)
    assert task.plain_value is None
    assert session.spawn(len, task).result(30) == 3


def test_what_turns_out_to_be_scoped_stays_too(session):
    """C187."""

    def work(given):
        return sk.tochunk(given, scope=ProcessScope())

    pinned = session.spawn(numbers, 3, result_scope=ONE)
    task = session.options(get_result=True).spawn(work, pinned)

    with pytest.raises(sk.ScopeViolationError):
        task.result(30)
    assert task.plain_value is None


def test_what_does_not_pickle_stays(session):
    task = session.options(get_result=True).spawn(lambda: (n for n in range(3)))

    with pytest.raises(sk.ScopeViolationError, match="It is a generator"):
        task.result(30)
    assert session.spawn(list, task).result(30) == [0, 1, 2]


def test_of_several_results_those_come_that_may(session):
    free, pinned = task = session.options(
        get_result=True, outputs=2, result_scope=[None, TWO]
    ).spawn(lambda: ([1], [2]))

    task.wait(30)

    assert (free.plain_value, pinned.plain_value) == (([1],), None)
    with pytest.raises(sk.ScopeViolationError, match="output '1' of lambda"):
        task.result(30)


def test_errors_come_as_ever(session):
    task = session.options(get_result=True).spawn(divmod, 1, 0)

    assert isinstance(task.exception(30), ZeroDivisionError)


def test_a_task_of_a_task_has_its_value_as_ever(session, orders_reach_busy_engines):
    def outer():
        return sk.options(get_result=True, scope=ProcessScope(2)).spawn(numbers, 3).result()

    assert session.spawn(outer, scope=ONE).result(30) == [0, 1, 2]


class _Slow:
    """Waits where it is read until it is let, but for the engine that made it."""

    def __init__(self, gate):
        self.gate = gate
        self.maker = os.getpid()

    def __setstate__(self, state):
        deadline = time.monotonic() + 60
        while os.getpid() != state["maker"] and not Path(state["gate"]).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_session_that_closes_ends_the_wait_for_what_is_being_brought(
    monkeypatch, tmp_path, until
):
    monkeypatch.setattr(lanes, "_JOIN", 0.2)
    gate = tmp_path / "gate"
    with sk.start(1) as session:
        task = session.options(get_result=True).spawn(_Slow, str(gate))
        until(lambda: task.state == "done", "the value is made")
        assert not task.done()
    try:
        assert task.wait(5) is task
        with pytest.raises(sk.ScopekitError, match="closed"):
            task.result(5)
    finally:
        gate.touch()


def test_nothing_is_kept_of_what_nobody_holds(plain, until):
    task = plain.options(get_result=True).spawn(numbers, 3)
    assert task.result(30) == [0, 1, 2]
    gone = weakref.ref(task)

    del task
    gc.collect()

    until(lambda: gone() is None, "the handle is gone")
    until(lambda: plain.statistics()["chunks"] == 0, "the value is gone from its engine")
