"""Gathers what is pinned in one call: its function, its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from scopekit.pinning.hook import StayingJudge
from scopekit.pinning.naming import Way, ways_to
from scopekit.pinning.pin import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scopekit.handles import Chunk
    from scopekit.pinning.pin import Pin
    from scopekit.pinning.place import Place
    from scopekit.pinning.rule import Reduced, Rule
    from scopekit.scopes import Scope

__all__ = (
    "NOTHING",
    "CallJudge",
    "Culprit",
    "Desk",
    "Findings",
    "Noted",
    "Root",
    "examine",
)

Root = tuple[str, str, Any]
"""A part of a call: what messages call it, an expression for it, the part itself."""


Known = TypeVar("Known")
Fate = Literal["stuck", "stays", "goes", "told"]


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


NOTHING = Findings()


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

    __slots__ = ("_desk", "_first", "_stand_in", "met")

    def __init__(
        self, desk: Desk, stand_in: Callable[[int], Reduced] | None = None, first: int = 0
    ) -> None:
        # One is made for every call, and meets nothing in nearly all of them.
        self._desk = desk
        self._stand_in = stand_in
        self._first = first
        self.met: list[tuple[Fate, Any, Any]] = []

    @property
    def place(self) -> Place:
        """Where the call is written."""
        return self._desk.pin_place()

    def meet(self, value: Any, pin: Pin) -> Reduced | None:
        """Keeps what may not leave, lets the rest go as far as it may."""
        place = self.place
        assert pin.scope is not None
        if pin.rule.bare:
            self.met.append(("stuck", value, pin))
            return StayingJudge().meet(value, pin)
        if place.leaves(pin.scope) or not place.stays(pin.scope):
            self.met.append(("goes", value, pin))
            return None
        number = self._first + len(self.that("stays"))
        self.met.append(("stays", value, pin))
        if self._stand_in is None:
            return StayingJudge().meet(value, pin)
        return self._stand_in(number)

    def note(self, value: Any, rule: Rule) -> None:
        """Notes what may go, and ought to be told."""
        self.met.append(("told", value, rule))

    def that(self, fate: Fate) -> list[tuple[Any, Any]]:
        """Returns what has a fate, each with what is known of it."""
        return [(value, known) for each, value, known in self.met if each == fate]


def examine(judge: StayingJudge | CallJudge, roots: Sequence[Root]) -> Findings:
    """Names what was met by the way to it.

    Args:
        judge: what met it.
        roots: the parts of the call that it looked at.
    """
    if isinstance(judge, StayingJudge):
        return Findings(stuck=_culprits(roots, judge.met))
    stays = judge.that("stays")
    named = _culprits(roots, stays)
    return Findings(
        stuck=_culprits(roots, judge.that("stuck")),
        stay=tuple((value, each) for (value, _), each in zip(stays, named, strict=True)),
        go=_culprits(roots, judge.that("goes"), stays=False),
        notes=tuple(_noted(judge.that("told"), roots)),
    )


def _culprits(
    roots: Sequence[Root], met: list[tuple[Any, Pin]], *, stays: bool = True
) -> tuple[Culprit, ...]:
    return tuple(
        Culprit(root[0], name_of(type(root[2])), way, pin, stays)
        for root, way, pin in _named(roots, met)
    )


def _noted(told: list[tuple[Any, Rule]], roots: Sequence[Root]) -> Iterator[Noted]:
    # One for each rule: a part of what was told of adds nothing.
    notes = list({rule.keys: (value, rule) for value, rule in reversed(told)}.values())
    for (value, _), (root, way, rule) in zip(notes, _named(roots, notes), strict=True):
        yield Noted(root[0], way, value, rule)


def _named(roots: Sequence[Root], met: list[tuple[Any, Known]]) -> list[tuple[Root, Way, Known]]:
    """Finds the way to each thing that was met, with what is known of it."""
    ways = ways_to([(text, value) for _, text, value in roots], [value for value, _ in met])
    result = []
    for value, known in met:
        # What was made by the very call that pickled it is nowhere to be found.
        way = ways.get(id(value)) or Way(0, f"a part of {roots[0][1]}", "value", 1)
        result.append((roots[way.root], way, known))
    return result
