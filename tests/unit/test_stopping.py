"""Marks of tasks that are to stop, against the end of these tasks."""

import sys
import threading
import time

import pytest

from scopekit.engine import stopping
from scopekit.engine.interrupts import Interrupted
from scopekit.engine.stopping import Stops
from scopekit.scopes import ThreadProc
from scopekit.wire import messages as msg

HERE = ThreadProc(0, 0)


def order(number):
    return msg.Run(number, f"t{number}", b"", None, (), ((), ()), HERE, (), (number + 1,), None)


@pytest.fixture
def running():
    return {}


@pytest.fixture
def stops(running):
    return Stops(running)


def begin(running, number, started=0.0):
    running[number] = (started, order(number))


def end(running, stops, number):
    running.pop(number)
    return stops.end(number)


def test_what_runs_can_be_marked_and_its_end_sees_that(running, stops):
    begin(running, 1)

    assert stops.mark(1)[1].task == 1
    assert stops.wants(1)
    assert end(running, stops, 1).late is False
    assert not stops.wants(1)


def test_what_does_not_run_cannot_be_marked(running, stops):
    assert stops.mark(1) is None
    begin(running, 1)
    end(running, stops, 1)
    assert stops.mark(1) is None

    assert stops.marks == {}


def test_what_is_marked_is_told_of_once_and_interrupted_again(running, stops):
    begin(running, 1)
    stops.mark(1)
    with pytest.raises(Interrupted):
        stops.check(1)
    stops.check(1)
    assert not stops.wants(1)

    assert stops.mark(1) is None
    assert stops.wants(1)


def test_of_a_mark_and_an_end_at_once_each_knows_what_the_other_made_of_it(running, stops):
    """Thousands of times, with the two threads as close as can be."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    both, told = threading.Barrier(2), []

    def mark_all():
        for number in range(2000):
            both.wait()
            told.append(stops.mark(number) is not None)

    marker = threading.Thread(target=mark_all)
    marker.start()
    try:
        ended = []
        for number in range(2000):
            begin(running, number)
            both.wait()
            ended.append(end(running, stops, number) is not None)
    finally:
        sys.setswitchinterval(switch)
        marker.join()

    # Who marked it and told so is believed by the end; the end may also tell alone.
    assert all(seen for said, seen in zip(told, ended, strict=True) if said)
    assert stops.marks == {}


def test_what_runs_longer_than_it_may_is_overdue_until_it_is_marked(running, stops, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stopping.time, "time", lambda: 50.0 + clock[0])
    stops.limits.update({1: 2.0, 3: 60.0, 5: 2.0})
    begin(running, 1, started=1049.0)  # a second ago
    begin(running, 3, started=1049.0)
    assert stops.overdue() == []
    clock[0] += 1.1
    assert stops.overdue() == [1]
    stops.mark(1, late=True)

    assert stops.overdue() == []
    assert end(running, stops, 1).late is True
    assert stops.limits == {3: 60.0, 5: 2.0}


def test_a_clock_that_is_set_changes_no_limit(running, stops, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    stops.limits[1] = 2.0
    begin(running, 1, started=time.time())
    assert stops.overdue() == []
    monkeypatch.setattr(stopping.time, "time", lambda: time.monotonic() + 1e9)

    assert stops.overdue() == []


def test_nothing_is_kept_of_what_ended_or_was_taken_back(running, stops):
    stops.limits.update({1: 0.0, 3: 5.0})
    begin(running, 1)
    stops.overdue()
    end(running, stops, 1)
    stops.forget(3)

    assert (stops.limits, stops._since, stops.marks) == ({}, {}, {})
