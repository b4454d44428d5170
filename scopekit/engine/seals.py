"""Seals: which tasks run on sealed inputs, so that nothing of these gets out but results."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from scopekit.errors import ScopeViolationError
from scopekit.scopes import constrain
from scopekit.wire.codec import PickledError, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.scopes import Scope

__all__ = ("Seals", "hush", "hushed", "sealed_error")

_hushes = 0


def sealed_error(error: BaseException, place: str) -> PickledError:
    """Describes an error without its text, which may hold what is sealed.

    Args:
        error: the error.
        place: where it was raised, in words.
    """
    text = (
        "its text stays where it was raised, since an input is sealed. Catch it inside of the"
        " task, and return what may be said"
    )
    return PickledError(None, type_name(error), text, "", place)


def hushed() -> bool:
    """Tells whether what no task can be told to have written is not to be shown."""
    return _hushes > 0


@contextlib.contextmanager
def hush() -> Iterator[None]:
    """Keeps back what is written without a task, since a thread of a sealed one may write it."""
    global _hushes  # noqa: PLW0603  # there is one stdout in a process
    _hushes += 1
    try:
        yield
    finally:
        _hushes -= 1


class Seals:
    """The scopes that seal the tasks which run now, by task."""

    def __init__(self) -> None:
        self._running: dict[int, Scope] = {}
        self._told: set[int] = set()

    def __contains__(self, task: int) -> bool:
        return task in self._running

    @contextlib.contextmanager
    def put_on(self, task: int, seal: Scope) -> Iterator[None]:
        """Seals a task for as long as it runs."""
        self._running[task] = seal
        try:
            with hush():
                yield
        finally:
            del self._running[task]
            self._told.discard(task)

    def within(self, task: int, scope: Scope) -> Scope:
        """Returns what is left of a scope for something that a task makes."""
        seal = self._running.get(task)
        return scope if seal is None else constrain(scope, seal)

    def notice(self, task: int, where: str) -> str | None:
        """Returns what is shown in place of the first thing that a sealed task writes."""
        if task in self._told:
            return None
        self._told.add(task)
        return f"[what this task writes stays on {where}: an input of it is sealed]\n"

    def check_may_spawn(self, task: int, name: str) -> None:
        """Refuses what a sealed task wants to spawn.

        Raises:
            ScopeViolationError: the task is sealed.
        """
        if task in self._running:
            raise ScopeViolationError(
                f"{name} has a sealed input and cannot spawn: what it gives to another task would"
                " pass through the notebook. Return a value, and spawn on it from there.",
                None,
                self._running[task],
            )
