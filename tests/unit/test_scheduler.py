"""The scheduler as a list: events in, commands out."""

import sys
from dataclasses import replace

import pytest
from scheduling import Watched, cluster, dropped, settled, starts, task

from scopekit.errors import (
    ChunkLostError,
    NoProcessorError,
    ScopeConflictError,
    TaskCancelledError,
    WorkerLostError,
)
from scopekit.graph import ChunkRecord, Input
from scopekit.scheduler import events as ev
from scopekit.scheduler import machine
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

    assert commands == [ev.StartRun(1, ThreadProc(2, 0), ())]
    assert watched.state(1) == "queued"


def test_scopes_that_never_meet_are_refused_at_the_spawn(watched):
    (refusal,) = watched.spawn(1, scope=ProcessScope(0) & ProcessScope(1))

    assert isinstance(refusal, ev.Refuse)
    assert isinstance(refusal.error, ScopeConflictError)
    assert watched.state(1) == "failed"
    assert watched.scheduler.busy() == dict.fromkeys(range(4), 0)


def test_a_worker_s_node_counts_where_scopes_meet(watched):
    operands = (("scope=", ProcessScope(0)), ("perimeter", NodeScope("b")))
    (refusal,) = watched.spawn(replace(task(1, wait_for=9), operands=operands))

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
        commands = watched.finish(1, scope=ProcessScope(0))

    assert not [c for c in commands if isinstance(c, ev.Refuse)]
    assert settled(commands)[10] == "failed"
    assert isinstance(watched.scheduler.tasks[10].failure, ScopeConflictError)


def test_a_declared_result_scope_counts_at_the_spawn(watched):
    watched.spawn(1, scope=ProcessScope(0), result_scope=ProcessScope(0))
    (refusal,) = watched.spawn(10, 2, scope=ProcessScope(1))

    assert isinstance(refusal.error, ScopeConflictError)


def test_a_dependant_of_a_refused_task_is_blocked(watched):
    watched.spawn(1, scope=NodeScope("c"))
    (settle,) = watched.spawn(10, 2)

    assert (settle.state, settle.origin) == ("blocked", 1)
    assert isinstance(settle.failure, NoProcessorError)


# -- placing --------------------------------------------------------------------


def test_tasks_are_spread_over_the_processors(watched):
    sent = [watched.spawn(number)[0].processor for number in (1, 3, 5, 7)]

    assert sent == [ThreadProc(worker, 0) for worker in range(4)]


def test_tasks_go_where_their_inputs_are(watched):
    watched.spawn(1, scope=ProcessScope(3))
    watched.finish(1, nbytes=10**9)
    (start,) = starts(watched.spawn(10, 2))

    assert start.processor == ThreadProc(3, 0)
    assert start.inputs == ((2, 3),)
    assert watched.scheduler.tasks[10].rule == "its inputs are there"


def test_an_input_from_elsewhere_names_its_holder(watched):
    watched.spawn(1, scope=ProcessScope(3))
    watched.finish(1)
    (start,) = starts(watched.spawn(10, 2, scope=ProcessScope(0)))

    assert start.inputs == ((2, 3),)


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
    assert watched.chunk(2).holders == [0]


def test_a_task_waits_for_all_of_its_inputs(watched):
    watched.spawn(1)
    watched.spawn(3)
    assert watched.spawn(10, 2, 4, 2) == []
    assert watched.scheduler.explain(10).waiting_for == ("t1", "t3")
    assert starts(watched.finish(1)) == []
    (start,) = starts(watched.finish(3))

    assert start.inputs == ((2, 0), (4, 1), (2, 0))


def test_an_error_settles_the_task_and_blocks_its_dependants(watched):
    watched.spawn(1)
    watched.spawn(10, 2)
    watched.spawn(20, 11)
    commands = watched.fail(1, "boom")

    assert settled(commands) == {1: "failed", 10: "blocked", 20: "blocked"}
    assert {c.task: c.origin for c in commands} == {1: None, 10: 1, 20: 1}
    assert {c.failure for c in commands} == {"boom"}


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
    assert {command.origin for command in commands} == {None, 1}


def test_a_chain_of_thousands_that_cannot_be_placed_ends_without_recursion(watched):
    check, watched.check = watched.check, lambda: None
    watched.spawn(1, scope=ProcessScope(0))
    watched.spawn(3, 2, scope=ProcessScope(1))
    for number in range(5, 10_000, 2):
        watched.spawn(number, number - 1)
    watched.check = check
    commands = watched.finish(1, scope=ProcessScope(0))

    assert watched.states() == {"done": 1, "failed": 1, "blocked": 4_998}
    assert len(settled(commands)) == 5_000


def test_reports_of_others_than_the_one_that_runs_it_are_ignored(watched):
    watched.spawn(1, scope=ProcessScope(0))

    assert watched.finish(1, worker=1) == []
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


def hand_back(watched, number, chunk, scope):
    worker = watched.worker_of(number)
    return watched.handle(ev.RunHandedBack(number, worker, chunk, scope, watched.tick()))


def test_a_task_that_is_handed_back_goes_where_its_input_is_valid(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(0), function="long")
    watched.spawn(10, 2, scope=NodeScope("a"))
    assert watched.worker_of(10) == 1
    assert hand_back(watched, 10, 2, ProcessScope(0)) == []
    commands = watched.finish(3)

    assert [(s.task, s.processor.worker) for s in starts(commands)] == [(10, 0)]
    assert watched.chunk(2).scope == ProcessScope(0)


