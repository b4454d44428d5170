"""The chunks that a process holds, under a guard that asks their scope first."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, ScopeViolationError
from scopekit.graph import StoredChunk
from scopekit.guard import guard
from scopekit.pinning.giving import GivingJudge
from scopekit.pinning.place import Place
from scopekit.pinning.search import Implied, joined
from scopekit.scopes import AnyScope, ExactScope, InvalidScope, ProcessScope, constrain
from scopekit.wire.blobs import Blob
from scopekit.wire.codec import APART, type_name, value_nbytes
from scopekit.wire.lending import borrow
from scopekit.wire.parcels import Parcel, pack_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopekit.graph import WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.frames import Buffer
    from scopekit.wire.lending import Lender, Loan

__all__ = ("Store",)

_UNSCOPED = AnyScope()


@dataclass(slots=True)
class _Entry:
    """A value that is kept.

    Attributes:
        why: what gave it its scope, where that is its type; on a second line what makes
            one elsewhere.
        ids: how many chunks it is.
        loan: where other processes of the node can read it, if any was given it.
        borrowed: True if it lies in the memory of another process.
        version: that of the topology by which it was sent here.
    """

    value: Any
    scope: Scope
    processor: Processor
    why: str = ""
    ids: int = 1
    loan: Loan | None = None
    borrowed: bool = False
    version: int = 0


class Store:
    """Keeps values by chunk id.

    Args:
        worker: the process that this is.
        topology: the processes there are.
        lender: lends values to other processes of the node, None if nobody does.
        narrowed: is told of each value that turns out to be valid in fewer places than
            was said: its chunk, where it is valid, what says so.
        bury: has the only item of a list die on the thread of a processor.
    """

    def __init__(
        self,
        worker: WorkerId,
        topology: Topology,
        lender: Lender | None = None,
        narrowed: Callable[[int, Scope, str], None] = lambda *_: None,
        bury: Callable[[Processor, list[Any]], None] = lambda _, held: held.clear(),
    ) -> None:
        self._worker = worker
        self._narrowed = narrowed
        self._bury = bury
        self._entries: dict[int, _Entry] = {}
        # Reentrant: a value that is replaced may hold handles, whose end comes back here.
        self._lock = threading.RLock()
        self._lender = lender
        self._lending = threading.Lock()
        self.topology = topology

    def put(
        self,
        chunk: int,
        value: Any,
        scope: Scope,
        processor: Processor,
        borrowed: Loan | None = None,
        *,
        why: str = "",
        outside: bool = False,
        version: int | None = None,
    ) -> StoredChunk:
        """Keeps a value.

        Args:
            chunk: its id.
            value: the value.
            scope: where it is valid.
            processor: its home.
            borrowed: where it lies in the memory of another process, if it does.
            why: what gave it that scope, where that is its type.
            outside: True to keep it until it moves, although nobody may have it here.
            version: that of the topology by which it was sent here; the present one if None.

        Raises:
            ScopeViolationError: this process lies outside the scope.
        """
        if scope is not _UNSCOPED and not outside:
            guard(chunk, scope, self._worker, self.topology, why)
        entry = _Entry(value, scope, processor, why)
        entry.version = self.topology.version if version is None else version
        if borrowed is not None:
            entry.loan, entry.borrowed = borrowed, True
            if type(value) is Blob:
                value.loan = borrowed
        with self._lock:
            before = self._entries.get(chunk)
            if before is not None:
                # Of two copies the later one counts, whichever came first.
                entry.version = max(entry.version, before.version)
            self._entries[chunk] = entry
        # A value dies outside the lock: a finalizer of it may come back here.
        if before is not None:
            self._let_go(before)
        return StoredChunk(chunk, scope, processor, type_name(value), value_nbytes(value))

    def put_blob(self, chunk: int, data: Buffer, processor: Processor) -> StoredChunk:
        """Keeps a copy of a buffer, where other processes of the node can read it."""
        blob, loan = Blob(data), None
        if self._lender is not None:
            with contextlib.suppress(OSError):
                loan = self._lender.lend(pack_value(blob).parts)
        blob.data = bytes(data) if loan is None else borrow(loan)[-1]
        stored = self.put(chunk, blob, _UNSCOPED, processor)
        self._entries[chunk].loan = blob.loan = loan
        return stored._replace(type="buffer", nbytes=memoryview(data).nbytes)

    def alias(self, chunk: int, existing: int, processor: Processor) -> StoredChunk:
        """Keeps a value that is here already under a second id.

        Args:
            chunk: the second id.
            existing: the first one.
            processor: the home of the second one, if this is a copy of a value of others.
        """
        with self._lock:
            entry = self._entries[existing]
            if entry.processor.worker != self._worker:
                loan = entry.loan if entry.borrowed else None
                copy = replace(entry, processor=processor, ids=1, loan=loan)
                self._entries[chunk] = copy
            else:
                self._entries[chunk] = entry
                entry.ids += 1
        return self.describe(chunk)

    def rescope(self, chunk: int, scope: Scope) -> None:
        """Gives a chunk another scope; what else the same value is keeps its own."""
        with self._lock:
            before = self._entries.get(chunk)
            if before is None:
                return
            loan = before.loan if before.borrowed else None
            self._entries[chunk] = replace(before, scope=scope, why="", ids=1, loan=loan)
        # What was lent by the old scope is lent no more.
        self._let_go(before)

    def _let_go(self, entry: _Entry) -> None:
        entry.ids -= 1
        if entry.ids:
            return
        if entry.loan is not None and not entry.borrowed:
            assert self._lender is not None
            self._lender.end(entry.loan)
        if entry.why and type(entry.scope) is ExactScope:
            # What belongs to a thread may not even end on another one.
            held, entry.value = [entry.value], None
            self._bury(entry.processor, held)

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

    def why(self, chunk: int) -> str:
        """Tells what gave a value its scope, where that is its type."""
        return self._entry(chunk).why

    def look(self, chunk: int) -> tuple[Any, Scope]:
        """Returns a value with its scope, to code of this process."""
        entry = self._entry(chunk)
        return entry.value, entry.scope

    def give(
        self, chunk: int, asker: WorkerId, *, lent: bool = False
    ) -> tuple[StoredChunk, Parcel]:
        """Pickles a value for another process, if its scope covers that process.

        Args:
            chunk: its id.
            asker: who is to have it.
            lent: True if the asker can read what this process lends.

        Raises:
            ScopeViolationError: the asker lies outside the scope, or the value cannot
                leave this process at all.
            ChunkLostError: there is no such chunk here.
        """
        entry = self._entry(chunk)
        guard(chunk, entry.scope, asker, self.topology, entry.why)
        if lent and entry.borrowed:
            return self.describe(chunk), Parcel((), entry.loan)
        judge = GivingJudge(Place(entry.processor, self.topology), asker)
        try:
            parcel = pack_value(entry.value, judge)
            judge.check()
            went = joined(judge.went) if judge.went else None
        except Exception as error:  # noqa: BLE001  # a user's __reduce__ may raise anything
            raise self._keep_here(chunk, entry, judge, error) from None
        if went is not None:
            self._narrow(chunk, entry, went)
        if lent and parcel.nbytes >= APART and self._is_for_whole_node(entry.scope):
            parcel = self._lend(entry, parcel)
        return self.describe(chunk), parcel if parcel.loan is not None else parcel.copied()

    def _keep_here(
        self, chunk: int, entry: _Entry, judge: GivingJudge, error: Exception
    ) -> ScopeViolationError:
        """Takes note that a value cannot leave; returns the error that says so."""
        here = ProcessScope(self._worker)
        kind = type_name(entry.value)
        why = f"a {kind}, which does not pickle"
        cause = f"its type, {kind}, does not pickle ({type(error).__name__})"
        if judge.met:
            why = judge.told(entry.value)
            reason = why.partition("\n")[0]
            cause = f"it is {reason}" if judge.is_bound else f"{cause}: it is {reason}"
        scope = constrain(here, here, *(pin.scope for pin in judge.pins if pin.scope is not None))
        self._narrow(chunk, entry, Implied(here if isinstance(scope, InvalidScope) else scope, why))
        return ScopeViolationError(
            f"chunk {chunk} cannot leave worker {self._worker}: {cause}."
            " Run a task on it there and fetch what the task returns.",
            chunk,
            entry.scope,
            entry.why,
        )

    def _narrow(self, chunk: int, entry: _Entry, implied: Implied) -> None:
        scope = constrain(entry.scope, implied.scope)
        if scope == entry.scope:
            return
        entry.scope, entry.why = scope, implied.why
        self._narrowed(chunk, scope, implied.why)

    def _is_for_whole_node(self, scope: Scope) -> bool:
        """Tells whether all processes of this node may have a value.

        Others never lie in memory that they share.
        """
        node = self.topology.node_of(self._worker)
        return scope is _UNSCOPED or all(
            self.topology.admits(scope, process.worker)
            for process in self.topology.processes
            if process.node == node
        )

    def _lend(self, entry: _Entry, parcel: Parcel) -> Parcel:
        """Puts a value where all processes of the node can read it, once for all of them."""
        if self._lender is None:
            return parcel
        with self._lending:
            if entry.loan is None or not self._is_unchanged(entry.value, entry.loan, parcel):
                try:
                    loan = self._lender.lend(parcel.parts)
                except OSError:
                    return parcel
                before, entry.loan = entry.loan, loan
                if before is not None:
                    self._lender.end(before)
            if not entry.ids:
                # It was let go of in the meantime.
                self._lender.end(entry.loan)
            return Parcel((), entry.loan)

    def _is_unchanged(self, value: Any, loan: Loan, parcel: Parcel) -> bool:
        """Tells whether a value is still what was lent: a task may have changed it in place."""
        assert self._lender is not None
        return type(value) is Blob or self._lender.holds(loan, parcel.parts)

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def drop(self, chunks: Iterable[int], version: int | None = None) -> None:
        """Forgets chunks, as far as they were not sent here by a later topology."""
        with self._lock:
            if version is not None:
                entries = self._entries
                chunks = [c for c in chunks if c in entries and entries[c].version <= version]
            dropped = [self._entries.pop(chunk, None) for chunk in chunks]
        # Values die outside the lock: a finalizer of one may come back here.
        for entry in dropped:
            if entry is not None:
                self._let_go(entry)

    def clear(self) -> None:
        """Forgets all."""
        self.drop(list(self._entries))

    def _entry(self, chunk: int) -> _Entry:
        try:
            return self._entries[chunk]
        except KeyError:
            raise ChunkLostError(
                f"worker {self._worker} does not hold chunk {chunk} any more", chunk
            ) from None
