"""Cancels tasks: at once where nobody has them, by asking their engines where one does.

Whether a task that is at an engine with all of its inputs was begun, only the engine can
tell. So it is asked, and its answer decides: it has taken the task back, or stops it, or
says in the ordinary way that the task had ended before. From its answer on, the task gives
no value, even if its code goes on for a while; that code *lingers* then, and keeps its
processor busy until the engine says that it is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.errors import TaskCancelledError, TaskTimeoutError
from scopekit.graph import FINAL_STATES
from scopekit.scheduler import events as ev
from scopekit.scheduler.changing import Changing
from scopekit.scopes import CLIENT
from scopekit.stopped import cancelled_error, timeout_error

if TYPE_CHECKING:
    from collections.abc import Container

    from scopekit.graph import TaskRecord, WorkerId

__all__ = ("Cancelling",)


class Cancelling(Changing):
    """Cancels tasks, with what they spawned."""

    def _on_cancel(self, event: ev.CancelAsked) -> None:
        record = self.tasks.get(event.task)
        if record is None:
            return
        self._at = self._clock = event.at
        worker = None if record.processor is None else record.processor.worker
        if worker is None and record.state == "cancelled":
            # It was taken for waiting, and had begun: its engine said so in the meantime.
            worker = self.loads.where_lingers(event.task)
        lingers = worker is not None and self.loads.lingers(worker, event.task)
        if record.state not in FINAL_STATES:
            self._cancel(record, event.at)
        elif worker is not None and lingers:
            self.out.put(ev.StopRuns(worker, (event.task,), self.out.cause))
        if event.grace is None:
            return
        until = event.at + event.grace
        if lingers or event.task in self._stops:
            if worker is not None and worker != CLIENT:
                self._kills[event.task] = (worker, until)
        elif record.state == "cancelled" and record.attempts:
            self._force_if_it_began(event.task, until)

    def _cancel(self, record: TaskRecord, at: float) -> None:
        """Ends a task, or has the engine that has it stop it."""
        task = record.spec.id
        if record.processor is None:
            self._end(record, "cancelled", cancelled_error(record.spec.name), at=at)
            return
        worker = record.processor.worker
        if record.missing and record.state != "running":
            # As far as is known here it lacks an input; if that came in and it began all the
            # same, the engine says so, and its value is dropped.
            self._unship(record)
            self.out.put(ev.StopRuns(worker, (task,), self.out.cause))
            self._end(record, "cancelled", cancelled_error(record.spec.name), at=at)
            return
        self._stops[task] = None
        self.out.put(ev.StopRuns(worker, (task,), self.out.cause))

    def _on_stopped(self, event: ev.RunStopped) -> None:
        self._at = event.at
        if event.kept:
            self._drop_results(event)
        record = self._sent_to(event.task, event.worker)
        if record is None:
            self._note_lingering(event)
            return
        name, place = record.spec.name, None
        if event.started is not None:
            record.started = event.started
            place = self._place_of(record)
        if not event.over:
            self._note_lingering(event)
        self._to_place.extend(self.doubts.release(record.spec.function))
        if event.late:
            error = timeout_error(name, place or "its worker", record.spec.timeout or 0.0)
            self._end(record, "failed", error, at=event.at)
        else:
            self._end(record, "cancelled", cancelled_error(name, place), at=event.at)

    def _drop_results(self, event: ev.RunStopped) -> None:
        """Has an engine forget what a stopped run made, unless it had that from an earlier one."""
        if self.topology.process(event.worker) is None:
            return
        for kept in event.kept:
            chunk = self.table.records.get(kept)
            if chunk is None or event.worker not in chunk.holders:
                self.out.drop(event.worker, kept)

    def _note_lingering(self, event: ev.RunStopped) -> None:
        """Takes note that the code of a task goes on which counts no more, or has ended."""
        if event.over:
            load = self.loads.end_lingering(event.worker, event.task)
            self._forced.pop(event.task, None)
        else:
            load = None if event.processor is None else self.loads.by_processor.get(event.processor)
            if load is not None:
                self.loads.linger(load, event.task)
                self._force_late(event)
        if load is not None:
            self._to_use.append(load.processor)

    def _force_late(self, event: ev.RunStopped) -> None:
        """Has force used on what goes on after all, where its engine had given no answer."""
        until = self._forced.pop(event.task, None)
        if until is not None and event.worker != CLIENT:
            self._kills[event.task] = (event.worker, until)

    def _force_if_it_began(self, task: int, until: float) -> None:
        """Keeps in mind until when a task may go on that was cancelled before it began."""
        self._forced = {other: at for other, at in self._forced.items() if other in self.tasks}
        self._forced[task] = until

    def _place_of(self, record: TaskRecord) -> str | None:
        processor = record.processor
        if processor is None:
            return None
        node = self.topology.node_of(processor.worker)
        where = processor.describe()
        return f"node {node}, {where}" if node else where

    # -- what cancelled tasks spawned ------------------------------------------------------

    def _is_stopped(self, task: int | None) -> bool:
        """Tells whether a task was stopped, so that nobody waits for what it spawned."""
        record = None if task is None else self.tasks.get(task)
        if record is None or record.state not in FINAL_STATES:
            return False
        return record.state == "cancelled" or isinstance(record.failure, TaskTimeoutError)

    def _cancel_children(self) -> None:
        """Cancels what tasks spawned that were stopped, unless others need it."""
        orphans: dict[int, TaskRecord] = {}
        while self._to_cancel:
            record = self.tasks.get(self._to_cancel.popleft())
            if record is not None and record.state not in FINAL_STATES:
                orphans[record.spec.id] = record
        kept = self._needed_by_others(orphans)
        for task, record in orphans.items():
            if task not in kept and record.state not in FINAL_STATES:
                self._cancel(record, self._at)

    def _needed_by_others(self, orphans: dict[int, TaskRecord]) -> dict[int, None]:
        """Returns those of which a task needs a result that nobody cancels."""
        kept: dict[int, None] = {}
        todo = [record for record in orphans.values() if self._has_other_users(record, orphans)]
        while todo:
            record = todo.pop()
            if record.spec.id in kept:
                continue
            kept[record.spec.id] = None
            makers = (self.table.makers.get(need.chunk, 0) for need in record.spec.inputs)
            todo += [orphans[maker] for maker in makers if maker in orphans]
        return kept

    def _has_other_users(self, record: TaskRecord, orphans: Container[int]) -> bool:
        return any(
            waiter.state not in FINAL_STATES and not self._goes_with(waiter, orphans)
            for chunk in self.table.find(record.spec.outputs)
            for waiter in self.found(chunk.waiters or ())
        )

    def _goes_with(self, record: TaskRecord | None, orphans: Container[int]) -> bool:
        """Tells whether a task is one of those, or was spawned below one of them."""
        while record is not None:
            if record.spec.id in orphans or self._is_stopped(record.spec.parent):
                return True
            record = self.tasks.get(record.spec.parent or 0)
        return False

    def _refuse_child(self, record: TaskRecord, event: ev.ChildSpawned) -> None:
        """Ends a task at once whose parent was stopped before the word of it came."""
        parent = self.name_of(record.spec.parent or 0)
        error = TaskCancelledError(
            f"{record.spec.name} was cancelled with {parent}, which spawned it"
        )
        self._end(record, "cancelled", error, at=event.at)
        if event.processor is not None:
            self.out.put(ev.StopRuns(event.worker, (record.spec.id,), self.out.cause))

    # -- force --------------------------------------------------------------------------------

    def _kill_overdue(self, at: float) -> None:
        """Has the processes killed in which something goes on that was to stop long ago."""
        for task, (worker, until) in list(self._kills.items()):
            if at >= until:
                del self._kills[task]
                self._kill_for(task, worker, at)

    def _kill_for(self, task: int, worker: WorkerId, at: float) -> None:
        if self.loads.lingers(worker, task):
            self.out.put(ev.KillWorker(worker, self.out.cause))
            return
        record = self._sent_to(task, worker)
        if record is None or record.processor is None or task not in self._stops:
            return
        # The engine gave no answer. It may be that very task that keeps it from answering.
        load = self.loads.by_processor[record.processor]
        oldest = next((other for other in load.tasks if other not in load.paused), None)
        runs = record.state == "running" or oldest == task
        if runs:
            self.loads.linger(load, task)
        place = self._place_of(record) if runs else None
        self._end(record, "cancelled", cancelled_error(record.spec.name, place), at=at)
        if runs:
            self.out.put(ev.KillWorker(worker, self.out.cause))
        else:
            # It may turn out that it goes on there all the same.
            self._force_if_it_began(task, at)
