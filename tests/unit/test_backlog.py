"""The tasks of a process that have not begun, by themselves."""

import threading

import pytest

from scopekit.engine.backlog import Backlog, Pending
from scopekit.engine.functions import ReceivedFunction
from scopekit.scopes import ThreadProc
from scopekit.wire import messages as msg


@pytest.fixture
def store():
    return set()


@pytest.fixture
def backlog(store):
    return Backlog(store, threading.RLock())


def pending(task, *inputs):
    order = msg.Run(task, f"t{task}", b"", None, (), ((), ()), ThreadProc(0, 0), inputs, (), None)
    return Pending(order, ReceivedFunction(None))


def test_a_task_with_all_of_its_inputs_may_begin_once(backlog, store):
    store.add(2)
    assert backlog.add(pending(10, 2, 2))
    assert 10 in backlog

    assert backlog.begin(10)
    assert not backlog.begin(10)
    assert 10 not in backlog


def test_a_task_waits_for_each_of_its_inputs_once(backlog, store):
    one = pending(10, 2, 4, 2)
    assert not backlog.add(one)
    assert backlog.lacks_inputs
    assert backlog.arrived(2) == []
    assert backlog.arrived(4) == [one]
    assert not backlog.lacks_inputs


def test_what_is_taken_out_waits_no_more_and_cannot_begin(backlog):
    one, other = pending(10, 2), pending(12, 2, 4)
    assert not backlog.add(one)
    assert not backlog.add(other)
    assert backlog.take_out([12, 99]) == [other]

    assert not backlog.begin(12)
    assert backlog.waiting_for(4) == []
    assert backlog.arrived(2) == [one]


def test_what_waits_for_a_chunk_that_may_not_come_is_taken_out_at_once(backlog):
    one = pending(10, 2, 4)
    backlog.add(one)
    assert backlog.take_waiting(2) == [one]
    assert backlog.take_waiting(2) is None
    assert not backlog.lacks_inputs


def test_chunks_are_late_after_a_while(backlog):
    backlog.add(pending(10, 2, 4))

    assert backlog.late(60.0) == []
    assert sorted(backlog.late(-1.0)) == [2, 4]
