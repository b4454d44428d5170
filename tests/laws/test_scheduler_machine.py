"""The scheduler against any sequence of events that engines and users can make."""

import figures
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from scopekit.graph import FINAL_STATES, ChunkRecord, Input, StoredChunk, TaskSpec
from scopekit.places import Process, Topology
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scopes import (
    AnyScope,
    DefaultScope,
    ExactScope,
    LabelScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
)
from scopekit.testing.invariants import Invariants
from scopekit.testing.watching import watch

COUNTED = {"runs": 0, "events": 0, "tasks": 0}
NODES = "aabb"
LEAVES = st.one_of(
    st.sampled_from([AnyScope(), DefaultScope(), NodeScope("a"), NodeScope("b"), NodeScope("c")]),
    st.sampled_from([LabelScope("camera"), ProcessorTypeScope(ThreadProc, NodeScope("b"))]),
    st.integers(0, 4).map(ProcessScope),
    st.integers(0, 3).map(lambda worker: ExactScope(ThreadProc(worker, 1))),
)
SCOPES = st.one_of(
    LEAVES,
    st.builds(lambda one, other: one | other, LEAVES, LEAVES),
    st.builds(lambda one, other: one & other, LEAVES, LEAVES),
)


def process(worker, node):
    return Process.with_threads(worker, node, 2, ("camera",) if worker % 2 else ())


class Engine:
    """The model of an engine: which tasks it was sent, which chunks it has."""

    def __init__(self):
        self.sent = {}
        self.begun = set()
        self.store = {}
        self.wanted = {}

    def ready(self, needs):
        return [
            task for task in self.sent if task not in self.begun and needs(task) <= set(self.store)
        ]

    def waiting(self, needs):
        return [task for task in self.sent if needs(task) - set(self.store)]


