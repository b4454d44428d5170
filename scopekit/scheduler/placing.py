"""Places tasks: each is sent, lined up, held back, kept for itself, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.errors import (
    WorkerLostError,
)
from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.ending import Ending
from scopekit.scheduler.placement import never_meet, refusal
from scopekit.scheduler.sending import may_come_back

if TYPE_CHECKING:
    from scopekit.graph import WorkerId
    from scopekit.scheduler.placement import Operands

__all__ = ("Placing", "may_have_run")


class Placing(Ending):
    """Decides what becomes of a task whose inputs are made or planned."""

    def _place(self, record: TaskRecord, at: float, *, forced: bool = False) -> None:
        """Sends a task to a processor, or lines it up.

        Args:
            record: the task; each of its inputs is made or will be made somewhere.
            at: the time.
            forced: True to send it even where there is no room: others that were sent
                ahead may wait for it there.
        """
        if record.gates:
            self._turn(record, "waiting")
            return
        spec = record.spec
        if spec.inputs:
            # Since it was last judged an input may have turned out to be valid in fewer places.
            record.operands = None
        # Kept, since an input may be released long before its task is explained.
        operands = record.operands = self.operands(record)
        record.topology = self.topology
        record.allowed = self._mask(operands)
        if not record.allowed:
            self._place_nowhere(record, operands, at)
            return
        if self._unmatched:
            self._unmatched.pop(spec.id, None)
        if record.missing and (record.suspected or not spec.idempotent):
            # Ahead of its inputs, nobody here could tell whether it has begun.
            self._turn(record, "waiting")
            return
        if record.suspected:
            self._place_alone(record)
            return
        doubted = self.doubted_inputs(record) if record.missing else ()
        if doubted:
            self._place_by_doubted(record, doubted)
            return
        among = record.allowed if forced else self._not_outranked(record)
        choose = self._choose_preferred if spec.prefer else self._choose
        choice = choose(record, among, forced=forced)
        if choice is not None:
            self._send(record, *choice)
            return
        self._turn(record, "waiting" if record.missing else "queued")
        self._line_up(record, self._waits_for(record) if spec.prefer else record.allowed)

    def _place_by_doubted(self, record: TaskRecord, makers: list[TaskRecord]) -> None:
        """Sends a task to where its doubted inputs are made; else it waits until they are."""
        homes = list(dict.fromkeys(m.processor.worker for m in makers if m.processor is not None))
        if len(homes) == 1:
            load = self.loads.least(self._first_choice(record), homes[0])
            if load is not None and self.loads.may_wait_at(load):
                self._send(record, load, "its inputs are made there")
                return
        self._turn(record, "waiting")
        for maker in makers:
            self.doubts.hold(record.spec.id, maker.spec.function)

    def _place_nowhere(self, record: TaskRecord, operands: Operands, at: float) -> None:
        waits = record.deadline is not None and self._clock < record.deadline
        if waits and not never_meet(operands, self.topology):
            self._turn(record, "unmatched")
            self._unmatched[record.spec.id] = None
            return
        error: Exception = refusal(record.spec.name, operands, self.topology, self.pins_of(record))
        if record.deaths:
            error = may_have_run(record, ": nobody else may run it")
        self._end(record, "failed", error, at=at)

    def _place_anew(self, record: TaskRecord, at: float, *, forced: bool) -> None:
        """Places a task that was taken from its processor and had not begun."""
        if self._stops and self._ends_stopped(record, at):
            return
        self._turn(record, "waiting")
        self._count_unplanned(record)
        if not record.unplanned:
            self._place(record, at, forced=forced)

    def _count_unplanned(self, record: TaskRecord) -> None:
        chunks = (self.table.records[need.chunk] for need in record.spec.inputs)
        record.unplanned = sum(chunk.state == "pending" and not chunk.planned for chunk in chunks)

    def _place_alone(self, record: TaskRecord) -> None:
        """Lines up a task that may have killed its process, for one that does nothing else."""
        self._turn(record, "queued")
        self._suspects[record.spec.id] = None

    def _tend_suspects(self) -> bool:
        """Looks after the suspects, and after the processes that are kept for them.

        Returns:
            True if something else is to be placed now.
        """
        loads = self.loads
        for worker, task in loads.kept().items():
            if not self._needs_kept(task, worker):
                loads.reopen(worker)
                self._to_use.extend(load.processor for load in loads.of_worker[worker])
        kept = {task: worker for worker, task in loads.kept().items()}
        for task in list(self._suspects if loads.may_keep() else kept):
            if task not in self._suspects or not (task in kept or loads.may_keep()):
                continue
            record = self.tasks[task]
            if self._is_judged_anew(record):
                del self._suspects[task]
                continue
            home = kept.get(task)
            if home is None:
                home = loads.keep(record.allowed, task)
            if home is None:
                continue
            if loads.is_empty(home):
                self._send_alone(record, home)
            else:
                self._clear(home)
        return bool(self._to_place or self._to_use)

    def _needs_kept(self, task: int, worker: WorkerId) -> bool:
        """Tells whether a task waits for the process that is kept for it, or runs there."""
        record = self.tasks.get(task)
        if record is None or record.state in FINAL_STATES:
            return False
        if record.processor is not None:
            return record.processor.worker == worker
        return task in self._suspects and self.loads.least(record.allowed, worker) is not None

    def _clear(self, worker: WorkerId) -> None:
        """Asks for what a process cannot begin yet: it may wait for the very suspect."""
        sent = [self.tasks[task] for load in self.loads.of_worker[worker] for task in load.tasks]
        wanted = [record.spec.id for record in sent if may_come_back(record)]
        for task in wanted:
            self.tasks[task].asked_back = True
        if wanted:
            self.out.put(ev.RunsAskedBack(worker, tuple(wanted), self.out.cause))

    def _send_alone(self, record: TaskRecord, worker: WorkerId) -> None:
        load = self.loads.least(record.allowed, worker)
        assert load is not None
        del self._suspects[record.spec.id]
        self._send(record, load, "alone, since a process died that had it")


def may_have_run(record: TaskRecord, why: str) -> WorkerLostError:
    """Makes the error of a task that died with its process and is not started again."""
    topology = record.topology
    where = f"worker {topology.departed[-1]}" if topology and topology.departed else "its worker"
    return WorkerLostError(
        f"{where} died while it had {record.spec.name} to run"
        f" (attempt {record.attempts}); it may have begun and is not started again{why}"
    )
