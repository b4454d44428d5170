"""The scheduler against any sequence of events that engines and users can make."""

from dataclasses import replace

import figures
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from scopekit.errors import ScopeViolationError
from scopekit.graph import FINAL_STATES, ChunkRecord, Input, StoredChunk, TaskSpec, Wish
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


WISHES = st.one_of(
    st.just(()),
    st.lists(
        st.builds(Wish, LEAVES, st.sampled_from([0.0, 0.02, 3.0])), min_size=1, max_size=3
    ).map(tuple),
)


def process(worker, node):
    return Process.with_threads(worker, node, 2, ("camera",) if worker % 2 else ())


class Engine:
    """The model of an engine: which tasks it was sent, which chunks it has."""

    def __init__(self):
        self.sent = {}
        self.begun = set()
        self.stopped = set()
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
        self.past = []
        self.judged = {}
        self.asked = ()
        self.to_stop = ()
        self.to_kill = ()
        self.held = []
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
                self.judged[task, processor.worker] = self.scheduler.topology
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
            case ev.StopRuns(worker, tasks):
                self.to_stop += tuple((worker, task) for task in tasks)
            case ev.KillWorker(worker):
                self.to_kill += (worker,)

    def say(self, event):
        """Takes in the word of an engine, and keeps it: it may come again, too late."""
        self.past.append(event)
        self.handle(event)

    def pick(self, data, options):
        return data.draw(st.sampled_from(sorted(options, key=str)))

    def some_of(self, data, options, most):
        if not options:
            return []
        return data.draw(st.lists(st.sampled_from(options), max_size=most, unique=True))

    def with_work(self, kind):
        return [w for w, engine in self.engines.items() if getattr(engine, kind)(self.needs)]

    def begin(self, worker, task):
        engine = self.engines[worker]
        engine.begun.add(task)
        self.starts[task] = self.starts.get(task, 0) + 1
        spec = self.specs[task]
        processor = engine.sent[task]
        topology = self.scheduler.topology
        # What is asked back since labels changed may begin before the word comes.
        known = (topology, self.judged[task, worker])
        for _, scope in spec.operands:
            assert any(each.contains(scope, processor) for each in known), (task, scope)
        for chunk in self.needs(task):
            assert topology.contains(engine.store[chunk], processor), (task, chunk)
        assert task not in self.held
        for before in spec.after:
            assert self.watched.settled.get(before) == "done", (task, before)
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
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        prefer=WISHES,
        outputs=st.sampled_from([1, 1, 2]),
        function=st.sampled_from("fgh"),
        held=st.sampled_from([False, False, False, True]),
    )
    def spawn(self, data, scope, result_scope, outputs, **options):
        kept = sorted(chunk for chunk, count in self.handles.items() if count)
        inputs = self.some_of(data, kept, 3)
        follows = data.draw(st.sampled_from([False, False, True]))
        after = tuple(self.some_of(data, sorted(self.specs), 2)) if follows else ()
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
        """What was spawned in a block is let go where that ends."""
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
    @rule(data=st.data(), grace=st.sampled_from([None, None, 0.0, 1.0]))
    def cancel(self, data, grace):
        task = self.pick(data, self.specs)
        # The handle of what ended otherwise asks nobody.
        if self.watched.settled.get(task) in (None, "cancelled"):
            self.handle(ev.CancelAsked(task, self.tick(), grace))

    @precondition(lambda self: self.to_stop)
    @rule()
    def stop(self):
        """Engines answer that they took a task back, or that it stops; it may go on a while."""
        to_stop, self.to_stop = self.to_stop, ()
        for worker, task in to_stop:
            engine = self.engines.get(worker)
            if engine is None or task not in engine.sent or task in engine.stopped:
                continue
            processor, at = engine.sent[task], self.tick()
            if task in engine.begun:
                engine.stopped.add(task)
                self.say(ev.RunStopped(task, worker, processor, False, False, at, at))
            else:
                del engine.sent[task]
                self.say(ev.RunStopped(task, worker, processor, True, False, None, at))

    @precondition(lambda self: self.to_kill)
    @rule()
    def kill(self):
        to_kill, self.to_kill = self.to_kill, ()
        for worker in to_kill:
            if self.engines.pop(worker, None) is not None:
                self.handle(ev.WorkerLeft(worker, self.tick(), planned=True))

    @precondition(lambda self: any(engine.begun for engine in self.engines.values()))
    @rule(data=st.data())
    def take_too_long(self, data):
        worker = self.pick(data, [w for w, engine in self.engines.items() if engine.begun])
        engine = self.engines[worker]
        task = self.pick(data, engine.begun)
        if task not in engine.stopped:
            engine.stopped.add(task)
            processor, at = engine.sent[task], self.tick()
            self.say(ev.RunStopped(task, worker, processor, False, True, at, at))

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
        if task in engine.stopped:
            engine.stopped.remove(task)
            self.say(ev.RunStopped(task, worker, processor, True, False, finished, finished))
            return
        if fails:
            if self.watched.live.get(task) == worker:
                self.failures[task] = self.failures.get(task, 0) + 1
            self.say(ev.RunFailed(task, worker, ValueError("boom"), finished - took, finished))
            return
        scope = {
            "process": ProcessScope(worker),
            "node": NodeScope(self.scheduler.topology.node_of(worker)),
        }.get(turns, self.specs[task].result_scope or AnyScope())
        if not self.scheduler.topology.admits(scope, worker):
            if self.watched.live.get(task) == worker:
                self.failures[task] = self.failures.get(task, 0) + 1
            refusal = ScopeViolationError("not here any more")
            self.say(ev.RunFailed(task, worker, refusal, finished - took, finished))
            return
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
        if not target.waiting(self.needs):
            self.say(ev.ChunkPinned(chunk, scope))
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
    @rule(data=st.data(), labels=st.sampled_from([(), ("camera",)]))
    def relabel(self, data, labels):
        worker = self.pick(data, self.engines)
        changed = replace(self.scheduler.topology.process(worker), labels=labels)
        self.handle(ev.ProcessesChanged((changed,), self.tick()))

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
        if self.held:
            self.end_block()
        self.give_back()
        self.stop()
        self.kill()
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
