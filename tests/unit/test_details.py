"""An explanation says of a task that waits what it waits for, and what would help."""

import pickle

import pytest
from scheduling import Watched, cluster, task

from scopekit.scheduler import events as ev
from scopekit.scheduler.details import with_details, with_load
from scopekit.scopes import NodeScope, ProcessScope, ThreadProc

ON_0, ON_A = ProcessScope(0), NodeScope("a")


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def alone():
    return Watched(cluster({0: "a"}))


def explained(watched, number, now=None):
    known = watched.scheduler
    return with_details(known.explain(number), known, number, watched.now if now is None else now)


# -- inputs --------------------------------------------------------------------------


def test_inputs_that_are_missing_are_named_with_what_their_makers_do(watched):
    watched.spawn(10, scope=ON_0)
    watched.start(10)
    watched.spawn(20, 11)
    told = explained(watched, 20)

    (missing,) = told.missing
    assert (missing.name, missing.origin, missing.state) == ("t10", "argument 1", "running")
    assert missing.processor == ThreadProc(0, 0)
    assert told.sentence().startswith("t20 waits for t10")
    assert "argument 1 is to come from t10, running on node a, worker 0, thread 0" in told.details()


def test_a_task_that_is_sent_ahead_says_where_it_waits(watched):
    watched.spawn(10, scope=ON_0)
    watched.spawn(20, 11)
    told = explained(watched, 20)

    assert told.sent_to == ThreadProc(0, 0)
    assert "it is sent ahead to node a, worker 0, thread 0" in told.text()
    assert told.chosen is None


def test_a_chain_is_followed_down_to_what_does_not_wait_itself(watched):
    watched.spawn(10, function="slow", scope=ON_0)
    watched.start(10)
    for number in (20, 30, 40):
        watched.spawn(number, number - 9)
    told = explained(watched, 40)

    assert [(each.name, each.origin, each.state) for each in told.missing] == [
        ("t30", "argument 1", "waiting"),
        ("t10", "", "running"),
    ]
    assert "that waits for t10, running on node a, worker 0, thread 0" in told.details()


def test_an_input_that_nobody_can_make_now_shows_as_that(watched):
    watched.spawn(10, scope=ProcessScope(9), wait_for=100)
    watched.spawn(20, 11)

    assert explained(watched, 20).missing[0].state == "unmatched"


def test_what_comes_before_is_told_apart_from_inputs(watched):
    watched.spawn(10, scope=ON_0)
    watched.spawn(20, after=(10,))
    told = explained(watched, 20)

    assert [each.origin for each in told.missing] == ["before it"]
    assert "it comes after t10, queued on node a, worker 0, thread 0" in told.details()


def test_many_inputs_are_not_all_listed(watched):
    for number in range(10, 210, 10):
        watched.spawn(number, scope=ON_0)
    watched.spawn(1000, *range(11, 211, 10))
    told = explained(watched, 1000)

    assert len(told.missing) == 20
    assert "and for 14 more" in told.details()


def test_a_chain_of_thousands_is_explained_in_time(watched):
    watched.spawn(10, scope=ProcessScope(9), wait_for=100)
    for number in range(20, 30_000, 10):
        watched.scheduler.handle(ev.TaskSpawned(task(number, number - 9), watched.tick()))
    assert explained(watched, 29_990).missing[0].name == "t29980"


# -- busy ----------------------------------------------------------------------------


def test_busy_processors_are_listed_with_what_they_have(alone):
    alone.spawn(10)
    alone.spawn(20)
    told = explained(alone, 20)

    assert told.outcome == "queued"
    (busy,) = told.busy
    assert (busy.processor, busy.tasks) == (ThreadProc(0, 0), 1)
    assert "node a, worker 0, thread 0 has 1 task to run" in told.text()


def test_it_counts_the_tasks_before_it_in_its_line(alone):
    for number in range(10, 60, 10):
        alone.spawn(number)

    assert [explained(alone, number).ahead for number in (20, 30, 50)] == [0, 1, 3]
    assert "3 tasks before it" in explained(alone, 50).text()


def test_it_counts_the_tasks_before_it_at_its_processor(alone):
    alone.spawn(10, function="learnt")
    alone.finish(10, took=0.001)
    for number in range(20, 60, 10):
        alone.spawn(number, function="learnt")
    told = explained(alone, 50)

    assert told.sent_to == ThreadProc(0, 0)
    assert told.ahead == 3
    assert "t50 is sent to node a, worker 0, thread 0" in told.sentence()


def test_it_says_which_scope_keeps_it_from_idle_processors(watched):
    watched.spawn(10, scope=ON_0)
    watched.spawn(20, scope=ON_0)
    told = explained(watched, 20)

    assert told.relief() == (("scope=", 3),)
    assert "without scope= there would be 3 idle" in told.details()


def test_where_others_are_idle_that_may_run_it_nothing_has_to_be_widened(watched):
    watched.spawn(10, scope=ON_0)
    told = with_load(watched.scheduler.plan(task(20, scope=ON_A)), watched.scheduler)

    assert [each.processor for each in told.busy] == [ThreadProc(0, 0)]
    assert told.relief() == ()


def test_a_plan_tells_how_busy_its_processors_are(watched):
    watched.spawn(10, scope=ON_0)
    told = with_load(watched.scheduler.plan(task(20, scope=ON_0)), watched.scheduler)

    assert told.outcome == "placed"
    assert told.relief() == (("scope=", 3),)


# -- unmatched -----------------------------------------------------------------------


def test_an_unmatched_task_says_how_long_it_goes_on_waiting(watched):
    watched.spawn(10, scope=ProcessScope(9), wait_for=60)
    told = explained(watched, 10, now=watched.now + 20)

    assert told.outcome == "unmatched"
    assert told.seconds_left == 40
    assert "it goes on waiting for 40 s" in told.details()
    assert "without scope= there would be 4" in told.text()


# -- others --------------------------------------------------------------------------


def test_a_task_that_runs_or_ended_waits_for_nothing(watched):
    watched.spawn(10)
    watched.start(10)
    running = explained(watched, 10)
    watched.finish(10)

    for told in (running, explained(watched, 10)):
        assert told.details() == ()
        assert "runs on" in told.sentence()


def test_an_explanation_with_all_of_it_survives_pickling(watched):
    watched.spawn(10, scope=ON_0)
    watched.spawn(20, 11, scope=ON_0)
    told = explained(watched, 20)

    assert pickle.loads(pickle.dumps(told)) == told
