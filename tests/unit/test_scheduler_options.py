"""What options of a task mean to the scheduler: several results, priorities."""

import pytest
from scheduling import Watched, settled

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
