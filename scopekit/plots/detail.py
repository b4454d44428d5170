"""How much of each task a picture of this size can show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import TYPE_CHECKING

from scopekit.layout import Layout, arrange, wrapped
from scopekit.plots.words import width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scopekit.plots.scene import Lane, Mark, Scene

__all__ = ("TWO_LINES", "Size", "extent", "fit")

MAX_SIDE = 1700.0
# From this height on a box has room for the scope under the name.
TWO_LINES = 36
FOLDS = (48, 32, 24, 16, 10, 6)


@dataclass(frozen=True, slots=True)
class Size:
    """The measures of one level of detail, in pixels."""

    width: float
    height: float
    step: float
    slot: float
    name: float = 0.0
    badge: float = 0.0
    glyph: float = 0.0
    chip: float = 5.0
    round: float = 5.0

    def times(self, factor: float) -> Size:
        """Gives the same measures, larger or smaller."""
        return Size(*(getattr(self, name) * factor for name in self.__slots__))


FULL = Size(118, 40, 62, 56, name=11.5, badge=9.0, glyph=7.5)
SHORT = Size(92, 24, 44, 33, name=9.5, badge=7.5, glyph=6.0, chip=4.0, round=4.0)
MARKS = Size(20, 11, 18, 15, chip=3.0, round=2.0)


def fit(scene: Scene, lanes: Sequence[Lane]) -> tuple[Size, Layout]:
    """Chooses the most detailed level whose picture is not too large to be looked at."""
    items = scene.items(placed=bool(lanes))
    keys = [lane.key for lane in lanes]
    plain = arrange(items, keys)
    for size, side in ((FULL, 1350.0), (SHORT, MAX_SIDE)):
        roomy = _widened(size, scene.marks.values())
        wide = extent(roomy, plain)[0]
        layout = wrapped(plain, ceil(wide / side))
        width, height = extent(roomy, layout)
        if width <= side and height <= side * 0.75:
            return roomy, layout
    tallest = max(Counter((spot.lane, spot.rank) for spot in plain.spots.values()).values())
    # Folds and breaks cost the reader something, so they must better the shape by more.
    tried = [(0.0, plain)]
    tried += [(0.8, arrange(items, keys, tallest=rows)) for rows in FOLDS if rows < tallest]
    tried += [(penalty + 0.6, _paragraphs(layout)) for penalty, layout in tried]
    layout = min(tried, key=lambda entry: entry[0] + _awkward(*extent(MARKS, entry[1])))[1]
    width, height = extent(MARKS, layout)
    roomier = max(1.0, min(1.6, 1100 / width, 760 / height))
    return MARKS.times(min(roomier, MAX_SIDE / width, MAX_SIDE / height)), layout


def _paragraphs(layout: Layout) -> Layout:
    """Breaks a layout that is much wider than tall into lines of a page's shape."""
    width, height = extent(MARKS, layout)
    return wrapped(layout, max(1, round((width / max(height, 60.0) / 1.7) ** 0.5)))


def _widened(size: Size, marks: Iterable[Mark]) -> Size:
    longest = max((_words_width(size, mark) for mark in marks), default=0.0)
    return replace(size, width=min(1.5 * size.width, max(0.7 * size.width, longest + 28)))


def _words_width(size: Size, mark: Mark) -> float:
    beside = size.height < TWO_LINES and not mark.chunk
    badge = width_of(mark.paint.badge, size.badge) + 6 if beside else 0.0
    return width_of(mark.name, size.name) + badge


def extent(size: Size, layout: Layout) -> tuple[float, float]:
    """Tells how many pixels a layout takes at a level of detail."""
    return layout.columns * (size.width + size.step), layout.rows * size.slot


def _awkward(width: float, height: float) -> float:
    """Tells how far a picture is from a landscape page, and from a small one."""
    width, height = max(width, 300.0), max(height, 200.0)
    return abs(log2(width / height / 1.7)) + max(width, height) / 1200
