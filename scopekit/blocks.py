"""Blocks that say of the tasks spawned in them how they go together: in a row, or at once."""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from scopekit.engine.context import RunningTask, running_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.handles import Task

__all__ = ("OPEN_BLOCKS", "Block", "current_block", "spawn_bulk", "spawn_sequential")

_block: ContextVar[Block | None] = ContextVar("scopekit_block", default=None)
OPEN_BLOCKS: dict[Block, None] = {}
"""Those that have not ended, of all threads: as a rule there is none."""


class Block:
    """One of these blocks.

    Args:
        outer: the block around it.

    Attributes:
        lock: held while a task is spawned in it, or in one around it.
        holds: True if its tasks wait for its end, or for that of one around it.
        ended: True once it has ended; code that it started may still run.
        owner: the task that it is in, if it is in one.
    """

    def __init__(self, outer: Block | None) -> None:
        self.outer = outer
        self.lock: contextlib.AbstractContextManager[bool] = (
            threading.RLock() if outer is None else outer.lock
        )
        self.holds: bool = outer is not None and outer.holds
        self.ended = False
        self.owner: RunningTask | None = running_task.get()

    def before(self) -> tuple[Task, ...]:
        """Returns the tasks that are to end before one that is spawned now."""
        return () if self.outer is None else self.outer.before()

    def add(self, task: Task) -> None:
        """Takes note of a task that was spawned in it."""
        if self.holds:
            task.unsent = True
            self.hold(task)

    def hold(self, task: Task) -> None:
        """Keeps a task for the end of the block that hands it over."""
        assert self.outer is not None
        self.outer.hold(task)

    def follow(self, tasks: tuple[Task, ...]) -> None:
        """Takes in what a block within it left to wait for."""

    def end(self) -> None:
        """Ends it, as it was meant to."""

    def fail(self) -> None:
        """Ends it, since its code raised something."""


class _Sequential(Block):
    """A block whose tasks run one after another."""

    def __init__(self, outer: Block | None) -> None:
        super().__init__(outer)
        self._last: tuple[Task, ...] = ()

    def before(self) -> tuple[Task, ...]:
        return self._last or super().before()

    def add(self, task: Task) -> None:
        super().add(task)
        self._last = (task,)

    def follow(self, tasks: tuple[Task, ...]) -> None:
        self._last = tasks or self._last

    def end(self) -> None:
        if self.outer is not None:
            self.outer.follow(self._last)

    def fail(self) -> None:
        # What it spawned goes on, and so does what comes after it.
        self.end()


class _Bulk(Block):
    """A block whose tasks are handed over together."""

    def __init__(self, outer: Block | None) -> None:
        super().__init__(outer)
        self._inner = self.holds
        self.holds = True
        self._held: list[Task] = []
        self._tails: list[Task] = []

    def add(self, task: Task) -> None:
        super().add(task)
        self._tails.append(task)

    def hold(self, task: Task) -> None:
        self._held.append(task)

    def follow(self, tasks: tuple[Task, ...]) -> None:
        self._tails += tasks

    def end(self) -> None:
        if self.outer is not None:
            self.outer.follow(tuple(self._tails))
        if self._inner:
            assert self.outer is not None
            for task in self._held:
                self.outer.hold(task)
            return
        _release(self._held)

    def fail(self) -> None:
        for task in reversed(self._held):
            task.unsent = False
            task.cancel()


def _release(tasks: list[Task]) -> None:
    by_home: dict[int, list[Task]] = {}
    for task in tasks:
        task.unsent = False
        by_home.setdefault(id(task._session), []).append(task)
    for group in by_home.values():
        group[0]._session.release_held(group)


def current_block() -> Block | None:
    """Returns the block that a task spawned now belongs to.

    A block is no affair of the tasks that its tasks spawn.
    """
    block = _block.get()
    while block is not None and block.ended:
        block = block.outer
    return block if block is not None and block.owner is running_task.get() else None


@contextlib.contextmanager
def _entered(kind: type[Block]) -> Iterator[None]:
    block = kind(current_block())
    OPEN_BLOCKS[block] = None
    token = _block.set(block)
    try:
        yield
    except BaseException:
        with block.lock:
            block.ended = True
            block.fail()
        raise
    else:
        with block.lock:
            block.ended = True
            block.end()
    finally:
        _block.reset(token)
        del OPEN_BLOCKS[block]


def spawn_sequential() -> contextlib.AbstractContextManager[None]:
    """Makes the tasks spawned in a block run one after another, wherever each may run.

    A task begins when the one before it has ended well; where one fails, those after it
    fail with its error. What a ``spawn_bulk`` block within it spawns counts as one: its
    tasks run at the same time, after what is before the block and before what is after.
    Tasks that the tasks spawn, and those of ``map`` and of executors, stand apart.

    Returns:
        The context manager. An exception in the block leaves the tasks alone that it spawned.

    Example:
        >>> from scopekit import spawn, start
        >>> with start(0):
        ...     with spawn_sequential():
        ...         first, second = spawn(print, "one"), spawn(print, "two")
        one
        two
    """
    return _entered(_Sequential)


def spawn_bulk() -> contextlib.AbstractContextManager[None]:
    """Hands the tasks spawned in a block over together, when it ends.

    None of them runs before, so that none can be waited for in the block. They go to the
    scheduler at once, and to each engine in as few messages as can be.

    Returns:
        The context manager. An exception in the block cancels the tasks that it spawned.

    Raises:
        ScopekitError: at the wait for a task, where that is in the block.

    Example:
        >>> from scopekit import spawn, start
        >>> with start(0):
        ...     with spawn_bulk():
        ...         tasks = [spawn(abs, -n) for n in range(3)]
        ...         before = [task.done() for task in tasks]
        ...     print(before, [task.result() for task in tasks])
        [False, False, False] [0, 1, 2]
    """
    return _entered(_Bulk)
