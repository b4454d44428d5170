"""Looks into the value that a task gives, for what pins it."""

from __future__ import annotations

import copyreg
import functools
from collections import deque
from itertools import chain, islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.errors import ScopeConflictError
from scopekit.pinning.pin import name_of, pin_of
from scopekit.pinning.registry import CODE, PLAIN, registry
from scopekit.scopes import AnyScope, InvalidScope, constrain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scopekit.pinning.pin import Pin
    from scopekit.pinning.place import Place
    from scopekit.pinning.rule import Rule
    from scopekit.scopes import Scope

__all__ = ("Implied", "implied_by", "joined")

# Nobody looks through a million numbers for a socket: what is further in is found when the
# value is to leave.
_MOST = 1000
_HEAP_TYPE = 1 << 9
_WAYS_TO_PICKLE = ("__reduce__", "__reduce_ex__", "__getstate__")
_LEAVES = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
_SEQUENCES = (list, tuple, set, frozenset, deque)


class Implied(NamedTuple):
    """What the types of a value and of its parts say about it.

    Attributes:
        scope: where it is valid.
        why: what says so, as messages put it.
    """

    scope: Scope
    why: str


def implied_by(value: Any, place: Place, notes: list[tuple[Any, Rule]]) -> Implied | None:
    """Returns where a value is valid by its type and those of its parts, None if anywhere.

    Args:
        value: the value.
        place: where it is.
        notes: takes what may go anywhere, and ought to be told.

    Raises:
        ScopeConflictError: two of its parts are never valid in the same place.
    """
    if type(value) in _LEAVES:
        return None
    pins: list[Pin] = []
    outer = False
    for part, rule, inside in _ruled(value):
        if rule.strength != "hard":
            if rule.in_results:
                notes.append((part, rule))
            continue
        pin = None if inside and rule.bare else pin_of(part, rule, place)
        if pin is not None:
            pins.append(pin)
            outer |= part is value
    return joined(pins, "" if outer else f"a {name_of(type(value))} with ") if pins else None


def joined(pins: Sequence[Pin], before: str = "") -> Implied:
    """Puts pins of one value together.

    Args:
        pins: the pins; at least one.
        before: what to say before what they say.

    Raises:
        ScopeConflictError: two of them never meet.
    """
    told = " and ".join(dict.fromkeys(pin.told() for pin in pins))
    scope = constrain(AnyScope(), AnyScope(), *(pin.scope for pin in pins if pin.scope is not None))
    if isinstance(scope, InvalidScope):
        named = "".join(
            f"\n  a {pin.type} is valid on {pin.scope.describe()}: {pin.rule.why}"
            for pin in dict.fromkeys(pins)
            if pin.scope is not None
        )
        raise ScopeConflictError(
            f"one value holds what is never valid in the same place.{named}\n"
            "Keep them apart, each in a value of its own."
        )
    return Implied(scope, before + told)


def _ruled(value: Any) -> Iterator[tuple[Any, Rule, bool]]:
    """Yields the parts for which there is a rule, and whether each is in an instance."""
    verdicts = registry.verdicts
    todo: deque[tuple[Any, bool]] = deque([(value, False)])
    seen = {id(value)}
    left = _MOST
    while todo:
        part, inside = todo.popleft()
        kind = type(part)
        verdict = verdicts.get(id(kind)) or registry.verdict(kind)
        if verdict is not PLAIN and verdict is not CODE:
            rule = registry.facing(verdict, part)
            if rule is not None:
                yield part, rule, inside
                continue
        for inner, deeper in islice(_parts(part, kind, inside), left):
            left -= 1
            if id(inner) not in seen:
                seen.add(id(inner))
                todo.append((inner, deeper))


def _parts(value: Any, kind: type, inside: bool) -> Iterable[tuple[Any, bool]]:
    """Returns the parts of a value, and whether each is in an instance."""
    if kind in _SEQUENCES:
        return ((part, inside) for part in value)
    if kind is dict:
        return ((part, inside) for part in chain(value.values(), value))
    if kind in _CALLABLE:
        return ((part, inside) for part in _CALLABLE[kind](value))
    return ((part, True) for part in _attributes(value)) if _is_open(kind) else ()


def _held_by_function(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue  # it is not bound yet
    yield from function.__defaults__ or ()


def _owner_of_method(method: Any) -> tuple[Any, ...]:
    owner = method.__self__
    return () if owner is None or type(owner) is ModuleType else (owner,)


# What can be called, with what it takes along.
_CALLABLE: dict[type, Callable[[Any], Iterable[Any]]] = {
    FunctionType: _held_by_function,
    MethodType: _owner_of_method,
    BuiltinFunctionType: _owner_of_method,
    functools.partial: lambda call: (call.func, *call.args, *call.keywords.values()),
}


def _is_open(kind: type) -> bool:
    """Tells whether instances are pickled attribute by attribute."""
    if not kind.__flags__ & _HEAP_TYPE or kind in copyreg.dispatch_table:
        return False
    bases = kind.__mro__[:-1]
    return not any(way in vars(base) for base in bases for way in _WAYS_TO_PICKLE)


def _attributes(value: Any) -> Iterable[Any]:
    # Without asking the value: a proxy would answer.
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return ()
    return list(attributes.values()) if type(attributes) is dict else ()
