"""Maps a function over iterables: calls in batches, values in order, inputs read as needed."""

from __future__ import annotations

import contextvars
import operator
import warnings
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from scopekit.engine.batching import Batch, run_batch
from scopekit.errors import ScopeError
from scopekit.options import Options, block_options
from scopekit.spawning import around, function_name
from scopekit.wire.codec import read_handles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from scopekit.handles import Task
    from scopekit.spawning import Spawner
    from scopekit.wire.codec import PickledError

__all__ = ("Mapped", "map_calls")

# A task of so many seconds costs little more than its calls do.
_TASK_SECONDS = 0.02
_MOST_CALLS = 1024
_GROWTH = 4
# Tasks sent ahead for each processor: one that it runs, one to follow, one on its way.
_AHEAD = 3
_ELEMENT = "element {} of the map"
_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes))


def map_calls(
    spawner: Spawner,
    f: Any,
    iterables: Sequence[Iterable[Any]],
    *,
    chunksize: int | None,
    batch: int | None,
    buffersize: int | None,
    progress: bool | str,
    options: Mapping[str, Any],
) -> Mapped:
    """Maps a function over iterables; see :meth:`scopekit.Session.map`."""
    if not iterables:
        raise ScopeError("map needs at least one iterable; to make one call, use spawn")
    if chunksize is not None and batch is not None:
        raise ScopeError("chunksize= and batch= are the same; give one of them")
    size = chunksize if batch is None else batch
    for name, number in (("chunksize", size), ("buffersize", buffersize)):
        wrong = isinstance(number, bool) or not isinstance(number, int) or number < 1
        if number is not None and wrong:
            raise ScopeError(f"{name}={number!r} is no number of calls; give 1 or more")
    given = Options.checked(dict(options), "map")
    merged = given.merged_over(block_options())
    if merged.checkpoint is not None or merged.restore is not None:
        if size not in (None, 1):
            raise ScopeError("checkpoint= and restore= are for single calls; leave chunksize= out")
        size = 1
    name = merged.name or function_name(f)
    length = _length(iterables)
    processors = max(1, spawner.num_processors(given.compute_scope or given.scope))
    mapped = Mapped(
        _Sender(spawner, f, given, name, batched=size != 1),
        zip(*iterables, strict=False),
        _Sizes(size, processors, buffersize, length),
        _progress_bar(progress, name, length),
    )
    mapped.begin()
    return mapped


