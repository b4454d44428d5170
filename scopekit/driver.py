"""The driver: turns what happens into events, carries out the commands that follow.

Events reach the scheduler from three sides: users' threads that spawn, reports of
the engines, the clock. One lock makes them a sequence; commands are carried out
before it is let go, which only ever appends to what the driver's own thread will
send. Futures are settled outside of the lock, since their waiters run then.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

from scopekit.engine.lanes import ThreadLane
from scopekit.errors import ScopekitError, TaskCancelledError
from scopekit.graph import ChunkRecord, StoredChunk
from scopekit.options import DEFAULT_OPERANDS
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scopes import CLIENT
from scopekit.shield import shield
from scopekit.stopped import bereft_error
from scopekit.wire import messages as msg
from scopekit.wire.codec import Call, PickledError, dump_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scopekit.errors import SchedulingError
    from scopekit.graph import TaskRecord, TaskSpec, WorkerId
    from scopekit.handles import Task
    from scopekit.places import Process, Topology
    from scopekit.scopes import Scope
    from scopekit.wire.codec import KnownFunctions
    from scopekit.wire.parcels import Parcel
    from scopekit.wire.peers import Given, Pushed

__all__ = ("Driver", "Wire", "print_output")


_EVENTS_KEPT = 100_000
_TICK = 5.0
# What is let go of is gathered for so long: to tell an engine of each would cost more than
# the task did. With no more of it for a second, the thread sleeps until there is.
_GATHER_SECONDS = 0.02
_AWAKE_SECONDS = 1.0
# Others than those that settle a task and so wake who waits for it.
_WAITED_FOR = (
    ev.ChunkStored,
    ev.ChunkFailed,
    ev.RunFinished,
    ev.RunFailed,
    ev.WorkerJoined,
    ev.WorkerLeft,
    ev.ChunksArrived,
    ev.RunHandedBack,
    ev.RunStopped,
)
_MOST_UNSENT = 64
# With so many tasks unfinished, whoever spawns more waits now and then for as many to end:
# else a loop keeps the processor from the very thread that hands them to engines.
_MANY = 20_000
_PACE_TASKS = 256
_PACE_TASKS_MOST = 8192
_PACE_SECONDS = 0.05


class Wire(Protocol):
    """The way to the agents of some processes.

    Attributes:
        any_thread: True if any thread may flush it.
    """

    any_thread: bool

    def send(self, worker: WorkerId, order: msg.Order) -> None:
        """Takes an order, to leave at the next flush."""

    def flush(self) -> None:
        """Sends what has gathered."""

    def functions(self, worker: WorkerId) -> KnownFunctions:
        """Returns which functions an agent was sent."""

    def forget(self, worker: WorkerId) -> None:
        """Drops what was to go to a process that is gone."""

    def ask(self, worker: WorkerId, chunks: Sequence[int], timeout: float | None) -> list[Given]:
        """Asks for chunks, as the client."""


class Receiver(Protocol):
    """Receives reports, in a thread of its own or in one that waits for them."""

    def lead(self, holds: Callable[[], bool], until: float | None) -> bool:
        """Receives in the caller's thread until something holds."""

    def nudge(self) -> None:
        """Has whoever leads see whether what it waits for holds now."""

    def resume(self) -> None:
        """Receives in the thread of its own again, at once."""


