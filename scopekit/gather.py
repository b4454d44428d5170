"""Brings the values of many handles at once, in the shape that they were given in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scopekit.handles import Chunk, Task
from scopekit.wire.codec import read_handles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("gather", "gather_chunks", "wait_for")


def gather(
    x: Any,
    fetch: Callable[[Sequence[Task | Chunk], float | None], list[Any]],
    timeout: float | None,
) -> Any:
    """Replaces every handle in ``x``, in lists, tuples, dicts and sets, by its value.

    Args:
        x: what holds the handles.
        fetch: brings the values of handles, within so many seconds.
        timeout: seconds to wait at most for all; None waits without a limit.
    """
    until = None if timeout is None else time.monotonic() + timeout
    if type(x) is list and x and set(map(type, x)) == {Task}:
        for task in x:
            task._settled(_left(until))
        return fetch(x, _left(until))
    found = _settled(x, until)
    values = fetch(found, _left(until)) if found else []
    return _put_in(x, {id(handle): value for handle, value in zip(found, values, strict=True)})


def gather_chunks(x: Any, chunk_of: Callable[[Task], Chunk], timeout: float | None) -> Any:
    """Replaces every task in ``x``, likewise, by the handle to its result."""
    found = _settled(x, None if timeout is None else time.monotonic() + timeout)
    chunks = {
        id(handle): chunk_of(handle) if isinstance(handle, Task) else handle for handle in found
    }
    return _put_in(x, chunks)


def wait_for(x: Any, timeout: float | None) -> None:
    """Waits until every task in ``x``, likewise, has ended, in whatever way.

    Raises:
        TimeoutError: not all had ended in time.
    """
    until = None if timeout is None else time.monotonic() + timeout
    for handle in read_handles(x):
        if isinstance(handle, Task):
            handle.wait(_left(until))


def _settled(x: Any, until: float | None) -> list[Task | Chunk]:
    found = list(read_handles(x))
    for handle in found:
        if isinstance(handle, Task):
            handle._settled(_left(until))
    return found


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _put_in(x: Any, values: dict[int, Any]) -> Any:
    if isinstance(x, (Task, Chunk)):
        if isinstance(x, Task) and x.parts:
            return tuple(values[id(part)] for part in x.parts)
        return values[id(x)]
    if not values:
        return x
    if type(x) is dict:
        return {key: _put_in(item, values) for key, item in x.items()}
    if type(x) in (list, tuple, set, frozenset):
        return type(x)(_put_in(item, values) for item in x)
    return x
