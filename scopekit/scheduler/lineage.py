"""Lineage: which tasks have to run again to make a lost chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.scheduler.placement import allowed_mask, never_meet

if TYPE_CHECKING:
    from scopekit.graph import ChunkRecord, TaskRecord
    from scopekit.scheduler.records import Records

__all__ = ("makers_to_run_again",)


def makers_to_run_again(
    lost: list[ChunkRecord], known: Records, at: float
) -> list[TaskRecord] | None:
    """Finds the tasks that make chunks again, with those that make what they need.

    Args:
        lost: the chunks.
        known: the records of tasks and chunks.
        at: the time, since a task may still wait for a processor.

    Returns:
        The tasks, each after those whose results it needs; None if one of them may not
        run again, is forgotten, or has no processor left that it may run on.
    """
    found: dict[int, TaskRecord] = {}
    todo = list(lost)
    while todo:
        chunk = todo.pop()
        if chunk.state in ("held", "pending"):
            continue
        record = None if chunk.maker is None else known.tasks.get(chunk.maker)
        if record is None or chunk.rescoped or not _may_run_again(record, known, at):
            return None
        # Again, where it was found before: what it needs must come before it.
        found.pop(record.spec.id, None)
        found[record.spec.id] = record
        for need in record.spec.inputs:
            needed = known.chunks.get(need.chunk)
            if needed is None:
                return None
            todo.append(needed)
    return list(reversed(found.values()))


def _may_run_again(record: TaskRecord, known: Records, at: float) -> bool:
    if record.state != "done" or record.call_forgotten or not record.spec.idempotent:
        return False
    operands = known.operands(record)
    if allowed_mask(operands, known.topology):
        return True
    can_wait = record.deadline is not None and at < record.deadline
    return can_wait and not never_meet(operands, known.topology)
