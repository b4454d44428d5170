"""Sends tasks to processors, from the lines in which they wait, or from others with more to do."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.choosing import Choosing

if TYPE_CHECKING:
    from scopekit.graph import ChunkRecord, TaskState, WorkerId
    from scopekit.scheduler.load import Load

__all__ = ("Sending", "is_lined_up", "may_come_back")

# Tasks are asked back from a processor only if it has so many seconds of work more.
_WORTH_ASKING = 5e-3
_ASKED_AT_ONCE = 64
# A processor is asked no more often than so many seconds apart, and only about so many of
# its tasks: most are refused where scopes keep them.
_ASK_AGAIN = 5e-3
_LOOKED_AT = 128


class Sending(Choosing):
    """Counts tasks on and off processors, and keeps these supplied."""

    def _turn(self, record: TaskRecord, state: TaskState) -> None:
        record.state = state
        record.cause = self.out.cause

    def _send(self, record: TaskRecord, load: Load, rule: str) -> None:
        self._assign(record, load, rule)
        self.out.commands.append(ev.StartRun(record.spec.id, load.processor, self.out.cause))

    def _assign(self, record: TaskRecord, load: Load, rule: str) -> None:
        """Counts on a task being at a processor, and has its inputs sent there."""
        spec = record.spec
        if not record.missing and record.state != "queued":
            self._turn(record, "queued")
        processor = record.processor = load.processor
        record.rule = rule
        record.line = 0
        record.attempts += 1
        record.asked_back = False
        record.may_have_begun = not record.missing
        self.loads.add(load, spec.id, spec.function)
        record.ready = self._at + load.seconds
        if spec.inputs:
            for need in spec.inputs:
                chunk = self.table.records[need.chunk]
                self.table.deliver(chunk, processor.worker, self._maker_worker(chunk))
        records = self.table.records
        for output in spec.outputs:
            made = records.get(output)
            if made is None:
                continue  # nobody wants it any more; the task runs again for another one
            if made.waiters is not None:
                self._follow_planned(made, processor.worker)
            made.planned = True

    def _follow_planned(self, chunk: ChunkRecord, worker: WorkerId) -> None:
        """Looks after the tasks that need what will be made on that worker."""
        for waiter in self.found(chunk.waiters or ()):
            if waiter.state in FINAL_STATES:
                continue
            if waiter.processor is not None:
                # Asked back, and without its input not begun, it comes back.
                if not waiter.asked_back:
                    self.table.deliver(chunk, waiter.processor.worker, worker)
            elif not chunk.planned:
                waiter.unplanned -= 1
                if not waiter.unplanned:
                    self._to_place.append(waiter.spec.id)

    def _is_judged_anew(self, record: TaskRecord) -> bool:
        """Has a task placed anew whose inputs turned out in between to be valid in fewer places."""
        if not record.spec.inputs:
            return False
        record.operands = None
        if self._mask(self.operands(record)) == record.allowed:
            return False
        record.line = 0
        self._turn(record, "waiting")
        self._to_place.append(record.spec.id)
        return True

    def _serve_lines(self, load: Load) -> None:
        """Sends what waits in the lines that a processor with new room may serve, oldest first."""
        bit = load.bit
        served = [mask for mask in self._lines if mask & bit]
        while served:
            oldest = min(served, key=lambda mask: self._lines[mask][0])
            if not self._serve_head(oldest):
                served.remove(oldest)

    def _serve_head(self, mask: int) -> bool:
        """Sends the first task of a line.

        Returns:
            True if there may be more to send.
        """
        line = self._lines[mask]
        record = self.tasks.get(line[0])
        if record is not None and is_lined_up(record, mask):
            if self._is_judged_anew(record):
                return self._pop_head(mask)
            choice = self._choose(record, forced=False)
            if choice is None:
                return False
            self._send(record, *choice)
        return self._pop_head(mask)

    def _pop_head(self, mask: int) -> bool:
        line = self._lines[mask]
        line.popleft()
        if not line:
            del self._lines[mask]
        return bool(line)

    def _use_room(self, load: Load) -> None:
        """Finds work for a processor that is about to run dry, or for others by it."""
        if self.loads.kept_for(load.processor.worker) is not None:
            return
        if not self.loads.wants_more(load):
            if self.loads.idle:
                self._share(load)
            return
        if self._lines:
            self._serve_lines(load)
        if load.is_idle:
            self._ask_back_for(load)

    def _share(self, load: Load) -> None:
        """Has a processor hand tasks back that gathered there, if others are idle."""
        if load.seconds < _WORTH_ASKING or self._at < load.asked_at + _ASK_AGAIN:
            return
        load.asked_at = self._at
        for idle in self.loads.some_idle():
            if idle is not load and self.loads.has_room(idle):
                self._ask_back(load, idle)

    def _ask_back_for(self, idle: Load) -> None:
        """Asks the processor with the most work for tasks that an idle one may run."""
        loaded = self.loads.busiest(self.topology.everything, _WORTH_ASKING)
        if loaded is not None and self.loads.has_room(idle):
            self._ask_back(loaded, idle)

    def _is_better_off(self, record: TaskRecord, loaded: Load, idle: Load) -> bool:
        """Tells whether a task may go to an idle processor, and would be done sooner there."""
        if not self._allowed_now(record) & idle.bit:
            return False
        if not record.spec.inputs:
            return True
        return self._seconds_to_move(record, idle.processor.worker) < loaded.seconds

    def _ask_back(self, loaded: Load, idle: Load) -> None:
        wanted: list[int] = []
        most = min(_ASKED_AT_ONCE, len(loaded.tasks) // 2)
        for task in islice(reversed(loaded.tasks), _LOOKED_AT):
            if len(wanted) >= most:
                break
            record = self.tasks[task]
            movable = record.state == "queued" and not record.asked_back and not record.suspected
            if movable and self._is_better_off(record, loaded, idle):
                record.asked_back = True
                wanted.append(task)
        if wanted:
            worker = loaded.processor.worker
            self.out.put(ev.RunsAskedBack(worker, tuple(wanted), self.out.cause))


def is_lined_up(record: TaskRecord | None, mask: int) -> bool:
    """Tells whether an entry of a line is still meant."""
    return record is not None and record.line == mask


def may_come_back(record: TaskRecord) -> bool:
    """Tells whether a task waits at its processor for inputs, and was not asked back."""
    return record.missing > 0 and record.state == "waiting" and not record.asked_back
