"""Interrupting a task on the main thread: it alone, and only in its own code."""

import gc
import signal
import threading
import time
import types

import pytest

from scopekit.engine import interrupts
from scopekit.engine.interrupts import Interrupted, Mark
from scopekit.engine.runner import run_task
from scopekit.scopes import ThreadProc
from scopekit.wire import messages as msg

LIMIT = 20.0
HERE = ThreadProc(0, 0)


@pytest.fixture
def listening():
    stop = interrupts.listen()
    assert stop is not None
    yield
    stop()
    assert not interrupts._armed


@pytest.fixture
def kicks(listening):
    """Send the signal again and again, as an agent does, until the test ends."""
    over = threading.Event()

    def kick():
        while not over.wait(0.002):
            interrupts.kick()

    thread = threading.Thread(target=kick)
    thread.start()
    yield
    over.set()
    thread.join(LIMIT)


@pytest.fixture
def armed():
    made = []

    def arm(order):
        mark = Mark(order, late=False)
        interrupts.arm(mark)
        made.append(mark)
        return mark

    yield arm
    for mark in made:
        interrupts.disarm(mark)


def order(number):
    return msg.Run(number, f"t{number}", b"", None, (), ((), ()), HERE, (), (number + 1,), None)


def run(which, function):
    return run_task(which, function, (), lambda *_: None)


def sleep_long():
    time.sleep(LIMIT)


def spin_long():
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        pass


def spin(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("work", [sleep_long, spin_long])
def test_a_task_is_interrupted_wherever_it_is(work, kicks, armed):
    task = order(1)
    armed(task)
    began = time.monotonic()

    with pytest.raises(KeyboardInterrupt, match="task t1 was cancelled"):
        run(task, work)
    assert time.monotonic() - began < LIMIT / 2


def test_a_task_is_interrupted_once(kicks, armed):
    task = order(1)
    mark = armed(task)
    seen = []

    def work():
        for _ in range(3):
            try:
                spin(0.05)
            except Interrupted:
                seen.append(mark.raised)

    run(task, work)

    assert seen == [True]


def test_another_task_is_left_alone(kicks, armed):
    armed(order(1))

    run(order(3), lambda: spin(0.1))


def test_the_same_task_of_another_session_is_left_alone(kicks, armed):
    armed(order(1))

    run(order(1), lambda: spin(0.1))


def test_what_runs_outside_of_tasks_is_left_alone(kicks, armed):
    armed(order(1))

    spin(0.1)


def test_a_task_that_waits_below_another_is_interrupted_when_that_has_ended(kicks, armed):
    below, above = order(1), order(3)
    went = []

    def work():
        armed(below)
        run(above, lambda: spin(0.1))
        went.append("above")
        spin(LIMIT)

    with pytest.raises(Interrupted):
        run(below, work)
    assert went == ["above"]


def test_nothing_is_raised_in_scopekit_s_own_code(kicks, armed):
    """As if a task printed: it may hold a lock of the agent."""
    ours = types.ModuleType("scopekit.engine.agent")
    ours.spin, ours.went = spin, []
    exec("def write():\n    spin(0.1)\n    went.append(1)\n", ours.__dict__)
    task = order(1)
    armed(task)

    def work():
        ours.write()
        spin(LIMIT)

    with pytest.raises(Interrupted):
        run(task, work)
    assert ours.went == [1]


def test_functions_of_the_demo_count_as_users_code(kicks, armed):
    theirs = types.ModuleType("scopekit.demo.stories")
    theirs.spin = spin
    exec(f"def work():\n    spin({LIMIT})\n", theirs.__dict__)
    task = order(1)
    armed(task)

    with pytest.raises(Interrupted):
        run(task, theirs.work)


def test_an_interruption_is_not_lost_where_python_collects_an_object(kicks, armed):
    task = order(1)
    armed(task)

    class Slow:
        def __del__(self):
            spin(0.1)

    def work():
        Slow()
        gc.collect()
        spin(LIMIT)

    with pytest.raises(Interrupted):
        run(task, work)


def test_no_signal_is_sent_where_the_main_thread_runs_something_else(listening, armed, monkeypatch):
    sent = []
    monkeypatch.setattr(interrupts.signal, "pthread_kill", lambda *_: sent.append(1))
    armed(order(1))
    interrupts.kick()
    run(order(3), interrupts.kick)

    assert sent == []


def test_a_stray_signal_does_nothing(listening):
    signal.raise_signal(interrupts._SIGNAL)


def test_a_handler_that_was_there_is_called_and_comes_back(armed):
    called = []
    signal.signal(interrupts._SIGNAL, lambda number, _: called.append(number))
    try:
        before = signal.getsignal(interrupts._SIGNAL)
        first, second = interrupts.listen(), interrupts.listen()
        signal.raise_signal(interrupts._SIGNAL)
        first()
        assert signal.getsignal(interrupts._SIGNAL) is interrupts._on_signal
        second()
        assert signal.getsignal(interrupts._SIGNAL) is before
    finally:
        signal.signal(interrupts._SIGNAL, signal.SIG_DFL)

    assert called == [interrupts._SIGNAL]


def test_only_the_main_thread_can_listen():
    heard = []
    thread = threading.Thread(target=lambda: heard.append(interrupts.listen()))
    thread.start()
    thread.join(LIMIT)

    assert heard == [None]


def test_without_a_listener_nobody_is_sent_anything(armed):
    armed(order(1))

    interrupts.kick()
