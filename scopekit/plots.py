"""Still pictures of a session: its task graph and its timeline, drawn by matplotlib.

The pictures use matplotlib's object interface alone. No figure is registered with
pyplot, so that none leaks and drawing from a background thread is safe; the figures
show themselves in a notebook.

All drawing is in pixels from the top left corner, at 100 pixels per inch. How much is
drawn depends on how much there is: names at first, then shorter boxes, then marks.
"""

# ruff: noqa: PLC0415 - matplotlib takes half a second to load, which no import of ours may cost
# ruff: noqa: PLR2004 - a measure in pixels is best read where it is used

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import import_module
from math import ceil, floor, log2, log10
from typing import TYPE_CHECKING, Any, Literal

from scopekit.encoding import (
    DARK,
    GLYPHS,
    INVALID,
    LIGHT,
    STATES,
    Encoding,
    ScopePaint,
    Swatch,
    Theme,
    state_style,
    text_on,
)
from scopekit.layout import Band, Item, Layout, Spot, arrange, pack, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from scopekit.scopes import Processor

__all__ = ("plot_dag", "plot_timeline")

DPI = 100
MARGIN = 22.0
HEAD = 52.0
PENDING = ""
MAX_SIDE = 1700.0
MAX_LEGEND = 12
FOLDS = (48, 32, 24, 16, 10, 6)
DASHES: dict[str, Any] = {"near": "solid", "process": (0, (6, 2.5)), "node": (0, (1, 1.8))}
# Matplotlib brings this font along; naming another that is missing warns at every text.
FAMILY = "DejaVu Sans"


@dataclass(frozen=True, slots=True)
class _Size:
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

    def times(self, factor: float) -> _Size:
        return _Size(*(getattr(self, name) * factor for name in self.__slots__))


FULL = _Size(118, 40, 62, 56, name=11.5, badge=9.0, glyph=7.5)
SHORT = _Size(92, 24, 44, 33, name=9.5, glyph=6.0, chip=4.0, round=4.0)
MARKS = _Size(20, 11, 18, 15, chip=3.0, round=2.0)


@dataclass(frozen=True, slots=True)
class _Mark:
    """One task or chunk, with all that drawing it needs."""

    key: int
    name: str
    state: str
    paint: ScopePaint
    chunk: bool = False
    narrowed: bool = False
    processor: Processor | None = None
    node: str | None = None
    started: float | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class _Lane:
    """One row of places: a processor, with the words for it."""

    key: str
    node: str
    worker: str
    label: str
    paint: ScopePaint | None


def plot_dag(
    source: Any = None,
    *,
    by: Literal["graph", "placement"] = "graph",
    ax: Axes | None = None,
    theme: Literal["light", "dark"] = "light",
    title: str | None = None,
) -> Figure:
    """Draws the task graph.

    Args:
        source: a session, or the graph that ``session.graph()`` gives; by default the
            current session.
        by: ``"graph"`` stands tasks where their edges are short, ``"placement"`` in
            one lane for each processor.
        ax: matplotlib axes to draw into; by default a new figure.
        theme: ``"light"`` or ``"dark"`` paper.
        title: the heading; by default the session's name.

    Returns:
        The figure, which a notebook shows by itself.
    """
    if by not in {"graph", "placement"}:
        raise ValueError(f"by={by!r}: say 'graph' or 'placement'")
    graph = _graph(source)
    scene = _Scene(graph, title)
    lanes = scene.lanes() if by == "placement" else []
    size, layout = _fit(scene, lanes)
    picture = _Dag(_theme(theme), scene, lanes, size, layout)
    return picture.draw(ax)


def plot_timeline(
    source: Any = None,
    *,
    ax: Axes | None = None,
    theme: Literal["light", "dark"] = "light",
    title: str | None = None,
) -> Figure:
    """Draws what ran where and when: a row per processor, a bar per task.

    Args:
        source: a session, or the graph that ``session.graph()`` gives; by default the
            current session.
        ax: matplotlib axes to draw into; by default a new figure.
        theme: ``"light"`` or ``"dark"`` paper.
        title: the heading; by default the session's name.

    Returns:
        The figure, which a notebook shows by itself.
    """
    return _Timeline(_theme(theme), _Scene(_graph(source), title)).draw(ax)


def _theme(name: str) -> Theme:
    if name not in {"light", "dark"}:
        raise ValueError(f"theme={name!r}: say 'light' or 'dark'")
    return LIGHT if name == "light" else DARK


def _graph(source: Any) -> Any:
    if source is None:
        source = import_module("scopekit").current_session()
    return source.graph() if hasattr(source, "graph") and callable(source.graph) else source


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class ScopeFigure(Figure):
        """A figure that a notebook shows without pyplot's help."""

        def _repr_png_(self) -> bytes:
            from io import BytesIO

            buffer = BytesIO()
            FigureCanvasAgg(self).print_png(buffer)  # type: ignore[no-untyped-call]
            return buffer.getvalue()

    ScopeFigure.__qualname__ = "ScopeFigure"
    return ScopeFigure


