"""A simulated world: a client with its scheduler, engines, connections, and their faults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any

from scopekit.graph import FINAL_STATES, ChunkRecord, Input, StoredChunk, TaskSpec
from scopekit.places import Process, Topology
from scopekit.rescoping import Rescoping
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scopes import CLIENT, AnyScope
from scopekit.testing import acts
from scopekit.testing.engines import Engine
from scopekit.testing.invariants import Invariants
from scopekit.testing.network import Connection, Timeline
from scopekit.testing.outcomes import Truth
from scopekit.testing.watching import Violation, watch
from scopekit.testing.work import Held, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.graph import WorkerId
    from scopekit.testing.acts import Act, Plan, Worker
    from scopekit.testing.work import Parcel

__all__ = ("Outcome", "World", "replay")

_UNSCOPED = AnyScope()
_FINAL = frozenset(FINAL_STATES)
_STOPPED = (None, "cancelled")
_MOST_EVENTS = 20_000


@dataclass(slots=True)
class Outcome:
    """What came of a world.

    Attributes:
        events: how many events the scheduler took in.
        commands: how many commands followed.
        seconds: how long it lasted, by the simulated clock.
        ended: how many tasks ended in each state.
        happened: how often each kind of event and fault happened.
        digest: of all events with their commands, where asked for.
    """

    events: int = 0
    commands: int = 0
    seconds: float = 0.0
    ended: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    digest: str = ""


class World:
    """One world, from its first act to its end.

    Args:
        plan: what happens.
        kind: the scheduler to try.
        digest: True to compute the digest of all that is said.
        tell: takes a line for each event and command, where asked for.
    """

    def __init__(
        self,
        plan: Plan,
        kind: type[Scheduler] = Scheduler,
        *,
        digest: bool = False,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.plan = plan
        self.timeline = Timeline()
        self.patience = plan.patience
        self.outcome = Outcome()
        self.truth = Truth()
        self._hash = blake2b(digest_size=16) if digest else None
        self._say = tell
        self._jumped = 0.0
        self._random = Random(plan.seed)
        self._snatches = Random(plan.seed)
        self._handles: dict[int, int] = {}
        self._engines: dict[WorkerId, Engine] = {}
        self._wired: dict[WorkerId, None] = {}
        self._put_down: dict[WorkerId, None] = {}
        self._connections: dict[tuple[WorkerId, WorkerId], Connection] = {}
        self._deadline: float | None = None
        self._latest = 0.0
        self._ended_acts = False
        self._judged: dict[tuple[int, WorkerId], Topology] = {}
        client = Process.with_threads(CLIENT, "home")
        topology = Topology([client, *self._first_engines()])
        self._add_engine(client, acts.Worker())
        self.scheduler = kind(topology)
        watch(self.scheduler)
        self.invariants = Invariants(self.scheduler, self._handles)
        self._tell_topology(topology)
        self._do: dict[type, Callable[[Any], None]] = {
            acts.Spawn: self._spawn,
            acts.Put: self._put,
            acts.Keep: self._keep,
            acts.Drop: lambda act: self._drop_handle(act.chunk),
            acts.Cancel: self._cancel,
            acts.Rescope: self._rescope,
            acts.Look: lambda _: self._learn(ev.TimePassed(self.clock)),
            acts.JumpClock: self._jump,
            acts.Join: self._join,
            acts.Leave: self._leave,
            acts.Relabel: self._relabel,
            acts.Crash: self._crash,
            acts.CutOff: self._cut_off,
            acts.Reset: self._reset,
            acts.Stall: self._stall,
            acts.Forget: self._forget,
        }
        self._carry_out: dict[type, Callable[[Any], None]] = {
            ev.StartRun: self._start_run,
            ev.SendChunk: self._send_chunk,
            ev.DropChunks: self._drop,
            ev.RescopeChunk: lambda c: self._order(c.worker, "rescope", c.chunk, c.scope),
            ev.RetractRuns: lambda c: self._order(c.worker, "retract", c.tasks),
            ev.RunsAskedBack: self._ask_back,
            ev.StopRuns: lambda c: self._order(c.worker, "stop", c.tasks),
            ev.KillWorker: lambda c: self._kill(c.worker),
            ev.Settle: self._settle,
            ev.Refuse: lambda _: None,
            ev.ForgetCalls: lambda _: None,
        }

    # -- from beginning to end ----------------------------------------------------------

    def run(self) -> Outcome:
        """Lets everything happen, then looks whether all came to its end.

        Raises:
            Violation: something is not as it must be.
        """
        for act in self.plan.acts:
            self.timeline.at(act.at, self._act, act)
        self._go_on()
        self._expect_ends()
        for chunk, count in list(self._handles.items()):
            for _ in range(count):
                self._drop_handle(chunk)
        self._go_on()
        self._expect_nothing_left()
        self.outcome.seconds = self.timeline.now
        if self._hash is not None:
            self.outcome.digest = self._hash.hexdigest()
        return self.outcome

    def _go_on(self) -> None:
        """Goes on until nothing is due, or what is due leads nowhere."""
        last = max((act.at for act in self.plan.acts), default=0.0)
        until = max(last, self.timeline.now) + _longest(self.plan)
        while (due := self.timeline.next) is not None and due < until:
            self.timeline.step()
            if self.outcome.events > _MOST_EVENTS:
                raise Violation("ends", f"{_MOST_EVENTS} events, and no end")

    def _expect_ends(self) -> None:
        for number in self.truth.spawned:
            state = self.invariants.settled.get(number)
            if state is None:
                record = self.scheduler.tasks[number]
                raise Violation("ends", f"task {number} is {record.state} for ever")
            self.outcome.ended[state] = self.outcome.ended.get(state, 0) + 1
        for number, record in self.scheduler.tasks.items():
            if record.state not in _FINAL:
                raise Violation("ends", f"task {number} is {record.state} for ever, again")
        for number, chunk in self.scheduler.chunks.items():
            self._expect_held(number, chunk)
        self._expect_no_leak()

    def _expect_held(self, number: int, chunk: ChunkRecord) -> None:
        if chunk.state == "pending":
            raise Violation("ends", f"chunk {number} is never made")
        for worker in chunk.holders:
            held = self._engines[worker].store.get(number)
            if held is None and self._engines[worker].forgetful:
                continue  # until somebody asks, nobody can know
            if held is None or held.value != self.truth.values[number]:
                raise Violation("I5", f"worker {worker} is said to hold {number}: it has {held}")

    def _expect_no_leak(self) -> None:
        for worker in self._wired:
            for number in self._engines[worker].store:
                chunk = self.scheduler.chunks.get(number)
                if chunk is None or worker not in chunk.holders:
                    raise Violation("I10", f"worker {worker} holds {number}, and nobody knows")

    def _expect_nothing_left(self) -> None:
        for load in self.scheduler.loads.all:
            if load.lingering:
                raise Violation("ends", f"tasks {list(load.lingering)} linger for ever")
        if self.scheduler.chunks:
            raise Violation("I10", f"records of chunks are left: {list(self.scheduler.chunks)}")
        for worker in self._wired:
            if self._engines[worker].store:
                left = list(self._engines[worker].store)
                raise Violation("I10", f"worker {worker} holds {left}, and no handle is left")
            if self._engines[worker].busy:
                raise Violation("ends", f"worker {worker} has tasks, and all have ended")
        kept = [n for n in self.truth.spawned if n not in self.invariants.forgotten]
        if kept:
            raise Violation("I10", f"the calls of tasks {kept} are kept for ever")

    # -- what the client does -------------------------------------------------------------

    @property
    def clock(self) -> float:
        """The time by the client's clock."""
        return self.timeline.now + self._jumped

    def _take_in(self, event: ev.Event) -> list[ev.Command]:
        """Takes an event in and carries out what follows."""
        self._latest = max(self._latest, self.clock)
        try:
            commands = self.scheduler.handle(event)
        except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, Violation):
                raise
            raise Violation("crash", f"{type(error).__name__}: {error} by {event}") from error
        self.outcome.events += 1
        self.outcome.commands += len(commands)
        self._count(type(event).__name__)
        if self._hash is not None:
            self._hash.update(_text(event).encode())
            for command in commands:
                self._hash.update(_text(command).encode())
        if self._say is not None:
            self._say(f"{self.timeline.now:9.4f} {_text(event)}")
            for command in commands:
                self._say(f"{'':12}{_text(command)}")
        self.invariants.after(event, commands)
        for command in commands:
            self._carry_out[type(command)](command)
        self._watch_deadline()
        return commands

    def _learn(self, event: ev.Event) -> None:
        self._take_in(event)

    def _count(self, what: str) -> None:
        self.outcome.happened[what] = self.outcome.happened.get(what, 0) + 1

    def _watch_deadline(self) -> None:
        deadline = self.scheduler.next_deadline()
        if deadline is not None and deadline != self._deadline:
            self._deadline = deadline
            # Not the very moment: the difference of two times is rounded.
            self.timeline.after(deadline - self.clock + 1e-6, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._deadline = None
        deadline = self.scheduler.next_deadline()
        if deadline is not None and self.clock >= deadline:
            self._take_in(ev.TimePassed(self.clock))
        else:
            self._watch_deadline()

    def _start_run(self, command: ev.StartRun) -> None:
        self._judged[command.task, command.processor.worker] = self.scheduler.topology
        spawn = self.truth.spawned[command.task]
        self._order(command.processor.worker, "run", spawn, command.processor)

    def _ask_back(self, command: ev.RunsAskedBack) -> None:
        self._order(command.worker, "give_back", command.tasks)
        for task in command.tasks:
            if self._snatches.random() < self.plan.snatching:
                soon = 2 * self.plan.latency * self._snatches.random()
                self.timeline.after(soon, self._cancel, acts.Cancel(0.0, task))

    def _drop(self, command: ev.DropChunks) -> None:
        version = self.scheduler.topology.version
        self._order(command.worker, "drop", command.chunks, version)

    def _send_chunk(self, command: ev.SendChunk) -> None:
        self._order(command.holder, "send", command.chunk, command.to)

    def _settle(self, command: ev.Settle) -> None:
        if self._say is not None and command.failure is not None:
            self._say(f"{'':12}by {command.failure!r}")
        # A deadline that was reached stays so when the clock is set back.
        self.truth.ends(command, self.scheduler, self._latest)

    def _order(self, worker: WorkerId, verb: str, *args: Any, **options: Any) -> None:
        if worker in self._wired:
            engine = self._engines[worker]
            order = getattr(engine, verb)
            self._connection(CLIENT, worker).send(_call, order, args, options)

    def _connection(self, source: WorkerId, to: WorkerId) -> Connection:
        connection = self._connections.get((source, to))
        if connection is None:
            latency = 0.0 if source == to else self.plan.latency
            seed = self._random.getrandbits(32)
            connection = Connection(self.timeline, seed, latency)
            self._connections[source, to] = connection
        return connection

    # -- what engines need ----------------------------------------------------------------

    def report(self, engine: Engine, reports: list[ev.Event]) -> None:
        """Sends reports to the client."""
        self._connection(engine.worker, CLIENT).send(self._read, reports)

    def _read(self, reports: list[ev.Event]) -> None:
        for report in reports:
            if isinstance(report, ev.RunFailed):
                record = self.scheduler.tasks.get(report.task)
                live = record is not None and record.processor is not None
                if live and self.invariants.live.get(report.task) == report.worker:
                    self.truth.fail(report.task)
            if isinstance(report, ev.ChunksMissed):
                report = report._replace(at=self.clock)  # noqa: PLW2901  # the driver's clock counts
            self._take_in(report)

    def push(self, engine: Engine, to: WorkerId, parcels: list[Parcel]) -> None:
        """Sends chunks to another process; the client's go with its orders."""
        if to not in self._engines:
            return
        if engine.worker != CLIENT:
            self._connection(engine.worker, to).send(self._engines[to].take, parcels)
            return
        for chunk, held, scope in parcels:
            if held is None:
                self.timeline.after(0.0, self._learn, ev.ChunkPinned(chunk, scope))
                missed = ev.ChunksMissed(to, (chunk,), self.clock)
                self.timeline.after(0.0, self._learn, missed)
            else:
                self._order(to, "put", chunk, held, reports=False)

    def began(self, engine: Engine, task: int, processor: Any) -> int:
        """Takes note that a task begins."""
        spawn = self.truth.spawned[task]
        topology = self.scheduler.topology
        if topology.process(engine.worker) is not None:
            # What is asked back since labels changed may begin before the word comes.
            known = (topology, self._judged[task, engine.worker])
            for _, scope in _operands(spawn):
                if not any(each.contains(scope, processor) for each in known):
                    raise Violation("I1", f"task {task} began on {processor}, outside of {scope}")
        return self.truth.begin(task)

    def killed(self, engine: Engine, task: int) -> None:
        """Takes note that a task kills its process."""
        self._count("killed")
        self.truth.kill(task)
        self._die(engine, 0.3 * self._random.random())

    def came_in(self, engine: Engine, chunk: int, held: Held) -> None:
        """Takes note of each value that a process comes to hold."""
        known = [self.scheduler.topology, *([engine.topology] if engine.topology else [])]
        if known[0].process(engine.worker) is not None and not any(
            topology.admits(held.scope, engine.worker) for topology in known
        ):
            raise Violation("I1", f"worker {engine.worker} was given chunk {chunk}")
        self.truth.holds(engine.worker, chunk, held)

    def late(self, task: int) -> None:
        """Takes note that a task took longer than it may."""
        self._count("took too long")
        self.truth.late[task] = None

    def wrong(self, rule: str, text: str) -> None:
        """Ends the world: what must not be is."""
        raise Violation(rule, text)

    # -- what users do --------------------------------------------------------------------

    def _act(self, act: Act) -> None:
        self._do[type(act)](act)

    def _spawn(self, act: acts.Spawn) -> None:
        # What a user has no handle to can be given to nobody.
        inputs = tuple(chunk for chunk in act.inputs if self._handles.get(chunk, 0) > 0)
        outputs = tuple(act.task + 1 + number for number in range(act.outputs))
        after = tuple(task for task in act.after if self._handles.get(task + 1, 0) > 0)
        spawn = replace(_with_inputs(act, inputs), after=after)
        self.truth.spawn(spawn)
        for output in outputs:
            self._handles[output] = 1
        spec = TaskSpec(
            id=act.task,
            name=f"t{act.task}",
            function=act.function,
            operands=_operands(act),
            inputs=tuple(
                Input(
                    f"argument {place}", chunk, handle=chunk % 10 == 0 or self._handles[chunk] > 1
                )
                for place, chunk in enumerate(inputs)
            ),
            outputs=outputs,
            result_scope=act.result_scope,
            wait_for=act.wait_for,
            idempotent=act.idempotent,
            retries=act.retries,
            priority=act.priority,
            prefer=act.prefer,
            after=after,
            held=act.held > 0,
        )
        commands = self._take_in(ev.TaskSpawned(spec, self.clock))
        if any(isinstance(command, ev.Refuse) for command in commands):
            # The spawn raised, and nobody got a handle.
            for output in outputs:
                self.timeline.after(0.001, self._drop_handle, output)
        elif act.held:
            self.timeline.after(act.held, self._end_block, act.task)

    def _end_block(self, task: int) -> None:
        self.truth.released[task] = None
        self._take_in(ev.BlockEnded((task,), self.clock))

    def _put(self, act: acts.Put) -> None:
        topology = self.scheduler.topology
        mask = topology.mask(act.scope)
        mine = mask & topology.worker_mask(CLIENT)
        homes = topology.select(mine or mask)
        if not homes:
            return
        home = homes[0]
        self.truth.values[act.chunk] = act.chunk
        self._handles[act.chunk] = 1
        record = ChunkRecord(act.chunk, act.scope, processor=home, type="int", handles=1)
        self.scheduler.expect(record)
        held = Held(act.chunk, act.scope, home, stuck=False)
        if home.worker == CLIENT:
            self._engines[CLIENT].store[act.chunk] = held
            stored = StoredChunk(act.chunk, act.scope, home, "int", 8)
            self._take_in(ev.ChunkStored(stored, CLIENT, self.clock))
            return
        failure = None
        if act.unreadable:
            self.truth.unreadable[act.chunk] = None
            failure = TaskError(f"chunk {act.chunk} cannot be read")
        self._order(home.worker, "put", act.chunk, held, reports=True, failure=failure)

    def _keep(self, act: acts.Keep) -> None:
        chunk = self.scheduler.chunks.get(act.chunk)
        # Only what is made can be had as a chunk, and only by who has a handle already.
        if chunk is not None and chunk.state == "held" and self._handles.get(act.chunk, 0) > 0:
            self._handles[act.chunk] += 1
            self._take_in(ev.HandlesAdded((act.chunk,)))

    def _drop_handle(self, chunk: int) -> None:
        if self._handles.get(chunk, 0) > 0:
            self._handles[chunk] -= 1
            self._take_in(ev.HandlesDropped((chunk,)))

    def _cancel(self, act: acts.Cancel) -> None:
        # The handle of a task that has ended asks nobody, unless to be more insistent.
        if act.task in self.truth.spawned and self.invariants.settled.get(act.task) in _STOPPED:
            self.truth.cancelled[act.task] = None
            self._take_in(ev.CancelAsked(act.task, self.clock, act.grace))

    def _rescope(self, act: acts.Rescope) -> None:
        chunk = self.scheduler.chunks.get(act.chunk)
        if chunk is None or chunk.state != "held" or self._handles.get(act.chunk, 0) <= 0:
            return
        after = chunk.scope & act.scope
        topology = self.scheduler.topology
        if any(topology.admits(after, worker) for worker in chunk.holders):
            self.truth.rescoped[act.chunk] = None
            change = Rescoping(act.chunk, chunk.scope, after, False, "user", self.clock)
            self._take_in(ev.ChunkRescoped(change, None))

    def _jump(self, act: acts.JumpClock) -> None:
        self._jumped += act.seconds
        self._count("clock jumped")
        self._deadline = None
        self._watch_deadline()

    # -- engines come and go --------------------------------------------------------------

    def _first_engines(self) -> list[Process]:
        processes = []
        for number, traits in enumerate(self.plan.workers):
            process = _process(number, traits)
            self._add_engine(process, traits)
            processes.append(process)
        return processes

    def _add_engine(self, process: Process, traits: Worker) -> None:
        seed = self._random.getrandbits(32)
        self._engines[process.worker] = Engine(process, traits, self, seed)
        self._wired[process.worker] = None

    def _tell_topology(self, topology: Topology) -> None:
        for worker in self._wired:
            self._order(worker, "learn", topology)

    def _join(self, act: acts.Join) -> None:
        if act.worker in self._engines:
            return
        process = _process(act.worker, act.engine)
        self._add_engine(process, act.engine)
        # Before its first order: without it no scope admits anybody there.
        self._tell_topology(self.scheduler.topology.with_process(process))
        self._count("joined")
        self._take_in(ev.WorkerJoined(process, self.clock))

    def _living(self, worker: int) -> Engine | None:
        engine = self._engines.get(worker)
        return engine if engine is not None and engine.alive and worker in self._wired else None

    def _leave(self, act: acts.Leave) -> None:
        engine = self._living(act.worker)
        if engine is not None:
            self._count("left")
            self._end_engine(engine)
            self._notice(act.worker, planned=True)

    def _relabel(self, act: acts.Relabel) -> None:
        process = self.scheduler.topology.process(act.worker)
        if process is None or process.labels == act.labels:
            return
        self._count("relabelled")
        self.truth.faults += 1
        process = replace(process, labels=act.labels)
        # Before what follows from it: whoever holds something judges by the same labels.
        self._tell_topology(self.scheduler.topology.with_process(process))
        self._take_in(ev.ProcessesChanged((process,), self.clock))

    def _crash(self, act: acts.Crash) -> None:
        engine = self._living(act.worker)
        if engine is not None:
            self._count("crashed")
            self._die(engine, act.noticed)

    def _kill(self, worker: WorkerId) -> None:
        """Kills an engine that does not stop a task by itself."""
        engine = self._engines[worker]
        if engine.alive and worker in self._wired:
            self._count("put down")
            self._put_down[worker] = None
            self._die(engine, 0.3 * self._random.random())

    def _die(self, engine: Engine, noticed: float) -> None:
        self._end_engine(engine)
        self.timeline.after(noticed, self._notice, engine.worker)

    def _end_engine(self, engine: Engine) -> None:
        """Ends a process: what is on its way to it is lost, of what it said the tail."""
        self.truth.faults += 1
        engine.alive = False
        for (source, to), connection in self._connections.items():
            if to == engine.worker:
                connection.close()
            elif source == engine.worker:
                connection.lose_tail()
                connection.closed = True

    def _notice(self, worker: WorkerId, planned: bool = False) -> None:
        if worker not in self._wired:
            return
        del self._wired[worker]
        for task, where in self.invariants.live.items():
            if where == worker:
                self.truth.deaths[task] = self.truth.deaths.get(task, 0) + 1
        planned = planned or worker in self._put_down
        self._take_in(ev.WorkerLeft(worker, self.clock, planned))
        self._tell_topology(self.scheduler.topology)

    def _cut_off(self, act: acts.CutOff) -> None:
        engine = self._living(act.worker)
        if engine is None:
            return
        self._count("cut off")
        self.truth.faults += 1
        back = self.timeline.now + act.back
        for other in list(self._engines):
            for pair in ((act.worker, other), (other, act.worker)):
                connection = self._connection(*pair)
                connection.lose_tail()
                connection.hold(back)
        self.timeline.after(act.noticed, self._notice, act.worker)

    def _reset(self, act: acts.Reset) -> None:
        connection = self._connections.get((act.source, act.to))
        if connection is not None:
            self._count("reset")
            connection.lose_tail()

    def _forget(self, act: acts.Forget) -> None:
        engine = self._living(act.worker)
        if engine is not None and engine.store:
            self._count("forgot")
            self.truth.faults += 1
            engine.forget()

    def _stall(self, act: acts.Stall) -> None:
        engine = self._living(act.worker)
        if engine is None:
            return
        self._count("stalled")
        engine.stalled_until = self.timeline.now + act.seconds
        for (source, to), connection in self._connections.items():
            if act.worker in (source, to):
                connection.hold(engine.stalled_until)


def replay(
    plan: Plan, kind: type[Scheduler] = Scheduler, *, tell: Callable[[str], object] | None = print
) -> Outcome:
    """Runs a plan and tells all that happens.

    Args:
        plan: what happens.
        kind: the scheduler to try.
        tell: takes each line; None for silence.

    Returns:
        What came of it.

    Raises:
        Violation: something is not as it must be.
    """
    return World(plan, kind, tell=tell).run()


def _longest(plan: Plan) -> float:
    """Returns after how many seconds of quiet what has not ended is stuck."""
    work = sum(act.seconds for act in plan.acts if isinstance(act, acts.Spawn))
    engines = [*plan.workers, *(act.engine for act in plan.acts if isinstance(act, acts.Join))]
    slowest = max((engine.speed for engine in engines), default=1.0)
    return 100.0 + 4 * work * slowest


def _call(order: Callable[..., None], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    order(*args, **options)


def _process(worker: int, traits: Worker) -> Process:
    return Process.with_threads(worker, traits.node, traits.threads, traits.labels)


def _operands(spawn: acts.Spawn) -> tuple[tuple[str, Any], ...]:
    given: tuple[tuple[str, Any], ...] = (("scope=", spawn.scope),)
    if spawn.result_scope is not None:
        given += (("result_scope=", spawn.result_scope),)
    return given


def _with_inputs(spawn: acts.Spawn, inputs: tuple[int, ...]) -> acts.Spawn:
    if inputs == spawn.inputs:
        return spawn
    return replace(spawn, inputs=inputs)


def _text(said: Any) -> str:
    """Writes an event or command such that equal ones read equal in every interpreter."""
    return repr(said)
