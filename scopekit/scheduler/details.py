"""Tells of a task that waits what it waits for, and what would let it go on sooner."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from scopekit.explanation import BEFORE, Awaited, Busy
from scopekit.graph import FINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.explanation import Explanation
    from scopekit.graph import TaskRecord
    from scopekit.scheduler.records import Records

__all__ = ("with_details", "with_load")

# A chain of inputs is followed so many tasks down.
_FOLLOWED = 1000


def with_details(explanation: Explanation, known: Records, task: int, now: float) -> Explanation:
    """Adds to the explanation of a task what it waits for.

    Args:
        explanation: what decided where it runs.
        known: the records of tasks and chunks.
        task: the task.
        now: the time, by the clock of its deadline.
    """
    record = known.tasks[task]
    if record.state in FINAL_STATES or record.state == "running":
        return explanation
    left = None if record.deadline is None else max(0.0, record.deadline - now)
    told = replace(
        explanation,
        missing=_missing(known, record),
        sent_to=record.processor,
        ahead=_ahead(known, record),
        seconds_left=left if record.state == "unmatched" else None,
    )
    return with_load(told, known) if record.state == "queued" else told


def with_load(explanation: Explanation, known: Records) -> Explanation:
    """Adds to an explanation what the processors have to run that may run the task."""
    loads = known.loads
    busy = []
    for processor in explanation.left:
        load = loads.by_processor.get(processor)
        if load is not None and not load.is_idle:
            busy.append(Busy(processor, len(load.tasks), load.seconds))
    return replace(explanation, busy=tuple(busy), idle=known.topology.select(loads.idle))


def _missing(known: Records, record: TaskRecord) -> tuple[Awaited, ...]:
    """Lists what a task waits for; and of that what waits for others, these."""
    direct = list(_awaited(known, record))
    found = {
        each.spec.id: Awaited(each.spec.name, origin, each.state, each.processor)
        for each, origin in direct
    }
    seen = {record.spec.id: None, **dict.fromkeys(found)}
    roots = []
    todo = deque(each for each, _ in direct if each.state == "waiting")
    while todo and len(seen) < _FOLLOWED:
        for each, _ in _awaited(known, todo.popleft()):
            if each.spec.id in seen:
                continue
            seen[each.spec.id] = None
            if each.state == "waiting":
                todo.append(each)
            else:
                roots.append(Awaited(each.spec.name, "", each.state, each.processor))
    return (*found.values(), *roots)


def _awaited(known: Records, record: TaskRecord) -> Iterator[tuple[TaskRecord, str]]:
    """Yields the tasks that are to end before another one, each with what it is to it."""
    for need in record.spec.inputs:
        chunk = known.chunks.get(need.chunk)
        maker = None if chunk is None or chunk.maker is None else known.tasks.get(chunk.maker)
        if maker is not None and chunk is not None and chunk.state == "pending":
            yield maker, need.origin
    if record.gates:
        for before in known.found(record.spec.after):
            if before.state not in FINAL_STATES:
                yield before, BEFORE


def _ahead(known: Records, record: TaskRecord) -> int:
    """Counts the tasks that come before one: at its processor, or in its line."""
    task = record.spec.id
    if record.processor is not None:
        load = known.loads.by_processor[record.processor]
        return _position(task, load.tasks)
    line = known.lines.get(record.line, ())
    return _position(task, [each for each in line if _stands_in(known, each, record.line)])


def _stands_in(known: Records, task: int, line: int) -> bool:
    record = known.tasks.get(task)
    return record is not None and record.line == line


def _position(task: int, tasks: dict[int, str] | list[int]) -> int:
    for place, each in enumerate(tasks):
        if each == task:
            return place
    return 0
