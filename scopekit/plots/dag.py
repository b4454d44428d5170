"""The picture of a task graph."""

# ruff: noqa: PLC0415 - matplotlib takes half a second to load, which no import of ours may cost
# ruff: noqa: PLR2004 - a measure in pixels is best read where it is used

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Any, Literal

from scopekit.plots.canvas import HEAD, MARGIN, Canvas
from scopekit.plots.detail import extent, fit
from scopekit.plots.legend import Legend, heading, node_strip
from scopekit.plots.painter import Painter, disc_radius
from scopekit.plots.scene import Scene, graph_of, theme_named
from scopekit.plots.words import shortened, width_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scopekit.encoding import Theme
    from scopekit.layout import Band, Layout, Spot
    from scopekit.plots.canvas import Box
    from scopekit.plots.detail import Size
    from scopekit.plots.scene import Lane, Mark

__all__ = ("plot_dag",)

DASHES: dict[str, Any] = {"near": "solid", "process": (0, (6, 2.5)), "node": (0, (1, 1.8))}


def plot_dag(
    source: Any = None,
    *,
    by: Literal["graph", "placement"] = "graph",
    ax: Axes | None = None,
    theme: Literal["light", "dark"] | Theme = "light",
    title: str | None = None,
) -> Figure:
    """Draws the task graph.

    Args:
        source: a session, or the graph that ``session.graph()`` gives; by default the
            current session.
        by: ``"graph"`` stands tasks where their edges are short, ``"placement"`` in
            one lane for each processor.
        ax: matplotlib axes to draw into; by default a new figure.
        theme: ``"light"`` or ``"dark"`` paper, or a theme of your own.
        title: the heading; by default the session's name.

    Returns:
        The figure, which a notebook shows by itself.
    """
    if by not in {"graph", "placement"}:
        raise ValueError(f"by={by!r}: say 'graph' or 'placement'")
    graph = graph_of(source)
    scene = Scene(graph, title)
    lanes = scene.lanes() if by == "placement" else []
    size, layout = fit(scene, lanes)
    picture = Dag(theme_named(theme), scene, lanes, size, layout)
    return picture.draw(ax)


