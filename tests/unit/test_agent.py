"""An agent by itself: orders in, reports out, tasks on a lane that runs when it is told to."""

import threading
import time
from collections import deque

import pytest

from scopekit.engine import agent as agents
from scopekit.engine.agent import Agent
from scopekit.graph import StoredChunk
from scopekit.places import Process, Topology
from scopekit.scopes import AnyScope, ProcessScope, ThreadProc
from scopekit.wire import messages as msg
from scopekit.wire.codec import dump_value, load_value, pack_call

HERE = ThreadProc(0, 0)
ELSEWHERE = ThreadProc(1, 0)
TOPOLOGY = Topology([Process.with_threads(0, "a"), Process.with_threads(1, "b")])
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
    return stored, dump_value(value)


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def add(x, y):
    return x + y


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
    agent.take(1, [chunk(2, 1)])
    assert not lane.jobs
    agent.take(1, [chunk(4, 2)])
    lane.run()

    assert agent.ended() == [10]
    assert agent.store.value(11) == 3


def test_a_chain_runs_without_a_word_from_outside(agent, lane):
    agent.receive([run(1, int), run(3, abs, 2), run(5, abs, 4)])
    lane.run()

    assert agent.ended() == [1, 3, 5]


def test_an_input_that_is_named_twice_is_waited_for_once(agent, lane):
    agent.receive([run(10, add, 2, 2)])
    agent.take(1, [chunk(2, 4)])
    lane.run()

    assert agent.store.value(11) == 8


def test_a_failed_task_is_told_and_what_waits_for_it_is_not_started(agent, lane):
    agent.receive([run(1, divmod), run(3, abs, 2)])
    lane.run()

    assert [type(report) for report in agent.reports] == [msg.RunError]


# -- what may not come here --------------------------------------------------------


def test_a_task_whose_input_is_not_valid_here_goes_back_and_never_starts(agent, lane):
    agent.receive([run(10, abs, 2)])
    agent.take(1, [(2, ProcessScope(1))])
    lane.run()

    assert agent.handed_back() == [(10, 2, ProcessScope(1))]
    assert agent.ended() == []


def test_that_an_input_may_not_come_is_heard_also_before_the_task(agent, lane):
    agent.take(1, [(2, ProcessScope(1))])
    agent.receive([run(10, abs, 2)])
    lane.run()

    assert agent.handed_back() == [(10, 2, ProcessScope(1))]


def test_other_inputs_of_a_task_that_went_back_start_nothing(agent, lane):
    agent.receive([run(10, add, 2, 4)])
    agent.take(1, [(2, ProcessScope(1))])
    agent.take(1, [chunk(4, 2)])

    assert not lane.jobs


def test_a_chunk_outside_its_scope_is_not_kept(agent):
    agent.take(1, [chunk(2, "secret", ProcessScope(1))])

    assert 2 not in agent.store
    assert [type(report) for report in agent.reports] == [msg.PutFailed]
    assert "secret" not in repr(agent.reports)


# -- taking back ----------------------------------------------------------------


def test_a_retracted_task_never_starts(agent, lane):
    agent.receive([run(1), run(3, abs, 2), msg.Retract((1, 3))])
    agent.take(1, [chunk(2, 1)])
    lane.run()

    assert agent.ended() == agent.handed_back() == []


def test_what_has_not_begun_is_given_back(agent, lane):
    agent.receive([run(1), run(3), msg.GiveBack((3, 99))])
    lane.run()

    assert agent.handed_back() == [(3, None, None)]
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

    ((worker, ((stored, pickled),)),) = agent.pushed
    assert (worker, stored.id, load_value(pickled)) == (1, 2, [])


def test_a_chunk_is_sent_as_soon_as_it_is_made(agent, lane):
    agent.receive([run(1), msg.Send(2, 1)])
    assert agent.pushed == []
    lane.run()

    assert [(worker, [head.id for head, _ in items]) for worker, items in agent.pushed] == [
        (1, [2])
    ]


def test_a_chunk_goes_on_as_soon_as_it_arrives(agent):
    agent.receive([msg.Send(2, 1)])
    agent.take(1, [chunk(2, 5)])

    assert [worker for worker, _ in agent.pushed] == [1]


def test_who_lies_outside_a_chunk_s_scope_is_told_so_and_gets_nothing(agent, lane):
    agent.receive([run(1, scope=ProcessScope(0)), msg.Send(2, 1)])
    lane.run()

    assert agent.pushed == [(1, [(2, ProcessScope(0))])]


# -- in the background --------------------------------------------------------------


def test_copies_that_come_to_an_agent_that_ran_nothing_are_told_of(lane):
    agent = Told(lane, background=True)
    agent.take(1, [chunk(2, 5)])
    until(lambda: msg.Arrived((2,)) in agent.reports)
    agent.close()


def test_a_chunk_that_does_not_come_is_asked_for_again(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([run(10, abs, 2)])
    until(lambda: msg.StillWaiting((2,)) in agent.reports)
    agent.close()


def test_a_chunk_is_asked_for_again_also_by_an_agent_that_had_nothing_to_do(lane, monkeypatch):
    monkeypatch.setattr(agents, "_ASK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(agents, "_AWAKE_SECONDS", 0.05)
    agent = Told(lane, background=True)
    agent.receive([run(1)])
    lane.run()
    until(lambda: agent._dozing)
    agent.receive([run(10, abs, 20)])
    until(lambda: msg.StillWaiting((20,)) in agent.reports)
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
