"""What stands around a picture: its heading, its legend, the strips of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.encoding import STATES, ScopePaint, state_style, text_on
from scopekit.plots.canvas import MARGIN
from scopekit.plots.words import shortened, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scopekit.plots.canvas import Box, Canvas
    from scopekit.plots.painter import Painter
    from scopekit.plots.scene import Mark, Scene

__all__ = ("Legend", "heading", "node_strip")

MAX_LEGEND = 12


class Legend:
    """The scopes and the states that a picture shows, set in lines of text."""

    ROW = 24.0
    HEAD = 92.0
    SIZE = 10.0

    def __init__(self, marks: Iterable[Mark], width: float) -> None:
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
            text = shortened(label, self.SIZE, width - self.HEAD - 40)
            wide = 34 + width_of(text, self.SIZE) + 18
            if row and x + wide > width:
                self.rows.append((head, row))
                head, row, x = "", [], self.HEAD
            row.append((x, text, sample))
            x += wide
        if row:
            self.rows.append((head, row))

    def draw(self, painter: Painter, left: float, top: float, width: float) -> None:
        """Draws the legend below a rule."""
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


def heading(canvas: Canvas, scene: Scene, width: float) -> None:
    """Writes the title, with what there is below it."""
    title = shortened(scene.title, 15, width - 2 * MARGIN, "bold")
    canvas.text(MARGIN, 22, title, 15, weight="bold", va="center")
    summary = shortened(scene.summary(), 10.5, width - 2 * MARGIN)
    canvas.text(MARGIN, 42, summary, 10.5, canvas.theme.muted, va="center")


def node_strip(painter: Painter, scene: Scene, node: str, box: Box) -> None:
    """Draws the strip that stands beside the lanes of one node."""
    x, y, width, height = box
    paint = scene.encoding.node_paint(node)
    shape = painter.canvas.rounded(box, 4, facecolor=paint.fills[0], linewidth=0, zorder=0)
    painter.ground(shape, box, paint, z=0.2)
    text = next(
        (words for words in (f"node {node}", node) if width_of(words, 10.5) <= height - 6),
        shortened(node, 10.5, height - 6),
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