def __getattr__(name: str) -> Any:
    # The class can only be made once matplotlib is loaded; pickle looks for it here.
    if name == "ScopeFigure":
        return _figure_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Scene:
    """What a graph holds, in the order and the words of a picture."""

    def __init__(self, graph: Any, title: str | None) -> None:
        self.graph = graph
        facts = [graph.nodes[key] for key in sorted(graph.nodes)]
        homes = {fact["worker"]: fact.get("node") for fact in facts if self._gone(graph, fact)}
        self.encoding = Encoding(graph.graph["topology"], homes)
        self.title = title if title is not None else str(graph.graph.get("session") or "session")
        self.marks = {key: self._mark(key, graph.nodes[key]) for key in sorted(graph.nodes)}

    @staticmethod
    def _gone(graph: Any, facts: Mapping[str, Any]) -> bool:
        worker = facts.get("worker")
        return worker is not None and graph.graph["topology"].node_of(worker) is None

    def _mark(self, key: int, facts: Mapping[str, Any]) -> _Mark:
        return _Mark(
            key,
            name=str(facts.get("name") or key),
            state=str(facts.get("state", "waiting")),
            paint=self.encoding.scope(facts["scope"]),
            chunk=facts.get("kind") == "chunk",
            narrowed=bool(facts.get("scopes_written", False)),
            processor=facts.get("processor"),
            node=facts.get("node"),
            started=facts.get("started"),
            finished=facts.get("finished"),
        )

    def items(self, *, placed: bool) -> list[Item]:
        return [
            Item(
                key,
                tuple(sorted(self.graph.predecessors(key))),
                self._lane_key(mark) if placed else PENDING,
            )
            for key, mark in self.marks.items()
        ]

    def _lane_key(self, mark: _Mark) -> str:
        return self.encoding.path(mark.processor) if mark.processor is not None else PENDING

    def lanes(self) -> list[_Lane]:
        """Lists the lanes from top to bottom; idle processors only where there is room."""
        used = {self._lane_key(mark) for mark in self.marks.values()}
        places = self.encoding.ordered(
            mark.processor for mark in self.marks.values() if mark.processor is not None
        )
        most = 12
        shown = [p for p in places if self.encoding.path(p) in used or len(places) <= most]
        lanes = [self._lane(processor) for processor in shown]
        return [_Lane(PENDING, "", "not placed", "", None), *lanes] if PENDING in used else lanes

    def _lane(self, processor: Processor) -> _Lane:
        worker = processor.worker
        return _Lane(
            self.encoding.path(processor),
            self.encoding.node(processor),
            worker if isinstance(worker, str) else f"worker {worker}",
            f"{processor.kind.name} {processor.index}",
            self.encoding.processor(processor),
        )

    def summary(self) -> str:
        tasks = Counter(mark.state for mark in self.marks.values() if not mark.chunk)
        counts = [f"{tasks[state]} {state}" for state in STATES if tasks[state]]
        total = sum(tasks.values())
        noun = "task" if total == 1 else "tasks"
        return f"{total} {noun}" + (": " + ", ".join(counts) if counts else "")


def _fit(scene: _Scene, lanes: Sequence[_Lane]) -> tuple[_Size, Layout]:
    """Chooses the most detailed level whose picture is not too large to be looked at."""
    items = scene.items(placed=bool(lanes))
    keys = [lane.key for lane in lanes]
    plain = arrange(items, keys)
    for size, side in ((FULL, 1350.0), (SHORT, MAX_SIDE)):
        roomy = _widened(size, [mark.name for mark in scene.marks.values()])
        wide = _extent(roomy, plain)[0]
        layout = plain if lanes else wrapped(plain, ceil(wide / side))
        width, height = _extent(roomy, layout)
        if width <= side and height <= side * 0.75:
            return roomy, layout
    tallest = max(Counter((spot.lane, spot.rank) for spot in plain.spots.values()).values())
    # Folds and breaks cost the reader something, so they must better the shape by more.
    tried = [(0.0, plain)]
    tried += [(0.8, arrange(items, keys, tallest=rows)) for rows in FOLDS if rows < tallest]
    if not lanes:
        tried += [(penalty + 0.6, _paragraphs(layout)) for penalty, layout in tried]
    layout = min(tried, key=lambda entry: entry[0] + _awkward(*_extent(MARKS, entry[1])))[1]
    width, height = _extent(MARKS, layout)
    roomier = max(1.0, min(1.6, 1100 / width, 760 / height))
    return MARKS.times(min(roomier, MAX_SIDE / width, MAX_SIDE / height)), layout


