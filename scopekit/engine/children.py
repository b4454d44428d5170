"""The tasks that tasks of this process spawn."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from scopekit.engine.lanes import no_running_loop
from scopekit.errors import ScopekitError, TaskCancelledError
from scopekit.wire import messages as msg
from scopekit.wire.codec import KnownFunctions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scopekit.engine.lanes import Lane
    from scopekit.engine.reporter import Reporter
    from scopekit.engine.stopping import Stops
    from scopekit.graph import StoredChunk, TaskSpec, WorkerId
    from scopekit.handles import Task
    from scopekit.scopes import Processor
    from scopekit.wire.codec import Call, PickledError

__all__ = ("Children",)

# Ids of tasks that tasks spawn: the worker's number above, a counter below; apart from
# those of the chunks that tasks make by themselves.
_OWN_IDS = 40
_FIRST_ID = 1 << (_OWN_IDS + 21)
# While a task waits, others run above it on its thread: its own children as deep as the
# program goes, the tasks of others only so deep, since none of these makes it end sooner.
_DEEPEST = 1000
_DEEPEST_OTHERS = 16
_FRAMES_EACH = 200
_NEWS_SECONDS = 0.05
_RETURNED_AT_ONCE = 256
# Messages with reports that the client may be behind, before those who spawn wait for it.
_MOST_UNREAD = 64


class Pending(Protocol):
    """A task that has not begun."""

    @property
    def order(self) -> msg.Run:
        """What was ordered."""


class Line(Protocol):
    """The way to the client, as far as whoever waits here uses it."""

    def lead(self, holds: Callable[[], bool], until: float | None) -> bool:
        """Receives in the caller's thread until something holds."""

    def nudge(self) -> None:
        """Has whoever leads see whether what it waits for holds now."""

    @property
    def unacknowledged(self) -> int:
        """How many messages the client has not confirmed."""


class _Agent(Protocol):
    worker: WorkerId
    stops: Stops
    reporter: Reporter

    def flush(self) -> None: ...

    def run_here(self, order: msg.Run, pickled: bytes) -> None: ...

    def run(self, pending: Any) -> None: ...

    def lane_of(self, processor: Processor) -> Lane: ...

    def cancel_child(self, task: Task, grace: float | None) -> None: ...


