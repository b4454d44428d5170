"""Measures words, shortens those that are too long."""

# ruff: noqa: PLC0415 - matplotlib takes half a second to load, which no import of ours may cost

from __future__ import annotations

from functools import lru_cache

__all__ = ("FAMILY", "shortened", "width_of")

# Matplotlib brings this font along; naming another that is missing warns at every text.
FAMILY = "DejaVu Sans"


@lru_cache(maxsize=4096)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Tells how wide a text is, in the units of its size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FAMILY, size=size, weight=weight)
    width: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return width


def shortened(text: str, size: float, room: float, weight: str = "normal") -> str:
    """Cuts a text down to the room that there is."""
    if width_of(text, size, weight) <= room:
        return text
    # The end of a name tells the tasks of one function apart.
    head, tail = text, text[text.rfind("-") :] if 0 < text.rfind("-") >= len(text) - 6 else ""
    head = text[: len(text) - len(tail)]
    while head and width_of(f"{head}…{tail}", size, weight) > room:
        head = head[:-1]
    return f"{head}…{tail}" if head else "…"
