"""The task graphs of Task Bench: rows of points, each of which needs points of the row before.

Slaughter et al., "Task Bench: A Parameterized Benchmark for Evaluating Parallel Runtime
Performance", SC 2020. Where its text and its code differ, this follows the code.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("PATTERNS", "Graph")

_PERIOD = 3
_FRACTION = 0.25


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph.

    Attributes:
        pattern: the name of its pattern, one of :data:`PATTERNS`.
        timesteps: how many rows it has.
        width: how many points the widest row has.
        radix: how many points of the row before a point needs, for patterns that leave
            it open.
        number: tells graphs apart whose edges are drawn.

    Example:
        >>> graph = Graph("stencil_1d", timesteps=6, width=8)
        >>> graph.inputs(1, 0), graph.inputs(1, 4)
        ((0, 1), (3, 4, 5))
        >>> graph.tasks(), graph.edges()
        (48, 110)
    """

    pattern: str
    timesteps: int
    width: int
    radix: int = 3
    number: int = 0

    def row(self, t: int) -> range:
        """Returns the points of row ``t``; there are none before the first."""
        if t < 0:
            return range(0)
        if self.pattern == "dom":
            first = max(0, t + self.width - self.timesteps)
            return range(first, first + min(self.width, t + 1, self.timesteps - t))
        if self.pattern == "tree":
            # Rows beyond this one are as wide as can be.
            return range(min(self.width, 1 << min(t, self.width.bit_length())))
        return range(self.width)

    def inputs(self, t: int, i: int) -> tuple[int, ...]:
        """Returns the points of the row before that point ``i`` of row ``t`` needs, in order."""
        before = self.row(t - 1)
        return tuple(j for j in PATTERNS[self.pattern](self, t, i) if j in before)

    def points(self) -> Iterator[tuple[int, int]]:
        """Yields row and place of each point, row by row."""
        for t in range(self.timesteps):
            for i in self.row(t):
                yield t, i

    def tasks(self) -> int:
        """Counts the points."""
        return sum(len(self.row(t)) for t in range(self.timesteps))

    def edges(self) -> int:
        """Counts what points need of the rows before."""
        return sum(len(self.inputs(t, i)) for t, i in self.points())

    def crossing(self, owner: Callable[[int], object]) -> int:
        """Counts the edges between points of two owners, where each column has one."""
        return sum(owner(j) != owner(i) for t, i in self.points() for j in self.inputs(t, i))


# -- what a point needs of the row before ----------------------------------------------------


def _trivial(_graph: Graph, _t: int, _i: int) -> tuple[int, ...]:
    return ()


def _no_comm(_graph: Graph, _t: int, i: int) -> tuple[int, ...]:
    return (i,)


def _stencil_1d(_graph: Graph, _t: int, i: int) -> tuple[int, ...]:
    return (i - 1, i, i + 1)


def _stencil_1d_periodic(graph: Graph, _t: int, i: int) -> tuple[int, ...]:
    # In a narrow row both neighbours may be one.
    around = dict.fromkeys((i + step) % graph.width for step in (-1, 0, 1))
    return tuple(sorted(around))


def _dom(_graph: Graph, _t: int, i: int) -> tuple[int, ...]:
    return (i - 1, i)


def _tree(_graph: Graph, _t: int, i: int) -> tuple[int, ...]:
    return (i // 2,)


def _fft(graph: Graph, t: int, i: int) -> tuple[int, ...]:
    stages = max(1, (graph.width - 1).bit_length())
    step = 1 << ((t + stages - 1) % stages)
    return (i - step, i, i + step)


def _all_to_all(graph: Graph, _t: int, _i: int) -> tuple[int, ...]:
    return tuple(range(graph.width))


def _nearest(graph: Graph, _t: int, i: int) -> tuple[int, ...]:
    if not graph.radix:
        return ()
    return tuple(range(i - graph.radix // 2, i + (graph.radix - 1) // 2 + 1))


def _spread(graph: Graph, t: int, i: int) -> tuple[int, ...]:
    shift = t % _PERIOD
    return tuple(
        (i + k * graph.width // graph.radix + (shift if k else 0)) % graph.width
        for k in range(graph.radix)
    )


def _random_nearest(graph: Graph, t: int, i: int) -> tuple[int, ...]:
    return tuple(
        j
        for j in _nearest(graph, t, i)
        if j == i or _uniform(graph.number, graph.radix, t % _PERIOD, j, i) < _FRACTION
    )


def _uniform(*numbers: int) -> float:
    """Returns a number from 0 to 1, always the same for the same numbers.

    By another hash than Task Bench's own: graphs of the same kind, with other edges.
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return float(int.from_bytes(digest, "little") / 2**64)


PATTERNS: dict[str, Callable[[Graph, int, int], tuple[int, ...]]] = {
    "trivial": _trivial,
    "no_comm": _no_comm,
    "stencil_1d": _stencil_1d,
    "stencil_1d_periodic": _stencil_1d_periodic,
    "dom": _dom,
    "tree": _tree,
    "fft": _fft,
    "all_to_all": _all_to_all,
    "nearest": _nearest,
    "spread": _spread,
    "random_nearest": _random_nearest,
}
