"""Writes the table of the page on pins from the rules themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from scopekit.pinning.table import TABLE

if TYPE_CHECKING:
    from scopekit.pinning.rule import Rule

PAGE = Path(__file__).parent / "pins.md"
_MARK, _END = "<!-- table of pins -->", "<!-- end -->"
_MOST = 3


def with_table(page: str) -> str:
    """Returns the text of a page with the table put in place of what stands there."""
    rows = [_row(rule) for rule in sorted(TABLE, key=lambda rule: rule.row) if _is_told(rule)]
    lines = ["| row | types | bound to | because |", "|--|--|--|--|", *rows]
    table = "\n".join([_MARK, *lines, _END])
    # As a function: backslashes mean nothing in what it returns.
    return re.sub(rf"{_MARK}\n.*?{_END}", lambda _: table, page, flags=re.DOTALL)


def _is_told(rule: Rule) -> bool:
    return not rule.keys[0].startswith("scopekit.")


def _row(rule: Rule) -> str:
    names = [
        f"`{key.removeprefix('builtins:').lstrip(':').replace(':', '.')}`" for key in rule.keys
    ]
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    bound = {"soft": f"its {rule.level}, told", "note": "nothing, told"}.get(
        rule.strength, "nothing" if rule.level == "free" else f"its {rule.level}"
    )
    return f"| {rule.row} | {', '.join(names[:_MOST])}{more} | {bound} | {rule.why} |"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
