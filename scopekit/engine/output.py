"""Routes what a task prints to whoever spawned it, and all else to where it went before."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from scopekit.engine.context import running_task
from scopekit.engine.seals import hushed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("RoutedStream", "route_output", "routed_output")

_STREAMS = ("stdout", "stderr")


class RoutedStream(io.TextIOBase):
    """A text stream that tells the writes of a task from all others.

    Which is which is read from the context of the writing code, so that tasks on
    several threads do not mix.
    """

    def __init__(self, original: TextIO, stream: str) -> None:
        self._original = original
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes to the task's own output, or to the original stream outside of tasks."""
        task = running_task.get()
        if task is None:
            return len(text) if hushed() else self._original.write(text)
        if text:
            task.agent.write_output(task.id, self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream that is written to now."""
        task = running_task.get()
        if task is None:
            self._original.flush()

    # The base class has these three, as None, so that __getattr__ is not asked for them.
    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the original stream."""
        return self._original.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How the original stream treats what it cannot encode."""
        return self._original.errors

    @property
    def newlines(self) -> Any:  # type: ignore[override]
        """What the original stream knows of line ends."""
        return self._original.newlines

    def writable(self) -> bool:
        """Returns True."""
        return True

    @property
    def original(self) -> TextIO:
        """The stream that stood here before."""
        return self._original

    # The kernel calls methods of its own stream class on sys.stdout.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


_users = 0
_counting = threading.Lock()


def route_output() -> Callable[[], None]:
    """Puts routed streams in the place of ``sys.stdout`` and ``sys.stderr``.

    Returns:
        What puts the originals back when the last who asked for it calls it, unless
        somebody else has replaced ours.
    """
    global _users  # noqa: PLW0603  # there is one sys.stdout in a process
    with _counting:
        _users += 1
        for name in _STREAMS:
            if not isinstance(getattr(sys, name), RoutedStream):
                setattr(sys, name, RoutedStream(getattr(sys, name), name))
    return _restore


@contextlib.contextmanager
def routed_output() -> Iterator[None]:
    """Routes output for as long as a block runs: a notebook's streams are its own else."""
    restore = route_output()
    try:
        yield
    finally:
        restore()


def _restore() -> None:
    global _users  # noqa: PLW0603  # there is one sys.stdout in a process
    with _counting:
        _users -= 1
        for name in _STREAMS:
            stream = getattr(sys, name)
            if not _users and isinstance(stream, RoutedStream):
                setattr(sys, name, stream.original)
