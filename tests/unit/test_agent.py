"""An agent by itself: orders in, reports out, tasks on a lane that runs when it is told to."""

import sys
import threading
import time
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

import scopekit as sk
from scopekit.engine import agent as agents
from scopekit.engine import context, reporter
from scopekit.engine.agent import Agent
from scopekit.engine.functions import ReceivedFunction
from scopekit.engine.lanes import InlineLane, ThreadLane
from scopekit.errors import ChunkLostError, ScopeViolationError
from scopekit.graph import StoredChunk
from scopekit.pinning.registry import registry
from scopekit.pinning.rule import Rule
from scopekit.places import Process, Topology
from scopekit.scopes import AnyScope, ExactScope, LabelScope, ProcessScope, ThreadProc
from scopekit.wire import messages as msg
from scopekit.wire.codec import dump_value, pack_call
from scopekit.wire.lending import Loan
from scopekit.wire.parcels import Parcel, load_parcel, pack_value

HERE = ThreadProc(0, 0)
ELSEWHERE = ThreadProc(1, 0)
TOPOLOGY = Topology([Process.with_threads(0, "a", 2), Process.with_threads(1, "b")])
LIMIT = 20.0


class Lane:
    """Runs its jobs when the test says so."""

    def __init__(self):
        self.jobs = deque()

    def submit(self, job):
        self.jobs.append(job)

    def idle(self):
        return not self.jobs

    def run(self):
        while self.jobs:
            self.jobs.popleft()()

    def close(self):
        self.jobs.clear()


class Told(Agent):
    """An agent that keeps what it reports and what it pushes."""

    def __init__(self, lane, background):
        self.reports = []
        self.pushed = []
        self.asked = []
        super().__init__(
            0,
            TOPOLOGY,
            {HERE: lane},
            self.reports.extend,
            fetch=lambda worker, chunks: self.asked.append((worker, chunks)),
            push=lambda worker, items: self.pushed.append((worker, items)),
            background=background,
        )

    def ended(self):
        return [report.task for report in self.reports if isinstance(report, msg.Finished)]

    def of_kind(self, kind):
        return [report for report in self.reports if isinstance(report, kind)]

    def knows(self, order, function):
        """Has the function of an order be one that cannot be sent."""
        received = ReceivedFunction(None)
        received._kept = function
        self._functions._known[order.digest] = received

    def handed_back(self):
        return [
            (report.task, report.chunk, report.scope)
            for report in self.reports
            if isinstance(report, msg.HandedBack)
        ]


@pytest.fixture
def lane():
    return Lane()


@pytest.fixture
def agent(lane):
    agent = Told(lane, background=False)
    yield agent
    agent.close()


def run(number, function=list, *inputs, scope=None):
    """An order for a task whose result is chunk ``number + 1``."""
    call = pack_call(function, (), {}, name="t")
    arguments = ((None,) * len(inputs), tuple(range(len(inputs))))
    outputs = (number + 1,)
    return msg.Run(
        number,
        f"t{number}",
        call.digest,
        call.function,
        (),
        arguments,
        HERE,
        inputs,
        outputs,
        scope,
    )


def chunk(number, value, scope=None):
    stored = StoredChunk(number, scope or AnyScope(), ELSEWHERE, type(value).__name__, 8)
    return stored, pack_value(value)


def labelled(*labels):
    """Word of the labels that the agent's process has from now on."""
    process = Process.with_threads(0, "a", 2)
    others = TOPOLOGY.without(0).processes
    topology = Topology([replace(process, labels=labels), *others])
    return msg.TopologyChanged(topology, {})


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def add(x, y):
    return x + y


def put(number, value, scope=None, *, reports=True):
    return msg.Put(number, pack_value(value), scope or AnyScope(), HERE, reports)


# -- running --------------------------------------------------------------------


def test_a_task_runs_and_its_result_is_kept(agent, lane):
    agent.receive([run(1)])
    lane.run()

    assert agent.ended() == [1]
    assert agent.store.value(2) == []


def test_a_number_comes_with_the_word_of_its_task_and_a_text_does_not(agent, lane):
    agent.receive([run(1, int), run(3, str)])
    lane.run()

    assert [report.value for report in agent.reports] == [(0,), None]


