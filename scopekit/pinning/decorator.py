"""``sk.pins``: rules that users give."""

from __future__ import annotations

import difflib
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from scopekit.errors import ScopeError
from scopekit.pinning.pin import LEVELS, name_of
from scopekit.pinning.registry import registry
from scopekit.pinning.rule import Rule, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Pins", "pins")

Where = TypeVar("Where", bound="Callable[[Any], Any]")
# pickle does not ask about these: it knows how they are written.
_NEVER_ASKED = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(list, tuple, dict, set, frozenset, type, object, FunctionType, ModuleType),
)


class Pins:
    """Says what values of a type are bound to; from then on tasks go to them.

    Use it as a decorator over a function that is given a value and returns the scope in
    which it is valid, or with one of the words ``"thread"``, ``"process"``, ``"node"``,
    ``"free"``. The function may return a word, too; None leaves a value free. It runs in the
    process that has the value, and is sent to the engines of every session.

    Example:
        >>> class Camera:
        ...     pass
        >>> pins(Camera, "process")
        >>> pins.explain(Camera()).partition(": ")[2]
        'bound to its process, hard, by sk.pins: its class was registered for it.'
        >>> pins(Camera, "free")
    """

    @overload
    def __call__(self, kind: type | str) -> Callable[[Where], Where]: ...

    @overload
    def __call__(self, kind: type | str, level: str) -> None: ...

    def __call__(self, kind: type | str, level: str | None = None) -> Any:
        """Registers a rule for a type, and for all types derived from it.

        Args:
            kind: the type, or ``"module:Class"`` where it need not be imported.
            level: what its values must not leave; None to decorate a function.

        Returns:
            A decorator, which returns its function as it is; nothing with a level.

        Raises:
            TypeError: it is no type, or what is decorated cannot be called.
            ScopeError: the type can have no rule, or the word is unknown.
        """
        key = _checked_key(kind)
        if level is not None:
            word = _checked_level(level)
            why = "its class was registered for it"
            registry.add(Rule(keys=(key,), level=word, why=why))
            return None

        def decorate(where: Where) -> Where:
            if not callable(where):
                raise TypeError(
                    f"sk.pins stands over a function of a value, and this is a"
                    f" {type(where).__name__}. A word needs no function: sk.pins(kind, word)."
                )
            why = (getattr(where, "__doc__", None) or "").strip().split("\n")[0].rstrip(".")
            name = getattr(where, "__name__", "a function")
            told = why or f"{name}, which was registered for its class, says so"
            registry.add(Rule(keys=(key,), level="process", why=told, where=where))
            return where

        return decorate

    def explain(self, value: Any) -> str:
        """Tells which rule holds for a value, and where that comes from.

        Args:
            value: any value.
        """
        kind = name_of(type(value))
        rule = registry.rule_for(value)
        if rule is None:
            return f"{kind}: free to go anywhere, no rule holds for it"
        source = f"row {rule.row} of scopekit's table" if rule.row else "sk.pins"
        bound = "free to go" if rule.level == "free" else f"bound to its {rule.level}"
        if rule.where is not None:
            bound = "bound as its function says"
        return f"{kind}: {bound}, {rule.strength}, by {source}: {rule.why}."


def _checked_key(kind: Any) -> str:
    if isinstance(kind, str):
        module, colon, name = kind.partition(":")
        if not (colon and name) or not module:
            near = ":".join(kind.rsplit(".", 1)) if "." in kind else f"module:{kind}"
            raise ScopeError(f'{kind!r} names no class; write "module:Class", such as {near!r}')
        if module == "builtins" and name in {each.__name__ for each in _NEVER_ASKED}:
            raise ScopeError(_plain(name))
        return kind
    if not isinstance(kind, type):
        raise TypeError(
            f"sk.pins takes a type or 'module:Class', and {kind!r} is a {type(kind).__name__}"
        )
    if kind in _NEVER_ASKED:
        raise ScopeError(_plain(kind.__name__))
    return key_of(kind)


def _plain(name: str) -> str:
    return (
        f"{name} is plain data, and one is like another: it can have no rule. Make a class of"
        " your own for what is special, or give the value a scope: sk.tochunk(value, scope=...)."
    )


def _checked_level(level: Any) -> Any:
    if level not in LEVELS:
        near = difflib.get_close_matches(str(level), LEVELS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ScopeError(f"{level!r} is none of {', '.join(LEVELS)}.{hint}")
    return level


pins = Pins()
