"""An executor as the standard library has them, whose calls are tasks of a session."""

from __future__ import annotations

import itertools
import os
import time
import weakref
from collections import deque
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from scopekit.calls import Calls
from scopekit.engine.batching import run_batch
from scopekit.errors import ScopeError, ScopekitError
from scopekit.options import Options
from scopekit.spawning import around
from scopekit.wire.codec import dump_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from scopekit.session import Session
    from scopekit.wire.codec import PickledError

__all__ = ("SessionExecutor", "open_executor")


def open_executor(
    session: Session,
    max_workers: int | None,
    initializer: Callable[..., Any] | None,
    initargs: Iterable[Any],
    options: Mapping[str, Any],
    *,
    threaded: bool,
) -> SessionExecutor:
    """Makes an executor of a session; see :meth:`scopekit.Session.executor`."""
    given = Options.checked(dict(options), "executor")
    if max_workers is not None and max_workers <= 0:
        raise ScopeError(f"max_workers must be greater than 0, and is {max_workers!r}")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    setup = None
    if initializer is not None:
        setup = (os.urandom(8), _pickled(initializer, tuple(initargs)))
    return SessionExecutor(Calls(session, given, max_workers, setup, threaded=threaded), given)


def _pickled(initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> bytes:
    try:
        return dump_value((initializer, initargs))
    except Exception as error:
        raise ScopekitError(
            f"the initializer or one of its arguments cannot be sent to an engine: {error}. Make"
            " there what it needs."
        ) from error


class SessionExecutor(Executor):
    """Runs calls on the engines of a session, for code that knows only executors.

    Made by ``session.executor``.

    Args:
        calls: sends the calls and brings their values.
        given: the options of their tasks.
    """

    def __init__(self, calls: Calls, given: Options) -> None:
        self._calls = calls
        self._given = given
        # The calls outlive it: what it was given is done, whoever holds the futures.
        weakref.finalize(self, calls.shut).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Takes a call; every keyword goes to the function.

        Returns:
            Its future. What keeps the call from running, an argument that does not pickle or
            scopes that never meet, is an error of the future, as with other executors.

        Raises:
            RuntimeError: the executor was shut down, or its session closed.
            BrokenExecutor: its initializer failed.
        """
        return self._calls.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Makes a call for each item of the iterables, which are read at once.

        Args:
            fn: the function.
            iterables: its positional arguments, one iterable for each.
            timeout: seconds from now within which each value must be asked for and there.
            chunksize: how many calls go in one task.
            buffersize: how many tasks are sent ahead of the values that were taken; all
                of them if None.

        Returns:
            An iterator over the values, in order. Closing it cancels what has not begun.

        Raises:
            ValueError: a number is too small.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        until = None if timeout is None else time.monotonic() + timeout
        source = _Source(self, fn, zip(*iterables, strict=False), chunksize)
        futures = deque(itertools.islice(source, buffersize))
        more = source if buffersize is not None else None
        return _Results(self._calls, futures, more, until, batches=chunksize > 1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; those it was given are still made.

        Args:
            wait: True to wait for them, without a limit.
            cancel_futures: True to cancel those that have not begun.
        """
        self._calls.shut()
        if cancel_futures:
            self._calls.cancel_all()
        if wait:
            self._calls.wait()

    @property
    def _max_workers(self) -> int:
        # Libraries ask for it, to cut their work to size.
        limit = self._calls.limit
        return limit or max(1, len(self._calls.session.processors(self._given.scope)))

    @property
    def _shutdown(self) -> bool:
        return self._calls.is_shut

    @property
    def _broken(self) -> bool:
        return self._calls.broken is not None


class _Source:
    """Makes calls of the items of iterables, as futures are asked for.

    It keeps no executor alive, which is at its end when nobody else does.
    """

    def __init__(
        self, executor: SessionExecutor, fn: Any, items: Iterator[tuple[Any, ...]], size: int
    ) -> None:
        self._executor = weakref.ref(executor)
        self._fn = fn
        self._items = items
        self._size = size

    def __iter__(self) -> Iterator[Future[Any]]:
        return self

    def __next__(self) -> Future[Any]:
        executor = self._executor()
        if executor is None:
            raise StopIteration
        if self._size == 1:
            return executor.submit(self._fn, *next(self._items))
        calls = list(itertools.islice(self._items, self._size))
        if not calls:
            raise StopIteration
        # By columns: that is less to pickle, and less to look into for handles.
        columns = tuple(map(list, zip(*calls, strict=True)))
        function, args = around(run_batch, (0,), self._fn, columns)
        return executor.submit(function, *args)


class _Results:
    """The values of a map, in order.

    No generator: one that Python collects ends at any line, and there nobody may cancel.
    """

    def __init__(
        self,
        calls: Calls,
        futures: deque[Future[Any]],
        source: _Source | None,
        until: float | None,
        *,
        batches: bool,
    ) -> None:
        self._calls = calls
        self._futures = futures
        self._source = source
        self._until = until
        self._batches = batches
        # Of the batch that is here, the last value first; and the error that comes after.
        self._values: list[Any] = []
        self._failure: PickledError | None = None
        self._begun = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._begun = True
        if self._batches:
            while not self._values:
                self._take_batch()
            return self._values.pop()
        return self._next_value()

    def _take_batch(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            self.close()
            raise failure.rebuild(f"raised on {failure.place}")
        batch = self._next_value()
        self._values = batch.values[::-1]
        self._failure = batch.failure

    def _next_value(self) -> Any:
        if not self._futures:
            raise StopIteration
        if self._source is not None:
            self._futures.extend(itertools.islice(self._source, 1))
        future = self._futures.popleft()
        try:
            return future.result(None if self._until is None else self._until - time.monotonic())
        except BaseException:
            future.cancel()
            self.close()
            raise
        finally:
            # Else an error's traceback would lead to the future, which holds the error.
            del future

    def close(self) -> None:
        """Cancels what has not begun; there are no further values."""
        futures, self._futures = self._futures, deque()
        self._values.clear()
        self._failure = None
        self._source = None
        for future in futures:
            future.cancel()

    def __del__(self) -> None:
        # Whoever never asks for a value wants the calls for what they do.
        if self._futures and self._begun:
            self._calls.cancel_soon(list(self._futures))
