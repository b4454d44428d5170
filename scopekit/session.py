"""The session: joins scheduler, wire and clock.

Events reach the scheduler from three sides: users' threads that spawn, reports of
the engines, and the clock. One lock makes them a sequence; the commands that follow
are carried out before it is let go, which only ever appends to what the session's
own thread will send. Futures are settled outside of it, since their waiters run then.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import secrets
import sys
import threading
import time
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scopekit import handles
from scopekit.engine.agent import Agent
from scopekit.engine.context import running_task
from scopekit.engine.lanes import InlineLane, ThreadLane
from scopekit.engine.output import route_output
from scopekit.errors import (
    ChunkLostError,
    NoProcessorError,
    SchedulingError,
    ScopeError,
    ScopekitError,
    ScopeViolationError,
    TaskCancelledError,
)
from scopekit.gather import gather
from scopekit.graph import ChunkRecord, Input, StoredChunk, TaskSpec
from scopekit.guard import guard
from scopekit.handles import Chunk, Task
from scopekit.options import Options, block_options, operands
from scopekit.places import Process, Topology
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scheduler.placement import explain as explain_operands
from scopekit.scheduler.placement import refusal
from scopekit.scopes import AnyScope, OSProc, ThreadProc, ambient, as_scope, constrain
from scopekit.wire import messages as msg
from scopekit.wire.codec import PickledError, dump_value, load_value, pack_call, type_name
from scopekit.wire.identity import identity_card
from scopekit.wire.local import LocalWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scopekit.explanation import Explanation
    from scopekit.graph import WorkerId
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.cluster import ClusterLink
    from scopekit.wire.peers import PeerClient
    from scopekit.wire.views import ViewWire

__all__ = ("OptionSet", "Session", "current_session", "innermost_session")

_CLIENT = "client"
_REACHABLE_SECONDS = 2.0
_EVENTS_KEPT = 100_000
_TICK = 5.0

_sessions: list[Session] = []


def innermost_session() -> Session | None:
    """Returns the session that module-level functions act on, None if there is none."""
    return _sessions[-1] if _sessions else None


def current_session() -> Session:
    """Returns the session that module-level functions act on.

    Raises:
        ScopekitError: there is none.
    """
    session = innermost_session()
    if session is None:
        raise ScopekitError("there is no session; start one with scopekit.start()")
    return session


class OptionSet:
    """Options that wait for the call they are meant for."""

    def __init__(self, session: Callable[[], Session], given: Options) -> None:
        self._session = session
        self._given = given

    def spawn(self, f: Any, /, *args: Any, **kwargs: Any) -> Task:
        """Spawns a task with these options; every keyword goes to the function."""
        return self._session().submit(self._given, f, args, kwargs)

    def plan(self, f: Any, /, *args: Any, **kwargs: Any) -> Explanation:
        """Tells where such a task would go, without running it."""
        return self._session().plan_call(self._given, f, args, kwargs)


class Session:
    """Engines, what they hold, and the tasks that they were given.

    Made by ``scopekit.start`` and ``scopekit.connect``.

    Args:
        link: the engines, or None to run everything in this process.
        threads: how many threads of each engine run tasks, the main thread among them.
    """

    def __init__(self, link: ClusterLink | None, *, threads: int = 1) -> None:
        self.id = f"scopekit-{secrets.token_hex(6)}"
        self.name = link.session_id if link is not None else "in this process"
        self._link = link
        self._threads = threads
        self._began = time.time()
        self._ids = itertools.count(1)
        self._names: dict[str, int] = {}
        self._lock = threading.RLock()
        self._inbox: deque[tuple[WorkerId, list[msg.Report]]] = deque()
        self._released: deque[int] = deque()
        self._changes: deque[tuple[int, ...]] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._pending: dict[int, list[Task]] = {}
        self._calls: dict[int, tuple[bytes, bytes, Scope | None]] = {}
        self._functions: dict[bytes, bytes] = {}
        self._sinks: dict[int, Callable[[str, str], None]] = {}
        self._callbacks = ThreadLane("scopekit-callbacks")
        self._wires: dict[WorkerId, ViewWire | LocalWire] = {}
        self._views: ViewWire | None = None
        self._asker: PeerClient | None = None
        self._reachable: dict[WorkerId, bool] = {}
        self._addresses: dict[WorkerId, msg.PeerAddress] = {}
        self._log: deque[tuple[float, str, int | None, WorkerId | None]] = deque(
            maxlen=_EVENTS_KEPT
        )
        self._restore_output: Callable[[], None] | None = None
        self._cleanups: list[Callable[[], None]] = []
        self._node_ids: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        processes = self._open_here()
        self._scheduler = Scheduler(Topology(processes))
        if link is not None:
            self._open_engines(link)
        self._tell_topology()
        _sessions.append(self)
        ambient.set_provider(_surroundings)
        handles.set_reviver(_revive)
        self._start_thread()

    # -- opening ----------------------------------------------------------------

    def _open_here(self) -> list[Process]:
        """Makes this process a place: the client, or worker 0 where there is no engine."""
        inline = self._link is None
        card = identity_card()
        node = self._node_name(card["node_name"], card["node"])
        worker: WorkerId = 0 if inline else _CLIENT
        count = self._threads if inline else 1
        processors: tuple[Processor, ...] = tuple(ThreadProc(worker, t) for t in range(count))
        lanes = {
            processor: InlineLane() if inline else ThreadLane(f"scopekit-client-{index}")
            for index, processor in enumerate(processors)
        }
        self._local = Agent(
            worker, Topology(), lanes, self._reports_of(worker), self._fetch_for_client
        )
        self._here: WorkerId = worker
        self._wires[worker] = LocalWire(self._local)
        if inline:
            self._restore_output = route_output()
        return [Process(worker, node, processors, pid=os.getpid(), incarnation=card["node"])]

    def _open_engines(self, link: ClusterLink) -> None:
        from scopekit.wire.peers import PeerClient, key_pair  # noqa: PLC0415  # loads zmq
        from scopekit.wire.views import ViewWire  # noqa: PLC0415  # loads ipyparallel

        self._keys = key_pair()
        self._asker = PeerClient(self._keys)
        self._views = ViewWire(link, self.id, self._on_reports)
        self._views.on_room = self._wake.set  # type: ignore[method-assign]
        self._join(link.engine_ids())

    def _join(self, workers: Iterable[int]) -> None:
        """Makes engines ready and part of the session."""
        assert self._link is not None
        assert self._views is not None
        wanted = [worker for worker in workers if not self._scheduler.topology.knows(worker)]
        if not wanted:
            return
        cards = self._link.probe(wanted)
        for worker in wanted:
            _check_card(worker, cards.get(worker))
        configs = [self._config(worker, cards[worker]) for worker in wanted]
        for card in self._views.open_agents(configs):
            process = self._process(card)
            self._wires[card.worker] = self._views
            if card.address is not None:
                self._addresses[card.worker] = card.address
            self._handle(ev.WorkerJoined(process, time.time()))

    def _config(self, worker: int, card: Mapping[str, Any]) -> msg.AgentConfig:
        assert self._views is not None
        assert self._link is not None
        shares_disk = self._link.owned and card["node_name"] is not None
        return msg.AgentConfig(
            session=self.id,
            worker=worker,
            threads=self._threads,
            report_header=self._views.report_header,
            client_key=self._keys[0],
            interface=_interface(self._link),
            directory=_working_directory() if shares_disk else None,
            path=tuple(entry for entry in sys.path if entry) if shares_disk else (),
        )

    def _process(self, card: msg.AgentCard) -> Process:
        node = self._node_name(card.node_name, card.node_id)
        processors = tuple(ThreadProc(card.worker, thread) for thread in range(self._threads))
        return Process(
            card.worker, node, processors, pid=card.pid, incarnation=card.incarnation
        )

    def _node_name(self, name: str, node_id: str) -> str:
        """Names a machine: hosts that share a name and are not the same get a number."""
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}#{number}"
            if self._node_ids.setdefault(candidate, node_id) == node_id:
                return candidate
        raise AssertionError

    def _tell_topology(self) -> None:
        change = msg.TopologyChanged(self.topology, dict(self._addresses))
        for worker, wire in self._wires.items():
            wire.send(worker, change)  # type: ignore[arg-type]

    def _start_thread(self) -> None:
        if self._link is None:
            return
        self._thread = threading.Thread(target=self._work, name="scopekit-session", daemon=True)
        self._thread.start()
        self._wake.set()
        self._cleanups.append(self._link.watch(self._on_engines_changed))

    # -- the session's own thread -------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            self._wake.wait(self._until_deadline())
            self._wake.clear()
            try:
                self._work_once()
            except Exception as error:  # noqa: BLE001  # waiters must learn that nobody works
                self._fail_all(error)
                return

    def _work_once(self) -> None:
        while self._inbox:
            worker, reports = self._inbox.popleft()
            self._take_reports(worker, reports)
        self._drop_released()
        while self._changes:
            self._follow_engines(self._changes.popleft())
        deadline = self._scheduler.next_deadline()
        if deadline is not None and time.time() >= deadline:
            self._handle(ev.TimePassed(time.time()))
        if self._views is not None:
            self._views.flush()

    def _until_deadline(self) -> float:
        with self._lock:
            deadline = self._scheduler.next_deadline()
        return _TICK if deadline is None else max(0.0, min(_TICK, deadline - time.time()))

    def _drop_released(self) -> None:
        gone: list[int] = []
        while self._released:
            gone.append(self._released.popleft())
        if gone:
            self._handle(ev.HandlesDropped(tuple(gone)))

    def _on_engines_changed(self, workers: tuple[int, ...]) -> None:
        self._changes.append(workers)
        self._wake.set()

    def _follow_engines(self, workers: tuple[int, ...]) -> None:
        topology = self.topology
        left = [w for w in topology.workers if w not in workers]
        for worker in left:
            assert self._views is not None
            self._views.forget(int(worker))
            self._wires.pop(worker, None)
            self._addresses.pop(worker, None)
            self._handle(ev.WorkerLeft(worker, time.time()))
        joined = [w for w in workers if not topology.knows(w)]
        if joined:
            try:
                self._join(joined)
            except ScopekitError as error:
                print(f"scopekit: {error}", file=sys.stderr)  # noqa: T201  # nobody waits for it
        if left or joined:
            self._tell_topology()

    # -- events and commands ------------------------------------------------------

    def _handle(self, event: ev.Event) -> SchedulingError | None:
        """Takes an event in, carries out what follows, and settles futures.

        Returns:
            The error of a task that is refused at its spawn.
        """
        refused: SchedulingError | None = None
        settled: list[ev.Settle] = []
        with self._lock:
            self._note(event)
            for command in self._scheduler.handle(event):
                if isinstance(command, ev.Settle):
                    settled.append(command)
                elif isinstance(command, ev.Refuse):
                    refused = command.error
                elif isinstance(command, ev.StartRun):
                    self._start_run(command)
                else:
                    self._drop(command)
        for settle in settled:
            self._settle(settle)
        return refused

    def _note(self, event: ev.Event) -> None:
        task = getattr(event, "task", None)
        if isinstance(event, ev.TaskSpawned):
            task = event.spec.id
        at = getattr(event, "at", None) or getattr(event, "finished", None) or time.time()
        self._log.append((at, type(event).__name__, task, getattr(event, "worker", None)))

    def _start_run(self, command: ev.StartRun) -> None:
        spec = self._scheduler.tasks[command.task].spec
        digest, arguments, result_scope = self._calls[command.task]
        worker = command.processor.worker
        wire = self._wires[worker]
        if digest and wire.needs_function(worker, digest):  # type: ignore[arg-type]
            order = msg.Functions({digest: self._functions[digest]})
            wire.send(worker, order)  # type: ignore[arg-type]
        for chunk, holder in command.inputs:
            if holder == self._here and worker != self._here:
                self._push(chunk, worker)
        run = msg.Run(
            task=command.task,
            name=spec.name,
            digest=digest,
            arguments=arguments,
            processor=command.processor,
            inputs=command.inputs,
            outputs=spec.outputs,
            result_scope=result_scope,
        )
        wire.send(worker, run)  # type: ignore[arg-type]
        self._wake.set()

    def _push(self, chunk: int, worker: WorkerId) -> None:
        """Hands a copy of a value that the client holds to an engine."""
        record = self._scheduler.chunks[chunk]
        if worker in record.holders:
            return
        stored, pickled = self._local.give([chunk], worker)[0]
        put = msg.Put(chunk, pickled, stored.scope, stored.processor, reports=False)
        self._wires[worker].send(worker, put)  # type: ignore[arg-type]
        record.holders.append(worker)

    def _drop(self, command: ev.DropChunks) -> None:
        wire = self._wires.get(command.worker)
        if wire is not None:
            wire.send(command.worker, msg.Drop(command.chunks))  # type: ignore[arg-type]

    def _settle(self, settle: ev.Settle) -> None:
        self._calls.pop(settle.task, None)
        self._sinks.pop(settle.task, None)
        tasks = self._pending.pop(settle.task, [])
        for task in tasks:
            if settle.state == "done":
                task.set_result(None)
            elif settle.state == "cancelled":
                Task.mark_cancelled(task)
            else:
                task.set_exception(self._error(task, settle))

    def _error(self, task: Task, settle: ev.Settle) -> BaseException:
        origin = None
        if settle.origin is not None:
            origin = self._scheduler.tasks[settle.origin].spec.name
        if isinstance(settle.failure, PickledError):
            return settle.failure.rebuild(task.name, origin)
        error: BaseException = settle.failure
        if origin is None:
            return error
        error = copy.copy(error)
        error.add_note(f"this is what ended task {origin}; task {task.name} needs its result")
        return error

    def _fail_all(self, cause: BaseException) -> None:
        """Ends every wait when the session can do no more work."""
        tasks = list(itertools.chain.from_iterable(self._pending.values()))
        self._pending.clear()
        for task in tasks:
            error = ScopekitError(f"{task.name} cannot be finished: the session ended ({cause})")
            with contextlib.suppress(Exception):  # some may have ended in the meantime
                task.set_exception(error)

    # -- reports ------------------------------------------------------------------

    def _reports_of(self, worker: WorkerId) -> Callable[[list[msg.Report]], None]:
        if self._link is None:
            return lambda reports: self._take_reports(worker, reports)
        return lambda reports: self._on_reports(worker, reports)

    def _on_reports(self, worker: WorkerId, reports: list[msg.Report]) -> None:
        self._inbox.append((worker, reports))
        self._wake.set()

    def _take_reports(self, worker: WorkerId, reports: list[msg.Report]) -> None:
        for report in reports:
            if isinstance(report, msg.Output):
                self._take_output(report)
            else:
                self._handle(_event(report, worker))

    def _take_output(self, report: msg.Output) -> None:
        for task in self._pending.get(report.task, ()):
            task.add_output(report.stream, report.text)
        self._sinks.get(report.task, _print)(report.stream, report.text)

    # -- spawning -------------------------------------------------------------------

    def spawn(
        self,
        f: Any,
        /,
        *args: Any,
        scope: Any = None,
        compute_scope: Any = None,
        result_scope: Any = None,
        **kwargs: Any,
    ) -> Task:
        """Makes a task of a call.

        Args:
            f: what to call: a function, or a handle to one that lives somewhere.
            args: its positional arguments; the value of a task or chunk takes its
                place, in lists, tuples, dicts and sets too.
            scope: where the task may run.
            compute_scope: the same, and wins over ``scope``.
            result_scope: where the result is valid; the task runs inside of that, too.
            kwargs: the function's keyword arguments.

        Returns:
            The task; its value stays where it was made until it is fetched.

        Raises:
            ScopeError: a scope makes no sense.
            SchedulingError: the task can be placed nowhere.
            ScopekitError: the function or an argument does not pickle.
        """
        given: dict[str, Any] = {"scope": scope, "compute_scope": compute_scope}
        given["result_scope"] = result_scope
        return self.submit(Options.checked(given, "spawn"), f, args, kwargs)

    def options(self, **options: Any) -> OptionSet:
        """Gives options to the spawn that follows: ``session.options(name="fit").spawn(f)``.

        Raises:
            ScopeError: an option is unknown or makes no sense.
        """
        return OptionSet(lambda: self, Options.checked(options, "options"))

    def submit(
        self,
        given: Options,
        f: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        outputs: Sequence[str] = (),
        cell: int | None = None,
        sink: Callable[[str, str], None] | None = None,
    ) -> Task:
        """Makes a task of a call; the form of ``spawn`` that magics use.

        Args:
            given: its options.
            f: what to call.
            args: its positional arguments.
            kwargs: its keyword arguments.
            outputs: names of further results; the function returns a tuple, the
                result first, and ``task.outputs`` has a task for each name.
            cell: the number of the cell that spawns it.
            sink: takes stream name and text of what it prints.
        """
        self._check_open()
        if not callable(f) and not isinstance(f, (Task, Chunk)):
            raise TypeError(f"a task calls something, and {type_name(f)} cannot be called")
        function = _function_name(f)
        merged = given.merged_over(block_options())
        name = merged.name or self._number(function)
        call = pack_call(f, args, kwargs, name=name)
        inputs = tuple(self._input(origin, handle, name) for origin, handle in call.handles)
        ids = tuple(next(self._ids) for _ in range(2 + len(outputs)))
        spec = TaskSpec(
            id=ids[0],
            name=name,
            function=function,
            operands=operands(given),
            inputs=inputs,
            outputs=ids[1:],
            result_scope=merged.result_scope,
            wait_for=merged.wait_for,
            idempotent=merged.idempotent,
            cell=cell,
        )
        task = Task(self, spec.id, name, ids[1])
        task.outputs = {
            key: Task(self, spec.id, key, chunk)
            for key, chunk in zip(outputs, ids[2:], strict=True)
        }
        self._calls[spec.id] = (call.digest, call.arguments, merged.result_scope)
        if call.digest:
            self._functions.setdefault(call.digest, call.function)
        if sink is not None:
            self._sinks[spec.id] = sink
        self._pending[spec.id] = [task, *task.outputs.values()]
        refused = self._handle(ev.TaskSpawned(spec, time.time()))
        if refused is not None:
            raise refused
        return task

    def plan_call(
        self, given: Options, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Explanation:
        """Tells where a task would go, without running it."""
        self._check_open()
        function = _function_name(f)
        name = given.name or function
        call = pack_call(f, args, kwargs, name=name)
        inputs = tuple(self._input(origin, handle, name) for origin, handle in call.handles)
        merged = given.merged_over(block_options())
        spec = TaskSpec(0, name, function, operands(given), inputs, (), merged.result_scope)
        with self._lock:
            return self._scheduler.plan(spec)

    def plan(self, f: Any, /, *args: Any, **kwargs: Any) -> Explanation:
        """Tells where ``spawn`` with the same arguments would run, without running it."""
        keys = ("scope", "compute_scope", "result_scope")
        given = {key: kwargs.pop(key) for key in keys if key in kwargs}
        return self.plan_call(Options.checked(given, "plan"), f, args, kwargs)

    def _number(self, function: str) -> str:
        with self._lock:
            number = self._names[function] = self._names.get(function, 0) + 1
        return f"{function}-{number}"

    def _input(self, origin: str, handle: Task | Chunk, name: str) -> Input:
        home = handle._session if isinstance(handle, Task) else handle._home
        if home is not self:
            raise ScopekitError(
                f"{name}: {origin} belongs to another session. Fetch its value there and pass"
                " that."
            )
        if isinstance(handle, Task):
            return Input(origin, handle.chunk_id, handle=False)
        return Input(origin, handle.id, handle=True)

    def run(self, f: Callable[..., Any], *args: Any, scope: Any = None) -> dict[WorkerId, Any]:
        """Calls a function once in every process of a scope.

        Args:
            f: the function.
            args: its arguments.
            scope: which processes; every engine if None.

        Returns:
            What it returned, by worker.
        """
        wanted = as_scope(scope) if scope is not None else None
        mask = self.topology.mask(wanted) if wanted is not None else None
        workers = [
            process.worker
            for process in self.topology.processes
            if (process.worker != _CLIENT if mask is None else self._has(process, mask))
        ]
        if not workers:
            assert wanted is not None
            raise NoProcessorError(f"no process lies in {wanted.describe()}")
        tasks = {worker: self.options(single=worker).spawn(f, *args) for worker in workers}
        return dict(self.fetch(tasks))

    def _has(self, process: Process, mask: int) -> bool:
        return bool(self.topology.worker_mask(process.worker) & mask)

    # -- chunks -----------------------------------------------------------------------

    def tochunk(self, value: Any, processor: Processor | None = None, scope: Any = None) -> Chunk:
        """Makes a chunk of a value.

        A scope that leaves this process out hands the value over: it moves to a
        processor in the scope, and only the handle stays.

        Args:
            value: the value.
            processor: its home; must lie in the scope.
            scope: where it is valid; anywhere if None.

        Raises:
            ScopeError: the home lies outside the scope.
            SchedulingError: no processor lies in the scope.
            ScopekitError: the value is to move and does not pickle.
        """
        self._check_open()
        if isinstance(value, (Task, Chunk)):
            raise TypeError(f"a {type(value).__name__} is a handle already, not a value")
        where = as_scope(scope) if scope is not None else AnyScope()
        home = self._home(processor, where)
        chunk_id = next(self._ids)
        if home.worker == self._here:
            stored = self._local.store.put(chunk_id, value, where, home)
            self._handle(ev.ChunkStored(stored, self._here, time.time()))
        else:
            self._hand_over(chunk_id, value, where, home)
        self._handle(ev.HandlesAdded((chunk_id,)))
        facts = {"scope": where, "processor": home, "type": type_name(value), "nbytes": 0}
        return Chunk(self, chunk_id, {**facts, "state": "released"})

    def _home(self, processor: Processor | None, scope: Scope) -> Processor:
        topology = self.topology
        mask = topology.mask(scope)
        if processor is None:
            mine = topology.worker_mask(self._here) & mask
            allowed = topology.select(mine or mask)
            if not allowed:
                raise refusal("tochunk", (("scope=", scope),), topology)
            return self._least_busy(allowed)
        if isinstance(processor, OSProc):
            mask &= topology.worker_mask(processor.worker)
            if mask:
                return topology.select(mask)[0]
        elif topology.bit(processor) is None:
            raise NoProcessorError(f"there is no {processor.describe()} to keep the chunk")
        elif topology.contains(scope, processor):
            return processor
        raise ScopeError(
            f"the chunk's home, {processor.describe()}, lies outside its scope,"
            f" {scope.describe()}. Leave processor= out to have it moved into the scope."
        )

    def _least_busy(self, processors: Sequence[Processor]) -> Processor:
        with self._lock:
            busy = self._scheduler.busy()
        return min(processors, key=lambda processor: busy.get(processor.worker, 0))

    def _hand_over(self, chunk_id: int, value: Any, scope: Scope, home: Processor) -> None:
        try:
            pickled = dump_value(value)
        except Exception as error:
            raise ScopekitError(
                f"a {type_name(value)} is to move to {home.describe()} and does not pickle:"
                f" {error}. Make it there, in a task that returns tochunk(value, scope=...)."
            ) from error
        record = ChunkRecord(chunk_id, scope, processor=home, type=type_name(value))
        record.nbytes = len(pickled)
        with self._lock:
            self._scheduler.expect(record)
            put = msg.Put(chunk_id, pickled, scope, home, reports=True)
            self._wires[home.worker].send(home.worker, put)  # type: ignore[arg-type]
        self._wake.set()

    def fetch(self, x: Any, raw: bool = False, timeout: float | None = None) -> Any:
        """Brings values here.

        Args:
            x: a task, a chunk, or lists, tuples, dicts and sets of them; all else is
                returned as it is.
            raw: True for the Chunk of a task instead of its value.
            timeout: seconds to wait at most; None waits without a limit.

        Returns:
            ``x`` with every handle replaced by its value.

        Raises:
            ScopeViolationError: a value's scope leaves this process out.
            TimeoutError: not all values were here in time.
            BaseException: what a task raised.
        """
        return gather(self, x, raw=raw, timeout=timeout)

    def chunk_of(self, task: Task) -> Chunk:
        """Returns the handle to the result of a task that is done."""
        self._handle(ev.HandlesAdded((task.chunk_id,)))
        return Chunk(self, task.chunk_id, self.chunk_facts(task.chunk_id))

    def fetch_result(self, task: Task, timeout: float | None) -> Any:
        """Brings the result of a task that is done."""
        return self.fetch_values([task.chunk_id], timeout)[0]

    def fetch_chunk(self, chunk: Chunk, timeout: float | None) -> Any:
        """Brings the value of a chunk."""
        return self.fetch_values([chunk.id], timeout)[0]

    def fetch_refusal(self, task: Task) -> ScopeViolationError | None:
        """Returns why a result may not come here, None if it may."""
        record = self._scheduler.chunks.get(task.chunk_id)
        if record is None or record.state != "held":
            return None
        try:
            guard(record.id, record.scope, self._here, self.topology)
        except ScopeViolationError as error:
            return error
        return None

    def fetch_values(self, chunks: Sequence[int], timeout: float | None) -> list[Any]:
        """Brings the values of chunks that are held somewhere, one request to each holder."""
        by_holder: dict[WorkerId, list[int]] = {}
        for chunk in dict.fromkeys(chunks):
            by_holder.setdefault(self._holder(chunk, timeout), []).append(chunk)
        values: dict[int, Any] = {}
        for holder, wanted in by_holder.items():
            for stored, value in self._bring(holder, wanted, timeout):
                values[stored] = value
        return [values[chunk] for chunk in chunks]

    def _holder(self, chunk: int, timeout: float | None) -> WorkerId:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            record = self._scheduler.chunks.get(chunk)
            if record is None or record.state == "released":
                raise ChunkLostError(f"chunk {chunk} was released: no handle to it was left")
            if record.state == "lost":
                home = record.processor.describe() if record.processor else "its worker"
                raise ChunkLostError(
                    f"chunk {chunk} is lost: {home} is gone. Spawn again the task that makes it."
                )
            if record.state == "failed":
                raise ChunkLostError(f"chunk {chunk} was never made")
            guard(chunk, record.scope, self._here, self.topology)
            if record.state == "held":
                return self._here if self._here in record.holders else record.holders[0]
            # Only a value on its way to its home is pending here, and it soon arrives.
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"chunk {chunk} did not reach its home within {timeout:g} s")
            time.sleep(0.001)

    def _bring(
        self, holder: WorkerId, chunks: list[int], timeout: float | None
    ) -> list[tuple[int, Any]]:
        if holder == self._here:
            return [(chunk, self._local.store.value(chunk)) for chunk in chunks]
        given = self._ask(holder, chunks, timeout)
        return [(stored.id, _read(stored, pickled)) for stored, pickled in given]

    def _fetch_for_client(
        self, worker: WorkerId, chunks: Sequence[int]
    ) -> list[tuple[StoredChunk, bytes]]:
        return self._ask(worker, chunks, None)

    def _ask(
        self, worker: WorkerId, chunks: Sequence[int], timeout: float | None
    ) -> list[tuple[StoredChunk, bytes]]:
        """Asks an engine for chunks, over its own socket where that can be reached."""
        address = self._addresses.get(worker)
        if self._asker is not None and address is not None and self._can_reach(worker, address):
            return self._asker.ask(address, chunks, timeout)
        wire = self._wires.get(worker)
        if wire is None:
            raise ChunkLostError(f"worker {worker}, which held the value, is gone")
        return wire.ask(worker, chunks, timeout)  # type: ignore[arg-type]

    def _can_reach(self, worker: WorkerId, address: msg.PeerAddress) -> bool:
        if worker not in self._reachable:
            assert self._asker is not None
            try:
                self._asker.ask(address, (), _REACHABLE_SECONDS)
                self._reachable[worker] = True
            except TimeoutError:
                self._reachable[worker] = False
        return self._reachable[worker]

    def release_chunk(self, chunk_id: int) -> None:
        """Takes note that a handle is gone.

        This may run inside any other call, whenever Python collects the handle, so it
        only leaves word for the session's own thread.
        """
        self._released.append(chunk_id)
        self._wake.set()

    def revive_chunk(self, chunk: int, scope: Scope, processor: Processor, *rest: Any) -> Chunk:
        """Makes a handle of what an engine exported."""
        name, nbytes = rest
        facts = {"scope": scope, "processor": processor, "type": name, "nbytes": nbytes}
        if chunk not in self._scheduler.chunks:
            stored = StoredChunk(chunk, scope, processor, name, nbytes)
            with self._lock:
                self._scheduler.expect(
                    ChunkRecord(chunk, scope, processor=processor, handles=1)
                )
            self._handle(ev.ChunkStored(stored, processor.worker, time.time()))
        else:
            self._handle(ev.HandlesAdded((chunk,)))
        return Chunk(self, chunk, {**facts, "state": "held"})

    def export_chunk(self, chunk: Chunk) -> tuple[Any, ...]:
        """Returns what another process needs to make a handle."""
        return (chunk.id, chunk.scope, chunk.processor, chunk.type, chunk.nbytes)

    def cancel_task(self, task: Task) -> bool:
        """Cancels a task that was not sent yet."""
        self._handle(ev.CancelAsked(task.id, time.time()))
        return task.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Runs the callbacks of a future, on a thread that may wait."""
        if self._link is None:
            callback()
        else:
            self._callbacks.submit(callback)

    # -- looking --------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """A snapshot of the processes there are."""
        return self._scheduler.topology

    @property
    def workers(self) -> list[WorkerId]:
        """The ids of the engines, in order."""
        return list(self.topology.workers)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes on which there are engines."""
        topology = self.topology
        return list(dict.fromkeys(str(topology.node_of(w)) for w in topology.workers))

    def processors(self, scope: Any = None) -> tuple[Processor, ...]:
        """Returns the processors of a scope.

        Args:
            scope: the scope; where unscoped tasks run if None.
        """
        if scope is None:
            return self.topology.select(self._compute_mask())
        return self.topology.select(self.topology.mask(as_scope(scope)))

    def _compute_mask(self) -> int:
        mask = self.topology.everything
        for _, scope in operands(Options()):
            mask &= self.topology.mask(scope)
        return mask

    def explain(self, task: Task) -> Explanation:
        """Tells why a task runs where it runs, or why it does not."""
        with self._lock:
            return self._scheduler.explain(task.id)

    def satisfiable(self, scope: Any) -> Explanation:
        """Tells which processors a scope has now; the answer is false if there are none."""
        where = as_scope(scope)
        mask = self.topology.mask(where)
        return explain_operands(
            "a task",
            (("scope=", where),),
            self.topology,
            outcome="placed" if mask else "unmatched",
        )

    def task_facts(self, task: int) -> dict[str, Any]:
        """Tells what is known of a task; never a value."""
        with self._lock:
            record = self._scheduler.tasks.get(task)
            if record is None:
                return {"id": task, "state": "done", "processor": None, "node": None}
            scopes = [s for _, s in self._scheduler.effective_scope_operands(task)]
            processor = record.processor
            topology = record.topology or self.topology
            failure = record.failure
            return {
                "id": task,
                "name": record.spec.name,
                "function": record.spec.function,
                "state": record.state,
                "scope": constrain(AnyScope(), *scopes),
                "processor": processor,
                "worker": processor.worker if processor else None,
                "node": topology.node_of(processor.worker) if processor else None,
                "spawned": record.spawned - self._began,
                "started": _since(record.started, self._began),
                "finished": _since(record.finished, self._began),
                "duration": _duration(record.started, record.finished),
                "cell": record.spec.cell,
                "error": getattr(failure, "type_name", None)
                or (type(failure).__name__ if failure is not None else None),
            }

    def chunk_facts(self, chunk_id: int) -> Mapping[str, Any]:
        """Tells what is known of a chunk; never its value."""
        with self._lock:
            record = self._scheduler.chunks.get(chunk_id)
            if record is None:
                return {"state": "released"}
            facts = {
                "scope": record.scope,
                "state": record.state,
                "type": record.type,
                "nbytes": record.nbytes,
            }
            if record.processor is not None:
                facts["processor"] = record.processor
                facts["node"] = self.topology.node_of(record.processor.worker)
            return facts

    def statistics(self) -> dict[str, Any]:
        """Counts tasks by state, chunks and workers."""
        with self._lock:
            return {
                "tasks": self._scheduler.counts(),
                "chunks": len(self._scheduler.chunks),
                "workers": len(self.workers),
                "busy": self._scheduler.busy(),
            }

    def events(self) -> list[dict[str, Any]]:
        """Returns what happened so far, oldest first: time, kind, task, worker."""
        return [
            {"at": at - self._began, "kind": kind, "task": task, "worker": worker}
            for at, kind, task, worker in list(self._log)
        ]

    def graph(self) -> Any:
        """Returns the task graph as a networkx DiGraph.

        Nodes are tasks and chunks with name, state, scope, processor, worker, node,
        times in seconds since the session began, and sizes in bytes.
        """
        from scopekit.dag import build_graph  # noqa: PLC0415  # loads networkx

        with self._lock:
            return build_graph(self, self._scheduler, self._began)

    def summary(self) -> str:
        """Tells in a few lines what there is and what was done."""
        counts = self.statistics()["tasks"]
        tasks = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        topology = self.topology
        lines = [f"Session {self.name}: {len(self.workers)} workers on {len(self.nodes)} nodes"]
        for node in self.nodes:
            workers = [str(w) for w in topology.workers if topology.node_of(w) == node]
            lines.append(f"  node {node}: workers {', '.join(workers)}")
        lines.append(f"  tasks: {tasks or 'none'}")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Returns what a display of the session shows."""
        statistics = self.statistics()
        return {
            "name": self.name,
            "state": "closed" if self._closed else "open",
            "tasks": statistics["tasks"],
            "workers": [
                {
                    "worker": process.worker,
                    "node": process.node,
                    "pid": process.pid,
                    "processors": len(process.processors),
                    "running": statistics["busy"].get(process.worker, 0),
                    "queued": 0,
                }
                for process in self.topology.processes
            ],
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.workers)} workers"
        return f"<Session {self.name}: {state} on {', '.join(self.nodes) or 'no node'}>"

    def _repr_html_(self) -> str:
        html: str = import_module("scopekit.notebook.displays").session_html(self.facts())
        return html

    # -- engines come and go ----------------------------------------------------------

    def add_workers(self, n: int, *, timeout: float = 60) -> list[WorkerId]:
        """Starts further engines and waits until they are part of the session.

        Returns:
            The ids of the new workers.
        """
        self._check_open()
        if self._link is None:
            raise ScopekitError("a session in this process has no engines to add to")
        ids = self._link.add_engines(n, timeout=timeout)
        until = time.monotonic() + timeout
        while not all(self.topology.process(worker) for worker in ids):
            if time.monotonic() > until:
                raise ScopekitError(f"workers {ids} did not become ready within {timeout:g} s")
            time.sleep(0.01)
        return list(ids)

    # -- closing ------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ScopekitError(
                f"session {self.name} is closed; start another with scopekit.start()"
            )

    def close(self) -> None:
        """Ends the session: engines that it started end, all others are left as found.

        What is not done then is cancelled. Closing twice does nothing.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for cleanup in self._cleanups:
            cleanup()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_TICK)
        self._cancel_all()
        if self in _sessions:
            _sessions.remove(self)
        self._close_wires()
        self._callbacks.close()
        if self._restore_output is not None:
            self._restore_output()

    def _close_wires(self) -> None:
        if self._link is not None:
            if not self._link.owned and self._views is not None:
                self._views.close(int(w) for w in self.topology.workers)
            self._link.close()
        self._local.close()
        if self._asker is not None:
            self._asker.close()

    def _cancel_all(self) -> None:
        tasks = list(itertools.chain.from_iterable(self._pending.values()))
        self._pending.clear()
        for task in tasks:
            error = TaskCancelledError(f"{task.name} was not done when its session was closed")
            with contextlib.suppress(Exception):  # some may have ended in the meantime
                task.set_exception(error)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- what the session needs of others -------------------------------------------------


def _event(report: msg.Report, worker: WorkerId) -> ev.Event:
    match report:
        case msg.Started(task, at):
            return ev.RunStarted(task, worker, at)
        case msg.Finished(task, results, replicas, started, finished):
            return ev.RunFinished(task, worker, results, replicas, started, finished)
        case msg.RunError(task, error, started, finished):
            return ev.RunFailed(task, worker, error, started, finished)
        case msg.ChunkPut(chunk):
            return ev.ChunkStored(chunk, worker, time.time())
        case msg.PutFailed(chunk_id, error):
            return ev.ChunkFailed(chunk_id, error, time.time())
    raise AssertionError(report)


def _read(stored: StoredChunk, pickled: bytes) -> Any:
    try:
        return load_value(pickled)
    except Exception as error:
        raise ScopekitError(
            f"the value of chunk {stored.id}, a {stored.type}, cannot be read here:"
            f" {type(error).__name__}: {error}. Is what it needs installed here?"
        ) from error


def _print(stream: str, text: str) -> None:
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(text)
    target.flush()


def _function_name(f: Any) -> str:
    if isinstance(f, Task):
        return f.name
    if isinstance(f, Chunk):
        return f"chunk {f.id}"
    inner = getattr(f, "func", f)  # a functools.partial
    name = getattr(inner, "__name__", None) or type(inner).__name__
    return "lambda" if name == "<lambda>" else str(name)


def _since(at: float | None, began: float) -> float | None:
    return None if at is None else at - began


def _duration(started: float | None, finished: float | None) -> float | None:
    return None if started is None or finished is None else finished - started


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # a text is sent
    except OSError:
        return None


def _interface(link: ClusterLink) -> str:
    """Returns the address on which engines serve chunks to each other."""
    return "127.0.0.1" if link.owned else "127.0.0.1"


def _check_card(worker: int, card: Mapping[str, Any] | None) -> None:
    """Refuses an engine on which tasks would fail darkly.

    Raises:
        ScopekitError: it did not answer, lacks a package, or runs another Python.
    """
    if card is None:
        raise ScopekitError(
            f"worker {worker} did not say what it is within 10 s. Is it busy with a long call?"
        )
    here = "{}.{}".format(*sys.version_info[:2])
    if card["python"] != here:
        raise ScopekitError(
            f"worker {worker} runs Python {card['python']} and this process {here}: functions"
            " cannot travel between them. Start the engines with the same Python."
        )
    for package in ("cloudpickle", "scopekit"):
        if card[package] is None:
            raise ScopekitError(
                f"worker {worker} (node {card['node_name']}) has no {package}. Install it there:"
                f" python -m pip install {package}"
            )


class _Surroundings:
    """What scopes written in this process refer to."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def topology(self) -> Topology:
        return self._session.topology

    @property
    def here(self) -> WorkerId:
        task = running_task.get()
        return task.worker if task is not None else self._session._here

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session.topology, name)


def _surroundings() -> Any:
    session = innermost_session()
    return None if session is None else _Surroundings(session)


def _revive(*exported: Any) -> Chunk:
    return current_session().revive_chunk(*exported)


