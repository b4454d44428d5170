"""Tables, as text for a terminal and as Markdown for a page."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Table", "amount")


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        headings: the first row.
        rows: the others, each as long as the first.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Returns the table for a terminal: names to the left, figures to the right."""
        everything = (self.headings, *self.rows)
        widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
        return "\n".join(_line(row, widths) for row in everything)

    def markdown(self) -> str:
        """Returns the table for a page."""
        rule = (":--", *("--:" for _ in self.headings[1:]))
        lines = (self.headings, rule, *self.rows)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (
        cell.ljust(width) if not place else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *others)).rstrip()


def amount(value: float) -> str:
    """Returns a number with three digits that count, and no fewer before the point."""
    if value == int(value) and abs(value) < 1e6:  # noqa: PLR2004  # no digits after the point
        return f"{value:,.0f}"
    if abs(value) >= 100:  # noqa: PLR2004  # three digits
        return f"{value:,.0f}"
    if abs(value) >= 10:  # noqa: PLR2004  # likewise
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:#.3g}"
