"""Recovers what is lost with a worker: its tasks run elsewhere, its chunks are made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.errors import (
    TaskCancelledError,
)
from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler.lineage import makers_to_run_again
from scopekit.scheduler.load import Loads
from scopekit.scheduler.placing import Placing, may_have_run
from scopekit.scheduler.sending import is_lined_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.graph import ChunkRecord
    from scopekit.scheduler import events as ev

__all__ = ("Recovering",)

_DEATHS = 3


class Recovering(Placing):
    """Has tasks wait for their inputs, also for those that were there before."""

    def _wait_for_inputs(self, record: TaskRecord, at: float) -> bool:
        """Counts what a task that is to run, or to run again, has to wait for."""
        if not record.holds_inputs:
            self.table.want(record)
        record.missing = record.unplanned = 0
        for need in record.spec.inputs:
            chunk = self.table.records[need.chunk]
            if chunk.state in ("failed", "released") or (
                chunk.state == "lost" and not self._make_again([chunk], at)
            ):
                self._block(record, need.chunk, at)
                return False
            if chunk.state == "pending":
                record.missing += 1
                if not chunk.planned:
                    record.unplanned += 1
                if chunk.waiters is None:
                    chunk.waiters = [record.spec.id]
                else:
                    chunk.waiters.append(record.spec.id)
        return True

    def _wait_again(self, record: TaskRecord, at: float) -> None:
        """Has a task wait for its inputs anew, some of which may have been lost."""
        task = record.spec.id
        self._turn(record, "waiting")
        self._unmatched.pop(task, None)
        self._suspects.pop(task, None)
        record.line = 0
        record.operands = None
        self._wait_no_more(record)
        if self._wait_for_inputs(record, at) and not record.unplanned:
            self._place(record, at, forced=True)

    def _wait_no_more(self, record: TaskRecord) -> None:
        """Takes a task out where it waits for its inputs; it is to be entered anew."""
        for chunk in self.table.find(need.chunk for need in record.spec.inputs):
            if chunk.waiters:
                chunk.waiters = [waiter for waiter in chunk.waiters if waiter != record.spec.id]

    def _miss_again(self, record: TaskRecord, at: float) -> None:
        """Has a task wait for inputs that were there and are lost."""
        if record.processor is None:
            self._wait_again(record, at)
            return
        for need in record.spec.inputs:
            chunk = self.table.records[need.chunk]
            if chunk.state == "lost" and not self._make_again([chunk], at):
                self._to_block.append((record.spec.id, need.chunk, at))
                return
            if chunk.state == "pending" and record.spec.id not in (chunk.waiters or ()):
                chunk.waiters = [*(chunk.waiters or ()), record.spec.id]
                record.missing += 1
                self._turn(record, "waiting")
                if chunk.maker is not None:
                    self._unplanned[chunk.maker] = None
                # Its maker may be on its way already, for another one.
                self.table.deliver(chunk, record.processor.worker, self._maker_worker(chunk))

    def _make_again(self, lost: list[ChunkRecord], at: float) -> bool:
        """Runs again what made a chunk, and what made its inputs as far as they are gone.

        Returns:
            False if one of them cannot run again.
        """
        makers = makers_to_run_again(lost, self, self._clock)
        if makers is None:
            return False
        for record in makers:
            self._restart(record)
        for record in makers:
            if self._wait_for_inputs(record, at) and not record.unplanned:
                self._to_place.append(record.spec.id)
        return True

    def _restart(self, record: TaskRecord) -> None:
        self._turn(record, "waiting")
        record.processor = None
        record.operands = None
        record.started = record.finished = None
        # It may have ended before the word of its inputs came.
        self._wait_no_more(record)
        for output in record.spec.outputs:
            chunk = self.table.records.get(output)
            if chunk is not None and chunk.state != "held" and not chunk.rescoped:
                self.table.expect_again(chunk, planned=False)

    def _expect_again(self, chunk: ChunkRecord) -> None:
        """Goes on waiting for a chunk that is lost while its maker is to run, for another one."""
        maker = self.tasks.get(chunk.maker or 0)
        if maker is not None and maker.state not in FINAL_STATES:
            self.table.expect_again(chunk, planned=maker.processor is not None)

    def _orphan(self, event: ev.WorkerLeft, interrupted: Mapping[int, TaskRecord]) -> None:
        """Lets go of what tasks of a dead worker spawned.

        Where such a task runs again it spawns anew; what it had spawned ends with it.
        """
        for chunk in self.table.lent_to(event.worker):
            record = self.tasks.get(self.table.makers.get(chunk.id, 0))
            if record is None or record.state in FINAL_STATES:
                continue
            parent = interrupted.get(record.spec.parent or 0)
            if parent is not None and parent.state not in FINAL_STATES:
                self._retract(record)
                error = TaskCancelledError(
                    f"{record.spec.name} was cancelled: worker {event.worker} is gone, and with"
                    f" it the run of {parent.spec.name} that spawned it"
                )
                self._end(record, "cancelled", error, at=event.at)
        self.table.forget_handles(event.worker)

    def _bereft(self, lost: Mapping[int, ChunkRecord]) -> list[TaskRecord]:
        """Returns the unfinished tasks that need one of the chunks that are lost."""
        return [
            record
            for record in self.tasks.values()
            if record.holds_inputs and any(need.chunk in lost for need in record.spec.inputs)
        ]

    def _may_have_begun(self, task: int, interrupted: Mapping[int, TaskRecord]) -> bool:
        """Tells whether a task of a dead worker may have begun there.

        An engine tells only of long runs that they began: whatever had its inputs may have,
        and whatever lacks only what was to be made there, too, of which no word came.
        """
        record = self.tasks[task]
        if record.may_have_begun or record.state == "running":
            return True
        needed = (self.table.records[need.chunk] for need in record.spec.inputs)
        return all(chunk.state != "pending" or chunk.maker in interrupted for chunk in needed)

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft, *, begun: bool) -> None:
        if record.state in FINAL_STATES:
            return
        spec = record.spec
        if self._stops and self._ends_stopped(record, event.at):
            return
        if spec.prefer:
            self._forget_patience(record)
        if begun and not event.planned:
            record.deaths += 1
        self._turn(record, "waiting")
        if begun and (not spec.idempotent or record.deaths >= _DEATHS):
            self._end(record, "failed", may_have_run(record, ""), at=event.at)
            return
        self._wait_again(record, event.at)

    def _replace_all(self, at: float) -> None:
        """Judges anew every task that has not ended: the bits of masks moved.

        Those that have no processor yet are placed; of all others it is known again where
        else they may run.
        """
        self._rebuild_loads()
        for load in self.loads.all:
            for task in load.tasks:
                self.tasks[task].allowed = self._allowed_now(self.tasks[task])
        lined_up = {
            task: None
            for mask, line in self._lines.items()
            for task in line
            if is_lined_up(self.tasks.get(task), mask)
        }
        self._lines = {}
        self._ranked = {}
        suspects, self._suspects = self._suspects, {}
        waiting = [*suspects, *sorted(lined_up), *self._unmatched]
        for task in self._by_priority(waiting) if self._knows_priorities else waiting:
            record = self.tasks[task]
            self._turn(record, "waiting")
            record.line = 0
            record.operands = None
            if record.unplanned:
                self._unmatched.pop(task, None)
            else:
                self._place(record, at)

    def _rebuild_loads(self) -> None:
        self._masks.clear()
        before = self.loads
        self.loads = Loads(self.topology, self.durations, self.budget, before.by_processor)
        self.loads.keep_again(before.kept())
        self.loads.draining = before.draining & set(self.topology.workers)
