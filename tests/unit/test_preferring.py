"""Where tasks would rather run: what is missing, what is not allowed, what is busy."""

import pytest
from scheduling import Watched, asked_back, sent

from scopekit.explanation import Explanation
from scopekit.graph import TaskSpec, Wish
from scopekit.scheduler import events as ev
from scopekit.scheduler.patience import Patience
from scopekit.scopes import AnyScope, NodeScope, ProcessScope

W = [ProcessScope(worker) for worker in range(9)]
LONG = 10.0


@pytest.fixture
def watched():
    """Four workers, 0 and 1 on node a, 2 and 3 on node b, who know how long tasks take."""
    watched = Watched()
    for number, function, took in ((1, "long", LONG), (3, "f", 1e-3), (5, "learnt", 0.02)):
        watched.spawn(number, function=function)
        watched.finish(number, took=took)
    return watched


def occupy(watched, *workers):
    for worker in workers:
        watched.spawn(1000 + 10 * worker, function="long", scope=W[worker])


def rather(watched, number, *wishes, **options):
    prefer = tuple(wish if isinstance(wish, Wish) else Wish(wish) for wish in wishes)
    return watched.spawn(number, prefer=prefer, **options)


def time_passes(watched, seconds=0.0):
    watched.now += seconds
    return watched.handle(ev.TimePassed(watched.now))


def why(watched, number):
    return watched.scheduler.explain(number).sentence()


# -- which one ------------------------------------------------------------------------------


def test_a_task_goes_where_it_prefers(watched):
    assert [sent(rather(watched, n, W[3])) for n in (10, 20, 30)] == [{10: 3}, {20: 3}, {30: 3}]
    assert why(watched, 10).endswith("worker 3, thread 0: it prefers worker 3")


def test_what_comes_first_counts_first(watched):
    assert sent(rather(watched, 10, NodeScope("b"), W[0])) in ({10: 2}, {10: 3})
    assert sent(rather(watched, 20, W[1], W[0])) == {20: 1}


def test_what_is_not_there_is_passed_over(watched):
    assert sent(rather(watched, 10, W[7], W[2])) == {10: 2}
    assert why(watched, 10).endswith("it prefers worker 2; worker 7 is not there")
    rather(watched, 20, Wish(W[7], busy=100.0))
    assert "least loaded; worker 7 is not there" in why(watched, 20)


def test_what_is_not_allowed_is_passed_over_and_never_widens(watched):
    assert sent(rather(watched, 10, Wish(W[0], busy=100.0), scope=W[2] | W[3])) in (
        {10: 2},
        {10: 3},
    )
    assert why(watched, 10).startswith("t10 runs on node b")
    assert "worker 0 is not allowed" in why(watched, 10)
    assert sent(rather(watched, 20, NodeScope("a"), scope=W[1] | W[2])) == {20: 1}


def test_what_is_busy_is_passed_over_at_once_without_patience(watched):
    occupy(watched, 2)

    assert sent(rather(watched, 10, W[2], W[1])) == {10: 1}
    assert why(watched, 10).endswith("it prefers worker 1; worker 2 was busy")
    assert sent(rather(watched, 20, W[2], function="long")) != {20: 2}
    assert "; worker 2 was busy" in why(watched, 20)


def test_where_all_are_busy_the_first_with_room_takes_it(watched):
    occupy(watched, 0, 1, 2, 3)
    rather(watched, 10, W[2], function="long")
    assert watched.scheduler.explain(10).rule == "all that may run it are busy"

    assert sent(watched.finish(1010, took=LONG)) == {10: 1}


def test_of_inputs_and_preferences_the_preference_wins(watched):
    watched.spawn(10, scope=W[0])
    watched.finish(10, nbytes=10**9)

    assert sent(watched.spawn(20, 11)) == {20: 0}
    assert sent(watched.spawn(30, 11, prefer=(Wish(NodeScope("b")),))) in ({30: 2}, {30: 3})
    assert sent(watched.spawn(40, 11, prefer=(Wish(NodeScope("a")),))) == {40: 0}


def test_a_worker_that_is_to_be_removed_is_as_good_as_gone(watched):
    watched.handle(ev.DrainAsked((2,), watched.tick()))

    assert sent(rather(watched, 10, Wish(W[2], busy=100.0))) != {}
    assert "worker 2 is to be removed" in why(watched, 10)


# -- patience --------------------------------------------------------------------------------