class SchedulerMachine(RuleBasedStateMachine):
    """Users spawn, put, drop and cancel; engines run, send, fail, come and go; time passes."""

    def __init__(self):
        super().__init__()
        workers = range(len(NODES))
        topology = Topology(process(worker, NODES[worker]) for worker in workers)
        self.scheduler = Scheduler(topology)
        watch(self.scheduler)
        self.handles = {}
        self.watched = Invariants(self.scheduler, self.handles)
        self.engines = {worker: Engine() for worker in workers}
        self.specs = {}
        self.starts = {}
        self.failures = {}
        self.done = set()
        self.held = []
        self.past = []
        self.asked = ()
        self.now = 0.0
        self.next_worker = len(NODES)
        self.next_task = 10

    # -- the model ----------------------------------------------------------------------

    def needs(self, task):
        return {need.chunk for need in self.specs[task].inputs}

    def tick(self, seconds=0.01):
        self.now += seconds
        return self.now

    def handle(self, event):
        commands = self.scheduler.handle(event)
        self.watched.after(event, commands)
        for command in commands:
            self.carry_out(command)
        return commands

    def carry_out(self, command):
        match command:
            case ev.StartRun(task, processor):
                self.engines[processor.worker].sent[task] = processor
            case ev.SendChunk(chunk, holder, to):
                self.engines[holder].wanted.setdefault(chunk, set()).add(to)
            case ev.DropChunks(worker, chunks):
                for chunk in chunks:
                    self.engines[worker].store.pop(chunk, None)
            case ev.RetractRuns(worker, tasks):
                for task in set(tasks) - self.engines[worker].begun:
                    self.engines[worker].sent.pop(task, None)
            case ev.RunsAskedBack(worker, tasks):
                self.asked += tuple((worker, task) for task in tasks)
            case ev.Settle(task, "done"):
                self.done.add(task)

    def say(self, event):
        """Takes in the word of an engine, and keeps it: it may come again, too late."""
        self.past.append(event)
        self.handle(event)

    def pick(self, data, options):
        return data.draw(st.sampled_from(sorted(options, key=str)))

    def with_work(self, kind):
        return [w for w, engine in self.engines.items() if getattr(engine, kind)(self.needs)]

    def begin(self, worker, task):
        engine = self.engines[worker]
        engine.begun.add(task)
        self.starts[task] = self.starts.get(task, 0) + 1
        spec = self.specs[task]
        processor = engine.sent[task]
        topology = self.scheduler.topology
        for _, scope in spec.operands:
            assert topology.contains(scope, processor), (task, scope)
        for chunk in self.needs(task):
            assert topology.contains(engine.store[chunk], processor), (task, chunk)
        assert self.done >= set(spec.after), f"{task} began before {spec.after} had ended"
        assert task not in self.held, f"{task} began before its block had ended"
        if not spec.idempotent:
            assert self.starts[task] <= 1 + self.failures.get(task, 0), f"{task} began again"

    def may_begin(self, worker, task):
        """Begins a task, unless an input turns out not to be valid there."""
        engine = self.engines[worker]
        if task in engine.begun:
            return True
        for chunk in sorted(self.needs(task)):
            scope = engine.store[chunk]
            if not self.scheduler.topology.contains(scope, engine.sent[task]):
                del engine.sent[task]
                self.say(ev.RunHandedBack(task, worker, chunk, scope, self.tick()))
                return False
        self.begin(worker, task)
        return True

    # -- users ----------------------------------------------------------------------------

    @rule(
        data=st.data(),
        scope=SCOPES,
        wait_for=st.sampled_from([0.0, 0.0, 3.0]),
        result_scope=st.one_of(st.none(), st.none(), SCOPES),
        idempotent=st.booleans(),
        retries=st.integers(0, 1),
        outputs=st.sampled_from([1, 1, 2]),
        function=st.sampled_from("fgh"),
        held=st.sampled_from([False, False, False, True]),
    )
    def spawn(self, data, scope, result_scope, outputs, **options):
        held = sorted(chunk for chunk, count in self.handles.items() if count)
        inputs = []
        if held:
            inputs = data.draw(st.lists(st.sampled_from(held), max_size=3, unique=True))
        before = [task for task in self.specs if task in self.scheduler.tasks]
        after = ()
        if before and data.draw(st.sampled_from([False, False, True])):
            after = tuple(data.draw(st.lists(st.sampled_from(before), max_size=2, unique=True)))
        task, self.next_task = self.next_task, self.next_task + 10
        operands = (("scope=", scope),)
        if result_scope is not None:
            operands += (("result_scope=", result_scope),)
        spec = TaskSpec(
            id=task,
            name=f"t{task}",
            operands=operands,
            inputs=tuple(
                Input(f"argument {place}", chunk, handle=not chunk % 10)
                for place, chunk in enumerate(inputs)
            ),
            outputs=tuple(task + 1 + number for number in range(outputs)),
            result_scope=result_scope,
            after=after,
            **options,
        )
        self.specs[task] = spec
        if spec.held:
            self.held.append(task)
        self.handles.update(dict.fromkeys(spec.outputs, 1))
        self.handle(ev.TaskSpawned(spec, self.tick()))

    @precondition(lambda self: self.held)
    @rule()
    def end_block(self):
        held, self.held = self.held, []
        self.handle(ev.BlockEnded(tuple(held), self.tick()))

    @rule(data=st.data(), scope=SCOPES)
    def put(self, data, scope):
        topology = self.scheduler.topology
        homes = topology.select(topology.mask(scope))
        if not homes:
            return
        home = self.pick(data, homes)
        chunk, self.next_task = self.next_task, self.next_task + 10
        self.handles[chunk] = 1
        self.scheduler.expect(ChunkRecord(chunk, scope, processor=home, type="int", handles=1))
        stored = StoredChunk(chunk, scope, home, "int", 8)
        if data.draw(st.booleans()):
            self.engines[home.worker].store[chunk] = scope
            self.handle(ev.ChunkStored(stored, home.worker, self.tick()))
        else:
            self.say(ev.ChunkFailed(chunk, home.worker, ValueError("unreadable"), self.tick()))

    @precondition(lambda self: any(self.handles.values()))
    @rule(data=st.data(), more=st.booleans())
    def count_handles(self, data, more):
        chunk = self.pick(data, [chunk for chunk, count in self.handles.items() if count])
        record = self.scheduler.chunks.get(chunk)
        if more and record is not None and record.state == "held":
            self.handles[chunk] += 1
            self.handle(ev.HandlesAdded((chunk,)))
        elif not more:
            self.handles[chunk] -= 1
            self.handle(ev.HandlesDropped((chunk,)))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def cancel(self, data):
        task = self.pick(data, self.specs)
        began = self.starts.get(task, 0)
        self.handle(ev.CancelAsked(task, self.tick()))
        record = self.scheduler.tasks.get(task)
        if record is not None and record.state == "cancelled" and not record.spec.idempotent:
            assert began <= self.failures.get(task, 0), "it was cancelled, and had begun"

    @rule(seconds=st.sampled_from([0.5, 5.0]))
    def time_passes(self, seconds):
        self.handle(ev.TimePassed(self.tick(seconds)))

    # -- engines --------------------------------------------------------------------------

    @precondition(lambda self: self.with_work("ready"))
    @rule(data=st.data())
    def start(self, data):
        worker = self.pick(data, self.with_work("ready"))
        task = self.pick(data, self.engines[worker].ready(self.needs))
        if self.may_begin(worker, task):
            self.say(ev.RunStarted(task, worker, self.tick()))

    def runnable(self):
        return [w for w, e in self.engines.items() if e.begun or e.ready(self.needs)]

    @precondition(lambda self: self.runnable())
    @rule(
        data=st.data(),
        took=st.sampled_from([1e-4, 0.01, 2.0]),
        turns=st.sampled_from(["", "", "process", "node"]),
        fails=st.sampled_from([False, False, False, True]),
    )
    def end(self, data, took, turns, fails):
        worker = self.pick(data, self.runnable())
        engine = self.engines[worker]
        task = self.pick(data, [*engine.begun, *engine.ready(self.needs)])
        self.end_run(worker, task, took, turns, fails=fails)

    def end_run(self, worker, task, took=0.01, turns="", *, fails=False):
        engine = self.engines[worker]
        if not self.may_begin(worker, task):
            return
        engine.begun.remove(task)
        processor = engine.sent.pop(task)
        finished = self.tick()
        if fails:
            if self.watched.live.get(task) == worker:
                self.failures[task] = self.failures.get(task, 0) + 1
            self.say(ev.RunFailed(task, worker, ValueError("boom"), finished - took, finished))
            return
        scope = {
            "process": ProcessScope(worker),
            "node": NodeScope(self.scheduler.topology.node_of(worker)),
        }.get(turns, self.specs[task].result_scope or AnyScope())
        outputs = self.specs[task].outputs
        engine.store.update(dict.fromkeys(outputs, scope))
        results = tuple(StoredChunk(chunk, scope, processor, "int", 8) for chunk in outputs)
        self.say(ev.RunFinished(task, worker, results, finished - took, finished))

    def deliverable(self):
        return [
            (worker, chunk, to)
            for worker, engine in self.engines.items()
            for chunk in engine.wanted
            if chunk in engine.store
            for to in engine.wanted[chunk]
        ]

    @precondition(lambda self: self.deliverable())
    @rule(data=st.data(), lost=st.sampled_from([False, False, False, True]))
    def deliver(self, data, lost):
        self.deliver_one(*self.pick(data, self.deliverable()), lost=lost)

    def deliver_one(self, worker, chunk, to, *, lost=False):
        engine = self.engines[worker]
        engine.wanted[chunk].discard(to)
        target = self.engines.get(to)
        if lost or target is None:
            return
        scope = engine.store[chunk]
        if self.scheduler.topology.admits(scope, to):
            target.store[chunk] = scope
            self.say(ev.ChunksArrived(to, (chunk,), self.now))
            return
        for task in target.waiting(self.needs):
            if chunk in self.needs(task) and task in target.sent:
                del target.sent[task]
                self.say(ev.RunHandedBack(task, to, chunk, scope, self.tick()))

    @precondition(lambda self: self.with_work("waiting"))
    @rule(data=st.data())
    def miss(self, data):
        self.miss_all(self.pick(data, self.with_work("waiting")))

    def miss_all(self, worker):
        engine = self.engines[worker]
        late = {c for task in engine.waiting(self.needs) for c in self.needs(task)}
        missed = tuple(sorted(late - set(engine.store)))
        if missed:
            self.say(ev.ChunksMissed(worker, missed, self.tick()))

    @precondition(lambda self: self.asked)
    @rule()
    def give_back(self):
        asked, self.asked = self.asked, ()
        for worker, task in asked:
            engine = self.engines.get(worker)
            if engine is not None and task in engine.sent and task not in engine.begun:
                del engine.sent[task]
                self.say(ev.RunHandedBack(task, worker, None, None, self.tick()))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def the_dead_speak(self, data):
        """What a process said that is gone comes again: it must change nothing but copies."""
        event = data.draw(st.sampled_from(self.past))
        worker = getattr(event, "worker", None)
        if worker is None or worker in self.engines:
            return
        states = {task: record.state for task, record in self.scheduler.tasks.items()}
        self.handle(event)
        assert states == {task: record.state for task, record in self.scheduler.tasks.items()}

    # -- they come and go -----------------------------------------------------------------

    @rule(node=st.sampled_from("abc"))
    def join(self, node):
        worker, self.next_worker = self.next_worker, self.next_worker + 1
        self.engines[worker] = Engine()
        self.handle(ev.WorkerJoined(process(worker, node), self.tick()))

    @precondition(lambda self: self.engines)
    @rule(data=st.data(), planned=st.booleans())
    def leave(self, data, planned):
        worker = self.pick(data, self.engines)
        del self.engines[worker]
        self.handle(ev.WorkerLeft(worker, self.tick(), planned))

    # -- the end --------------------------------------------------------------------------

    def teardown(self):
        """Every wait ends once engines finish what they have, and the clock goes on."""
        self.count()
        if self.held:
            self.end_block()
        for _ in range(60):
            if not self.go_on():
                break
        unfinished = {
            task: record.state
            for task, record in self.scheduler.tasks.items()
            if record.state not in FINAL_STATES
        }
        assert unfinished == {}
        for chunk, count in self.handles.items():
            self.handles[chunk] = 0
            if count:
                self.handle(ev.HandlesDropped((chunk,) * count))
        assert self.scheduler.chunks == {}

    def count(self):
        COUNTED["runs"] += 1
        COUNTED["events"] += self.watched._events
        COUNTED["tasks"] += len(self.scheduler.tasks)
        told = ", ".join(f"{count} {what}" for what, count in COUNTED.items())
        figures.tell("scheduler against its model", told)

    def go_on(self):
        """Does once all that can be done; returns whether there was anything."""
        before = self.watched._events
        self.give_back()
        for worker in list(self.engines):
            for task in [*self.engines[worker].begun, *self.engines[worker].ready(self.needs)]:
                if task in self.engines[worker].sent:
                    self.end_run(worker, task)
        for way in self.deliverable():
            if way in self.deliverable():
                self.deliver_one(*way)
        for worker in list(self.engines):
            self.miss_all(worker)
        if self.scheduler.next_deadline() is not None:
            self.handle(ev.TimePassed(self.tick(100.0)))
        return self.watched._events > before


SchedulerMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None
)
TestSchedulerMachine = SchedulerMachine.TestCase
