"""The rule by which a scope changes: it narrows freely, and widens only where that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scopekit.errors import ScopeError
from scopekit.scopes import InvalidScope, constrain, is_sealed

if TYPE_CHECKING:
    from scopekit.scopes import Scope

__all__ = ("Rescoping", "check_rescoping")


class Rescoping(NamedTuple):
    """One change of a chunk's scope.

    Attributes:
        chunk: the id of the chunk.
        before: where it was valid.
        after: where it is valid since.
        declassified: True if that widened it.
        by: who changed it: a user, or a task with its place.
        at: when, in seconds since the epoch.
    """

    chunk: int
    before: Scope
    after: Scope
    declassified: bool
    by: str
    at: float


def check_rescoping(chunk: int, before: Scope, after: Scope, *, declassify: bool) -> bool:
    """Judges a change of a scope.

    Args:
        chunk: the id of the chunk.
        before: where it is valid.
        after: where it is to be valid.
        declassify: True if it may be valid in more places than before.

    Returns:
        True if it is.

    Raises:
        ScopeError: it would be valid nowhere, or in more places although nobody said so.
    """
    if isinstance(after, InvalidScope):
        raise ScopeError(f"chunk {chunk} would be valid nowhere; to let go of it, drop its handles")
    if constrain(before, after) == after:
        return False
    if declassify:
        return True
    lost = ", and not sealed any more" if is_sealed(before) and not is_sealed(after) else ""
    raise ScopeError(
        f"chunk {chunk} is valid on {before.describe()}; it would be valid on {after.describe()},"
        f" where it was not before{lost}. Give a scope within the present one, or say"
        " declassify=True, which is recorded."
    )
