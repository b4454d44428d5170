"""Tasks that are to run one after another, or to be handed over together."""

import pytest
from scheduling import Watched, sent, task, told

from scopekit.errors import TaskCancelledError
from scopekit.scheduler import events as ev
from scopekit.scopes import ProcessScope

ON_0, ON_1 = ProcessScope(0), ProcessScope(1)


@pytest.fixture
def watched():
    return Watched()


# -- one after another ---------------------------------------------------------------


def test_a_task_is_not_sent_until_the_one_before_it_has_ended(watched):
    watched.spawn(10)
    assert sent(watched.spawn(20, after=(10,))) == {}
    assert watched.state(20) == "waiting"

    assert set(sent(watched.finish(10))) == {20}


def test_a_chain_is_sent_link_by_link(watched):
    watched.spawn(10)
    for number in (20, 30, 40):
        watched.spawn(number, after=(number - 10,))
    for number in (10, 20, 30):
        assert set(sent(watched.finish(number))) == {number + 10}
    watched.finish(40)

    assert watched.states() == {"done": 4}


def test_after_one_that_has_ended_nobody_waits(watched):
    watched.spawn(10)
    watched.finish(10)

    assert set(sent(watched.spawn(20, after=(10,)))) == {20}


def test_it_waits_for_all_before_it(watched):
    watched.spawn(10)
    watched.spawn(20)
    watched.spawn(30, after=(10, 20))

    assert sent(watched.finish(20)) == {}
    assert set(sent(watched.finish(10))) == {30}


def test_the_scope_of_a_result_before_it_is_nothing_to_it(watched):
    watched.spawn(10, scope=ON_0, result_scope=ON_0)
    watched.spawn(20, after=(10,), scope=ON_1)
    commands = watched.finish(10, scope=ON_0)

    assert sent(commands) == {20: 1}
    assert not [c for c in commands if isinstance(c, ev.SendChunk)]


def test_a_result_before_it_may_be_let_go_of(watched):
    watched.spawn(10)
    watched.spawn(20, after=(10,))
    watched.drop(11)

    assert set(sent(watched.finish(10))) == {20}
    assert watched.chunk(11) is None


def test_what_was_done_need_not_be_done_again(watched):
    watched.spawn(10, scope=ON_0)
    watched.spawn(20, after=(10,), scope=ON_1)
    watched.finish(10)
    watched.leave(0)
    watched.finish(20)

    assert watched.state(20) == "done"


def test_it_waits_for_its_inputs_as_well(watched):
    watched.spawn(10)
    watched.spawn(20)
    watched.spawn(30, 21, after=(10,))

    watched.finish(20)
    assert watched.state(30) == "waiting"
    assert set(sent(watched.finish(10))) == {30}


def test_it_is_sent_ahead_of_its_inputs_once_its_turn_has_come(watched):
    watched.spawn(10)
    watched.spawn(20, function="slow")
    watched.spawn(30, 21, after=(10,))

    assert set(sent(watched.finish(10))) == {30}
    assert watched.state(30) == "waiting"


def test_where_one_failed_those_after_it_fail_and_name_it(watched):
    watched.spawn(10)
    watched.spawn(20, after=(10,))
    watched.spawn(30, after=(20,))

    commands = watched.fail(10)

    ends = {c.task: (c.state, c.failure, c.origin) for c in commands if isinstance(c, ev.Settle)}
    assert ends[20] == ("blocked", "boom", 10)
    assert ends[30] == ("blocked", "boom", 10)


def test_after_one_that_had_failed_none_is_sent(watched):
    watched.spawn(10)
    watched.fail(10)

    assert sent(watched.spawn(20, after=(10,))) == {}
    assert watched.state(20) == "blocked"


def test_one_that_is_tried_again_is_waited_for(watched):
    watched.spawn(10, retries=1)
    watched.spawn(20, after=(10,))
    watched.fail(10)

    assert watched.state(20) == "waiting"
    assert set(sent(watched.finish(10))) == {20}


