"""Finds the rule for a type, without importing or asking anything of it."""

from __future__ import annotations

import copyreg
import weakref
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

from scopekit.pinning.rule import Rule, key_of
from scopekit.pinning.table import TABLE, in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("CODE", "PLAIN", "Registry", "registry")

# What is known of a type for which there is no rule; code, functions or classes, is what
# cloudpickle has a way of its own for.
PLAIN = "plain"
CODE = "code"
_WAYS_TO_PICKLE = ("__reduce__", "__reduce_ex__", "__getstate__")
_CARE = "its class says itself how it is pickled, and a copy may go"


class Registry:
    """The rules that come with scopekit, and those of users, which win.

    A type is looked at once: each class among its bases, the nearest first, by its name.

    Args:
        rules: those that come with scopekit.

    Attributes:
        verdicts: what is known of the types seen so far, by the id of the type.
        listeners: are called with a rule that a user has given.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._shipped = {key: in_force(rule) for rule in rules for key in rule.keys}
        self._own: dict[str, Rule] = {}
        self._adopted: dict[int, dict[str, Rule]] = {}
        self.verdicts: dict[int, Any] = {}
        self.listeners: list[Callable[[Rule], None]] = []
        # By id with a watch on its end, since a type may refuse to be hashed, and one of a
        # notebook is not to live for ever.
        self._seen: dict[int, weakref.ref[type]] = {}

    def verdict(self, kind: type) -> Any:
        """Returns the rule for a type; PLAIN or CODE if there is none."""
        number = id(kind)
        found = self.verdicts.get(number)
        if found is None:
            found = self._look(kind)
            self._seen[number] = weakref.ref(kind, lambda _: self._forget(number))
            self.verdicts[number] = found
        return found

    def _forget(self, number: int) -> None:
        self.verdicts.pop(number, None)
        self._seen.pop(number, None)

    def _look(self, kind: type) -> Any:
        bases = _mro(kind)
        for nth, base in enumerate(bases):
            key = key_of(base)
            rule = self._find(key)
            if rule is not None:
                careful = rule.row and _takes_care(bases[:nth], key)
                return _softened(rule) if careful else rule
        return CODE if issubclass(kind, type) or kind is FunctionType else PLAIN

    def _find(self, key: str) -> Rule | None:
        anywhere = ":" + key.partition(":")[2]
        for rules in (self._own, *self._adopted.values(), self._shipped):
            rule = rules.get(key) or rules.get(anywhere)
            if rule is not None:
                return rule
        return None

    def rule_for(self, value: Any) -> Rule | None:
        """Returns the rule that holds for a value, None if it is free."""
        found = self.verdict(type(value))
        return None if found is PLAIN or found is CODE else self.facing(found, value)

    def facing(self, rule: Rule, value: Any) -> Rule | None:
        """Returns how a rule for its type holds for a value, None if it does not."""
        found = rule if rule.check is None else rule.check(value, rule)
        if found is not None and found.row and type(value) in copyreg.dispatch_table:
            return _softened(found)
        return found

    # -- rules of users --------------------------------------------------------------------

    def add(self, rule: Rule) -> None:
        """Takes in a rule of a user.

        Args:
            rule: the rule; it wins over those that come with scopekit, and over earlier ones.
        """
        for key in rule.keys:
            rule = self._own[key] = self._completed(rule, key)
        self._start_over()
        for listener in list(self.listeners):
            listener(rule)

    def _completed(self, rule: Rule, key: str) -> Rule:
        """Gives a rule what the table knows of the type: how to open it again, how it is made."""
        known = self._shipped.get(key)
        if known is None:
            return rule
        return replace(rule, reopen=known.reopen, make=known.make, offer=known.offer)

    def adopt(self, owner: object, keys: tuple[str, ...], read: Callable[[], Rule]) -> None:
        """Takes in a rule that a user gave in another process.

        Args:
            owner: for whom; it holds until that one leaves.
            keys: what it is for.
            read: reads it; where that fails, what it is for goes nowhere, and says so.
        """
        try:
            rule = read()
        except Exception as error:  # noqa: BLE001  # it may need what is not installed here
            why = f"its rule could not be read here ({type(error).__name__}: {error})"
            rule = Rule(keys=keys, level="process", why=why)
        self._adopted.setdefault(id(owner), {}).update(dict.fromkeys(keys, rule))
        self._start_over()

    def leave(self, owner: object) -> None:
        """Forgets the rules that were adopted for somebody."""
        if self._adopted.pop(id(owner), None) is not None:
            self._start_over()

    def remove(self, keys: Iterable[str]) -> None:
        """Forgets rules of users."""
        for key in keys:
            self._own.pop(key, None)
        self._start_over()

    def _start_over(self) -> None:
        # The same dict, which the pickler holds.
        self.verdicts.clear()
        self._seen.clear()

    def own(self) -> tuple[Rule, ...]:
        """Returns the rules of users, in the order in which they came."""
        return tuple(dict.fromkeys(self._own.values()))


def _mro(kind: type) -> tuple[type, ...]:
    bases: tuple[type, ...] = type.__getattribute__(kind, "__mro__")
    return bases


def _takes_care(nearer: Iterable[type], key: str) -> bool:
    """Tells whether somebody else than the library gave a class its own way to be pickled."""
    library = _library(key)
    return any(
        _library(key_of(base)) != library
        and any(type(vars(base).get(name)) is FunctionType for name in _WAYS_TO_PICKLE)
        for base in nearer
    )


def _library(key: str) -> str:
    # The part in C of a library is called as that is, with an underscore.
    return key.partition(":")[0].partition(".")[0].lstrip("_")


def _softened(rule: Rule) -> Rule:
    if rule.strength != "hard":
        return rule
    return replace(rule, strength="soft", why=_CARE, reopen=None)


registry = Registry(TABLE)
