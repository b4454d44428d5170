"""Which tasks of a process are to stop, and how long others may take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scopekit.engine import interrupts
from scopekit.engine.interrupts import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.scopes import Processor
    from scopekit.wire.messages import Run

__all__ = ("Running", "Stops")

Running = tuple[float, "Run"]
"""A task that runs: since when, by which order."""


class Stops:
    """Marks tasks that run and are to stop.

    Who marks a task and the thread that ends it may do so at the same time. That needs no
    lock, for who marks writes the mark before he looks whether the task runs, and its thread
    takes it out of what runs before it looks for a mark: one of the two sees the other.

    Args:
        running: the tasks that run; each is taken out before its end is looked at here.

    Attributes:
        marks: the tasks that are to stop.
        limits: how many seconds tasks may take, begun or not.
        interrupted: the processor whose tasks can be interrupted, None if there is none.
    """

    def __init__(self, running: Mapping[int, Running]) -> None:
        self._running = running
        self.marks: dict[int, Mark] = {}
        self.limits: dict[int, float] = {}
        self.interrupted: Processor | None = None
        self._since: dict[int, float] = {}

    def mark(self, task: int, *, late: bool = False) -> Running | None:
        """Has a task stop that runs: it will give no value.

        It is interrupted where that can be done, once for each time that this is called.
        One at a time may call this.

        Args:
            task: the task.
            late: True if that is since it took too long.

        Returns:
            What is known of it, the first time; None if it does not run, or has just ended.
        """
        known = self.marks.get(task)
        if known is not None:
            known.raised = False
            self.urge()
            return None
        running = self._running.get(task)
        if running is None:
            return None
        mark = self.marks[task] = Mark(running[1], late=late)
        if mark.order.processor == self.interrupted:
            interrupts.arm(mark)
        if task not in self._running:
            # It has just ended, perhaps without having seen the mark.
            self.marks.pop(task, None)
            interrupts.disarm(mark)
            return None
        self.urge()
        return running

    def urge(self) -> None:
        """Interrupts again what could not be, just then."""
        here = self.interrupted
        for mark in list(self.marks.values()):
            if not mark.raised and mark.order.processor == here:
                interrupts.kick()
                return

    def wants(self, task: int) -> bool:
        """Tells whether a task is to stop, and was not interrupted yet."""
        mark = self.marks.get(task)
        return mark is not None and not mark.raised

    def check(self, task: int) -> None:
        """Interrupts a task that comes by here, if it is to stop.

        Raises:
            Interrupted: it is, and was not interrupted yet.
        """
        mark = self.marks.get(task)
        if mark is not None and not mark.raised:
            raise mark.interruption()

    def end(self, task: int) -> Mark | None:
        """Takes note that a task has ended; returns its mark, if it was to stop."""
        self.forget(task)
        mark = self.marks.pop(task, None)
        if mark is not None:
            interrupts.disarm(mark)
        return mark

    def forget(self, task: int) -> None:
        """Forgets how long a task may take."""
        if self.limits.pop(task, None) is not None:
            self._since.pop(task, None)

    def overdue(self) -> list[int]:
        """Returns the tasks that run longer than they may, and were not marked yet."""
        now = time.monotonic()
        found = []
        for task, running in list(self._running.items()):
            limit = self.limits.get(task)
            if limit is None or task in self.marks:
                continue
            # Once it was seen to run the clock may be set, and nothing follows.
            since = self._since.setdefault(task, now - max(0.0, time.time() - running[0]))
            if now - since >= limit:
                found.append(task)
        return found
