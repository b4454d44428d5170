"""The scheduler where tasks are stopped: at once, by their engines, by force."""

import pytest
from scheduling import (
    Watched,
    asked_back,
    cluster,
    dropped,
    kills,
    sent,
    settled,
    starts,
    stops,
)

from scopekit.errors import TaskCancelledError, TaskTimeoutError
from scopekit.scheduler import events as ev
from scopekit.scheduler.leaving import is_drained
from scopekit.scopes import CLIENT, NodeScope, ProcessScope, ThreadProc


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def alone():
    return Watched(cluster({0: "a"}))


def known(watched, **seconds):
    """Says how long tasks take: several of those that are short are sent ahead."""
    for function, each in seconds.items():
        watched.scheduler.loads.learn(function, each)


def failure(watched, number):
    return watched.scheduler.tasks[number].failure


# -- what nobody has --------------------------------------------------------------


def test_a_waiting_task_is_cancelled(watched):
    watched.spawn(1)
    watched.spawn(10, 2)
    watched.spawn(20, 11)
    commands = watched.cancel(10)

    assert settled(commands) == {10: "cancelled", 20: "blocked"}
    assert isinstance(failure(watched, 20), TaskCancelledError)
    assert starts(watched.finish(1)) == []


def test_a_queued_task_that_is_cancelled_is_passed_over(alone):
    alone.spawn(1)
    alone.spawn(3)
    alone.spawn(5)
    alone.cancel(3)

    assert [start.task for start in starts(alone.finish(1, took=9.0))] == [5]


def test_an_unmatched_task_is_cancelled(watched):
    watched.spawn(1, scope=NodeScope("c"), wait_for=10.0)

    assert settled(watched.cancel(1)) == {1: "cancelled"}
    assert watched.scheduler.next_deadline() is None


def test_what_is_over_or_unknown_is_not_cancelled(watched):
    watched.spawn(1)
    watched.finish(1)

    assert watched.cancel(1) == []
    assert watched.cancel(999) == []


def test_an_engine_stops_what_waits_there_even_if_it_began_in_the_meantime(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, 2, scope=ProcessScope(0))
    commands = watched.cancel(3)

    assert settled(commands) == {3: "cancelled"}
    assert stops(commands) == {3: 0}
    # its input had come, and it was run to its end before the engine heard of it
    assert dropped(watched.finish(3, worker=0)) == [(0, 4)]


# -- what an engine has -------------------------------------------------------------


def test_an_engine_is_asked_for_what_it_may_have_begun(watched):
    watched.spawn(1, scope=ProcessScope(2))
    commands = watched.cancel(1)

    assert commands == [ev.StopRuns(2, (1,), watched.events)]
    assert watched.state(1) == "queued"


def test_what_an_engine_took_back_is_cancelled(watched):
    watched.spawn(1)
    watched.spawn(3, 2)
    watched.cancel(1)
    commands = watched.stop(1, began=False)

    assert settled(commands) == {1: "cancelled", 3: "blocked"}
    assert str(failure(watched, 1)) == "t1 was cancelled before it ran"


def test_what_had_begun_is_cancelled_as_soon_as_its_engine_says_so(watched):
    watched.spawn(1, scope=ProcessScope(2))
    watched.start(1)
    watched.cancel(1)
    commands = watched.stop(1, over=False)

    assert settled(commands) == {1: "cancelled"}
    assert str(failure(watched, 1)) == (
        "t1 was cancelled while it ran on node b, worker 2, thread 0"
    )


def test_what_ended_before_its_engine_heard_is_done(watched):
    watched.spawn(1)
    watched.cancel(1)

    assert settled(watched.finish(1)) == {1: "done"}


def test_what_raised_before_its_engine_heard_failed(watched):
    watched.spawn(1)
    watched.cancel(1)

    assert settled(watched.fail(1)) == {1: "failed"}


def test_what_was_to_stop_is_not_tried_again(watched):
    watched.spawn(1, retries=3)
    watched.cancel(1)
    commands = watched.fail(1)

    assert settled(commands) == {1: "cancelled"}
    assert starts(commands) == []


def test_what_was_to_stop_and_is_handed_back_ends(watched):
    watched.spawn(1)
    watched.cancel(1)
    commands = watched.hand_back(1)

    assert settled(commands) == {1: "cancelled"}
    assert starts(commands) == []


@pytest.mark.parametrize("planned", [False, True])
def test_what_was_to_stop_ends_with_its_engine(watched, planned):
    watched.spawn(1, scope=NodeScope("a"))
    watched.spawn(3, scope=NodeScope("a"))
    watched.cancel(1)
    commands = watched.leave(watched.worker_of(1), planned=planned)

    assert settled(commands) == {1: "cancelled"}
    assert 1 not in sent(commands)


def test_a_late_word_that_it_stopped_changes_nothing(watched):
    watched.spawn(1, scope=NodeScope("a"))
    watched.leave(0)
    commands = watched.stop(1, worker=0)

    assert settled(commands) == {}
    assert watched.state(1) == "queued"


