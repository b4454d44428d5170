"""The scheduler against any sequence of events that engines and users can make."""

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scheduling import HOMES, Watched, cluster

from scopekit.graph import FINAL_STATES
from scopekit.scheduler import events as ev
from scopekit.scopes import AnyScope, DefaultScope, ExactScope, NodeScope, ProcessScope, ThreadProc

SCOPES = st.one_of(
    st.sampled_from([AnyScope(), DefaultScope(), NodeScope("a"), NodeScope("b"), NodeScope("c")]),
    st.integers(0, 3).map(ProcessScope),
    st.integers(0, 3).map(lambda worker: ExactScope(ThreadProc(worker, 0))),
)


class SchedulerMachine(RuleBasedStateMachine):
    """Users spawn, drop and cancel; engines run, fail, come and go; time passes."""

    def __init__(self):
        super().__init__()
        self.watched = Watched(cluster(threads=2))
        self.homes = dict(HOMES)
        self.next_task = 1
        self.next_worker = 4
        self.handles = set()

    @property
    def scheduler(self):
        return self.watched.scheduler

    def in_state(self, *states):
        return [n for n, record in self.scheduler.tasks.items() if record.state in states]

    def sent(self):
        return [
            number
            for number in self.in_state("queued", "running")
            if self.scheduler.tasks[number].processor is not None
        ]

    @rule(
        data=st.data(),
        scope=st.one_of(SCOPES, st.builds(lambda a, b: a | b, SCOPES, SCOPES)),
        wait_for=st.sampled_from([0.0, 0.0, 3.0]),
        result_scope=st.one_of(st.none(), SCOPES),
        idempotent=st.booleans(),
        function=st.sampled_from("fgh"),
    )
    def spawn(self, data, scope, **options):
        inputs = []
        if self.handles:
            inputs = data.draw(st.lists(st.sampled_from(sorted(self.handles)), max_size=3))
        number, self.next_task = self.next_task, self.next_task + 2
        self.handles.add(number + 1)
        self.watched.spawn(number, *inputs, scope=scope, **options)

    @precondition(lambda self: self.sent())
    @rule(data=st.data())
    def start(self, data):
        self.watched.start(data.draw(st.sampled_from(self.sent())))

    @precondition(lambda self: self.sent())
    @rule(data=st.data(), took=st.sampled_from([1e-4, 0.01, 2.0]), pinned=st.booleans())
    def finish(self, data, took, pinned):
        number = data.draw(st.sampled_from(self.sent()))
        worker = self.watched.worker_of(number)
        declared = self.scheduler.tasks[number].spec.result_scope
        scope = ProcessScope(worker) if pinned else declared
        replicas = tuple(need.chunk for need in self.scheduler.tasks[number].spec.inputs)
        self.watched.finish(number, scope=scope, took=took, replicas=replicas)

    @precondition(lambda self: self.sent())
    @rule(data=st.data())
    def fail(self, data):
        self.watched.fail(data.draw(st.sampled_from(self.sent())))

    @precondition(lambda self: self.scheduler.tasks)
    @rule(data=st.data(), worker=st.integers(0, 9))
    def report_of_a_stranger(self, data, worker):
        number = data.draw(st.sampled_from(sorted(self.scheduler.tasks)))
        processor = self.scheduler.tasks[number].processor
        assume(number not in self.sent() or processor.worker != worker)

        assert self.watched.finish(number, worker=worker) == []
        assert self.watched.fail(number, worker=worker) == []

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def drop(self, data):
        chunk = data.draw(st.sampled_from(sorted(self.handles)))
        self.handles.remove(chunk)
        self.watched.drop(chunk)

    @precondition(lambda self: self.scheduler.tasks)
    @rule(data=st.data())
    def cancel(self, data):
        self.watched.cancel(data.draw(st.sampled_from(sorted(self.scheduler.tasks))))

    @rule(node=st.sampled_from("abc"))
    def join(self, node):
        self.look_at_the_clock()
        self.homes[self.next_worker] = node
        self.watched.join(self.next_worker, node, threads=2)
        self.next_worker += 1

    @precondition(lambda self: len(self.homes) > 1)
    @rule(data=st.data())
    def leave(self, data):
        worker = data.draw(st.sampled_from(sorted(self.homes)))
        assume(not self.would_lose_an_input(worker))
        self.look_at_the_clock()
        del self.homes[worker]
        self.watched.leave(worker)

    def look_at_the_clock(self):
        """That a deadline passes unseen is marked as not holding yet, in the unit tests."""
        self.watched.handle(ev.TimePassed(self.watched.now + 1.0))

    def would_lose_an_input(self, worker):
        """That case is marked as not holding yet, in the unit tests."""
        waiting = set(self.in_state("waiting", "unmatched", "queued")) - set(self.sent())
        return any(
            self.scheduler.chunks[need.chunk].holders == [worker]
            for number in waiting
            for need in self.scheduler.tasks[number].spec.inputs
        )

    @rule(seconds=st.sampled_from([0.5, 5.0]))
    def time_passes(self, seconds):
        self.watched.now += seconds
        self.watched.handle(ev.TimePassed(self.watched.now))

    @invariant()
    def nothing_waits_where_there_is_room(self):
        loads = self.scheduler._loads
        for number in self.in_state("queued"):
            record = self.scheduler.tasks[number]
            if record.processor is None:
                allowed = self.scheduler.topology.select(record.allowed)
                assert not any(loads[processor].tasks == 0 for processor in allowed), number

    def teardown(self):
        """Every wait ends: once engines finish what they have, nothing is left but deadlines."""
        while sent := self.sent():
            self.watched.finish(sent[0])
        self.watched.now += 100.0
        self.watched.handle(ev.TimePassed(self.watched.now))
        while sent := self.sent():
            self.watched.finish(sent[0])

        assert self.in_state("waiting", "queued", "unmatched", "running") == []
        assert set(self.watched.final.values()) <= set(FINAL_STATES)


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestSchedulerMachine = SchedulerMachine.TestCase