def _paragraphs(layout: Layout) -> Layout:
    """Breaks a layout that is much wider than tall into lines of a page's shape."""
    width, height = _extent(MARKS, layout)
    return wrapped(layout, max(1, round((width / max(height, 60.0) / 1.7) ** 0.5)))


def _widened(size: _Size, names: Iterable[str]) -> _Size:
    longest = max((_width(name, size.name) for name in names), default=0.0)
    return replace(size, width=min(1.5 * size.width, max(0.7 * size.width, longest + 28)))


def _extent(size: _Size, layout: Layout) -> tuple[float, float]:
    return layout.columns * (size.width + size.step), layout.rows * size.slot


def _awkward(width: float, height: float) -> float:
    """Tells how far a picture is from a landscape page, and from a small one."""
    width, height = max(width, 300.0), max(height, 200.0)
    return abs(log2(width / height / 1.7)) + max(width, height) / 1200


@lru_cache(maxsize=4096)
def _width(text: str, size: float, weight: str = "normal") -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FAMILY, size=size, weight=weight)
    width: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return width


def _shortened(text: str, size: float, room: float, weight: str = "normal") -> str:
    if _width(text, size, weight) <= room:
        return text
    # The end of a name tells the tasks of one function apart.
    head, tail = text, text[text.rfind("-") :] if 0 < text.rfind("-") >= len(text) - 6 else ""
    head = text[: len(text) - len(tail)]
    while head and _width(f"{head}…{tail}", size, weight) > room:
        head = head[:-1]
    return f"{head}…{tail}" if head else "…"


class _Canvas:
    """Matplotlib axes measured in pixels from the top left corner."""

    def __init__(self, theme: Theme, width: float, height: float, ax: Axes | None) -> None:
        if ax is None:
            figure = _figure_class()(figsize=(width / DPI, height / DPI), dpi=DPI)
            figure.set_facecolor(theme.paper)
            ax = figure.add_axes((0, 0, 1, 1))
        self.ax = ax
        self.theme = theme
        self.figure: Any = ax.figure
        ax.set_axis_off()
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
        ax.set_aspect("equal", adjustable="box")
        box = ax.get_window_extent()
        zoom = min(box.width / width, box.height / height)
        self.points = zoom * 72 / self.figure.dpi

    def text(
        self, x: float, y: float, text: str, size: float, colour: str = "", **options: Any
    ) -> None:
        self.ax.text(
            x,
            y,
            text,
            fontsize=size * self.points,
            color=colour or self.theme.ink,
            family=FAMILY,
            parse_math=False,
            va=options.pop("va", "center_baseline"),
            **options,
        )

    def add(self, patch: Patch, clip: Patch | None = None) -> Patch:
        self.ax.add_patch(patch)
        if clip is not None:
            patch.set_clip_path(clip)
        return patch

    def rectangle(self, x: float, y: float, width: float, height: float, **options: Any) -> Patch:
        from matplotlib.patches import Rectangle

        clip = options.pop("clip", None)
        options.setdefault("linewidth", 0)
        return self.add(Rectangle((x, y), width, height, **options), clip)

    def rounded(
        self, box: tuple[float, float, float, float], radius: float, **options: Any
    ) -> Patch:
        from matplotlib.patches import FancyBboxPatch

        x, y, width, height = box
        style = f"round,pad=0,rounding_size={radius}"
        return self.add(FancyBboxPatch((x, y), width, height, boxstyle=style, **options))

    def lines(self, paths: Sequence[Sequence[tuple[float, float]]], **options: Any) -> None:
        from matplotlib.collections import LineCollection

        widths = [width * self.points for width in options.pop("linewidths", [1.0])]
        self.ax.add_collection(
            LineCollection([list(path) for path in paths], linewidths=widths, **options),
            autolim=False,
        )

    def curves(self, paths: Sequence[Sequence[tuple[float, float]]], **options: Any) -> None:
        from matplotlib.collections import PathCollection
        from matplotlib.path import Path

        made = [
            Path(path, [Path.MOVETO] + [Path.CURVE4] * (len(path) - 1)) for path in paths if path
        ]
        options["linewidths"] = [width * self.points for width in options["linewidths"]]
        self.ax.add_collection(PathCollection(made, facecolors="none", **options), autolim=False)


Box = tuple[float, float, float, float]