class Dag:
    """The picture of a task graph."""

    LABEL = 132.0
    STRIP = 26.0

    def __init__(
        self,
        theme: Theme,
        scene: Scene,
        lanes: Sequence[Lane],
        size: Size,
        layout: Layout,
    ) -> None:
        self.theme, self.scene, self.lanes, self.size = theme, scene, lanes, size
        self.layout = layout
        nodes = {lane.node for lane in lanes if lane.key}
        self.strip = self.STRIP if len(nodes) > 1 else 0.0
        header = self.strip + self.LABEL if lanes else 0.0
        self.left = MARGIN + header
        self.top = HEAD + 18
        columns, rows = extent(size, layout)
        self.width = max(680.0, self.left + columns - size.step + MARGIN + 8)
        inner = self.width - 2 * MARGIN
        self.legend = Legend(scene.marks.values(), inner)
        self.bottom = self.top + max(rows, size.slot) + 16
        self.height = self.bottom + self.legend.height + 8
        if not lanes:
            self.left += (inner - columns + size.step) / 2

    def draw(self, ax: Axes | None) -> Figure:
        canvas = Canvas(self.theme, self.width, self.height, ax)
        painter = Painter(canvas)
        heading(canvas, self.scene, self.width)
        self._bands(painter)
        self._edges(canvas)
        self._nodes(painter)
        if not self.scene.marks:
            canvas.text(
                self.width / 2, self.top + 20, "no tasks yet", 11, self.theme.muted, ha="center"
            )
        self.legend.draw(painter, MARGIN, self.bottom, self.width - 2 * MARGIN)
        figure: Figure = canvas.figure
        return figure

    def _spot(self, column: float, row: float) -> tuple[float, float]:
        size = self.size
        x = self.left + column * (size.width + size.step) + size.width / 2
        return x, self.top + row * size.slot

    def _nodes(self, painter: Painter) -> None:
        small: list[tuple[Box, Mark]] = []
        for key, mark in self.scene.marks.items():
            spot = self.layout.spots[key]
            x, y = self._spot(spot.column, spot.row)
            if mark.chunk:
                painter.chunk(mark, self.size, x, y)
            elif self.size.name:
                chip = self.scene.encoding.processor(mark.processor) if mark.processor else None
                painter.task(mark, self.size, x, y, chip)
            else:
                w, h = self.size.width, self.size.height
                small.append(((x - w / 2, y - h / 2, w, h), mark))
        painter.marks(small)

    def _bands(self, painter: Painter) -> None:
        if not self.lanes:
            return
        canvas, size = painter.canvas, self.size
        right = self.width - MARGIN
        x = MARGIN + self.strip
        lanes = {lane.key: lane for lane in self.lanes}
        lines: dict[int, list[float]] = {}
        for band in self.layout.bands:
            lane = lanes[band.lane]
            top, height = self._span(band)
            lines.setdefault(band.line, []).extend((top, top + height))
            canvas.rectangle(x, top, right - x, height, facecolor=self.theme.band, zorder=0)
            if lane.paint is not None:
                canvas.rectangle(x, top, 5, height, facecolor=lane.paint.fills[0], zorder=0.5)
            self._lane_words(canvas, lane, x + 14, top, height)
        self._strips(painter, lanes)
        edge = self.left - size.step / 4
        canvas.lines(
            [[(edge, min(ends)), (edge, max(ends))] for ends in lines.values()],
            colors=self.theme.faint,
            linewidths=[1.0],
            zorder=0.6,
        )

    def _span(self, band: Band) -> tuple[float, float]:
        pad = 0.16 * self.size.slot
        return (
            self.top + band.top * self.size.slot - pad,
            band.height * self.size.slot + 2 * pad,
        )

    def _lane_words(self, canvas: Canvas, lane: Lane, x: float, top: float, height: float) -> None:
        middle = top + height / 2
        two = height >= 30 and lane.label
        if height < 6:
            return
        size = min(11.0, height * 0.8)
        if two:
            canvas.text(x, middle - 7, lane.worker, size, va="center")
            canvas.text(x, middle + 8, lane.label, size - 1.5, self.theme.muted, va="center")
        else:
            text = f"{lane.worker} · {lane.label}" if lane.label else lane.worker
            room = self.LABEL - 26
            size *= min(1.0, max(0.82, room / width_of(text, size)))
            canvas.text(x, middle, shortened(text, size, room), size, va="center")

    def _strips(self, painter: Painter, lanes: Mapping[str, Lane]) -> None:
        if not self.strip:
            return
        spans: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for band in self.layout.bands:
            if band.lane:
                top, height = self._span(band)
                place = (band.line, lanes[band.lane].node)
                spans.setdefault(place, []).append((top, top + height))
        for (_, node), parts in spans.items():
            top, bottom = parts[0][0], parts[-1][1]
            node_strip(painter, self.scene, node, (MARGIN, top, self.strip - 5, bottom - top))

    def _edges(self, canvas: Canvas) -> None:
        groups: dict[tuple[str, float, bool], list[list[tuple[float, float]]]] = {}
        for source, target, facts in sorted(self.scene.graph.edges(data=True), key=lambda e: e[:2]):
            dash = self._dash(source, target)
            width = _thickness(facts.get("nbytes"))
            ends = self.layout.spots[source], self.layout.spots[target]
            group = dash, width, ends[0].lane == ends[1].lane
            groups.setdefault(group, []).append(self._curve(source, target))
        detailed = bool(self.size.name)
        count = self.scene.graph.number_of_edges()
        faint = min(0.5, max(0.14, 6.5 / (count + 1) ** 0.5))
        for (dash, width, level), paths in groups.items():
            style = DASHES[dash] if detailed else "solid"
            canvas.curves(
                paths,
                edgecolors=self.theme.line,
                linestyles=[style],
                linewidths=[width * (1.0 if detailed else 0.55)],
                # What leaves its lane crosses other lanes, whose tasks must stay in front.
                alpha=(0.8 if level else 0.5) if detailed else faint,
                zorder=1,
            )
        if detailed:
            self._heads(canvas, [path for paths in groups.values() for path in paths])

    def _heads(self, canvas: Canvas, paths: Sequence[Sequence[tuple[float, float]]]) -> None:
        from matplotlib.collections import PolyCollection

        heads = [
            [(x + 1, y), (x - 6, y - 3.4), (x - 6, y + 3.4)]
            for x, y in (path[-1] for path in paths)
        ]
        canvas.ax.add_collection(
            PolyCollection(
                heads, facecolors=self.theme.line, linewidths=0, zorder=2, clip_on=False
            ),
            autolim=False,
        )

    def _dash(self, source: int, target: int) -> str:
        one, other = self.scene.marks[source].processor, self.scene.marks[target].processor
        if one is None or other is None or one.worker == other.worker:
            return "near"
        nodes = [self.scene.encoding.node(processor) for processor in (one, other)]
        return "process" if nodes[0] == nodes[1] else "node"

    def _curve(self, source: int, target: int) -> list[tuple[float, float]]:
        half = self.size.width / 2
        start, end = (self.layout.spots[key] for key in (source, target))
        x, y = self._spot(start.column, start.row)
        path = [(x + self._half(source), y)]
        for column, row in self.layout.routes.get((source, target), ()):
            x, y = self._spot(column, row)
            _bend(path, (x - half, y))
            path += [path[-1], (x + half, y), (x + half, y)]
        x, y = self._spot(end.column, end.row)
        gap = 1.0 if self.size.name else 0.0
        goal = (x - self._half(target) - gap, y)
        if start.line != end.line:
            self._carry(path, end, goal)
        else:
            _bend(path, goal)
        return path

    def _carry(self, path: list[tuple[float, float]], end: Spot, goal: tuple[float, float]) -> None:
        """Leads an edge to a later line through the gap above that line."""
        x, y = path[-1]
        _, between = self._spot(0, self.layout.breaks[end.line - 1])
        swing = min(self.size.step * 0.7, MARGIN - 4)
        path += [(x + swing, y), (x + swing, between), (x, between)]
        path += [path[-1], (goal[0], between), (goal[0], between)]
        path += [(goal[0] - swing, between), (goal[0] - swing, goal[1]), goal]

    def _half(self, key: int) -> float:
        size = self.size
        if self.scene.marks[key].chunk and not size.name:
            return disc_radius(size)
        return size.width / 2


def _bend(path: list[tuple[float, float]], end: tuple[float, float]) -> None:
    x, y = path[-1]
    pull = (end[0] - x) * 0.5
    path += [(x + pull, y), (end[0] - pull, end[1]), end]


def _thickness(nbytes: int | None) -> float:
    """Gives an edge one to three pixels and a bit, by the size of what it carries."""
    small, large = 2**16, 2**26
    if not nbytes or nbytes < small:
        return 1.2
    return 3.4 if nbytes >= large else 1.2 + 2.2 * log2(nbytes / small) / 10
