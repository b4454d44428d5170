"""A scheduler under watch: no record of it changes its state in a way that the tables lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from scopekit.graph import ChunkRecord, TaskRecord
from scopekit.scheduler.states import CHUNK_MOVES, TASK_MOVES

if TYPE_CHECKING:
    from scopekit.scheduler import Scheduler

__all__ = ("Violation", "watch")

TASK_STATE = TaskRecord.__dict__["state"]
CHUNK_STATE = ChunkRecord.__dict__["state"]


class Violation(AssertionError):  # noqa: N818  # what it is, rather than that it is one
    """What must not be is.

    Attributes:
        rule: the name of what was broken, such as ``"I5"``.
    """

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def _move_task(record: TaskRecord, state: Any) -> None:
    before = TASK_STATE.__get__(record)
    if before != state and (before, state) not in TASK_MOVES:
        raise Violation("moves", f"task {record.spec.id} went from {before} to {state}")
    TASK_STATE.__set__(record, state)


def _move_chunk(record: ChunkRecord, state: Any) -> None:
    before = CHUNK_STATE.__get__(record)
    if before != state and (before, state) not in CHUNK_MOVES:
        raise Violation("moves", f"chunk {record.id} went from {before} to {state}")
    CHUNK_STATE.__set__(record, state)


class _Task(TaskRecord):
    __slots__ = ()
    # Read often and set seldom, so reading stays as fast as it was.
    state = cast("Any", property(TASK_STATE.__get__, _move_task))


class _Chunk(ChunkRecord):
    __slots__ = ()
    state = cast("Any", property(CHUNK_STATE.__get__, _move_chunk))


class _Watched(dict[int, Any]):
    """A table whose records become of a class that looks at each move."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self._kind = kind

    def __setitem__(self, key: int, record: Any) -> None:
        # The layout is the same; what differs is what happens when the state is set.
        record.__class__ = self._kind
        super().__setitem__(key, record)


def watch(scheduler: Scheduler) -> None:
    """Puts a scheduler that is still empty under watch."""
    scheduler.tasks = _Watched(_Task)
    scheduler.table.records = _Watched(_Chunk)
