"""Engines that are taken out of a session, and engines that die."""

import os
import signal
import sys
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import NodeScope, ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE = ProcessScope(1)


@pytest.fixture
def three():
    with sk.start(3) as session:
        yield session


def nap(seconds):
    time.sleep(seconds)
    return sk.myid()


def pinned():
    return sk.tochunk([1, 2, 3], scope=ProcessScope(sk.myid()))


# -- taken out -----------------------------------------------------------------------


def test_a_worker_that_has_nothing_leaves_at_once(three):
    assert three.remove_workers([1]) == [0, 2]
    assert three.fetch([three.spawn(nap, 0) for _ in range(10)], timeout=20)


def test_what_it_runs_ends_first_and_the_rest_goes_to_others(three):
    tasks = [three.spawn(nap, 0.05) for _ in range(30)]
    three.remove_workers([1], timeout=30)
    ran = three.fetch(tasks, timeout=30)

    assert len(ran) == 30
    assert all(task.state == "done" for task in tasks)


def test_what_it_holds_moves_to_where_it_is_valid(three):
    tasks = [three.spawn(list, range(n), scope=ONE) for n in range(5)]
    three.wait(tasks, timeout=20)
    three.remove_workers([1])

    assert three.fetch(tasks, timeout=20) == [list(range(n)) for n in range(5)]
    assert all(task.processor.worker == 1 for task in tasks)
    assert three.statistics()["tasks"]["done"] == 5


def test_what_would_be_lost_is_said_and_nothing_is_changed(three):
    task = three.options(name="open", scope=ONE).spawn(pinned)
    task.wait(20)

    with pytest.raises(sk.ScopekitError, match=r"result of open \(list\): valid on worker 1"):
        three.remove_workers([1])
    assert three.workers == [0, 1, 2]
    assert three.spawn(len, task).result(20) == 3


def test_a_task_that_may_run_nowhere_else_counts_as_lost(three):
    task = three.options(name="bound", scope=ONE).spawn(nap, 0.5)

    with pytest.raises(sk.ScopekitError, match="bound: only there it may run"):
        three.remove_workers([1])
    assert task.result(20) == 1


def test_by_force_what_is_lost_is_lost(three):
    task = three.spawn(pinned, scope=ONE)
    task.wait(20)

    assert three.remove_workers([1], force=True) == [0, 2]
    with pytest.raises(sk.ScopekitError):
        three.spawn(len, task).result(20)


def test_a_worker_that_is_busy_for_too_long_stays(three, until):
    task = three.spawn(nap, 1.5, scope=ONE | ProcessScope(2))
    until(lambda: task.state == "running", "it began")
    worker = task.worker

    with pytest.raises(sk.ScopekitError, match="were not drained within"):
        three.remove_workers([worker], timeout=0.2)
    assert three.workers == [0, 1, 2]
    assert task.result(20) == worker
    assert three.spawn(nap, 0, scope=ProcessScope(worker)).result(20) == worker


@pytest.mark.parametrize("worker", [7, "client", "x"])
def test_only_engines_of_the_session_can_be_removed(three, worker):
    with pytest.raises(sk.ScopekitError, match="its engines are 0, 1, 2"):
        three.remove_workers([worker])


def test_workers_come_and_go_in_turn():
    """C183."""
    with sk.start(1) as session:
        (new,) = session.add_workers(1)
        assert session.run(sk.myid) == {0: 0, new: new}
        assert session.remove_workers([0]) == [new]
        assert session.spawn(nap, 0).result(20) == new


def test_who_waits_for_what_nobody_is_left_to_run_hears_of_it():
    """C184."""
    with sk.start(2) as session:
        tasks = [session.options(name="nap").spawn(nap, 0.3) for _ in range(20)]
        with pytest.raises(sk.ScopekitError, match="nap"):
            session.remove_workers([0, 1])
        left = session.remove_workers([0, 1], force=True)
        ended = [task.exception(20) for task in tasks]

    assert left == []
    assert any(isinstance(error, sk.SchedulingError) for error in ended)
    assert all(error is None or isinstance(error, sk.ScopekitError) for error in ended)


# -- dead ------------------------------------------------------------------------------


def test_the_death_of_an_engine_is_noticed_within_a_second(three, until):
    pids = three.run(os.getpid)
    began = time.monotonic()
    os.kill(pids[1], signal.SIGKILL)
    until(lambda: 1 not in three.workers, "the engine has left")

    assert time.monotonic() - began < 1.0


def test_what_a_dead_engine_had_to_run_runs_elsewhere_in_its_scope():
    with sk.start(nodes={"a": 2, "b": 1}) as session:
        pids = session.run(os.getpid)
        tasks = [session.spawn(nap, 0.02, scope=NodeScope("a")) for _ in range(40)]
        os.kill(pids[0], signal.SIGKILL)

        assert set(session.fetch(tasks, timeout=60)) <= {0, 1}


def test_lost_results_are_made_again_with_what_they_were_made_of(three):
    first = [three.spawn(list, range(n), scope=ONE | ProcessScope(2)) for n in range(20)]
    second = [three.spawn(sum, task, scope=ONE | ProcessScope(2)) for task in first]
    third = [three.spawn(list, [task]) for task in second]
    three.wait(third, timeout=20)
    del first, second
    pids = three.run(os.getpid)
    os.kill(pids[1], signal.SIGKILL)

    assert three.fetch(third, timeout=60) == [[sum(range(n))] for n in range(20)]


def test_an_engine_that_stands_still_for_a_while_loses_nothing(three):
    pids = three.run(os.getpid)
    tasks = [three.spawn(nap, 0.01) for _ in range(60)]
    os.kill(pids[1], signal.SIGSTOP)
    try:
        time.sleep(3.0)
    finally:
        os.kill(pids[1], signal.SIGCONT)

    assert len(three.fetch(tasks, timeout=60)) == 60
    assert three.workers == [0, 1, 2]
