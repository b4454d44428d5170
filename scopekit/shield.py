"""Puts an interrupt (Ctrl-C) off until what it would tear apart is whole again.

Python raises ``KeyboardInterrupt`` between any two steps of the main thread. Where a
session takes in what engines report, or a task is handed to the scheduler, one half done
and the other not would leave tasks that never end.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ("Lifted", "Shield", "shield")

# CPython's own, where it is: the public one tries to make a name of what it finds, which
# takes longer than all the rest.
_get_handler: Any = getattr(sys.modules.get("_signal"), "getsignal", signal.getsignal)
_get_ident = threading.get_ident
_SIGINT = int(signal.SIGINT)
# Whoever presses Ctrl-C so often means it, whatever is torn.
_INSISTS = 3


class Shield:
    """Holds interrupts of the main thread off, for as long as it is entered.

    They are raised where it is left. It may be entered again inside; in other threads, which
    nothing interrupts, it does nothing. Its handler stays in place between times, since to
    change a handler takes longer than a spawn, and passes on what comes then.

    Example:
        >>> try:
        ...     with shield:
        ...         signal.raise_signal(signal.SIGINT)
        ...         done = "whole"
        ... except KeyboardInterrupt:
        ...     print("interrupted;", done)
        interrupted; whole
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._depth = 0
        self._came = 0
        self._before: Any = None
        self._handler = self._on_interrupt

    def __enter__(self) -> Self:
        if _get_ident() == self._main:
            if not self._depth:
                self._came = 0
                # A notebook sets a handler anew for each cell.
                if _get_handler(_SIGINT) is not self._handler:
                    self._install()
            self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _get_ident() == self._main:
            self._depth -= 1
            if self._came and not self._depth:
                self._pass_on()

    def _install(self) -> None:
        before = _get_handler(_SIGINT)
        # Else it is ignored, or ends the process, or is none of Python's business.
        if callable(before):
            self._before = before
            signal.signal(_SIGINT, self._handler)

    def _on_interrupt(self, _number: int, frame: FrameType | None) -> None:
        self._came += 1
        if not self._depth or self._came >= _INSISTS:
            self._pass_on(frame)

    def _pass_on(self, frame: FrameType | None = None) -> None:
        self._came = 0
        self._before(_SIGINT, frame)

    def lifted(self) -> Lifted:
        """Lets interrupts through inside of it: where something is waited for, in users' code."""
        return Lifted(self)

    def remove(self) -> None:
        """Gives the handler back that there was before, if this is the main thread."""
        if _get_ident() == self._main and _get_handler(_SIGINT) is self._handler:
            signal.signal(_SIGINT, self._before)


class Lifted:
    """A part of what a shield is around that may be interrupted."""

    def __init__(self, shield: Shield) -> None:
        self._shield = shield
        self._depth = 0

    def __enter__(self) -> None:
        shield = self._shield
        if shield._depth and _get_ident() == shield._main:
            self._depth, shield._depth = shield._depth, 0
            if shield._came:
                try:
                    shield._pass_on()
                except BaseException:
                    self.__exit__()
                    raise

    def __exit__(self, *_: object) -> None:
        if self._depth:
            self._shield._came = 0
            self._shield._depth = self._depth


shield = Shield()
