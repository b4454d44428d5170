"""The chunk table: who holds which chunk, who wants it, where it is to be sent."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scopekit.graph import ChunkRecord
from scopekit.scheduler import events as ev
from scopekit.scopes import AnyScope, constrain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopekit.graph import StoredChunk, TaskRecord, WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Scope

__all__ = ("Chunks", "Outbox")

_UNSCOPED = AnyScope()


class Outbox:
    """The commands that follow from the present event.

    Attributes:
        cause: the number of the event.
    """

    def __init__(self) -> None:
        self.cause = 0
        self.commands: list[ev.Command] = []
        self._drops: dict[WorkerId, list[int]] = {}
        self._calls: list[int] = []

    def begin(self) -> None:
        """Turns to the next event."""
        self.cause += 1
        self.commands = []

    def put(self, command: ev.Command) -> None:
        """Adds a command."""
        self.commands.append(command)

    def only(self, command: ev.Command) -> None:
        """Answers with one command alone."""
        self.commands = [command]
        self._calls = []

    def drop(self, worker: WorkerId, chunk: int) -> None:
        """Has a worker forget a chunk."""
        self._drops.setdefault(worker, []).append(chunk)

    def forget_call(self, task: int) -> None:
        """Has the call of a task forgotten."""
        self._calls.append(task)

    def take(self) -> list[ev.Command]:
        """Returns the commands; those to forget come last, in one for each worker."""
        if self._calls:
            self.commands.append(ev.ForgetCalls(tuple(self._calls), self.cause))
            self._calls = []
        if self._drops:
            drops, self._drops = self._drops, {}
            for worker, chunks in drops.items():
                self.commands.append(ev.DropChunks(worker, tuple(chunks), self.cause))
        return self.commands


class Chunks:
    """Keeps the records of all chunks.

    Args:
        out: takes the commands.
        clock: tells the time of the event that is being handled.
    """

    def __init__(self, out: Outbox, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.records: dict[int, ChunkRecord] = {}
        self.makers: dict[int, int] = {}
        self._out = out
        # Results that tasks of a worker hold handles to.
        self._lent: dict[WorkerId, dict[int, None]] = {}
        # Tasks whose results are all gone for good, whom the scheduler need not keep.
        self.forgotten: deque[int] = deque()
        # Workers that have to drop a chunk which tasks may need there.
        self.strays: list[tuple[WorkerId, int]] = []
        # Chunks that only processes hold which may not have them any more.
        self.outside: dict[int, None] = {}
        # Of these and the like: who was last told to drop them, by which topology. The word
        # that an earlier copy came there may come later than that.
        self._dropped: dict[int, dict[WorkerId, int]] = {}

    # -- from pending to held to gone ------------------------------------------------

    def expect_outputs(self, record: TaskRecord) -> None:
        """Takes in the chunks that a task will make."""
        spec = record.spec
        cause = self._out.cause
        for output in spec.outputs:
            self.makers[output] = spec.id
            chunk = ChunkRecord(output, _UNSCOPED, maker=spec.id, handles=1, cause=cause)
            if spec.result_scope is not None:
                chunk.declared = spec.result_scope
            self.records[output] = chunk
        if spec.how is not None and spec.how.result_scopes:
            for output, scope in zip(spec.outputs, spec.how.result_scopes, strict=True):
                self.records[output].declared = scope

    def hold(
        self, stored: StoredChunk, worker: WorkerId, at: float, topology: Topology
    ) -> list[int]:
        """Takes note that a worker has a chunk that was made or put there.

        Returns:
            The tasks that waited for it.
        """
        chunk = self.records.get(stored.id)
        if chunk is None or chunk.state not in ("pending", "held"):
            # Let go of before it was made, or before its home had said that it is there.
            self._out.drop(worker, stored.id)
            return []
        if chunk.state == "held":
            # Made again beside another result that was lost.
            inside = worker in chunk.holders or topology.admits(chunk.scope, worker)
            if not inside:
                self._out.drop(worker, stored.id)
                return []
            if chunk.rescoped:
                self._take_again(chunk, worker)
                return []
        # Whoever was refused it may have said so before its maker said that it is made.
        if chunk.scope is _UNSCOPED:
            chunk.scope = stored.scope
        else:
            chunk.scope = constrain(chunk.scope, stored.scope)
        if chunk.scope is not _UNSCOPED and (chunk.senders or chunk.holders):
            # A copy may have come of an earlier making, which was valid elsewhere.
            self.keep_inside(chunk, topology)
        chunk.processor = stored.processor
        chunk.type = stored.type
        chunk.nbytes = stored.nbytes
        chunk.made = at
        chunk.state = "held"
        chunk.cause = self._out.cause
        _aim_no_more(chunk, worker)
        if worker not in chunk.holders:
            chunk.holders = (worker, *chunk.holders)
        if chunk.scope is not _UNSCOPED:
            self.keep_inside(chunk, topology)
        waiters = chunk.waiters
        chunk.waiters = None
        if not chunk.handles and not chunk.users:
            self.release_if_unwanted(chunk)
        return waiters or []

    def _take_again(self, chunk: ChunkRecord, worker: WorkerId) -> None:
        """Takes a value in place of a copy that is there, or on its way, by the scope it got."""
        _aim_no_more(chunk, worker)
        if worker not in chunk.holders:
            chunk.holders = (*chunk.holders, worker)
        self._out.put(ev.RescopeChunk(chunk.id, worker, chunk.scope, self._out.cause))

    def lose(self, chunk: ChunkRecord, topology: Topology) -> None:
        """Drops a chunk wherever it is, although it is wanted."""
        for worker in chunk.holders:
            self._drop_outside(chunk, worker, topology)
        chunk.holders = ()
        chunk.state = "lost"
        chunk.cause = self._out.cause
        self._send_no_more(chunk)
        chunk.waiters = None
        self.outside.pop(chunk.id, None)

    def arrived(
        self, chunk_id: int, worker: WorkerId, topology: Topology, version: int | None = None
    ) -> list[int]:
        """Takes note that a worker has a copy of a chunk.

        Args:
            chunk_id: the chunk.
            worker: the worker.
            topology: the processes there are.
            version: that of the topology by which the copy was sent, None if nothing was
                dropped since.

        Returns:
            The tasks that waited for it, if that is the first word that it is there.
        """
        chunk = self.records.get(chunk_id)
        if chunk is None or chunk.state not in ("held", "pending"):
            # Released while the copy was on its way: the copy goes as well.
            self._out.drop(worker, chunk_id)
            return []
        if self.was_dropped(chunk_id, worker, version):
            return []
        _aim_no_more(chunk, worker)
        if worker not in chunk.holders:
            chunk.holders = (*chunk.holders, worker)
            # The copy may be of an earlier making, which was valid elsewhere.
            self.keep_inside(chunk, topology)
            if chunk.rescoped and worker in chunk.holders:
                self._out.put(ev.RescopeChunk(chunk.id, worker, chunk.scope, self._out.cause))
        if chunk.state == "held" or chunk.maker is not None or chunk.processor is None:
            return []
        # Its home sent it on, so there it is.
        if chunk.processor.worker not in chunk.holders:
            chunk.holders = (chunk.processor.worker, *chunk.holders)
        chunk.state = "held"
        chunk.cause = self._out.cause
        self.keep_inside(chunk, topology)
        waiters = chunk.waiters
        chunk.waiters = None
        self.release_if_unwanted(chunk)
        return waiters or []

    def hold_no_more(self, chunk: ChunkRecord, worker: WorkerId) -> None:
        """Takes note that a worker does not have a chunk which it was thought to hold."""
        chunk.holders = tuple(holder for holder in chunk.holders if holder != worker)
        self._send_from_others(chunk, worker)

    def expect_again(self, chunk: ChunkRecord, *, planned: bool) -> None:
        """Takes note that a chunk that is gone is to be made once more, valid anywhere perhaps.

        Args:
            chunk: the chunk.
            planned: True if it is known where.
        """
        chunk.state = "pending"
        chunk.planned = planned
        chunk.scope = _UNSCOPED
        chunk.pin = ""
        chunk.cause = self._out.cause

    def narrow(self, chunk_id: int, scope: Scope, topology: Topology) -> None:
        """Takes note that a chunk is valid in fewer places than was said."""
        chunk = self.records.get(chunk_id)
        if chunk is None:
            return
        chunk.scope = constrain(chunk.scope, scope)
        self.keep_inside(chunk, topology)

    def rescope(
        self, chunk: ChunkRecord, scope: Scope, followed: WorkerId | None, topology: Topology
    ) -> None:
        """Gives a chunk another scope, and tells its holders.

        Args:
            chunk: the chunk.
            scope: where it is valid from now on.
            followed: the holder that knows already, if one does.
            topology: the processes there are.
        """
        chunk.scope = scope
        chunk.rescoped = True
        # From now on it may be where it was dropped, by the same topology.
        self._dropped.pop(chunk.id, None)
        self.keep_inside(chunk, topology)
        for worker in chunk.holders:
            if worker != followed:
                self._out.put(ev.RescopeChunk(chunk.id, worker, scope, self._out.cause))

    def keep_inside(self, chunk: ChunkRecord, topology: Topology) -> None:
        """Has a chunk dropped, and not sent, where it turned out not to be valid.

        Labels change, and with them where a chunk is valid: where all that hold it may not
        have it any more, they keep it until another one has it.
        """
        for worker in [w for w in chunk.senders if not topology.admits(chunk.scope, w)]:
            _aim_no_more(chunk, worker)
            self.strays.append((worker, chunk.id))
        outside = [w for w in chunk.holders if not topology.admits(chunk.scope, w)]
        if outside and chunk.state == "held" and len(outside) == len(chunk.holders):
            self.outside[chunk.id] = None
            return
        self.outside.pop(chunk.id, None)
        for worker in outside:
            chunk.holders = tuple(holder for holder in chunk.holders if holder != worker)
            self._drop_outside(chunk, worker, topology)
            self._send_from_others(chunk, worker)

    def _drop_outside(self, chunk: ChunkRecord, worker: WorkerId, topology: Topology) -> None:
        self._out.drop(worker, chunk.id)
        self.strays.append((worker, chunk.id))
        self._dropped.setdefault(chunk.id, {})[worker] = topology.version

    def was_dropped(self, chunk_id: int, worker: WorkerId, version: int | None) -> bool:
        """Tells whether a worker was told to drop what it had of a chunk by some version."""
        dropped = self._dropped.get(chunk_id)
        return dropped is not None and version is not None and version <= dropped.get(worker, -1)

    def fail(self, chunk: ChunkRecord) -> list[int]:
        """Takes note that a chunk will never be made.

        Returns:
            The tasks that waited for it.
        """
        chunk.state = "failed"
        chunk.cause = self._out.cause
        waiters = chunk.waiters
        chunk.waiters = None
        self._send_no_more(chunk)
        # A copy may have come in before the word of the run, which then was lost.
        for worker in chunk.holders:
            self._out.drop(worker, chunk.id)
        chunk.holders = ()
        self.release_if_unwanted(chunk)
        return waiters or []

    def forget_worker(self, worker: WorkerId) -> list[ChunkRecord]:
        """Takes note that a worker is gone.

        Returns:
            The chunks that are lost with it: nobody else has them, or they were on their
            way to be kept there.
        """
        lost = []
        for chunk in self.records.values():
            if chunk.senders:
                self._aim_anew(chunk, worker)
            if worker in chunk.holders:
                chunk.holders = tuple(holder for holder in chunk.holders if holder != worker)
                if not chunk.holders and chunk.state == "held":
                    lost.append(chunk)
            elif _is_coming_to(worker, chunk):
                lost.append(chunk)
        for chunk in lost:
            chunk.state = "lost"
            chunk.cause = self._out.cause
            self._send_no_more(chunk)
            chunk.waiters = None
        return lost

    def _aim_anew(self, chunk: ChunkRecord, gone: WorkerId) -> None:
        """Has another holder send what was to come from a worker that is gone."""
        _aim_no_more(chunk, gone)
        self._send_from_others(chunk, gone)

    def _send_from_others(self, chunk: ChunkRecord, gone: WorkerId) -> None:
        left = [worker for worker in chunk.holders if worker != gone]
        for to in [to for to, source in chunk.senders.items() if source == gone]:
            _aim_no_more(chunk, to)
            if left:
                self._aim(chunk, left[0], to)

    def _send_no_more(self, chunk: ChunkRecord) -> None:
        """Has a chunk sent nowhere any more."""
        for worker in chunk.senders:
            # It may hold what a run made there that was given to another: kept, since a copy
            # was to take its place.
            self._out.drop(worker, chunk.id)
        chunk.senders = {}

    def _aim(self, chunk: ChunkRecord, source: WorkerId, to: WorkerId) -> None:
        chunk.senders = {**chunk.senders, to: source}
        chunk.aimed = self._clock()
        self._out.put(ev.SendChunk(chunk.id, source, to, self._out.cause))

    # -- who wants it ------------------------------------------------------------------

    def want(self, record: TaskRecord) -> None:
        """Counts a task in among those that need their inputs' values."""
        record.holds_inputs = True
        for need in record.spec.inputs:
            self.records[need.chunk].users += 1

    def let_go(self, record: TaskRecord) -> None:
        """Counts a task out again."""
        record.holds_inputs = False
        for need in record.spec.inputs:
            chunk = self.records[need.chunk]
            chunk.users -= 1
            if chunk.pin:
                record.pins = {**record.pins, chunk.id: chunk.pin}
            if not chunk.users and not chunk.handles:
                self.release_if_unwanted(chunk)

    def descend(self, record: TaskRecord) -> None:
        """Counts a task in among those that may have to run again for a wanted chunk."""
        for need in record.spec.inputs:
            self.records[need.chunk].descendants += 1

    def release_if_unwanted(self, chunk: ChunkRecord) -> None:
        """Lets go of a value that nobody wants; of the record too, unless it is lineage."""
        if chunk.handles > 0 or chunk.users > 0 or chunk.state == "pending":
            return
        if chunk.state == "held":
            chunk.state = "released"
            chunk.cause = self._out.cause
            for worker in chunk.holders:
                self._out.drop(worker, chunk.id)
            chunk.holders = ()
            self._send_no_more(chunk)
        if chunk.descendants <= 0:
            self._forget(chunk)

    def _forget(self, chunk: ChunkRecord) -> None:
        self.records.pop(chunk.id, None)
        self.outside.pop(chunk.id, None)
        self._dropped.pop(chunk.id, None)
        if chunk.maker is not None:
            self.forgotten.append(chunk.maker)

    def ascend(self, record: TaskRecord) -> None:
        """Counts a task out that will never run again."""
        for need in record.spec.inputs:
            chunk = self.records.get(need.chunk)
            if chunk is None:
                continue
            chunk.descendants -= 1
            if not chunk.descendants:
                self.release_if_unwanted(chunk)

    def lend(self, worker: WorkerId, chunks: Iterable[int]) -> None:
        """Takes note that the handles to chunks live at a worker."""
        self._lent.setdefault(worker, {}).update(dict.fromkeys(chunks))

    def take_back(self, worker: WorkerId, chunks: Iterable[int]) -> None:
        """Takes note that handles are gone which lived at a worker."""
        lent = self._lent.get(worker, {})
        self.drop_handles([chunk for chunk in chunks if lent.pop(chunk, 0) is None])

    def lent_to(self, worker: WorkerId) -> list[ChunkRecord]:
        """Returns the chunks to which handles live at a worker."""
        return self.find(self._lent.get(worker, ()))

    def forget_handles(self, worker: WorkerId) -> None:
        """Takes note that all handles are gone which lived at a worker."""
        self.drop_handles(self._lent.pop(worker, ()))

    def drop_handles(self, chunks: Iterable[int]) -> None:
        """Takes note that a handle to each of these chunks is gone."""
        records = self.records
        for chunk_id in chunks:
            chunk = records.get(chunk_id)
            if chunk is not None:
                chunk.handles -= 1
                if chunk.handles <= 0:
                    self.release_if_unwanted(chunk)

    # -- where it is to be ---------------------------------------------------------------

    def deliver(self, chunk: ChunkRecord, to: WorkerId, made_at: WorkerId | None) -> None:
        """Has a chunk sent to a worker, unless it is or will be made there.

        Args:
            chunk: the chunk.
            to: the worker.
            made_at: the worker that was told to make it, if one was.
        """
        if to in chunk.holders:
            return
        known = chunk.senders.get(to)
        if chunk.state == "held":
            if known is None or known not in chunk.holders:
                self._aim(chunk, chunk.holders[0], to)
        elif made_at == to:
            _aim_no_more(chunk, to)
        elif made_at is not None and made_at != known:
            self._aim(chunk, made_at, to)

    def send_again(self, chunk_id: int, to: WorkerId, topology: Topology) -> None:
        """Has a chunk sent once more to a worker that has waited for it."""
        chunk = self.records.get(chunk_id)
        if chunk is None or chunk.state != "held" or not topology.admits(chunk.scope, to):
            return
        others = [worker for worker in chunk.holders if worker != to]
        if others:
            # Another one than last time, if there is one.
            others.sort(key=lambda worker: worker == chunk.senders.get(to))
            self._aim(chunk, others[0], to)

    def find(self, chunk_ids: Iterable[int]) -> list[ChunkRecord]:
        """Returns the records of those chunks that are known."""
        return [self.records[chunk] for chunk in chunk_ids if chunk in self.records]


def _aim_no_more(chunk: ChunkRecord, to: WorkerId) -> None:
    """Takes note that a chunk need not be sent to a worker any more."""
    if to in chunk.senders:
        chunk.senders = {other: chunk.senders[other] for other in chunk.senders if other != to}


def _is_coming_to(worker: WorkerId, chunk: ChunkRecord) -> bool:
    home = chunk.processor
    return (
        chunk.state == "pending"
        and chunk.maker is None
        and home is not None
        and home.worker == worker
    )
