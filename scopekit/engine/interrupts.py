"""Interrupts a task on a process's main thread: that very task, and nothing else there.

A signal says nothing about whom it is meant for, and may come when that one has ended. But
its handler runs on the main thread itself, between two steps of whatever runs there, and
sees the whole stack. So it raises only if the innermost task of the stack is one that is
marked, and only in code of that task: where the task has called into scopekit, which may
hold a lock just now, nothing is raised, and the signal is to be sent again. The signal is
one that nobody minds otherwise: without a handler it is ignored.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from scopekit.engine.runner import run_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scopekit.wire.messages import Run

__all__ = ("Interrupted", "Mark", "arm", "disarm", "kick", "listen")

_SIGNAL: Any = getattr(signal, "SIGURG", None)
_CAN_SEND = _SIGNAL is not None and hasattr(signal, "pthread_kill")
# Our functions that do nothing but call what users wrote.
_CALLERS = (
    ("scopekit.engine.runner", "_call"),
    ("scopekit.engine.runner", "awaited"),
    ("scopekit.engine.batching", "run_batch"),
    ("scopekit.engine.batching", "_call"),
    ("scopekit.engine.checkpoints", "kept"),
    ("scopekit.engine.initializing", "initialized"),
    ("scopekit.wire.around", "__call__"),
    ("scopekit.engine.cell", "run_cell"),
    ("scopekit.engine.cell", "spawned_cell"),
)
# Of these packages users run functions as they run their own.
_LIKE_USERS = ("scopekit.demo", "scopekit.bench", "scopekit.testing")


class Interrupted(KeyboardInterrupt):
    """Raised in a task that is to stop, as Ctrl-C would be in a program."""


class Mark:
    """A task that runs, and is to stop.

    Attributes:
        order: the order by which it runs.
        late: True if its time is over.
        raised: True once it was interrupted.
    """

    __slots__ = ("late", "order", "raised")

    def __init__(self, order: Run, *, late: bool) -> None:
        self.order = order
        self.late = late
        self.raised = False

    def interruption(self) -> Interrupted:
        """Makes what is raised in the task; it counts as raised from now on."""
        self.raised = True
        why = "took longer than it may" if self.late else "was cancelled"
        return Interrupted(f"task {self.order.name} {why}")


_armed: dict[int, Mark] = {}
_listeners = 0
_before: Any = None


def listen() -> Callable[[], None] | None:
    """Lets tasks on the main thread be interrupted; called on that thread.

    Returns:
        What ends that, called on the same thread; None where it cannot be done.
    """
    global _listeners, _before  # noqa: PLW0603  # a process has one handler for a signal
    if not _CAN_SEND or threading.current_thread() is not threading.main_thread():
        return None
    if not _listeners:
        _before = signal.signal(_SIGNAL, _on_signal)
    _listeners += 1
    return _listen_no_more


def _listen_no_more() -> None:
    global _listeners  # noqa: PLW0603  # likewise
    _listeners -= 1
    if not _listeners and signal.getsignal(_SIGNAL) is _on_signal:
        signal.signal(_SIGNAL, _before or signal.SIG_DFL)


def arm(mark: Mark) -> None:
    """Has the next signal interrupt a task, if it finds it running."""
    _armed[id(mark.order)] = mark


def disarm(mark: Mark) -> None:
    """Has no signal interrupt it any more."""
    _armed.pop(id(mark.order), None)


def kick() -> None:
    """Sends the signal, from any thread, if it finds a task that it is meant for.

    A call that blocks the main thread is broken off by it. So it is not sent where the main
    thread is seen to run something else, which is none of its business.
    """
    thread = threading.main_thread().ident
    if _listeners and thread is not None and _meant(sys._current_frames().get(thread)) is not None:
        signal.pthread_kill(thread, _SIGNAL)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if callable(_before):
        _before(number, frame)
    mark = _meant(frame)
    if mark is not None:
        raise mark.interruption()


def _meant(frame: FrameType | None) -> Mark | None:
    """Returns the mark of the task whose own code runs in a frame, None if there is none."""
    order = _interruptible(frame)
    mark = None if order is None else _armed.get(id(order))
    return None if mark is None or mark.order is not order or mark.raised else mark


def _interruptible(frame: FrameType | None) -> Run | None:
    """Returns the order of the task whose own code runs in a frame, None if none does."""
    while frame is not None:
        if frame.f_code is run_task.__code__:
            order: Run = frame.f_locals["order"]
            return order
        if _is_collecting(frame) or _is_ours(frame):
            return None
        frame = frame.f_back
    return None


def _is_collecting(frame: FrameType) -> bool:
    """Tells whether Python collects objects just now: what is raised there is lost."""
    code = frame.f_code
    if code.co_name == "__del__":
        return True
    return any(getattr(callback, "__code__", None) is code for callback in gc.callbacks)


def _is_ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__") or ""
    if not isinstance(module, str) or not module.startswith("scopekit."):
        return False
    if module.startswith(_LIKE_USERS):
        return False
    return (module, frame.f_code.co_name) not in _CALLERS
