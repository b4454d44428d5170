"""The future of a call that an executor was given."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from scopekit.handles import HiddenHandleError

if TYPE_CHECKING:
    from scopekit.handles import Task
    from scopekit.session import Session

__all__ = ("CallFuture",)


class _Calls(Protocol):
    """What a future needs of its executor."""

    session: Session

    @property
    def behind(self) -> bool: ...

    def cancel(self, future: CallFuture) -> bool: ...


class CallFuture(Future[Any]):
    """The future of one call: once it is done, its value is in this process.

    It holds the value, and not the task that made it.
    """

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls
        self.task: Task | None = None
        self.claimed = False

    def cancel(self) -> bool:
        """Cancels the call if no processor was given it yet; tells whether it will not run."""
        return self._calls.cancel(self)

    def running(self) -> bool:
        """Tells whether it is known to run."""
        task = self.task
        return task is not None and not self.done() and task.running()

    def result(self, timeout: float | None = None) -> Any:
        """Returns the value of the call; waits for it, without a limit if there is none."""
        return super().result(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Returns the error of the call, None if it gave a value; waits as ``result`` does."""
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Receives in the caller's thread, as far as it can; returns the seconds left."""
        task = self.task
        if task is None or self._calls.behind:
            # The executor's thread is to send the next one as soon as one has ended.
            return timeout
        until = None if timeout is None else time.monotonic() + timeout
        self._calls.session.wait_for_task(task, timeout)
        return None if until is None else until - time.monotonic()

    def mark_cancelled(self) -> None:
        """Tells everybody who waits that it will not run."""
        super().cancel()
        self.set_running_or_notify_cancel()

    def _invoke_callbacks(self) -> None:
        # A callback may wait for another call, and whoever settles calls must not.
        if self._done_callbacks:  # type: ignore[attr-defined]
            self._calls.session.call_back(super()._invoke_callbacks)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        raise HiddenHandleError(
            "the future of an executor's call cannot be sent to an engine. Pass its result(), or"
            " use session.spawn, whose tasks can be the arguments of others."
        )
