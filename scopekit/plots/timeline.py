"""The picture of what ran where, over time."""

# ruff: noqa: PLR2004 - a measure in pixels is best read where it is used

from __future__ import annotations

from dataclasses import replace
from math import floor, log10
from typing import TYPE_CHECKING, Any, Literal

from scopekit.layout import pack
from scopekit.plots.canvas import HEAD, MARGIN, Canvas
from scopekit.plots.legend import Legend, heading, node_strip
from scopekit.plots.painter import Painter
from scopekit.plots.scene import Scene, graph_of, theme_named
from scopekit.plots.words import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scopekit.encoding import Theme
    from scopekit.plots.canvas import Box
    from scopekit.plots.scene import Mark

__all__ = ("plot_timeline", "ticks")


def plot_timeline(
    source: Any = None,
    *,
    ax: Axes | None = None,
    theme: Literal["light", "dark"] | Theme = "light",
    title: str | None = None,
) -> Figure:
    """Draws what ran where and when: a row per processor, a bar per task.

    Args:
        source: a session, or the graph that ``session.graph()`` gives; by default the
            current session.
        ax: matplotlib axes to draw into; by default a new figure.
        theme: ``"light"`` or ``"dark"`` paper, or a theme of your own.
        title: the heading; by default the session's name.

    Returns:
        The figure, which a notebook shows by itself.
    """
    return Timeline(theme_named(theme), Scene(graph_of(source), title)).draw(ax)


