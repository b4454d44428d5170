"""Where each task of a graph stands in a picture.

A picture is a grid: a column per dependency rank, a band per lane, slots inside a
band. Nothing here knows pixels, colours or scopes, so that the plots, the report
and the widget can share one arrangement.

The first arrangement is the incremental one that a live view keeps: a task's slot
is the damped mean of its inputs' slots, or the nearest free one, and nothing that
stands is moved. A still picture is then tidied: barycentre sweeps order each rank,
a least-squares fit under the spacing rule straightens the edges, and a rank too
tall to be seen is folded into several columns.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ("Band", "Bar", "Item", "Layout", "Spot", "arrange", "pack", "ranks", "slots", "wrapped")

SWEEPS = 8
LANE_GAP = 0.5
LINE_GAP = 1.0
# A long edge reserves this share of a slot in each rank that it crosses.
WAY_SIZE = 0.4
# Past this many the reserved ways cost more than the crossings they save.
MAX_WAYS = 3000


@dataclass(frozen=True, slots=True)
class Item:
    """One task to place: its key, the keys it takes input from, its lane."""

    key: int
    inputs: tuple[int, ...] = ()
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one item stands: column to the right, row downwards, both in steps."""

    column: float
    row: float
    rank: int
    lane: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Band:
    """One lane's share of the rows, in one line of the picture."""

    lane: str
    top: float
    height: float
    line: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """A finished arrangement.

    Attributes:
        spots: the place of every item.
        bands: the lanes from top to bottom.
        routes: the points between the two ends of an edge that crosses ranks.
        columns: the width of the picture in steps.
        rows: its height in steps.
        breaks: the rows between the lines of a wrapped layout.
    """

    spots: Mapping[int, Spot]
    bands: tuple[Band, ...]
    routes: Mapping[tuple[int, int], tuple[tuple[float, float], ...]]
    columns: float
    rows: float
    breaks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval of a timeline and the sub-row that it got."""

    key: int
    start: float
    end: float
    row: int


def ranks(items: Iterable[Item]) -> dict[int, int]:
    """Gives each item one more than the highest rank among its inputs."""
    known = {item.key: item for item in items}
    missing = {
        key: sum(1 for source in dict.fromkeys(item.inputs) if source in known)
        for key, item in known.items()
    }
    takers: dict[int, list[int]] = {key: [] for key in known}
    for key, item in known.items():
        for source in dict.fromkeys(item.inputs):
            if source in known:
                takers[source].append(key)
    found = dict.fromkeys(known, 0)
    ready = deque(key for key, count in missing.items() if count == 0)
    while ready:
        key = ready.popleft()
        for taker in takers[key]:
            found[taker] = max(found[taker], found[key] + 1)
            missing[taker] -= 1
            if missing[taker] == 0:
                ready.append(taker)
    return found


@dataclass(slots=True)
class _Free:
    """The free slots of one rank in one lane, found without walking over taken ones."""

    up: dict[int, int] = field(default_factory=dict)
    down: dict[int, int] = field(default_factory=dict)

    @staticmethod
    def _follow(links: dict[int, int], slot: int) -> int:
        trail = []
        while slot in links:
            trail.append(slot)
            slot = links[slot]
        for passed in trail:
            links[passed] = slot
        return slot

    def take(self, wanted: int) -> int:
        above = self._follow(self.up, wanted)
        below = self._follow(self.down, wanted)
        slot = below if below >= 0 and wanted - below < above - wanted else above
        self.up[slot] = slot + 1
        self.down[slot] = slot - 1
        return slot


def slots(items: Sequence[Item], rank: Mapping[int, int] | None = None) -> dict[int, int]:
    """Gives each item the free slot nearest to its inputs, in the order of arrival."""
    rank = ranks(items) if rank is None else rank
    lanes = {item.key: item.lane for item in items}
    free: dict[tuple[str, int], _Free] = {}
    children: dict[int, int] = {}
    found: dict[int, int] = {}
    for item in items:
        near = [key for key in item.inputs if key in found and lanes[key] == item.lane]
        weights = [1 / (1 + children.get(key, 0)) for key in near]
        wanted = 0
        if near:
            total = sum(weight * found[key] for weight, key in zip(weights, near, strict=True))
            wanted = round(total / sum(weights))
        column = free.setdefault((item.lane, rank[item.key]), _Free())
        found[item.key] = column.take(wanted)
        for key in item.inputs:
            children[key] = children.get(key, 0) + 1
    return found


@dataclass(slots=True)
class _Lane:
    """The items and the ways of one lane, rank by rank, while they are arranged."""

    ranks: dict[int, list[int]]
    size: dict[int, float]
    before: dict[int, list[int]]
    after: dict[int, list[int]]
    row: dict[int, float]

    def sweep(self, *, forward: bool) -> None:
        near = self.before if forward else self.after
        for rank in sorted(self.ranks, reverse=not forward):
            wanted = {key: self._mean(key, near[key]) for key in self.ranks[rank]}
            self.ranks[rank].sort(key=lambda key: (wanted[key], self.row[key]))
            self._settle(rank, wanted)

    def balance(self) -> None:
        for rank in sorted(self.ranks):
            wanted = {
                key: self._mean(key, self.before[key] + self.after[key]) for key in self.ranks[rank]
            }
            self._settle(rank, wanted)

    def _mean(self, key: int, near: list[int]) -> float:
        return sum(self.row[other] for other in near) / len(near) if near else self.row[key]

    def _settle(self, rank: int, wanted: Mapping[int, float]) -> None:
        order = self.ranks[rank]
        gaps = [(self.size[a] + self.size[b]) / 2 for a, b in pairwise(order)]
        weights = [1.0 + len(self.before[key]) + len(self.after[key]) for key in order]
        rows = spread([wanted[key] for key in order], gaps, weights)
        self.row.update(zip(order, rows, strict=True))

    def compact(self) -> None:
        """Closes the stretches of rows in which no rank has anything."""
        half = {key: size / 2 for key, size in self.size.items()}
        end = shift = min((row - half[key] for key, row in self.row.items()), default=0.0)
        starts, shifts = [end], [end]
        for low, high in sorted(
            (row - half[key], row + half[key]) for key, row in self.row.items()
        ):
            if low > end:
                shift += low - end
                starts.append(low)
                shifts.append(shift)
            end = max(end, high)
        for key, row in self.row.items():
            self.row[key] = row - shifts[bisect_right(starts, row - half[key]) - 1]

    def height(self) -> float:
        return max((row + self.size[key] / 2 for key, row in self.row.items()), default=1.0)


def spread(wanted: Sequence[float], gaps: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Moves ordered points as little as their spacing allows, in least squares."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, float, int]] = []
    for want, offset, weight in zip(wanted, offsets, weights, strict=False):
        block = (want - offset, weight, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, mass, count = blocks.pop()
            total = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    fitted = [mean for mean, _, count in blocks for _ in range(count)]
    return [value + offset for value, offset in zip(fitted, offsets, strict=False)]


def arrange(
    items: Sequence[Item],
    lanes: Sequence[str] | None = None,
    *,
    tallest: int | None = None,
) -> Layout:
    """Arranges items in ranks from left to right, each inside the band of its lane.

    Args:
        items: what to place; inputs that are not among them are passed over.
        lanes: the bands from top to bottom, empty ones included; by default the
            lanes in use in the order of their first item.
        tallest: the most slots that one rank may take in one band before it is
            folded into several columns.
    """
    rank = ranks(items)
    order = list(dict.fromkeys([*(lanes or ()), *(item.lane for item in items)]))
    first = slots(items, rank)
    folded = _folded(items, rank, tallest)
    ways = {} if folded else _ways(items, rank)
    parts = {lane: _lane(items, lane, rank, first, ways) for lane in order}
    for part in parts.values():
        _tidy(part)
        if folded and tallest is not None:
            _fold(part, tallest)
    return _assemble(items, rank, parts, ways, tallest if folded else None)


def _folded(items: Sequence[Item], rank: Mapping[int, int], tallest: int | None) -> bool:
    counts: dict[tuple[str, int], int] = {}
    for item in items:
        place = (item.lane, rank[item.key])
        counts[place] = counts.get(place, 0) + 1
    return tallest is not None and max(counts.values(), default=0) > tallest


def _ways(items: Sequence[Item], rank: Mapping[int, int]) -> dict[int, list[int]]:
    """Reserves one way point per source in every rank that its edges cross.

    The way points of one source are shared by all of its takers, so that a value
    used in many later ranks is drawn as one bundle. Their keys are negative.
    """
    lanes = {item.key: item.lane for item in items}
    reach: dict[int, int] = {}
    for item in items:
        for source in item.inputs:
            if source in rank and lanes[source] == item.lane:
                reach[source] = max(reach.get(source, 0), rank[item.key])
    total = sum(max(0, last - rank[source] - 1) for source, last in reach.items())
    if total > MAX_WAYS:
        return {}
    ways: dict[int, list[int]] = {}
    spare = min((0, *rank)) - 1
    for source, last in sorted(reach.items()):
        count = last - rank[source] - 1
        if count > 0:
            ways[source] = list(range(spare, spare - count, -1))
            spare -= count
    return ways


def _lane(
    items: Sequence[Item],
    lane: str,
    rank: Mapping[int, int],
    first: Mapping[int, int],
    ways: Mapping[int, list[int]],
) -> _Lane:
    mine = {item.key: item for item in items if item.lane == lane}
    part = _Lane({}, {}, {}, {}, {})
    for key in mine:
        _enter(part, key, rank[key], float(first[key]), 1.0)
    for source, points in ways.items():
        if source in mine:
            chain = [source, *points]
            for step, point in enumerate(points, start=1):
                _enter(part, point, rank[source] + step, first[source] + 0.01, WAY_SIZE)
            for left, right in pairwise(chain):
                _join(part, left, right)
    for key, item in mine.items():
        for source in dict.fromkeys(item.inputs):
            if source in mine:
                chain = [source, *ways.get(source, ())]
                hop = rank[key] - rank[source] - 1
                _join(part, chain[hop] if hop < len(chain) else source, key)
    for keys in part.ranks.values():
        keys.sort(key=lambda key: (part.row[key], key))
    return part


def _enter(part: _Lane, key: int, rank: int, row: float, size: float) -> None:
    part.ranks.setdefault(rank, []).append(key)
    part.size[key], part.row[key] = size, row
    part.before[key], part.after[key] = [], []


def _join(part: _Lane, left: int, right: int) -> None:
    part.after[left].append(right)
    part.before[right].append(left)


def _tidy(part: _Lane) -> None:
    for turn in range(SWEEPS):
        part.sweep(forward=turn % 2 == 0)
    for _ in range(SWEEPS // 2):
        part.balance()
    part.compact()


def _fold(part: _Lane, tallest: int) -> None:
    height = max((_rows(len(keys), tallest) for keys in part.ranks.values()), default=1)
    for keys in part.ranks.values():
        rows = _rows(len(keys), tallest)
        for place, key in enumerate(keys):
            part.row[key] = (height - rows) / 2 + place % rows + 0.5


def _rows(count: int, tallest: int) -> int:
    return ceil(count / ceil(count / tallest))


def _assemble(
    items: Sequence[Item],
    rank: Mapping[int, int],
    parts: Mapping[str, _Lane],
    ways: Mapping[int, list[int]],
    tallest: int | None,
) -> Layout:
    starts, columns = _columns(rank, parts, tallest)
    bands: list[Band] = []
    top = 0.0
    for lane in parts:
        height = max(1.0, parts[lane].height())
        bands.append(Band(lane, top, height))
        top += height + LANE_GAP
    tops = {band.lane: band.top for band in bands}
    spots: dict[int, Spot] = {}
    for lane, part in parts.items():
        for level, keys in part.ranks.items():
            rows = _rows(len(keys), tallest) if tallest else len(keys)
            for place, key in enumerate(keys):
                column = starts[level] + place // rows
                spots[key] = Spot(column, tops[lane] + part.row[key], level, lane)
    routes = _routes(items, rank, ways, spots)
    mine = {item.key: spots[item.key] for item in items}
    return Layout(mine, tuple(bands), routes, columns, max(0.0, top - LANE_GAP))


def _columns(
    rank: Mapping[int, int], parts: Mapping[str, _Lane], tallest: int | None
) -> tuple[list[int], int]:
    starts: list[int] = []
    column = 0
    for level in range(max(rank.values(), default=-1) + 1):
        starts.append(column)
        widest = max(len(part.ranks.get(level, ())) for part in parts.values())
        column += ceil(widest / tallest) if tallest else 1
    return starts, column


def _routes(
    items: Sequence[Item],
    rank: Mapping[int, int],
    ways: Mapping[int, list[int]],
    spots: Mapping[int, Spot],
) -> dict[tuple[int, int], tuple[tuple[float, float], ...]]:
    routes = {}
    for item in items:
        for source in item.inputs:
            points = ways.get(source, [])[: max(0, rank[item.key] - rank.get(source, 0) - 1)]
            if points and spots[source].lane == item.lane:
                route = tuple((spots[point].column, spots[point].row) for point in points)
                routes[source, item.key] = route
    return routes


def wrapped(layout: Layout, lines: int) -> Layout:
    """Breaks a layout that is too wide into lines, the way that text is broken.

    Every line has all the bands, as every line of a score has all the staves. A route
    that stays within a line is kept; across lines it has no meaning.
    """
    if lines <= 1 or layout.columns <= 1:
        return layout
    width = ceil(layout.columns / lines)
    leading = layout.rows + LINE_GAP
    spots: dict[int, Spot] = {}
    for key, spot in layout.spots.items():
        line = int(spot.column // width)
        row = spot.row + line * leading
        spots[key] = Spot(spot.column % width, row, spot.rank, spot.lane, line)
    routes = {}
    for (source, target), points in layout.routes.items():
        line = spots[source].line
        if line == spots[target].line:
            moved = tuple((column % width, row + line * leading) for column, row in points)
            routes[source, target] = moved
    lines = ceil(layout.columns / width)
    height = lines * leading - LINE_GAP
    breaks = tuple(line * leading - LINE_GAP / 2 for line in range(1, lines))
    bands = tuple(
        Band(band.lane, band.top + line * leading, band.height, line)
        for line in range(lines)
        for band in layout.bands
    )
    return Layout(spots, bands, routes, width, height, breaks)


def pack(intervals: Iterable[tuple[int, float, float]]) -> list[Bar]:
    """Gives each interval the first sub-row that is free when it starts."""
    ends: list[float] = []
    bars: list[Bar] = []
    for key, start, end in sorted(intervals, key=lambda entry: (entry[1], entry[2], entry[0])):
        row = next((row for row, last in enumerate(ends) if last <= start), len(ends))
        if row == len(ends):
            ends.append(end)
        else:
            ends[row] = end
        bars.append(Bar(key, start, end, row))
    return bars
