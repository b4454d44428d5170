"""What options of a task mean to the scheduler: several results, priorities."""

import pytest
from scheduling import Watched, cluster, sent, settled

from scopekit.errors import ScopeConflictError
from scopekit.graph import How
from scopekit.scheduler import events as ev
from scopekit.scopes import ProcessScope


@pytest.fixture
def watched():
    return Watched()


# -- several results ----------------------------------------------------------------------


def test_each_output_has_the_scope_that_was_declared_for_it(watched):
    how = How(True, (None, ProcessScope(0)))
    watched.spawn(1, scope=ProcessScope(0), outputs=(2, 3), how=how)

    (refusal,) = watched.spawn(10, 3, scope=ProcessScope(1))
    watched.spawn(20, 2, scope=ProcessScope(1))

    assert isinstance(refusal.error, ScopeConflictError)
    assert watched.worker_of(20) == 1


@pytest.mark.parametrize(("how", "told"), [(None, [True, False]), (How(True), [True, True])])
def test_values_that_came_along_are_those_of_all_outputs_that_were_split(watched, how, told):
    """What was told is not made again when its holder dies."""
    watched.spawn(1, outputs=(2, 3), how=how)
    watched.finish(1, told=True)

    watched.leave(watched.worker_of(1))

    assert [watched.chunk(2).told, watched.chunk(3).told] == told
    assert watched.state(1) == ("done" if all(told) else "queued")


def test_a_task_that_takes_one_output_needs_no_other(watched):
    watched.spawn(1, outputs=(2, 3), how=How(True))
    watched.spawn(10, 3, scope=ProcessScope(2))
    watched.finish(1)
    watched.drop(2)
    watched.arrive(2, 3)

    assert settled(watched.finish(10)) == {10: "done"}
    assert watched.chunk(2) is None
    assert watched.chunk(3).state == "held"


# -- results that are brought --------------------------------------------------------------


def test_what_was_brought_is_not_made_again_when_its_holder_dies(watched):
    watched.spawn(1)
    watched.finish(1)
    watched.handle(ev.ResultsBrought((2,)))

    watched.leave(watched.worker_of(1))

    assert (watched.chunk(2).state, watched.state(1)) == ("lost", "done")


def test_what_was_brought_is_made_again_for_those_who_have_another_handle(watched):
    watched.spawn(1)
    watched.finish(1)
    watched.handle(ev.HandlesAdded((2,)))
    watched.handle(ev.ResultsBrought((2, 77)))

    watched.leave(watched.worker_of(1))

    assert (watched.chunk(2).state, watched.state(1)) == ("pending", "queued")


# -- priorities -----------------------------------------------------------------------------


@pytest.fixture
def alone():
    """One processor, with a long task on it, so that all others wait."""
    alone = Watched(cluster({0: "a"}))
    alone.spawn(1, function="long")
    alone.finish(1, took=10.0)
    alone.spawn(3, function="long")
    return alone


def order(watched):
    """Finishes what is sent, one after the other; returns the order in which it was sent."""
    found = []
    while True:
        queued = [n for n, r in watched.scheduler.tasks.items() if r.state == "queued"]
        placed = [n for n in queued if watched.scheduler.tasks[n].processor is not None]
        if not placed:
            return found
        (number,) = placed
        found.append(number)
        watched.finish(number, took=10.0)


def test_of_those_that_wait_the_highest_priority_is_sent_first(alone):
    for number, priority in ((10, 0), (20, 5), (30, -1), (40, 5), (50, 10**30), (60, 0)):
        alone.spawn(number, function="long", priority=priority)

    assert order(alone) == [3, 50, 20, 40, 10, 60, 30]


def test_priorities_count_across_lines(watched):
    """What waits for one processor goes before what waits for many, if it has more priority."""
    for worker in range(4):
        watched.spawn(worker * 10 + 1, scope=ProcessScope(worker), function="long")
        watched.finish(worker * 10 + 1, took=10.0)
        watched.spawn(worker * 10 + 3, scope=ProcessScope(worker), function="long")
    watched.spawn(100, function="long")
    watched.spawn(110, function="long", scope=ProcessScope(2), priority=1)
    watched.spawn(120, function="long", priority=2)

    assert sent(watched.finish(23, took=10.0)) == {120: 2}
    assert sent(watched.finish(120, took=10.0)) == {110: 2}
    assert sent(watched.finish(110, took=10.0)) == {100: 2}


@pytest.mark.parametrize(("first", "less", "more"), [(1, 0, 2), (0, -1, 1)])
def test_who_comes_later_with_less_priority_overtakes_nobody(first, less, more):
    """Not even where there is room again, before those that wait are looked after."""
    alone = Watched(cluster({0: "a"}))
    alone.spawn(1)
    alone.finish(1, took=0.02)
    for number in (3, 5, 7):
        alone.spawn(number)
    alone.spawn(10, priority=first)
    assert alone.scheduler.tasks[10].line
    alone.finish(3, took=0.02)
    assert alone.scheduler.tasks[10].line, "there is room, and no need yet to send more"

    assert sent(alone.spawn(20, priority=less)) == {}
    assert sent(alone.spawn(30, priority=more)) == {30: 0}
    assert [list(sent(alone.finish(number, took=0.02))) for number in (5, 7)] == [[], [10, 20]]


def test_who_is_outranked_at_one_processor_goes_to_another():
    two = Watched(cluster({0: "a", 1: "a"}))
    two.spawn(1, scope=ProcessScope(0))
    two.finish(1, took=0.02)
    for number in (3, 5, 7):
        two.spawn(number, scope=ProcessScope(0))
    two.spawn(10, scope=ProcessScope(0), priority=1)
    two.finish(3, took=0.02)

    assert sent(two.spawn(20)) == {20: 1}


def test_tasks_that_wait_for_one_value_go_by_priority(alone):
    alone.spawn(5, function="long")
    for number, priority in ((10, 0), (20, 1), (30, 2)):
        alone.spawn(number, 6, priority=priority)

    assert list(sent(alone.finish(3, took=10.0))) == [5, 30, 20, 10]


def test_a_worker_that_joins_takes_what_has_most_priority_first(alone):
    for number, priority in ((10, 0), (20, 1), (30, 0)):
        alone.spawn(number, function="long", priority=priority)

    assert sent(alone.join(1, "a")) == {20: 1}
    assert alone.scheduler.tasks[10].line == 0b11
    assert order_of_lines(alone) == [10, 30]


def order_of_lines(watched):
    return [task for line in watched.scheduler._lines.values() for task in line]


def test_a_task_that_ended_in_its_line_holds_up_nobody(alone):
    for number, priority in ((10, 0), (20, 1), (30, 2), (40, 0)):
        alone.spawn(number, function="long", priority=priority)
    alone.cancel(30)
    alone.cancel(20)

    assert sent(alone.spawn(50, function="long")) == {}
    assert order(alone) == [3, 10, 40, 50]