class Driver:
    """Runs the scheduler of one session.

    Args:
        topology: the processes there are at the start.
        threaded: False to do everything in the caller's thread, at once.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        threaded: bool,
    ) -> None:
        self.scheduler = Scheduler(topology)
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.wires: dict[WorkerId, Wire] = {}
        self.began = time.time()
        self.each_turn: Callable[[], None] = lambda: None
        self.bring: Callable[[Task], None] | None = None
        self.on_kind: Callable[[WorkerId, msg.KindFound], None] = lambda *_: None
        self.on_offered: Callable[[WorkerId, Sequence[int]], None] = lambda *_: None
        self.kill: Callable[[WorkerId], None] = lambda _: None
        self.receiver: Receiver | None = None
        self._threaded = threaded
        self._inbox: deque[tuple[WorkerId, list[msg.Report]]] = deque()
        self._released: deque[int] = deque()
        self._unwanted: deque[int] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._broken: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._callbacks = ThreadLane("scopekit-callbacks")
        self._calls: dict[int, Call] = {}
        self._pending: dict[int, Task] = {}
        # Tasks that tasks spawned: where the handles are, and where the functions come from.
        self._homes: dict[int, WorkerId] = {}
        self._functions: dict[tuple[WorkerId, bytes], bytes] = {}
        # Which holders were told of a new scope, and have not said that they go by it.
        self._following: set[tuple[WorkerId, int]] = set()
        self._sinks: dict[int, Callable[[str, str], None]] = {}
        self._later: deque[ev.Event] = deque()
        self._waits_for_changes = 0
        self._unsent = 0
        self._urgent = False
        self._enough = 1
        self._dozing = False
        self._released_at = 0.0
        self._unpaced = 0
        self._pace_after = _PACE_TASKS
        # Plain tuples of plain values, which the garbage collector need not look into.
        self._log: deque[_LogEntry] = deque(maxlen=_EVENTS_KEPT)
        self._carry_out: dict[type, Callable[[Any], None]] = {
            ev.StartRun: self._start_run,
            ev.SendChunk: self._send_chunk,
            ev.DropChunks: self._drop,
            ev.RescopeChunk: self._rescope,
            ev.RetractRuns: self._retract,
            ev.RunsAskedBack: self._ask_back,
            ev.StopRuns: self._stop_runs,
            ev.KillWorker: lambda command: self.kill(command.worker),
            ev.ForgetCalls: self._forget_calls,
        }

    # -- events in ----------------------------------------------------------------

    def spawn(
        self,
        spec: TaskSpec,
        call: Call,
        task: Task,
        sink: Callable[[str, str], None] | None,
    ) -> None:
        """Takes a task in.

        Raises:
            SchedulingError: the program's text already shows that it cannot be placed.
        """
        if self._broken is not None:
            raise self._broken_error(task)
        with shield:
            self._take(spec, call, task, sink)
        if len(self._pending) > _MANY:
            self._unpaced += 1
            if self._unpaced >= self._pace_after:
                self._pace()

    def _take(
        self,
        spec: TaskSpec,
        call: Call,
        task: Task,
        sink: Callable[[str, str], None] | None,
    ) -> None:
        if not self._threaded:
            self._drop_released()
        if call.handles:
            # The call may be kept for long, and would keep what it was given alive.
            call = Call(call.digest, call.function, call.arguments, (), call.apart)
        self._calls[spec.id] = call
        self._pending[spec.id] = task
        if sink is not None:
            self._sinks[spec.id] = sink
        refused = self._handle(ev.TaskSpawned(spec, time.time()))
        if refused is not None:
            self._calls.pop(spec.id, None)
            self._pending.pop(spec.id)
            self._sinks.pop(spec.id, None)
            # A copy: what is raised takes the frames of its callers with it, and the
            # record keeps its own for as long as it is remembered.
            raise copy.copy(refused)
        if self._unsent:
            self._send_some()
        if spec.wait_for or spec.prefer:
            # The thread sleeps until the nearest deadline that it knew of.
            self._wake.set()

    def _pace(self) -> None:
        """Lets the engines catch up with whoever spawns, where they can do so at once.

        Never for longer: all of them may wait for what is spawned next, or be slow, and
        then nothing is won by waiting but time to queue them in.
        """
        self._unpaced = 0
        few = max(_MANY, len(self._pending) - self._pace_after)

        def caught_up() -> bool:
            return len(self._pending) <= few or self._closing

        self.send_now()
        until = time.monotonic() + _PACE_SECONDS
        if self.receiver is not None:
            self.receiver.lead(caught_up, until)
        left = until - time.monotonic()
        if left <= 0 or not self.wait_until(caught_up, left):
            self._pace_after = min(2 * self._pace_after, _PACE_TASKS_MOST)
        else:
            self._pace_after = _PACE_TASKS

    def _send_some(self) -> None:
        """Sends what a processor has nothing without; the rest, once enough has gathered.

        A processor that is idle gets its first task at once. What follows, before anybody
        waits, goes in batches that grow: each costs both ends as much as many tasks.
        """
        if self._unsent >= _MOST_UNSENT or (self._urgent and self._unsent >= self._enough):
            self._enough = min(2 * self._enough, _MOST_UNSENT)
            self._flush_from_anywhere()
        elif not self._wake.is_set():
            self._wake.set()

    def handle(self, event: ev.Event) -> SchedulingError | None:
        """Takes an event in, carries out what follows, settles futures.

        Returns:
            The error of a task that is refused at its spawn.
        """
        with shield:
            return self._handle(event)

    def _handle(self, event: ev.Event) -> SchedulingError | None:
        after: list[ev.Settle | msg.Output] = []
        with self.lock:
            refused = self._apply(event, after)
        self._finish(after)
        return refused

    def change_processes(
        self,
        workers: Iterable[WorkerId],
        change: Callable[[Process], Process],
        addresses: Mapping[WorkerId, msg.PeerAddress],
    ) -> None:
        """Changes living processes, and tells all of them.

        Args:
            workers: which of them.
            change: returns what a process is from now on.
            addresses: where engines serve their chunks.
        """
        after: list[ev.Settle | msg.Output] = []
        with self.lock:
            topology = self.scheduler.topology
            changed = [
                new
                for worker in workers
                if (old := topology.process(worker)) is not None and (new := change(old)) != old
            ]
            for process in changed:
                topology = topology.with_process(process)
            if not changed:
                return
            # Before what follows from it: whoever holds something judges by the same labels.
            told = msg.TopologyChanged(topology, dict(addresses))
            for worker, wire in self.wires.items():
                wire.send(worker, told)
            self._apply(ev.ProcessesChanged(tuple(changed), time.time()), after)
            self.changed.notify_all()
        self._finish(after)
        self.wake()

    def _apply(
        self, event: ev.Event, after: list[ev.Settle | msg.Output]
    ) -> SchedulingError | None:
        """Takes an event in and carries out what follows; called with the lock held.

        Args:
            event: the event.
            after: takes what is to be done once the lock is let go.
        """
        refused: SchedulingError | None = None
        if type(event) is ev.RunFinished:
            self._log.append((event.finished, "RunFinished", event.task, event.worker))
        elif type(event) is ev.TaskSpawned:
            self._log.append((event.at, "TaskSpawned", event.spec.id, None))
        else:
            self._log.append(_log_entry(event))
        for command in self.scheduler.handle(event):
            if type(command) is ev.Settle:
                after.append(command)
            elif type(command) is ev.Refuse:
                refused = command.error
            else:
                self._carry_out[type(command)](command)
        if type(event) is ev.RunStarted:
            self._mark_running(event.task)
        elif type(event) is ev.WorkerLeft:
            self._forget_home(event.worker)
        elif type(event) is ev.CancelAsked and event.grace is not None:
            # The thread sleeps until the nearest deadline that it knew of.
            self._wake.set()
        if self._waits_for_changes and type(event) in _WAITED_FOR:
            self.changed.notify_all()
        return refused

    def _finish(self, after: Sequence[ev.Settle | msg.Output]) -> None:
        for word in after:
            if type(word) is ev.Settle:
                self._settle(word)
            else:
                self._read_output(cast("msg.Output", word))
        if after:
            self.nudge()
        while self._later:
            self.handle(self._later.popleft())

    def nudge(self) -> None:
        """Has whoever receives in its own thread see whether what it waits for holds now."""
        if self.receiver is not None:
            self.receiver.nudge()

    def _handles_of(self, task_id: int) -> tuple[Task, ...]:
        """Returns the handles to all results of a task that has not ended."""
        task = self._pending.get(task_id)
        return () if task is None else (task, *task.outputs.values())

    def _mark_running(self, task_id: int) -> None:
        for task in self._handles_of(task_id):
            task.mark_running()

    def log(self) -> list[tuple[float, str, int | None, WorkerId | None]]:
        """Returns time, kind, task and worker of what happened, oldest first."""
        told = []
        last = self.began
        for at, kind, task, worker in list(self._log):
            last = last if at is None else at
            told.append((last, kind, task, worker))
        return told

    def wait_until(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        """Waits until something holds that only an event can bring about.

        Args:
            holds: is asked again after each event that may matter, with the lock held.
            timeout: seconds to wait at most; None waits without a limit.

        Returns:
            What it said last.
        """
        if self.receiver is not None:
            self.receiver.resume()
        with self.changed:
            self._waits_for_changes += 1
            try:
                return self.changed.wait_for(holds, timeout)
            finally:
                self._waits_for_changes -= 1

    def wait_for(self, task: Task, timeout: float | None) -> None:
        """Receives reports in the caller's thread until a task has ended.

        It may come back sooner, where that is not possible, or not in time.
        """
        self.send_now()
        if self.receiver is None:
            return
        until = None if timeout is None else time.monotonic() + timeout
        self.receiver.lead(task.done, until)
        if self._pending:
            self.receiver.resume()

    def take_reports(self, worker: WorkerId, reports: list[msg.Report]) -> None:
        """Takes reports of an agent, from any thread."""
        if not self._threaded:
            with shield:
                self._read_reports(worker, reports)
            return
        self._inbox.append((worker, reports))
        self._wake.set()

    def read_now(self, worker: WorkerId, reports: list[msg.Report]) -> None:
        """Takes reports of an agent and carries out what follows, in the caller's thread."""
        try:
            self._read_reports(worker, reports)
            if self._unsent:
                self.flush()
            if self.scheduler.patience.since:
                # The thread looks at the clock for those that wait for what they prefer.
                self._wake.set()
        except Exception as error:  # noqa: BLE001  # waiters must learn that nobody works
            self._break(error)

    def release(self, chunk_id: int) -> None:
        """Takes note that a handle is gone.

        This may run inside any other call, whenever Python collects the handle, so it
        only leaves word for the driver's own thread.
        """
        self._released.append(chunk_id)
        if self._dozing:
            self._wake.set()

    def cancel_soon(self, tasks: Sequence[int]) -> None:
        """Has tasks cancelled; may run inside any other call, as ``release`` may."""
        self._unwanted.extend(tasks)
        if self._dozing:
            self._wake.set()

    def cancel_unsent(self, task: int) -> None:
        """Cancels a task, unless it was sent to an engine."""
        after: list[ev.Settle | msg.Output] = []
        with shield:
            with self.lock:
                record = self.scheduler.tasks.get(task)
                if record is not None and record.processor is None:
                    self._apply(ev.CancelAsked(task, time.time()), after)
            self._finish(after)

    def wake(self) -> None:
        """Has the driver's thread look around."""
        self._wake.set()

    def catch_up(self) -> None:
        """Does at once what the driver's thread would, where there is none."""
        if not self._threaded:
            self._drop_released()

    # -- commands out ---------------------------------------------------------------

    def _start_run(self, command: ev.StartRun) -> None:
        task, processor, _ = command
        wire = self.wires.get(processor.worker)
        if wire is None:
            # Its engine left in this very moment, and that event comes next.
            return
        spec = self.scheduler.tasks[task].spec
        call = self._calls[task]
        function, forget = wire.functions(processor.worker).to_send(call)
        order = msg.Run(
            task,
            spec.name,
            call.digest,
            function,
            forget,
            call.arguments,
            processor,
            tuple([need.chunk for need in spec.inputs]) if spec.inputs else (),
            spec.outputs,
            spec.result_scope,
            spec.around,
            spec.how,
        )
        if spec.timeout is not None:
            self._order(processor.worker, msg.Limit(task, spec.timeout))
        self._order(processor.worker, order)
        if len(self.scheduler.loads.by_processor[processor].tasks) == 1:
            # Nothing else keeps it busy until more has gathered.
            self._urgent = True

    def _order(self, worker: WorkerId, order: msg.Order) -> None:
        wire = self.wires.get(worker)
        if wire is None:
            return
        try:
            wire.send(worker, order)
        except ScopekitError as error:
            if not isinstance(order, msg.Run):
                raise
            now = time.time()
            failure = dump_error(error, "the client")
            self._later.append(ev.RunFailed(order.task, worker, failure, now, now))
        self._unsent += 1

    def _send_chunk(self, command: ev.SendChunk) -> None:
        self._order(command.holder, msg.Send(command.chunk, command.to))

    def give_to(self, worker: WorkerId, items: Iterable[Pushed]) -> None:
        """Hands chunks that this process holds to an engine, or notes which it may not have."""
        for head, body in items:
            if isinstance(head, int):
                self._later.append(ev.ChunkPinned(head, cast("Scope", body)))
                self._later.append(ev.ChunksMissed(worker, (head,), time.time()))
            else:
                put = msg.Put(head.id, cast("Parcel", body), head.scope, head.processor, False)
                self._order(worker, put)

    def _drop(self, command: ev.DropChunks) -> None:
        version = self.scheduler.topology.version
        self._order(command.worker, msg.Drop(command.chunks, version))

    def _rescope(self, command: ev.RescopeChunk) -> None:
        if command.worker in self.wires:
            self._following.add((command.worker, command.chunk))
        self._order(command.worker, msg.Rescope(command.chunk, command.scope))

    def is_followed(self, chunk: int) -> bool:
        """Tells whether all holders of a chunk go by its present scope."""
        return all(followed != chunk for _, followed in self._following)

    def _retract(self, command: ev.RetractRuns) -> None:
        self._order(command.worker, msg.Retract(command.tasks))

    def _ask_back(self, command: ev.RunsAskedBack) -> None:
        self._order(command.worker, msg.GiveBack(command.tasks))

    def _stop_runs(self, command: ev.StopRuns) -> None:
        self._order(command.worker, msg.Stop(command.tasks))

    def _forget_calls(self, command: ev.ForgetCalls) -> None:
        for task in command.tasks:
            self._calls.pop(task, None)

    def _settle(self, settle: ev.Settle) -> None:
        if self._sinks:
            self._sinks.pop(settle.task, None)
        first = self._pending.pop(settle.task, None)
        if first is None:
            self._settle_at_home(settle)
            return
        if first.brings and settle.state == "done" and self.bring is not None:
            self.bring(first)
            return
        if settle.state == "done" and not first.outputs:
            first.mark_done()
            return
        for task in (first, *first.outputs.values()):
            if settle.state == "done":
                task.mark_done()
                continue
            error = self._error(task.name, settle)
            if isinstance(settle.failure, TaskCancelledError):
                task.mark_cancelled(cast("TaskCancelledError", error))
            else:
                task.set_exception(error)

    def _settle_at_home(self, settle: ev.Settle) -> None:
        """Tells the engine that has the handle how a task ended, unless it ended it itself."""
        home = self._homes.pop(settle.task, None)
        if home is None:
            return
        with self.lock:
            record = self.scheduler.tasks.get(settle.task)
            if record is None or (settle.state == "done" and _ran_on(record, home)):
                return
            results = [self.scheduler.chunks.get(output) for output in record.spec.outputs]
        self._send_from_here(home, results)
        stored = tuple(
            StoredChunk(chunk.id, chunk.scope, chunk.processor, chunk.type, chunk.nbytes)
            for chunk in results
            if chunk is not None and chunk.processor is not None and settle.state == "done"
        )
        error, state = settle.failure, settle.state
        if isinstance(error, TaskCancelledError):
            error, state = self._error(record.spec.name, settle), "cancelled"
        if error is not None and not isinstance(error, PickledError):
            error = dump_error(error, "the client")
        self._order(home, msg.Settled(settle.task, state, stored, None, error))
        self._wake.set()

    def _send_from_here(self, home: WorkerId, results: Iterable[ChunkRecord | None]) -> None:
        """Sends an engine results that this process has, and which it cannot ask for."""
        for chunk in results:
            if chunk is not None and CLIENT in chunk.holders and home not in chunk.holders:
                self._order(CLIENT, msg.Send(chunk.id, home))

    def _forget_home(self, worker: WorkerId) -> None:
        self._homes = {task: home for task, home in self._homes.items() if home != worker}
        self._following = {each for each in self._following if each[0] != worker}
        self._functions = {key: f for key, f in self._functions.items() if key[0] != worker}

    def _take_child(
        self, worker: WorkerId, report: msg.Spawned, after: list[ev.Settle | msg.Output]
    ) -> None:
        """Takes in what a task spawned; called with the lock held."""
        spec, digest, function, forget, arguments, chunks, processor, at = report
        for old in forget:
            self._functions.pop((worker, old), None)
        if function is not None:
            self._functions[worker, digest] = function
        pickled = self._functions.get((worker, digest), b"")
        self._calls[spec.id] = Call(digest, pickled, arguments, ())
        self._homes[spec.id] = worker
        if spec.operands == DEFAULT_OPERANDS:
            # The one object, by which it is known again.
            spec = spec._replace(operands=DEFAULT_OPERANDS)
        new = [stored for stored in chunks if stored.id not in self.scheduler.chunks]
        for stored in new:
            record = ChunkRecord(stored.id, stored.scope, processor=stored.processor)
            self.scheduler.expect(record)
        self._apply(ev.ChildSpawned(spec, worker, processor, at), after)
        for stored in new:
            self._apply(ev.ChunkStored(stored, stored.processor.worker, at), after)

    def _error(self, name: str, settle: ev.Settle) -> BaseException:
        origin = None
        if settle.origin is not None:
            origin = self.scheduler.name_of(settle.origin)
        if isinstance(settle.failure, PickledError):
            who = f"raised by task {origin or name} on {settle.failure.place}"
            if origin is not None:
                who += f"; task {name} {self._tie(settle.task)}"
            return settle.failure.rebuild(who)
        error: BaseException = copy.copy(settle.failure)
        if origin is None:
            return error
        if isinstance(error, TaskCancelledError):
            return bereft_error(name, origin)
        tie = self._tie(settle.task)
        error.add_note(f"this is what ended task {origin}; task {name} {tie}")
        return error

    def _tie(self, task: int) -> str:
        """Tells what a task has to do with the one that it ended by."""
        record = self.scheduler.tasks.get(task)
        if record is None or not record.spec.after:
            return "needs its result"
        return "was to run after it" + (", or needs its result" if record.spec.inputs else "")

    # -- the driver's own thread ------------------------------------------------------

    def start(self) -> None:
        """Starts the thread that reads reports and sends orders."""
        if self._threaded:
            self._thread = threading.Thread(target=self._work, name="scopekit-session", daemon=True)
            self._thread.start()
            self._wake.set()

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(self._pause())
            self._wake.clear()
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001  # waiters must learn that nobody works
                self._break(error)
                return

    def _break(self, error: BaseException) -> None:
        self._broken = error
        self.end_all(self._broken_error)

    def _broken_error(self, task: Task) -> ScopekitError:
        cause = self._broken
        return ScopekitError(
            f"{task.name} cannot be finished: its session broke"
            f" ({type(cause).__name__}: {cause}). Please report this."
        )

    def turn(self) -> None:
        """Does what there is to do now: reads, releases, watches the clock, sends."""
        while self._inbox:
            self._read_reports(*self._inbox.popleft())
        self._drop_released()
        self.each_turn()
        with self.lock:
            deadline = self.scheduler.next_deadline()
        if deadline is not None and time.time() >= deadline:
            self.handle(ev.TimePassed(time.time()))
        self.flush()

    def flush(self) -> None:
        """Sends what has gathered."""
        self._unsent = 0
        self._urgent = False
        self._enough = 1
        for wire in self._distinct_wires():
            wire.flush()

    def _distinct_wires(self) -> list[Wire]:
        return list(dict.fromkeys(self.wires.values()))

    def send_now(self) -> None:
        """Sends what has gathered, as far as that can be done in the caller's thread."""
        self._enough = 1
        if self._unsent:
            self._flush_from_anywhere()

    def _flush_from_anywhere(self) -> None:
        self._unsent = 0
        self._urgent = False
        with shield:
            for wire in self._distinct_wires():
                if wire.any_thread:
                    wire.flush()
                else:
                    self._wake.set()

    def _pause(self) -> float:
        """Returns for how many seconds the thread may sleep if nobody wakes it."""
        if time.monotonic() - self._released_at < _AWAKE_SECONDS:
            return _GATHER_SECONDS
        # In this order: what is let go of in between either wakes the thread or is seen here.
        self._dozing = True
        return _GATHER_SECONDS if self._released else self._until_deadline()

    def _until_deadline(self) -> float:
        with self.lock:
            deadline = self.scheduler.next_deadline()
        return _TICK if deadline is None else max(0.0, min(_TICK, deadline - time.time()))

    def _drop_released(self) -> None:
        while self._unwanted:
            self.cancel_unsent(self._unwanted.popleft())
        gone: list[int] = []
        while self._released:
            gone.append(self._released.popleft())
        if gone:
            self._dozing = False
            self._released_at = time.monotonic()
            self.handle(ev.HandlesDropped(tuple(gone)))

    def _read_reports(self, worker: WorkerId, reports: Iterable[msg.Report]) -> None:
        after: list[ev.Settle | msg.Output] = []
        aside: list[msg.KindFound | msg.Offered] = []
        # All of a batch at once: to pass the lock to and fro costs more than the work.
        with self.lock:
            for report in reports:
                if type(report) is msg.Finished:
                    task, results, started, finished, value = report
                    told = value is not None and task in self._pending
                    if told:
                        self._pending[task].plain_value = value
                    done = ev.RunFinished(task, worker, results, started, finished, told)
                    self._apply(done, after)
                elif type(report) is msg.Output:
                    after.append(report)
                elif type(report) is msg.ScopeFollowed:
                    self._following.discard((worker, report.chunk))
                    self.changed.notify_all()
                elif type(report) is msg.Spawned:
                    self._take_child(worker, report, after)
                elif isinstance(report, (msg.KindFound, msg.Offered)):
                    aside.append(report)
                else:
                    self._apply(_event(report, worker), after)
        self._finish(after)
        for report in aside:
            if isinstance(report, msg.KindFound):
                self.on_kind(worker, report)
            else:
                self.on_offered(worker, report.chunks)

    def _read_output(self, report: msg.Output) -> None:
        for task in self._handles_of(report.task):
            task.add_output(report.stream, report.text)
        # A cell's display may be gone; that must not end the session.
        with contextlib.suppress(Exception):
            self._sinks.get(report.task, print_output)(report.stream, report.text)

    def call_back(self, callback: Callable[[], None]) -> None:
        """Runs the callbacks of a future on a thread that may wait."""
        if self._threaded:
            self._callbacks.submit(callback)
        else:
            callback()

    # -- end ----------------------------------------------------------------------------

    def end_all(self, error: Callable[[Task], ScopekitError]) -> None:
        """Ends every wait, each with the error made for its task."""
        tasks = [handle for task in list(self._pending) for handle in self._handles_of(task)]
        self._pending.clear()
        for task in tasks:
            with contextlib.suppress(Exception):  # it may have ended in the meantime
                task.mark_stopped(error(task))

    def close(self) -> None:
        """Ends the threads, within seconds."""
        self._closing = True
        self._wake.set()
        with self.changed:
            self.changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_TICK)

    @property
    def closing(self) -> bool:
        """Tells whether the session is at its end: nothing more will arrive."""
        return self._closing

    def close_callbacks(self) -> None:
        """Ends the thread that runs callbacks, once the last one has run or after a limit."""
        self._callbacks.finish()


