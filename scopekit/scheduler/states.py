"""The states of tasks and chunks, with the ways from one to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.graph import ChunkState, TaskState

__all__ = ("CHUNK_MOVES", "TASK_MOVES", "diagram")

TASK_MOVES: Mapping[tuple[TaskState, TaskState], str] = {
    ("waiting", "queued"): "its inputs are made, and there is a processor for it",
    ("waiting", "unmatched"): "its inputs are made, and no processor may run it now",
    ("waiting", "running"): "its engine has its inputs and began",
    ("waiting", "done"): "its engine ended it before the word of its inputs came",
    ("waiting", "failed"): "no processor may run it, an input is lost, or it raised",
    ("waiting", "blocked"): "an input failed",
    ("waiting", "cancelled"): "the user cancelled it",
    ("unmatched", "queued"): "a worker joined that may run it",
    ("unmatched", "waiting"): "an input was lost, and is made again",
    ("unmatched", "failed"): "its time to wait is over",
    ("unmatched", "blocked"): "an input that was to be made again failed",
    ("unmatched", "cancelled"): "the user cancelled it",
    ("queued", "running"): "its engine began",
    ("queued", "waiting"): "its engine handed it back or died; or an input was lost",
    ("queued", "unmatched"): "the last worker that may run it left",
    ("queued", "done"): "it gave its results",
    ("queued", "failed"): "it raised, or nobody is left to run it",
    ("queued", "blocked"): "an input that was to be made again failed",
    ("queued", "cancelled"): "the user cancelled it",
    ("running", "done"): "it gave its results",
    ("running", "waiting"): "its engine died; or it is to be tried again",
    ("running", "cancelled"): "its engine stopped it; or the run that spawned it died",
    ("running", "failed"): "it raised, or its engine died and it may not run again",
    ("done", "waiting"): "its result was lost, and is made again",
}
"""Each way of a task from one state to another, with what takes it there."""

CHUNK_MOVES: Mapping[tuple[ChunkState, ChunkState], str] = {
    ("pending", "held"): "a process holds it",
    ("pending", "failed"): "its maker failed",
    ("pending", "lost"): "the process that it was on its way to is gone",
    ("held", "released"): "no handle and no unfinished task wants it",
    ("held", "lost"): "the last process that held it is gone",
    ("lost", "pending"): "its maker runs again",
    ("released", "pending"): "its maker runs again, for a chunk that is made of it",
}
"""Each way of a chunk from one state to another, with what takes it there."""


def diagram(moves: Mapping[tuple[str, str], str]) -> str:
    """Draws a table of moves as a Mermaid state diagram.

    Args:
        moves: from and to, with what takes it there.

    Returns:
        The text of the diagram.

    Example:
        >>> print(diagram({("held", "lost"): "its process is gone"}))
        stateDiagram-v2
            held --> lost: its process is gone
    """
    # A colon or semicolon would end the label.
    lines = [
        f"    {before} --> {after}: {cause.replace(';', ',')}"
        for (before, after), cause in moves.items()
    ]
    return "\n".join(["stateDiagram-v2", *lines])
