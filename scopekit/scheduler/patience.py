"""Since when tasks wait for a processor that they prefer."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Patience",)


class Patience:
    """Counts the time for which tasks wait.

    It goes by the client's clock alone, as engines have clocks of their own. So a task that
    begins to wait by the word of an engine begins when the client next tells the time, which
    it is asked for at once.

    Attributes:
        since: the tasks that wait, each since when; None until that is told.
    """

    def __init__(self) -> None:
        self.since: dict[int, float | None] = {}
        self._untold: dict[int, None] = {}
        self._due: list[tuple[float, int]] = []
        self._ends: dict[int, float] = {}

    def begin(self, task: int, seconds: float) -> None:
        """Has a task wait for so many seconds since it began to, unless it does so already."""
        since = self.since.setdefault(task, None)
        if since is None:
            self._untold[task] = None
            return
        ends = since + seconds
        if self._ends.get(task) != ends:
            self._ends[task] = ends
            if ends < inf:
                heappush(self._due, (ends, task))

    def end(self, task: int) -> None:
        """Forgets a task."""
        self.since.pop(task, None)
        self._untold.pop(task, None)
        self._ends.pop(task, None)

    def tell(self, at: float) -> list[int]:
        """Tells the time to those who began to wait, and returns them."""
        began, self._untold = list(self._untold), {}
        self.since.update(dict.fromkeys(began, at))
        return began

    def over(self, at: float) -> Iterator[int]:
        """Yields the tasks whose patience is over."""
        while self._due and self._due[0][0] <= at:
            ends, task = heappop(self._due)
            if self._ends.get(task) == ends:
                del self._ends[task]
                yield task

    def next(self) -> float | None:
        """Returns when somebody's patience is over; long ago if the time is to be told."""
        if self._untold:
            return -inf
        while self._due and self._ends.get(self._due[0][1]) != self._due[0][0]:
            heappop(self._due)
        return self._due[0][0] if self._due else None