def test_a_task_waits_for_each_of_its_inputs(agent, lane):
    agent.receive([run(10, add, 2, 4)])
    assert not lane.jobs
    agent.exchange.take(1, [chunk(2, 1)])
    assert not lane.jobs
    agent.exchange.take(1, [chunk(4, 2)])
    lane.run()

    assert agent.ended() == [10]
    assert agent.store.value(11) == 3


def test_a_chain_runs_without_a_word_from_outside(agent, lane):
    agent.receive([run(1, int), run(3, abs, 2), run(5, abs, 4)])
    lane.run()

    assert agent.ended() == [1, 3, 5]


def test_an_input_that_is_named_twice_is_waited_for_once(agent, lane):
    agent.receive([run(10, add, 2, 2)])
    agent.exchange.take(1, [chunk(2, 4)])
    lane.run()

    assert agent.store.value(11) == 8


def test_a_failed_task_is_told_and_what_waits_for_it_is_not_started(agent, lane):
    agent.receive([run(1, divmod), run(3, abs, 2)])
    lane.run()

    assert [type(report) for report in agent.reports] == [msg.RunError]


def test_a_failed_task_s_error_comes_with_the_place(agent, lane):
    agent.receive([run(1, divmod)])
    lane.run()
    (report,) = agent.reports

    assert (report.task, report.error.type_name) == (1, "TypeError")
    assert report.error.place == "node a, worker 0, thread 0"
    assert report.started <= report.finished
    assert agent.statistics()["running"] == 0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_would_end_a_program_ends_its_task_alone(agent, lane, error):
    def work():
        raise error

    agent.receive([run(1, work), run(3)])
    lane.run()

    assert [type(report) for report in agent.reports] == [msg.RunError, msg.Finished]


def test_a_function_is_sent_once_and_kept_until_it_is_to_be_forgotten(agent, lane):
    first = run(1)
    again = run(3)._replace(function=None)
    agent.receive([first, again, run(5, str)._replace(forget=(first.digest,))])
    lane.run()

    assert agent.ended() == [1, 3, 5]
    assert agent.statistics()["functions"] == 1


def test_what_a_task_writes_is_told_before_its_end(agent, lane):
    def work():
        task = context.running_task.get()
        for word in ("one ", "two"):
            task.agent.write_output(task.id, "stdout", word)

    agent.receive([run(1, work)])
    lane.run()

    assert agent.reports[:-1] == [msg.Output(1, "stdout", "one "), msg.Output(1, "stdout", "two")]
    assert isinstance(agent.reports[-1], msg.Finished)


def test_a_function_may_be_an_input(agent, lane):
    order = run(10, int, 2)._replace(digest=agents.FIRST_INPUT, function=b"", arguments=((4,), ()))
    agent.receive([order])
    agent.exchange.take(1, [chunk(2, float)])
    lane.run()

    assert agent.store.value(11) == 4.0


# -- stopping -------------------------------------------------------------------------


def stop_me():
    task = context.running_task.get()
    task.agent.receive([msg.Stop((task.id,))])


def stopped(agent):
    return [(word.task, word.over, word.late) for word in agent.of_kind(msg.Stopped)]


def test_a_task_that_has_not_begun_is_taken_back_when_it_is_to_stop(agent, lane):
    agent.receive([run(1), run(10, abs, 20), msg.Stop((1, 10))])
    lane.run()

    assert stopped(agent) == [(1, True, False), (10, True, False)]
    assert [word.started for word in agent.of_kind(msg.Stopped)] == [None, None]
    assert agent.ended() == []
    assert agent._backlog.orders() == []
    assert not agent._backlog.lacks_inputs


def test_a_task_that_runs_gives_no_value_once_it_is_to_stop(agent, lane):
    def work():
        stop_me()
        stop_me()
        return "value"

    agent.receive([run(1, work), run(10, len, 2)])
    lane.run()

    assert stopped(agent) == [(1, False, False), (1, True, False)]
    assert agent.of_kind(msg.Stopped)[1].kept == (2,)
    assert agent.ended() == []
    assert agent.statistics()["running"] == 0
    assert agent.stops.marks == {}


def test_a_task_that_raises_while_it_is_to_stop_has_stopped(agent, lane):
    def work():
        stop_me()
        raise KeyError

    agent.receive([run(1, work)])
    lane.run()

    assert stopped(agent) == [(1, False, False), (1, True, False)]
    assert agent.of_kind(msg.RunError) == []


