"""Figures that tests measured, shown at the end of a run: a pass alone says little of some."""

from __future__ import annotations

shown: dict[str, str] = {}


def tell(what: str, figures: str) -> None:
    """Have a line shown at the end; a later one of the same name takes its place."""
    shown[what] = figures
