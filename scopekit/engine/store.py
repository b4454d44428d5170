"""The chunks that a process holds, under a guard that asks their scope first."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, ScopeViolationError
from scopekit.graph import StoredChunk
from scopekit.guard import guard
from scopekit.scopes import AnyScope, ProcessScope, constrain
from scopekit.wire.codec import dump_value, type_name, value_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.graph import WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = ("Store",)

_UNSCOPED = AnyScope()


@dataclass(slots=True)
class _Entry:
    value: Any
    scope: Scope
    processor: Processor
    handles: int = 0


class Store:
    """Keeps values by chunk id."""

    def __init__(self, worker: WorkerId, topology: Topology) -> None:
        self._worker = worker
        self._entries: dict[int, _Entry] = {}
        # Reentrant: a value that is replaced may hold handles, whose end comes back here.
        self._lock = threading.RLock()
        self.topology = topology

    def put(self, chunk: int, value: Any, scope: Scope, processor: Processor) -> StoredChunk:
        """Keeps a value.

        Raises:
            ScopeViolationError: this process lies outside the scope.
        """
        if scope is not _UNSCOPED:
            guard(chunk, scope, self._worker, self.topology)
        entry = _Entry(value, scope, processor)
        with self._lock:
            before = self._entries.get(chunk)
            self._entries[chunk] = entry
        # A value dies outside the lock: a finalizer of it may come back here.
        del before
        return StoredChunk(chunk, scope, processor, type_name(value), value_nbytes(value))

    def alias(self, chunk: int, existing: int) -> StoredChunk:
        """Keeps a value that is here already under a second id."""
        with self._lock:
            self._entries[chunk] = self._entries[existing]
        return self.describe(chunk)

    def describe(self, chunk: int) -> StoredChunk:
        """Tells all about a chunk but its value."""
        entry = self._entry(chunk)
        return StoredChunk(
            chunk,
            entry.scope,
            entry.processor,
            type_name(entry.value),
            value_nbytes(entry.value),
        )

    def value(self, chunk: int) -> Any:
        """Returns a value to code of this process."""
        return self._entry(chunk).value

    def look(self, chunk: int) -> tuple[Any, Scope]:
        """Returns a value with its scope, to code of this process."""
        entry = self._entry(chunk)
        return entry.value, entry.scope

    def give(self, chunk: int, asker: WorkerId) -> tuple[StoredChunk, bytes]:
        """Pickles a value for another process, if its scope covers that process.

        Raises:
            ScopeViolationError: the asker lies outside the scope, or the value cannot
                leave this process at all.
            ChunkLostError: there is no such chunk here.
        """
        entry = self._entry(chunk)
        guard(chunk, entry.scope, asker, self.topology)
        try:
            pickled = dump_value(entry.value)
        except Exception as error:  # noqa: BLE001  # a user's __reduce__ may raise anything
            entry.scope = constrain(entry.scope, ProcessScope(self._worker))
            raise ScopeViolationError(
                f"chunk {chunk} cannot leave worker {self._worker}: its type,"
                f" {type_name(entry.value)}, does not pickle ({type(error).__name__})."
                " Run a task on it there and fetch what the task returns.",
                chunk,
                entry.scope,
            ) from None
        return self.describe(chunk), pickled

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def drop(self, chunks: Iterable[int]) -> None:
        """Forgets chunks."""
        with self._lock:
            dropped = [self._entries.pop(chunk, None) for chunk in chunks]
        # Values die outside the lock: a finalizer of one may come back here.
        del dropped

    def clear(self) -> None:
        """Forgets all."""
        self.drop(list(self._entries))

    def _entry(self, chunk: int) -> _Entry:
        try:
            return self._entries[chunk]
        except KeyError:
            raise ChunkLostError(
                f"worker {self._worker} does not hold chunk {chunk} any more"
            ) from None