def test_of_a_task_that_has_ended_or_never_came_nothing_is_said(agent, lane):
    agent.receive([run(1)])
    lane.run()
    agent.receive([msg.Stop((1, 99))])
    agent.receive([run(99)])
    lane.run()

    assert stopped(agent) == []
    assert agent.ended() == [1, 99]


def test_what_is_to_stop_before_it_came_never_begins(agent, lane):
    agent.stop_early([1, 3])
    assert stopped(agent) == [(1, True, False), (3, True, False)]
    agent.receive([msg.Limit(1, 5.0), run(1), msg.Stop((1,))])
    assert lane.jobs == deque()
    assert agent.stops.limits == {}

    # the order behind ends what was said before it: a task may be sent again much later
    agent.receive([msg.Stop((3,)), run(3)])
    lane.run()
    assert agent.ended() == [3]
    assert len(stopped(agent)) == 2
    assert agent._doomed == {}


def test_the_result_of_a_stopped_task_is_sent_to_nobody(agent, lane):
    agent.receive([msg.Send(2, 1), run(1, stop_me)])
    lane.run()

    assert agent.pushed == []
    assert not agent.exchange.is_awaited


def test_code_asks_whether_it_is_to_stop(agent, lane):
    def work():
        before = sk.cancelled()
        stop_me()
        return before, sk.cancelled()

    agent.receive([run(1, work), run(3, sk.cancelled)])
    lane.run()

    assert agent.store.value(2) == (False, True)
    assert agent.store.value(4) is False
    assert not sk.cancelled()


def test_of_a_task_that_is_run_and_stopped_at_once_one_of_the_two_comes_true():
    agent = Told(ThreadLane("lane"), background=True)
    tasks = list(range(1, 2001, 2))
    for task in tasks:
        agent.receive([run(task, int), msg.Stop((task,))])

    def over():
        return [word.task for word in agent.of_kind(msg.Stopped) if word.over]

    until(lambda: len(agent.ended()) + len(over()) >= len(tasks))
    agent.close()

    assert sorted(agent.ended() + over()) == tasks
    begun = {word.task for word in agent.of_kind(msg.Stopped) if not word.over}
    assert not begun & set(agent.ended())


def test_a_task_stops_when_its_time_is_over():
    agent = Told(ThreadLane("lane"), background=True)
    go = threading.Event()
    order = run(1, int)
    agent.knows(order, lambda: go.wait(LIMIT))
    agent.receive([msg.Limit(1, 0.05), order, msg.Limit(3, 60.0), run(3)])
    until(lambda: stopped(agent) == [(1, False, True)])
    go.set()
    until(lambda: agent.ended() == [3])
    agent.close()

    assert stopped(agent) == [(1, False, True), (1, True, True)]
    assert agent.stops.limits == {}


def test_the_limit_of_a_task_goes_with_it(agent, lane):
    agent.receive([msg.Limit(1, 5.0), run(1), msg.Limit(3, 5.0), run(3), msg.GiveBack((1,))])
    lane.run()

    assert agent.stops.limits == {}


# -- values that are handed over ------------------------------------------------------


def test_a_chunk_that_is_handed_over_lives_here_and_is_told_of(agent):
    agent.receive([put(2, [1, 2])])

    (report,) = agent.of_kind(msg.ChunkPut)
    assert (report.chunk.id, report.chunk.processor, report.chunk.type) == (2, HERE, "list")
    assert agent.store.value(2) == [1, 2]


def test_the_copy_of_an_input_has_only_arrived(agent):
    agent.receive([put(2, [1], reports=False)])

    assert [report.chunks for report in agent.of_kind(msg.Arrived)] == [(2,)]


def test_what_is_handed_over_starts_what_waits_for_it(agent, lane):
    agent.receive([run(10, abs, 2), put(2, -3)])
    lane.run()

    assert agent.store.value(11) == 3


def test_what_cannot_be_read_is_told_and_starts_nothing(agent, lane):
    agent.receive([run(10, abs, 2), msg.Put(2, Parcel((b"no pickle",)), AnyScope(), HERE, True)])
    agent.exchange.take(1, [(chunk(4, 1)[0], b"no pickle")])

    assert [report.chunk for report in agent.of_kind(msg.PutFailed)] == [2, 4]
    assert not lane.jobs


