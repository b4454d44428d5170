"""The handles that users hold: a Task for what is to come, a Chunk for what is there.

A handle never holds the value. It knows its home, the session or the engine that
can fetch the value, and tells the home when it is gone.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import pickle
import threading
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from contextvars import ContextVar
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from scopekit.errors import ScopeError, ScopekitError, TaskCancelledError
from scopekit.stopped import cancelled_error

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Iterator, Mapping

    from scopekit.errors import ScopeViolationError
    from scopekit.explanation import Explanation
    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.scopes import Processor, Scope

__all__ = (
    "CANCEL_SECONDS",
    "Chunk",
    "HiddenHandleError",
    "Home",
    "Task",
    "handles_become",
    "reviver",
)

CANCEL_SECONDS = 1.0
"""How long ``cancel`` waits for the word of an engine, which comes in milliseconds as a rule."""
_GRACE_SECONDS = 5.0
_OUTPUT_KEPT = 1_000_000
_ENDED = (FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED)
# Held for an instant while a task ends, or while what it is waited for with is made.
_ending = threading.Lock()


class HiddenHandleError(pickle.PicklingError):
    """A handle hides where its value cannot take its place."""


class Home(Protocol):
    """What a handle needs of the session or engine that it belongs to."""

    def fetch_chunk(self, chunk: Chunk, timeout: float | None) -> Any:
        """Brings the value here."""

    def release_chunk(self, chunk_id: int) -> None:
        """Takes note that a handle is gone."""

    def chunk_facts(self, chunk_id: int) -> Mapping[str, Any]:
        """Tells what is known of a chunk."""

    def export_chunk(self, chunk: Chunk) -> tuple[Any, ...]:
        """Returns what another process needs to make a handle to the chunk."""


class Chunk:
    """A handle to a value that a process holds.

    Attributes:
        id: the number of the chunk in its session.
        scope: where the value is valid.
        processor: where it was made.
        type: the name of the value's type.
        nbytes: the size of the value in bytes, as far as it is known.
    """

    __slots__ = ("__weakref__", "_facts", "_home", "id")

    def __init__(self, home: Home, chunk_id: int, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)
        self.id = chunk_id
        self._home = home

    def __del__(self) -> None:
        # A handle whose making failed has no home; one that outlives all has none left.
        with contextlib.suppress(Exception):
            self._home.release_chunk(self.id)

    def _fact(self, name: str) -> Any:
        known = self._home.chunk_facts(self.id)
        return known[name] if name in known else self._facts[name]

    @property
    def scope(self) -> Scope:
        """Where the value is valid."""
        scope: Scope = self._fact("scope")
        return scope

    @property
    def processor(self) -> Processor:
        """The processor where the value was made."""
        processor: Processor = self._fact("processor")
        return processor

    @property
    def placement(self) -> Scope | None:
        """Where a task can run that takes it, where that says more than its scope."""
        return None

    @property
    def worker(self) -> WorkerId:
        """The worker that holds the value."""
        return self.processor.worker

    @property
    def type(self) -> str:
        """The name of the value's type."""
        return str(self._fact("type"))

    @property
    def nbytes(self) -> int:
        """The size of the value in bytes, as far as it is known."""
        return int(self._fact("nbytes"))

    @property
    def state(self) -> str:
        """``"pending"``, ``"held"``, ``"failed"``, ``"lost"`` or ``"released"``."""
        return str(self._fact("state"))

    def fetch(self, timeout: float | None = None) -> Any:
        """Brings a copy of the value here.

        Args:
            timeout: seconds to wait at most; None waits without a limit.

        Returns:
            The value.

        Raises:
            ScopeViolationError: this process lies outside the chunk's scope.
            ChunkLostError: the process that held it is gone.
            TimeoutError: it did not arrive in time.
        """
        return self._home.fetch_chunk(self, timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_revive, self._home.export_chunk(self))

    def __repr__(self) -> str:
        return (
            f"<Chunk {self.id}: {self.type or 'value'} on {self.processor.describe()},"
            f" valid on {self.scope.describe()}>"
        )

    def facts(self) -> dict[str, Any]:
        """Returns what a display shows; never the value."""
        known = self._home.chunk_facts(self.id)
        return {
            "id": self.id,
            "type": self.type,
            "nbytes": self.nbytes,
            "scope": self.scope,
            "processor": self.processor,
            "worker": self.worker,
            "node": known.get("node"),
            "state": known["state"],
            "topology": known.get("topology"),
        }

    def _repr_html_(self) -> str:
        html: str = import_module("scopekit.notebook.displays").chunk_html(self.facts())
        return html


