"""The scheduler as a list: events in, commands out."""

import sys

import pytest
from scheduling import (
    Watched,
    asked_back,
    cluster,
    dropped,
    forgotten,
    sends,
    sent,
    settled,
    starts,
    task,
    told,
)

from scopekit.errors import (
    ChunkLostError,
    NoProcessorError,
    ScopeConflictError,
    WorkerLostError,
)
from scopekit.graph import ChunkRecord, Input, StoredChunk
from scopekit.scheduler import ending
from scopekit.scheduler import events as ev
from scopekit.scopes import (
    AnyScope,
    ExactScope,
    NodeScope,
    ProcessScope,
    ThreadProc,
    UnionScope,
)


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def alone():
    return Watched(cluster({0: "a"}))


# -- spawning -------------------------------------------------------------------


def test_a_task_is_sent_when_it_is_spawned(watched):
    commands = watched.spawn(1, scope=ProcessScope(2))

    assert commands == [ev.StartRun(1, ThreadProc(2, 0), 1)]
    assert watched.state(1) == "queued"


def test_scopes_that_never_meet_are_refused_at_the_spawn(watched):
    (refusal,) = watched.spawn(1, scope=ProcessScope(0) & ProcessScope(1))

    assert isinstance(refusal, ev.Refuse)
    assert isinstance(refusal.error, ScopeConflictError)
    assert watched.state(1) == "failed"
    assert watched.scheduler.busy() == dict.fromkeys(range(4), 0)


def test_a_worker_s_node_counts_where_scopes_meet(watched):
    operands = (("scope=", ProcessScope(0)), ("perimeter", NodeScope("b")))
    (refusal,) = watched.spawn(task(1, wait_for=9)._replace(operands=operands))

    assert isinstance(refusal.error, ScopeConflictError)
    assert "perimeter" in str(refusal.error)


def test_no_such_processor_is_refused_at_the_spawn(watched):
    (refusal,) = watched.spawn(1, scope=NodeScope("c"))

    assert isinstance(refusal.error, NoProcessorError)
    assert refusal.error.explanation.outcome == "unmatched"


def test_a_chunk_handle_s_scope_counts_at_the_spawn(watched):
    watched.scheduler.expect(ChunkRecord(50, ProcessScope(0), handles=1))
    (refusal,) = watched.spawn(1, Input("argument 'cam'", 50, handle=True), scope=ProcessScope(1))

    assert isinstance(refusal.error, ScopeConflictError)
    assert "argument 'cam'" in str(refusal.error)


@pytest.mark.parametrize("done", [True, False])
def test_what_only_the_run_tells_never_raises_at_the_spawn(watched, done):
    """Whether the maker is done already makes no difference to where the error comes."""
    watched.spawn(1, scope=ProcessScope(0))
    if done:
        watched.finish(1, scope=ProcessScope(0))
    commands = watched.spawn(10, 2, scope=ProcessScope(1))
    if not done:
        assert sent(commands) == {10: 1}  # ahead of its input
        watched.finish(1, scope=ProcessScope(0))
        commands = watched.hand_back(10, 2, ProcessScope(0))

    assert not [c for c in commands if isinstance(c, ev.Refuse)]
    assert settled(commands)[10] == "failed"
    assert isinstance(watched.scheduler.tasks[10].failure, ScopeConflictError)


def test_a_declared_result_scope_counts_at_the_spawn(watched):
    watched.spawn(1, scope=ProcessScope(0), result_scope=ProcessScope(0))
    (refusal,) = watched.spawn(10, 2, scope=ProcessScope(1))

    assert isinstance(refusal.error, ScopeConflictError)


def test_a_dependant_of_a_refused_task_is_blocked(watched):
    watched.spawn(1, scope=NodeScope("c"))
    settle, _ = watched.spawn(10, 2)

    assert (settle.state, settle.origin) == ("blocked", 1)
    assert isinstance(settle.failure, NoProcessorError)


# -- placing --------------------------------------------------------------------


def test_tasks_are_spread_over_the_processors(watched):
    sent = [watched.spawn(number)[0].processor for number in (1, 3, 5, 7)]

    assert sent == [ThreadProc(worker, 0) for worker in range(4)]


def test_tasks_go_where_their_inputs_are(watched):
    watched.spawn(1, scope=ProcessScope(3))
    watched.finish(1, nbytes=10**9)
    commands = watched.spawn(10, 2)

    assert sent(commands) == {10: 3}
    assert sends(commands) == []
    assert watched.scheduler.tasks[10].rule == "its inputs are there"


def test_an_input_from_elsewhere_is_sent_by_its_holder(watched):
    watched.spawn(1, scope=ProcessScope(3))
    watched.finish(1)

    assert sends(watched.spawn(10, 2, scope=ProcessScope(0))) == [(2, 3, 0)]


def test_an_input_is_sent_once_to_a_worker(watched):
    watched.spawn(1, scope=ProcessScope(3))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(0))
    assert sends(watched.spawn(12, 2, scope=ProcessScope(0))) == []
    watched.arrive(0, 2)

    assert sends(watched.spawn(14, 2, scope=ProcessScope(0))) == []


def test_the_scope_of_an_input_leads_the_task(watched):
    watched.spawn(1, scope=NodeScope("b"))
    watched.finish(1, worker=watched.worker_of(1), scope=NodeScope("b"))
    for number in range(10, 30, 2):
        for start in starts(watched.spawn(number, 2)):
            assert start.processor.worker in {2, 3}


def test_busy_processors_leave_a_task_queued(alone):
    alone.spawn(1)

    assert alone.spawn(3) == []
    assert alone.state(3) == "queued"
    assert alone.scheduler.explain(3).outcome == "queued"
    assert [s.task for s in starts(alone.finish(1))] == [3]


def test_a_line_is_served_oldest_first(alone):
    for number in range(1, 21, 2):
        alone.spawn(number, function=f"slow{number}")
    served = []
    for number in range(1, 20, 2):
        served += [start.task for start in starts(alone.finish(number, took=9.0))]

    assert served == list(range(3, 21, 2))


def test_the_oldest_of_several_lines_is_served_first():
    watched = Watched(cluster({0: "a", 1: "a"}))
    zero, both = ProcessScope(0), NodeScope("a")
    watched.spawn(1, scope=zero, function="slow1")
    watched.spawn(3, scope=ProcessScope(1), function="slow3")
    watched.spawn(5, scope=both, function="slow5")
    watched.spawn(7, scope=zero, function="slow7")
    watched.spawn(9, scope=both, function="slow9")
    watched.finish(1, took=9.0)
    commands = watched.finish(5, took=9.0)

    assert [start.task for start in starts(commands)] == [7]


