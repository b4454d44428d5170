"""The task that the current code runs in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scopekit.graph import WorkerId
    from scopekit.scopes import Processor

__all__ = ("RunningTask", "running_task")


@dataclass(frozen=True, slots=True)
class RunningTask:
    """What code inside a task may know of it.

    Attributes:
        id: the number of the task in its session.
        name: what graphs and messages call it.
        processor: the processor that runs it.
        node: the name of the node, or None where it is not known.
    """

    id: int
    name: str
    processor: Processor
    node: str | None
    agent: Any

    @property
    def worker(self) -> WorkerId:
        """The worker that runs it."""
        return self.processor.worker

    def __repr__(self) -> str:
        return f"<running task {self.name} on {self.processor.describe()}>"


running_task: ContextVar[RunningTask | None] = ContextVar("scopekit_running_task", default=None)
