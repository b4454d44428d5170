"""What tests of the pure scheduler share: short ways to say events, a watch over its records."""

from __future__ import annotations

from collections import Counter

from scopekit.graph import FINAL_STATES, TASK_STATES, Input, StoredChunk, TaskSpec
from scopekit.places import Process, Topology
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scopes import AnyScope, ThreadProc

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


def settled(commands):
    return {c.task: c.state for c in commands if isinstance(c, ev.Settle)}


def dropped(commands):
    return [
        (command.worker, chunk)
        for command in commands
        if isinstance(command, ev.DropChunks)
        for chunk in command.chunks
    ]


class Watched:
    """A scheduler whose records are looked through after every event."""

    def __init__(self, topology=None, **options):
        self.scheduler = Scheduler(cluster() if topology is None else topology, **options)
        self.now = 0.0
        self.final = {}
        self.check()

    # -- events -----------------------------------------------------------------

    def handle(self, event):
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

    def finish(self, number, *, worker=None, scope=None, took=0.01, replicas=(), nbytes=8):
        worker = self.worker_of(number) if worker is None else worker
        spec = self.scheduler.tasks[number].spec
        results = tuple(
            StoredChunk(output, scope or AnyScope(), ThreadProc(worker, 0), "int", nbytes)
            for output in spec.outputs
        )
        end = self.tick()
        return self.handle(ev.RunFinished(number, worker, results, replicas, end - took, end))

    def fail(self, number, failure="boom", *, worker=None):
        worker = self.worker_of(number) if worker is None else worker
        end = self.tick()
        return self.handle(ev.RunFailed(number, worker, failure, end - 0.01, end))

    def store(self, chunk, worker, scope=None, nbytes=8):
        stored = StoredChunk(chunk, scope or AnyScope(), ThreadProc(worker, 0), "int", nbytes)
        return self.handle(ev.ChunkStored(stored, worker, self.tick()))

    def leave(self, worker):
        return self.handle(ev.WorkerLeft(worker, self.tick()))

    def join(self, worker, node, threads=1):
        process = Process.with_threads(worker, node, threads)
        return self.handle(ev.WorkerJoined(process, self.tick()))

    def cancel(self, number):
        return self.handle(ev.CancelAsked(number, self.tick()))

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
        topology = self.scheduler.topology
        if isinstance(command, ev.StartRun):
            worker = command.processor.worker
            assert topology.process(worker) is not None, f"{command} to a dead worker"
            record = self.scheduler.tasks[command.task]
            for origin, scope in self.scheduler.effective_scope_operands(command.task):
                assert topology.contains(scope, command.processor), (command, origin, scope)
            assert [need.chunk for need in record.spec.inputs] == [c for c, _ in command.inputs]
            for chunk, holder in command.inputs:
                assert topology.process(holder) is not None, f"{command} fetches from a dead worker"
                assert holder in self.scheduler.chunks[chunk].holders
        elif isinstance(command, ev.DropChunks):
            assert topology.process(command.worker) is not None, f"{command} to a dead worker"
        elif isinstance(command, ev.Settle):
            assert command.task not in self.final, f"{command} comes a second time"
            self.final[command.task] = command.state
            assert command.state in FINAL_STATES
            assert (command.failure is None) == (command.state == "done")
        else:
            self.final[command.task] = "failed"

    def check(self):
        scheduler = self.scheduler
        self._check_tasks(scheduler)
        self._check_loads(scheduler)
        self._check_chunks(scheduler)
        assert not scheduler._to_block

    def _check_tasks(self, scheduler):
        lined_up = Counter()
        for mask, line in scheduler._lines.items():
            for number in line:
                record = scheduler.tasks.get(number)
                if record is not None and record.state == "queued" and record.processor is None:
                    assert record.allowed == mask
                    lined_up[number] += 1
        for number, record in scheduler.tasks.items():
            assert record.state in TASK_STATES
            placed = record.processor is not None
            in_line = record.state == "queued" and not placed
            assert lined_up[number] == in_line, f"t{number} stands in {lined_up[number]} lines"
            assert (number in scheduler._unmatched) == (record.state == "unmatched")
            assert (record.state in FINAL_STATES) == (number in self.final)
            if number in self.final:
                assert record.state == self.final[number]
                assert not record.holds_inputs
            if record.state in ("waiting", "unmatched"):
                assert not placed
            if record.state == "running":
                assert placed
            if record.state == "waiting":
                pending = [
                    need
                    for need in record.spec.inputs
                    if scheduler.chunks[need.chunk].state == "pending"
                ]
                assert record.missing == len(pending) > 0

    def _check_loads(self, scheduler):
        assert tuple(scheduler._loads) == scheduler.topology.processors
        given = {}
        for record in scheduler.tasks.values():
            if record.processor is not None and record.state in ("queued", "running"):
                given.setdefault(record.processor, Counter())[record.spec.function] += 1
        for processor, load in scheduler._loads.items():
            mine = given.pop(processor, Counter())
            assert load.tasks == mine.total()
            assert load._by_function == dict(mine)
        assert given == {}, "tasks run on processors that are gone"

    def _check_chunks(self, scheduler):
        users = Counter(
            need.chunk
            for record in scheduler.tasks.values()
            if record.holds_inputs
            for need in record.spec.inputs
        )
        assert users.keys() <= scheduler.chunks.keys()
        for number, chunk in scheduler.chunks.items():
            assert chunk.users == users[number]
            assert chunk.handles >= 0
            assert len(set(chunk.holders)) == len(chunk.holders)
            assert bool(chunk.holders) == (chunk.state == "held"), chunk
            for holder in chunk.holders:
                assert scheduler.topology.process(holder) is not None, f"{holder} is gone"
            if chunk.state != "pending":
                assert not chunk.waiters
            if chunk.state in ("held", "lost"):
                assert chunk.handles or chunk.users, f"nobody wants {chunk}"
