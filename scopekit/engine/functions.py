"""The functions that a process was sent."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

from scopekit.wire.around import innermost
from scopekit.wire.codec import load_value

if TYPE_CHECKING:
    from scopekit.wire import messages as msg

__all__ = ("ReceivedFunction", "ReceivedFunctions")


class ReceivedFunction:
    """A function that is read when it is first called.

    A method of an object, or an object that can be called, is read for each call: it would
    bring what one task changed in it into the next one, as chance puts them on one engine.

    Args:
        pickled: its pickle.
    """

    __slots__ = ("_kept", "_pickled")

    def __init__(self, pickled: bytes | None) -> None:
        self._pickled = pickled
        self._kept: Any = None

    def load(self) -> Any:
        """Returns the function."""
        if self._kept is not None:
            return self._kept
        assert self._pickled is not None
        loaded = load_value(self._pickled)
        inner = innermost(loaded)
        if inner is None or isinstance(inner, (FunctionType, type, functools.partial)):
            self._kept = loaded
        return loaded


class ReceivedFunctions:
    """Keeps functions, each of which comes with the first order that needs it."""

    def __init__(self) -> None:
        self._known: dict[bytes, ReceivedFunction] = {}

    def __len__(self) -> int:
        return len(self._known)

    def take(self, order: msg.Run) -> ReceivedFunction:
        """Returns the function of an order, and forgets those that it says."""
        function = self._known.get(order.digest)
        if function is None:
            function = self._known[order.digest] = ReceivedFunction(order.function)
        # Forgotten here, not where it runs: the order after next may bring it again.
        for digest in order.forget:
            self._known.pop(digest, None)
        return function

    def get(self, digest: bytes) -> ReceivedFunction | None:
        """Returns a function, None if it is not here."""
        return self._known.get(digest)

    def clear(self) -> None:
        """Forgets all."""
        self._known.clear()
