"""Looks into the value that a task gives, for what pins it."""

from __future__ import annotations

import copyreg
import functools
from collections import OrderedDict, defaultdict, deque
from itertools import chain, islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.errors import ScopeConflictError
from scopekit.pinning.pin import name_of, pin_of, told_of
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
_MOST = 256
_HEAP_TYPE = 1 << 9
_WAYS_TO_PICKLE = ("__reduce__", "__reduce_ex__", "__getstate__")
# Types by their ids, since one may refuse to be compared or hashed.
_LEAVES = frozenset(
    map(id, (type(None), bool, int, float, complex, str, bytes, bytearray, ModuleType))
)
_MAPPINGS = (dict, OrderedDict, defaultdict)
_SEQUENCES = (list, tuple, set, frozenset, deque)
_CONTAINERS: dict[int, Callable[[Any], Iterable[Any]]] = {
    **dict.fromkeys(map(id, _MAPPINGS), lambda value: chain(value.values(), value)),
    **dict.fromkeys(map(id, _SEQUENCES), iter),
}


class Implied(NamedTuple):
    """What the types of a value and of its parts say about it.

    Attributes:
        scope: where it is valid.
        why: what says so, as messages put it; on a second line what makes one elsewhere.
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
    if id(type(value)) in _LEAVES:
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
    return Implied(scope, told_of(pins, before))


def _ruled(value: Any) -> Iterator[tuple[Any, Rule, bool]]:
    """Yields the parts for which there is a rule, and whether each is in an instance."""
    verdicts = registry.verdicts
    todo: deque[tuple[Any, bool]] = deque([(value, False)])
    seen = {id(value)}
    opened: dict[int, bool] = {}
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
        parts = list(islice(_parts(part, kind, opened), left))
        left -= len(parts)
        # Most containers hold nothing but numbers and texts.
        if _LEAVES.issuperset(map(id, map(type, parts))):
            continue
        inside = inside or id(kind) not in _CONTAINERS
        fresh = {id(each): each for each in parts if id(type(each)) not in _LEAVES}
        todo.extend((each, inside) for number, each in fresh.items() if number not in seen)
        seen.update(fresh)


def _parts(value: Any, kind: type, opened: dict[int, bool]) -> Iterable[Any]:
    """Returns the parts of a value.

    Args:
        value: the value.
        kind: its type.
        opened: what is known of types: whether their instances are looked into.
    """
    way = _CONTAINERS.get(id(kind)) or _CALLABLES.get(id(kind))
    if way is not None:
        return way(value)
    is_open = opened.get(id(kind))
    if is_open is None:
        is_open = opened[id(kind)] = _is_open(kind)
    return chain(_elements(value, kind), _attributes(value)) if is_open else ()


def _elements(value: Any, kind: type) -> Iterable[Any]:
    """Returns what is in an instance of a class that derives from a container."""
    for base in (*_MAPPINGS[:1], *_SEQUENCES):
        if issubclass(kind, base):
            # Not by its own way to iterate, which may do anything.
            return base.values(value) if base is dict else base.__iter__(value)
    return ()


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
_CALLABLES: dict[int, Callable[[Any], Iterable[Any]]] = {
    id(FunctionType): _held_by_function,
    id(MethodType): _owner_of_method,
    id(BuiltinFunctionType): _owner_of_method,
    id(functools.partial): lambda call: (call.func, *call.args, *call.keywords.values()),
}


def _is_open(kind: type) -> bool:
    """Tells whether instances are pickled attribute by attribute."""
    if not kind.__flags__ & _HEAP_TYPE or any(kind is k for k in copyreg.dispatch_table):
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