# -- code that goes on -------------------------------------------------------------------


def test_code_that_goes_on_keeps_its_processor_busy(alone):
    alone.spawn(1)
    alone.start(1)
    alone.cancel(1)
    alone.stop(1, over=False)
    assert sent(alone.spawn(3)) == {}

    assert sent(alone.stop(1)) == {3: 0}


def test_a_processor_with_code_that_goes_on_hands_tasks_to_idle_ones():
    watched = Watched(cluster({0: "a", 1: "a"}))
    known(watched, f=0.02)
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, scope=ProcessScope(1))
    watched.spawn(5)
    busy = watched.worker_of(5)
    ahead, other = (1, 3) if busy == 0 else (3, 1)
    watched.cancel(ahead)
    watched.stop(ahead, over=False)

    assert asked_back(watched.finish(other)) == [(busy, 5)]


def test_a_worker_is_drained_once_the_code_on_it_has_ended(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1)
    watched.stop(1, over=False)
    assert not is_drained(watched.scheduler, [0])
    assert watched.scheduler.busy()[0] == 1
    watched.stop(1)

    assert is_drained(watched.scheduler, [0])


def test_code_that_goes_on_dies_with_its_engine(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1)
    watched.stop(1, over=False)
    commands = watched.leave(0)

    assert starts(commands) == []
    assert watched.state(1) == "cancelled"


def test_an_engine_is_asked_again_for_code_that_goes_on(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1)
    watched.stop(1, over=False)

    assert stops(watched.cancel(1)) == {1: 0}
    watched.stop(1)
    assert watched.cancel(1) == []


def test_what_began_after_all_keeps_its_processor_busy(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, 2, scope=ProcessScope(0))
    watched.cancel(3)
    watched.handle(ev.RunStopped(3, 0, ThreadProc(0, 0), False, False, 1.0, watched.tick()))
    watched.finish(1)

    assert watched.scheduler.busy()[0] == 1
    watched.stop(3, worker=0)
    assert watched.scheduler.busy()[0] == 0


# -- time ---------------------------------------------------------------------------------


def test_what_takes_too_long_fails_with_the_limit_and_the_place(watched):
    watched.spawn(1, timeout=2.5, scope=ProcessScope(1))
    watched.spawn(3, 2)
    commands = watched.stop(1, over=False, late=True)

    assert settled(commands) == {1: "failed", 3: "blocked"}
    error = failure(watched, 1)
    assert isinstance(error, TaskTimeoutError)
    assert str(error).startswith("t1 took longer than its timeout=2.5 s on node a, worker 1")


def test_what_takes_too_long_is_not_tried_again(watched):
    watched.spawn(1, timeout=2.5, retries=3)
    commands = watched.stop(1, late=True)

    assert settled(commands) == {1: "failed"}
    assert starts(commands) == []


# -- force ----------------------------------------------------------------------------------


def pass_time(watched, at):
    watched.now = at
    return watched.handle(ev.TimePassed(at))


def test_a_process_is_killed_after_a_while_in_which_a_task_goes_on(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1, grace=10.0)
    until = watched.now + 10.0
    watched.stop(1, over=False)
    assert watched.scheduler.next_deadline() == until
    assert kills(pass_time(watched, until - 0.1)) == []

    assert kills(pass_time(watched, until)) == [0]
    assert watched.scheduler.next_deadline() is None


def test_what_stops_in_time_costs_no_process_its_life(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1, grace=10.0)
    watched.stop(1)

    assert kills(pass_time(watched, 100.0)) == []


def test_force_may_follow_when_asking_was_not_enough(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1)
    watched.stop(1, over=False)
    watched.cancel(1, grace=1.0)

    assert kills(pass_time(watched, 100.0)) == [0]


def test_force_may_follow_before_it_is_known_that_a_cancelled_task_began_all_the_same(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, 2)
    watched.cancel(3)
    assert watched.state(3) == "cancelled"
    watched.cancel(3, grace=1.0)
    watched.stop(3, over=False, worker=0)

    assert kills(pass_time(watched, 100.0)) == [0]


def test_force_may_follow_when_it_is_known_that_a_cancelled_task_began_all_the_same(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, 2)
    watched.cancel(3)
    watched.stop(3, over=False, worker=0)
    watched.cancel(3, grace=1.0)

    assert kills(pass_time(watched, 100.0)) == [0]


def test_force_on_what_was_cancelled_before_it_was_sent_is_not_kept_in_mind(watched):
    watched.spawn(1, scope=NodeScope("c"), wait_for=10.0)
    watched.cancel(1)
    watched.cancel(1, grace=1.0)

    assert watched.scheduler._forced == {}


