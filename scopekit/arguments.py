"""Remembers the large buffers of arguments, so that each is kept and sent once."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from scopekit.wire.lending import same_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.handles import Chunk
    from scopekit.wire.frames import Buffer

__all__ = ("LargeArguments",)

_KEPT = 32


class LargeArguments:
    """Makes chunks of large buffers, one for all that hold the same bytes.

    A chunk is kept for as long as the object lives whose buffer it was made of: whoever
    passes an array to a hundred tasks has it, as a rule, in a variable. The bytes are
    compared each time, since an array may change in between.

    Args:
        make: makes a chunk of a copy of a buffer.
        read: returns the bytes of such a chunk.
    """

    def __init__(self, make: Callable[[Buffer], Chunk], read: Callable[[Chunk], Buffer]) -> None:
        self._make = make
        self._read = read
        # Reentrant: an object may die at any line, in here too.
        self._lock = threading.RLock()
        self._kept: dict[int, tuple[weakref.ref[Any], Chunk]] = {}

    def chunk_of(self, buffer: memoryview) -> Chunk:
        """Returns a chunk with the bytes of a buffer."""
        owner = _owner(buffer)
        with self._lock:
            found = self._find(buffer)
            if found is None:
                found = self._make(buffer)
            if owner is not None and not self._is_kept(owner, found):
                self._keep(owner, found)
        return found

    def _find(self, buffer: memoryview) -> Chunk | None:
        for _, chunk in self._kept.values():
            if chunk.nbytes == buffer.nbytes and same_bytes(self._read(chunk), buffer):
                return chunk
        return None

    def _is_kept(self, owner: Any, chunk: Chunk) -> bool:
        _, kept = self._kept.get(id(owner), (None, None))
        return kept is chunk

    def _keep(self, owner: Any, chunk: Chunk) -> None:
        key = id(owner)
        self._kept[key] = weakref.ref(owner, lambda gone: self._forget(key, gone)), chunk
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def _forget(self, key: int, gone: weakref.ref[Any]) -> None:
        with self._lock:
            # Another object may have the place in memory by now.
            if key in self._kept and self._kept[key][0] is gone:
                del self._kept[key]

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._kept.clear()


def _owner(buffer: memoryview) -> Any:
    """Returns the object to which a buffer belongs, None if nobody can watch it."""
    owner: Any = buffer.obj
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    try:
        weakref.ref(owner)
    except TypeError:
        return None
    return owner
