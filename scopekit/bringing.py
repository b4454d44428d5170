"""Brings results to this process as soon as they are made, where that was asked for."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

from scopekit.engine.lanes import ThreadLane
from scopekit.errors import ScopeViolationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scopekit.handles import Task

__all__ = ("Bringer",)


class Bringer:
    """Brings results; a task counts as done once its own are here, or cannot come.

    Args:
        values: brings the values of some tasks, or raises if one of them may not come.
        brought: is told whose values came.
        ended: is called when waiters are to look again.
    """

    def __init__(
        self,
        values: Callable[[Sequence[Task]], list[Any]],
        brought: Callable[[Sequence[Task]], None],
        ended: Callable[[], None],
    ) -> None:
        self._values = values
        self._brought = brought
        self._ended = ended
        self._wanted: deque[Task] = deque()
        # All that did not end, what is being brought among them.
        self._open: dict[Task, None] = {}
        self._lane = ThreadLane("scopekit-bringer")

    def bring(self, task: Task) -> None:
        """Brings the results of a task that is made; ends it once they are here."""
        if not _results_of(task):
            self._end((task,))
            return
        self._open[task] = None
        self._wanted.append(task)
        self._lane.submit(self._bring_all)

    def _bring_all(self) -> None:
        tasks = []
        while self._wanted:
            tasks.append(self._wanted.popleft())
        wanted = [handle for task in tasks for handle in _results_of(task)]
        try:
            self._take(wanted)
        finally:
            self._end(tasks)

    def _take(self, wanted: Sequence[Task]) -> None:
        """Takes values in; what cannot come is left for whoever asks for it, and is told why."""
        if not wanted:
            return
        try:
            values = self._values(wanted)
        except Exception as error:  # noqa: BLE001  # reading a user's value may raise anything
            if len(wanted) > 1:
                for handle in wanted:
                    self._take([handle])
            elif isinstance(error, ScopeViolationError):
                # When it is asked again, its holder says no more than where it is valid.
                wanted[0].refusal = error
            return
        self._brought(wanted)
        for handle, value in zip(wanted, values, strict=True):
            handle.plain_value = (value,)

    def _end(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._open.pop(task, None)
            for handle in (task, *task.outputs.values()):
                with contextlib.suppress(InvalidStateError):
                    handle.mark_done()
        self._ended()

    def close(self) -> None:
        """Ends the thread, once what it does is done or after a limit."""
        self._lane.finish()
        # What it had no time for is made all the same.
        self._end(list(self._open))


def _results_of(task: Task) -> list[Task]:
    handles = task.parts or (task, *task.outputs.values())
    return [handle for handle in handles if handle.plain_value is None]