def test_what_one_push_holds_beside_a_chunk_that_cannot_be_read_is_taken(agent):
    agent.exchange.take(1, [(chunk(4, 1)[0], b"no pickle"), chunk(6, "well")])

    assert agent.store.value(6) == "well"


def test_what_is_dropped_is_gone(agent, lane):
    agent.receive([run(1), put(5, "kept")])
    lane.run()
    agent.receive([msg.Drop((2, 99))])

    assert agent.statistics()["chunks"] == 1
    with pytest.raises(ChunkLostError):
        agent.exchange.give([2], 1)


# -- what may not come here --------------------------------------------------------


def test_a_task_whose_input_is_not_valid_here_goes_back_and_never_starts(agent, lane):
    agent.receive([run(10, abs, 2)])
    agent.exchange.take(1, [(2, ProcessScope(1))])
    lane.run()

    assert agent.handed_back() == [(10, 2, ProcessScope(1))]
    assert agent.ended() == []


def test_that_an_input_may_not_come_is_heard_also_before_the_task(agent, lane):
    agent.exchange.take(1, [(2, ProcessScope(1))])
    agent.receive([run(10, abs, 2)])
    lane.run()

    assert agent.handed_back() == [(10, 2, ProcessScope(1))]


def test_other_inputs_of_a_task_that_went_back_start_nothing(agent, lane):
    agent.receive([run(10, add, 2, 4)])
    agent.exchange.take(1, [(2, ProcessScope(1))])
    agent.exchange.take(1, [chunk(4, 2)])

    assert not lane.jobs


def test_a_chunk_outside_its_scope_is_not_kept(agent):
    agent.exchange.take(1, [chunk(2, "secret", ProcessScope(1))])

    assert 2 not in agent.store
    assert [type(report) for report in agent.reports] == [msg.PutFailed]
    assert "secret" not in repr(agent.reports)


READ = []


def note_read(number):
    READ.append(number)


