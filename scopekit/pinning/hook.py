"""The hook: a pickler that asks the registry about each object it meets."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle

from scopekit.pinning.pin import pin_of
from scopekit.pinning.registry import CODE, PLAIN, registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekit.pinning.pin import Pin
    from scopekit.pinning.place import Place
    from scopekit.pinning.rule import Reduced, Rule

__all__ = ("Judge", "Pickler", "PinnedError", "StayingJudge", "what_fails")

_PROTOCOL = 5
_verdicts = registry.verdicts
_by_cloudpickle = cloudpickle.Pickler.reducer_override


class PinnedError(pickle.PicklingError):
    """A value holds what must stay where it is.

    Attributes:
        pins: all that it holds of that kind.
    """

    def __init__(self, message: str = "", pins: Sequence[Pin] = ()) -> None:
        super().__init__(message)
        self.pins = tuple(pins)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.args)


class Judge(Protocol):
    """Decides about what is pinned within one pickle."""

    @property
    def place(self) -> Place | None:
        """Where the value is that is pickled, None if nobody knows."""

    def meet(self, value: Any, pin: Pin) -> Reduced | None:
        """Returns what stands in the pickle for a value that stays, None if it may go."""

    def note(self, value: Any, rule: Rule) -> None:
        """Takes note of what may go, and ought to be told."""


class StayingJudge:
    """Lets nothing go that is pinned, and gathers all of it.

    Args:
        place: where the value is, None if nobody knows.
    """

    def __init__(self, place: Place | None = None) -> None:
        self._place = place
        self.met: list[tuple[Any, Pin]] = []

    @property
    def place(self) -> Place | None:
        """Where the value is, None if nobody knows."""
        return self._place

    def meet(self, value: Any, pin: Pin) -> Reduced | None:
        """Notes a value that stays."""
        self.met.append((value, pin))
        return (_nothing, ())

    def note(self, value: Any, rule: Rule) -> None:
        """Notes nothing."""

    def check(self) -> None:
        """Raises PinnedError if something stays."""
        if self.met:
            pins = [pin for _, pin in self.met]
            told = " and ".join(dict.fromkeys(pin.told() for pin in pins))
            raise PinnedError(f"it holds {told}", pins)


def _nothing() -> None:
    """Stands for what stays, in pickles that nobody reads."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles functions and classes of the notebook by value, and asks about all else.

    It is made as cloudpickle's own is: with a file, the protocol, and what is asked of each
    buffer whether it is to lie in the pickle.

    Attributes:
        judge: decides about what is pinned; set before anything is pickled.
    """

    # No constructor of its own: most pickles are small, and take no longer than one.
    judge: Judge
    # What goes by value as a part of something else.
    _freed: tuple[Any, ...] = ()

    def reducer_override(self, obj: Any) -> Any:
        """Is asked by pickle of everything but numbers, texts and containers."""
        # Of every object: what is plain, as nearly all is, must cost next to nothing.
        verdict = _verdicts.get(id(type(obj))) or registry.verdict(type(obj))
        if verdict is PLAIN:
            return NotImplemented
        if verdict is CODE:
            return _by_cloudpickle(self, obj)
        if verdict.check is None or verdict.check(obj, verdict) is not None:
            reduced = self._judged(obj, verdict)
            if reduced is not None:
                return reduced
        return _by_cloudpickle(self, obj) if isinstance(obj, type) else NotImplemented

    def _judged(self, obj: Any, rule: Rule) -> Reduced | None:
        """Returns how an object is pickled for which there is a rule, None for its own way."""
        found = registry.facing(rule, obj)
        if found is None or any(obj is part for part in self._freed):
            return None
        if found.frees is not None:
            self._freed += tuple(found.frees(obj))
        if found.strength != "hard":
            self.judge.note(obj, found)
            return None
        pin = pin_of(obj, found, self.judge.place)
        if pin is not None:
            stand_in = self.judge.meet(obj, pin)
            if stand_in is not None:
                return stand_in
        elif found.level != "free":
            return None
        return None if found.reopen is None else found.reopen(obj)


class _Tracer(Pickler):
    """Remembers what it was asked about last: where it fails, that is the culprit."""

    last: Any = None

    def reducer_override(self, obj: Any) -> Any:
        self.last = obj
        return super().reducer_override(obj)


def what_fails(value: Any) -> tuple[Any, Exception] | None:
    """Pickles a value once more, slowly.

    Returns:
        The thing in it that does not pickle, with what that raises; None if all of it does.
    """
    with io.BytesIO() as file:
        tracer = _Tracer(file, _PROTOCOL)
        tracer.judge = StayingJudge()
        try:
            tracer.dump(value)
        except Exception as error:  # noqa: BLE001  # a user's object may raise anything
            return tracer.last, error
    return None