def test_short_tasks_are_sent_in_bulk_once_their_duration_is_known(alone):
    for number in range(1, 101, 2):
        alone.spawn(number)
    commands = alone.finish(1, took=1e-4)

    assert len(starts(commands)) == 49


def test_another_thread_of_a_worker_takes_its_share():
    watched = Watched(cluster({0: "a"}, threads=3))
    sent = [watched.spawn(number)[0].processor for number in (1, 3, 5)]

    assert sent == [ThreadProc(0, thread) for thread in range(3)]


def test_a_union_s_members_are_all_used(watched):
    scope = UnionScope(ProcessScope(0), ExactScope(ThreadProc(3, 0)))
    sent = [watched.spawn(number, scope=scope)[0].processor.worker for number in (1, 3)]

    assert sent == [0, 3]


# -- running --------------------------------------------------------------------


def test_a_run_goes_through_its_states(watched):
    watched.spawn(1)
    watched.start(1)
    assert watched.state(1) == "running"
    commands = watched.finish(1)

    assert settled(commands) == {1: "done"}
    assert watched.chunk(2).holders == (0,)


# -- shipping ahead -------------------------------------------------------------


def test_a_chain_is_sent_whole_to_where_it_begins(watched):
    links = [task(number, number - 1) for number in (3, 5, 7)]
    watched.spawn(1, scope=ProcessScope(2))
    commands = [c for link in links for c in watched.handle(ev.TaskSpawned(link, watched.now))]

    assert sent(commands) == {3: 2, 5: 2, 7: 2}
    assert sends(commands) == []


def test_a_task_that_can_begin_at_once_elsewhere_does_not_wait_behind_long_ones(watched):
    watched.spawn(1, scope=ProcessScope(2))
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(2), function="long")

    assert 2 not in sent(watched.spawn(5, 2)).values()


def test_tasks_that_follow_on_one_result_are_spread(watched):
    watched.spawn(1, scope=ProcessScope(2))
    commands = [command for number in range(3, 19, 2) for command in watched.spawn(number, 2)]

    assert set(sent(commands).values()) == {0, 1, 2, 3}


def test_an_input_that_is_not_made_yet_is_to_be_sent_by_whoever_makes_it(watched):
    watched.spawn(1, scope=ProcessScope(0))
    commands = watched.spawn(10, 2, scope=ProcessScope(3))

    assert sent(commands) == {10: 3}
    assert sends(commands) == [(2, 0, 3)]


def test_a_task_that_was_sent_ahead_waits_for_all_of_its_inputs(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, scope=ProcessScope(1))
    watched.spawn(10, 2, 4, 2)
    assert watched.scheduler.explain(10).waiting_for == ("t1", "t3")
    assert watched.state(10) == "waiting"
    watched.finish(1)
    assert watched.state(10) == "waiting"
    watched.finish(3)

    assert watched.state(10) == "queued"


def test_a_task_waits_here_for_inputs_that_have_no_processor_yet(alone):
    alone.spawn(1)
    alone.spawn(3)
    assert sent(alone.spawn(10, 4)) == {}

    assert sent(alone.finish(1)) == {3: 0, 10: 0}