def test_with_patience_a_task_waits_for_what_is_busy_and_no_longer(watched):
    occupy(watched, 2)
    assert sent(rather(watched, 10, Wish(W[2], busy=5.0))) == {}
    assert watched.state(10) == "queued"
    assert watched.scheduler.next_deadline() == float("-inf"), "the time is to be told"

    assert sent(time_passes(watched)) == {}
    began = watched.now
    assert watched.scheduler.next_deadline() == began + 5.0
    assert sent(time_passes(watched, 4.9)) == {}
    watched.now = began + 5.0
    (worker,) = sent(watched.handle(ev.TimePassed(watched.now))).values()

    assert worker != 2
    assert why(watched, 10).endswith("; worker 2 was busy for 5 s")
    assert watched.scheduler.next_deadline() is None


def test_it_goes_there_as_soon_as_there_is_room(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=5.0))
    time_passes(watched)

    assert sent(watched.finish(1020, took=LONG)) == {10: 2}
    assert why(watched, 10).endswith("it prefers worker 2")
    watched.finish(10)
    assert watched.scheduler.next_deadline() is None


def test_the_explanation_says_what_it_waits_for(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=5.0))
    time_passes(watched)
    time_passes(watched, 2.0)

    said = watched.scheduler.explain(10)
    assert said.outcome == "queued"
    assert said.rule == "it prefers worker 2, which is busy, for up to 3 s more"
    assert len(said.left) == 5 - 1


def test_who_waits_for_what_it_prefers_is_in_nobody_s_way(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=5.0))

    assert sent(watched.spawn(20)) not in ({}, {20: 2})
    occupy(watched, 0, 1, 3)
    watched.finish(20)
    watched.spawn(30, function="long")
    assert watched.scheduler.tasks[30].line

    assert sent(watched.finish(1000, took=LONG)) == {30: 0}, "10 came before and wants another"


def test_an_idle_processor_gets_it_only_when_its_patience_is_over(watched):
    occupy(watched, 0, 1, 2, 3)
    rather(watched, 10, Wish(W[2], busy=5.0), function="long")
    time_passes(watched)

    assert sent(watched.finish(1010, took=LONG)) == {}
    assert sent(time_passes(watched, 5.0)) == {10: 1}


def test_each_preference_has_its_own_patience_and_earlier_ones_still_count(watched):
    occupy(watched, 0, 1, 2, 3)
    rather(watched, 10, Wish(W[2], busy=2.0), Wish(W[1], busy=3.0), function="long")
    time_passes(watched)
    began = watched.now
    assert watched.scheduler.tasks[10].line == 0b0100

    watched.now = began + 2.0
    watched.handle(ev.TimePassed(watched.now))
    assert watched.scheduler.tasks[10].line == 0b0110
    assert watched.scheduler.next_deadline() == began + 5.0
    assert sent(watched.finish(1000, took=LONG)) == {}
    assert sent(watched.finish(1020, took=LONG)) == {10: 2}


def test_the_second_preference_is_taken_while_the_first_is_waited_for_no_more(watched):
    occupy(watched, 0, 1, 2)
    rather(watched, 10, Wish(W[2], busy=2.0), W[3], function="long")
    time_passes(watched)
    assert watched.scheduler.tasks[10].line == 0b0100

    assert sent(time_passes(watched, 2.0)) == {10: 3}
    assert why(watched, 10).endswith("it prefers worker 3; worker 2 was busy for 2 s")


def test_patience_begins_when_the_inputs_are_there(watched):
    occupy(watched, 2)
    watched.spawn(50, function="slow", scope=W[0])
    rather_late = watched.spawn(10, 51, prefer=(Wish(W[2], busy=5.0),))
    assert sent(rather_late) == {}
    assert watched.scheduler.next_deadline() is None
    time_passes(watched, 100.0)
    assert watched.state(10) == "waiting"

    watched.finish(50)
    assert watched.scheduler.next_deadline() == float("-inf")
    time_passes(watched)
    assert watched.scheduler.next_deadline() == watched.now + 5.0


def test_patience_without_end_waits_for_as_long_as_anybody_is_there(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=float("inf")))
    time_passes(watched)
    assert watched.scheduler.next_deadline() is None
    assert sent(time_passes(watched, 1e6)) == {}

    assert 10 in sent(watched.leave(2))
    assert "worker 2 is not there" in why(watched, 10)


def test_a_worker_that_joins_is_preferred_from_then_on(watched):
    occupy(watched, 0, 1, 2, 3)
    rather(watched, 10, W[4], function="long")

    assert sent(watched.join(4, "c")) == {10: 4}


def test_what_is_tried_again_has_its_patience_anew(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=5.0), retries=1)
    time_passes(watched)
    time_passes(watched, 5.0)
    occupied = watched.worker_of(10)

    assert sent(watched.fail(10)) == {10: 2}, "forced, it has the place that it prefers"
    assert occupied != 2


