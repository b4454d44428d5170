"""The chunks of a process as code inside of its tasks has them: by handles."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from scopekit.engine.context import running_task
from scopekit.engine.handlecounts import HandleCounts
from scopekit.errors import ScopeError
from scopekit.graph import StoredChunk
from scopekit.guard import guard
from scopekit.handles import Chunk
from scopekit.rescoping import Rescoping, check_rescoping
from scopekit.scopes import AnyScope
from scopekit.scopes import sealed as sealed_scope
from scopekit.wire import messages as msg
from scopekit.wire.parcels import load_parcel

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scopekit.engine.reporter import Reporter
    from scopekit.engine.results import Results
    from scopekit.engine.seals import Seals
    from scopekit.engine.store import Store
    from scopekit.graph import WorkerId
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.peers import Given

__all__ = ("LocalChunks", "chunk_facts")

_UNSCOPED = AnyScope()
# Ids of chunks that tasks make by themselves: the worker's number above, a counter below.
_OWN_IDS = 40


class LocalChunks:
    """Makes chunks and handles for the code of tasks, and is where these handles belong.

    Args:
        worker: the id of this process.
        store: where values are kept.
        results: tells where a value is valid by its type.
        reporter: reports what the session has to know of handles.
        seals: tells which tasks run on sealed inputs.
        lock: guards the counts of handles.
        fetch: asks another process for chunks.
        processors: the processors of this process.
    """

    def __init__(
        self,
        worker: WorkerId,
        store: Store,
        results: Results,
        reporter: Reporter,
        *,
        seals: Seals,
        lock: threading.RLock,
        fetch: Callable[[WorkerId, Sequence[int]], list[Given]],
        processors: Iterable[Processor],
    ) -> None:
        self._worker = worker
        self._store = store
        self._results = results
        self._reporter = reporter
        self._seals = seals
        self._lock = lock
        self._fetch = fetch
        self._processors = processors
        self._handles = HandleCounts()
        self._made = 0
        self._released: deque[int] = deque()

    # -- making them --------------------------------------------------------------

    def new_chunk(
        self,
        value: Any,
        processor: Processor | None,
        scope: Scope | None,
        why: str = "",
        *,
        sealed: bool = False,
    ) -> Chunk:
        """Keeps a value that a task makes a chunk of.

        Args:
            value: the value.
            processor: its home.
            scope: where it is valid; None for what its type implies.
            why: what says so, where that is its type.
            sealed: True if what is computed from it is to be valid no further.

        Raises:
            ScopeError: the scope leaves out the process that makes the chunk.
        """
        task = running_task.get()
        if scope is None:
            made_on = task.processor if task is not None else self._home(_UNSCOPED)
            scope, why = self._results.implied(value, made_on)
        if sealed:
            scope = sealed_scope(scope)
        if task is not None:
            scope = self._seals.within(task.id, scope)
        home = processor or self._home(scope)
        if home.worker != self._worker or not self._store.topology.admits(scope, self._worker):
            raise ScopeError(
                f"this task runs on worker {self._worker}, and the chunk would live on"
                f" {home.describe()}, valid on {scope.describe()}. A task makes chunks where it"
                " runs: spawn it with that scope."
            )
        chunk = self._new_id()
        stored = self._store.put(chunk, value, scope, home, why=why)
        with self._lock:
            self._handles.add_own(chunk)
        return self.revive(stored)

    def _new_id(self) -> int:
        with self._lock:
            self._made += 1
            number = int(self._worker) + 1 if isinstance(self._worker, int) else 0
            return (number << _OWN_IDS) + self._made + (1 << (_OWN_IDS + 20))

    def _home(self, scope: Scope) -> Processor:
        task = running_task.get()
        topology = self._store.topology
        allowed = dict.fromkeys(topology.select(topology.mask(scope)))
        if task is not None and task.processor in allowed:
            return task.processor
        here = list(self._processors)
        return next((processor for processor in here if processor in allowed), here[0])

    def rescope(self, chunk: Chunk, scope: Scope, *, declassify: bool) -> Chunk:
        """Changes the scope of a chunk that is here, for the task that runs.

        Returns:
            A handle that knows of it.

        Raises:
            ScopeError: that would widen it, and was not said to; or it leaves this process out.
            ChunkLostError: the chunk is not here.
        """
        before = self._store.describe(chunk.id).scope
        widened = check_rescoping(chunk.id, before, scope, declassify=declassify)
        topology = self._store.topology
        if not topology.admits(scope, self._worker):
            raise ScopeError(
                f"chunk {chunk.id} is held by worker {self._worker}, which lies outside of"
                f" {scope.describe()}. A task changes the scope of what is valid where it runs."
            )
        task = running_task.get()
        place = topology.describe_place(self._worker, task.processor if task else None)
        by = f"task {task.name} on {place}" if task else place
        self._store.rescope(chunk.id, scope)
        change = Rescoping(chunk.id, before, scope, widened, by, time.time())
        self._reporter.add(msg.Rescoped(change))
        return self.revive(self._store.describe(chunk.id))

    # -- handles ------------------------------------------------------------------

    def revive(self, stored: StoredChunk) -> Chunk:
        """Makes a handle in this process."""
        with self._lock:
            report = self._handles.revive(stored)
            if report is not None:
                self._reporter.add(report)
        return Chunk(self, stored.id, chunk_facts(stored))

    def lend(self, chunk: Chunk) -> StoredChunk:
        """Describes a chunk to the client, which may let it go only when it is told to."""
        with self._lock:
            self._handles.export(chunk.id)
        return StoredChunk(chunk.id, chunk.scope, chunk.processor, chunk.type, chunk.nbytes)

    def export_chunk(self, chunk: Chunk) -> tuple[Any, ...]:
        """Returns what another process needs to make a handle."""
        # Whoever reads the pickle holds a handle from now on, and says when it is gone.
        return (self.lend(chunk),)

    def chunk_facts(self, chunk_id: int) -> Mapping[str, Any]:
        """Tells what is known of a chunk here."""
        return {"state": "held" if chunk_id in self._store else "released"}

    def release_chunk(self, chunk_id: int) -> None:
        """Takes note that a handle in this process is gone."""
        # Python may collect a handle at any line, so this only leaves word.
        self._released.append(chunk_id)
        if self._reporter.background:
            self._reporter.hurry()

    def drop_released(self) -> None:
        """Drops what the handles that are gone were the last ones of."""
        if not self._released:
            return
        gone: list[int] = []
        while self._released:
            gone.append(self._released.popleft())
        with self._lock:
            dropped, reports = self._handles.release(gone)
            self._reporter.add(*reports)
        self._store.drop(dropped)

    def drop_ordered(self, chunks: Iterable[int]) -> list[int]:
        """Returns which of the chunks that the session let go nobody here has a handle to."""
        with self._lock:
            return self._handles.drop(chunks)

    # -- values -------------------------------------------------------------------

    def fetch_chunk(self, chunk: Chunk, timeout: float | None) -> Any:
        """Returns a chunk's value to code of this process."""
        del timeout
        if chunk.id in self._store:
            value, scope = self._store.look(chunk.id)
            if scope is not _UNSCOPED:
                # Labels change: what is here may not be had here any more.
                guard(chunk.id, scope, self._worker, self._store.topology)
            return value
        _, parcel = self._fetch(chunk.processor.worker, [chunk.id])[0]
        return load_parcel(parcel)

    def value_of(self, chunk: int, stored: StoredChunk | None) -> tuple[Any, Scope]:
        """Returns a value with its scope, to code of this process.

        Args:
            chunk: the id of the chunk.
            stored: where it is, if it is elsewhere.

        Raises:
            ChunkLostError: it is gone.
            ScopeViolationError: it may not come here.
        """
        if stored is None or chunk in self._store:
            return self._store.look(chunk)
        _, parcel = self._fetch(stored.processor.worker, [chunk])[0]
        return load_parcel(parcel), stored.scope


def chunk_facts(stored: StoredChunk) -> dict[str, Any]:
    """Returns what a handle shows of a chunk."""
    return {
        "scope": stored.scope,
        "processor": stored.processor,
        "type": stored.type,
        "nbytes": stored.nbytes,
        "state": "held",
    }
