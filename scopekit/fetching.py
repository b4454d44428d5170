"""Brings the values of chunks into this process, as far as their scopes let it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, ProtocolError, ScopekitError, ScopeViolationError
from scopekit.guard import guard
from scopekit.handles import handles_become
from scopekit.scheduler import events as ev
from scopekit.scheduler.leaving import why_lost
from scopekit.wire.codec import PickledError
from scopekit.wire.parcels import load_parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scopekit.driver import Driver
    from scopekit.graph import ChunkRecord, StoredChunk, WorkerId
    from scopekit.handles import Chunk
    from scopekit.wire.messages import PeerAddress
    from scopekit.wire.parcels import Parcel
    from scopekit.wire.peers import Given, PeerClient

__all__ = ("Fetcher",)

_REACHABLE_SECONDS = 2.0
# How long after its death an engine may still count among the holders of a chunk.
_DYING_SECONDS = 2.0


class Fetcher:
    """Asks the holders of chunks for their values.

    Args:
        driver: knows who holds what.
        here: the worker that this process is.
        local: returns the value of a chunk that this process holds.
        asker: asks engines over their own sockets, or None where there are none.
        addresses: where engines serve their chunks.
        revive: makes handles of those that values hold.
    """

    def __init__(
        self,
        driver: Driver,
        here: WorkerId,
        local: Callable[[int], Any],
        asker: PeerClient | None,
        addresses: Mapping[WorkerId, PeerAddress],
        *,
        revive: Callable[[StoredChunk], Chunk],
    ) -> None:
        self._driver = driver
        self._here = here
        self._local = local
        self._asker = asker
        self._addresses = addresses
        self._revive = revive
        self._reachable: dict[WorkerId, bool] = {}

    def values(self, chunks: Sequence[int], timeout: float | None) -> list[Any]:
        """Brings values, with one request to each holder.

        Args:
            chunks: the ids; each chunk must be made or on its way to its home.
            timeout: seconds to wait at most; None waits without a limit.

        Raises:
            ScopeViolationError: this process lies outside a chunk's scope.
            ChunkLostError: nobody holds a chunk any more.
            TimeoutError: not all were here in time.
        """
        if self._driver.closing:
            raise ScopekitError("the session that held the value is closed, and the value is gone")
        until = None if timeout is None else time.monotonic() + timeout
        values: dict[int, Any] = {}
        while missing := [chunk for chunk in dict.fromkeys(chunks) if chunk not in values]:
            by_holder: dict[WorkerId, list[int]] = {}
            for chunk in missing:
                by_holder.setdefault(self._holder(chunk, _left(until)), []).append(chunk)
            for holder, wanted in by_holder.items():
                values.update(self._bring_or_wait(holder, wanted, until))
        return [values[chunk] for chunk in chunks]

    def _bring_or_wait(
        self, holder: WorkerId, chunks: list[int], until: float | None
    ) -> dict[int, Any]:
        """Brings values; none if their holder is dying, and others will have them."""
        try:
            return self._bring(holder, chunks, _left(until))
        except (ChunkLostError, ProtocolError):
            # Its death may not have come to the scheduler yet, which has lost chunks made again.
            limit = _DYING_SECONDS
            if until is not None:
                limit = min(limit, max(0.0, until - time.monotonic()))
            if self._driver.wait_until(lambda: not self._holds_any(holder, chunks), limit):
                return {}
        return self._bring_what_is_there(holder, chunks, until)

    def _bring_what_is_there(
        self, holder: WorkerId, chunks: list[int], until: float | None
    ) -> dict[int, Any]:
        """Brings values one by one; those that their holder turns out to lack others will have."""
        values: dict[int, Any] = {}
        for chunk in chunks:
            try:
                values.update(self._bring(holder, [chunk], _left(until)))
            except ChunkLostError as error:
                if error.chunk is None:
                    raise
                self._driver.handle(ev.ChunksMissed(holder, (error.chunk,), time.time()))
        return values

    def _holds_any(self, holder: WorkerId, chunks: list[int]) -> bool:
        known = self._driver.scheduler.chunks
        return any(chunk in known and holder in known[chunk].holders for chunk in chunks)

    def refusal(self, chunk: int) -> ScopekitError | None:
        """Returns why a value may not come here, None if it may."""
        try:
            with self._driver.lock:
                self._held_or_coming(chunk)
        except ScopekitError as error:
            return error
        return None

    def ask(
        self, worker: WorkerId, chunks: Sequence[int], timeout: float | None = None
    ) -> list[Given]:
        """Asks an engine, over its own socket where that can be reached."""
        address = self._addresses.get(worker)
        if self._asker is not None and address is not None and self._reaches(worker, address):
            try:
                return self._asker.ask(address, chunks, timeout)
            except ConnectionError:
                raise _gone(worker) from None
        wire = self._driver.wires.get(worker)
        if wire is None:
            raise _gone(worker)
        return wire.ask(worker, chunks, timeout)

    def _guard(self, record: ChunkRecord) -> None:
        guard(record.id, record.scope, self._here, self._driver.scheduler.topology, record.pin)

    def _holder(self, chunk: int, timeout: float | None) -> WorkerId:
        # A value on its way to its home, or made again, is not held yet.
        with self._driver.lock:
            if not self._driver.wait_until(
                lambda: self._held_or_coming(chunk).state == "held", timeout
            ):
                raise TimeoutError(f"chunk {chunk} did not reach its home within {timeout:.3g} s")
            holders = self._driver.scheduler.chunks[chunk].holders
            return self._here if self._here in holders else holders[0]

    def _held_or_coming(self, chunk: int) -> ChunkRecord:
        record = self._driver.scheduler.chunks.get(chunk)
        if record is None or record.state == "released":
            raise ChunkLostError(f"chunk {chunk} was released: no handle to it was left")
        if record.state == "lost":
            raise ChunkLostError(
                f"chunk {chunk} is lost: {why_lost(record, self._driver.scheduler.topology)}."
                " Spawn again the task that makes it."
            )
        if record.state == "failed":
            raise _failure(record)
        if record.state == "pending" and self._driver.closing:
            raise ChunkLostError(f"chunk {chunk} had not arrived when its session was closed")
        self._guard(record)
        return record

    def _bring(self, holder: WorkerId, chunks: list[int], timeout: float | None) -> dict[int, Any]:
        if holder == self._here:
            return {chunk: self._local(chunk) for chunk in chunks}
        try:
            given = self.ask(holder, chunks, timeout)
        except ScopeViolationError as error:
            if error.chunk is not None and error.scope is not None:
                self._driver.handle(ev.ChunkPinned(error.chunk, error.scope, error.why))
            raise
        with handles_become(self._revive):
            return {stored.id: _read(stored, parcel) for stored, parcel in given}

    def _reaches(self, worker: WorkerId, address: PeerAddress) -> bool:
        if worker not in self._reachable:
            assert self._asker is not None
            try:
                self._asker.ask(address, (), _REACHABLE_SECONDS)
                self._reachable[worker] = True
            except (TimeoutError, ConnectionError):
                self._reachable[worker] = False
        return self._reachable[worker]


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _gone(worker: WorkerId) -> ChunkLostError:
    return ChunkLostError(
        f"worker {worker}, which held the value, is gone. Spawn again the task that makes it."
    )


def _failure(record: ChunkRecord) -> BaseException:
    if isinstance(record.failure, PickledError):
        where = record.failure.place
        return record.failure.rebuild(f"raised while chunk {record.id} was read on {where}")
    return ChunkLostError(f"chunk {record.id} was never made: its task failed")


def _read(stored: StoredChunk, parcel: Parcel) -> Any:
    try:
        return load_parcel(parcel)
    except Exception as error:
        raise ScopekitError(
            f"the value of chunk {stored.id}, a {stored.type}, cannot be read here:"
            f" {type(error).__name__}. Is what it needs installed here?"
        ) from error
