"""The calls that an executor was given: sends them as tasks, brings their values back."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.callfuture import CallFuture
from scopekit.engine.initializing import InitializerError, initialized
from scopekit.errors import TaskCancelledError
from scopekit.handles import Task
from scopekit.spawning import around

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from scopekit.options import Options
    from scopekit.session import Session

__all__ = ("Calls", "end_executors", "finish_executors")

_LOGGER = logging.getLogger("concurrent.futures")
_JOIN = 5.0
# Those that have a thread, until it ends.
_working: dict[Calls, None] = {}
_exiting = threading.Event()


class _Call(NamedTuple):
    """A call that waits for its turn, with the context that it was made in."""

    context: contextvars.Context
    f: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Calls:
    """All that an executor has to do, apart from the executor, which may go before it is done.

    Args:
        session: runs the tasks.
        given: their options.
        limit: how many of them may be unfinished at once, None for any number.
        setup: the name of the executor and its pickled initializer, None without one.
        threaded: False where a task has run when its spawn returns.
    """

    def __init__(
        self,
        session: Session,
        given: Options,
        limit: int | None,
        setup: tuple[bytes, bytes] | None,
        *,
        threaded: bool,
    ) -> None:
        self.session = session
        self.limit = limit
        self.broken: InitializerError | None = None
        self._given = given
        self._setup = setup
        self._threaded = threaded
        # Reentrant: Python may collect an executor at any line, in here too.
        self._lock = threading.RLock()
        self._sent_one = threading.Condition(self._lock)
        self._waiting: OrderedDict[CallFuture, _Call] = OrderedDict()
        self._sent: dict[Task, CallFuture] = {}
        self._unfinished = 0
        # Tasks that have ended, futures that nobody wants; None to look around.
        self._inbox: queue.SimpleQueue[Task | Future[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._shut = False
        self._closed = False

    @property
    def is_shut(self) -> bool:
        """Tells whether it takes no more calls."""
        return self._shut

    @property
    def behind(self) -> bool:
        """Tells whether calls wait for their turn."""
        return bool(self._waiting)

    # -- from the call to the task -----------------------------------------------------

    def submit(self, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallFuture:
        """Takes a call in.

        Raises:
            RuntimeError: the executor takes no more calls.
        """
        future = CallFuture(self)
        with self._lock:
            self._check_open()
            waits = not self._has_room()
            if waits:
                self._waiting[future] = _Call(contextvars.copy_context(), f, args, kwargs)
            else:
                self._unfinished += 1
            if self._thread is None and self._threaded:
                self._start()
        if not waits:
            self._send(future, f, args, kwargs)
        if not self._threaded:
            self._send_waiting()
        return future

    def _check_open(self) -> None:
        if self.broken is not None:
            raise _again(self.broken)
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _exiting.is_set():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._closed or self.session._closed:
            raise RuntimeError("cannot schedule new futures after the session was closed")

    def _has_room(self) -> bool:
        return not self._waiting and (self.limit is None or self._unfinished < self.limit)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="scopekit-executor", daemon=True)
        _working[self] = None
        self._thread.start()

    def _send(
        self, future: CallFuture, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Spawns the task of a call; what keeps it from being one is the call's own error."""
        try:
            if self._setup is not None:
                f, args = around(initialized, self._setup, f, args)
            task = self.session.submit(self._given, f, args, kwargs, apart=True)
        except BaseException as error:
            self._fail(future, _closed() if self.session._closed else error)
            with self._lock:
                self._unfinished -= 1
                self._sent_one.notify_all()
            self._look_around()
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            future.task = task
            self._sent[task] = future
            self._sent_one.notify_all()
        self._watch(task)

    def _watch(self, task: Task) -> None:
        """Has itself told when a task has ended, as the standard library's ``wait`` does."""
        with task._condition:
            if not task.done():
                task._waiters.append(self)  # type: ignore[arg-type]  # it has the methods
                return
        self._ended(task)

    def _send_waiting(self) -> None:
        """Sends what has waited for its turn, as far as there is room."""
        while True:
            with self._lock:
                if not self._waiting or self._unfinished == self.limit:
                    return
                future, call = self._waiting.popitem(last=False)
                self._unfinished += 1
            call.context.run(self._send, future, call.f, call.args, call.kwargs)
            del future, call

    # -- from the task to the value ------------------------------------------------------

    def add_result(self, task: Task) -> None:
        """Takes note that a task is done."""
        self._ended(task)

    def add_exception(self, task: Task) -> None:
        """Takes note that a task has failed."""
        self._ended(task)

    def add_cancelled(self, task: Task) -> None:
        """Takes note that a task will not run."""
        self._ended(task)

    def _ended(self, task: Task) -> None:
        """Settles a call whose task has ended, unless its value is elsewhere still.

        Whoever calls this has more to do: nothing here waits.
        """
        with self._lock:
            self._unfinished -= 1
        future = self._sent[task]
        error: BaseException | None = task._exception
        if task.cancelled():
            self._end_cancelled(future)
        elif error is not None:
            self._fail(future, error)
        elif task.plain_value is not None:
            self._give(future, task.plain_value[0])
        elif self._threaded:
            self._inbox.put(task)
            return
        else:
            self._bring([task])
            return
        self._forget(task)
        self._look_around()

    def _look_around(self) -> None:
        """Has the thread see whether it can send more, or end."""
        if self._waiting or self._shut or self._closed:
            self._inbox.put(None)

    def _forget(self, task: Task) -> None:
        with self._lock:
            self._sent.pop(task, None)

    def _bring(self, tasks: list[Task]) -> None:
        """Brings the values of tasks that are done, all of a worker's in one message."""
        left = tasks
        while left:
            left = self._bring_some(left)
        for task in tasks:
            self._forget(task)

    def _bring_some(self, tasks: list[Task]) -> list[Task]:
        """Settles calls whose tasks are done; returns the tasks of those that are left."""
        try:
            values = self.session.fetch(tasks)
        except Exception as error:  # noqa: BLE001  # it is the error of one of them
            # One that may not come here must not keep the others away.
            culprit = _culprit(tasks, error)
            if culprit is None:
                return [*self._bring_some(tasks[:1]), *tasks[1:]]
            self._fail(self._sent[culprit], error)
            return [task for task in tasks if task is not culprit]
        for task, value in zip(tasks, values, strict=True):
            self._give(self._sent[task], value)
        return []

    def _claim(self, future: CallFuture) -> bool:
        """Makes the caller the only one who settles a future."""
        with self._lock:
            if future.claimed:
                return False
            future.claimed = True
            future.task = None
            return True

    def _give(self, future: CallFuture, value: Any) -> None:
        if self._claim(future):
            future.set_result(value)

    def _fail(self, future: CallFuture, error: BaseException) -> None:
        if isinstance(error, InitializerError):
            error = _again(error)
            self._break(error)
        if self._claim(future):
            future.set_exception(error)

    def _end_cancelled(self, future: CallFuture) -> None:
        if self._claim(future):
            future.mark_cancelled()

    def _break(self, error: InitializerError) -> None:
        """Ends the executor: one of its processes could not be prepared."""
        with self._lock:
            first = self.broken is None
            self.broken = error
        if first:
            _LOGGER.critical("Exception in initializer:", exc_info=error.__cause__)
        self._end_waiting(lambda: _again(error))

    def _end_waiting(self, error: Callable[[], BaseException]) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, OrderedDict()
        for future in waiting:
            if self._claim(future):
                future.set_exception(error())

    # -- the thread -----------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._is_over():
                self._turn()
        finally:
            _working.pop(self, None)

    def _turn(self) -> None:
        """Waits, without a limit, until there is something to do; does it."""
        ended = [self._inbox.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                ended.append(self._inbox.get_nowait())
        for unwanted in ended:
            if isinstance(unwanted, CallFuture):
                unwanted.cancel()
        # First, since processors may have nothing to do.
        self._send_waiting()
        tasks = [task for task in ended if isinstance(task, Task)]
        if tasks:
            self._bring(tasks)

    def _is_over(self) -> bool:
        with self._lock:
            return (self._shut or self._closed) and not (
                self._waiting or self._unfinished or self._sent
            )

    # -- ends -------------------------------------------------------------------------------

    def cancel(self, future: CallFuture) -> bool:
        """Cancels a call that has not begun; tells whether it will not run."""
        with self._lock:
            waited = self._waiting.pop(future, None) is not None
            if not waited:
                # For the instant that it takes to send it.
                self._sent_one.wait_for(lambda: future.task is not None or future.claimed)
            task = future.task
        if waited or (task is not None and task.cancel_unsent()):
            self._end_cancelled(future)
        return future.cancelled()

    def shut(self) -> None:
        """Takes no more calls; may run at any line, whenever Python collects the executor."""
        self._shut = True
        self._inbox.put(None)

    def cancel_soon(self, futures: list[Future[Any]]) -> None:
        """Cancels calls whose values nobody wants; may run at any line, as ``shut`` may."""
        for future in reversed(futures):
            self._inbox.put(future)

    def cancel_all(self) -> None:
        """Cancels what has not begun."""
        with self._lock:
            futures = [*reversed(self._waiting), *reversed(self._sent.values())]
        for future in futures:
            future.cancel()

    def wait(self) -> None:
        """Waits, without a limit, until all calls have ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def end(self) -> None:
        """Ends what waits, and the thread, within seconds: the session is at its end."""
        self._closed = True
        self._end_waiting(_closed)
        self._inbox.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)


def end_executors(session: Session) -> None:
    """Ends the executors of a session that is at its end."""
    for calls in list(_working):
        if calls.session is session:
            calls.end()


def finish_executors() -> None:
    """Has every executor do what it was given, without a limit: the interpreter ends."""
    _exiting.set()
    working = list(_working)
    for calls in working:
        calls.shut()
    for calls in working:
        calls.wait()


def _culprit(tasks: list[Task], error: Exception) -> Task | None:
    """Returns the task whose value could not be had, None where that is not known."""
    if len(tasks) == 1:
        return tasks[0]
    chunk = getattr(error, "chunk", None)
    return next((task for task in tasks if task.chunk_id == chunk), None)


def _again(error: InitializerError) -> InitializerError:
    """Makes an error of its own for each who gets it, since raising one adds to it."""
    again = InitializerError(error.cause)
    again.__cause__ = error.cause.rebuild(f"raised on {error.cause.place}")
    return again


def _closed() -> TaskCancelledError:
    return TaskCancelledError("the call was not sent when the executor's session was closed")