def test_a_task_that_is_handed_back_and_fits_nowhere_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    commands = hand_back(watched, 10, 2, ProcessScope(0))

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
    watched.finish(10, replicas=(2,))
    assert watched.chunk(2).holders == [0, 1]

    assert dropped(watched.drop(2)) == [(0, 2), (1, 2)]


def test_a_copy_of_what_was_released_meanwhile_goes_as_well(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, scope=ProcessScope(1))
    watched.drop(2)

    assert dropped(watched.finish(10, replicas=(2,))) == [(1, 2)]


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
    (settle,) = watched.spawn(10, 2)

    assert settle.state == "failed"
    assert isinstance(settle.failure, ChunkLostError)
    assert "released" in str(settle.failure)


def test_the_record_of_a_result_that_nobody_wants_is_dropped_when_its_task_fails(watched):
    watched.spawn(1)
    watched.drop(2)
    watched.fail(1)

    assert watched.chunk(2) is None


def test_a_chunk_that_arrives_starts_what_waits_for_it(watched):
    watched.scheduler.expect(ChunkRecord(50, ProcessScope(2), handles=1))
    watched.spawn(1, Input("argument 'x'", 50, handle=True))
    (start,) = starts(watched.store(50, 2, ProcessScope(2)))

    assert start == ev.StartRun(1, ThreadProc(2, 0), ((50, 2),))


def test_a_chunk_that_could_not_be_put_fails_what_waits_for_it(watched):
    watched.scheduler.expect(ChunkRecord(50, AnyScope(), handles=1))
    watched.spawn(1, 50, 50)
    watched.spawn(10, 2)
    commands = watched.handle(ev.ChunkFailed(50, "no room", watched.tick()))

    assert settled(commands) == {1: "failed", 10: "blocked"}
    assert watched.handle(ev.ChunkFailed(999, "no room", watched.tick())) == []


def test_several_results_are_held_one_by_one(watched):
    watched.spawn(1, outputs=(2, 3))
    watched.spawn(10, 3)
    (start,) = starts(watched.finish(1))

    assert start.inputs == ((3, 0),)
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
    (settle,) = watched.leave(0)

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
    (settle,) = watched.leave(2)

    assert isinstance(settle.failure, WorkerLostError)
    assert "attempt 3" in str(settle.failure)


def test_what_only_the_lost_worker_held_is_lost(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.leave(0)
    (settle,) = watched.spawn(10, 2)

    assert watched.chunk(2).state == "lost"
    assert isinstance(settle.failure, ChunkLostError)
    assert "is gone" in str(settle.failure)


def test_a_copy_survives_the_worker_that_made_it(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(1))
    watched.finish(10, replicas=(2,))
    watched.leave(0)
    (start,) = starts(watched.spawn(20, 2))

    assert start.inputs == ((2, 1),)


def test_a_sent_task_whose_input_is_lost_with_its_worker_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(10, 2, scope=ProcessScope(0))
    commands = watched.leave(0)

    assert settled(commands) == {10: "failed"}
    assert isinstance(watched.scheduler.tasks[10].failure, ChunkLostError)


LOST = "a task that was not sent yet looks for the holders of an input that is lost"


def test_a_waiting_task_whose_other_input_is_lost_fails(watched):
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(1))
    watched.spawn(10, 2, 4)
    commands = watched.leave(0) + watched.finish(3)

    assert settled(commands)[10] == "failed"


def test_a_queued_task_whose_input_is_lost_fails():
    watched = Watched(cluster({0: "a", 1: "a"}))
    watched.spawn(1, scope=ProcessScope(0))
    watched.finish(1)
    watched.spawn(3, scope=ProcessScope(1), function="slow")
    watched.spawn(10, 2, scope=ProcessScope(1))
    commands = watched.leave(0) + watched.finish(3)

    assert settled(commands)[10] == "failed"


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
    (start,) = starts(alone.join(1, "a"))

    assert (start.task, start.processor) == (3, ThreadProc(1, 0))


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


# -- cancelling -----------------------------------------------------------------


def test_a_waiting_task_is_cancelled(watched):
    watched.spawn(1)
    watched.spawn(10, 2)
    watched.spawn(20, 11)
    commands = watched.cancel(10)

    assert settled(commands) == {10: "cancelled", 20: "blocked"}
    assert isinstance(watched.scheduler.tasks[20].failure, TaskCancelledError)
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


def test_what_was_sent_or_is_over_is_not_cancelled(watched):
    watched.spawn(1)

    assert watched.cancel(1) == []
    watched.finish(1)
    assert watched.cancel(1) == []
    assert watched.cancel(999) == []


# -- history, plans -------------------------------------------------------------


def test_old_tasks_whose_results_nobody_wants_are_forgotten(watched, monkeypatch):
    monkeypatch.setattr(machine, "_FINISHED_KEPT", 3)
    for number in range(1, 21, 2):
        watched.spawn(number)
        watched.finish(number)
        if number != 1:
            watched.drop(number + 1)

    assert sorted(watched.scheduler.tasks) == [1, 15, 17, 19]


def test_an_old_task_is_forgotten_once_its_result_is_not_wanted(watched, monkeypatch):
    monkeypatch.setattr(machine, "_FINISHED_KEPT", 1)
    for number in (1, 3, 5, 7):
        watched.spawn(number)
        watched.finish(number)
    watched.drop(2, 4, 6, 8)
    for number in (9, 11):
        watched.spawn(number)
        watched.finish(number)

    assert 1 not in watched.scheduler.tasks


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
    commands = hand_back(watched, 10, 2, NodeScope("a"))

    assert settled(commands) == {10: "failed"}
    assert starts(commands) == []
