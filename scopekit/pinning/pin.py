"""A pin: one value with the scope that its type gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from scopekit.errors import ScopeError
from scopekit.pinning.rule import Level, key_of
from scopekit.scopes import AnyScope, Scope, as_scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekit.pinning.place import Place
    from scopekit.pinning.rule import Rule

__all__ = ("LEVELS", "Pin", "name_of", "pin_of", "told_of")

LEVELS: tuple[str, ...] = get_args(Level)


class Pin(NamedTuple):
    """Where one value is valid, by its type.

    Attributes:
        type: the name of the type.
        rule: what says so.
        scope: where it is valid, None as long as nobody knows where it is.
    """

    type: str
    rule: Rule
    scope: Scope | None

    def told(self) -> str:
        """Says what is pinned, with the reason."""
        return f"a {self.type}: {self.rule.why}"

    def line(self) -> str:
        """Returns what makes one for each place, or one alone where it is to stay."""
        rule = self.rule
        make = rule.make or f"{self.type.lstrip('_')}(...)"
        if rule.offer == "mutable":
            return f"sk.mutable(lambda: {make}, worker=0)"
        per = rule.level if rule.level in ("thread", "node") else "process"
        return f'sk.shard(lambda: {make}, per="{per}")'


def told_of(pins: Sequence[Pin], before: str = "") -> str:
    """Says what is pinned in a value, with the reasons; on a second line what makes the first.

    Args:
        pins: the pins; at least one.
        before: what to say before them.
    """
    reasons = " and ".join(dict.fromkeys(pin.told() for pin in pins))
    return f"{before}{reasons}\n{pins[0].line()}"


def name_of(kind: type) -> str:
    """Names a type as messages do, without its module where that is builtins."""
    module, _, name = key_of(kind).partition(":")
    return name if module == "builtins" else f"{module}.{name}"


def pin_of(value: Any, rule: Rule, place: Place | None) -> Pin | None:
    """Returns the pin that a rule puts on a value, None if it leaves it free.

    Args:
        value: the value.
        rule: a hard rule that holds for it.
        place: where it is, None if nobody knows.

    Raises:
        ScopeError: the function of a user gave something that is no scope.
    """
    if rule.where is None:
        if rule.level == "free":
            return None
        return Pin(name_of(type(value)), rule, place and place.scope(rule.level))
    where = rule.where(value)
    if where is None or where == "free":
        return None
    if isinstance(where, str) and where in LEVELS:
        return Pin(name_of(type(value)), rule, place and place.scope(where))  # type: ignore[arg-type]
    try:
        scope = as_scope(where)
    except ScopeError as error:
        raise ScopeError(
            f"the pin of {rule.keys[0]} gave no scope: {error} One of the words"
            f" {', '.join(LEVELS)} does, too."
        ) from None
    return (
        None if scope == AnyScope() and not rule.reopen else Pin(name_of(type(value)), rule, scope)
    )
