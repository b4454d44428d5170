"""The backlog of a process: the tasks that were ordered and have not begun."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from scopekit.engine.functions import ReceivedFunction
    from scopekit.engine.store import Store
    from scopekit.wire import messages as msg

__all__ = ("Backlog", "Pending")


class Pending:
    """A task that was ordered and has not begun.

    Attributes:
        order: what was ordered.
        function: its function.
        missing: how many of its inputs are not here.
        spawned_here: True if a task of this process spawned it, and kept it.
        since: when it began to wait for its inputs, by the monotonic clock.
    """

    __slots__ = ("function", "missing", "order", "since", "spawned_here")

    def __init__(
        self, order: msg.Run, function: ReceivedFunction, *, spawned_here: bool = False
    ) -> None:
        self.order = order
        self.function = function
        self.missing = 0
        self.since = 0.0
        self.spawned_here = spawned_here


class Backlog:
    """Keeps tasks until they begin, and knows which inputs they lack.

    To begin a task is to take it out of here, and so is to hand it back: only one of the
    two can.

    Args:
        store: the chunks that are here.
        lock: guards what is here and lacks inputs, and what else goes with that. Reentrant:
            Python may collect an object of a task's at any line in here, whose end comes back.
    """

    def __init__(self, store: Store, lock: threading.RLock) -> None:
        self._store = store
        self._lock = lock
        self._ordered: dict[int, Pending] = {}
        self._waiting: dict[int, list[Pending]] = {}

    def __contains__(self, task: int) -> bool:
        return task in self._ordered

    @property
    def lacks_inputs(self) -> bool:
        """Tells whether a task waits for an input."""
        return bool(self._waiting)

    def orders(self) -> list[msg.Run]:
        """Returns what was ordered and has not begun."""
        return [pending.order for pending in list(self._ordered.values())]

    def add(self, pending: Pending) -> bool:
        """Takes a task; returns whether all of its inputs are here."""
        self._ordered[pending.order.task] = pending
        return not pending.order.inputs or not self._has_to_wait(pending)

    def _has_to_wait(self, pending: Pending) -> bool:
        with self._lock:
            for chunk in dict.fromkeys(pending.order.inputs):
                if chunk not in self._store:
                    self._waiting.setdefault(chunk, []).append(pending)
                    pending.missing += 1
            if pending.missing:
                pending.since = time.monotonic()
        return pending.missing > 0

    def begin(self, task: int) -> bool:
        """Takes a task out that begins; returns False if somebody else took it."""
        return self._ordered.pop(task, None) is not None

    def arrived(self, chunk: int) -> list[Pending]:
        """Takes note that a chunk is here; returns the tasks that lack nothing any more."""
        with self._lock:
            waiting = self._waiting.pop(chunk, ())
            for pending in waiting:
                pending.missing -= 1
        return [pending for pending in waiting if not pending.missing]

    def take_out(self, tasks: Iterable[int]) -> list[Pending]:
        """Takes tasks out; returns those that had not begun."""
        with self._lock:
            found = [self._ordered.pop(task, None) for task in tasks]
            taken = [pending for pending in found if pending is not None]
            for pending in taken:
                self._stop_waiting(pending)
        return taken

    def take_waiting(self, chunk: int) -> list[Pending] | None:
        """Takes out what waits for a chunk that may not come; returns None if nothing does."""
        with self._lock:
            waiting = self._waiting.pop(chunk, None)
            if waiting is None:
                return None
            taken = [p for p in waiting if self._ordered.pop(p.order.task, None) is not None]
            for pending in taken:
                self._stop_waiting(pending)
        return taken

    def waiting_for(self, chunk: int) -> list[Pending]:
        """Returns the tasks that wait for a chunk."""
        with self._lock:
            return list(self._waiting.get(chunk, ()))

    def late(self, seconds: float) -> list[int]:
        """Returns the chunks for which a task has waited for longer than that."""
        now = time.monotonic()
        with self._lock:
            return [
                chunk
                for chunk, waiting in self._waiting.items()
                if waiting and now - waiting[0].since > seconds
            ]

    def _stop_waiting(self, pending: Pending) -> None:
        for chunk in pending.order.inputs:
            waiting = self._waiting.get(chunk)
            if waiting is not None and pending in waiting:
                waiting.remove(pending)
                if not waiting:
                    del self._waiting[chunk]