def test_one_whose_worker_dies_is_waited_for(watched):
    watched.spawn(10)
    watched.spawn(20, after=(10,))
    watched.leave(watched.worker_of(10))

    assert watched.state(20) == "waiting"
    assert set(sent(watched.finish(10))) == {20}


def test_cancelling_one_cancels_those_after_it(watched):
    watched.spawn(10)
    watched.spawn(20, after=(10,))
    watched.spawn(30, after=(20,))

    watched.cancel(20)

    assert watched.state(20) == "cancelled"
    assert watched.state(30) == "blocked"
    assert isinstance(watched.scheduler.tasks[30].failure, TaskCancelledError)
    watched.finish(10)


def test_one_that_waits_can_be_cancelled_and_the_one_before_it_goes_on(watched):
    watched.spawn(10)
    watched.spawn(20, after=(10,))
    watched.cancel(20)
    watched.finish(10)

    assert watched.states() == {"done": 1, "cancelled": 1}


def test_a_scope_that_nobody_matches_is_refused_at_the_spawn_all_the_same(watched):
    watched.spawn(10)
    commands = watched.spawn(20, after=(10,), scope=ProcessScope(9))

    assert [type(command) for command in commands] == [ev.Refuse]


def test_while_it_waits_workers_may_come_and_go(watched):
    watched.spawn(10, scope=ON_0)
    watched.spawn(20, after=(10,), scope=ON_1)
    watched.join(7, "b")
    watched.leave(3)
    watched.finish(10)

    assert watched.worker_of(20) == 1


# -- together ------------------------------------------------------------------------


def test_what_is_held_is_sent_when_its_block_ends(watched):
    for number in (10, 20, 30):
        assert sent(watched.spawn(number, held=True)) == {}

    assert set(sent(watched.end_block(10, 20, 30))) == {10, 20, 30}


def test_what_is_held_and_after_another_waits_for_both(watched):
    watched.spawn(10)
    watched.spawn(20, after=(10,), held=True)
    watched.spawn(30, after=(10,), held=True)
    watched.finish(10)
    assert watched.state(20) == "waiting"

    assert set(sent(watched.end_block(20, 30))) == {20, 30}


def test_a_task_may_need_the_result_of_one_that_is_held(watched):
    watched.spawn(10, held=True)
    watched.spawn(20, 11)
    assert watched.state(20) == "waiting"

    assert set(sent(watched.end_block(10))) == {10, 20}


def test_what_is_held_can_be_cancelled(watched):
    watched.spawn(10, held=True)
    watched.spawn(20, 11, held=True)
    watched.cancel(10)

    assert watched.states() == {"cancelled": 1, "blocked": 1}
    assert watched.end_block(10, 20) == []


def test_a_block_ends_once(watched):
    watched.spawn(10, held=True)
    watched.end_block(10)

    assert watched.end_block(10) == []
    watched.finish(10)


def test_what_is_held_is_refused_at_its_spawn_not_later(watched):
    commands = watched.spawn(10, held=True, scope=ProcessScope(9))

    assert [type(command) for command in commands] == [ev.Refuse]
    assert watched.end_block(10) == []


# -- spawned by tasks ----------------------------------------------------------------


def test_a_task_that_a_task_spawned_waits_for_the_one_before_it(watched):
    watched.spawn(10)
    home = watched.scheduler.tasks[10].processor
    first = task(100, parent=10, scope=ON_1)
    second = task(200, parent=10, scope=ProcessScope(2), after=(100,))
    for spec in (first, second):
        watched.handle(ev.ChildSpawned(spec, home.worker, None, watched.tick()))
    assert watched.state(200) == "waiting"

    assert sent(watched.finish(100)) == {200: 2}


def test_what_waits_ends_with_the_run_that_spawned_it(watched):
    watched.spawn(10, scope=ON_0, wait_for=100)
    first = task(100, parent=10, scope=ON_1)
    second = task(200, parent=10, after=(100,))
    for spec in (first, second):
        watched.handle(ev.ChildSpawned(spec, 0, None, watched.tick()))

    commands = watched.leave(0)

    assert watched.state(200) in ("cancelled", "blocked")
    assert told(commands)
