"""Ends tasks, and lets go of what nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, TaskTimeoutError
from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.leaving import why_lost
from scopekit.scheduler.ordering import Ordering
from scopekit.scopes import AnyScope
from scopekit.stopped import cancelled_error

if TYPE_CHECKING:
    from scopekit.graph import ChunkRecord, TaskState
    from scopekit.places import Topology
    from scopekit.scheduler.load import Load

__all__ = ("Ending",)

_UNSCOPED = AnyScope()
_FINISHED_KEPT = 50_000


class Ending(Ordering):
    """Brings tasks to their end, and what depends on them."""

    def _end(
        self,
        record: TaskRecord,
        state: TaskState,
        failure: Any = None,
        *,
        at: float,
        origin: int | None = None,
    ) -> None:
        """Brings a task into a final state, and everything that hangs on it."""
        spec = record.spec
        load = self._unload(record)
        if spec.prefer or self._unmatched or self._suspects or self._stops or self._children:
            self._strike_out(record, state, failure)
        if record.operands is None:
            record.operands = self.operands(record)
        record.state = state
        record.line = 0
        record.cause = self.out.cause
        record.finished = at
        if failure is not None:
            record.failure = failure
            record.origin = origin
        self.out.commands.append(ev.Settle(spec.id, state, failure, origin, self.out.cause))
        if record.holds_inputs:
            self.table.let_go(record)
        if state != "done":
            self._end_lineage(record)
            self._fail_outputs(record)
        else:
            # Whoever kills its process never comes as far as this.
            record.deaths = 0
            if not spec.idempotent:
                self._end_lineage(record)
        if self._followers:
            self._let_follow(record)
        if load is not None:
            self._use_room(load)
        self._finished.append(spec.id)

    def _strike_out(self, record: TaskRecord, state: TaskState, failure: Any) -> None:
        """Takes a task from where some few are kept; what it spawned goes with one that stops."""
        task = record.spec.id
        if record.spec.prefer:
            self._forget_patience(record)
        for aside in (self._unmatched, self._suspects, self._stops):
            aside.pop(task, None)
        children = self._children.pop(task, ())
        if state == "cancelled" or isinstance(failure, TaskTimeoutError):
            self._to_cancel += children

    def _ends_stopped(self, record: TaskRecord, at: float) -> bool:
        """Ends a task that is to be placed anew, if its engine was asked to stop it."""
        if record.spec.id not in self._stops:
            return False
        self._end(record, "cancelled", cancelled_error(record.spec.name), at=at)
        return True

    def _end_lineage(self, record: TaskRecord) -> None:
        """Takes note that a task will never run again."""
        if not record.call_forgotten:
            record.call_forgotten = True
            self.out.forget_call(record.spec.id)
        if record.holds_lineage:
            record.holds_lineage = False
            self.table.ascend(record)

    def _forget_tasks(self) -> None:
        """Ends the lineage of tasks whose results nobody can want any more."""
        forgotten = self.table.forgotten
        while forgotten:
            record = self.tasks.get(forgotten.popleft())
            if record is None or record.state not in FINAL_STATES:
                continue
            if not any(output in self.table.records for output in record.spec.outputs):
                self._end_lineage(record)

    def _fold_history(self) -> None:
        """Forgets the oldest tasks, once an event is done with: it may yet need what it ended."""
        # Two for each that ended: of those still wanted, which come round again, no more
        # are looked at each time than can be afforded.
        ended = len(self._finished) - self._finished_before
        for _ in range(min(2 * ended, len(self._finished) - _FINISHED_KEPT)):
            oldest = self._finished.popleft()
            record = self.tasks.get(oldest)
            if record is None or record.state not in FINAL_STATES:
                continue
            outputs = record.spec.outputs
            if any(self._still_wanted(output) for output in outputs):
                self._finished.append(oldest)
                continue
            self._end_lineage(record)
            del self.tasks[oldest]
            for output in outputs:
                self.table.makers.pop(output, None)
                self.table.records.pop(output, None)
        self._finished_before = len(self._finished)

    def _still_wanted(self, chunk_id: int) -> bool:
        chunk = self.table.records.get(chunk_id)
        if chunk is None:
            return False
        # Of descendants a chunk may have to be made again that is wanted.
        return chunk.handles > 0 or chunk.users > 0 or chunk.descendants > 0

    def _fail_outputs(self, record: TaskRecord) -> None:
        for chunk in self.table.find(record.spec.outputs):
            if chunk.state != "pending":
                continue  # it ran again for another one
            waiters = self.table.fail(chunk)
            self._to_block.extend((task, chunk.id, record.finished or 0.0) for task in waiters)

    def _block(self, record: TaskRecord, chunk_id: int, at: float) -> None:
        """Ends a task that needs a chunk which nobody can make any more."""
        if record.state in FINAL_STATES:
            return
        if record.state == "running":
            # It had its input before that was lost, or before the word of it was.
            record.missing = max(0, record.missing - 1)
            return
        chunk = self.table.records.get(chunk_id)
        maker = self.tasks.get(self.table.makers.get(chunk_id, chunk_id))
        self._retract(record)
        if maker is not None and maker.state in FINAL_STATES and maker.failure is not None:
            origin = maker.spec.id if maker.origin is None else maker.origin
            self._end(record, "blocked", maker.failure, at=at, origin=origin)
            return
        if chunk is not None and chunk.failure is not None:
            self._end(record, "failed", chunk.failure, at=at)
            return
        self._end(record, "failed", _lost(record, chunk_id, chunk, self.topology), at=at)

    def _retract(self, record: TaskRecord) -> None:
        """Has an engine forget a task that it cannot have begun, since it lacks an input."""
        if record.processor is not None:
            processor = record.processor
            self._unship(record)
            self.out.put(ev.RetractRuns(processor.worker, (record.spec.id,), self.out.cause))
            self._to_use.append(processor)

    def _unship(self, record: TaskRecord) -> None:
        """Takes a task from the processor that it was sent to."""
        load = self._unload(record)
        if load is not None:
            self._to_use.append(load.processor)
        record.processor = None
        record.operands = None
        self._unplan(record)

    def _unplan(self, record: TaskRecord) -> None:
        """Takes note that nobody knows any more where a task's results will be made."""
        for chunk in self.table.find(record.spec.outputs):
            if not chunk.planned or chunk.state != "pending":
                continue
            chunk.planned = False
            chunk.scope = _UNSCOPED
            for waiter in self.found(chunk.waiters or ()):
                if waiter.processor is not None:
                    self._unplanned[record.spec.id] = None
                    continue
                # Out of its line: it would take the room that what it waits for needs.
                waiter.line = 0
                waiter.unplanned += 1

    def _unload(self, record: TaskRecord) -> Load | None:
        """Counts a task out from the work of its processor."""
        if record.processor is None:
            return None
        load = self.loads.by_processor.get(record.processor)
        if load is not None:
            self.loads.remove(load, record.spec.id)
        return load


def _lost(
    record: TaskRecord, chunk_id: int, chunk: ChunkRecord | None, topology: Topology
) -> ChunkLostError:
    if chunk is None or chunk.state == "released":
        return ChunkLostError(
            f"{record.spec.name} needs chunk {chunk_id}, which was released: no handle to it"
            " was left. Keep its task or its Chunk alive until it is used."
        )
    return ChunkLostError(
        f"{record.spec.name} needs chunk {chunk_id}, which is lost: {why_lost(chunk, topology)},"
        " and it cannot be made again. Spawn again the task that makes it."
    )
