"""One rule: what values of a type are bound to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ("Check", "Level", "Reduced", "Rule", "Strength", "key_of")

Level: TypeAlias = Literal["thread", "process", "node", "free"]
"""What the value must not leave."""
Strength: TypeAlias = Literal["hard", "soft", "note"]
"""Hard refuses to leave; soft may be copied, and is better where it is; note may go anywhere.

Of the last two, whoever sends one is told, once."""
Reduced: TypeAlias = tuple[Any, ...]
"""How pickle is told to write an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What values of a type are bound to, and what to say about it.

    Attributes:
        keys: ``"module:qualname"`` of each class that it is for, wherever that stands among
            the bases of a value's type; without a module, the class of any module.
        level: what the value must not leave.
        why: the reason, as the end of a sentence that begins with the type.
        row: where it stands in the table of ``docs/pins.md``; 0 for a rule of a user.
        strength: whether it refuses, or tells.
        make: an expression that makes such a value, for messages.
        offer: which line a message offers: one for each place, or one alone.
        instead: what can be sent in its place, if anything can.
        check: looks at a value whose type matched; the rule that is to hold for it, or None
            if it is free.
        reopen: how to pickle it so that it is opened again within the level.
        where: the function of a user that returns the scope of a value.
        bare: True to count only where the value itself is one, not a part of something.
        frees: returns what is sent by value where it is a part of such a value.
        in_results: False for what need not be told of the result of a task.
        since: the version of the table in which it was first.
    """

    keys: tuple[str, ...]
    level: Level
    why: str
    row: int = 0
    strength: Strength = "hard"
    make: str = ""
    offer: Literal["shard", "mutable"] = "shard"
    instead: str = ""
    check: Check | None = None
    reopen: Callable[[Any], Reduced | None] | None = None
    where: Callable[[Any], Any] | None = None
    bare: bool = False
    frees: Callable[[Any], list[Any]] | None = None
    in_results: bool = True
    since: int = 1


Check: TypeAlias = Callable[[Any, Rule], Rule | None]


def key_of(kind: type) -> str:
    """Returns the key of a class, without asking the class for anything but its name.

    Example:
        >>> import threading
        >>> key_of(threading.Event)
        'threading:Event'
    """
    # Not kind.__module__, which a metaclass may answer, over a network perhaps.
    module = type.__getattribute__(kind, "__module__")
    return f"{module}:{type.__getattribute__(kind, '__qualname__')}"
