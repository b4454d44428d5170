"""The agent: carries out a session's orders inside one process.

Orders arrive on one thread, and tasks run on the lanes of the process's processors.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from scopekit.engine.accelerators import lane_for, probe_kind
from scopekit.engine.backlog import Backlog, Pending
from scopekit.engine.children import Children
from scopekit.engine.context import RunningTask, around, running_task
from scopekit.engine.exchange import Exchange
from scopekit.engine.functions import ReceivedFunction, ReceivedFunctions
from scopekit.engine.localchunks import LocalChunks
from scopekit.engine.pieces import Pieces, Recipe
from scopekit.engine.reporter import FLUSH_SECONDS, Reporter
from scopekit.engine.results import Results, told_at_once
from scopekit.engine.runner import run_task
from scopekit.engine.seals import Seals, sealed_error
from scopekit.engine.stopping import Stops
from scopekit.engine.store import Store
from scopekit.errors import ChunkLostError, ScopekitError
from scopekit.handles import reviver
from scopekit.pinning.registry import registry
from scopekit.scopes import CLIENT, AnyScope, constrain, is_sealed
from scopekit.shield import shield
from scopekit.stopped import bereft_error, cancelled_error, timeout_error
from scopekit.wire import messages as msg
from scopekit.wire.blobs import Blob
from scopekit.wire.codec import FIRST_INPUT, dump_error, load_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scopekit.engine.lanes import Lane
    from scopekit.engine.stopping import Running
    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.handles import Task
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.codec import PickledError
    from scopekit.wire.lending import Lender
    from scopekit.wire.peers import Given, Pushed

__all__ = ("Agent",)

_ASK_AGAIN_SECONDS = 2.0
_UNSCOPED = AnyScope()


class _NotHereError(Exception):
    """An input is gone from here, or turned out to be valid in fewer places than was said."""

    def __init__(self, chunk: int, scope: Scope | None = None) -> None:
        super().__init__(chunk, scope)
        self.chunk = chunk
        self.scope = scope


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

    Attributes:
        store: the chunks of this process.
        reporter: sends the session what there is to report.
        exchange: brings chunks here, and sends them to other processes.
        chunks: makes chunks for code inside of tasks.
        children: what tasks of this process spawned.
        stops: the tasks that are to stop.
        seals: the tasks that run on sealed inputs.
        pieces: the pieces of shards in this process.
        addresses: where other processes serve their chunks.
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
        self._lender = lender
        self._lanes = dict(lanes)
        self.addresses: Mapping[WorkerId, msg.PeerAddress] = {}
        self._closed = False
        self._functions = ReceivedFunctions()
        self._running: dict[int, Running] = {}
        # Those of the tasks that run of which the session knows that they do.
        self._known_to_run: set[int] = set()
        # What is to stop that has not come yet, told on a quicker way than orders take.
        self._doomed: dict[int, None] = {}
        self._asked_again = time.monotonic()
        self.stops = Stops(self._running)
        self.seals = Seals()
        self.pieces = Pieces()
        # Reentrant: Python may collect an object of a task's at any line in here, and
        # what its __del__ prints comes back.
        self._lock = threading.RLock()
        self.reporter = Reporter(
            f"scopekit-publisher-{worker}", publish, self, background=background
        )
        self.store = Store(worker, topology, lender, self._narrowed, self._bury)
        self._results = Results(worker, self.store, self.reporter)
        self.chunks = LocalChunks(
            worker,
            self.store,
            self._results,
            self.reporter,
            seals=self.seals,
            lock=self._lock,
            fetch=fetch,
            processors=self._lanes,
        )
        self._backlog = Backlog(self.store, self._lock)
        self.exchange = Exchange(
            worker,
            self.store,
            self._backlog,
            self.reporter,
            self._lock,
            fetch=fetch,
            push=push,
            lends_to=lends_to,
            revive=self.chunks.revive,
            submit=self._submit,
        )
        self.children = Children(self)
        self._on_order: dict[type, Callable[[Any], object]] = {
            msg.TopologyChanged: self._on_topology,
            msg.Run: self._on_run,
            msg.Put: self.exchange.put,
            msg.Send: lambda order: self.exchange.send(order.chunk, order.to),
            msg.Retract: lambda order: self._take_out(order.tasks),
            msg.GiveBack: self._on_give_back,
            msg.Stop: self._on_stop,
            msg.Limit: self._on_limit,
            msg.Drop: self._on_drop,
            msg.Rescope: self._on_rescope,
            msg.Settled: self.children.settle,
            msg.AddKind: self._on_add_kind,
            msg.Beat: lambda _: None,
            msg.PinsChanged: self._on_pins_changed,
        }

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
        self._let_go()
        for order in orders:
            self._on_order[type(order)](order)

    def _on_topology(self, order: msg.TopologyChanged) -> None:
        self.store.topology = order.topology
        self._results.be_on_node(order.topology.node_of(self.worker))
        self.addresses = order.addresses
        self.exchange.admit_again()

    def _on_pins_changed(self, order: msg.PinsChanged) -> None:
        for keys, pickled in order.rules:
            registry.adopt(self, keys, functools.partial(load_value, pickled))

    def _on_run(self, order: msg.Run) -> None:
        self.reporter.start()
        function = self._functions.take(order)
        if self._doomed and order.task in self._doomed:
            self.stops.forget(order.task)
            return
        pending = Pending(order, function)
        if self._backlog.add(pending):
            self._submit(pending)
        else:
            self.reporter.stir()
            self.exchange.hand_back_refused(order)

    def _submit(self, pending: Pending) -> None:
        if pending.spawned_here:
            self.children.keep(pending)
            return
        self._lanes[pending.order.processor].submit(functools.partial(self.run, pending))

    def _take_out(self, tasks: Iterable[int]) -> list[Pending]:
        """Takes tasks away that have not begun; returns those that there were."""
        taken = self._backlog.take_out(tasks)
        for pending in taken:
            self.stops.forget(pending.order.task)
            if pending.spawned_here:
                self.children.let_go(pending)
        return taken

    def _on_give_back(self, order: msg.GiveBack) -> None:
        for pending in self._take_out(order.tasks):
            self.reporter.report(msg.HandedBack(pending.order.task))

    def _on_drop(self, order: msg.Drop) -> None:
        self.exchange.admit_again(order.chunks)
        # A value of this process may still refer to a chunk that the client let go.
        gone = self.chunks.drop_ordered(order.chunks)
        self.store.drop(gone, order.version)
        if self.pieces:
            self.pieces.forget(gone, self._run_on)

    def _on_rescope(self, order: msg.Rescope) -> None:
        self.store.rescope(order.chunk, order.scope)
        self.reporter.report(msg.ScopeFollowed(order.chunk))

    def _on_add_kind(self, order: msg.AddKind) -> None:
        # What a probe does may take its time, and other orders do not wait for it.
        name = f"scopekit-{self.worker}-probe"
        threading.Thread(target=self._add_kind, args=(order,), name=name, daemon=True).start()

    def _add_kind(self, order: msg.AddKind) -> None:
        found, trouble = probe_kind(self.worker, order.kind, order.probe)
        self.add_processors(found)
        self.reporter.report(msg.KindFound(order.kind, found, trouble))

    def add_processors(self, processors: Iterable[Processor]) -> None:
        """Runs tasks on further processors, each with a thread of its own."""
        for processor in processors:
            if processor not in self._lanes:
                inline = not self.reporter.background
                self._lanes[processor] = lane_for(processor, inline=inline)

    def _run_on(self, processor: Processor, job: Callable[[], None]) -> bool:
        """Has a processor of this process run something; False if it was run at once."""
        lane = self._lanes[processor]
        if lane.is_own():
            job()
            return False
        lane.submit(job)
        return True

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
            unknown = [t for t in tasks if t not in self._backlog and t not in self._running]
            self._doomed.update(dict.fromkeys(unknown))
        now = time.time()
        self.reporter.add(*(msg.Stopped(t, None, True, False, None, now) for t in unknown))
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
                started, order = running
                self._tell_stopped(order, started=started, late=late)
        self.children.nudge()
        self.reporter.flush()

    def _tell_stopped(
        self, order: msg.Run, *, started: float | None = None, late: bool = False
    ) -> None:
        """Reports that a task gives no value, and tells those here who wait for one."""
        over = started is None
        stopped = msg.Stopped(order.task, order.processor, over, late, started, time.time())
        self.reporter.report_soon(stopped)
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
        self.exchange.want_no_more(order.outputs)
        kept = tuple(output for output in order.outputs if output in self.store)
        return msg.Stopped(order.task, order.processor, True, mark.late, started, time.time(), kept)

    # -- running ----------------------------------------------------------------

    def run(self, pending: Pending) -> None:
        """Runs a task in the caller's thread, unless it was taken away."""
        order = pending.order
        if self._closed or order.task not in self._backlog:
            return
        started = time.time()
        # Before it is taken out: whoever is to stop it finds it here or there.
        self._running[order.task] = (started, order)
        if not self._backlog.begin(order.task):
            self._running.pop(order.task, None)
            return
        self.reporter.stir()
        task = RunningTask(order.task, order.name, order.processor, self)
        token = running_task.set(task)
        whose = reviver.set(self.chunks.revive)
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
        self._let_go()
        if type(report) is msg.Finished:
            for chunk in order.outputs:
                self.exchange.chunk_is_here(chunk)
        # Whoever waits for what was spawned here is here, too.
        self.reporter.report_end(
            report, None if pending.spawned_here else self._lanes[order.processor]
        )
        if self.children.waited_for:
            self._settle_child(pending, report)

    def _settle_child(self, pending: Pending, report: msg.Report) -> None:
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
            waiting = [p for p in self._backlog.waiting_for(todo.pop()) if p.spawned_here]
            for pending in self._take_out([p.order.task for p in waiting]):
                end(pending.order)
                todo += pending.order.outputs

    def _attempt(self, order: msg.Run, function: ReceivedFunction, started: float) -> msg.Report:
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
            results, value = self._call(order, callee, inputs, self._results.keep)
        except _NotHereError as found:
            return msg.HandedBack(order.task, found.chunk, found.scope)
        except BaseException as error:  # noqa: BLE001  # a task may raise what it likes
            failure = self.describe(error, order.processor)
            return msg.RunError(order.task, failure, started, time.time())
        split = order.how is not None and order.how.split
        told = told_at_once(value, results, split=split)
        return msg.Finished(order.task, results, started, time.time(), told)

    def _call(self, *call: Any) -> tuple[tuple[StoredChunk, ...], Any]:
        if self.reporter.background:
            return run_task(*call)
        # It runs inside of what spawned it, whom no interrupt may tear.
        with shield.lifted():
            return run_task(*call)

    def _attempt_sealed(
        self, order: msg.Run, callee: Any, started: float, inputs: list[Any], seal: Scope
    ) -> msg.Report:
        """Runs a task that has a sealed input: what it gives is sealed, all else stays here."""
        keep = functools.partial(self._results.keep, seal=seal)
        with self.seals.put_on(order.task, seal):
            try:
                results, _ = self._call(order, callee, inputs, keep)
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

    def _place(self, processor: Processor) -> str:
        return self.topology.describe_place(self.worker, processor)

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
            else self.chunks.revive(self.store.describe(chunk))
            for chunk, value in zip(chunks, values, strict=True)
        ]

    def write_output(self, task: int, stream: str, text: str) -> None:
        """Takes what a task wrote, to be reported soon."""
        if task in self.seals:
            place = self.topology.describe_place(self.worker)
            stream, text = "stderr", self.seals.notice(task, place) or ""
            if not text:
                return
        self.reporter.report_output(task, stream, text)

    # -- what values do ---------------------------------------------------------

    def _narrowed(self, chunk: int, scope: Scope, why: str) -> None:
        """Reports at once that a value stays here: others hear it, too, and go back for it."""
        self.reporter.report(msg.Pinned(chunk, scope, why))

    def _bury(self, processor: Processor, held: list[Any]) -> None:
        lane = self._lanes.get(processor)
        # What the client holds was made on its user's thread, which runs no jobs of ours.
        if lane is None or self.worker == CLIENT:
            held.clear()
        else:
            lane.submit(held.clear)

    def _let_go(self) -> None:
        """Drops chunks, and cancels tasks, of which Python collected what wanted them."""
        self.chunks.drop_released()
        self.children.cancel_unwanted()

    # -- what tasks of this process spawn ----------------------------------------

    def run_here(self, order: msg.Run, pickled: bytes) -> None:
        """Takes in a task that a task of this process spawned, and kept.

        Args:
            order: the task.
            pickled: its function.
        """
        function = self._functions.get(order.digest) or ReceivedFunction(pickled)
        pending = Pending(order, function, spawned_here=True)
        if self._backlog.add(pending):
            self._submit(pending)
        else:
            self.reporter.stir()

    def cancel_child(self, task: Task, grace: float | None) -> None:
        """Cancels a task that was spawned here: at once if it is here, else by the client."""
        self.stop((task.id,))
        if grace is not None or not task.done():
            self.reporter.report_soon(msg.CancelWanted(task.id, grace))
            self.reporter.flush()

    @property
    def reachable(self) -> bool:
        """Tells whether orders reach this process while its main thread is in a task."""
        return self.children.line is not None or self._always_hears

    def is_ordered(self, task: int) -> bool:
        """Tells whether a task is here and has not begun."""
        return task in self._backlog

    def lane_of(self, processor: Processor) -> Lane:
        """Returns the lane of a processor of this process."""
        return self._lanes[processor]

    def makes(self, chunk: int) -> bool:
        """Tells whether a chunk is here, or is made by what was spawned and kept here."""
        return chunk in self.store or chunk in self.children.outputs

    # -- now and then -------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Tells whether tasks run."""
        return bool(self._running)

    @property
    def most_idle_seconds(self) -> float | None:
        """Tells how long it may be left alone while no task runs, None for good."""
        waits = self._backlog.lacks_inputs or self.exchange.is_awaited
        return _ASK_AGAIN_SECONDS if waits else None

    def tend(self) -> None:
        """Looks after what is to be looked after now and then."""
        self._let_go()
        self.exchange.ask_for_unread()
        self.children.report_handles()
        self.children.report_blocked(FLUSH_SECONDS)
        self._report_running()
        if self.stops.limits and (overdue := self.stops.overdue()):
            self.stop(overdue, late=True)
        if self.stops.marks:
            self.stops.urge()
        if self.most_idle_seconds is not None:
            self._ask_again()

    def send_first(self) -> None:
        """Sends what others wait for more than the session for its reports."""
        self.exchange.flush()

    def flush(self) -> None:
        """Sends at once what others wait for, and what there is to report."""
        self.exchange.flush()
        self.reporter.flush()

    def _report_running(self) -> None:
        """Reports the tasks that have run for a while: short ones end before they count."""
        now = time.time()
        running = list(self._running.items())
        self._known_to_run.intersection_update(task for task, _ in running)
        for task, (started, _) in running:
            if now - started >= FLUSH_SECONDS and task not in self._known_to_run:
                self._known_to_run.add(task)
                self.reporter.add(msg.Started(task, started))

    def _ask_again(self) -> None:
        """Asks again for inputs that did not come: what was sent may have been lost."""
        now = time.monotonic()
        if now - self._asked_again < _ASK_AGAIN_SECONDS:
            return
        self._asked_again = now
        late = self._backlog.late(_ASK_AGAIN_SECONDS)
        late += self.exchange.take_overdue(self._orders_that_run)
        if late:
            self.reporter.add(msg.StillWaiting(tuple(late)))

    def _orders_that_run(self) -> list[msg.Run]:
        return [order for _, order in list(self._running.values())]

    # -- end ----------------------------------------------------------------------

    def close(self) -> None:
        """Ends the lanes and the publishing thread, and forgets every chunk."""
        self._closed = True
        self.children.close()
        self.pieces.close(self._run_on)
        for lane in self._lanes.values():
            lane.close()
        self.reporter.close()
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
