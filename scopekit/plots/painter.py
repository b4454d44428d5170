"""Boxes, discs, hatches, glyphs."""

# ruff: noqa: PLC0415 - matplotlib takes half a second to load, which no import of ours may cost

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.encoding import GLYPHS, INVALID, ScopePaint, Swatch, state_style, text_on
from scopekit.plots.detail import TWO_LINES
from scopekit.plots.words import shortened, width_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.patches import Patch

    from scopekit.plots.canvas import Box, Canvas
    from scopekit.plots.detail import Size
    from scopekit.plots.scene import Mark

__all__ = ("Painter", "disc_radius")


class Painter:
    """Draws boxes, discs and glyphs on a canvas."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.theme = canvas.theme

    def task(self, mark: Mark, size: Size, x: float, y: float, chip: ScopePaint | None) -> None:
        """Draws the box of a task around its middle."""
        box = (x - size.width / 2, y - size.height / 2, size.width, size.height)
        faded = mark.state == "cancelled"
        shape = self._body(mark, box, size.round, chip, size.chip)
        if mark.narrowed:
            self._ring(mark, box, size.round)
        self.border(shape, mark)
        self._words(mark, size, box)
        self.glyph(mark.state, x + size.width / 2 - 3, y - size.height / 2 + 2, size.glyph)
        if faded:
            self.canvas.rounded(
                box, size.round, facecolor=self.theme.paper, alpha=0.45, linewidth=0, zorder=6
            )

    def _body(
        self, mark: Mark, box: Box, radius: float, chip: ScopePaint | None, width: float
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

    def _ring(self, mark: Mark, box: Box, radius: float) -> None:
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

    def border(self, shape: Patch, mark: Mark) -> None:
        """Draws the border of a box, which tells its state."""
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

    def _words(self, mark: Mark, size: Size, box: Box) -> None:
        x, y, width, height = box
        left = x + size.chip + 6
        room = width - size.chip - 6 - size.glyph - 3
        two = height >= TWO_LINES
        lines = [(shortened(mark.name, size.name, room), size.name, 0.36 if two else 0.5)]
        if two:
            lines.append((shortened(mark.paint.badge, size.badge, room + 8), size.badge, 0.73))
        ink = self.ink(mark.paint)
        if not two:
            self._short_badge(mark, size, box, room - width_of(lines[0][0], size.name))
        if mark.paint.busy:
            self.label(left, y + height / 2, lines, height - 9)
        for text, points, share in lines:
            self.canvas.text(left, y + height * share, text, points, ink, zorder=5, va="center")

    def _short_badge(self, mark: Mark, size: Size, box: Box, room: float) -> None:
        """Writes the scope behind the name, where it says more than the colour."""
        x, y, width, height = box
        told = mark.paint.badge
        plain = mark.paint.busy or mark.paint.crossed or self.theme.default in self._on(mark.paint)
        if plain or not mark.paint.swatches or width_of(told, size.badge) > room - 8:
            return
        self.canvas.text(
            x + width - 9,
            y + height * 0.53,
            told,
            size.badge,
            self.ink(mark.paint),
            ha="right",
            va="center",
            alpha=0.8,
            zorder=5,
        )

    def _on(self, paint: ScopePaint) -> tuple[str, ...]:
        return paint.grounds(self.theme)

    def ink(self, paint: ScopePaint) -> str:
        """Chooses the colour of words that stand on a scope's ground."""
        if paint.busy or not paint.swatches or self.theme.default in self._on(paint):
            return self.theme.ink
        return text_on(*paint.grounds(self.theme))

    def label(
        self, left: float, middle: float, lines: Sequence[tuple[str, float, float]], height: float
    ) -> None:
        """Lays paper under words that would be lost on stripes or hatches."""
        width = max(width_of(text, size) for text, size, _ in lines) + 7
        box = (left - 3.5, middle - height / 2, width, height)
        self.canvas.rounded(box, 3, facecolor=self.theme.paper, alpha=0.74, linewidth=0, zorder=4.5)

    def chunk(self, mark: Mark, size: Size, x: float, y: float) -> None:
        """Draws a chunk as a disc, its scope as a pie, its name before it."""
        from matplotlib.patches import Circle, Wedge

        radius = disc_radius(size)
        left = x - size.width / 2
        if size.name:
            x += size.width / 2 - radius
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
            text = shortened(mark.name, size.name, size.width - 2 * radius - 5)
            self.canvas.text(left, y, text, size.name, zorder=5, va="center")

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

    def marks(self, boxes: Sequence[tuple[Box, Mark]], *, states: bool = True) -> None:
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
        self.canvas.ax.add_collection(
            PolyCollection(corners, clip_on=False, **options), autolim=False
        )

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


def disc_radius(size: Size) -> float:
    """Gives the radius of a chunk's disc."""
    return min(11.0, size.height / 2.2)


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
