"""What messages say of pins: what stays, why, and the line that solves it."""

from __future__ import annotations

import re
import sys
import warnings
from typing import TYPE_CHECKING, Any

from scopekit.pinning.pin import name_of
from scopekit.pinning.rule import key_of
from scopekit.scopes import NodeScope, ProcessScope

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from scopekit.errors import SchedulingError
    from scopekit.pinning.packing import Culprit, Noted
    from scopekit.pinning.pin import Pin

__all__ = ("advice", "note_text", "refusal_text", "refused", "remedies", "warn_user")

_PACKAGE = __name__.partition(".")[0]


def refused(name: str, culprits: Sequence[Culprit], error: SchedulingError) -> SchedulingError:
    """Returns the error of a task that can be placed nowhere, in words about what is pinned.

    Args:
        name: what messages call the task.
        culprits: what is pinned in its call.
        error: what the scheduler said.
    """
    told = error.explanation
    if told is None:
        return type(error)(f"{refusal_text(name, culprits)}\n{error}", None)
    others = [op for op in told.operands if not any(_is_of(op.origin, c) for c in culprits)]
    mask = told.topology.everything
    for operand in others:
        mask &= told.topology.mask(operand.scope)
    if not culprits or not mask:
        return error  # it could be placed nowhere without them, either
    scopes = "; ".join(operand.told() for operand in others)
    return type(error)(f"{refusal_text(name, culprits)}\nThe task itself: {scopes}.", told)


def _is_of(origin: str, culprit: Culprit) -> bool:
    return origin == culprit.origin or origin.startswith(f"{culprit.origin} (")


def refusal_text(name: str, culprits: Sequence[Culprit]) -> str:
    """Says why a call cannot leave this process, and what to write instead.

    Args:
        name: what messages call the task.
        culprits: what stays; at least one.
    """
    if len(culprits) == 1:
        lines = [_sentence(name, culprits[0])]
    else:
        part = "function" if all(c.origin == "function" for c in culprits) else "call"
        lines = [f"{name}: its {part} cannot be sent to an engine, since all of these stay here:"]
        if not all(culprit.stays for culprit in culprits):
            lines = [f"{name}: no process there is may have all of these:"]
        lines += [f"  {_clause(culprit)}{_valid_on(culprit)}" for culprit in culprits]
    lines += [_ways_out(culprits)]
    lines += dict.fromkeys(
        line for culprit in culprits for line in remedies(culprit.way.variable, culprit.pin)
    )
    return "\n".join(lines)


def _sentence(name: str, culprit: Culprit) -> str:
    if culprit.origin == "function":
        return f"{name}: its function cannot be sent {_whither(culprit)}: {_clause(culprit)}."
    subject, reason = f"{culprit.origin} ({culprit.type})", culprit.pin.rule.why
    if culprit.way.depth:
        reason = f"{culprit.way.text} is a {culprit.pin.type}, and {reason}"
    return f"{name}: {subject} cannot be sent {_whither(culprit)}: {reason}."


def _clause(culprit: Culprit) -> str:
    what = culprit.way.told() if culprit.way.depth else culprit.origin
    return f"{what} is a {culprit.pin.type}, and {culprit.pin.rule.why}"


def _valid_on(culprit: Culprit) -> str:
    if culprit.stays or culprit.pin.scope is None:
        return ""
    return f"; valid on {culprit.pin.scope.describe()}"


def _whither(culprit: Culprit) -> str:
    if culprit.stays or culprit.pin.scope is None:
        return "to an engine"
    return f"anywhere but to {culprit.pin.scope.describe()}"


def _ways_out(culprits: Sequence[Culprit]) -> str:
    scope, there = culprits[0].pin.scope, ""
    if any(culprit.pin.rule.bare or culprit.pin.scope != scope for culprit in culprits):
        scope = None
    if isinstance(scope, ProcessScope):
        there = f"scope=sk.ProcessScope({_quoted(scope.worker)})"
    elif isinstance(scope, NodeScope):
        there = f"scope=sk.NodeScope({_quoted(scope.node)})"
    if not there:
        return "Have one where the task runs, and pass it as before:"
    return f"Run the task there: {there}. Or have one where it runs, and pass it as before:"


def _quoted(name: Any) -> str:
    return f'"{name}"' if isinstance(name, str) else str(name)


def remedies(variable: str, pin: Pin) -> list[str]:
    """Returns the lines that solve it: one for each place, or one alone; what else to send."""
    name = variable if variable.isidentifier() else "it"
    line = pin.line()
    per = line.rpartition('per="')[2].rstrip('")')
    made = f"one for each {per}, made there when it is first used"
    comment = made if pin.rule.offer == "shard" else "one, where it is to stay"
    lines = [f"  {name} = {line}  # {comment}"]
    if pin.rule.instead:
        lines.append(f"or send {pin.rule.instead}.")
    return lines


def note_text(name: str, noted: Noted) -> str:
    """Says what happens to something that may go."""
    where = noted.way.text if noted.way.words else noted.origin
    inside = f", {noted.way.text}," if noted.way.depth and not noted.way.words else ""
    instead = f" Better send {noted.rule.instead}." if noted.rule.instead else ""
    return f"{name}: {where}{inside} is a {name_of(type(noted.value))}: {noted.rule.why}.{instead}"


def advice(error: BaseException, culprit: Any) -> str:
    """Says what to do about an object that does not pickle, and for which there is no rule.

    Args:
        error: what it raised.
        culprit: the object, None if it is not known.
    """
    text = f"{error} {error.__cause__ or ''}"
    native = re.search(
        r"no default __reduce__|non-trivial __cinit__|cannot be converted to a Python object for"
        r"|ctypes objects containing pointers|cannot pickle '|can't pickle",
        text,
    )
    if not native or culprit is None:
        return ""
    kind = type(culprit)
    return (
        f" If each {name_of(kind)} belongs to the process that made it, say so once, and tasks"
        f' go to where it is: sk.pins("{key_of(kind)}", "process").'
    )


def warn_user(text: str) -> None:
    """Warns at the line of the user that led here, not at one of ours."""
    frame: FrameType | None = sys._getframe(1)
    depth = 2
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
        depth += 1
    warnings.warn(text, UserWarning, stacklevel=depth)


def _is_ours(frame: FrameType) -> bool:
    module: Any = frame.f_globals.get("__name__", "")
    return str(module).partition(".")[0] == _PACKAGE
