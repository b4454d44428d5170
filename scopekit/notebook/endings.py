"""How a task ended, in the words of a notebook."""

from __future__ import annotations

import re
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scopekit.engine.cell import SHOWN
from scopekit.errors import ScopeViolationError
from scopekit.scopes import AnyScope

if TYPE_CHECKING:
    from scopekit.handles import Chunk, Task
    from scopekit.session import Session

__all__ = ("End", "end_of")

_SHOWN_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class End:
    """How a task ended.

    Attributes:
        error: the text of its error.
        remark: why its value is not shown.
        value: the value to show, as mime bundle with metadata.
    """

    error: str = ""
    remark: str = ""
    value: tuple[dict[str, Any], dict[str, Any]] | None = None


def end_of(shell: Any, session: Session, task: Task, *, shows: bool) -> End:
    """Tells how a task ended.

    Args:
        shell: formats the value.
        session: the session of the task.
        task: a task that has ended.
        shows: whether its value is wanted.
    """
    if task.cancelled():
        return End()
    # Task's own method also reports a value that must not come here, which is no failure.
    failure = Future.exception(task)
    if failure is not None:
        return End(error=_error_text(failure))
    if not shows:
        return End()
    try:
        return _value_of(shell, session, task)
    except ScopeViolationError:
        return End(remark=f"its value stays on {_scope_of(session, task)}")
    except Exception as error:  # noqa: BLE001  # a value's type may raise anything
        return End(remark=f"its value cannot be shown: {type(error).__name__}: {error}")


def _value_of(shell: Any, session: Session, task: Task) -> End:
    refusal = task.exception()
    if refusal is not None:
        raise refusal
    chunk: Chunk = session.fetch(task, raw=True)
    if chunk.type == "NoneType":
        return End()
    if chunk.nbytes > _SHOWN_BYTES:
        return End(remark=f"its value, {chunk.nbytes / 1e6:.0f} MB, stays until %fetch brings it")
    shown = task.outputs[SHOWN].result() if SHOWN in task.outputs else None
    return End(value=shown or shell.display_formatter.format(task.result()))


def _scope_of(session: Session, task: Task) -> str:
    chunk: Chunk = session.fetch(task, raw=True)
    return chunk.processor.describe() if chunk.scope == AnyScope() else chunk.scope.describe()


def _error_text(error: BaseException) -> str:
    notes = [_users_frames(note) for note in getattr(error, "__notes__", ())]
    return "\n".join([f"{type(error).__name__}: {error}", *notes])


_TRACEBACK = re.compile(r"([ |]*)(\+ )?(?:Exception Group )?Traceback \(most recent call last\):")


def _users_frames(text: str) -> str:
    """Leaves out the frames that come before the cell's own in a formatted traceback."""
    kept: list[str] = []
    margin: str | None = None
    for line in text.splitlines():
        head = _TRACEBACK.match(line)
        if head is not None:
            margin = head[1] + ("| " if head[2] else "")
        elif margin is not None:
            # Without a frame of the cell, none of the others says anything to its author.
            if line.startswith(f"{margin}  ") and not line.startswith(f'{margin}  File "<cell '):
                continue
            margin = None
        kept.append(line)
    return "\n".join(kept)
