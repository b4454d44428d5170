"""Makes the chunks of the client: of values, of large buffers, of what engines exported."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scopekit import looking
from scopekit.errors import NoProcessorError, ScopeError, ScopekitError
from scopekit.graph import ChunkRecord
from scopekit.handles import Chunk
from scopekit.options import perimeter_scope
from scopekit.pinning.giving import GivingJudge
from scopekit.pinning.place import Place
from scopekit.pinning.search import implied_by
from scopekit.scheduler import events as ev
from scopekit.scheduler.placement import refusal
from scopekit.scopes import AnyScope, OSProc
from scopekit.scopes import sealed as sealed_scope
from scopekit.shield import shield
from scopekit.wire import messages as msg
from scopekit.wire.codec import type_name
from scopekit.wire.parcels import pack_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.driver import Driver
    from scopekit.engine.store import Store
    from scopekit.graph import StoredChunk
    from scopekit.handles import Home
    from scopekit.pinning.rule import Rule
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.blobs import Blob
    from scopekit.wire.frames import Buffer

__all__ = ("ClientChunks",)


class ClientChunks:
    """Makes chunks in the process of the client.

    Args:
        owner: whom the handles to the chunks belong to.
        processor: the processor of this process on which its values are.
        driver: learns of the chunks.
        store: keeps the values that stay here.
        ids: gives the chunks their numbers.
    """

    def __init__(
        self, owner: Home, processor: Processor, driver: Driver, store: Store, ids: Iterator[int]
    ) -> None:
        self._owner = owner
        self._processor = processor
        self._driver = driver
        self._store = store
        self._ids = ids

    def place(self) -> Place:
        """Returns where values of this process are."""
        return Place(self._processor, self._driver.scheduler.topology)

    def make(
        self, value: Any, processor: Processor | None, scope: Scope | None, *, sealed: bool
    ) -> Chunk:
        """Makes a chunk of a value, which moves where it may not stay here.

        Args:
            value: the value.
            processor: its home; one in the scope if None.
            scope: where it is valid; where its type says if None.
            sealed: True to have what is computed from it be valid no further.

        Raises:
            ScopeError: the home lies outside the scope.
            SchedulingError: no processor lies in the scope.
            ScopekitError: the value is to move and does not pickle.
        """
        where, why = (scope, "") if scope is not None else self._implied(value)
        if sealed:
            where = sealed_scope(where)
        home = self._home(processor, where)
        if home.worker == self._processor.worker:
            return self._keep_on(home, value, where, why)
        chunk_id = next(self._ids)
        record = ChunkRecord(chunk_id, where, processor=home, type=type_name(value), handles=1)
        return self._hand_over(record, value, home)

    def keep(self, value: Any, scope: Scope, why: str) -> Chunk:
        """Makes a chunk of a value that stays in this process.

        Args:
            value: the value.
            scope: where it is valid.
            why: what says so.
        """
        return self._keep_on(self._processor, value, scope, why)

    def keep_buffer(self, buffer: Buffer) -> Chunk:
        """Makes a chunk of a copy of a buffer."""
        home = self._processor
        with shield:
            stored = self._store.put_blob(next(self._ids), buffer, home)
            record = ChunkRecord(
                stored.id, stored.scope, processor=home, type=stored.type, handles=1
            )
            self._expect(record)
            self._driver.handle(ev.ChunkStored(stored, home.worker, time.time()))
            return self._handle(stored.id)

    def buffer_of(self, chunk: Chunk) -> Buffer:
        """Returns the bytes of a chunk that was made of a buffer."""
        blob: Blob = self._store.value(chunk.id)
        return blob.data

    def revive(self, stored: StoredChunk) -> Chunk:
        """Makes a handle of what an engine exported."""
        with shield:
            with self._driver.lock:
                known = stored.id in self._driver.scheduler.chunks
            if known:
                self._driver.handle(ev.HandlesAdded((stored.id,)))
            else:
                home = stored.processor
                self._expect(ChunkRecord(stored.id, stored.scope, processor=home, handles=1))
                self._driver.handle(ev.ChunkStored(stored, home.worker, time.time()))
            return self._handle(stored.id)

    def _implied(self, value: Any) -> tuple[Scope, str]:
        """Returns where a value is valid by its type, with what says so."""
        notes: list[tuple[Any, Rule]] = []
        implied = implied_by(value, self.place(), notes)
        return (AnyScope(), "") if implied is None else implied

    def _home(self, processor: Processor | None, scope: Scope) -> Processor:
        topology = self._driver.scheduler.topology
        fence = perimeter_scope()
        mask = topology.mask(scope & fence)
        if processor is None:
            mine = topology.worker_mask(self._processor.worker) & mask
            allowed = topology.select(mine or mask)
            if not allowed:
                where = (("scope=", scope), ("perimeter", fence))
                raise refusal("tochunk", where, topology)
            return looking.least_busy(self._driver, allowed)
        if topology.process(processor.worker) is None:
            known = ", ".join(map(str, topology.workers))
            raise NoProcessorError(
                f"there is no {processor.describe()} to keep the chunk; the workers are {known}"
            )
        if isinstance(processor, OSProc):
            mask &= topology.worker_mask(processor.worker)
            if mask:
                return topology.select(mask)[0]
        elif topology.bit(processor) is None:
            raise NoProcessorError(f"there is no {processor.describe()} to keep the chunk")
        elif topology.contains(scope, processor):
            return processor
        raise ScopeError(
            f"the chunk's home, {processor.describe()}, lies outside its scope,"
            f" {scope.describe()}. Leave processor= out to have it moved into the scope."
        )

    def _keep_on(self, home: Processor, value: Any, scope: Scope, why: str) -> Chunk:
        chunk_id = next(self._ids)
        record = ChunkRecord(chunk_id, scope, processor=home, type=type_name(value), handles=1)
        record.pin = why
        with shield:
            stored = self._store.put(chunk_id, value, scope, home, why=why)
            self._expect(record)
            self._driver.handle(ev.ChunkStored(stored, home.worker, time.time()))
            return self._handle(chunk_id)

    def _hand_over(self, record: ChunkRecord, value: Any, home: Processor) -> Chunk:
        judge = GivingJudge(self.place(), home.worker)
        try:
            parcel = pack_value(value, judge).copied()
            judge.check()
        except Exception as error:
            why = "may not" if judge.is_bound else "does not pickle"
            cause = judge.reason(value) if judge.met else str(error)
            raise ScopekitError(
                f"a {record.type} is to move to {home.describe()} and {why}: {cause}."
                " Make it there, in a task that returns tochunk(value, scope=...)."
            ) from error
        record.nbytes = parcel.nbytes
        with shield:
            with self._driver.lock:
                self._driver.scheduler.expect(record)
                put = msg.Put(record.id, parcel, record.scope, home, reports=True)
                self._driver.wires[home.worker].send(home.worker, put)
            self._driver.wake()
            return self._handle(record.id)

    def _expect(self, record: ChunkRecord) -> None:
        with self._driver.lock:
            self._driver.scheduler.expect(record)

    def _handle(self, chunk_id: int) -> Chunk:
        return Chunk(self._owner, chunk_id, looking.chunk_facts(self._driver, chunk_id))
