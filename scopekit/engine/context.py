"""The task that the current code runs in, with what is said around it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scopekit.graph import WorkerId
    from scopekit.scopes import Processor

__all__ = ("RunningTask", "around", "running_task")


class RunningTask(NamedTuple):
    """What code inside a task may know of it.

    Attributes:
        id: the number of the task in its session.
        name: what graphs and messages call it.
        processor: the processor that runs it.
        agent: what runs it.
    """

    id: int
    name: str
    processor: Processor
    agent: Any

    @property
    def node(self) -> str | None:
        """The name of the node, or None where it is not known."""
        name: str | None = self.agent.topology.node_of(self.processor.worker)
        return name

    @property
    def worker(self) -> WorkerId:
        """The worker that runs it."""
        return self.processor.worker

    def __repr__(self) -> str:
        return f"<running task {self.name} on {self.processor.describe()}>"


running_task: ContextVar[RunningTask | None] = ContextVar("scopekit_running_task", default=None)

around: ContextVar[Any] = ContextVar("scopekit_around", default=None)
"""What blocks around the current code say of the tasks that it spawns, None outside of any."""
