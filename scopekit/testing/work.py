"""What simulated engines have: values, tasks that wait, tasks that run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.scopes import Processor, Scope
    from scopekit.testing.acts import Spawn

__all__ = ("Held", "Parcel", "Pending", "Run", "TaskError", "value_of")


class TaskError(Exception):
    """What a simulated task raises."""


class Held(NamedTuple):
    """A value with what a store knows of it.

    Attributes:
        stuck: True if it does not pickle.
        version: that of the topology by which it was sent here.
    """

    value: int
    scope: Scope
    processor: Processor
    stuck: bool
    version: int = 0


class Parcel(NamedTuple):
    """What one engine sends another: a chunk, or the word that it may not be had."""

    chunk: int
    held: Held | None
    scope: Scope


class Pending:
    """A task that was ordered and has not begun."""

    __slots__ = ("missing", "processor", "since", "spawn")

    def __init__(self, spawn: Spawn, processor: Processor, since: float) -> None:
        self.spawn = spawn
        self.processor = processor
        self.since = since
        self.missing = 0


class Run:
    """A task that runs.

    Attributes:
        stopped: True once it was told to stop: then it gives no value.
        late: True if that is since it took too long.
    """

    __slots__ = ("late", "pending", "started", "stopped", "values")

    def __init__(self, pending: Pending, started: float, values: list[int]) -> None:
        self.pending = pending
        self.started = started
        self.values = values
        self.stopped = self.late = False


def value_of(task: int, output: int, inputs: Iterable[int]) -> int:
    """Computes a result: a number that tells the task with all that went into it."""
    return hash((task, output, *inputs))