class _Painter:
    """Draws boxes, discs and glyphs on a canvas."""

    def __init__(self, canvas: _Canvas) -> None:
        self.canvas = canvas
        self.theme = canvas.theme

    def task(self, mark: _Mark, size: _Size, x: float, y: float, chip: ScopePaint | None) -> None:
        """Draws the box of a task around its middle."""
        box = (x - size.width / 2, y - size.height / 2, size.width, size.height)
        faded = mark.state == "cancelled"
        shape = self._body(mark, box, size.round, chip, size.chip)
        if mark.narrowed:
            self._ring(mark, box, size.round)
        self._border(shape, mark)
        self._words(mark, size, box)
        self.glyph(mark.state, x + size.width / 2 - 3, y - size.height / 2 + 2, size.glyph)
        if faded:
            self.canvas.rounded(
                box, size.round, facecolor=self.theme.paper, alpha=0.45, linewidth=0, zorder=6
            )

    def _body(
        self, mark: _Mark, box: Box, radius: float, chip: ScopePaint | None, width: float
    ) -> Patch:
        x, y, _, height = box
        shape = self.canvas.rounded(box, radius, facecolor=self.theme.paper, linewidth=0, zorder=3)
        self.ground(shape, box, mark.paint)
        ground = (
            {"facecolor": chip.grounds(self.theme)[0]} if chip else {"facecolor": self.theme.paper}
        )
        self.canvas.rectangle(x, y, width, height, clip=shape, zorder=3.5, **ground)
        edge = mark.paint.stroke(self.theme)
        dashes = "solid" if chip else (0, (2, 2))
        self.canvas.lines(
            [((x + width, y + 1), (x + width, y + height - 1))],
            colors=edge,
            linewidths=[0.8],
            linestyles=[dashes],
            zorder=3.5,
        )
        return shape

    def _ring(self, mark: _Mark, box: Box, radius: float) -> None:
        x, y, width, height = box
        inner = (x + 3, y + 3, width - 6, height - 6)
        self.canvas.rounded(
            inner,
            radius - 2,
            facecolor="none",
            edgecolor=mark.paint.stroke(self.theme),
            linewidth=1.6 * self.canvas.points,
            zorder=3.4,
        )

    def _border(self, shape: Patch, mark: _Mark) -> None:
        from matplotlib.patches import PathPatch

        style = state_style(mark.state)
        loud = mark.state in {"failed", "lost"}
        colour = style.colour if loud else mark.paint.stroke(self.theme)
        path = shape.get_transform().transform_path(shape.get_path())
        flat = self.canvas.ax.transData.inverted().transform_path(path)
        width = max(1.2, style.width)
        dashes = (0, tuple(d / width for d in style.dash)) if style.dash else "solid"
        self.canvas.add(
            PathPatch(
                flat,
                facecolor="none",
                edgecolor=colour,
                linewidth=width * self.canvas.points,
                linestyle=dashes,
                zorder=4,
            )
        )

    def _words(self, mark: _Mark, size: _Size, box: Box) -> None:
        x, y, width, height = box
        left = x + size.chip + 6
        room = width - size.chip - 6 - size.glyph - 3
        lines = [(_shortened(mark.name, size.name, room), size.name, 0.36 if size.badge else 0.5)]
        if size.badge:
            lines.append((_shortened(mark.paint.badge, size.badge, room + 8), size.badge, 0.73))
        ink = self.ink(mark.paint)
        if mark.paint.busy:
            self.label(left, y + height / 2, lines, height - 9)
        for text, points, share in lines:
            self.canvas.text(left, y + height * share, text, points, ink, zorder=5, va="center")

    def ink(self, paint: ScopePaint) -> str:
        """Chooses the colour of words that stand on a scope's ground."""
        if paint.busy or not paint.swatches:
            return self.theme.ink
        return text_on(*paint.grounds(self.theme))

    def label(
        self, left: float, middle: float, lines: Sequence[tuple[str, float, float]], height: float
    ) -> None:
        """Lays paper under words that would be lost on stripes or hatches."""
        width = max(_width(text, size) for text, size, _ in lines) + 7
        box = (left - 3.5, middle - height / 2, width, height)
        self.canvas.rounded(box, 3, facecolor=self.theme.paper, alpha=0.74, linewidth=0, zorder=4.5)

    def chunk(self, mark: _Mark, size: _Size, x: float, y: float) -> None:
        """Draws a chunk as a disc, its scope as a pie, its name beside it."""
        from matplotlib.patches import Circle, Wedge

        radius = min(11.0, size.height / 2.2)
        count = len(mark.paint.swatches)
        self.canvas.add(Circle((x, y), radius, facecolor=self.theme.paper, linewidth=0, zorder=3))
        for place, swatch in enumerate(mark.paint.swatches):
            start = -90 + 360 * place / count
            self.canvas.add(
                Wedge(
                    (x, y),
                    radius,
                    start,
                    start + 360 / count,
                    facecolor=swatch.ground(self.theme),
                    edgecolor=self.theme.paper,
                    linewidth=0.8 if count > 1 else 0,
                    zorder=3,
                )
            )
        edge = mark.paint.stroke(self.theme)
        lost = mark.state == "lost"
        self.canvas.add(
            Circle(
                (x, y),
                radius,
                facecolor="none",
                edgecolor=INVALID if lost else edge,
                linewidth=(2.0 if lost else 1.2) * self.canvas.points,
                zorder=4,
            )
        )
        if size.name:
            text = _shortened(mark.name, size.name - 1, size.width)
            self.canvas.text(
                x,
                y + radius + size.name * 0.75,
                text,
                size.name - 1,
                self.theme.muted,
                ha="center",
                zorder=5,
                va="center",
            )

    def glyph(self, state: str, x: float, y: float, radius: float) -> None:
        """Draws the sign of a state on a disc of its colour."""
        from matplotlib.patches import Circle, Polygon

        style = state_style(state)
        drawing = GLYPHS[style.glyph]
        ink = text_on(style.colour)
        line = {"edgecolor": ink, "linewidth": 0.19 * radius * self.canvas.points, "zorder": 7}
        self.canvas.add(
            Circle(
                (x, y),
                radius,
                facecolor=style.colour,
                edgecolor=self.theme.paper,
                linewidth=1.4 * self.canvas.points,
                zorder=7,
            )
        )
        for ring in drawing.rings:
            self.canvas.add(Circle((x, y), ring * radius, facecolor="none", **line))
        for corners in drawing.fills:
            points = [(x + a * radius, y + b * radius) for a, b in corners]
            self.canvas.add(Polygon(points, facecolor=ink, linewidth=0, zorder=7))
        paths = [[(x + a * radius, y + b * radius) for a, b in line] for line in drawing.strokes]
        if paths:
            self.canvas.lines(
                paths,
                colors=ink,
                linewidths=[0.26 * radius],
                zorder=7,
                capstyle="round",
                joinstyle="round",
            )

    def ground(self, shape: Patch, box: Box, paint: ScopePaint, *, z: float = 3) -> None:
        """Fills a shape with the stripes, the hatch or the cross of a scope."""
        x, y, width, height = box
        count = len(paint.swatches)
        for place, swatch in enumerate(paint.swatches):
            part = (x + width * place / count, y, width / count, height)
            ground = swatch.ground(self.theme)
            self.canvas.rectangle(*part, facecolor=ground, clip=shape, zorder=z)
            self._hatch(shape, part, swatch, z)
            if place:
                self.canvas.rectangle(
                    part[0] - 0.6, y, 1.2, height, facecolor=self.theme.paper, clip=shape, zorder=z
                )
        if paint.crossed:
            self.canvas.lines(
                [((x, y), (x + width, y + height)), ((x, y + height), (x + width, y))],
                colors=INVALID,
                linewidths=[1.8],
                zorder=z,
                clip_path=shape,
                alpha=0.6,
            )

    def _hatch(self, shape: Patch, part: Box, swatch: Swatch, z: float) -> None:
        colour = swatch.hatch_colour
        if swatch.hatch == "dots":
            self._dots(shape, part, colour, z)
        elif swatch.hatch:
            paths = list(_rules(part) if swatch.hatch == "rules" else _slants(part, swatch.hatch))
            self.canvas.lines(
                paths, colors=colour, linewidths=[1.2], alpha=0.7, zorder=z, clip_path=shape
            )

    def _dots(self, shape: Patch, part: Box, colour: str, z: float) -> None:
        from matplotlib.patches import Circle

        x, y, width, height = part
        gap = 6.0
        for row in range(int(height / gap) + 1):
            for column in range(int(width / gap)):
                spot = (x + gap * (column + 0.5 + row % 2 / 2), y + gap * (row + 0.5))
                dot = Circle(spot, 1.0, facecolor=colour, alpha=0.7, linewidth=0, zorder=z)
                self.canvas.add(dot, shape)

    def marks(self, boxes: Sequence[tuple[Box, _Mark]], *, states: bool = True) -> None:
        """Draws many small boxes at once: stripes, outline, a bar for the state."""
        filled: dict[str, list[Box]] = {}
        barred: dict[str, list[Box]] = {}
        outlined: dict[str, list[Box]] = {}
        crosses: list[list[tuple[float, float]]] = []
        for box, mark in boxes:
            x, y, width, height = box
            bar = max(1.0, height * 0.28)
            paper = mark.paint.grounds(self.theme) or (self.theme.paper,)
            for place, fill in enumerate(paper):
                part = (x + width * place / len(paper), y, width / len(paper), height)
                filled.setdefault(fill, []).append(part)
            state = state_style(mark.state).colour
            if states:
                barred.setdefault(state, []).append((x, y + height - bar, width, bar))
            loud = mark.state == "failed"
            outlined.setdefault(state if loud else mark.paint.stroke(self.theme), []).append(box)
            if mark.paint.crossed:
                crosses += [[(x, y), (x + width, y + height)], [(x, y + height), (x + width, y)]]
        for colour, parts in filled.items():
            self._boxes(parts, facecolors=colour, linewidths=0, zorder=3)
        for colour, parts in barred.items():
            self._boxes(parts, facecolors=colour, linewidths=0, zorder=3.5)
        for colour, parts in outlined.items():
            width = 0.7 * self.canvas.points
            self._boxes(parts, facecolors="none", edgecolors=colour, linewidths=width, zorder=4)
        if crosses:
            self.canvas.lines(crosses, colors=INVALID, linewidths=[0.8], zorder=4)

    def _boxes(self, boxes: Sequence[Box], **options: Any) -> None:
        from matplotlib.collections import PolyCollection

        corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes]
        self.canvas.ax.add_collection(PolyCollection(corners, **options), autolim=False)

    def swatch(self, paint: ScopePaint, x: float, y: float) -> None:
        """Draws the sample of a scope for the legend, its left middle at x, y."""
        box = (x, y - 6.5, 26.0, 13.0)
        shape = self.canvas.rounded(box, 3, facecolor=self.theme.paper, linewidth=0, zorder=3)
        self.ground(shape, box, paint)
        self.canvas.rounded(
            box,
            3,
            facecolor="none",
            edgecolor=paint.stroke(self.theme),
            linewidth=1.2 * self.canvas.points,
            zorder=4,
        )


