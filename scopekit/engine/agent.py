"""The agent: carries out a session's orders inside one process.

Orders arrive on one thread, tasks run on the lanes of the process's processors, and
reports leave in batches: at once when a lane runs dry, otherwise by a publishing
thread that takes what has gathered.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections import deque
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from scopekit.engine.accelerators import lane_for, probe_kind
from scopekit.engine.children import Children
from scopekit.engine.context import RunningTask, around, running_task
from scopekit.engine.handlecounts import HandleCounts
from scopekit.engine.pieces import Pieces, Recipe
from scopekit.engine.runner import run_task
from scopekit.engine.seals import Seals, sealed_error
from scopekit.engine.stopping import Stops
from scopekit.engine.store import Store
from scopekit.errors import (
    ChunkLostError,
    ScopeError,
    ScopekitError,
    ScopeViolationError,
)
from scopekit.graph import StoredChunk
from scopekit.guard import guard, may_be_labelled
from scopekit.handles import Chunk, Task, handles_become, reviver
from scopekit.pinning.place import Place
from scopekit.pinning.registry import registry
from scopekit.pinning.search import implied_by
from scopekit.rescoping import Rescoping, check_rescoping
from scopekit.scopes import CLIENT, AnyScope, ProcessScope, constrain, is_sealed
from scopekit.scopes import sealed as sealed_scope
from scopekit.stopped import bereft_error, cancelled_error, timeout_error
from scopekit.wire import messages as msg
from scopekit.wire.around import innermost
from scopekit.wire.blobs import Blob
from scopekit.wire.codec import FIRST_INPUT, dump_error, load_value, type_name
from scopekit.wire.lending import LoanOverError
from scopekit.wire.parcels import load_parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scopekit.engine.lanes import Lane
    from scopekit.engine.stopping import Running
    from scopekit.graph import WorkerId
    from scopekit.pinning.rule import Rule
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.codec import PickledError
    from scopekit.wire.lending import Lender
    from scopekit.wire.parcels import Parcel
    from scopekit.wire.peers import Given, Pushed

__all__ = (
    "Agent",
    "chunk_facts",
)

_FLUSH_SECONDS = 0.02
_GATHER_SECONDS = 0.002
_ASK_AGAIN_SECONDS = 2.0
_UNSCOPED = AnyScope()
# Results of these types go with the word that they are made. Texts do not: what nobody
# asked for stays where it was made.
_PLAIN = frozenset((type(None), bool, int, float, complex))
_MOST_BITS = 1024
_AWAKE_SECONDS = 1.0
_REFUSALS_KEPT = 1000
# Ids of chunks that tasks make by themselves: the worker's number above, a counter below.
_OWN_IDS = 40


class _Function:
    """A function that is read when it is first called.

    A method of an object, or an object that can be called, is read for each call: it would
    bring what one task changed in it into the next one, as chance puts them on one engine.
    """

    __slots__ = ("_kept", "_pickled")

    def __init__(self, pickled: bytes | None) -> None:
        self._pickled = pickled
        self._kept: Any = None

    def load(self) -> Any:
        if self._kept is not None:
            return self._kept
        assert self._pickled is not None
        loaded = load_value(self._pickled)
        inner = innermost(loaded)
        if inner is None or isinstance(inner, (FunctionType, type, functools.partial)):
            self._kept = loaded
        return loaded


class _NotHereError(Exception):
    """An input is gone from here, or turned out to be valid in fewer places than was said."""

    def __init__(self, chunk: int | None = None, scope: Scope | None = None) -> None:
        super().__init__(chunk, scope)
        self.chunk = chunk
        self.scope = scope


class _Pending:
    """A task that was ordered and has not begun.

    Attributes:
        missing: how many of its inputs are not here.
        spawned_here: True if a task of this process spawned it, and kept it.
        since: when it was ordered, by the monotonic clock.
    """

    __slots__ = ("function", "missing", "order", "since", "spawned_here")

    def __init__(self, order: msg.Run, function: _Function, *, spawned_here: bool = False) -> None:
        self.order = order
        self.function = function
        self.missing = 0
        self.since = 0.0
        self.spawned_here = spawned_here


class Agent:
    """Runs tasks and keeps chunks for one session in one process.

    Args:
        worker: the id by which users know this process.
        topology: the processes there are.
        lanes: the lane of each processor of this process.
        publish: sends a batch of reports to the session.
        fetch: asks another process for chunks.
        push: sends chunks to another process, or says which it may not have.
        lender: lends values to other processes of the node, None if nobody does.
        lends_to: tells which of them can read what it lends.
        background: False to publish in the thread that has something to report, at once.
        always_hears: True if orders reach this process whatever its threads do.
    """

    def __init__(
        self,
        worker: WorkerId,
        topology: Topology,
        lanes: Mapping[Processor, Lane],
        publish: Callable[[list[msg.Report]], None],
        *,
        fetch: Callable[[WorkerId, Sequence[int]], list[Given]],
        push: Callable[[WorkerId, list[Pushed]], None],
        lender: Lender | None = None,
        lends_to: Callable[[WorkerId], bool] = lambda _: False,
        background: bool = True,
        always_hears: bool = False,
    ) -> None:
        self.worker = worker
        self._always_hears = always_hears
        self.store = Store(worker, topology, lender, self._narrowed, self._bury)
        self._process = ProcessScope(worker)
        self._lender = lender
        self._lends_to = lends_to
        self.addresses: Mapping[WorkerId, msg.PeerAddress] = {}
        self._lanes = dict(lanes)
        self._publish = publish
        self._fetch = fetch
        self._push = push
        self._functions: dict[bytes, _Function] = {}
        self._pending: list[msg.Report] = []
        self._running: dict[int, Running] = {}
        self.stops = Stops(self._running)
        # What was ordered and has not begun. To begin a task is to take it out of here,
        # and so is to hand it back: only one of the two can.
        self._ordered: dict[int, _Pending] = {}
        # What is to stop that has not come yet, told on a quicker way than orders take.
        self._doomed: dict[int, None] = {}
        self._waiting: dict[int, list[_Pending]] = {}
        self._wanted: dict[int, list[WorkerId]] = {}
        self._overdue: set[int] = set()
        # That a chunk may not come here can be heard before the order that waits for it.
        self._refused: dict[int, Scope] = {}
        self._pushes: dict[WorkerId, list[Pushed]] = {}
        # What was lent and could not be read here: it is asked for in another way.
        self._unread: deque[tuple[WorkerId, int]] = deque()
        # Reentrant: Python may collect an object of a task's at any line in here, and
        # what its __del__ prints comes back.
        self._lock = threading.RLock()
        self._background = background
        # Reentrant: where the session is in this thread, what it does next may report.
        self._publish_lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._dozing = False
        self._flushed = 0.0
        self._asked_again = time.monotonic()
        self._own_chunks = 0
        self._handles = HandleCounts()
        self.seals = Seals()
        self.pieces = Pieces()
        self._released: deque[int] = deque()
        self._publisher: threading.Thread | None = None
        self._starting = threading.Lock()
        self.children = Children(self)
        self._on_order: dict[type, Callable[[Any], None]] = {
            msg.TopologyChanged: self._on_topology,
            msg.Run: self._on_run,
            msg.Put: self._on_put,
            msg.Send: self._on_send,
            msg.Retract: self._on_retract,
            msg.GiveBack: self._on_give_back,
            msg.Stop: self._on_stop,
            msg.Limit: self._on_limit,
            msg.Drop: self._on_drop,
            msg.Rescope: self._on_rescope,
            msg.Settled: self._on_settled,
            msg.AddKind: self._on_add_kind,
            msg.Beat: lambda _: None,
            msg.PinsChanged: self._on_pins_changed,
        }
        self._noted: set[tuple[str, ...]] = set()

    @property
    def processors(self) -> tuple[Processor, ...]:
        """The processors of this process."""
        return tuple(self._lanes)

    @property
    def topology(self) -> Topology:
        """The processes there are, as last told."""
        return self.store.topology

    # -- orders -----------------------------------------------------------------

    def receive(self, orders: Iterable[msg.Order]) -> None:
        """Carries orders out, in order."""
        self._drop_released()
        for order in orders:
            self._on_order[type(order)](order)

    def _on_topology(self, order: msg.TopologyChanged) -> None:
        self.store.topology = order.topology
        self._process = ProcessScope(self.worker, node=order.topology.node_of(self.worker))
        self.addresses = order.addresses
        # What might not come here may now, perhaps.
        self._refused.clear()

    def _on_pins_changed(self, order: msg.PinsChanged) -> None:
        for keys, pickled in order.rules:
            registry.adopt(self, keys, functools.partial(load_value, pickled))

    def _on_run(self, order: msg.Run) -> None:
        self._start_publisher()
        function = self._functions.get(order.digest)
        if function is None:
            function = self._functions[order.digest] = _Function(order.function)
        # Forgotten here, not where it runs: the order after next may bring it again.
        for digest in order.forget:
            self._functions.pop(digest, None)
        if self._doomed and order.task in self._doomed:
            self.stops.forget(order.task)
            return
        pending = self._ordered[order.task] = _Pending(order, function)
        if not order.inputs or not self._has_to_wait(pending):
            self._submit(pending)
        elif self._refused:
            for chunk in order.inputs:
                if chunk in self._refused:
                    self._hand_back_waiting(chunk, self._refused.pop(chunk))

    def _start_publisher(self) -> None:
        if self._publisher is not None or not self._background:
            return
        # Orders come on one thread, copies of chunks on another.
        with self._starting:
            self._start_publisher_once()

    def _start_publisher_once(self) -> None:
        if self._publisher is None:
            name = f"scopekit-publisher-{self.worker}"
            publisher = threading.Thread(target=self._publish_forever, name=name, daemon=True)
            publisher.start()
            self._publisher = publisher

    def _has_to_wait(self, pending: _Pending) -> bool:
        """Enters a task at the inputs that are not here yet."""
        with self._lock:
            for chunk in dict.fromkeys(pending.order.inputs):
                if chunk not in self.store:
                    self._waiting.setdefault(chunk, []).append(pending)
                    pending.missing += 1
            if pending.missing:
                pending.since = time.monotonic()
                if self._dozing:
                    self._wake.set()
        return pending.missing > 0

    def _submit(self, pending: _Pending) -> None:
        if pending.spawned_here:
            self.children.keep(pending)
            return
        self._lanes[pending.order.processor].submit(functools.partial(self._run, pending))

    def _on_put(self, order: msg.Put) -> None:
        outside = not self.topology.admits(order.scope, self.worker)
        relabelled = outside and may_be_labelled(order.scope, self.worker, self.topology)
        if relabelled and not order.reports:
            self._miss(order.chunk)
            return
        version = self.topology.version
        try:
            if outside and not relabelled:
                guard(order.chunk, order.scope, self.worker, self.topology)
            loan = order.parcel.loan
            with handles_become(self.revive_chunk):
                value = load_parcel(order.parcel.borrowed())
            stored = self.store.put(
                order.chunk, value, order.scope, order.processor, loan, outside=relabelled
            )
        except Exception as error:  # noqa: BLE001  # a user's __setstate__ may raise anything
            self._report(msg.PutFailed(order.chunk, self._unreadable(error, order.scope)))
            return
        self._report(
            msg.ChunkPut(stored, version)
            if order.reports
            else msg.Arrived((order.chunk,), time.time(), version)
        )
        self._chunk_is_here(order.chunk)
        self._flush_pushes()

    def _chunk_is_here(self, chunk: int) -> None:
        """Starts what waited for a chunk; sends it to whoever is to have it."""
        with self._lock:
            waiting = self._waiting.pop(chunk, ())
            wanted = self._wanted.pop(chunk, ())
            for pending in waiting:
                pending.missing -= 1
        for pending in waiting:
            if not pending.missing:
                self._submit(pending)
        for worker in wanted:
            self._add_push(chunk, worker)

    def _on_send(self, order: msg.Send) -> None:
        with self._lock:
            is_here = order.chunk in self.store
            if not is_here:
                self._wanted.setdefault(order.chunk, []).append(order.to)
        if not is_here:
            self._start_publisher()
            if self._dozing:
                self._wake.set()
            return
        self._add_push(order.chunk, order.to)
        self._flush_pushes()

    def _add_push(self, chunk: int, to: WorkerId) -> None:
        if to == CLIENT:
            self._report(msg.Offered((chunk,)))
            return
        try:
            item: Pushed = self.store.give(chunk, to, lent=self._can_lend_to(to))
        except ScopeViolationError as error:
            if error.scope is None:
                return
            refusal: Pushed = (chunk, error.scope)
            item = refusal
        except ChunkLostError:
            return  # let go in the meantime: nobody waits for it any more
        with self._lock:
            self._pushes.setdefault(to, []).append(item)

    def _can_lend_to(self, worker: WorkerId) -> bool:
        topology = self.topology
        return topology.node_of(worker) == topology.node_of(self.worker) and self._lends_to(worker)

    def _flush_pushes(self) -> None:
        with self._lock:
            pushes, self._pushes = self._pushes, {}
        for worker, items in pushes.items():
            self._push(worker, items)

    def take(self, sender: WorkerId, items: Iterable[Pushed]) -> None:
        """Takes what another process sends: chunks, or word that they may not be had."""
        arrived = []
        version = 0
        for item in items:
            head, body = item
            if isinstance(body, int):
                version = body
            elif isinstance(head, int):
                self._hand_back_waiting(head, cast("Scope", body))
            elif self._take_value(sender, head, cast("Parcel", body), version):
                arrived.append(head.id)
        if arrived:
            self._start_publisher()
            with self._lock:
                self._pending.append(msg.Arrived(tuple(arrived), time.time(), version))
            # Nobody waits for that word: it goes with the next that somebody waits for.
            if self._dozing:
                self._wake.set()
        for chunk in arrived:
            self._chunk_is_here(chunk)
        self._flush_pushes()

    def _take_value(
        self, sender: WorkerId, stored: StoredChunk, parcel: Parcel, version: int
    ) -> bool:
        try:
            if stored.scope is not _UNSCOPED:
                # Before it is read: reading may run code of the value.
                guard(stored.id, stored.scope, self.worker, self.topology)
            with handles_become(self.revive_chunk):
                value = load_parcel(parcel.borrowed())
            self.store.put(
                stored.id, value, stored.scope, stored.processor, parcel.loan, version=version
            )
        except LoanOverError:
            self._unread.append((sender, stored.id))
            self._wake.set()
            return False
        except Exception as error:  # noqa: BLE001  # a user's __setstate__ may raise anything
            if isinstance(error, ScopeViolationError) and may_be_labelled(
                stored.scope, self.worker, self.topology
            ):
                # Labels changed on its way: whoever waits for it here is placed anew.
                self._miss(stored.id)
                return False
            self._report(msg.PutFailed(stored.id, self._unreadable(error, stored.scope)))
            return False
        return True

    def _miss(self, chunk: int) -> None:
        """Reports that a chunk was refused, unless it is here and waits for a place to go."""
        if chunk not in self.store:
            self._report(msg.StillWaiting((chunk,)))

    def _unreadable(self, error: Exception, scope: Scope) -> PickledError:
        describe = sealed_error if is_sealed(scope) else dump_error
        return describe(error, self._place())

    def fetch_soon(self, holder: WorkerId, chunks: Iterable[int]) -> None:
        """Fetches what this process is to have and nobody can send here."""
        self._start_publisher()
        self._unread += [(holder, chunk) for chunk in chunks]
        self._wake.set()

    def _ask_for_unread(self) -> None:
        """Fetches what could not be sent here, or was lent and could not be read."""
        while self._unread:
            holder, chunk = self._unread.popleft()
            version: Pushed = (msg.SENT_BY, self.topology.version)
            # Where it cannot be had, whoever waits for it asks again.
            with contextlib.suppress(ScopekitError, TimeoutError):
                try:
                    self.take(holder, [version, *self._fetch(holder, [chunk])])
                except ScopeViolationError as error:
                    if error.scope is not None:
                        self._hand_back_waiting(chunk, error.scope)

    def _hand_back_waiting(self, chunk: int, scope: Scope) -> None:
        with self._lock:
            waiting = self._waiting.pop(chunk, [])
            if not waiting and len(self._refused) < _REFUSALS_KEPT:
                self._refused[chunk] = scope
            taken = [p for p in waiting if self._ordered.pop(p.order.task, None) is not None]
            for pending in taken:
                self._stop_waiting(pending)
        for pending in taken:
            self._report(msg.HandedBack(pending.order.task, chunk, scope))
        if not taken:
            self.report_soon(msg.KeptOut(chunk, scope))

    def _stop_waiting(self, pending: _Pending) -> None:
        for chunk in pending.order.inputs:
            waiting = self._waiting.get(chunk)
            if waiting is not None and pending in waiting:
                waiting.remove(pending)
                if not waiting:
                    del self._waiting[chunk]

    def _on_retract(self, order: msg.Retract) -> None:
        self._take_out(order.tasks)

    def _take_out(self, tasks: Iterable[int]) -> list[_Pending]:
        """Takes tasks away that have not begun; returns those that there were."""
        with self._lock:
            found = [self._ordered.pop(task, None) for task in tasks]
            taken = [pending for pending in found if pending is not None]
            for pending in taken:
                self._stop_waiting(pending)
                self.stops.forget(pending.order.task)
        # Not under the lock: whoever spawns holds the other one, and reports under this.
        for pending in taken:
            if pending.spawned_here:
                self.children.let_go(pending)
        return taken

    # -- stopping ---------------------------------------------------------------

    def _on_limit(self, order: msg.Limit) -> None:
        self.stops.limits[order.task] = order.seconds

    def _on_stop(self, order: msg.Stop) -> None:
        for task in order.tasks:
            self._doomed.pop(task, None)
        self.stop(order.tasks)

    def stop_early(self, tasks: Iterable[int]) -> None:
        """Stops tasks on a way that is quicker than that of orders, by which some may yet come.

        The order to stop them comes as well, after all that it may be about. What has ended
        here was reported before, so that what is said of it now changes nothing.
        """
        with self._lock:
            unknown = [t for t in tasks if t not in self._ordered and t not in self._running]
            self._doomed.update(dict.fromkeys(unknown))
            now = time.time()
            self._pending += (msg.Stopped(t, None, True, False, None, now) for t in unknown)
        self.stop(tasks)

    def stop(self, tasks: Iterable[int], *, late: bool = False) -> None:
        """Takes tasks back that have not begun, and has those stop that run.

        Args:
            tasks: the tasks.
            late: True for those that run longer than they may.
        """
        for task in tasks:
            taken = self._take_out((task,))
            for pending in taken:
                self._tell_stopped(pending.order)
            if taken:
                continue
            with self._lock:
                running = self.stops.mark(task, late=late)
            if running is not None:
                self._tell_stopped(running[2], started=running[0], late=late)
        self.children.nudge()
        self._flush()

    def _tell_stopped(
        self, order: msg.Run, *, started: float | None = None, late: bool = False
    ) -> None:
        """Reports that a task gives no value, and tells those here who wait for one."""
        over = started is None
        self.report_soon(msg.Stopped(order.task, order.processor, over, late, started, time.time()))
        if not self.children.waited_for:
            return
        place = None if over else self._place(order.processor)
        error: ScopekitError = cancelled_error(order.name, place)
        if late and place is not None:
            error = timeout_error(order.name, place, self.stops.limits.get(order.task, 0.0))
        self.children.stop(order.task, error)
        self._end_waiting(
            order.outputs,
            lambda other: self.children.stop(
                other.task, error if late else bereft_error(other.name, order.name)
            ),
        )

    def _end_stopped(self, order: msg.Run, report: msg.Report, started: float) -> msg.Report:
        """Replaces the word of how a task ended that was to stop by the word that it stopped."""
        mark = self.stops.end(order.task)
        if mark is None:
            return report
        with self._lock:
            for output in order.outputs:
                self._wanted.pop(output, None)
        kept = tuple(output for output in order.outputs if output in self.store)
        return msg.Stopped(order.task, order.processor, True, mark.late, started, time.time(), kept)

    def _on_rescope(self, order: msg.Rescope) -> None:
        self.store.rescope(order.chunk, order.scope)
        self._report(msg.ScopeFollowed(order.chunk))

    def _on_add_kind(self, order: msg.AddKind) -> None:
        # What a probe does may take its time, and other orders do not wait for it.
        name = f"scopekit-{self.worker}-probe"
        threading.Thread(target=self._add_kind, args=(order,), name=name, daemon=True).start()

    def _add_kind(self, order: msg.AddKind) -> None:
        found, trouble = probe_kind(self.worker, order.kind, order.probe)
        self.add_processors(found)
        self._report(msg.KindFound(order.kind, found, trouble))

    def add_processors(self, processors: Iterable[Processor]) -> None:
        """Runs tasks on further processors, each with a thread of its own."""
        for processor in processors:
            if processor not in self._lanes:
                self._lanes[processor] = lane_for(processor, inline=not self._background)

    def _on_settled(self, order: msg.Settled) -> None:
        self.children.settle(order)

    def _on_give_back(self, order: msg.GiveBack) -> None:
        for pending in self._take_out(order.tasks):
            self._report(msg.HandedBack(pending.order.task))

    def _on_drop(self, order: msg.Drop) -> None:
        with self._lock:
            gone = self._handles.drop(order.chunks)
            for chunk in order.chunks:
                self._refused.pop(chunk, None)
        # A value of this process may still refer to a chunk that the client let go.
        self.store.drop(gone, order.version)
        if self.pieces:
            self.pieces.forget(gone, self._run_on)

    def _run_on(self, processor: Processor, job: Callable[[], None]) -> bool:
        """Has a processor of this process run something; False if it was run at once."""
        lane = self._lanes[processor]
        if lane.is_own():
            job()
            return False
        lane.submit(job)
        return True

    # -- running ----------------------------------------------------------------

    def _run(self, pending: _Pending) -> None:
        order = pending.order
        if self._closed or order.task not in self._ordered:
            return
        started = time.time()
        # Before it is taken out: whoever is to stop it finds it here or there.
        self._running[order.task] = (started, False, order)
        if self._ordered.pop(order.task, None) is None:
            self._running.pop(order.task, None)
            return
        if self._dozing:
            self._wake.set()
        task = RunningTask(order.task, order.name, order.processor, self)
        token = running_task.set(task)
        whose = reviver.set(self.revive_chunk)
        outside = around.set(order.around)
        try:
            report = self._attempt(order, pending.function, started)
        finally:
            around.reset(outside)
            reviver.reset(whose)
            running_task.reset(token)
        self._running.pop(order.task, None)
        if self.stops.marks or self.stops.limits:
            report = self._end_stopped(order, report, started)
        if self._released:
            self._drop_released()
        if type(report) is msg.Finished:
            for chunk in order.outputs:
                self._chunk_is_here(chunk)
        # Whoever waits for what was spawned here is here, too.
        self._report_run(report, None if pending.spawned_here else self._lanes[order.processor])
        if self.children.waited_for:
            self._settle_child(pending, report)

    def _settle_child(self, pending: _Pending, report: msg.Report) -> None:
        """Tells who waits here for a task how it ended here."""
        if type(report) is msg.Finished:
            self.children.done(report.task, report.value)
        elif type(report) is msg.RunError and pending.spawned_here:
            error = report.error
            if self.children.fail(report.task, error):
                outputs = pending.order.outputs
                self._end_waiting(outputs, lambda order: self.children.fail(order.task, error))

    def _end_waiting(self, chunks: Iterable[int], end: Callable[[msg.Run], object]) -> None:
        """Ends what was kept here and needs what will never be made."""
        todo = list(chunks)
        while todo:
            with self._lock:
                waiting = [p for p in self._waiting.get(todo.pop(), ()) if p.spawned_here]
            for pending in self._take_out([p.order.task for p in waiting]):
                end(pending.order)
                todo += pending.order.outputs

    def _attempt(self, order: msg.Run, function: _Function, started: float) -> msg.Report:
        seal: Scope | None = None
        inputs: list[Any] = []
        try:
            if order.inputs:
                inputs, seal = self._inputs(order)
            callee = inputs[0] if order.digest == FIRST_INPUT else function.load()
            if order.how is not None and order.how.meta:
                inputs = self._handles_in_place_of(order.inputs, inputs)
            if seal is not None:
                return self._attempt_sealed(order, callee, started, inputs, seal)
            results, value = run_task(order, callee, inputs, self._keep)
        except _NotHereError as found:
            return msg.HandedBack(order.task, found.chunk, found.scope)
        except BaseException as error:  # noqa: BLE001  # a task may raise what it likes
            failure = self.describe(error, order.processor)
            return msg.RunError(order.task, failure, started, time.time())
        plain = (value,) if type(value) in _PLAIN and _is_small(value) else None
        if plain is not None and results[0].scope is not _UNSCOPED:
            plain = None
        elif order.how is not None and order.how.split:
            plain = _all_plain(value, results)
        return msg.Finished(order.task, results, started, time.time(), plain)

    def _attempt_sealed(
        self, order: msg.Run, callee: Any, started: float, inputs: list[Any], seal: Scope
    ) -> msg.Report:
        """Runs a task that has a sealed input: what it gives is sealed, all else stays here."""
        keep = functools.partial(self._keep, seal=seal)
        with self.seals.put_on(order.task, seal):
            try:
                results, _ = run_task(order, callee, inputs, keep)
            except BaseException as error:  # noqa: BLE001  # a task may raise what it likes
                failure = sealed_error(error, self._place(order.processor))
                return msg.RunError(order.task, failure, started, time.time())
        return msg.Finished(order.task, results, started, time.time(), None)

    def describe(self, error: BaseException, processor: Processor) -> PickledError:
        """Describes what a call raised here, with advice where there is any."""
        self._advise(error)
        return dump_error(error, self._place(processor))

    def _advise(self, error: BaseException) -> None:
        if isinstance(error, ModuleNotFoundError):
            error.add_note(
                f"worker {self.worker} cannot import {error.name}. Install it there; or, if it is a"
                " file of yours, start the engines in its folder, or send it along:"
                f" cloudpickle.register_pickle_by_value({error.name})."
            )
        elif type(error) is ValueError and "read-only" in str(error):
            error.add_note(
                "A large input that was made in another process is shared by all processes of its"
                " node, and nobody may change it: work on a copy of it."
            )

    def _inputs(self, order: msg.Run) -> tuple[list[Any], Scope | None]:
        """Returns the values of a task's inputs, as far as their scopes let it have them.

        Returns:
            The values, with where the sealed ones among them are valid; None if none is.
        """
        values = []
        seal: Scope | None = None
        for chunk in order.inputs:
            try:
                value, scope = self.store.look(chunk)
            except ChunkLostError:
                # It was dropped after it was counted in, as it may not be here any more.
                raise _NotHereError(chunk) from None
            if scope is not _UNSCOPED:
                if not self.topology.contains(scope, order.processor):
                    raise _NotHereError(chunk, scope)
                if is_sealed(scope):
                    seal = scope if seal is None else constrain(seal, scope)
            if type(value) is Recipe:
                value = self.pieces.local(chunk, value, order.processor)
            values.append(value)
        return values, seal

    def _handles_in_place_of(self, chunks: Iterable[int], values: Iterable[Any]) -> list[Any]:
        """Makes handles to a task's inputs.

        Large buffers of its arguments, and pieces of shards, stand for themselves.
        """
        return [
            value
            if type(value) is Blob or type(self.store.value(chunk)) is Recipe
            else self.revive_chunk(self.store.describe(chunk))
            for chunk, value in zip(chunks, values, strict=True)
        ]

    def _keep(
        self,
        chunk: int,
        value: Any,
        scope: Scope | None,
        processor: Processor,
        seal: Scope | None = None,
    ) -> StoredChunk:
        """Keeps one result; a chunk made here and returned gives it its own scope.

        Args:
            chunk: its id.
            value: the result.
            scope: where it was declared to be valid; None for what its type implies.
            processor: where it was made.
            seal: where the sealed inputs of its task are valid, if there are any.
        """
        kind = type(value)
        if kind in _PLAIN or kind is ModuleType:
            # A module is the name of something that every process has for itself.
            if scope is None or kind is ModuleType:
                scope = _UNSCOPED
            return self._put_result(chunk, value, _within(scope, seal), processor)
        if kind is Chunk and value.id in self.store:
            stored = self.store.alias(chunk, value.id, processor)
            self._report_pin(chunk, stored.scope, self.store.why(chunk))
            return stored
        why = ""
        if scope is None:
            scope, why = self._implied(value, processor)
        scope = _within(scope, seal)
        self._report_pin(chunk, scope, why)
        return self._put_result(chunk, value, scope, processor, why)

    def _put_result(
        self, chunk: int, value: Any, scope: Scope, processor: Processor, why: str = ""
    ) -> StoredChunk:
        if scope is not _UNSCOPED and not self.topology.admits(scope, self.worker):
            raise ScopeViolationError(
                f"the result is valid on {scope.describe()}, and worker {self.worker}, which made"
                " it, lies outside of that since its labels were changed while it did. Spawn the"
                " task again.",
                chunk,
                scope,
            )
        return self.store.put(chunk, value, scope, processor, why=why)

    def _implied(self, value: Any, processor: Processor) -> tuple[Scope, str]:
        """Returns where a value that was made here is valid by its type, with what says so.

        Raises:
            ScopeViolationError: not here.
        """
        notes: list[tuple[Any, Rule]] = []
        implied = implied_by(value, Place(processor, self.topology, self._process), notes)
        for part, rule in notes:
            self._note(part, rule)
        if implied is None:
            return _UNSCOPED, ""
        if not self.topology.admits(implied.scope, self.worker):
            reason = implied.why.partition("\n")[0]
            raise ScopeViolationError(
                f"this is worker {self.worker}, and what was made here is valid on"
                f" {implied.scope.describe()} alone: it is {reason}. Make it there: spawn the"
                " task with that scope."
            )
        return implied

    def _note(self, part: Any, rule: Rule) -> None:
        """Tells once, in the output of the task, of what is better left where it is."""
        if rule.keys not in self._noted:
            self._noted.add(rule.keys)
            better = f" Better send {rule.instead}." if rule.instead else ""
            sys.stderr.write(f"scopekit: a task gave a {type_name(part)}: {rule.why}.{better}\n")

    def _narrowed(self, chunk: int, scope: Scope, why: str) -> None:
        """Reports at once that a value stays here: others hear it, too, and go back for it."""
        self._report(msg.Pinned(chunk, scope, why))

    def _bury(self, processor: Processor, held: list[Any]) -> None:
        lane = self._lanes.get(processor)
        # What the client holds was made on its user's thread, which runs no jobs of ours.
        if lane is None or self.worker == CLIENT:
            held.clear()
        else:
            lane.submit(held.clear)

    def _report_pin(self, chunk: int, scope: Scope, why: str) -> None:
        """Has the session know what says where a value is valid."""
        if why:
            with self._lock:
                self._pending.append(msg.Pinned(chunk, scope, why))

    def _place(self, processor: Processor | None = None) -> str:
        node = self.topology.node_of(self.worker)
        where = processor.describe() if processor else f"worker {self.worker}"
        return f"node {node}, {where}" if node else where

    # -- reports ----------------------------------------------------------------

    def write_output(self, task: int, stream: str, text: str) -> None:
        """Takes what a task wrote, to be reported soon."""
        if task in self.seals:
            stream, text = "stderr", self.seals.notice(task, self._place()) or ""
            if not text:
                return
        with self._lock:
            last = self._pending[-1] if self._pending else None
            if isinstance(last, msg.Output) and (last.task, last.stream) == (task, stream):
                self._pending[-1] = msg.Output(task, stream, last.text + text)
            else:
                self._pending.append(msg.Output(task, stream, text))
        if self._background:
            self._wake.set()
        else:
            self._flush()

    def report_soon(self, report: msg.Report) -> None:
        """Reports something with what else gathers."""
        with self._lock:
            self._pending.append(report)
        if self._background:
            self._wake.set()
        else:
            self._flush()

    def flush(self) -> None:
        """Reports at once what has gathered."""
        if self._pushes:
            self._flush_pushes()
        self._flush()

    def run_here(self, order: msg.Run, pickled: bytes) -> None:
        """Takes in a task that a task of this process spawned, and kept.

        Args:
            order: the task.
            pickled: its function.
        """
        function = self._functions.get(order.digest) or _Function(pickled)
        pending = self._ordered[order.task] = _Pending(order, function, spawned_here=True)
        if not order.inputs or not self._has_to_wait(pending):
            self._submit(pending)

    def lend(self, chunk: Chunk) -> StoredChunk:
        """Describes a chunk to the client, which may let it go only when it is told to."""
        with self._lock:
            self._handles.export(chunk.id)
        return StoredChunk(chunk.id, chunk.scope, chunk.processor, chunk.type, chunk.nbytes)

    def value_of(self, chunk: int, stored: StoredChunk | None) -> tuple[Any, Scope]:
        """Returns a value with its scope, to code of this process.

        Args:
            chunk: the id of the chunk.
            stored: where it is, if it is elsewhere.

        Raises:
            ChunkLostError: it is gone.
            ScopeViolationError: it may not come here.
        """
        if stored is None or chunk in self.store:
            return self.store.look(chunk)
        _, parcel = self._fetch(stored.processor.worker, [chunk])[0]
        return load_parcel(parcel), stored.scope

    def cancel_child(self, task: Task, grace: float | None) -> None:
        """Cancels a task that was spawned here: at once if it is here, else by the client."""
        self.stop((task.id,))
        if grace is not None or not task.done():
            self.report_soon(msg.CancelWanted(task.id, grace))
            self._flush()

    @property
    def is_apart(self) -> bool:
        """Tells whether the session is in another process, or in another thread of this one."""
        return self._background

    @property
    def reachable(self) -> bool:
        """Tells whether orders reach this process while its main thread is in a task."""
        return self.children.line is not None or self._always_hears

    def run(self, pending: _Pending) -> None:
        """Runs a task in the caller's thread, unless it was taken away."""
        self._run(pending)

    def is_ordered(self, task: int) -> bool:
        """Tells whether a task is here and has not begun."""
        return task in self._ordered

    def lane_of(self, processor: Processor) -> Lane:
        """Returns the lane of a processor of this process."""
        return self._lanes[processor]

    def makes(self, chunk: int) -> bool:
        """Tells whether a chunk is here, or is made by what was spawned and kept here."""
        return chunk in self.store or chunk in self.children.outputs

    def _report(self, report: msg.Report, lane: Lane | None = None) -> None:
        with self._lock:
            self._pending.append(report)
        if lane is None or lane.idle():
            self._flush()
        else:
            self._wake.set()

    def _report_run(self, report: msg.Report, lane: Lane | None) -> None:
        """Reports the end of a run: at once if nothing follows, else with those that do."""
        with self._lock:
            self._pending.append(report)
        now = time.monotonic()
        late = now - self._flushed > _GATHER_SECONDS
        if self._pushes and (late or (lane is not None and lane.idle())):
            # First, since another engine may have nothing to do until they are there. In
            # the meantime something may have come that is to run here.
            self._flush_pushes()
        if late or (lane is not None and lane.idle()):
            self._flushed = now
            self._flush()

    def _flush(self) -> None:
        # One lock around taking and sending: reports must not overtake each other.
        with self._publish_lock:
            with self._lock:
                batch, self._pending = self._pending, []
            if not batch:
                return
            # Where the session is in this thread, what it does now is not the task's doing.
            token = running_task.set(None)
            try:
                self._publish(batch)
            finally:
                running_task.reset(token)

    def _publish_forever(self) -> None:
        last_busy = time.monotonic()
        while not self._closed:
            if self._running:
                last_busy = time.monotonic()
            # Between tasks that come one by one it stays awake: waking it costs each more.
            self._dozing = time.monotonic() - last_busy > _AWAKE_SECONDS
            limit = _ASK_AGAIN_SECONDS if self._waiting or self._wanted else None
            if self._wake.wait(limit if self._dozing else _FLUSH_SECONDS):
                last_busy = time.monotonic()
            self._wake.clear()
            self._drop_released()
            if self._unread:
                self._ask_for_unread()
            self.children.report_handles()
            self.children.report_blocked(_FLUSH_SECONDS)
            self._note_running()
            if self.stops.limits and (overdue := self.stops.overdue()):
                self.stop(overdue, late=True)
            if self.stops.marks:
                self.stops.urge()
            if self._waiting or self._wanted:
                self._note_waiting()
            self._flush_pushes()
            self._flush()

    def _note_running(self) -> None:
        """Reports the tasks that have run for a while: short ones end before they count."""
        now = time.time()
        with self._lock:
            for task, (started, told, order) in list(self._running.items()):
                if not told and now - started >= _FLUSH_SECONDS:
                    self._running[task] = (started, True, order)
                    self._pending.append(msg.Started(task, started))

    def _note_waiting(self) -> None:
        """Asks again for inputs that did not come: what was sent may have been lost."""
        now = time.monotonic()
        if now - self._asked_again < _ASK_AGAIN_SECONDS:
            return
        self._asked_again = now
        with self._lock:
            late = [
                chunk
                for chunk, waiting in self._waiting.items()
                if waiting and now - waiting[0].since > _ASK_AGAIN_SECONDS
            ]
            late += self._take_overdue()
            if late:
                self._pending.append(msg.StillWaiting(tuple(late)))

    def _take_overdue(self) -> list[int]:
        """Gives up on what was to be sent from here, does not come, and is not made here.

        The session believes that it is here, or has thought better of it by now. Whoever
        waits for it asks again.
        """
        orders = [pending.order for pending in list(self._ordered.values())]
        # In this order: whoever begins is here before it is gone from there.
        orders += [order for _, _, order in list(self._running.values())]
        made = {output for order in orders for output in order.outputs}
        before, self._overdue = self._overdue, self._wanted.keys() - made
        overdue = [chunk for chunk in self._wanted if chunk in self._overdue & before]
        for chunk in overdue:
            del self._wanted[chunk]
        return overdue

    # -- chunks, for code inside tasks and for peers ------------------------------

    def give(self, chunks: Sequence[int], asker: WorkerId, lent: bool = False) -> list[Given]:
        """Gives chunks to another process, as far as their scopes cover it.

        Args:
            chunks: their ids.
            asker: who is to have them.
            lent: True if the asker can read what this process lends.

        Raises:
            ScopeViolationError: the asker lies outside a chunk's scope.
            ChunkLostError: a chunk is not here.
        """
        lent = lent and self.topology.node_of(asker) == self.topology.node_of(self.worker)
        return [self.store.give(chunk, asker, lent=lent) for chunk in chunks]

    def new_chunk(
        self,
        value: Any,
        processor: Processor | None,
        scope: Scope | None,
        why: str = "",
        *,
        sealed: bool = False,
    ) -> Chunk:
        """Keeps a value that a task makes a chunk of.

        Args:
            value: the value.
            processor: its home.
            scope: where it is valid; None for what its type implies.
            why: what says so, where that is its type.
            sealed: True if what is computed from it is to be valid no further.

        Raises:
            ScopeError: the scope leaves out the process that makes the chunk.
        """
        if scope is None:
            here = running_task.get()
            made_on = here.processor if here is not None else self._home(_UNSCOPED)
            scope, why = self._implied(value, made_on)
        if sealed:
            scope = sealed_scope(scope)
        task = running_task.get()
        if task is not None:
            scope = self.seals.within(task.id, scope)
        home = processor or self._home(scope)
        if home.worker != self.worker or not self.topology.admits(scope, self.worker):
            raise ScopeError(
                f"this task runs on worker {self.worker}, and the chunk would live on"
                f" {home.describe()}, valid on {scope.describe()}. A task makes chunks where it"
                " runs: spawn it with that scope."
            )
        with self._lock:
            self._own_chunks += 1
            number = int(self.worker) + 1 if isinstance(self.worker, int) else 0
            chunk_id = (number << _OWN_IDS) + self._own_chunks + (1 << (_OWN_IDS + 20))
        stored = self.store.put(chunk_id, value, scope, home, why=why)
        with self._lock:
            self._handles.add_own(chunk_id)
        return self.revive_chunk(stored)

    def rescope(self, chunk: Chunk, scope: Scope, *, declassify: bool) -> Chunk:
        """Changes the scope of a chunk that is here, for the task that runs.

        Returns:
            A handle that knows of it.

        Raises:
            ScopeError: that would widen it, and was not said to; or it leaves this process out.
            ChunkLostError: the chunk is not here.
        """
        before = self.store.describe(chunk.id).scope
        widened = check_rescoping(chunk.id, before, scope, declassify=declassify)
        if not self.topology.admits(scope, self.worker):
            raise ScopeError(
                f"chunk {chunk.id} is held by worker {self.worker}, which lies outside of"
                f" {scope.describe()}. A task changes the scope of what is valid where it runs."
            )
        task = running_task.get()
        by = f"task {task.name} on {self._place(task.processor)}" if task else self._place()
        self.store.rescope(chunk.id, scope)
        change = Rescoping(chunk.id, before, scope, widened, by, time.time())
        with self._lock:
            self._pending.append(msg.Rescoped(change))
        return self.revive_chunk(self.store.describe(chunk.id))

    def revive_chunk(self, stored: StoredChunk) -> Chunk:
        """Makes a handle in this process."""
        with self._lock:
            report = self._handles.revive(stored)
            if report is not None:
                self._pending.append(report)
        return Chunk(self, stored.id, chunk_facts(stored))

    def _home(self, scope: Scope) -> Processor:
        task = running_task.get()
        allowed = dict.fromkeys(self.topology.select(self.topology.mask(scope)))
        if task is not None and task.processor in allowed:
            return task.processor
        here = list(self._lanes)
        return next((processor for processor in here if processor in allowed), here[0])

    def fetch_chunk(self, chunk: Chunk, timeout: float | None) -> Any:
        """Returns a chunk's value to code of this process."""
        del timeout
        if chunk.id in self.store:
            value, scope = self.store.look(chunk.id)
            if scope is not _UNSCOPED:
                # Labels change: what is here may not be had here any more.
                guard(chunk.id, scope, self.worker, self.topology)
            return value
        _, parcel = self._fetch(chunk.processor.worker, [chunk.id])[0]
        return load_parcel(parcel)

    def release_chunk(self, chunk_id: int) -> None:
        """Takes note that a handle in this process is gone."""
        # Python may collect a handle at any line, so this only leaves word.
        self._released.append(chunk_id)
        if self._background:
            self._wake.set()

    def _drop_released(self) -> None:
        gone: list[int] = []
        while self._released:
            gone.append(self._released.popleft())
        if not gone:
            return
        with self._lock:
            dropped, reports = self._handles.release(gone)
            self._pending += reports
        self.store.drop(dropped)

    def chunk_facts(self, chunk_id: int) -> Mapping[str, Any]:
        """Tells what is known of a chunk here."""
        return {"state": "held" if chunk_id in self.store else "released"}

    def export_chunk(self, chunk: Chunk) -> tuple[Any, ...]:
        """Returns what another process needs to make a handle."""
        # Whoever reads the pickle holds a handle from now on, and says when it is gone.
        return (self.lend(chunk),)

    # -- end ----------------------------------------------------------------------

    def close(self) -> None:
        """Ends the lanes and the publishing thread, and forgets every chunk."""
        self._closed = True
        self._wake.set()
        self.children.close()
        self.pieces.close(self._run_on)
        for lane in self._lanes.values():
            lane.close()
        if self._publisher is not None and self._publisher is not threading.current_thread():
            self._publisher.join(1.0)
        self.store.clear()
        if self._lender is not None:
            self._lender.close()
        self._functions.clear()
        # An engine that is not ours lives on, without the rules of our users.
        registry.leave(self)

    def statistics(self) -> dict[str, int]:
        """Counts what the agent holds."""
        return {
            "pid": os.getpid(),
            "chunks": len(self.store),
            "functions": len(self._functions),
            "running": len(self._running),
        }


def _all_plain(values: Sequence[Any], results: Sequence[StoredChunk]) -> tuple[Any, ...] | None:
    """Returns several results where each of them may go with the word that it is made."""
    plain = all(type(value) in _PLAIN and _is_small(value) for value in values)
    free = all(result.scope is _UNSCOPED for result in results)
    return tuple(values) if plain and free else None


def _is_small(value: Any) -> bool:
    return type(value) is not int or value.bit_length() <= _MOST_BITS


def chunk_facts(stored: StoredChunk) -> dict[str, Any]:
    """Returns what a handle shows of a chunk."""
    return {
        "scope": stored.scope,
        "processor": stored.processor,
        "type": stored.type,
        "nbytes": stored.nbytes,
        "state": "held",
    }


def _within(scope: Scope, seal: Scope | None) -> Scope:
    return scope if seal is None else constrain(scope, seal)