def test_the_other_tasks_of_a_process_that_is_killed_run_elsewhere(watched):
    known(watched, f=0.01)
    for number in (1, 3, 5, 7):
        watched.spawn(number, scope=NodeScope("a"))
    there = [n for n in (3, 5, 7) if watched.worker_of(n) == watched.worker_of(1)]
    assert there
    killed = watched.worker_of(1)
    watched.cancel(1, grace=1.0)
    watched.stop(1, over=False)
    assert kills(pass_time(watched, 100.0)) == [killed]
    commands = watched.leave(killed, planned=True)

    assert sent(commands) == dict.fromkeys(there, 1 - killed)
    assert all(watched.scheduler.tasks[n].deaths == 0 for n in there)


def test_an_engine_that_does_not_answer_is_killed_for_the_task_that_it_runs(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1, grace=1.0)
    commands = pass_time(watched, 100.0)

    assert settled(commands) == {1: "cancelled"}
    assert kills(commands) == [0]


def test_an_engine_that_does_not_answer_is_not_killed_for_a_task_behind_another(watched):
    known(watched, f=0.01)
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, scope=ProcessScope(0))
    watched.start(1)
    watched.cancel(3, grace=1.0)
    commands = pass_time(watched, 100.0)

    assert settled(commands) == {3: "cancelled"}
    assert kills(commands) == []
    assert watched.state(1) == "running"


def test_the_client_is_never_killed():
    watched = Watched(cluster({CLIENT: "a", 0: "a"}))
    watched.spawn(1, scope=ProcessScope(CLIENT))
    watched.cancel(1, grace=1.0)
    watched.stop(1, over=False)

    assert kills(pass_time(watched, 100.0)) == []


def test_what_waits_in_nobody_s_line_needs_no_force(watched):
    watched.spawn(1, scope=NodeScope("c"), wait_for=10.0)
    watched.cancel(1, grace=1.0)

    assert watched.scheduler.next_deadline() is None


# -- what tasks spawned -----------------------------------------------------------------------


def test_what_a_cancelled_task_spawned_is_cancelled_with_it(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn_child(11, 1)
    watched.spawn_child(21, 1, 12)
    watched.spawn_child(31, 1, scope=ProcessScope(3), kept=False)
    watched.cancel(1)
    commands = watched.stop(1, over=False)

    assert settled(commands) == {1: "cancelled", 21: "cancelled"}
    assert stops(commands) == {11: 0, 21: 0, 31: 3}
    assert settled(watched.stop(31)) == {31: "cancelled"}


def test_children_of_children_are_cancelled_too(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn_child(11, 1, scope=ProcessScope(1), kept=False)
    watched.spawn_child(21, 11, scope=ProcessScope(2), kept=False)
    watched.cancel(1)
    assert stops(watched.stop(1)) == {11: 1}

    assert stops(watched.stop(11, over=False)) == {21: 2}


def test_children_of_what_was_not_cancelled_in_time_go_on(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn_child(11, 1, scope=ProcessScope(1), kept=False)
    watched.cancel(1)
    commands = watched.finish(1)

    assert stops(commands) == {}
    assert watched.state(11) == "queued"


def test_what_others_need_of_a_cancelled_task_s_children_goes_on(watched):
    known(watched, f=0.001)
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, scope=ProcessScope(0))
    watched.spawn_child(11, 1, scope=ProcessScope(1), kept=False)
    watched.spawn_child(21, 1, 12, scope=ProcessScope(1), kept=False)
    watched.spawn_child(31, 1, scope=ProcessScope(1), kept=False)
    # another task on that worker got hold of the handle
    watched.spawn_child(41, 3, 22, scope=ProcessScope(1), kept=False)
    watched.cancel(1)
    commands = watched.stop(1)

    assert stops(commands) == {31: 1}
    assert watched.state(11) == "queued"
    assert watched.state(21) == "waiting"


def test_what_a_stopped_task_still_spawns_ends_at_once(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.cancel(1)
    watched.stop(1, over=False)
    commands = watched.spawn_child(11, 1)

    assert settled(commands) == {11: "cancelled"}
    assert stops(commands) == {11: 0}
    assert "was cancelled with t1, which spawned it" in str(failure(watched, 11))


def test_what_took_too_long_takes_its_children_along(watched):
    watched.spawn(1, scope=ProcessScope(0), timeout=1.0)
    watched.spawn_child(11, 1, scope=ProcessScope(1), kept=False)

    assert stops(watched.stop(1, over=False, late=True)) == {11: 1}


def test_what_is_told_of_children_is_forgotten_with_their_parents(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn_child(11, 1)
    watched.finish(11)
    watched.finish(1)

    assert watched.scheduler._children == {}


def test_nothing_is_kept_of_what_was_stopped(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn_child(11, 1)
    watched.cancel(1)
    watched.stop(1, over=False)
    watched.stop(11)
    watched.stop(1)
    scheduler = watched.scheduler

    assert (scheduler._stops, scheduler._kills, scheduler._children) == ({}, {}, {})
    assert all(not load.lingering for load in scheduler.loads.all)
