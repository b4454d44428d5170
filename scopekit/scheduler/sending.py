"""Sends tasks to processors, from the lines in which they wait, or from others with more to do."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.lines import Ranked
from scopekit.scheduler.preferring import Preferring

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


class Sending(Preferring):
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
        if spec.prefer:
            self._lured.pop(spec.id, None)
            self._be_patient(record)
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
                # What was asked back goes elsewhere: the chunk may not be valid there now.
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
            oldest = min(served, key=self._order if self._ranked else self._age)
            if not self._serve_head(oldest):
                served.remove(oldest)

    def _age(self, mask: int) -> int:
        return self._lines[mask][0]

    def _order(self, mask: int) -> tuple[int, int]:
        """Says when a line is served: by the priority, then by the age, of its first task."""
        line = self._lines[mask]
        return -_priority_of(line), line[0]

    def _line_up(self, record: TaskRecord, mask: int) -> None:
        """Has a task wait until one of some processors has room."""
        record.line = mask
        task, priority = record.spec.id, record.spec.priority
        if not priority:
            self._lines.setdefault(mask, deque()).append(task)
            return
        line = self._ranked.get(mask)
        if line is None:
            line = self._lines[mask] = self._ranked[mask] = Ranked(self._lines.get(mask, ()))
        line.push(task, priority)

    def _lose_patience(self, at: float) -> None:
        """Looks after the tasks that have waited long enough for what they prefer."""
        for task in self.patience.tell(at):
            self._be_patient(self.tasks[task])
        for task in self.patience.over(at):
            record = self.tasks[task]
            if record.line:
                record.line = 0
                self._turn(record, "waiting")
                self._to_place.append(task)
            elif record.processor is not None and record.state == "queued":
                self._lure(record)

    def _wait_elsewhere(self, record: TaskRecord) -> bool:
        """Moves a task to another line if it is in that of processors that it does not take.

        It was there by another clock, or before others were to be removed.
        """
        if not record.spec.prefer or self._standing(record).takes == record.line:
            return False
        self._line_up(record, self._waits_for(record))
        return True

    def _not_outranked(self, record: TaskRecord) -> int:
        """Returns where a task may run, without those for which others of more priority wait."""
        priority, allowed = record.spec.priority, record.allowed
        if self._ranked or (priority < 0 and self._lines):
            for mask, line in self._lines.items():
                if mask & allowed and self._waits_above(line, mask, priority):
                    allowed &= ~mask
        return allowed

    def _waits_above(self, line: deque[int] | Ranked, mask: int, priority: int) -> bool:
        """Tells whether a task of more priority waits in a line."""
        if _priority_of(line) <= priority:
            return False
        # As a rule the first one does: what ended otherwise stays there only for a while.
        above = line.above(priority) if type(line) is Ranked else line
        return any(is_lined_up(self.tasks.get(task), mask) for task in above)

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
            choose = self._choose_preferred if record.spec.prefer else self._choose
            choice = choose(record, self._not_outranked(record), forced=False)
            if choice is None:
                return self._wait_elsewhere(record) and self._pop_head(mask)
            self._send(record, *choice)
        return self._pop_head(mask)

    def _pop_head(self, mask: int) -> bool:
        line = self._lines[mask]
        line.popleft()
        if not line:
            del self._lines[mask]
            self._ranked.pop(mask, None)
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
        self._spread(load)

    def _spread(self, load: Load) -> None:
        """Has a processor hand tasks back to those that are idle."""
        for idle in self.loads.some_idle():
            if idle is not load and self.loads.has_room(idle):
                self._ask_back(load, idle)

    def _spread_one(self, record: TaskRecord) -> None:
        """Has a task go to an idle processor that would wait behind one that takes long."""
        assert record.processor is not None
        load = self.loads.by_processor[record.processor]
        if not load.keeps_waiting or not _is_movable(record):
            return
        for idle in self.loads.some_idle():
            if self.loads.has_room(idle) and self._is_better_off(record, load, idle):
                self._ask_for(load, [record])
                return

    def _ask_back_for(self, idle: Load) -> None:
        """Asks the processor with the most work for tasks that an idle one may run."""
        loaded = self.loads.busiest(self.topology.everything, _WORTH_ASKING)
        if loaded is not None and self.loads.has_room(idle):
            self._ask_back(loaded, idle)

    def _is_better_off(self, record: TaskRecord, loaded: Load, idle: Load) -> bool:
        """Tells whether a task may go to an idle processor, and would be done sooner there."""
        if not self._allowed_now(record) & idle.bit:
            return False
        if record.spec.inputs:
            moving = self._seconds_to_move(record, idle.processor.worker)
            if moving >= loaded.seconds:
                return False
        return not record.spec.prefer or self._may_be_lured(record, loaded, idle)

    def _ask_back(self, loaded: Load, idle: Load) -> None:
        wanted: list[TaskRecord] = []
        if self._begins_its_only_one(loaded):
            return
        ahead = len(loaded.tasks) + len(loaded.lingering)
        most = min(_ASKED_AT_ONCE, len(loaded.tasks), ahead // 2)
        for task in islice(reversed(loaded.tasks), _LOOKED_AT):
            if len(wanted) >= most:
                break
            record = self.tasks[task]
            if _is_movable(record) and self._is_better_off(record, loaded, idle):
                wanted.append(record)
        if wanted:
            self._ask_for(loaded, wanted)

    def _begins_its_only_one(self, load: Load) -> bool:
        """Tells whether all that a processor has waits for inputs, but for one task.

        That one begins there at once, so it is no better off elsewhere, and might go round.
        """
        if load.running or load.lingering or len(load.tasks) > _LOOKED_AT:
            return False
        return sum(self.tasks[task].state != "waiting" for task in load.tasks) == 1

    def _ask_for(self, load: Load, records: list[TaskRecord]) -> None:
        """Asks a processor for tasks of it that have not begun."""
        for record in records:
            record.asked_back = True
        wanted = tuple(record.spec.id for record in records)
        self.out.put(ev.RunsAskedBack(load.processor.worker, wanted, self.out.cause))


def _priority_of(line: deque[int] | Ranked) -> int:
    """Returns the priority of the first task of a line."""
    return line.priority if type(line) is Ranked else 0


def _is_movable(record: TaskRecord) -> bool:
    """Tells whether a task may go to another processor if it has not begun at its own."""
    return record.state == "queued" and not record.asked_back and not record.suspected


def is_lined_up(record: TaskRecord | None, mask: int) -> bool:
    """Tells whether an entry of a line is still meant."""
    return record is not None and record.line == mask


def may_come_back(record: TaskRecord) -> bool:
    """Tells whether a task waits at its processor for inputs, and was not asked back."""
    return record.missing > 0 and record.state == "waiting" and not record.asked_back
