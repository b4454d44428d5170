"""Simulated engines, which follow the rules of the real agent without running anything."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from scopekit.errors import ScopeViolationError
from scopekit.graph import StoredChunk
from scopekit.places import Process, Topology
from scopekit.scheduler import events as ev
from scopekit.scopes import CLIENT, AnyScope, ExactScope, NodeScope, ProcessScope, constrain
from scopekit.testing.work import Held, Parcel, Pending, Run, TaskError, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.graph import WorkerId
    from scopekit.scopes import Processor, Scope
    from scopekit.testing.acts import Spawn, Worker
    from scopekit.testing.network import Timeline

__all__ = ("Engine", "Surroundings")

_TELL_AFTER = 0.02
_GATHER = 0.002
_FLUSH = 0.02
_UNWIND = 0.02
_UNSCOPED = AnyScope()


class Surroundings(Protocol):
    """What an engine needs of the world around it."""

    timeline: Timeline
    patience: float

    def report(self, engine: Engine, reports: list[ev.Event]) -> None:
        """Sends reports to the client."""

    def push(self, engine: Engine, to: WorkerId, parcels: list[Parcel]) -> None:
        """Sends chunks to another process."""

    def began(self, engine: Engine, task: int, processor: Processor) -> int:
        """Takes note that a task begins; returns how many runs of it ever began."""

    def killed(self, engine: Engine, task: int) -> None:
        """Takes note that a task kills its process."""

    def came_in(self, engine: Engine, chunk: int, held: Held) -> None:
        """Takes note of each value that a process comes to hold."""

    def late(self, task: int) -> None:
        """Takes note that a task took longer than it may."""

    def wrong(self, rule: str, text: str) -> None:
        """Ends the world: what must not be is."""


class Engine:
    """One simulated engine.

    Args:
        process: what it is.
        traits: how it behaves.
        world: what is around it.
        seed: draws when it tells what.

    Attributes:
        store: what it holds.
        alive: False once it is dead.
        forgetful: True once it lost what it held.
        topology: the processes there are, as last told.
    """

    def __init__(self, process: Process, traits: Worker, world: Surroundings, seed: int) -> None:
        self.process = process
        self.worker = process.worker
        self.alive = True
        self.forgetful = False
        self.store: dict[int, Held] = {}
        self.stalled_until = 0.0
        self._traits = traits
        self._world = world
        self._timeline = world.timeline
        self._random = Random(seed)
        self.topology: Topology | None = None
        self._ordered: dict[int, Pending] = {}
        self._waiting: dict[int, list[Pending]] = {}
        self._wanted: dict[int, list[WorkerId]] = {}
        self._overdue: set[int] = set()
        self._lanes: dict[Processor, deque[Pending]] = {p: deque() for p in process.processors}
        self._running: dict[Processor, Run] = {}
        self._reports: list[ev.Event] = []
        self._pushes: dict[WorkerId, list[Parcel]] = {}
        self._flushed = 0.0
        self._will_flush = False
        self._will_ask = False

    @property
    def _version(self) -> int:
        return 0 if self.topology is None else self.topology.version

    @property
    def _now(self) -> float:
        """The time by the engine's own clock."""
        return self._timeline.now + self._traits.skew

    # -- orders ---------------------------------------------------------------------

    def learn(self, topology: Topology) -> None:
        """Takes in which processes there are."""
        if self.alive:
            self.topology = topology

    def run(self, spawn: Spawn, processor: Processor) -> None:
        """Takes a task."""
        if not self.alive:
            return
        pending = self._ordered[spawn.task] = Pending(spawn, processor, self._timeline.now)
        for chunk in dict.fromkeys(spawn.inputs):
            if chunk not in self.store:
                self._waiting.setdefault(chunk, []).append(pending)
                pending.missing += 1
        if pending.missing:
            self._watch_patience()
        else:
            self._submit(pending)

    def put(self, chunk: int, held: Held, *, reports: bool, failure: Any = None) -> None:
        """Takes a value of the client's, for good or as the copy of an input."""
        if not self.alive:
            return
        refused = self._refusal(chunk, held) is not None
        if refused and not reports:
            self._miss(chunk)
            return
        if failure is not None:
            self._tell(ev.ChunkFailed(chunk, self.worker, failure, self._now))
            return
        self._keep(chunk, held, refused=refused)
        if reports:
            stored = StoredChunk(chunk, held.scope, held.processor, "int", 8)
            self._tell(ev.ChunkStored(stored, self.worker, self._now, self._version))
        else:
            self._tell(ev.ChunksArrived(self.worker, (chunk,), self._now, self._version))
        self._is_here(chunk)
        self._flush_pushes()

    def forget(self) -> None:
        """Loses all that it holds, without word of it."""
        self.store.clear()
        self.forgetful = True

    def send(self, chunk: int, to: WorkerId) -> None:
        """Sends a chunk to another process, as soon as it is here."""
        if not self.alive:
            return
        if chunk not in self.store:
            self._wanted.setdefault(chunk, []).append(to)
            self._watch_patience()
            return
        self._add_push(chunk, to)
        self._flush_pushes()

    def drop(self, chunks: Iterable[int], version: int) -> None:
        """Forgets chunks, as far as they were not sent here by a later topology."""
        if self.alive:
            for chunk in chunks:
                if chunk in self.store and self.store[chunk].version <= version:
                    del self.store[chunk]

    def rescope(self, chunk: int, scope: Scope) -> None:
        """Gives a chunk by another scope from now on."""
        if self.alive and chunk in self.store:
            self.store[chunk] = self.store[chunk]._replace(scope=scope)

    def retract(self, tasks: Iterable[int]) -> None:
        """Forgets tasks that have not begun."""
        if self.alive:
            self._take_out(tasks)

    def give_back(self, tasks: Iterable[int]) -> None:
        """Hands tasks back that have not begun."""
        if not self.alive:
            return
        for pending in self._take_out(tasks):
            task = pending.spawn.task
            self._tell(ev.RunHandedBack(task, self.worker, None, None, self._now))

    def stop(self, tasks: Iterable[int]) -> None:
        """Takes tasks back that have not begun, and stops those that have."""
        if not self.alive:
            return
        for pending in self._take_out(tasks):
            self._tell_stopped(pending, over=True)
        for run in list(self._running.values()):
            if run.pending.spawn.task in tasks:
                self._stop_run(run, late=False)

    def _stop_run(self, run: Run, *, late: bool) -> None:
        if run.stopped:
            return
        run.stopped, run.late = True, late
        self._tell_stopped(run.pending, over=False, late=late, started=run.started)
        if not run.pending.spawn.stubborn:
            self._timeline.after(_UNWIND * self._random.random(), self._finish, run, 0)

    def _tell_stopped(
        self,
        pending: Pending,
        *,
        over: bool,
        late: bool = False,
        started: float | None = None,
    ) -> None:
        task, processor = pending.spawn.task, pending.processor
        self._tell(ev.RunStopped(task, self.worker, processor, over, late, started, self._now))

    def _take_out(self, tasks: Iterable[int]) -> list[Pending]:
        taken = []
        for task in tasks:
            pending = self._ordered.pop(task, None)
            if pending is not None:
                self._stop_waiting(pending)
                taken.append(pending)
        return taken

    def _stop_waiting(self, pending: Pending) -> None:
        for chunk in pending.spawn.inputs:
            waiting = self._waiting.get(chunk)
            if waiting is not None and pending in waiting:
                waiting.remove(pending)
                if not waiting:
                    del self._waiting[chunk]

    # -- chunks ---------------------------------------------------------------------

    def take(self, parcels: list[Parcel]) -> None:
        """Takes what another process sends."""
        if not self.alive:
            return
        arrived = []
        version = 0
        for chunk, held, scope in parcels:
            if held is None:
                self._hand_back_waiting(chunk, scope)
                continue
            if self._refusal(chunk, held) is not None:
                self._miss(chunk)
                continue
            version = held.version
            self._keep(chunk, held, sent_by=version)
            arrived.append(chunk)
        if arrived:
            word = ev.ChunksArrived(self.worker, tuple(arrived), self._now, version)
            self._reports.append(word)
            self._flush_soon()
        for chunk in arrived:
            self._is_here(chunk)
        self._flush_pushes()

    def _refusal(self, chunk: int, held: Held) -> ScopeViolationError | None:
        """Returns the error of a chunk that may not be here, as labels changed on its way."""
        known = Topology() if self.topology is None else self.topology
        if held.scope is _UNSCOPED or known.admits(held.scope, self.worker):
            return None
        return ScopeViolationError(f"chunk {chunk} may not be on {self.worker}", chunk, held.scope)

    def _miss(self, chunk: int) -> None:
        """Tells that a chunk was refused, unless it is here and waits for a place to go."""
        if chunk not in self.store:
            self._tell(ev.ChunksMissed(self.worker, (chunk,), self._now))

    def _keep(
        self, chunk: int, held: Held, *, refused: bool = False, sent_by: int | None = None
    ) -> None:
        version = self._version if sent_by is None else sent_by
        before = self.store.get(chunk)
        if before is not None:
            version = max(version, before.version)
        self.store[chunk] = held._replace(version=version)
        if not refused:
            # Else it lies here until it moves, and nobody gets at it.
            self._world.came_in(self, chunk, held)

    def _is_here(self, chunk: int) -> None:
        for pending in self._waiting.pop(chunk, ()):
            pending.missing -= 1
            if not pending.missing:
                self._submit(pending)
        for worker in self._wanted.pop(chunk, ()):
            self._add_push(chunk, worker)

    def _hand_back_waiting(self, chunk: int, scope: Scope) -> None:
        waiting = self._waiting.pop(chunk, [])
        if not waiting:
            self._tell(ev.ChunkPinned(chunk, scope))
        for pending in waiting:
            if self._ordered.pop(pending.spawn.task, None) is not None:
                self._stop_waiting(pending)
                task = pending.spawn.task
                self._tell(ev.RunHandedBack(task, self.worker, chunk, scope, self._now))

    def _add_push(self, chunk: int, to: WorkerId) -> None:
        held = self.store.get(chunk)
        if held is None or self.topology is None:
            return
        if held.stuck:
            # That it does not pickle shows when it is to leave, and not before.
            scope = constrain(held.scope, ProcessScope(self.worker))
            held = self.store[chunk] = held._replace(scope=scope)
        admitted = self.topology.admits(held.scope, to)
        parcel = Parcel(chunk, held if admitted else None, held.scope)
        self._pushes.setdefault(to, []).append(parcel)

    def _flush_pushes(self) -> None:
        pushes, self._pushes = self._pushes, {}
        for worker, parcels in pushes.items():
            sent = [
                p if p.held is None else p._replace(held=p.held._replace(version=self._version))
                for p in parcels
            ]
            self._world.push(self, worker, sent)

    # -- running --------------------------------------------------------------------

    def _submit(self, pending: Pending) -> None:
        self._lanes[pending.processor].append(pending)
        self._pump(pending.processor)

    def _pump(self, processor: Processor) -> None:
        """Begins the next task of a processor that is free."""
        if not self.alive or processor in self._running or self._is_stalled(processor):
            return
        lane = self._lanes[processor]
        while lane:
            pending = lane.popleft()
            # Ordered anew after it was taken out, it stands here twice.
            if self._ordered.get(pending.spawn.task) is not pending:
                continue
            del self._ordered[pending.spawn.task]
            if self._begin(pending):
                return

    def _is_stalled(self, processor: Processor) -> bool:
        if self._timeline.now >= self.stalled_until:
            return False
        self._timeline.at(self.stalled_until, self._pump, processor)
        return True

    def _begin(self, pending: Pending) -> bool:
        """Begins a task, unless an input turns out to be not valid here."""
        spawn, processor = pending.spawn, pending.processor
        if self.topology is None:
            return False  # it was cut off before it was told where it is
        values = []
        for chunk in spawn.inputs:
            held = self.store.get(chunk)
            if held is None and not self.forgetful:
                self._world.wrong("I5", f"chunk {chunk} was dropped under task {spawn.task}")
                return False
            if held is None:
                self._tell(ev.RunHandedBack(spawn.task, self.worker, chunk, None, self._now))
                return False
            values.append(held.value)
            if not self.topology.contains(held.scope, processor):
                back = ev.RunHandedBack(spawn.task, self.worker, chunk, held.scope, self._now)
                self._tell(back)
                return False
        started = self._now
        run = self._running[processor] = Run(pending, started, values)
        number = self._world.began(self, spawn.task, processor)
        seconds = spawn.seconds * self._traits.speed
        if self.worker != CLIENT and (spawn.kills < 0 or number <= spawn.kills):
            self._timeline.after(seconds * self._random.random(), self._die_of, run)
        else:
            self._timeline.after(seconds, self._finish, run, number)
        if seconds > _TELL_AFTER:
            self._timeline.after(_TELL_AFTER, self._tell_started, run)
        if spawn.limit is not None:
            self._timeline.after(spawn.limit, self._end_time, run)
        return True

    def _goes_on(self, run: Run) -> bool:
        return self.alive and self._running.get(run.pending.processor) is run

    def _die_of(self, run: Run) -> None:
        if self._goes_on(run):
            self._world.killed(self, run.pending.spawn.task)

    def _tell_started(self, run: Run) -> None:
        if self._goes_on(run):
            self._reports.append(ev.RunStarted(run.pending.spawn.task, self.worker, run.started))
            self._flush_soon()

    def _end_time(self, run: Run) -> None:
        """Stops a task that took as long as it may."""
        if not self._goes_on(run) or run.stopped:
            return
        if self._timeline.now < self.stalled_until:
            self._timeline.at(self.stalled_until, self._end_time, run)
            return
        self._world.late(run.pending.spawn.task)
        self._stop_run(run, late=True)

    def _finish(self, run: Run, number: int) -> None:
        if not self._goes_on(run):
            return
        if self._timeline.now < self.stalled_until:
            self._timeline.at(self.stalled_until, self._finish, run, number)
            return
        spawn, processor, started = run.pending.spawn, run.pending.processor, run.started
        del self._running[processor]
        if run.stopped:
            # What it does not notice it brings to its end.
            made = (
                spawn.stubborn
                and self._refused_result(spawn, processor, started) is None
                and self._make(spawn, processor, run.values, started)
            )
            kept = tuple(chunk.id for chunk in made.results) if made else ()
            over = (True, run.late, started, self._now, kept)
            self._end_run(ev.RunStopped(spawn.task, self.worker, processor, *over))
        elif spawn.fails < 0 or number <= spawn.fails:
            error = TaskError(f"task {spawn.task} raised")
            self._end_run(ev.RunFailed(spawn.task, self.worker, error, started, self._now))
        else:
            self._end_run(
                self._refused_result(spawn, processor, started)
                or self._make(spawn, processor, run.values, started)
            )
        self._pump(processor)

    def _refused_result(
        self, spawn: Spawn, processor: Processor, started: float
    ) -> ev.RunFailed | None:
        """Returns the failure of a task whose results may not be here any more."""
        scope = self._scope_of_results(spawn, processor)
        refusal = self._refusal(spawn.task + 1, Held(0, scope, processor, stuck=False))
        if refusal is None:
            return None
        return ev.RunFailed(spawn.task, self.worker, refusal, started, self._now)

    def _make(
        self, spawn: Spawn, processor: Processor, inputs: list[int], started: float
    ) -> ev.RunFinished:
        scope = self._scope_of_results(spawn, processor)
        results = []
        for output in range(spawn.outputs):
            chunk = spawn.task + 1 + output
            value = value_of(spawn.task, output, inputs)
            self._keep(chunk, Held(value, scope, processor, spawn.turns == "unpicklable"))
            results.append(StoredChunk(chunk, scope, processor, "int", 8))
        for result in results:
            self._is_here(result.id)
        told = not spawn.turns and spawn.task % 3 == 0
        return ev.RunFinished(spawn.task, self.worker, tuple(results), started, self._now, told)

    def _scope_of_results(self, spawn: Spawn, processor: Processor) -> Scope:
        declared = spawn.result_scope or _UNSCOPED
        if spawn.turns == "processor":
            return constrain(declared, ExactScope(processor))
        if spawn.turns == "process":
            return constrain(declared, ProcessScope(self.worker))
        if spawn.turns == "node":
            return constrain(declared, NodeScope(self.process.node))
        return declared

    # -- reports --------------------------------------------------------------------

    def _tell(self, report: ev.Event) -> None:
        self._reports.append(report)
        self._flush()

    def _end_run(self, report: ev.Event) -> None:
        """Tells the end of a run: at once if nothing follows, else with those that do."""
        self._reports.append(report)
        now = self._timeline.now
        if not any(self._lanes.values()) or now - self._flushed > _GATHER:
            self._flushed = now
            self._flush_pushes()
            self._flush()
        else:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._will_flush:
            self._will_flush = True
            self._timeline.after(_FLUSH * self._random.random(), self._flush_late)

    def _flush_late(self) -> None:
        self._will_flush = False
        if self.alive:
            self._flush_pushes()
            self._flush()

    def _flush(self) -> None:
        if self._reports:
            reports, self._reports = self._reports, []
            self._world.report(self, reports)

    def _watch_patience(self) -> None:
        if not self._will_ask:
            self._will_ask = True
            self._timeline.after(self._world.patience, self._ask_again)

    def _ask_again(self) -> None:
        """Asks for inputs that did not come: what was sent may have been lost."""
        self._will_ask = False
        if not self.alive or not (self._waiting or self._wanted):
            return
        late = [
            chunk
            for chunk, waiting in self._waiting.items()
            if self._timeline.now - waiting[0].since >= self._world.patience
        ]
        late += self._take_overdue()
        if late:
            self._tell(ev.ChunksMissed(self.worker, tuple(late), self._now))
        self._watch_patience()

    def _take_overdue(self) -> list[int]:
        """Gives up on what was to be sent from here, does not come, and is not made here."""
        made = {
            pending.spawn.task + 1 + output
            for pending in (*self._ordered.values(), *(r.pending for r in self._running.values()))
            for output in range(pending.spawn.outputs)
        }
        before, self._overdue = self._overdue, self._wanted.keys() - made
        overdue = [chunk for chunk in self._wanted if chunk in self._overdue & before]
        for chunk in overdue:
            del self._wanted[chunk]
        return overdue

    @property
    def busy(self) -> bool:
        """Tells whether it has tasks to run, or that wait for their inputs."""
        return self.alive and bool(self._ordered or self._running)
