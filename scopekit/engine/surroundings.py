"""What scopes refer to that are written inside a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scopekit.engine.context import running_task

if TYPE_CHECKING:
    from scopekit.graph import WorkerId
    from scopekit.places import Topology

__all__ = ("Here", "task_surroundings")


@dataclass(frozen=True, slots=True)
class Here:
    """A topology, seen from one of its processes."""

    topology: Topology
    here: WorkerId

    def __getattr__(self, name: str) -> Any:
        return getattr(self.topology, name)


def task_surroundings() -> Here | None:
    """Returns what the running task sees, None outside of tasks."""
    task = running_task.get()
    return None if task is None else Here(task.agent.topology, task.worker)
