"""METG(50 %): how short tasks can be for half of the machine to do their work.

Both words are Task Bench's. The granularity of a run is the time of all cores, divided
by the number of tasks: what each task takes with all that is around it. The efficiency
is the work done, divided by what the cores could have done meanwhile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ("Point", "UntrustworthyError", "find_metg", "sweep")

HALF = 0.5
_IMPLAUSIBLE = 1.5
_SMALLEST = 2**4  # passes of about a microsecond each


class UntrustworthyError(Exception):
    """A sweep whose figures cannot be right."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size of tasks.

    Attributes:
        iterations: how many passes a task does.
        wall: seconds that the run took.
        granularity: seconds of a core for each task.
        efficiency: the part of the cores' time that was work.
    """

    iterations: int
    wall: float
    granularity: float
    efficiency: float

    def as_json(self) -> dict[str, float]:
        """Returns what a file is to keep of it; times are in seconds."""
        return asdict(self)


def sweep(
    wall: Callable[[int], float],
    per_pass: float,
    *,
    tasks: int,
    cores: int,
    first: int,
    largest: int,
) -> Iterator[Point]:
    """Yields sizes around the one at which efficiency falls below a half.

    It goes from the first size to larger ones until they are efficient, then to smaller
    ones until two in a row are not: one may be so by chance.

    Args:
        wall: runs tasks of so many passes and returns the seconds that they took.
        per_pass: seconds of a pass on a core that does nothing else.
        tasks: how many tasks a run has.
        cores: how many of them can run at a time.
        first: the passes of the first size, a power of two.
        largest: those of the largest.
    """

    def measured(iterations: int) -> Point:
        seconds = wall(iterations)
        granularity = seconds * cores / tasks
        return Point(iterations, seconds, granularity, iterations * per_pass / granularity)

    size = first
    while True:
        point = measured(size)
        yield point
        if point.efficiency >= HALF or size >= largest:
            break
        size *= 2
    # What was too small on the way up counts.
    wasteful = (size // first).bit_length() - 1
    size = min(size, first) // 2
    while wasteful < 2 and size >= _SMALLEST:  # noqa: PLR2004  # two in a row
        point = measured(size)
        yield point
        wasteful = wasteful + 1 if point.efficiency < HALF else 0
        size //= 2


def find_metg(points: Sequence[Point]) -> tuple[float, str]:
    """Returns the granularity at half the efficiency, in seconds.

    That is by a straight line between the smallest tasks that are efficient and the next
    smaller ones.

    Args:
        points: a sweep, in any order.

    Returns:
        The granularity and "", or a bound of it and "<" or ">" where the sweep has no
        point on one side.

    Raises:
        UntrustworthyError: cores seem to have done more than they can.

    Example:
        >>> find_metg([Point(8, 0, 8.0, 0.75), Point(4, 0, 6.0, 0.25)])
        (7.0, '')
        >>> find_metg([Point(8, 0, 8.0, 0.75)])
        (8.0, '<')
    """
    ordered = sorted(points, key=lambda point: -point.iterations)
    most = max(point.efficiency for point in ordered)
    if most >= _IMPLAUSIBLE:
        raise UntrustworthyError(
            f"an efficiency of {most:.2f}: a pass was not timed correctly, or the machine"
            " became faster"
        )
    efficient = [place for place, point in enumerate(ordered) if point.efficiency >= HALF]
    if not efficient:
        return max(point.granularity for point in ordered), ">"
    last = ordered[efficient[-1]]
    if efficient[-1] + 1 == len(ordered):
        return last.granularity, "<"
    after = ordered[efficient[-1] + 1]
    part = (last.efficiency - HALF) / (last.efficiency - after.efficiency)
    return last.granularity + part * (after.granularity - last.granularity), ""