def _rules(part: Box, gap: float = 6.0) -> Iterator[list[tuple[float, float]]]:
    x, y, width, height = part
    row = y + gap / 2
    while row < y + height:
        yield [(x, row), (x + width, row)]
        row += gap


def _slants(part: Box, hatch: str, gap: float = 8.0) -> Iterator[list[tuple[float, float]]]:
    x, y, width, height = part
    for offset in (0.0, 2.8) if hatch == "double" else (0.0,):
        start = x - height + offset
        while start < x + width:
            low, high = max(0.0, x - start), min(height, x + width - start)
            if low < high:
                yield [(start + low, y + height - low), (start + high, y + height - high)]
            start += gap


class _Legend:
    """The scopes and the states that a picture shows, set in lines of text."""

    ROW = 24.0
    HEAD = 92.0
    SIZE = 10.0

    def __init__(self, marks: Iterable[_Mark], width: float) -> None:
        marks = list(marks)
        paints: dict[Any, ScopePaint] = {}
        for paint in sorted((mark.paint for mark in marks), key=lambda paint: len(paint.label)):
            # Scopes that look alike, such as a place and its default processors, are told once.
            paints.setdefault((paint.swatches, paint.badge, paint.crossed), paint)
        order = sorted(paints.values(), key=lambda paint: (paint.crossed, paint.label))
        shown = order[:MAX_LEGEND]
        scopes: list[tuple[str, Any]] = [(paint.label, paint) for paint in shown]
        if len(paints) > len(shown):
            scopes.append((f"and {len(paints) - len(shown)} more", None))
        seen = {mark.state for mark in marks}
        alike: dict[tuple[str, str], list[str]] = {}
        for state, style in STATES.items():
            if state in seen:
                alike.setdefault((style.glyph, style.colour), []).append(state)
        states = [
            (" / ".join(state_style(state).label for state in group), group[0])
            for group in alike.values()
        ]
        self.rows: list[tuple[str, list[tuple[float, str, Any]]]] = []
        self._flow("may run on", scopes, width)
        self._flow("state", states, width)
        self.height = len(self.rows) * self.ROW + 16

    def _flow(self, head: str, entries: Sequence[tuple[str, Any]], width: float) -> None:
        x = self.HEAD
        row: list[tuple[float, str, Any]] = []
        for label, sample in entries:
            text = _shortened(label, self.SIZE, width - self.HEAD - 40)
            wide = 34 + _width(text, self.SIZE) + 18
            if row and x + wide > width:
                self.rows.append((head, row))
                head, row, x = "", [], self.HEAD
            row.append((x, text, sample))
            x += wide
        if row:
            self.rows.append((head, row))

    def draw(self, painter: _Painter, left: float, top: float, width: float) -> None:
        canvas = painter.canvas
        rule = [[(left, top), (left + width, top)]]
        canvas.lines(rule, colors=painter.theme.faint, linewidths=[1.0])
        for place, (head, entries) in enumerate(self.rows):
            y = top + 10 + self.ROW * (place + 0.5)
            canvas.text(left, y, head, self.SIZE, painter.theme.muted, va="center")
            for offset, text, sample in entries:
                x = left + offset
                if isinstance(sample, ScopePaint):
                    painter.swatch(sample, x, y)
                elif sample is not None:
                    painter.glyph(sample, x + 13, y, 7.5)
                canvas.text(x + 34, y, text, self.SIZE, va="center")