def test_who_has_ended_waits_no_more(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=5.0))
    time_passes(watched)

    watched.cancel(10)

    assert watched.scheduler.next_deadline() is None
    assert watched.scheduler.patience.since == {}


# -- what was sent and does not begin ------------------------------------------------------------


def test_what_waits_too_long_behind_another_is_asked_back_and_goes_elsewhere(watched):
    watched.spawn(50, scope=W[2])  # known to be quick, and it is not
    rather(watched, 10, Wish(W[2], busy=5.0))
    assert watched.worker_of(10) == 2
    time_passes(watched)

    assert asked_back(time_passes(watched, 5.0)) == [(2, 10)]
    (worker,) = sent(watched.hand_back(10)).values()

    assert worker != 2


def test_what_is_asked_back_goes_back_if_nobody_is_idle_any_more(watched):
    watched.spawn(50, scope=W[2])
    rather(watched, 10, Wish(W[2], busy=5.0))
    time_passes(watched)
    time_passes(watched, 5.0)
    occupy(watched, 0, 1, 3)

    assert sent(watched.hand_back(10)) == {10: 2}
    assert watched.scheduler._lured == {}


def test_what_runs_is_left_where_it_is(watched):
    rather(watched, 10, Wish(W[2], busy=5.0))
    time_passes(watched)
    watched.start(10)

    assert asked_back(time_passes(watched, 5.0)) == []


def test_an_idle_processor_takes_what_likes_it_as_much(watched):
    rather(watched, 90, NodeScope("b"), scope=W[2] | W[3])
    scheduler = watched.scheduler
    here, there = (scheduler.loads.of_worker[w][0] for w in (watched.worker_of(90), 0))
    other = scheduler.loads.of_worker[5 - watched.worker_of(90)][0]

    assert scheduler._may_be_lured(scheduler.tasks[90], here, other)
    assert not scheduler._may_be_lured(scheduler.tasks[90], here, there)
    assert scheduler._lured == {}


def test_what_is_crowded_out_where_it_prefers_to_be_goes_to_who_is_idle(watched):
    """But not as long as it would be sent back there at once."""
    occupy(watched, 0, 1, 3)
    for number in (20, 30):
        rather(watched, number, W[2], function="learnt")
    assert asked_back(watched.finish(1030, took=LONG)) == []

    watched.now -= LONG
    watched.spawn(40, scope=W[2], function="learnt")
    crowded = asked_back(time_passes(watched))
    assert crowded == [(2, 30)]
    assert sent(watched.hand_back(30)) == {30: 3}


# -- lines -----------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_blocks_no_line(watched):
    occupy(watched, 0, 1, 2, 3)
    rather(watched, 10, Wish(W[2], busy=5.0), function="long")
    time_passes(watched)
    time_passes(watched, 5.0)
    watched.spawn(20, function="long")
    time_passes(watched, -4.0)

    assert sent(watched.finish(1010, took=LONG)) == {20: 1}
    assert watched.scheduler.tasks[10].line == 0b0100
    time_passes(watched, 4.0)
    assert sent(watched.finish(1000, took=LONG)) == {10: 0}


def test_priorities_count_among_those_that_wait_for_what_they_prefer(watched):
    occupy(watched, 2)
    rather(watched, 10, Wish(W[2], busy=50.0), function="long")
    rather(watched, 20, Wish(W[2], busy=50.0), function="long", priority=1)

    assert sent(watched.finish(1020, took=LONG)) == {20: 2}


def test_a_plan_follows_preferences(watched):
    occupy(watched, 0)
    spec = TaskSpec(0, "p", "f", (("scope=", AnyScope()),), (), (), prefer=(Wish(W[0]), Wish(W[3])))

    plan = watched.scheduler.plan(spec)

    assert isinstance(plan, Explanation)
    assert plan.chosen.worker == 3
    assert plan.rule == "it prefers worker 3; worker 0 was busy"


# -- the clock of those who wait ---------------------------------------------------------------


def test_patience_is_counted_from_when_the_time_is_told():
    patience = Patience()
    patience.begin(1, 5.0)
    patience.begin(2, 3.0)
    assert patience.next() == float("-inf")
    assert patience.tell(10.0) == [1, 2]
    assert patience.next() is None
    for task, seconds in ((1, 5.0), (2, 3.0), (2, 3.0)):
        patience.begin(task, seconds)

    assert patience.next() == 13.0
    assert list(patience.over(12.9)) == []
    assert list(patience.over(13.0)) == [2]
    assert list(patience.over(13.0)) == []
    patience.begin(2, 7.0)
    patience.end(1)
    assert patience.next() == 17.0
    patience.end(2)
    assert patience.next() is None
    assert patience.since == {}