_LogEntry = tuple[float | None, str, int | None, "WorkerId | None"]


def _log_entry(event: ev.Event) -> _LogEntry:
    at = getattr(event, "at", None) or getattr(event, "finished", None)
    task = event.spec.id if type(event) is ev.ChildSpawned else getattr(event, "task", None)
    return at, type(event).__name__, task, getattr(event, "worker", None)


def _ran_on(record: TaskRecord, worker: WorkerId) -> bool:
    return record.processor is not None and record.processor.worker == worker


_EVENTS: dict[type, Callable[[Any, WorkerId], ev.Event]] = {
    msg.Started: lambda said, worker: ev.RunStarted(said.task, worker, said.at),
    msg.Paused: lambda said, worker: ev.RunPaused(said.task, worker, said.at),
    msg.Resumed: lambda said, worker: ev.RunResumed(said.task, worker, said.at),
    msg.RunError: lambda said, worker: ev.RunFailed(
        said.task, worker, said.error, said.started, said.finished
    ),
    msg.HandedBack: lambda said, worker: ev.RunHandedBack(
        said.task, worker, said.chunk, said.scope, time.time()
    ),
    msg.Pinned: lambda said, _: ev.ChunkPinned(said.chunk, said.scope, said.why),
    msg.Stopped: lambda said, worker: ev.RunStopped(said.task, worker, *said[1:]),
    msg.CancelWanted: lambda said, _: ev.CancelAsked(said.task, time.time(), said.grace),
    msg.Arrived: lambda said, worker: ev.ChunksArrived(
        worker, said.chunks, min(said.at, time.time()), said.version
    ),
    msg.StillWaiting: lambda said, worker: ev.ChunksMissed(worker, said.chunks, time.time()),
    msg.Borrowed: lambda said, worker: ev.ChunkBorrowed(said.chunk, worker, time.time()),
    msg.Rescoped: lambda said, worker: ev.ChunkRescoped(said.change, worker),
    msg.Unheld: lambda said, worker: ev.ChunksUnheld(worker, said.chunks),
    msg.Returned: lambda said, worker: ev.HandlesReturned(worker, said.chunks),
    msg.KeptOut: lambda said, _: ev.ChunkPinned(said.chunk, said.scope),
    msg.ChunkPut: lambda said, worker: ev.ChunkStored(
        said.chunk, worker, time.time(), said.version
    ),
    msg.PutFailed: lambda said, worker: ev.ChunkFailed(said.chunk, worker, said.error, time.time()),
}


def _event(report: msg.Report, worker: WorkerId) -> ev.Event:
    return _EVENTS[type(report)](report, worker)


def print_output(stream: str, text: str) -> None:
    """Prints what a task wrote, where nobody else asked for it."""
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(text)
    target.flush()
