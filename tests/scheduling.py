"""What tests of the pure scheduler share: short ways to say events, a watch over its records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from scopekit.graph import FINAL_STATES, TASK_STATES, Input, StoredChunk, TaskSpec
from scopekit.places import Process, Topology
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scheduler.states import CHUNK_MOVES, TASK_MOVES
from scopekit.scopes import AnyScope, ThreadProc

# Functions of which a result was seen, and was valid anywhere.
PLAIN = ("f", "learnt", "long", "slow")
HOMES = {0: "a", 1: "a", 2: "b", 3: "b"}


def cluster(homes=HOMES, threads=1):
    return Topology(Process.with_threads(worker, node, threads) for worker, node in homes.items())


def task(number, *inputs, scope=None, function="f", outputs=None, **options):
    """A task whose result is chunk ``number + 1``; inputs are numbers of chunks."""
    needs = tuple(
        need if isinstance(need, Input) else Input(f"argument {place}", need, handle=False)
        for place, need in enumerate(inputs, start=1)
    )
    return TaskSpec(
        id=number,
        name=f"t{number}",
        function=function,
        operands=(("scope=", AnyScope() if scope is None else scope),),
        inputs=needs,
        outputs=(number + 1,) if outputs is None else outputs,
        **options,
    )


def starts(commands):
    return [command for command in commands if isinstance(command, ev.StartRun)]


def sent(commands):
    """Which task goes to which worker."""
    return {command.task: command.processor.worker for command in starts(commands)}


def stops(commands):
    """Which task is to be stopped by which worker."""
    return {task: c.worker for c in commands if isinstance(c, ev.StopRuns) for task in c.tasks}


def kills(commands):
    return [command.worker for command in commands if isinstance(command, ev.KillWorker)]


def sends(commands):
    """Which chunk goes from where to where."""
    return [(c.chunk, c.holder, c.to) for c in commands if isinstance(c, ev.SendChunk)]


def told(commands):
    """Which tasks engines are to forget."""
    return [(c.worker, task) for c in commands if isinstance(c, ev.RetractRuns) for task in c.tasks]


def asked_back(commands):
    return [
        (c.worker, task) for c in commands if isinstance(c, ev.RunsAskedBack) for task in c.tasks
    ]


def forgotten(commands):
    return [task for c in commands if isinstance(c, ev.ForgetCalls) for task in c.tasks]


def settled(commands):
    return {c.task: c.state for c in commands if isinstance(c, ev.Settle)}


def dropped(commands):
    return [
        (command.worker, chunk)
        for command in commands
        if isinstance(command, ev.DropChunks)
        for chunk in command.chunks
    ]


def reach(moves):
    """Every way from state to state, also through others, which one event may take."""
    reached = {(state, state) for pair in moves for state in pair} | set(moves)
    while True:
        more = {(a, d) for a, b in reached for c, d in moves if b == c} - reached
        if not more:
            return reached
        reached |= more


CHUNK_REACH = reach(CHUNK_MOVES)


class Checked(Scheduler):
    """A scheduler that refuses to take a task any way that its table does not have."""

    def _turn(self, record, state):
        before = record.state
        assert before == state or (before, state) in TASK_MOVES, (record.spec.name, before, state)
        super()._turn(record, state)

    def _end(self, record, state, failure=None, **how):
        assert (record.state, state) in TASK_MOVES, (record.spec.name, record.state, state)
        super()._end(record, state, failure, **how)


class Watched:
    """A scheduler whose records are looked through after every event."""

    def __init__(self, topology=None, **options):
        self.scheduler = Checked(cluster() if topology is None else topology, **options)
        for function in PLAIN:
            self.scheduler.doubts.learn(function, scoped=False)
        self.now = 0.0
        self.final = {}
        self.chunk_states = {}
        self.events = 0
        self.check()

    # -- events -----------------------------------------------------------------

    def handle(self, event):
        self.events += 1
        commands = self.scheduler.handle(event)
        for command in commands:
            self._check_command(command)
        self.check()
        return commands

    def tick(self):
        self.now += 1.0
        return self.now

    def spawn(self, *args, **options):
        spec = args[0] if isinstance(args[0], TaskSpec) else task(*args, **options)
        return self.handle(ev.TaskSpawned(spec, self.tick()))

    def start(self, number):
        return self.handle(ev.RunStarted(number, self.worker_of(number), self.tick()))

    def finish(self, number, *, worker=None, scope=None, took=0.01, nbytes=8, told=False):
        worker = self.worker_of(number) if worker is None else worker
        spec = self.scheduler.tasks[number].spec
        results = tuple(
            StoredChunk(output, scope or AnyScope(), ThreadProc(worker, 0), "int", nbytes)
            for output in spec.outputs
        )
        end = self.tick()
        return self.handle(ev.RunFinished(number, worker, results, end - took, end, told))

    def fail(self, number, failure="boom", *, worker=None):
        worker = self.worker_of(number) if worker is None else worker
        end = self.tick()
        return self.handle(ev.RunFailed(number, worker, failure, end - 0.01, end))

    def arrive(self, worker, *chunks):
        return self.handle(ev.ChunksArrived(worker, chunks, self.tick()))

    def miss(self, worker, *chunks):
        return self.handle(ev.ChunksMissed(worker, chunks, self.tick()))

    def hand_back(self, number, chunk=None, scope=None, *, worker=None):
        worker = self.worker_of(number) if worker is None else worker
        return self.handle(ev.RunHandedBack(number, worker, chunk, scope, self.tick()))

    def store(self, chunk, worker, scope=None, nbytes=8):
        stored = StoredChunk(chunk, scope or AnyScope(), ThreadProc(worker, 0), "int", nbytes)
        return self.handle(ev.ChunkStored(stored, worker, self.tick()))

    def leave(self, worker, *, planned=False):
        return self.handle(ev.WorkerLeft(worker, self.tick(), planned))

    def join(self, worker, node, threads=1):
        process = Process.with_threads(worker, node, threads)
        return self.handle(ev.WorkerJoined(process, self.tick()))

    def label(self, worker, *labels):
        process = replace(self.scheduler.topology.process(worker), labels=labels)
        return self.handle(ev.ProcessesChanged((process,), self.tick()))

    def end_block(self, *numbers):
        return self.handle(ev.BlockEnded(numbers, self.tick()))

    def cancel(self, number, grace=None):
        return self.handle(ev.CancelAsked(number, self.tick(), grace))

    def stop(self, number, *, began=True, over=True, late=False, worker=None):
        """The engine says that a task gives no value: taken back, or stopped while it ran."""
        processor = self.scheduler.tasks[number].processor
        worker = processor.worker if worker is None else worker
        processor = ThreadProc(worker, 0) if processor is None else processor
        at = self.tick()
        started = at - 0.5 if began else None
        return self.handle(ev.RunStopped(number, worker, processor, over, late, started, at))

    def spawn_child(self, number, parent, *inputs, kept=True, **options):
        """A task asks for a task, to be kept where it runs or to be placed."""
        processor = self.scheduler.tasks[parent].processor
        spec = task(number, *inputs, **options)._replace(parent=parent)
        where = processor if kept else None
        return self.handle(ev.ChildSpawned(spec, processor.worker, where, self.tick()))

    def drop(self, *chunks):
        return self.handle(ev.HandlesDropped(chunks))

    # -- looking ----------------------------------------------------------------

    def worker_of(self, number):
        return self.scheduler.tasks[number].processor.worker

    def state(self, number):
        return self.scheduler.tasks[number].state

    def states(self):
        return Counter(record.state for record in self.scheduler.tasks.values())

    def chunk(self, number):
        return self.scheduler.chunks.get(number)

    # -- what always holds --------------------------------------------------------

    def _check_command(self, command):
        assert command.cause == self.events, f"{command} names another event than its cause"
        topology = self.scheduler.topology
        for place in ("worker", "holder", "to"):
            worker = getattr(command, place, None)
            assert worker is None or topology.process(worker), f"{command} to a dead worker"
        if isinstance(command, ev.StartRun):
            self._check_start(command)
        elif isinstance(command, ev.SendChunk):
            chunk = self.scheduler.chunks[command.chunk]
            assert topology.admits(chunk.scope, command.to), f"{command} leaves its scope"
            assert command.holder != command.to
        elif isinstance(command, ev.Settle):
            before = self.final.get(command.task)
            assert before in (None, "done"), f"{command} comes a second time"
            self.final[command.task] = command.state
            assert command.state in FINAL_STATES
            assert (command.failure is None) == (command.state == "done")
        elif isinstance(command, ev.Refuse):
            self.final[command.task] = "failed"

    def _check_start(self, command):
        topology = self.scheduler.topology
        assert topology.process(command.processor.worker), f"{command} to a dead worker"
        record = self.scheduler.tasks[command.task]
        if record.state in FINAL_STATES:
            return  # it came and went within the event
        for origin, scope in self.scheduler.operands(record):
            assert topology.contains(scope, command.processor), (command, origin, scope)

    def check(self):
        scheduler = self.scheduler
        self._check_tasks(scheduler)
        self._check_loads(scheduler)
        self._check_chunks(scheduler)
        assert not scheduler._to_block
        assert not scheduler._to_place

    def _check_tasks(self, scheduler):
        lined_up = {
            number: mask
            for mask, line in scheduler._lines.items()
            for number in line
            if number in scheduler.tasks and scheduler.tasks[number].line == mask
        }
        for number, record in scheduler.tasks.items():
            assert record.state in TASK_STATES
            assert lined_up.get(number, 0) == record.line
            if record.line and record.spec.prefer:
                assert not record.line & ~record.allowed
            elif record.line:
                assert record.line == record.allowed
            assert (number in scheduler._unmatched) == (record.state == "unmatched")
            if record.state in FINAL_STATES:
                self._check_ended(number, record)
            else:
                self._check_unfinished(scheduler, number, record)

    def _check_ended(self, number, record):
        assert record.state == self.final[number]
        assert not record.holds_inputs
        assert not record.line

    def _check_unfinished(self, scheduler, number, record):
        assert self.final.get(number) in (None, "done")
        assert record.holds_inputs or not record.spec.inputs
        placed = record.processor is not None
        pending = [
            need.chunk
            for need in record.spec.inputs
            if scheduler.chunks[need.chunk].state == "pending"
            and (
                record.state != "running" or number in (scheduler.chunks[need.chunk].waiters or ())
            )
        ]
        assert record.missing == len(pending), record.spec.name
        for chunk in pending:
            assert number in scheduler.chunks[chunk].waiters
        if record.state == "queued":
            assert not pending
        if record.state == "running":
            assert placed
        somewhere = placed, bool(record.line), record.state == "unmatched"
        held = bool(record.missing and scheduler.doubted_inputs(record))
        aside = number in scheduler._suspects, bool(record.unplanned) or held
        unfinished = [t for t in record.spec.after if self.final.get(t) is None]
        assert record.gates <= record.held + len(unfinished)
        assert any(somewhere + aside) or record.gates, f"{record.spec.name} is nowhere"
        assert sum(somewhere) <= 1, f"{record.spec.name} is in several places"

    def _check_loads(self, scheduler):
        loads = scheduler.loads
        assert tuple(loads.by_processor) == scheduler.topology.processors
        given = {}
        for number, record in scheduler.tasks.items():
            if record.processor is not None and record.state not in FINAL_STATES:
                given.setdefault(record.processor, {})[number] = record.spec.function
        for load in loads.all:
            mine = given.pop(load.processor, {})
            assert load.tasks == mine
            assert load.paused <= mine.keys()
            assert load.running == {task for task in mine if self.state(task) == "running"}
            counted = mine.keys() - load.paused
            quick = Counter(mine[task] for task in counted - load.running)
            assert load.by_function == dict(quick)
            assert bool(loads.idle & load.bit) == (not counted and not load.lingering)
        assert given == {}, "tasks run on processors that are gone"

    def _check_chunks(self, scheduler):
        users, descendants = Counter(), Counter()
        for record in scheduler.tasks.values():
            needs = [need.chunk for need in record.spec.inputs]
            if record.holds_inputs:
                users.update(needs)
            if record.holds_lineage:
                descendants.update(needs)
        assert users.keys() <= scheduler.chunks.keys()
        for number, chunk in scheduler.chunks.items():
            self._check_chunk(chunk)
            assert chunk.users == users[number]
            assert chunk.descendants == descendants[number]
            before = self.chunk_states.get(number, "pending")
            assert (before, chunk.state) in CHUNK_REACH, (number, before, chunk.state)
        self.chunk_states = {number: chunk.state for number, chunk in scheduler.chunks.items()}

    def _check_chunk(self, chunk):
        topology = self.scheduler.topology
        assert chunk.handles >= 0
        assert len(set(chunk.holders)) == len(chunk.holders)
        if chunk.state != "pending":
            assert bool(chunk.holders) == (chunk.state == "held"), chunk
            assert not chunk.waiters
        for worker in (*chunk.holders, *chunk.targets):
            assert topology.process(worker) is not None, f"{worker} is gone"
        leaves = chunk.id in self.scheduler.table.outside
        for worker in () if leaves else chunk.holders:
            assert topology.admits(chunk.scope, worker), f"{chunk.id} is outside its scope"
        if chunk.state in ("held", "lost"):
            assert chunk.handles or chunk.users or chunk.descendants, f"nobody wants {chunk}"