class Opened:
    """Takes note when it is read."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return note_read, (self.number,)


@pytest.mark.parametrize("scope", [ProcessScope(1), LabelScope("none")])
def test_a_chunk_outside_its_scope_is_not_even_read(agent, scope):
    READ.clear()
    agent.exchange.take(1, [chunk(2, Opened(2), scope)])
    agent.receive([put(4, Opened(4), ProcessScope(1))])
    assert READ == []
    agent.exchange.take(1, [chunk(6, Opened(6))])

    assert READ == [6]


def test_a_task_on_a_thread_for_which_an_input_is_not_valid_goes_back_and_never_starts(agent, lane):
    other = ExactScope(ThreadProc(0, 1))
    agent.receive([put(2, 1, other), run(10, abs, 2)])
    lane.run()

    assert agent.handed_back() == [(10, 2, other)]
    assert agent.of_kind(msg.Finished) == agent.of_kind(msg.RunError) == []


def test_a_task_whose_input_is_dropped_before_it_begins_goes_back(agent, lane):
    agent.receive([put(2, 1), run(10, abs, 2), msg.Drop((2,))])
    lane.run()

    assert agent.handed_back() == [(10, 2, None)]
    assert agent.of_kind(msg.Finished) == agent.of_kind(msg.RunError) == []


def test_all_that_wait_for_an_input_that_may_not_come_go_back(agent):
    agent.receive([run(10, abs, 2), run(12, abs, 2), run(14, abs, 4)])
    agent.exchange.take(1, [(2, ProcessScope(1))])

    assert [task for task, _, _ in agent.handed_back()] == [10, 12]


def test_that_an_input_may_not_come_is_forgotten_with_the_input(agent, lane):
    agent.exchange.take(1, [(2, ProcessScope(1))])
    agent.receive([msg.Drop((2,)), run(10, abs, 2)])
    agent.exchange.take(1, [chunk(2, 1)])
    lane.run()

    assert agent.handed_back() == []
    assert agent.ended() == [10]


# -- taking back ----------------------------------------------------------------


def test_a_retracted_task_never_starts(agent, lane):
    agent.receive([run(1), run(3, abs, 2), msg.Retract((1, 3))])
    agent.exchange.take(1, [chunk(2, 1)])
    lane.run()

    assert agent.ended() == agent.handed_back() == []


def test_what_has_not_begun_is_given_back(agent, lane):
    agent.receive([run(1), run(3), msg.GiveBack((3, 99))])
    lane.run()

    assert agent.handed_back() == [(3, None, None)]
    assert agent.ended() == [1]


def test_what_waits_for_an_input_is_given_back_and_its_input_starts_nothing(agent, lane):
    agent.receive([run(10, abs, 2), run(12, add, 2, 4), msg.GiveBack((10,))])
    agent.exchange.take(1, [chunk(2, 1), chunk(4, 2)])
    lane.run()

    assert agent.handed_back() == [(10, None, None)]
    assert agent.ended() == [12]


def test_what_runs_is_neither_given_back_nor_retracted(agent, lane):
    def work():
        agent.receive([msg.GiveBack((1,)), msg.Retract((1,))])

    call = run(1, int)
    agent.knows(call, work)
    agent.receive([call])
    lane.run()

    assert agent.handed_back() == []
    assert agent.ended() == [1]


def test_what_was_given_back_may_come_again(agent, lane):
    agent.receive([run(1), msg.GiveBack((1,)), run(1)])
    lane.run()

    assert agent.handed_back() == [(1, None, None)]
    assert agent.ended() == [1]


def test_what_is_over_is_not_given_back(agent, lane):
    agent.receive([run(1)])
    lane.run()
    agent.receive([msg.GiveBack((1,))])

    assert agent.handed_back() == []


# -- sending chunks ----------------------------------------------------------------


def test_a_chunk_that_is_here_is_sent_at_once(agent, lane):
    agent.receive([run(1)])
    lane.run()
    agent.receive([msg.Send(2, 1)])

    ((worker, ((stored, parcel),)),) = agent.pushed
    assert (worker, stored.id, load_parcel(parcel)) == (1, 2, [])


def test_a_chunk_is_sent_as_soon_as_it_is_made(agent, lane):
    agent.receive([run(1), msg.Send(2, 1)])
    assert agent.pushed == []
    lane.run()

    assert [(worker, [head.id for head, _ in items]) for worker, items in agent.pushed] == [
        (1, [2])
    ]


def test_a_chunk_goes_on_as_soon_as_it_arrives(agent):
    agent.receive([msg.Send(2, 1)])
    agent.exchange.take(1, [chunk(2, 5)])

    assert [worker for worker, _ in agent.pushed] == [1]


def test_who_lies_outside_a_chunk_s_scope_is_told_so_and_gets_nothing(agent, lane):
    agent.receive([run(1, scope=ProcessScope(0)), msg.Send(2, 1)])
    lane.run()

    assert agent.pushed == [(1, [(2, ProcessScope(0))])]


def test_a_chunk_goes_to_all_who_are_to_have_it(agent, lane):
    agent.receive([msg.Send(2, 1), msg.Send(2, 3), run(1)])
    lane.run()

    assert sorted(worker for worker, _ in agent.pushed) == [1, 3]


def test_chunks_for_the_same_process_go_together(agent, lane):
    agent.receive([msg.Send(2, 1), msg.Send(4, 1)])
    agent.exchange.take(3, [chunk(2, "x"), chunk(4, "y")])

    ((_, items),) = agent.pushed
    assert [head.id for head, _ in items] == [2, 4]


def test_who_waits_for_a_chunk_that_does_not_pickle_is_told_that_it_stays(agent, lane):
    agent.receive([run(1, threading.Lock), msg.Send(2, 1)])
    lane.run()

    assert agent.pushed == [(1, [(2, ProcessScope(0))])]


def test_a_chunk_that_was_dropped_is_not_sent(agent, lane):
    agent.receive([run(1)])
    lane.run()
    agent.receive([msg.Drop((2,)), msg.Send(2, 1)])

    assert agent.pushed == []


def test_who_asks_is_given_what_its_scope_covers(agent):
    agent.receive([put(2, "secret", ProcessScope(0)), put(4, "open")])

    ((stored, parcel),) = agent.exchange.give([4], 1)
    assert (stored.id, load_parcel(parcel)) == (4, "open")
    with pytest.raises(ScopeViolationError):
        agent.exchange.give([4, 2], 1)


# -- on lanes as engines have them -----------------------------------------------------


def test_in_line_a_task_has_run_when_the_order_of_its_last_input_is_taken():
    agent = Told(InlineLane(), background=False)
    agent.receive([run(10, abs, 2)])
    assert agent.ended() == []
    agent.receive([run(1, int)])

    assert sorted(agent.ended()) == [1, 10]
    agent.close()


def test_reports_come_in_the_order_of_their_tasks():
    agent = Told(ThreadLane("lane"), background=True)
    agent.receive([run(1, int), *(run(n, abs, n - 1) for n in range(3, 401, 2))])
    until(lambda: len(agent.ended()) == 200)
    agent.close()

    assert agent.ended() == list(range(1, 401, 2))


def test_inputs_that_come_from_several_processes_at_once_start_each_task_once():
    agent = Told(ThreadLane("lane"), background=True)
    tasks = range(1000, 1400, 2)
    agent.receive([run(task, add, task + 10_000, task + 20_000) for task in tasks])
    start = threading.Barrier(2)

    def push(offset):
        start.wait(LIMIT)
        for task in tasks:
            agent.exchange.take(1, [chunk(task + offset, 1)])

    threads = [threading.Thread(target=push, args=(offset,)) for offset in (10_000, 20_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    until(lambda: len(agent.ended()) >= len(tasks))
    agent.close()

    assert sorted(agent.ended()) == list(tasks)
    assert not agent._backlog.lacks_inputs


def test_of_a_task_that_is_run_and_asked_back_at_once_one_of_the_two_comes_true():
    agent = Told(ThreadLane("lane"), background=True)
    tasks = list(range(1, 1001, 2))
    for task in tasks:
        agent.receive([run(task, int), msg.GiveBack((task,))])
    until(lambda: len(agent.ended()) + len(agent.handed_back()) >= len(tasks))
    agent.close()

    assert sorted(agent.ended() + [task for task, _, _ in agent.handed_back()]) == tasks


def test_tasks_are_handed_back_while_a_task_spawns_others():
    """Who spawns and who hands back want the same two locks."""

    def spawn_many():
        for _ in range(2000):
            sk.spawn(int)

    agent = Told(ThreadLane("lane"), background=True)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        agent.receive([run(1, spawn_many)])
        first = next(agent.children.ids())

        def take_back():
            while not agent.ended():
                recent = first + 2 * len(agent.children.waited_for)
                for order in (msg.GiveBack, msg.Stop, msg.Retract):
                    agent.receive([order(tuple(range(recent - 40, recent + 40, 2)))])

        taker = threading.Thread(target=take_back, daemon=True)
        taker.start()
        until(lambda: not taker.is_alive())
    finally:
        sys.setswitchinterval(switch)
    agent.close()


# -- in the background --------------------------------------------------------------


def test_copies_that_come_to_an_agent_that_ran_nothing_are_told_of(lane):
    agent = Told(lane, background=True)
    agent.exchange.take(1, [chunk(2, 5)])
    until(lambda: agent.of_kind(msg.Arrived))
    agent.close()


def test_a_task_that_runs_for_a_while_is_told_of_meanwhile():
    agent = Told(ThreadLane("lane"), background=True)
    go = threading.Event()
    order = run(1, int)
    agent.knows(order, lambda: go.wait(LIMIT))
    agent.receive([order])
    until(lambda: agent.of_kind(msg.Started))
    assert agent.ended() == []
    go.set()
    until(lambda: agent.ended() == [1])
    agent.close()

    assert [report.task for report in agent.of_kind(msg.Started)] == [1]


def test_a_chunk_that_came_is_not_asked_for_again(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([run(10, abs, 2), run(12, abs, 4)])
    agent.exchange.take(1, [chunk(2, 1)])
    until(lambda: len(agent.of_kind(msg.StillWaiting)) >= 2)
    agent.close()

    assert set(agent.of_kind(msg.StillWaiting)) == {msg.StillWaiting((4,))}


def test_a_chunk_that_does_not_come_is_asked_for_again(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([run(10, abs, 2)])
    until(lambda: msg.StillWaiting((2,)) in agent.reports)
    agent.close()


def test_a_chunk_is_asked_for_again_also_by_an_agent_that_had_nothing_to_do(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(reporter, "_AWAKE_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([run(1)])
    lane.run()
    until(lambda: agent.reporter._dozing)
    agent.receive([run(10, abs, 20)])
    until(lambda: msg.StillWaiting((20,)) in agent.reports)
    agent.close()


def test_what_is_to_be_sent_and_is_not_here_is_told_of_once(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([msg.Send(5, 1), run(10, abs, 20)])
    until(lambda: agent.of_kind(msg.StillWaiting).count(msg.StillWaiting((20,))) >= 3)
    agent.close()

    told = [chunk for report in agent.of_kind(msg.StillWaiting) for chunk in report.chunks]
    assert told.count(5) == 1


def test_what_is_to_be_sent_and_is_still_being_made_here_is_not_told_of(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([run(4, list), msg.Send(5, 1), run(10, abs, 20)])
    until(lambda: agent.of_kind(msg.StillWaiting).count(msg.StillWaiting((20,))) >= 4)
    lane.run()
    until(lambda: agent.pushed)
    agent.close()

    assert set(agent.of_kind(msg.StillWaiting)) == {msg.StillWaiting((20,))}


def test_a_task_whose_input_is_gone_when_it_begins_names_it(lane):
    agent = Told(lane, background=False)
    agent.receive([put(2, -3), run(10, abs, 2)])
    agent.store.drop([2])
    lane.run()
    agent.close()

    assert agent.of_kind(msg.HandedBack) == [msg.HandedBack(10, 2)]


def test_a_copy_that_is_refused_is_asked_for_again_only_if_there_is_none(lane):
    agent = Told(lane, background=False)
    scope = LabelScope("camera")
    agent.receive([labelled("camera"), put(2, 5, scope), labelled()])
    agent.exchange.take(1, [chunk(2, 5, scope)])
    assert agent.of_kind(msg.StillWaiting) == []

    agent.exchange.take(1, [chunk(3, 5, scope)])
    assert agent.of_kind(msg.StillWaiting) == [msg.StillWaiting((3,))]
    agent.close()


def test_a_closed_agent_runs_nothing_and_leaves_no_thread(lane):
    agent = Told(lane, background=True)
    agent.receive([run(1)])
    jobs = list(lane.jobs)
    agent.close()
    for job in jobs:
        job()

    assert agent.ended() == []
    assert not [t for t in threading.enumerate() if t.name.startswith("scopekit-publisher")]


def test_what_was_lent_and_cannot_be_read_is_asked_for(agent, lane, monkeypatch):
    stored, parcel = chunk(2, [7])
    over = Loan(1 << 22, 3, b"s" * 16, (1,))
    monkeypatch.setattr(agent.exchange, "_fetch", lambda worker, chunks: [(stored, parcel)])
    agent.receive([run(10, list, 2)])
    agent.exchange.take(1, [(stored, Parcel((), over))])
    assert 2 not in agent.store
    agent.exchange.ask_for_unread()

    assert agent.store.value(2) == [7]
    assert agent.of_kind(msg.PutFailed) == []


def test_who_writes_to_a_shared_input_is_told_what_to_do(agent, lane):
    def write(array):
        array[0] = 1

    frozen = np.zeros(3)
    frozen.flags.writeable = False
    agent.store.put(2, frozen, AnyScope(), HERE)
    agent.receive([run(10, write, 2)])
    lane.run()

    (failed,) = agent.of_kind(msg.RunError)
    assert "work on a copy" in failed.error.traceback_text


# -- pins ------------------------------------------------------------------------------


class Held:
    pass


def test_rules_of_the_session_hold_here_until_it_is_over(agent, lane):
    rule = Rule(keys=("test_agent:Held",), level="process", why="somebody says so")
    agent.receive([msg.PinsChanged(((rule.keys, dump_value(rule)),)), run(1, Held)])
    lane.run()

    (pinned,) = agent.of_kind(msg.Pinned)
    assert (pinned.chunk, pinned.scope) == (2, ProcessScope(0))
    assert pinned.why.startswith("a test_agent.Held: somebody says so")
    assert agent.reports.index(pinned) < agent.reports.index(agent.of_kind(msg.Finished)[0])
    agent.close()
    assert registry.rule_for(Held()) is None


def test_what_turns_out_to_stay_is_reported_once(agent, lane):
    class Stuck:
        def __reduce__(self):
            raise TypeError("not me")

    agent.receive([run(1, Stuck), msg.Send(2, 1), msg.Send(2, 1)])
    lane.run()

    (pinned,) = agent.of_kind(msg.Pinned)
    assert "does not pickle" in pinned.why
    assert "not me" not in pinned.why
