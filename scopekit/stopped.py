"""The errors of tasks that were stopped, in the same words wherever they are made."""

from __future__ import annotations

from scopekit.errors import TaskCancelledError, TaskTimeoutError

__all__ = ("bereft_error", "cancelled_error", "timeout_error")


def cancelled_error(name: str, place: str | None = None) -> TaskCancelledError:
    """Makes the error of a task that was cancelled.

    Args:
        name: its name.
        place: where it ran, None if it had not begun.

    Example:
        >>> print(cancelled_error("fit-1", "node a, worker 0, thread 0"))
        fit-1 was cancelled while it ran on node a, worker 0, thread 0
    """
    when = "before it ran" if place is None else f"while it ran on {place}"
    return TaskCancelledError(f"{name} was cancelled {when}")


def bereft_error(name: str, origin: str) -> TaskCancelledError:
    """Makes the error of a task that needs the result of one that was cancelled.

    Args:
        name: its name.
        origin: the name of the one that was cancelled.

    Example:
        >>> print(bereft_error("plot-1", "fit-1"))
        plot-1 was cancelled: it needs the result of fit-1, which was cancelled
    """
    return TaskCancelledError(
        f"{name} was cancelled: it needs the result of {origin}, which was cancelled"
    )


def timeout_error(name: str, place: str, seconds: float) -> TaskTimeoutError:
    """Makes the error of a task that took too long.

    Args:
        name: its name.
        place: where it ran.
        seconds: how long it was allowed to take.

    Example:
        >>> print(timeout_error("fit-1", "node a, worker 0, thread 0", 2.5))
        fit-1 took longer than its timeout=2.5 s on node a, worker 0, thread 0, and was stopped
    """
    return TaskTimeoutError(
        f"{name} took longer than its timeout={seconds:g} s on {place}, and was stopped"
    )