class Children:
    """Keeps the handles to what tasks spawned, and what was kept here and has not begun.

    A task that waits gives its processor to others, which run above it on its thread: the
    newest of the tasks that were spawned and kept here first, so that a program that calls
    itself goes down one branch before it begins the next. None of them can wait for one
    below it: a task waits for none but those that it spawned itself.

    Args:
        agent: what runs them.

    Attributes:
        waited_for: the handles to tasks that have not ended, by task.
        outputs: the results that tasks make which were spawned and kept here.
    """

    def __init__(self, agent: _Agent) -> None:
        self._agent = agent
        self.waited_for: dict[int, Task] = {}
        self.outputs: dict[int, int] = {}
        self._tried_again: set[int] = set()
        self._ready: dict[Processor, dict[int, Pending]] = {}
        self._summoned: set[Processor] = set()
        self._told = KnownFunctions()
        self._returned: list[int] = []
        self._unwanted: deque[Task] = deque()
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._helping = 0
        # Tasks that wait and have nothing to run above them: since when, and whether told.
        self._blocked: dict[int, tuple[float, bool]] = {}
        self._depth = threading.local()
        self._fresh = contextvars.copy_context()
        self._closed = False
        self.line: Line | None = None

    def ids(self) -> Iterator[int]:
        """Returns numbers for tasks and results that nobody else gives."""
        worker = self._agent.worker
        number = int(worker) + 1 if isinstance(worker, int) else 0
        return itertools.count(_FIRST_ID + (number << _OWN_IDS))

    # -- spawning ----------------------------------------------------------------------

    def spawn(
        self,
        spec: TaskSpec,
        call: Call,
        task: Task,
        keep: Processor | None,
        chunks: tuple[StoredChunk, ...],
    ) -> None:
        """Takes in a task that a task spawned.

        Args:
            spec: what was asked for.
            call: its call, without handles.
            task: the handle.
            keep: the processor where it may run at once, None to have it placed.
            chunks: those of its inputs that came as handles to chunks.
        """
        self._hold_back()
        with self._lock:
            self.waited_for[spec.id] = task
            if spec.retries:
                self._tried_again.add(spec.id)
            if keep is not None:
                self.outputs.update(dict.fromkeys(spec.outputs, spec.id))
            function, forget = self._told.to_send(call)
            word = msg.Spawned(
                spec, call.digest, function, forget, call.arguments, chunks, keep, time.time()
            )
            self._agent.reporter.report_soon(word)
        if keep is None:
            self._agent.flush()
            return
        if spec.timeout is not None:
            self._agent.stops.limits[spec.id] = spec.timeout
        order = msg.Run(
            spec.id,
            spec.name,
            call.digest,
            None,
            (),
            call.arguments,
            keep,
            tuple(need.chunk for need in spec.inputs),
            spec.outputs,
            spec.result_scope,
            spec.around,
            spec.how,
        )
        self._agent.run_here(order, call.function)

    def _hold_back(self) -> None:
        """Waits while the client has more to read than it can, without a limit."""
        line = self.line
        if line is not None and line.unacknowledged > _MOST_UNREAD:
            line.lead(lambda: self._closed or line.unacknowledged <= _MOST_UNREAD, None)

    def keep(self, pending: Pending) -> None:
        """Takes in a task that was kept here, and has its inputs."""
        processor = pending.order.processor
        with self._lock:
            self._ready.setdefault(processor, {})[pending.order.task] = pending
            self.nudge()
            if processor in self._summoned:
                return
            self._summoned.add(processor)
        self._agent.lane_of(processor).submit(lambda: self._run_oldest(processor))

    def let_go(self, pending: Pending) -> None:
        """Takes note that a task is to run elsewhere."""
        with self._lock:
            self._ready.get(pending.order.processor, {}).pop(pending.order.task, None)
            for output in pending.order.outputs:
                self.outputs.pop(output, None)

    def _run_oldest(self, processor: Processor) -> None:
        with self._lock:
            ready = self._ready.get(processor)
            if not ready:
                self._summoned.discard(processor)
                return
            pending = ready.pop(next(iter(ready)))
        self._agent.run(pending)
        with self._lock:
            if not self._ready.get(processor):
                self._summoned.discard(processor)
                return
        self._agent.lane_of(processor).submit(lambda: self._run_oldest(processor))

    # -- ends -----------------------------------------------------------------------------

    def done(self, task_id: int, value: tuple[Any] | None) -> None:
        """Takes note that a task has given its results here."""
        with self._lock:
            self._tried_again.discard(task_id)
            task = self.waited_for.pop(task_id, None)
        if task is not None:
            task.plain_value = value
            self._end(task, None)

    def fail(self, task_id: int, error: PickledError) -> bool:
        """Takes note that a task failed here, unless it is to be tried again.

        Returns:
            True if it has ended.
        """
        with self._lock:
            if task_id in self._tried_again:
                return False
            task = self.waited_for.pop(task_id, None)
        if task is not None:
            self._end(task, error)
        return True

    def stop(self, task_id: int, error: ScopekitError) -> None:
        """Takes note that a task was cancelled, or stopped since it took too long."""
        with self._lock:
            self._tried_again.discard(task_id)
            task = self.waited_for.pop(task_id, None)
        if task is None:
            return
        for handle in (task, *task.outputs.values()):
            with self._lock:
                self.outputs.pop(handle.chunk_id, None)
            handle.mark_stopped(error)
        self.nudge()

    def settle(self, order: msg.Settled) -> None:
        """Takes note of how a task ended elsewhere, or that it did not end well."""
        with self._lock:
            self._tried_again.discard(order.task)
            task = self.waited_for.pop(order.task, None)
        if task is None:
            return
        stored = {result.id: result for result in order.results}
        for handle in (task, *task.outputs.values()):
            handle.stored = stored.get(handle.chunk_id)
        task.plain_value = order.value
        if order.state == "cancelled" and order.error is not None:
            error = TaskCancelledError(order.error.message)
            for handle in (task, *task.outputs.values()):
                handle.mark_stopped(error)
            self.nudge()
            return
        self._end(task, order.error)

    def _end(self, task: Task, error: Any) -> None:
        for handle in (task, *task.outputs.values()):
            with self._lock:
                self.outputs.pop(handle.chunk_id, None)
            if error is None:
                handle.mark_done()
            else:
                who = f"raised by task {task.name} on {error.place}"
                handle.set_exception(error.rebuild(who))
        self.nudge()

    def nudge(self) -> None:
        """Has those who wait here look whether they may go on."""
        if self._helping:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            self._news.notify_all()
        if self.line is not None:
            self.line.nudge()

    def give_back_handle(self, chunk: int) -> None:
        """Takes note that a handle to a result is gone.

        Python may collect a handle at any line, so this only leaves word.
        """
        self._returned.append(chunk)

    def report_handles(self, *, all_of_them: bool = True) -> None:
        """Reports the handles that are gone."""
        if self._returned and (all_of_them or len(self._returned) >= _RETURNED_AT_ONCE):
            returned, self._returned = self._returned, []
            self._agent.reporter.report_soon(msg.Returned(tuple(returned)))

    def cancel_soon(self, tasks: Iterable[Task]) -> None:
        """Has tasks cancelled that nobody wants; only leaves word, for the same reason."""
        self._unwanted.extend(tasks)

    def cancel_unwanted(self) -> None:
        """Cancels the tasks that nobody wants."""
        while self._unwanted:
            task = self._unwanted.popleft()
            if not task.done():
                self._agent.cancel_child(task, None)

    # -- waiting ----------------------------------------------------------------------------

    def report_blocked(self, seconds: float) -> None:
        """Reports the tasks that have waited for so long."""
        now = time.time()
        with self._lock:
            for task, (since, told) in list(self._blocked.items()):
                if not told and now - since >= seconds:
                    self._blocked[task] = (since, True)
                    self._agent.reporter.report_soon(msg.Paused(task, now))

    def help(
        self,
        task: int,
        processor: Processor,
        holds: Callable[[], bool],
        until: float | None,
        wanted: int | None = None,
    ) -> None:
        """Gives a processor to others until something holds.

        Args:
            task: the task of the caller.
            processor: where it runs.
            holds: what it waits for.
            until: when to give up, by the monotonic clock; None never gives up.
            wanted: the task that it waits for, which runs first if it is here.

        Raises:
            Interrupted: the caller is to stop.
        """
        try:
            while not holds() and not self._closed:
                self._agent.stops.check(task)
                if until is not None and time.monotonic() >= until:
                    return
                if not self._run_one(processor, wanted):
                    self._agent.flush()
                    self._await_news(task, processor, holds, until)
        finally:
            self._unblock(task)

    async def help_in_loop(self, task: int, processor: Processor, wanted: Task) -> None:
        """Gives a processor to others until a task has ended, between the steps of a loop.

        Args:
            task: the task of the caller.
            processor: where it runs.
            wanted: the task that it waits for, which runs first if it is here.
        """
        import asyncio  # noqa: PLC0415  # slow to load, and there already where this runs

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell(_: object) -> None:
            # Whoever awaited may have given up, and closed its loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        wanted.add_done_callback(tell)
        try:
            while not wanted.done() and not self._closed:
                if self._run_one(processor, wanted.id):
                    await asyncio.sleep(0)
                    continue
                self._agent.flush()
                with self._lock:
                    self._blocked.setdefault(task, (time.time(), False))
                # Also something to run may come.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _NEWS_SECONDS)
        finally:
            self._unblock(task)

    def _unblock(self, task: int) -> None:
        with self._lock:
            _, told = self._blocked.pop(task, (0.0, False))
        if told:
            self._agent.reporter.report_soon(msg.Resumed(task, time.time()))

    def _run_one(self, processor: Processor, wanted: int | None) -> bool:
        """Runs a task above the one that waits; tells whether there was one."""
        if self._level() >= _DEEPEST:
            raise ScopekitError(
                f"tasks wait for tasks {_DEEPEST} deep on one thread. Return what is needed"
                " instead of waiting for it, or spawn in fewer steps."
            )
        with self._lock:
            ready = self._ready.get(processor)
            pending = None
            if ready:
                pending = ready.pop(wanted, None) if wanted is not None else None
                pending = pending or ready.popitem()[1]
        if pending is not None:
            self._run_above(lambda: self._agent.run(pending))
            return True
        if self._level() >= _DEEPEST_OTHERS:
            return False
        job = self._agent.lane_of(processor).take()
        if job is None:
            return False
        self._run_above(job)
        return True

    def _level(self) -> int:
        level: int = getattr(self._depth, "level", 0)
        return level

    def _run_above(self, job: Callable[[], None]) -> None:
        level = self._depth.level = self._level() + 1
        try:
            # Each of them may go as deep as if it were alone.
            if sys.getrecursionlimit() < _FRAMES_EACH * (level + 5):
                sys.setrecursionlimit(_FRAMES_EACH * (level + 50))
            # What one sets in its context is nothing to the one below.
            with no_running_loop():
                self._fresh.copy().run(job)
        finally:
            self._depth.level = level - 1
        self.report_handles(all_of_them=False)

    def _await_news(
        self, task: int, processor: Processor, holds: Callable[[], bool], until: float | None
    ) -> None:
        lane = self._agent.lane_of(processor)

        def something() -> bool:
            if holds() or self._closed or bool(self._ready.get(processor)):
                return True
            if self._agent.stops.wants(task):
                return True
            return self._level() < _DEEPEST_OTHERS and not lane.idle()

        with self._lock:
            self._helping += 1
            self._blocked.setdefault(task, (time.time(), False))
        try:
            if self.line is not None and self.line.lead(something, until):
                return
            with self._news:
                # Another thread of this process may receive instead, or nobody needs to.
                self._news.wait_for(something, _NEWS_SECONDS)
        finally:
            with self._lock:
                self._helping -= 1

    def close(self) -> None:
        """Ends every wait."""
        self._closed = True
        self._tell()
