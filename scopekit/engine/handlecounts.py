"""Counts the handles of one process, to know when a chunk can go that a task made by hand.

The client knows nothing of such a chunk until a handle to it leaves its process. Whoever
reads a handle elsewhere says so (*borrowed*), and says when its last one is gone
(*returned*); likewise whoever reads a handle to what a task gave as its result. The home
of a chunk drops it once it has no handle left and none ever left; else it asks
(*unheld*), for only the client has heard what others read. A handle travels inside of a
value, and who reads it speaks of it before it speaks of a task that had the value: as
long as a word may come, the value lives at its home, with a handle in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.wire import messages as msg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.graph import StoredChunk

__all__ = ("HandleCounts",)


class HandleCounts:
    """The handles of one process; whoever calls holds its lock."""

    def __init__(self) -> None:
        self._own: dict[int, int] = {}
        self._left: set[int] = set()
        self._borrowed: dict[int, int] = {}

    def add_own(self, chunk: int) -> None:
        """Takes note that a task made a chunk here by hand."""
        self._own[chunk] = 0

    def revive(self, stored: StoredChunk) -> msg.Report | None:
        """Counts a handle in that is made here.

        Returns:
            What the client must hear of it, if anything.
        """
        chunk = stored.id
        if chunk in self._own:
            self._own[chunk] += 1
        else:
            before = self._borrowed.get(chunk, 0)
            self._borrowed[chunk] = before + 1
            if not before:
                return msg.Borrowed(stored)
        return None

    def export(self, chunk: int) -> None:
        """Takes note that a handle leaves this process."""
        if chunk in self._own:
            self._left.add(chunk)

    def release(self, handles: Iterable[int]) -> tuple[list[int], list[msg.Report]]:
        """Counts handles out.

        Args:
            handles: the chunk of each handle that is gone.

        Returns:
            The chunks that nobody can want any more, with what the client must hear.
        """
        dropped: list[int] = []
        unheld: list[int] = []
        returned: list[int] = []
        for chunk in handles:
            if chunk in self._own:
                self._own[chunk] -= 1
                if not self._own[chunk]:
                    (unheld if chunk in self._left else dropped).append(chunk)
            elif chunk in self._borrowed:
                self._borrowed[chunk] -= 1
                if not self._borrowed[chunk]:
                    del self._borrowed[chunk]
                    returned.append(chunk)
        for chunk in dropped:
            del self._own[chunk]
        reports: list[msg.Report] = []
        if returned:
            reports.append(msg.Returned(tuple(returned)))
        if unheld:
            reports.append(msg.Unheld(tuple(unheld)))
        return dropped, reports

    def drop(self, chunks: Iterable[int]) -> list[int]:
        """Takes note that the client lets chunks go.

        Returns:
            Those to which there is no handle here either.
        """
        gone = []
        for chunk in chunks:
            self._left.discard(chunk)
            if not self._own.get(chunk):
                self._own.pop(chunk, None)
                gone.append(chunk)
        return gone