reviver: ContextVar[Callable[..., Chunk] | None] = ContextVar("scopekit_reviver", default=None)


@contextlib.contextmanager
def handles_become(revive: Callable[..., Chunk]) -> Iterator[None]:
    """Says whose the handles are that are read inside of the block."""
    token = reviver.set(revive)
    try:
        yield
    finally:
        reviver.reset(token)


def _revive(*exported: Any) -> Any:
    revive = reviver.get()
    if revive is None:
        raise pickle.UnpicklingError("a Chunk can be read only where a session fetches it")
    return revive(*exported)


def _tell(ended: asyncio.Future[None]) -> None:
    # Whoever awaited may have been cancelled in the meantime.
    if not ended.done():
        ended.set_result(None)


class Task(Future[Any]):
    """A handle to one call: a future whose value stays where it was made until fetched.

    Attributes:
        id: the number of the task in its session.
        name: what graphs and messages call it.
        chunk_id: the id of the chunk that will hold its result.
        stdout: what it printed, as far as it has arrived here.
        stderr: what it wrote to standard error, as far as it has arrived here.
        outputs: tasks for its further results, by name.
        plain_value: the result in a tuple of one, where it came with the word that the
            task is done, or was brought; else None.
        stored: where the result is, as far as an engine was told; else None.
        parts: the tasks of its results, where it stands for several; else none.
        label: what messages call it where it is one of several.
        brings: True if its value is to be here when it is done.
        refusal: why it could not be brought, if it could not.
        unsent: True as long as the block that it was spawned in has not handed it over.
    """

    stdout = ""
    stderr = ""
    outputs: Mapping[str, Task] = MappingProxyType({})
    plain_value: tuple[Any] | None = None
    stored: StoredChunk | None = None
    parts: tuple[Task, ...] = ()
    label = ""
    brings = False
    refusal: ScopeViolationError | None = None
    unsent = False
    # What a future begins with, of which most tasks never change but the state.
    _state = PENDING
    _result = None
    _exception = None
    _own_condition: threading.Condition | None = None
    _own_waiters: list[Any] | None = None
    _own_callbacks: list[Any] | None = None
    _cancellation: TaskCancelledError | None = None

    def __init__(self, session: Any, task_id: int, name: str, chunk_id: int) -> None:
        # Not by way of Future: to make a condition takes longer than all the rest, and
        # few tasks are ever waited for one by one.
        self.id = task_id
        self.name = name
        self.chunk_id = chunk_id
        self._session = session

    def __del__(self) -> None:
        try:  # noqa: SIM105  # a context manager takes longer than all the rest
            self._session.release_chunk(self.chunk_id)
        except Exception:  # noqa: BLE001, S110  # one whose making failed has no session
            pass

    if not TYPE_CHECKING:  # of a future these are attributes

        @property
        def _condition(self) -> threading.Condition:
            if self._own_condition is None:
                with _ending:
                    if self._own_condition is None:
                        self._own_condition = threading.Condition()
            return self._own_condition

        @property
        def _waiters(self) -> list[Any]:
            self.check_sent()
            if self._own_waiters is None:
                self._own_waiters = []
            return self._own_waiters

        @property
        def _done_callbacks(self) -> list[Any]:
            if self._own_callbacks is None:
                self._own_callbacks = []
            return self._own_callbacks

    def mark_done(self) -> None:
        """Tells everybody who waits that the task is done."""
        with _ending:
            # Whoever waits has a condition, and makes it under the same lock.
            if self._own_condition is None:
                self._state = FINISHED
                return
        self.set_result(None)

    # -- the future -------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the task, then brings its value here.

        Args:
            timeout: seconds to wait at most; None waits without a limit.

        Returns:
            The value.

        Raises:
            ScopeViolationError: the value's scope leaves this process out.
            SchedulingError: the task could not be placed.
            TaskCancelledError: the task was cancelled.
            TimeoutError: it was not done, or the value not here, in time.
            BaseException: whatever the task raised, with the remote traceback as a note.
        """
        self._settled(timeout)
        if self.plain_value is not None:
            return self.plain_value[0]
        return self._session.fetch_result(self, timeout)

    def fetch(self, timeout: float | None = None) -> Any:
        """Does the same as :meth:`result`."""
        return self.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Returns what :meth:`result` would raise, None if it would give the value.

        Code that knows only futures relies on the two agreeing, so a value that may
        not come here counts as an error, although the task is done.
        """
        try:
            failure = super().exception(self._wait(timeout))
        except CancelledError as error:
            raise self._cancelled(error) from None
        if failure is not None or self.plain_value is not None:
            return failure
        refusal: BaseException | None = self._session.fetch_refusal(self)
        return refusal

    def wait(self, timeout: float | None = None) -> Task:
        """Waits until the task has ended, in whatever way, and raises nothing of its own.

        Raises:
            TimeoutError: it had not ended in time.
        """
        if self._state == FINISHED:
            return self
        try:
            super().exception(self._wait(timeout))
        except CancelledError:
            pass
        except TimeoutError:
            raise self._late(timeout) from None
        return self

    def cancel_unsent(self) -> bool:
        """Cancels the task, unless it was sent to an engine.

        Returns:
            True if it will not run.
        """
        return bool(self._session.cancel_unsent(self))

    def cancel(self, *, force: bool = False, grace: float = _GRACE_SECONDS) -> bool:
        """Cancels the task, with all that needs its result and what it spawned.

        One that no engine has is cancelled at once. Else its engine is asked, and takes it
        back or stops it: on the engine's main thread a ``KeyboardInterrupt`` is raised in it,
        elsewhere it has to ask ``cancelled()`` by itself. From then on it gives no value, even
        if its code goes on for a while. This waits for the engine's word for a second at most.

        Args:
            force: True to kill the process if the code still runs there after the grace
                time; other tasks of that process run again elsewhere.
            grace: that time, in seconds.

        Returns:
            True if the task will give no value. False if it has ended otherwise, or if the
            engine gave no answer in time; ``cancelled()`` tells later.

        Raises:
            ScopeError: the grace time is no number of seconds.
        """
        if not isinstance(grace, (int, float)) or isinstance(grace, bool) or not grace >= 0:
            raise ScopeError(f"grace={grace!r} is no number of seconds; give 0 or more")
        if force:
            return bool(self._session.cancel_task(self, grace))
        return bool(self._session.cancel_task(self))

    def mark_running(self) -> None:
        """Takes note that the task runs, unless it has ended."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING

    def mark_stopped(self, error: ScopekitError) -> None:
        """Tells everybody who waits that the task gives no value, and why."""
        if isinstance(error, TaskCancelledError):
            self.mark_cancelled(error)
        else:
            self.set_exception(error)

    def mark_cancelled(self, error: TaskCancelledError | None = None) -> None:
        """Tells everybody who waits that the task was cancelled, even if it had begun."""
        with self._condition:
            if self._state in _ENDED:
                return
            self._cancellation = error
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()

    def done(self) -> bool:
        """Tells whether the task has ended, in whatever way."""
        return self._state in _ENDED

    def _settled(self, timeout: float | None) -> None:
        if self._state == FINISHED and self._exception is None:
            return
        left = self._wait(timeout)
        if self._state == FINISHED and self._exception is None:
            return
        try:
            super().result(left)
        except TaskCancelledError:
            raise
        except TimeoutError:
            # A task may raise one of its own.
            if self.done():
                raise
            raise self._late(timeout) from None
        except CancelledError as error:
            raise self._cancelled(error) from None

    def _wait(self, timeout: float | None) -> float | None:
        """Has the session work on the task; returns the seconds that are left."""
        self.check_sent()
        until = None if timeout is None else time.monotonic() + timeout
        self._session.wait_for_task(self, timeout)
        return None if until is None else max(0.0, until - time.monotonic())

    def check_sent(self) -> None:
        """Refuses a wait that would never end.

        Raises:
            ScopekitError: the block that it was spawned in has not handed it over.
        """
        if self.unsent and self._state not in _ENDED:
            raise ScopekitError(
                f"{self.name} is handed over when its spawn_bulk block ends, and this waits for it"
                " in the block, which would never end. Wait for it after the block."
            )

    def _late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self!r} was not done within {timeout:.3g} s")

    def _cancelled(self, error: BaseException) -> TaskCancelledError:
        if isinstance(error, TaskCancelledError):
            return error
        if self._cancellation is not None:
            # A copy: what is raised takes the frames of its callers with it.
            return copy.copy(self._cancellation)
        return cancelled_error(self.name)

    def _invoke_callbacks(self) -> None:
        # A callback may wait for another task, and the thread that settles tasks
        # must not be the one that waits.
        if self._done_callbacks:  # type: ignore[attr-defined]
            self._session.call_back(super()._invoke_callbacks)  # type: ignore[misc]

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio  # noqa: PLC0415  # slow to load, and there already where this runs

        self.check_sent()
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        wait_in_loop = getattr(self._session, "wait_in_loop", None)
        if wait_in_loop is not None:
            yield from wait_in_loop(self).__await__()
            return (yield from loop.run_in_executor(None, context.run, self.result).__await__())
        ended = loop.create_future()

        def tell(_: Future[Any]) -> None:
            # Whoever awaited may have given up, and closed its loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, ended)

        self.add_done_callback(tell)
        yield from ended
        return (yield from loop.run_in_executor(None, context.run, self.result).__await__())

    # -- what happened ----------------------------------------------------------

    @property
    def state(self) -> str:
        """One of the states of ``scopekit.graph.TASK_STATES``."""
        return str(self._session.task_facts(self.id)["state"])

    @property
    def processor(self) -> Processor | None:
        """The processor that it was given, None as long as it has none."""
        processor: Processor | None = self._session.task_facts(self.id)["processor"]
        return processor

    @property
    def worker(self) -> WorkerId | None:
        """The worker that it was given, None as long as it has none."""
        return self.processor.worker if self.processor else None

    @property
    def node(self) -> str | None:
        """The node that it was given, None as long as it has none."""
        node: str | None = self._session.task_facts(self.id)["node"]
        return node

    @property
    def scope(self) -> Scope:
        """Where the task may run, as far as that is known."""
        scope: Scope = self._session.task_facts(self.id)["scope"]
        return scope

    def explain(self) -> Explanation:
        """Tells why the task runs where it runs, or why it does not."""
        explanation: Explanation = self._session.explain(self)
        return explanation

    def facts(self) -> Mapping[str, Any]:
        """Returns what a display shows; never the value."""
        facts: Mapping[str, Any] = self._session.task_facts(self.id)
        return facts

    def __reduce__(self) -> tuple[Any, ...]:
        raise HiddenHandleError(
            f"{self.name} is a task, and a task cannot be pickled. Give it to the other task"
            " as an argument (in a list, tuple, dict or set if you like): its value takes its"
            " place. Here it hides inside an object or a closure."
        )

    def __repr__(self) -> str:
        facts = self._session.task_facts(self.id)
        where = f" on {facts['processor'].describe()}" if facts["processor"] else ""
        return f"<Task {self.name}: {facts['state']}{where}>"

    def _repr_html_(self) -> str:
        html: str = import_module("scopekit.notebook.displays").task_html(self.facts())
        return html

    def add_output(self, stream: str, text: str) -> None:
        """Appends what the task wrote; the oldest goes when it is more than a megabyte."""
        setattr(self, stream, (getattr(self, stream) + text)[-_OUTPUT_KEPT:])