def test_a_task_begins_and_ends_before_the_word_of_its_inputs_comes(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(10, 2, scope=ProcessScope(3))
    watched.start(10)
    assert watched.state(10) == "running"
    assert settled(watched.finish(10)) == {10: "done"}

    assert settled(watched.finish(1)) == {1: "done"}


def test_a_task_that_was_sent_ahead_is_retracted_when_its_input_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(10, 2, scope=ProcessScope(3))
    commands = watched.fail(1)

    assert told(commands) == [(3, 10)]
    assert settled(commands) == {1: "failed", 10: "blocked"}


def test_a_chunk_that_does_not_come_is_sent_again(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(3))

    assert sends(watched.miss(3, 2)) == [(2, 0, 3)]


def test_a_chunk_that_is_not_made_yet_is_not_sent_again(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(10, 2, scope=ProcessScope(3))

    assert watched.miss(3, 2) == []


def test_tasks_leave_a_worker_that_may_not_have_what_they_wait_for(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=NodeScope("b") | ProcessScope(0))
    watched.cancel(10)
    watched.spawn(1001, scope=ProcessScope(0), function="long")
    watched.spawn(20, 2, scope=NodeScope("b") | ProcessScope(0))
    assert watched.worker_of(20) in {2, 3}
    away = watched.worker_of(20)
    watched.handle(ev.ChunkPinned(2, ProcessScope(0)))
    commands = watched.miss(away, 2)

    assert told(commands) == [(away, 20)]
    assert sent(commands) == {20: 0}


# -- taking back ----------------------------------------------------------------


def test_an_idle_processor_has_a_loaded_one_asked_for_what_has_not_begun():
    watched = Watched(cluster({0: "a"}))
    watched.spawn(1, function="learnt")
    watched.finish(1, took=0.01)
    for number in range(3, 13, 2):
        watched.spawn(number, function="learnt")
    commands = watched.join(1, "a") + watched.handle(ev.TimePassed(watched.tick()))

    assert asked_back(commands) == [(0, 11), (0, 9)]


def test_what_is_given_back_goes_to_the_idle_processor():
    watched = Watched(cluster({0: "a"}))
    watched.spawn(1, function="learnt")
    watched.finish(1, took=0.01)
    for number in range(3, 13, 2):
        watched.spawn(number, function="learnt")
    watched.join(1, "a")
    watched.handle(ev.TimePassed(watched.tick()))

    assert sent(watched.hand_back(11)) == {11: 1}


def test_no_task_is_asked_back_for_a_processor_outside_its_scope():
    watched = Watched(cluster({0: "a"}))
    watched.spawn(1, function="learnt")
    watched.finish(1, took=0.01)
    for number in range(3, 13, 2):
        watched.spawn(number, function="learnt", scope=ProcessScope(0))
    watched.join(1, "a")

    assert asked_back(watched.handle(ev.TimePassed(watched.tick()))) == []


def crowd_of_quick_ones(homes, *more, scope=None):
    """Worker 0 has tasks that ought to be quick; the others come later."""
    watched = Watched(cluster({0: "a"}))
    watched.spawn(1, function="learnt")
    watched.finish(1, took=0.0001)
    for number in (3, 5, 7, *more):
        watched.spawn(number, function="learnt", scope=scope)
    for worker in homes:
        watched.join(worker, "a")
    return watched


def test_what_waits_behind_a_quick_task_that_takes_long_goes_to_an_idle_processor():
    watched = crowd_of_quick_ones([1, 2])

    assert asked_back(watched.start(3)) == [(0, 7), (0, 5)]
    assert sent(watched.hand_back(7)) == {7: 1}


def test_no_more_is_sent_behind_a_quick_task_that_takes_long():
    watched = crowd_of_quick_ones([1])
    watched.start(3)
    commands = [c for number in (9, 11, 13) for c in watched.spawn(number, function="learnt")]

    assert sent(commands) == {9: 1, 11: 1, 13: 1}


def test_what_may_run_nowhere_else_stays_behind_a_task_that_takes_long():
    watched = crowd_of_quick_ones([1], scope=ProcessScope(0))

    assert asked_back(watched.start(3)) == []


def test_what_gets_its_inputs_behind_a_task_that_takes_long_goes_to_an_idle_processor():
    watched = Watched(cluster({0: "a", 1: "a"}, threads=1))
    watched.spawn(1, function="learnt")
    watched.finish(1, took=0.0001)
    watched.spawn(3, function="learnt", scope=ProcessScope(0))
    watched.spawn(5, function="learnt", scope=ProcessScope(0))
    watched.spawn(7, 6, function="learnt")
    assert (watched.worker_of(7), watched.state(7)) == (0, "waiting")
    assert asked_back(watched.start(3)) == []

    assert asked_back(watched.finish(5)) == [(0, 7)]


def test_what_follows_on_a_task_that_took_long_stays_with_its_result():
    watched = Watched(cluster({0: "a", 1: "a"}))
    watched.spawn(1, function="learnt")
    watched.finish(1, took=0.0001)
    watched.spawn(3, function="learnt", scope=ProcessScope(0))
    watched.spawn(5, 4, function="learnt")
    watched.start(3)

    assert asked_back(watched.finish(3, took=5.0)) == []


# -- what a process lacks that it was thought to hold ------------------------------


def test_an_input_that_its_process_lacks_is_sent_by_another_one(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.arrive(1, 2)
    watched.spawn(10, 2, scope=ProcessScope(0))
    commands = watched.hand_back(10, 2, worker=0)

    assert watched.chunk(2).holders == (1,)
    assert sends(commands) == [(2, 1, 0)]
    assert sent(commands) == {10: 0}


def test_what_else_waits_in_a_process_for_what_it_lacks_gets_it_from_another_one(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.arrive(1, 2)
    watched.spawn(10, 2, scope=ProcessScope(0))
    watched.spawn(12, scope=ProcessScope(1))
    watched.spawn(14, 13, 2, scope=ProcessScope(0))

    assert (2, 1, 0) in sends(watched.hand_back(10, 2, worker=0))


def test_an_input_that_nobody_has_although_one_was_thought_to_is_made_again(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(0))
    commands = watched.hand_back(10, 2, worker=0)

    assert sent(commands) == {1: 0, 10: 0}
    assert watched.chunk(2).state == "pending"


def test_an_input_that_nobody_has_and_that_cannot_be_made_again_ends_what_needs_it(watched):
    watched.spawn(1, scope=ProcessScope(0), idempotent=False)
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(0))
    watched.spawn(20, 11, scope=ProcessScope(0))
    commands = watched.hand_back(10, 2, worker=0)

    assert settled(commands) == {10: "failed", 20: "blocked"}
    assert isinstance(watched.scheduler.tasks[10].failure, ChunkLostError)


def test_a_process_that_waits_for_what_it_was_thought_to_hold_gets_it(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.arrive(1, 2)
    watched.spawn(10, 2, scope=ProcessScope(1))
    commands = watched.miss(1, 2)

    assert watched.chunk(2).holders == (0,)
    assert sends(commands) == [(2, 0, 1)]


def test_what_a_process_was_to_send_and_lacks_another_one_sends(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.arrive(1, 2)
    watched.spawn(10, 2, scope=ProcessScope(3))
    (source,) = [holder for _, holder, _ in sends(watched.spawn(12, 2, scope=ProcessScope(2)))]
    commands = watched.miss(source, 2)

    assert sorted(sends(commands)) == [(2, 1 - source, 2), (2, 1 - source, 3)]
    assert watched.chunk(2).holders == (1 - source,)


def test_what_a_process_lacks_that_no_task_needs_there_is_not_sent_there(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)

    assert watched.miss(1, 2) == []


def test_that_a_process_lacks_what_is_still_being_made_there_changes_nothing(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(10, 2, scope=ProcessScope(1))

    assert watched.miss(0, 2) == []
    assert watched.chunk(2).state == "pending"


# -- trying again ---------------------------------------------------------------


def test_a_task_is_tried_again_as_often_as_was_said(watched):
    watched.spawn(1, retries=2)
    for _ in range(2):
        assert len(starts(watched.fail(1))) == 1
    commands = watched.fail(1)

    assert settled(commands) == {1: "failed"}
    assert watched.scheduler.tasks[1].failures == 2


def test_what_waits_for_a_task_goes_on_once_it_came_right(watched):
    watched.spawn(1, retries=1)
    watched.spawn(10, 2)
    assert settled(watched.fail(1)) == {}

    assert settled(watched.finish(1)) == {1: "done"}
    assert watched.state(10) == "queued"


def test_an_error_settles_the_task_and_blocks_its_dependants(watched):
    watched.spawn(1)
    watched.spawn(10, 2)
    watched.spawn(20, 11)
    commands = watched.fail(1, "boom")

    assert settled(commands) == {1: "failed", 10: "blocked", 20: "blocked"}
    ends = [command for command in commands if isinstance(command, ev.Settle)]
    assert {c.task: c.origin for c in ends} == {1: None, 10: 1, 20: 1}
    assert {c.failure for c in ends} == {"boom"}


@pytest.fixture
def usual_recursion_limit():
    """Tasks that run in this process and wait for others may have raised it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("usual_recursion_limit")
def test_a_chain_of_thousands_is_blocked_without_recursion(watched):
    count = 5_000
    assert count > sys.getrecursionlimit()
    check, watched.check = watched.check, lambda: None
    watched.spawn(1)
    for number in range(3, 2 * count, 2):
        watched.spawn(number, number - 1)
    watched.check = check
    commands = watched.fail(1)

    assert len(settled(commands)) == count
    assert watched.states() == {"failed": 1, "blocked": count - 1}
    assert {c.origin for c in commands if isinstance(c, ev.Settle)} == {None, 1}


def test_a_chain_of_thousands_that_cannot_be_placed_ends_without_recursion(watched):
    check, watched.check = watched.check, lambda: None
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, 2, scope=ProcessScope(1))
    for number in range(5, 10_000, 2):
        watched.spawn(number, number - 1)
    watched.finish(1, scope=ProcessScope(0))
    watched.check = check
    commands = watched.hand_back(3, 2, ProcessScope(0))

    assert watched.states() == {"done": 1, "failed": 1, "blocked": 4_998}
    assert len(settled(commands)) == 4_999


def test_reports_of_others_than_the_one_that_runs_it_are_ignored(watched):
    watched.spawn(1, scope=ProcessScope(0))

    assert dropped(watched.finish(1, worker=1)) == [(1, 2)]
    assert watched.fail(1, worker=2) == []
    assert watched.handle(ev.RunStarted(1, 3, 9.0)) == []
    assert watched.state(1) == "queued"


def test_a_second_report_of_the_same_run_is_ignored(watched):
    watched.spawn(1)
    watched.finish(1)

    assert watched.finish(1, worker=0) == []
    assert watched.fail(1, worker=0) == []
    assert watched.handle(ev.RunStarted(1, 0, 9.0)) == []
    assert watched.handle(ev.RunFailed(999, 0, "boom", 0.0, 1.0)) == []


def test_a_report_of_a_dead_worker_does_not_end_the_second_run(watched):
    watched.spawn(1)
    (again,) = starts(watched.leave(0))
    assert again.processor.worker != 0

    assert watched.finish(1, worker=0) == []
    assert settled(watched.finish(1)) == {1: "done"}


def test_a_chunk_that_a_dead_worker_reports_is_not_held(watched):
    watched.scheduler.expect(ChunkRecord(50, AnyScope(), handles=1))
    watched.leave(0)
    watched.store(50, 0)


# -- handing back ---------------------------------------------------------------


def test_a_task_that_is_handed_back_goes_where_its_input_is_valid(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(0), function="long")
    watched.spawn(10, 2, scope=NodeScope("a"))
    assert watched.worker_of(10) == 1
    commands = watched.hand_back(10, 2, ProcessScope(0))

    assert sent(commands) == {10: 0}
    assert watched.chunk(2).scope == ProcessScope(0)


def test_a_task_that_is_handed_back_and_fits_nowhere_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    commands = watched.hand_back(10, 2, ProcessScope(0))

    assert settled(commands) == {10: "failed"}
    assert isinstance(watched.scheduler.tasks[10].failure, ScopeConflictError)


def test_what_another_worker_hands_back_is_ignored_but_its_news_is_not(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(0))
    assert watched.handle(ev.RunHandedBack(10, 3, 2, ProcessScope(0), 9.0)) == []

    assert watched.state(10) == "queued"
    assert watched.chunk(2).scope == ProcessScope(0)


def test_a_pinned_chunk_keeps_later_tasks_away(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.handle(ev.ChunkPinned(2, ProcessScope(0)))
    watched.handle(ev.ChunkPinned(999, ProcessScope(0)))
    commands = watched.spawn(10, 2, scope=ProcessScope(1))

    assert settled(commands) == {10: "failed"}


# -- chunks ---------------------------------------------------------------------


def test_a_chunk_is_released_when_nobody_wants_it(watched):
    watched.spawn(1)
    watched.finish(1)
    commands = watched.drop(2)

    assert dropped(commands) == [(0, 2)]
    assert watched.chunk(2) is None


def test_a_chunk_is_kept_for_a_task_that_needs_it(watched):
    watched.spawn(1)
    watched.spawn(10, 2)
    assert watched.drop(2) == []
    assert dropped(watched.finish(1)) == []
    assert dropped(watched.finish(10)) == [(0, 2)]


def test_the_result_of_a_task_whose_handle_is_gone_is_dropped_at_once(watched):
    watched.spawn(1)
    watched.drop(2)

    assert dropped(watched.finish(1)) == [(0, 2)]


def test_all_copies_of_a_chunk_are_released(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    watched.arrive(1, 2)
    watched.finish(10)
    assert watched.chunk(2).holders == (0, 1)

    assert dropped(watched.drop(2)) == [(0, 2), (1, 2)]


def test_a_copy_of_what_was_released_meanwhile_goes_as_well(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.drop(2)

    assert dropped(watched.arrive(1, 2)) == [(1, 2)]


def test_handles_are_counted(watched):
    watched.spawn(1)
    watched.finish(1)
    watched.handle(ev.HandlesAdded((2, 999)))

    assert watched.drop(2) == []
    assert dropped(watched.drop(2, 999)) == [(0, 2)]


def test_a_task_that_needs_a_released_chunk_says_so(watched):
    watched.spawn(1)
    watched.finish(1)
    watched.drop(2)
    settle, _ = watched.spawn(10, 2)

    assert settle.state == "failed"
    assert isinstance(settle.failure, ChunkLostError)
    assert "released" in str(settle.failure)


def test_the_record_of_a_result_that_nobody_wants_is_dropped_when_its_task_fails(watched):
    watched.spawn(1)
    watched.drop(2)
    watched.fail(1)

    assert watched.chunk(2) is None


def test_what_needs_a_chunk_is_sent_to_where_the_chunk_is_put(watched):
    home = ThreadProc(2, 0)
    watched.scheduler.expect(ChunkRecord(50, ProcessScope(2), handles=1, processor=home))
    watched.spawn(1, Input("argument 'x'", 50, handle=True))

    assert watched.worker_of(1) == 2
    assert watched.state(1) == "waiting"
    watched.store(50, 2, ProcessScope(2))
    assert watched.state(1) == "queued"


def test_a_chunk_that_could_not_be_put_fails_what_waits_for_it(watched):
    watched.scheduler.expect(ChunkRecord(50, AnyScope(), handles=1))
    watched.spawn(1, 50, 50)
    watched.spawn(10, 2)
    commands = watched.handle(ev.ChunkFailed(50, 0, "no room", watched.tick()))

    assert settled(commands) == {1: "failed", 10: "blocked"}
    assert watched.handle(ev.ChunkFailed(999, 0, "no room", watched.tick())) == []


def test_several_results_are_held_one_by_one(watched):
    watched.spawn(1, outputs=(2, 3))
    watched.spawn(10, 3, scope=ProcessScope(1))
    watched.finish(1)

    assert watched.chunk(3).targets == (1,)
    assert dropped(watched.drop(2)) == [(0, 2)]


# -- workers --------------------------------------------------------------------


def test_a_task_sent_to_a_worker_that_leaves_goes_elsewhere(watched):
    watched.spawn(1)
    (start,) = starts(watched.leave(0))

    assert start.processor.worker == 1
    assert watched.scheduler.tasks[1].attempts == 2


def test_a_running_task_that_may_not_run_twice_is_lost_with_its_worker(watched):
    watched.spawn(1, idempotent=False)
    watched.start(1)
    settle, *_ = watched.leave(0)

    assert settle.state == "failed"
    assert isinstance(settle.failure, WorkerLostError)


def test_a_task_that_may_have_begun_is_not_started_twice(watched):
    watched.spawn(1, idempotent=False)

    assert starts(watched.leave(0)) == []


def test_a_task_that_kills_its_workers_is_given_up(watched):
    watched.spawn(1)
    for worker in range(2):
        watched.start(1)
        assert len(starts(watched.leave(worker))) == 1
    watched.start(1)
    settle, *_ = watched.leave(2)

    assert isinstance(settle.failure, WorkerLostError)
    assert "attempt 3" in str(settle.failure)


def test_what_is_stopped_on_purpose_is_not_suspected(watched):
    watched.spawn(1)
    watched.start(1)
    commands = watched.leave(0, planned=True)

    assert len(starts(commands)) == 1
    assert watched.scheduler.tasks[1].deaths == 0


def test_what_was_in_two_processes_that_died_runs_alone(watched):
    watched.spawn(1, function="learnt", scope=ProcessScope(3))
    watched.finish(1, took=1e-4)
    watched.spawn(3, function="learnt")
    watched.leave(watched.worker_of(3))
    watched.leave(watched.worker_of(3))
    kept = watched.worker_of(3)
    commands = [c for n in range(5, 25, 2) for c in watched.spawn(n, function="learnt")]

    assert kept not in sent(commands).values()
    watched.finish(3)
    assert sent(watched.spawn(101, scope=ProcessScope(kept))) == {101: kept}


def test_a_lost_result_whose_value_came_along_is_made_again_only_for_others(watched):
    for number in (1, 3, 5):
        watched.spawn(number, scope=ProcessScope(0) | ProcessScope(1))
    home = watched.worker_of(1)
    for number in (1, 3, 5):
        if watched.worker_of(number) == home:
            watched.finish(number, told=number != 5)
    watched.leave(home)

    assert watched.chunk(2).state == "lost"
    assert watched.state(1) == "done"
    watched.spawn(11, 2)
    assert watched.state(1) == "queued"
    watched.finish(1)
    watched.arrive(watched.worker_of(11), 2)
    watched.finish(11)
    assert watched.state(11) == "done"


def test_a_lost_result_is_made_again_for_a_handle_that_came_without_its_value(watched):
    watched.spawn(1)
    watched.finish(1, told=True)
    watched.leave(watched.worker_of(1))
    assert watched.chunk(2).state == "lost"

    watched.handle(ev.HandlesAdded((2,)))
    assert watched.state(1) == "queued"
    watched.finish(1)
    assert watched.chunk(2).state == "held"


def test_a_task_that_ended_well_is_cleared_of_all_suspicion():
    """It is made again whenever its result is lost, and may be in many engines that die."""
    watched = Watched(cluster(dict.fromkeys(range(6), "a")))
    watched.spawn(1)
    for _ in range(2):
        watched.leave(watched.worker_of(1))
        watched.finish(1)
        watched.leave(watched.worker_of(1))

    assert watched.state(1) == "queued"
    assert watched.scheduler.tasks[1].deaths == 0


def test_suspects_run_one_at_a_time_in_a_process():
    watched = Watched(cluster({0: "a", 1: "a", 2: "a"}))
    watched.spawn(1, function="learnt", scope=ProcessScope(2))
    watched.finish(1, took=1e-4)
    for number in (3, 5, 7):
        watched.spawn(number, function="learnt", scope=~ProcessScope(2))
    for worker in (0, 1):
        for number in (3, 5, 7):
            if watched.worker_of(number) != worker:
                watched.hand_back(number)
    first = watched.worker_of(3)
    together = [n for n in (3, 5, 7) if watched.worker_of(n) == first]
    watched.leave(first)
    watched.join(8, "a")
    second = watched.worker_of(3)
    began = starts(watched.leave(second))

    assert [start.task for start in began if start.task in together] == together[:1]
    assert [s.task for s in starts(watched.finish(together[0]))][:1] == together[1:2]


def test_what_waits_for_a_task_that_was_at_the_same_engine_may_have_begun_with_it(watched):
    watched.spawn(1, scope=NodeScope("a"))
    watched.spawn(3, 2, scope=NodeScope("a"))
    watched.spawn(5, 4, scope=NodeScope("b"))
    home = watched.worker_of(1)
    assert watched.worker_of(3) == home
    watched.leave(home)

    deaths = {n: watched.scheduler.tasks[n].deaths for n in (1, 3, 5)}
    assert deaths == {1: 1, 3: 1, 5: 0}


# -- lost chunks ----------------------------------------------------------------


def test_what_is_lost_is_made_again_while_someone_wants_it(watched):
    watched.spawn(1)
    watched.finish(1)
    commands = watched.leave(0)

    assert [start.task for start in starts(commands)] == [1]
    watched.finish(1)
    assert watched.chunk(2).state == "held"


def test_what_is_lost_and_cannot_be_made_again_is_lost(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.leave(0)
    settle, _ = watched.spawn(10, 2)

    assert watched.chunk(2).state == "lost"
    assert isinstance(settle.failure, ChunkLostError)
    assert "is gone" in str(settle.failure)


def test_what_may_run_only_once_is_not_run_for_a_chunk_that_is_lost(watched):
    watched.spawn(1, idempotent=False)
    watched.finish(1)

    assert starts(watched.leave(0)) == []
    assert watched.chunk(2).state == "lost"


def test_a_chunk_is_made_again_with_what_it_was_made_of(watched):
    watched.spawn(1, scope=NodeScope("a"))
    watched.finish(1)
    watched.spawn(3, 2)
    watched.finish(3)
    watched.spawn(5, 4)
    watched.finish(5)
    watched.drop(2, 4)
    assert watched.chunk(2).state == "released"
    commands = watched.leave(0)

    assert sorted(start.task for start in starts(commands)) == [1, 3, 5]
    for number in (1, 3, 5):
        watched.finish(number)
    assert watched.chunk(6).state == "held"
    assert watched.chunk(2).state == "released"


def test_no_more_is_run_again_than_is_lost(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(3, 2, scope=NodeScope("b"))
    watched.arrive(2, 2)
    watched.finish(3)
    commands = watched.leave(2)

    assert sent(commands) == {3: 3}
    assert sends(commands) == [(2, 0, 3)]


def test_calls_are_kept_for_as_long_as_a_wanted_chunk_depends_on_them(watched):
    watched.spawn(1)
    watched.finish(1)
    watched.spawn(3, 2)
    assert forgotten(watched.finish(3)) == []
    assert forgotten(watched.drop(2)) == []

    assert sorted(forgotten(watched.drop(4))) == [1, 3]


def test_a_copy_survives_the_worker_that_made_it(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    watched.arrive(1, 2)
    watched.finish(10)
    watched.leave(0)

    assert sends(watched.spawn(20, 2, scope=ProcessScope(3))) == [(2, 1, 3)]


def test_a_sent_task_whose_input_cannot_be_made_again_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(0))
    commands = watched.leave(0)

    assert settled(commands) == {10: "failed"}
    assert isinstance(watched.scheduler.tasks[10].failure, ChunkLostError)


def test_a_waiting_task_whose_other_input_is_lost_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(1))
    watched.spawn(10, 2, 4)
    commands = watched.leave(0) + watched.finish(3)

    assert settled(commands)[10] == "failed"


def test_a_task_that_was_sent_waits_for_what_is_made_again(watched):
    watched.spawn(1)
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(1), function="slow")
    watched.spawn(10, 2, scope=ProcessScope(1))
    commands = watched.leave(0)

    assert list(sent(commands)) == [1]
    assert watched.state(10) == "waiting"
    watched.finish(1)
    assert watched.state(10) == "queued"


def test_an_unmatched_task_whose_input_is_lost_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=NodeScope("c"), wait_for=60)
    commands = watched.leave(0) + watched.join(9, "c")

    assert settled(commands)[10] == "failed"


def test_a_task_pinned_to_a_worker_that_left_fails(watched):
    watched.spawn(1, scope=ProcessScope(0), function="slow")
    watched.spawn(3, scope=ProcessScope(0))
    commands = watched.leave(0)

    assert settled(commands) == {1: "failed", 3: "failed"}
    assert "Gone for good: worker 0" in str(watched.scheduler.tasks[3].failure)


def test_an_unknown_worker_leaves_without_harm(watched):
    watched.spawn(1)

    assert watched.leave(99) == []


def test_a_worker_that_joins_takes_what_is_queued(alone):
    alone.spawn(1)
    alone.spawn(3)

    assert sent(alone.join(1, "a")) == {3: 1}


def test_the_last_worker_s_end_leaves_waiting_tasks_to_their_deadline(alone):
    alone.spawn(1, wait_for=60)
    alone.leave(0)
    assert alone.state(1) == "unmatched"

    assert [start.task for start in starts(alone.join(1, "b"))] == [1]


# -- time -----------------------------------------------------------------------


def test_a_task_may_wait_for_a_processor(watched):
    assert watched.spawn(1, scope=NodeScope("c"), wait_for=10.0) == []
    assert watched.state(1) == "unmatched"
    assert watched.scheduler.next_deadline() == 11.0
    assert watched.scheduler.explain(1).outcome == "unmatched"
    (start,) = starts(watched.join(7, "c"))

    assert start.processor == ThreadProc(7, 0)
    assert watched.scheduler.next_deadline() is None


def test_waiting_ends_at_the_deadline(watched):
    watched.spawn(1, scope=NodeScope("c"), wait_for=10.0)
    watched.spawn(10, 2)
    assert watched.handle(ev.TimePassed(10.9)) == []
    commands = watched.handle(ev.TimePassed(11.0))

    assert settled(commands) == {1: "failed", 10: "blocked"}
    assert isinstance(watched.scheduler.tasks[1].failure, NoProcessorError)
    assert watched.scheduler.next_deadline() is None


def test_the_soonest_deadline_is_told(watched):
    watched.spawn(1, scope=NodeScope("c"), wait_for=50.0)
    watched.spawn(3, scope=NodeScope("d"), wait_for=5.0)

    assert watched.scheduler.next_deadline() == 7.0
    watched.handle(ev.TimePassed(7.0))
    assert watched.scheduler.next_deadline() == 51.0


def test_impossible_scopes_do_not_wait(watched):
    (refusal,) = watched.spawn(1, scope=ProcessScope(0) & ProcessScope(1), wait_for=60)

    assert isinstance(refusal.error, ScopeConflictError)


UNSEEN = "a task that ends while workers come or go is still counted as unmatched"


def test_a_deadline_that_passes_before_a_worker_joins_ends_the_wait_once(watched):
    watched.spawn(1, scope=NodeScope("c"), wait_for=1.0)
    watched.now += 5.0
    watched.join(7, "b")
    watched.handle(ev.TimePassed(watched.tick()))


def test_a_worker_that_joins_on_another_node_than_hoped_for_ends_the_wait_once(watched):
    watched.spawn(1, scope=ProcessScope(7) & NodeScope("c"), wait_for=60.0)
    watched.join(7, "b")
    watched.handle(ev.TimePassed(1000.0))


# -- history, plans -------------------------------------------------------------


def test_old_tasks_whose_results_nobody_wants_are_forgotten(watched, monkeypatch):
    monkeypatch.setattr(ending, "_FINISHED_KEPT", 3)
    for number in range(1, 21, 2):
        watched.spawn(number)
        watched.finish(number)
        if number != 1:
            watched.drop(number + 1)

    assert sorted(watched.scheduler.tasks) == [1, 15, 17, 19]


def test_an_old_task_is_forgotten_once_its_result_is_not_wanted(watched, monkeypatch):
    monkeypatch.setattr(ending, "_FINISHED_KEPT", 1)
    for number in (1, 3, 5, 7):
        watched.spawn(number)
        watched.finish(number)
    watched.drop(2, 4, 6, 8)
    for number in (9, 11):
        watched.spawn(number)
        watched.finish(number)

    assert 1 not in watched.scheduler.tasks


def test_an_old_task_is_kept_for_as_long_as_a_wanted_result_is_made_of_its_own(
    watched, monkeypatch
):
    monkeypatch.setattr(ending, "_FINISHED_KEPT", 1)
    watched.spawn(1)
    watched.spawn(3, 2)
    watched.drop(2)
    for number in (1, 3):
        watched.finish(number)
    home = watched.worker_of(3)
    for number in range(11, 31, 2):
        watched.spawn(number)
        watched.finish(number)
        watched.drop(number + 1)
    assert 1 in watched.scheduler.tasks
    watched.leave(home)

    assert watched.state(1) in ("queued", "running")
    watched.finish(1)
    watched.finish(3)
    assert watched.chunk(4).state == "held"
    watched.drop(4)
    for number in range(31, 41, 2):
        watched.spawn(number)
        watched.finish(number)
        watched.drop(number + 1)
    assert not {1, 3} & set(watched.scheduler.tasks)


def test_a_plan_changes_nothing(watched):
    before = watched.scheduler.counts()
    plan = watched.scheduler.plan(task(1, scope=NodeScope("b")))

    assert (plan.outcome, plan.chosen) == ("placed", ThreadProc(2, 0))
    assert watched.scheduler.counts() == before
    assert watched.scheduler.plan(task(1, scope=NodeScope("c"))).outcome == "unmatched"
    assert watched.scheduler.plan(task(1, scope=ProcessScope(0) & ProcessScope(1))).outcome == (
        "conflict"
    )


def test_an_explanation_says_where_and_why(watched):
    watched.spawn(1, scope=ProcessScope(2))
    explanation = watched.scheduler.explain(1)

    assert explanation.outcome == "placed"
    assert explanation.chosen == ThreadProc(2, 0)
    assert "the only processor allowed" in explanation.sentence()


@pytest.mark.parametrize("end", ["blocked", "cancelled"])
def test_a_task_that_had_processors_is_not_said_to_have_none(watched, end):
    watched.spawn(1)
    watched.spawn(10, 2)
    if end == "blocked":
        watched.fail(1)
    else:
        watched.cancel(10)

    assert watched.scheduler.explain(10).outcome != "unmatched"


def test_busy_counts_what_was_sent(watched):
    watched.spawn(1, scope=ProcessScope(1))

    assert watched.scheduler.busy() == {0: 0, 1: 1, 2: 0, 3: 0}
    assert watched.scheduler.counts() == {"queued": 1}


def test_a_refused_task_is_explained_by_its_inputs_also_when_these_are_gone(watched):
    watched.spawn(1, scope=ProcessScope(0), result_scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    watched.drop(2)

    assert watched.scheduler.explain(10).outcome == "conflict"


def test_a_task_that_comes_back_from_where_its_input_is_valid_does_not_go_round(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    for _ in range(100):
        commands = watched.hand_back(10, 2, NodeScope("a"), worker=1)
        if settled(commands):
            break

    assert settled(commands) == {10: "failed"}
    assert starts(commands) == []


# -- tasks that tasks spawn --------------------------------------------------------


def spawn_child(watched, number, parent, *inputs, kept=True, **options):
    """Spawns a task for a task that runs; kept where it runs, or to be placed."""
    home = watched.scheduler.tasks[parent].processor
    spec = task(number, *inputs, **options)._replace(parent=parent)
    processor = home if kept else None
    return watched.handle(ev.ChildSpawned(spec, home.worker, processor, watched.tick()))


def give_handles_back(watched, worker, *chunks):
    return watched.handle(ev.HandlesReturned(worker, chunks))


HAND_MADE = StoredChunk(501, AnyScope(), ThreadProc(2, 0), "str", 1)


def borrow(watched, worker):
    return watched.handle(ev.ChunkBorrowed(HAND_MADE, worker, watched.tick()))


def unheld(watched, worker=2):
    return dropped(watched.handle(ev.ChunksUnheld(worker, (HAND_MADE.id,))))


def test_a_chunk_made_by_hand_is_kept_as_long_as_somebody_has_a_handle(watched):
    assert borrow(watched, 0) == []
    assert borrow(watched, 1) == []
    assert unheld(watched) == []
    assert give_handles_back(watched, 0, HAND_MADE.id) == []

    assert dropped(give_handles_back(watched, 1, HAND_MADE.id)) == [(2, HAND_MADE.id)]


def test_a_chunk_made_by_hand_of_which_nobody_knows_a_handle_goes_when_its_home_asks(watched):
    assert unheld(watched) == [(2, HAND_MADE.id)]


def test_a_chunk_made_by_hand_is_let_go_when_who_borrowed_it_is_gone(watched):
    borrow(watched, 0)

    assert (2, HAND_MADE.id) in dropped(watched.leave(0))


def test_a_late_word_of_a_handle_changes_nothing(watched):
    watched.leave(0)

    assert borrow(watched, 0) == []
    assert unheld(watched, 0) == []
    assert HAND_MADE.id not in watched.scheduler.chunks


def test_a_task_that_is_kept_where_it_was_spawned_is_not_sent(watched):
    watched.spawn(1, scope=ProcessScope(2))
    commands = spawn_child(watched, 11, 1)

    assert starts(commands) == []
    assert (watched.worker_of(11), watched.state(11)) == (2, "queued")
    assert watched.scheduler.explain(11).outcome == "placed"


def test_a_task_that_was_not_kept_is_placed_as_any_other(watched):
    watched.spawn(1, scope=ProcessScope(2))

    assert sent(spawn_child(watched, 11, 1, scope=ProcessScope(0), kept=False)) == {11: 0}


def test_what_was_kept_and_may_not_stay_is_asked_back_and_placed(watched):
    watched.spawn(1, scope=ProcessScope(2))
    commands = spawn_child(watched, 11, 1, scope=ProcessScope(0))

    assert asked_back(commands) == [(2, 11)]
    assert sent(watched.hand_back(11)) == {11: 0}


def test_what_was_kept_and_has_begun_goes_on_although_it_may_not_stay(watched):
    watched.spawn(1, scope=ProcessScope(2))
    spawn_child(watched, 11, 1, scope=ProcessScope(0))

    assert settled(watched.finish(11)) == {11: "done"}


def test_a_task_of_a_task_that_can_be_placed_nowhere_fails(watched):
    watched.spawn(1)
    commands = spawn_child(watched, 11, 1, scope=ProcessScope(0) & ProcessScope(1), kept=False)

    assert settled(commands) == {11: "failed"}


def test_a_task_of_a_task_can_need_the_result_of_another(watched):
    watched.spawn(1, scope=ProcessScope(2))
    spawn_child(watched, 11, 1)
    spawn_child(watched, 21, 1, 12)
    assert watched.state(21) == "waiting"
    watched.finish(11)

    assert watched.state(21) == "queued"


def test_the_handles_of_a_task_keep_results_until_it_gives_them_back(watched):
    watched.spawn(1, scope=ProcessScope(2))
    spawn_child(watched, 11, 1)
    assert dropped(watched.finish(11)) == []

    assert dropped(give_handles_back(watched, 2, 12)) == [(2, 12)]
    assert give_handles_back(watched, 2, 12) == []


def test_what_a_dead_worker_s_tasks_spawned_ends_with_their_run(watched):
    watched.spawn(1, scope=NodeScope("a"))
    spawn_child(watched, 11, 1)
    spawn_child(watched, 21, 1, scope=ProcessScope(3), kept=False)
    watched.start(21)
    commands = watched.leave(0)

    assert settled(commands) == {11: "cancelled", 21: "cancelled"}
    assert sent(commands) == {1: 1}
    assert dropped(watched.finish(21, worker=3)) == [(3, 22)]


def test_what_a_task_spawned_that_has_ended_goes_on_without_it(watched):
    watched.spawn(1, scope=ProcessScope(0))
    spawn_child(watched, 11, 1)
    watched.finish(1)
    commands = watched.leave(0)

    assert 11 in sent(commands)


def test_what_a_dead_worker_says_of_spawning_changes_nothing(watched):
    watched.spawn(1, scope=NodeScope("a"))
    spec = task(11)._replace(parent=1)
    watched.leave(0)
    assert watched.handle(ev.ChildSpawned(spec, 0, ThreadProc(0, 0), watched.tick())) == []
    assert give_handles_back(watched, 0, 12) == []

    assert 11 not in watched.scheduler.tasks


def test_a_task_that_waits_gives_its_processor_to_others(alone):
    alone.spawn(1)
    alone.spawn(3)
    assert alone.state(3) == "queued"
    commands = alone.handle(ev.RunPaused(1, 0, alone.tick()))

    assert sent(commands) == {3: 0}
    alone.handle(ev.RunResumed(1, 0, alone.tick()))
    assert alone.scheduler.loads.all[0].by_function == {"f": 2}


def test_a_task_that_ends_while_it_counts_as_waiting_leaves_nothing_behind(alone):
    alone.spawn(1)
    alone.handle(ev.RunPaused(1, 0, alone.tick()))
    alone.finish(1)

    assert alone.scheduler.busy() == {0: 0}
    assert alone.scheduler.loads.all[0].paused == set()


def test_what_gathers_at_one_processor_is_shared_with_an_idle_one():
    watched = Watched(cluster({0: "a", 1: "a"}))
    watched.spawn(1, scope=ProcessScope(0))
    asked = []
    for number in range(11, 91, 10):
        asked += asked_back(spawn_child(watched, number, 1))

    assert asked
    number = asked[0][1]
    assert sent(watched.hand_back(number)) == {number: 1}


# -- inputs in doubt --------------------------------------------------------------


def test_a_task_goes_ahead_of_an_input_in_doubt_only_to_where_that_is_made(watched):
    watched.spawn(1, function="new", scope=ProcessScope(1))
    commands = [c for number in (3, 5, 7) for c in watched.spawn(number, 2)]

    assert sent(commands) == {3: 1, 5: 1, 7: 1}


def test_a_task_that_may_not_run_there_is_held_until_the_doubt_is_over(watched):
    watched.spawn(1, function="new", scope=ProcessScope(1))
    watched.spawn(3, function="new", scope=ProcessScope(1))
    assert sent(watched.spawn(5, 4, scope=ProcessScope(0))) == {}

    assert sent(watched.finish(1))[5] == 0


def test_what_gave_a_scoped_result_once_stays_in_doubt(watched):
    watched.spawn(1, function="new", scope=ProcessScope(1))
    watched.finish(1, scope=ProcessScope(1))
    watched.spawn(3, function="new", scope=ProcessScope(2))
    assert sent(watched.spawn(5, 4, scope=ProcessScope(0))) == {}
    watched.spawn(7, function="new", scope=ProcessScope(1))

    assert sent(watched.finish(7)) == {}


def test_users_of_a_scoped_input_come_in_the_order_in_which_they_were_spawned(watched):
    watched.spawn(1, function="new", scope=ProcessScope(1))
    commands = [c for number in (3, 5, 7, 9) for c in watched.spawn(number, 2, function="use")]
    commands += watched.finish(1, scope=ProcessScope(1))
    commands += watched.spawn(11, 2, function="use") + watched.finish(3, took=1e-4)

    assert sent(commands) == dict.fromkeys((3, 5, 7, 9, 11), 1)
    assert list(sent(commands)) == [3, 5, 7, 9, 11]


def test_tasks_held_for_a_function_that_fails_are_not_kept(watched):
    watched.spawn(1, function="new", scope=ProcessScope(1))
    watched.spawn(3, 2, scope=ProcessScope(0))
    watched.fail(1)

    assert watched.scheduler.tasks[3].state == "blocked"
    assert watched.scheduler.doubts.release("new") == []


def test_users_of_an_input_that_turned_out_to_be_scoped_are_not_asked_back_for_others(watched):
    watched.spawn(1, function="new", scope=ProcessScope(1))
    for number in (3, 5, 7, 9):
        watched.spawn(number, 2, function="unknown")

    assert asked_back(watched.finish(1, scope=ProcessScope(1))) == []


def test_the_time_that_a_value_takes_to_another_worker_is_learnt(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1, nbytes=50_000_000)
    before = watched.scheduler.transfers.estimate(50_000_000)
    watched.spawn(3, 2, scope=ProcessScope(1))
    watched.now += 5.0
    watched.arrive(1, 2)

    assert watched.scheduler.transfers.estimate(50_000_000) > 10 * before


def test_a_task_stays_with_a_value_that_would_take_long_to_move(watched):
    watched.scheduler.transfers._seconds_per_byte = 1e-6
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1, nbytes=50_000_000)
    for number in (3, 5, 7):
        watched.spawn(number, scope=ProcessScope(0), function="long")

    watched.spawn(9, 2)
    assert watched.worker_of(9) == 0 or watched.scheduler.tasks[9].line
