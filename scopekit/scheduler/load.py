"""Load: how much work each processor still has, by what such tasks took before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopekit.scopes import Processor

__all__ = ("Durations", "Load")

# A function that never ran counts as long, so that the first of its tasks go out one
# to a processor; once its duration is known, short ones are sent in bulk.
_UNKNOWN = 0.05
_SHORTEST = 20e-6
_WEIGHT = 0.3
_KNOWN_FUNCTIONS = 10_000


class Durations:
    """Learns how long the tasks of each function take, in seconds."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def estimate(self, function: str) -> float:
        """Returns the expected duration of a task, in seconds."""
        return self._seconds.get(function, _UNKNOWN)

    def learn(self, function: str, seconds: float) -> None:
        """Takes one measured duration into account."""
        seconds = max(seconds, _SHORTEST)
        known = self._seconds.pop(function, seconds)
        self._seconds[function] = known + _WEIGHT * (seconds - known)
        if len(self._seconds) > _KNOWN_FUNCTIONS:
            del self._seconds[next(iter(self._seconds))]


@dataclass(slots=True)
class Load:
    """The work that one processor was given and has not finished.

    Attributes:
        durations: what is known of the functions, asked anew each time: what was
            sent before the first duration came in weighs by what is known since.
        budget: seconds of work beyond which a processor is given no more; enough to
            bridge the way to the engine and back, little enough to stay movable.
    """

    processor: Processor
    durations: Durations
    budget: float = 0.05
    tasks: int = 0
    last_used: int = 0
    _by_function: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The work still to do, in seconds."""
        return sum(
            count * self.durations.estimate(function)
            for function, count in self._by_function.items()
        )

    @property
    def has_room(self) -> bool:
        """Tells whether another task may be sent."""
        return self.tasks == 0 or self.seconds < self.budget

    def add(self, function: str, turn: int) -> None:
        """Counts a task in."""
        self._by_function[function] = self._by_function.get(function, 0) + 1
        self.tasks += 1
        self.last_used = turn

    def remove(self, function: str) -> None:
        """Counts a task out."""
        self.tasks -= 1
        self._by_function[function] -= 1
        if not self._by_function[function]:
            del self._by_function[function]
