"""Brings the values of many handles at once, in the shape that they were given in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scopekit.handles import Chunk, Task
from scopekit.wire.codec import read_handles

if TYPE_CHECKING:
    from scopekit.session import Session

__all__ = ("gather",)


def gather(session: Session, x: Any, *, raw: bool, timeout: float | None) -> Any:
    """Replaces every handle in ``x``, in lists, tuples, dicts and sets, by its value.

    Args:
        session: the session that the handles belong to.
        x: what holds the handles.
        raw: True for chunks instead of the values of tasks.
        timeout: seconds to wait at most; None waits without a limit.
    """
    until = None if timeout is None else time.monotonic() + timeout
    found = list(read_handles(x))
    for handle in found:
        if isinstance(handle, Task):
            handle._settled(_left(until))
    if raw:
        return _put_in(x, {id(h): _as_chunk(session, h) for h in found})
    ids = [h.chunk_id if isinstance(h, Task) else h.id for h in found]
    values = session.fetch_values(ids, _left(until)) if ids else []
    return _put_in(x, {id(h): value for h, value in zip(found, values, strict=True)})


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _as_chunk(session: Session, handle: Task | Chunk) -> Chunk:
    return session.chunk_of(handle) if isinstance(handle, Task) else handle


def _put_in(x: Any, values: dict[int, Any]) -> Any:
    if isinstance(x, (Task, Chunk)):
        return values[id(x)]
    if not values:
        return x
    if type(x) is dict:
        return {key: _put_in(item, values) for key, item in x.items()}
    if type(x) in (list, tuple, set, frozenset):
        return type(x)(_put_in(item, values) for item in x)
    return x