class Timeline:
    """The picture of what ran where and when."""

    LABEL = 168.0
    STRIP = 26.0
    WIDTH = 1150.0

    def __init__(self, theme: Theme, scene: Scene) -> None:
        self.theme, self.scene = theme, scene
        ran = [mark for mark in scene.marks.values() if _ran(mark)]
        self.ran = ran
        times = [time for mark in ran for time in (mark.started, mark.finished) if time is not None]
        self.begin = min(times, default=0.0)
        self.end = max(times, default=1.0)
        if self.end <= self.begin:
            self.end = self.begin + 1e-3
        if any(mark.finished is None for mark in ran):
            self.end += 0.04 * (self.end - self.begin)
        self.lanes = [lane for lane in scene.lanes() if lane.key]
        self.rows = self._packed()
        count = sum(max(1, depth) for depth, _ in self.rows.values())
        self.row = max(7.0, min(26.0, 900 / max(1, count)))
        self.strip = self.STRIP if len({lane.node for lane in self.lanes}) > 1 else 0.0
        self.left = MARGIN + self.strip + self.LABEL
        self.right = self.WIDTH - MARGIN - 8
        told = [mark if mark.state != "done" else replace(mark, state="") for mark in ran]
        self.legend = Legend(told, self.WIDTH - 2 * MARGIN)

    def _packed(self) -> dict[str, tuple[int, list[tuple[int, Mark]]]]:
        rows: dict[str, tuple[int, list[tuple[int, Mark]]]] = {}
        for lane in self.lanes:
            mine = {mark.key: mark for mark in self.ran if self.scene.lane_key(mark) == lane.key}
            bars = pack((key, mark.started or 0.0, self._until(mark)) for key, mark in mine.items())
            depth = max((bar.row for bar in bars), default=0) + 1
            rows[lane.key] = depth, [(bar.row, mine[bar.key]) for bar in bars]
        return rows

    def _until(self, mark: Mark) -> float:
        return self.end if mark.finished is None else mark.finished

    def draw(self, ax: Axes | None) -> Figure:
        gap = min(6.0, self.row * 0.25)
        spans, y, node = {}, HEAD + 14, None
        for lane in self.lanes:
            y += 8 if node not in {None, lane.node} else 0
            node = lane.node
            height = self.rows[lane.key][0] * self.row
            spans[lane.key] = (y, height)
            y += height + gap
        bottom = max(y, HEAD + 50)
        height = bottom + 40 + self.legend.height
        canvas = Canvas(self.theme, self.WIDTH, height, ax)
        painter = Painter(canvas)
        heading(canvas, self.scene, self.WIDTH)
        self._axis(canvas, HEAD + 8, bottom)
        self._rows(painter, spans)
        if not self.ran:
            canvas.text(
                self.WIDTH / 2, HEAD + 30, "nothing has run yet", 11, self.theme.muted, ha="center"
            )
        self.legend.draw(painter, MARGIN, bottom + 32, self.WIDTH - 2 * MARGIN)
        figure: Figure = canvas.figure
        return figure

    def _x(self, time: float) -> float:
        share = (time - self.begin) / (self.end - self.begin)
        return self.left + share * (self.right - self.left)

    def _axis(self, canvas: Canvas, top: float, bottom: float) -> None:
        marks = list(ticks(self.end - self.begin))
        xs = [self._x(self.begin + offset) for offset, _ in marks]
        canvas.lines(
            [[(x, top), (x, bottom)] for x in xs],
            colors=self.theme.faint,
            linewidths=[1.0],
            zorder=0.5,
        )
        for x, (_, text) in zip(xs, marks, strict=True):
            canvas.text(x, bottom + 11, text, 9.5, self.theme.muted, ha="center", va="center")

    def _rows(self, painter: Painter, spans: Mapping[str, tuple[float, float]]) -> None:
        canvas = painter.canvas
        small: list[tuple[Box, Mark]] = []
        nodes: dict[str, list[float]] = {}
        for lane in self.lanes:
            top, height = spans[lane.key]
            nodes.setdefault(lane.node, []).extend((top, top + height))
            x = MARGIN + self.strip
            canvas.rectangle(
                x, top, self.WIDTH - MARGIN - x, height, facecolor=self.theme.band, zorder=0
            )
            if lane.paint is not None:
                canvas.rectangle(x, top, 5, height, facecolor=lane.paint.fills[0], zorder=0.5)
            size = min(10.5, self.row * 0.9)
            text = shortened(f"{lane.worker} · {lane.label}", size, self.LABEL - 20)
            canvas.text(x + 13, top + height / 2, text, size, va="center")
            for row, mark in self.rows[lane.key][1]:
                box = self._box(mark, top + row * self.row)
                if self.row >= 16 and box[2] >= 9:
                    self._bar(painter, box, mark)
                else:
                    small.append((box, mark))
        painter.marks(small, states=False)
        self._strips(painter, nodes)

    def _box(self, mark: Mark, top: float) -> Box:
        x = self._x(mark.started or 0.0)
        pad = 2.5 if self.row >= 16 else 0.6
        width = max(1.5, self._x(self._until(mark)) - x - 0.5)
        return x, top + pad, width, self.row - 2 * pad

    def _bar(self, painter: Painter, box: Box, mark: Mark) -> None:
        x, y, width, height = box
        canvas = painter.canvas
        shape = canvas.rounded(
            box, min(3, width / 3), facecolor=self.theme.paper, linewidth=0, zorder=3
        )
        painter.ground(shape, box, mark.paint)
        painter.border(shape, mark)
        marked = mark.state != "done" and width >= 15
        room = width - 10 - (16 if marked else 0)
        text = shortened(mark.name, 9.5, room) if room > 26 else ""
        if len(text) > 2:
            middle = y + height / 2
            if mark.paint.busy:
                painter.label(x + 6, middle, [(text, 9.5, 0.5)], height - 6)
            ink = painter.ink(mark.paint)
            canvas.text(x + 6, middle, text, 9.5, ink, va="center", zorder=5)
        if marked:
            painter.glyph(mark.state, x + width - min(9, width / 2), y + height / 2, 6.5)

    def _strips(self, painter: Painter, nodes: Mapping[str, list[float]]) -> None:
        if not self.strip:
            return
        for node, edges in nodes.items():
            node_strip(
                painter,
                self.scene,
                node,
                (MARGIN, min(edges), self.strip - 5, max(edges) - min(edges)),
            )


def _ran(mark: Mark) -> bool:
    return mark.started is not None and mark.processor is not None and not mark.chunk


def ticks(span: float, count: int = 8) -> Iterator[tuple[float, str]]:
    """Yields round times from 0 to the end of the span, with their texts."""
    rough = span / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    unit, scale = ("ms", 1e3) if span < 2 else ("s", 1.0)
    for index in range(int(span / step + 1e-9) + 1):
        value = index * step * scale
        digits = max(0, -floor(log10(step * scale) + 1e-9))
        yield index * step, f"{value:.{digits}f} {unit}"
