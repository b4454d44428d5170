"""A line in which tasks wait that have priorities."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("Ranked",)


class Ranked:
    """A line that is served by priority, and oldest first among equals.

    Most tasks have none, and wait in a deque: it takes the place of one, with all that wait
    there, when the first task with a priority comes.

    Args:
        tasks: those that wait already, in order, with priority 0.
    """

    def __init__(self, tasks: Iterable[int]) -> None:
        # In order, so that it is a heap.
        self._heap = [(0, number, task) for number, task in enumerate(tasks)]
        self._count = len(self._heap)

    def append(self, task: int) -> None:
        """Adds a task without a priority."""
        self.push(task, 0)

    def push(self, task: int, priority: int) -> None:
        """Adds a task with a priority."""
        heappush(self._heap, (-priority, self._count, task))
        self._count += 1

    def popleft(self) -> int:
        """Takes the next task away."""
        return heappop(self._heap)[2]

    @property
    def priority(self) -> int:
        """The priority of the next task."""
        return -self._heap[0][0]

    def above(self, priority: int) -> Iterator[int]:
        """Yields the tasks of more priority, the next one first."""
        return (task for rank, _, task in self._heap if -rank > priority)

    def __getitem__(self, place: int) -> int:
        return self._heap[place][2]

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[int]:
        return (task for _, _, task in sorted(self._heap))