class _Sizes:
    """Decides how many calls go in one task, and how many are made ahead.

    Args:
        fixed: how many calls in one task; None to find out.
        processors: how many may run them.
        buffer: how many calls may be ahead of the values that were taken, None for
            as many as keep the processors busy.
        length: how many calls there are in all, None where nobody can tell.
    """

    def __init__(
        self, fixed: int | None, processors: int, buffer: int | None, length: int | None
    ) -> None:
        self.fixed = fixed
        self._most = fixed or _MOST_CALLS
        if buffer is not None and fixed is None:
            # Else one processor would have all that may be ahead.
            self._most = max(1, min(_MOST_CALLS, buffer // (processors + 1)))
        self._processors = processors
        self._buffer = buffer
        self._left = length
        self._grown = 1
        self._seconds = 0.0

    def learn(self, calls: int, seconds: float) -> None:
        """Takes note of how long some calls took."""
        mean = seconds / calls
        self._seconds = (self._seconds or mean) / 2 + mean / 2
        # By and by: the first calls may be no measure of the others.
        self._grown = max(self._grown, _GROWTH * calls)

    def next(self, tasks: int, ahead: int) -> int:
        """Returns how many calls the next task is to make, 0 if none is to be sent now.

        Args:
            tasks: how many tasks are sent and not taken.
            ahead: how many calls were read whose values were not taken.
        """
        if self._buffer is not None:
            return min(self._wanted(), self._buffer - ahead)
        return self._wanted() if tasks <= _AHEAD * self._processors else 0

    def _wanted(self) -> int:
        if self.fixed is not None:
            return self.fixed
        wanted = int(min(_MOST_CALLS, _TASK_SECONDS / self._seconds)) if self._seconds else 1
        if self._left is not None:
            # The last tasks are small, so that all processors end at about the same time.
            wanted = min(wanted, -(-self._left // (2 * self._processors)))
        return max(1, min(wanted, self._grown, self._most))

    def sent(self, calls: int) -> None:
        """Takes note that calls were sent."""
        if self._left is not None:
            self._left = max(0, self._left - calls)


class _Piece(NamedTuple):
    """Some calls, in the order of the inputs.

    Attributes:
        start: the index of the first.
        size: how many they are.
        task: makes them; None if none could be spawned.
        error: what came instead of the calls, or None.
    """

    start: int
    size: int
    task: Task | None
    error: Exception | None = None

    def value(self) -> Any:
        """Waits, without a limit, for what the task gives."""
        if self.task is None:
            assert self.error is not None
            raise self.error
        return self.task.result()

    def tell(self, error: BaseException) -> None:
        """Adds to an error which elements it is about."""
        last = self.start + self.size - 1
        more = f"one of the elements {self.start} to {last} of the map"
        error.add_note(f"this is {_ELEMENT.format(self.start) if self.size <= 1 else more}")


class _Sender:
    """Spawns the tasks of a map, as where it was called.

    Args:
        spawner: the session, or what spawns in a task.
        f: the function.
        given: the options of the tasks.
        name: what their names begin with.
        batched: False to make each call a task like any other.
    """

    def __init__(
        self, spawner: Spawner, f: Any, given: Options, name: str, *, batched: bool
    ) -> None:
        self._spawner = spawner
        self._f = f
        self._given = given
        self._name = name
        self._retries = given.merged_over(block_options()).retries
        self._context = contextvars.copy_context()
        self.batched = batched

    def send(self, start: int, rows: list[tuple[Any, ...]]) -> Task:
        """Spawns a task that makes some calls."""
        stop = start + len(rows)
        place = f"{start}:{stop}" if len(rows) > 1 else str(start)
        given = replace(self._given, name=f"{self._name}[{place}]")
        f, args = self._f, rows[0]
        if self.batched:
            # By columns: that is less to pickle, and less to look into for handles.
            columns = tuple(map(list, zip(*rows, strict=True)))
            f, args = around(run_batch, (self._retries,), f, columns)
        # A copy: two threads may ask for values at once.
        context = self._context.copy()
        return context.run(lambda: self._spawner.submit(given, f, args, {}, apart=True))

    def cancel_soon(self, tasks: list[Task]) -> None:
        """Has tasks cancelled whose values nobody wants; may run at any line."""
        self._spawner.cancel_soon(tasks)


class Mapped:
    """The values of a function, mapped over iterables: an iterator, in their order.

    Made by ``map``. Inputs are read as values are taken, some ahead. Closing it, or an
    error, cancels what has not begun.
    """

    def __init__(
        self, sender: _Sender, source: Iterator[tuple[Any, ...]], sizes: _Sizes, bar: Any
    ) -> None:
        self._sender = sender
        self._source: Iterator[tuple[Any, ...]] | None = source
        self._sizes = sizes
        self._bar = bar
        self._pending: deque[_Piece] = deque()
        self._put_back: tuple[Any, ...] | None = None
        self._read = 0
        self._taken = 0
        # Of the piece that is here, the last value first; and the error that comes after.
        self._values: list[Any] = []
        self._failure: PickledError | None = None

    def begin(self) -> None:
        """Sends the first tasks.

        Raises:
            ScopekitError: not even the first call can be one.
        """
        self._fill()
        if self._pending and self._pending[0].task is None:
            self._take(self._pending[0])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while not self._values:
            self._raise_failure()
            self._fill()
            if not self._pending:
                self.close()
                raise StopIteration
            self._take(self._pending.popleft())
        value = self._values.pop()
        self._taken += 1
        if self._bar is not None:
            self._bar.update()
        return value

    def _take(self, piece: _Piece) -> None:
        try:
            result = piece.value()
        except BaseException as error:
            self.close()
            piece.tell(error)
            raise
        if not self._sender.batched:
            self._values = [result]
            return
        batch: Batch = result
        self._values = batch.values[::-1]
        self._failure = batch.failure
        if batch.values:
            self._sizes.learn(len(batch.values), batch.seconds)

    def _raise_failure(self) -> None:
        failure = self._failure
        if failure is not None:
            self.close()
            error = failure.rebuild(f"raised on {failure.place}")
            error.add_note(f"this is {_ELEMENT.format(self._taken)}")
            raise error

    def _fill(self) -> None:
        """Reads inputs, and sends tasks, as far ahead as may be."""
        while self._source is not None:
            count = self._sizes.next(len(self._pending), self._read - self._taken)
            if count < 1:
                return
            rows, error = self._rows(self._source, count)
            if rows:
                self._send(rows)
            if error is not None:
                self._pending.append(_Piece(self._read, 0, None, error))

    def _rows(
        self, source: Iterator[tuple[Any, ...]], count: int
    ) -> tuple[list[tuple[Any, ...]], Exception | None]:
        """Reads the arguments of some calls, fewer where a handle is among them.

        Scopes may keep one of two handles from where the other has to be.
        """
        rows: list[tuple[Any, ...]] = []
        while len(rows) < count:
            row, self._put_back = self._put_back, None
            try:
                row = next(source) if row is None else row
            except StopIteration:
                self._source = None
                return rows, None
            except Exception as error:  # noqa: BLE001  # comes after what was read before it
                self._source = None
                return rows, error
            alone = _holds_handle(row)
            if alone and rows:
                self._put_back = row
                return rows, None
            rows.append(row)
            if alone:
                return rows, None
        return rows, None

    def _send(self, rows: list[tuple[Any, ...]]) -> None:
        start = self._read
        self._read += len(rows)
        self._sizes.sent(len(rows))
        try:
            piece = _Piece(start, len(rows), self._sender.send(start, rows))
        except Exception as error:  # noqa: BLE001  # it is the error of these calls
            piece = _Piece(start, len(rows), None, error)
        self._pending.append(piece)

    def close(self) -> None:
        """Cancels what has not begun; there are no further values."""
        pending, self._pending = self._pending, deque()
        self._source = self._put_back = self._failure = None
        self._values.clear()
        if self._bar is not None:
            self._bar.close()
        for piece in reversed(pending):
            if piece.task is not None:
                piece.task.cancel_unsent()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        tasks = [piece.task for piece in self._pending if piece.task is not None]
        if tasks:
            self._sender.cancel_soon(tasks)


def _holds_handle(row: tuple[Any, ...]) -> bool:
    return any(
        type(value) not in _PLAIN and next(iter(read_handles(value)), None) is not None
        for value in row
    )


def _length(iterables: Sequence[Iterable[Any]]) -> int | None:
    lengths = [operator.length_hint(iterable, -1) for iterable in iterables]
    known = [length for length in lengths if length >= 0]
    # Of an iterator that hints nothing nobody knows whether it is the shortest.
    return min(known) if len(known) == len(lengths) else None


def _progress_bar(progress: bool | str, name: str, length: int | None) -> Any:
    if progress is False or progress is None:
        return None
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415  # where somebody wants to see it
    except ImportError:
        warnings.warn("progress= shows nothing: tqdm is not installed here", stacklevel=4)
        return None
    return tqdm(total=length, desc=name if progress is True else progress)
