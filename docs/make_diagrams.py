"""Writes the state diagrams of the page on scheduling from the scheduler's own tables."""

from __future__ import annotations

import re
from pathlib import Path

from scopekit.scheduler.states import CHUNK_MOVES, TASK_MOVES, diagram

PAGE = Path(__file__).parent / "scheduling.md"


def with_diagrams(page: str) -> str:
    """Returns the text of a page with both diagrams put in place of what stands there."""
    for name, moves in (("tasks", TASK_MOVES), ("chunks", CHUNK_MOVES)):
        mark = f"<!-- states of {name} -->"
        drawn = f"{mark}\n```mermaid\n{diagram(moves)}\n```"
        # As a function: backslashes mean nothing in what it returns.
        page = re.sub(
            rf"{mark}\n```mermaid\n.*?\n```", lambda _, new=drawn: new, page, flags=re.DOTALL
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(with_diagrams(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