def _heading(canvas: _Canvas, scene: _Scene, width: float) -> None:
    title = _shortened(scene.title, 15, width - 2 * MARGIN, "bold")
    canvas.text(MARGIN, 22, title, 15, weight="bold", va="center")
    summary = _shortened(scene.summary(), 10.5, width - 2 * MARGIN)
    canvas.text(MARGIN, 42, summary, 10.5, canvas.theme.muted, va="center")


class _Dag:
    """The picture of a task graph."""

    LABEL = 132.0
    STRIP = 26.0

    def __init__(
        self,
        theme: Theme,
        scene: _Scene,
        lanes: Sequence[_Lane],
        size: _Size,
        layout: Layout,
    ) -> None:
        self.theme, self.scene, self.lanes, self.size = theme, scene, lanes, size
        self.layout = layout
        nodes = {lane.node for lane in lanes if lane.key}
        self.strip = self.STRIP if len(nodes) > 1 else 0.0
        header = self.strip + self.LABEL if lanes else 0.0
        self.left = MARGIN + header
        self.top = HEAD + 18
        columns, rows = _extent(size, layout)
        self.width = max(680.0, self.left + columns - size.step + MARGIN + 8)
        inner = self.width - 2 * MARGIN
        self.legend = _Legend(scene.marks.values(), inner)
        self.bottom = self.top + max(rows, size.slot) + 16
        self.height = self.bottom + self.legend.height + 8
        if not lanes:
            self.left += (inner - columns + size.step) / 2

    def draw(self, ax: Axes | None) -> Figure:
        canvas = _Canvas(self.theme, self.width, self.height, ax)
        painter = _Painter(canvas)
        _heading(canvas, self.scene, self.width)
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

    def _nodes(self, painter: _Painter) -> None:
        small: list[tuple[Box, _Mark]] = []
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

    def _bands(self, painter: _Painter) -> None:
        if not self.lanes:
            return
        canvas, size = painter.canvas, self.size
        right = self.width - MARGIN
        bands = {band.lane: band for band in self.layout.bands}
        for lane in self.lanes:
            top, height = self._span(bands[lane.key])
            x = MARGIN + self.strip
            canvas.rectangle(x, top, right - x, height, facecolor=self.theme.band, zorder=0)
            if lane.paint is not None:
                canvas.rectangle(x, top, 5, height, facecolor=lane.paint.fills[0], zorder=0.5)
            self._lane_words(canvas, lane, x + 14, top, height)
        self._strips(painter, bands)
        canvas.lines(
            [
                [
                    (self.left - size.step / 4, self.top),
                    (self.left - size.step / 4, self.bottom - 16),
                ]
            ],
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

    def _lane_words(
        self, canvas: _Canvas, lane: _Lane, x: float, top: float, height: float
    ) -> None:
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
            canvas.text(x, middle, _shortened(text, size, self.LABEL - 30), size, va="center")

    def _strips(self, painter: _Painter, bands: Mapping[str, Band]) -> None:
        if not self.strip:
            return
        spans: dict[str, list[tuple[float, float]]] = {}
        for lane in self.lanes:
            if lane.key:
                top, height = self._span(bands[lane.key])
                spans.setdefault(lane.node, []).append((top, top + height))
        for node, parts in spans.items():
            top, bottom = parts[0][0], parts[-1][1]
            _strip(painter, self.scene, node, (MARGIN, top, self.strip - 5, bottom - top))

    def _edges(self, canvas: _Canvas) -> None:
        groups: dict[tuple[str, float], list[list[tuple[float, float]]]] = {}
        for source, target, facts in sorted(self.scene.graph.edges(data=True), key=lambda e: e[:2]):
            dash = self._dash(source, target)
            width = _thickness(facts.get("nbytes"))
            groups.setdefault((dash, width), []).append(self._curve(source, target))
        detailed = bool(self.size.name)
        count = self.scene.graph.number_of_edges()
        faint = min(0.5, max(0.14, 6.5 / (count + 1) ** 0.5))
        for (dash, width), paths in groups.items():
            style = DASHES[dash] if detailed else "solid"
            canvas.curves(
                paths,
                edgecolors=self.theme.line,
                linestyles=[style],
                linewidths=[width * (1.0 if detailed else 0.55)],
                alpha=0.8 if detailed else faint,
                zorder=1,
            )
        if detailed:
            self._heads(canvas, [path for paths in groups.values() for path in paths])

    def _heads(self, canvas: _Canvas, paths: Sequence[Sequence[tuple[float, float]]]) -> None:
        from matplotlib.collections import PolyCollection

        heads = [
            [(x + 1, y), (x - 6, y - 3.4), (x - 6, y + 3.4)]
            for x, y in (path[-1] for path in paths)
        ]
        canvas.ax.add_collection(
            PolyCollection(heads, facecolors=self.theme.line, linewidths=0, zorder=2),
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
        return min(11.0, size.height / 2.2) if self.scene.marks[key].chunk else size.width / 2


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


class _Timeline:
    """The picture of what ran where and when."""

    LABEL = 168.0
    STRIP = 26.0
    WIDTH = 1150.0

    def __init__(self, theme: Theme, scene: _Scene) -> None:
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
        self.legend = _Legend(told, self.WIDTH - 2 * MARGIN)

    def _packed(self) -> dict[str, tuple[int, list[tuple[int, _Mark]]]]:
        rows: dict[str, tuple[int, list[tuple[int, _Mark]]]] = {}
        for lane in self.lanes:
            mine = {mark.key: mark for mark in self.ran if self.scene._lane_key(mark) == lane.key}
            bars = pack((key, mark.started or 0.0, self._until(mark)) for key, mark in mine.items())
            depth = max((bar.row for bar in bars), default=0) + 1
            rows[lane.key] = depth, [(bar.row, mine[bar.key]) for bar in bars]
        return rows

    def _until(self, mark: _Mark) -> float:
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
        canvas = _Canvas(self.theme, self.WIDTH, height, ax)
        painter = _Painter(canvas)
        _heading(canvas, self.scene, self.WIDTH)
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

    def _axis(self, canvas: _Canvas, top: float, bottom: float) -> None:
        ticks = list(_ticks(self.end - self.begin))
        xs = [self._x(self.begin + offset) for offset, _ in ticks]
        canvas.lines(
            [[(x, top), (x, bottom)] for x in xs],
            colors=self.theme.faint,
            linewidths=[1.0],
            zorder=0.5,
        )
        for x, (_, text) in zip(xs, ticks, strict=True):
            canvas.text(x, bottom + 11, text, 9.5, self.theme.muted, ha="center", va="center")

    def _rows(self, painter: _Painter, spans: Mapping[str, tuple[float, float]]) -> None:
        canvas = painter.canvas
        small: list[tuple[Box, _Mark]] = []
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
            text = _shortened(f"{lane.worker} · {lane.label}", size, self.LABEL - 20)
            canvas.text(x + 13, top + height / 2, text, size, va="center")
            for row, mark in self.rows[lane.key][1]:
                box = self._box(mark, top + row * self.row)
                if self.row >= 16 and box[2] >= 9:
                    self._bar(painter, box, mark)
                else:
                    small.append((box, mark))
        painter.marks(small, states=False)
        self._strips(painter, nodes)

    def _box(self, mark: _Mark, top: float) -> Box:
        x = self._x(mark.started or 0.0)
        pad = 2.5 if self.row >= 16 else 0.6
        width = max(1.5, self._x(self._until(mark)) - x - 0.5)
        return x, top + pad, width, self.row - 2 * pad

    def _bar(self, painter: _Painter, box: Box, mark: _Mark) -> None:
        x, y, width, height = box
        canvas = painter.canvas
        shape = canvas.rounded(
            box, min(3, width / 3), facecolor=self.theme.paper, linewidth=0, zorder=3
        )
        painter.ground(shape, box, mark.paint)
        painter._border(shape, mark)
        marked = mark.state != "done" and width >= 15
        room = width - 10 - (16 if marked else 0)
        text = _shortened(mark.name, 9.5, room) if room > 26 else ""
        if len(text) > 2:
            middle = y + height / 2
            if mark.paint.busy:
                painter.label(x + 6, middle, [(text, 9.5, 0.5)], height - 6)
            ink = painter.ink(mark.paint)
            canvas.text(x + 6, middle, text, 9.5, ink, va="center", zorder=5)
        if marked:
            painter.glyph(mark.state, x + width - min(9, width / 2), y + height / 2, 6.5)

    def _strips(self, painter: _Painter, nodes: Mapping[str, list[float]]) -> None:
        if not self.strip:
            return
        for node, edges in nodes.items():
            _strip(
                painter,
                self.scene,
                node,
                (MARGIN, min(edges), self.strip - 5, max(edges) - min(edges)),
            )


def _strip(painter: _Painter, scene: _Scene, node: str, box: Box) -> None:
    x, y, width, height = box
    paint = scene.encoding.node_paint(node)
    shape = painter.canvas.rounded(box, 4, facecolor=paint.fills[0], linewidth=0, zorder=0)
    painter.ground(shape, box, paint, z=0.2)
    text = next(
        (words for words in (f"node {node}", node) if _width(words, 10.5) <= height - 6),
        _shortened(node, 10.5, height - 6),
    )
    painter.canvas.text(
        x + width / 2,
        y + height / 2,
        text,
        10.5,
        text_on(*paint.fills),
        rotation=90,
        ha="center",
        va="center",
        rotation_mode="anchor",
        zorder=1,
    )


def _ran(mark: _Mark) -> bool:
    return mark.started is not None and mark.processor is not None and not mark.chunk


def _ticks(span: float, count: int = 8) -> Iterator[tuple[float, str]]:
    """Yields round times from 0 to the end of the span, with their texts."""
    rough = span / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    unit, scale = ("ms", 1e3) if span < 2 else ("s", 1.0)
    for index in range(int(span / step + 1e-9) + 1):
        value = index * step * scale
        digits = max(0, -floor(log10(step * scale) + 1e-9))
        yield index * step, f"{value:.{digits}f} {unit}"
