"""Pictures as SVG whose colours are the page's.

One drawing serves light and dark paper: it is drawn in colours that stand for the
parts of a theme, and these become CSS variables, which the page sets for either.
"""

from __future__ import annotations

import re
from dataclasses import fields
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from scopekit.encoding import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

__all__ = ("PAGE", "page_svg", "variables")

# Nearly black, so that what escaped would be seen; no scope and no state has them.
_PARTS = tuple(field.name for field in fields(Theme))[1:-1]
_MARKED = {name: f"#0301{number:02x}" for number, name in enumerate(_PARTS)}
_STROKES = {f"stroke{number}": f"#0302{number:02x}" for number in range(len(LIGHT.strokes))}
PAGE = Theme("page", **_MARKED, strokes=tuple(_STROKES.values()))
_NAMES = {colour: name for name, colour in (_MARKED | _STROKES).items()}


def _colours(theme: Theme) -> Iterator[tuple[str, str]]:
    for name in _PARTS:
        yield name, getattr(theme, name)
    yield from zip(_STROKES, theme.strokes, strict=True)


def variables(*, dark: bool = False) -> str:
    """Writes the CSS that sets the colours of all pictures in a page."""
    return "".join(f"--sk-{name}:{value};" for name, value in _colours(DARK if dark else LIGHT))


def page_svg(figure: Figure, label: str) -> str:
    """Writes a figure drawn in ``PAGE`` as an SVG element that stands among others."""
    import matplotlib as mpl  # noqa: PLC0415 - it takes half a second to load

    buffer = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt keeps the ids of one picture from those of the next.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    # Ids that matplotlib counts up come again in every picture, and its style is for all.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<[^<>]*>", _slim, text)
    text = re.sub(r">\s+<", "><", text)
    width = figure.get_size_inches()[0] * figure.dpi
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    look = f"width:100%;max-width:{width:.0f}px;stroke-linejoin:round;stroke-linecap:butt"
    return f'{head} role="img" aria-label="{escape(label)}" style="{look}">{rest}'


def _slim(tag: re.Match[str]) -> str:
    """Rewrites one tag: variables for colours, no more digits than a screen shows."""
    text = tag[0].replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    text = re.sub(r"#030[12]\w\w", lambda found: f"var(--sk-{_NAMES[found[0]]})", text)
    text = re.sub(r"-?\d+\.\d{2,}", _short_number, text)
    return re.sub(r"\s*\n\s*", " ", text).replace(' "', '"').replace(": ", ":")


def _short_number(found: re.Match[str]) -> str:
    number = float(found[0])
    # Widths and opacities are small; a tenth of a point is enough for places.
    text = f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"  # noqa: PLR2004
    return text.rstrip("0").rstrip(".")
