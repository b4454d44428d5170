"""Matplotlib axes measured in pixels from the top left corner."""

# ruff: noqa: PLC0415 - matplotlib takes half a second to load, which no import of ours may cost

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from scopekit.plots.words import FAMILY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from scopekit.encoding import Theme

__all__ = ("HEAD", "MARGIN", "Box", "Canvas", "figure_class")

DPI = 100
MARGIN = 22.0
HEAD = 52.0
Box = tuple[float, float, float, float]


@cache
def figure_class() -> type[Figure]:
    """Makes the class of our figures, once matplotlib is there."""
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
        return figure_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Canvas:
    """Matplotlib axes measured in pixels from the top left corner."""

    def __init__(self, theme: Theme, width: float, height: float, ax: Axes | None) -> None:
        if ax is None:
            figure = figure_class()(figsize=(width / DPI, height / DPI), dpi=DPI)
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
        """Writes one line of text."""
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
        """Adds a patch, cut to the shape of another one."""
        # As add_patch, which measures each patch besides: the limits are fixed here.
        self.ax.add_artist(patch)
        if clip is None:
            patch.set_clip_on(False)
        else:
            patch.set_clip_path(clip)
        return patch

    def rectangle(self, x: float, y: float, width: float, height: float, **options: Any) -> Patch:
        """Draws a rectangle from its top left corner."""
        from matplotlib.patches import Rectangle

        clip = options.pop("clip", None)
        options.setdefault("linewidth", 0)
        return self.add(Rectangle((x, y), width, height, **options), clip)

    def rounded(
        self, box: tuple[float, float, float, float], radius: float, **options: Any
    ) -> Patch:
        """Draws a rectangle with round corners."""
        from matplotlib.patches import FancyBboxPatch

        x, y, width, height = box
        style = f"round,pad=0,rounding_size={radius}"
        return self.add(FancyBboxPatch((x, y), width, height, boxstyle=style, **options))

    def lines(self, paths: Sequence[Sequence[tuple[float, float]]], **options: Any) -> None:
        """Draws straight lines through points."""
        from matplotlib.collections import LineCollection

        widths = [width * self.points for width in options.pop("linewidths", [1.0])]
        options.setdefault("clip_on", "clip_path" in options)
        self.ax.add_collection(
            LineCollection([list(path) for path in paths], linewidths=widths, **options),
            autolim=False,
        )

    def curves(self, paths: Sequence[Sequence[tuple[float, float]]], **options: Any) -> None:
        """Draws cubic curves through points."""
        from matplotlib.collections import PathCollection
        from matplotlib.path import Path

        made = [
            Path(path, [Path.MOVETO] + [Path.CURVE4] * (len(path) - 1)) for path in paths if path
        ]
        options["linewidths"] = [width * self.points for width in options["linewidths"]]
        self.ax.add_collection(
            PathCollection(made, facecolors="none", clip_on=False, **options), autolim=False
        )
