"""Remembers of which things a user was told."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scopekit.pinning.packing import Noted

__all__ = ("Told",)

_KEPT = 256


class _Known(NamedTuple):
    keys: tuple[str, ...]
    type: type
    thing: weakref.ref[Any] | None


class Told:
    """Remembers of which things a user was told, the latest few of them.

    An address alone does not name a thing, as the next one may get it. What cannot be
    referred to weakly counts as the same as long as its address has one of its type.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def is_new(self, noted: Noted) -> bool:
        """Tells whether the user was not told of a thing before, and remembers it."""
        value = noted.value
        known = self._known.pop(id(value), None)
        while len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[id(value)] = _Known(noted.rule.keys, type(value), _weakly(value))
        return known is None or not _is_of(known, noted)


def _is_of(known: _Known, noted: Noted) -> bool:
    if known.thing is not None and known.thing() is not noted.value:
        return False
    return known.keys == noted.rule.keys and known.type is type(noted.value)


def _weakly(value: Any) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(value)
    except TypeError:
        return None
