"""Gathers what is pinned in one call: its function, its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from scopekit.pinning.hook import StayingJudge
from scopekit.pinning.naming import Way, ways_to
from scopekit.pinning.pin import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scopekit.handles import Chunk
    from scopekit.pinning.pin import Pin
    from scopekit.pinning.place import Place
    from scopekit.pinning.rule import Reduced, Rule
    from scopekit.scopes import Scope

__all__ = ("CallJudge", "Culprit", "Desk", "Findings", "Noted", "Root", "examine")

Root = tuple[str, str, Any]
"""A part of a call: what messages call it, an expression for it, the part itself."""


Known = TypeVar("Known")


class Desk(Protocol):
    """Who spawns."""

    def pin_place(self) -> Place:
        """Returns where it spawns."""

    def keep_pinned(self, value: Any, scope: Scope, why: str) -> Chunk:
        """Makes a chunk of what stays where it is."""


class Culprit(NamedTuple):
    """One thing that is pinned in a call.

    Attributes:
        origin: the argument that it is, or is in; "function".
        type: the type of that.
        way: how to reach it from there.
        pin: where it is valid.
        stays: True if no process may have it but this one.
    """

    origin: str
    type: str
    way: Way
    pin: Pin
    stays: bool


class Noted(NamedTuple):
    """One thing in a call that may go, and ought to be told.

    Attributes:
        origin: the argument that it is, or is in.
        way: how to reach it from there.
        value: the thing.
        rule: what to tell.
    """

    origin: str
    way: Way
    value: Any
    rule: Rule


class Findings(NamedTuple):
    """What was met in a part of a call.

    Attributes:
        stuck: what has to stay and cannot be the input of a task.
        stay: what stays in this process, and is to be an input.
        go: what may go no further than its scope.
        notes: what may go, and ought to be told.
    """

    stuck: tuple[Culprit, ...] = ()
    stay: tuple[tuple[Any, Culprit], ...] = ()
    go: tuple[Culprit, ...] = ()
    notes: tuple[Noted, ...] = ()

    @property
    def pinned(self) -> tuple[Culprit, ...]:
        """What bears on where the task may run."""
        return tuple(culprit for _, culprit in self.stay) + self.go


class CallJudge:
    """Decides about what is pinned in one pickle of a call.

    What may not leave this process stays in it, and the pickle has the number of an input
    in its place. Where the task can run it then is for the scheduler to say.

    Args:
        desk: who spawns.
        stand_in: makes what is pickled for the input of a number; None to stand in for
            nothing, in a pickle that nobody will read.
        first: the number of the first input that is free.
    """

    def __init__(
        self, desk: Desk, stand_in: Callable[[int], Reduced] | None = None, first: int = 0
    ) -> None:
        self._desk = desk
        self._stand_in = stand_in
        self._first = first
        self.stay: list[tuple[Any, Pin]] = []
        self.go: list[tuple[Any, Pin]] = []
        self.stuck: list[tuple[Any, Pin]] = []
        self.notes: list[tuple[Any, Rule]] = []

    @property
    def place(self) -> Place:
        """Where the call is written."""
        return self._desk.pin_place()

    def meet(self, value: Any, pin: Pin) -> Reduced | None:
        """Keeps what may not leave, lets the rest go as far as it may."""
        place = self.place
        assert pin.scope is not None
        if pin.rule.bare:
            self.stuck.append((value, pin))
            return StayingJudge().meet(value, pin)
        if place.leaves(pin.scope) or not place.stays(pin.scope):
            self.go.append((value, pin))
            return None
        self.stay.append((value, pin))
        if self._stand_in is None:
            return StayingJudge().meet(value, pin)
        return self._stand_in(self._first + len(self.stay) - 1)

    def note(self, value: Any, rule: Rule) -> None:
        """Notes what may go, and ought to be told."""
        self.notes.append((value, rule))

    @property
    def met_any(self) -> bool:
        """Tells whether there was anything to tell."""
        return bool(self.stay or self.go or self.stuck or self.notes)


def examine(judge: StayingJudge | CallJudge, roots: Sequence[Root]) -> Findings:
    """Names what was met by the way to it.

    Args:
        judge: what met it.
        roots: the parts of the call that it looked at.
    """
    if isinstance(judge, StayingJudge):
        stuck = [_culprit(*each, stays=True) for each in _named(roots, judge.met)]
        return Findings(stuck=tuple(stuck))
    return Findings(
        tuple(_culprit(*each, stays=True) for each in _named(roots, judge.stuck)),
        tuple(
            (value, _culprit(*each, stays=True))
            for (value, _), each in zip(judge.stay, _named(roots, judge.stay), strict=True)
        ),
        tuple(_culprit(*each, stays=False) for each in _named(roots, judge.go)),
        tuple(_noted(judge, roots)),
    )


def _noted(judge: CallJudge, roots: Sequence[Root]) -> Iterator[Noted]:
    # One for each rule: a part of what was told of adds nothing.
    notes = list({rule.keys: (value, rule) for value, rule in reversed(judge.notes)}.values())
    for (value, _), (root, way, rule) in zip(notes, _named(roots, notes), strict=True):
        yield Noted(root[0], way, value, rule)


def _culprit(root: Root, way: Way, pin: Pin, *, stays: bool) -> Culprit:
    return Culprit(root[0], name_of(type(root[2])), way, pin, stays)


def _named(
    roots: Sequence[Root], met: Iterable[tuple[Any, Known]]
) -> list[tuple[Root, Way, Known]]:
    """Finds the way to each thing that was met, with what is known of it."""
    pairs = list(met)
    ways = ways_to([(text, value) for _, text, value in roots], [value for value, _ in pairs])
    result = []
    for value, known in pairs:
        # What was made by the very call that pickled it is nowhere to be found.
        way = ways.get(id(value)) or Way(0, f"a part of {roots[0][1]}", "value", 1)
        result.append((roots[way.root], way, known))
    return result
