"""The reporter of a process: sends its session what it has to report, in batches.

Reports leave at once when a lane runs dry, otherwise by a publishing thread that takes
what has gathered.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from scopekit.engine.context import running_task
from scopekit.wire import messages as msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.engine.lanes import Lane

__all__ = ("FLUSH_SECONDS", "Reporter", "Tended")

FLUSH_SECONDS = 0.02
_GATHER_SECONDS = 0.002
_AWAKE_SECONDS = 1.0


class Tended(Protocol):
    """Whose reports are published, and who has something to look after meanwhile."""

    @property
    def is_busy(self) -> bool:
        """Tells whether tasks run."""

    @property
    def most_idle_seconds(self) -> float | None:
        """Tells how long it may be left alone while no task runs, None for good."""

    def tend(self) -> None:
        """Looks after what is to be looked after now and then."""

    def send_first(self) -> None:
        """Sends what others wait for more than the session for its reports."""


class Reporter:
    """Sends reports in the order in which they are given.

    Args:
        name: names the publishing thread.
        publish: sends a batch of reports to the session.
        owner: whose reports they are.
        background: False to publish in the thread that has something to report, at once.

    Attributes:
        background: the same.
    """

    def __init__(
        self,
        name: str,
        publish: Callable[[list[msg.Report]], None],
        owner: Tended,
        *,
        background: bool,
    ) -> None:
        self.background = background
        self._name = name
        self._publish = publish
        self._owner = owner
        self._pending: list[msg.Report] = []
        # Reentrant: Python may collect an object of a task's at any line in here, and
        # what its __del__ prints comes back.
        self._lock = threading.RLock()
        # Reentrant: where the session is in this thread, what it does next may report.
        self._publish_lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._dozing = False
        self._flushed = 0.0
        self._publisher: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Starts the publishing thread, if there is to be one and is none yet."""
        if self._publisher is not None or not self.background:
            return
        # Orders come on one thread, copies of chunks on another.
        with self._starting:
            if self._publisher is None:
                publisher = threading.Thread(
                    target=self._publish_forever, name=self._name, daemon=True
                )
                publisher.start()
                self._publisher = publisher

    # -- taking reports ---------------------------------------------------------

    def add(self, *reports: msg.Report) -> None:
        """Takes what nobody waits for: it goes with the next report that somebody waits for."""
        with self._lock:
            self._pending += reports

    def report(self, report: msg.Report) -> None:
        """Reports something at once."""
        with self._lock:
            self._pending.append(report)
        self.flush()

    def report_soon(self, report: msg.Report) -> None:
        """Reports something with what else gathers."""
        with self._lock:
            self._pending.append(report)
        self.hurry()

    def report_end(self, report: msg.Report, lane: Lane | None) -> None:
        """Reports the end of a run: at once if nothing follows, else with those that do.

        Args:
            report: the report.
            lane: where others may follow; None if none do, and nobody waits for it.
        """
        with self._lock:
            self._pending.append(report)
        now = time.monotonic()
        late = now - self._flushed > _GATHER_SECONDS
        # First, since another engine may have nothing to do until they are there. In
        # the meantime something may have come that is to run here.
        if late or (lane is not None and lane.idle()):
            self._owner.send_first()
        if late or (lane is not None and lane.idle()):
            self._flushed = now
            self.flush()

    def report_output(self, task: int, stream: str, text: str) -> None:
        """Reports what a task wrote, together with what it wrote just before."""
        with self._lock:
            last = self._pending[-1] if self._pending else None
            if isinstance(last, msg.Output) and (last.task, last.stream) == (task, stream):
                self._pending[-1] = msg.Output(task, stream, last.text + text)
            else:
                self._pending.append(msg.Output(task, stream, text))
        self.hurry()

    # -- sending them -----------------------------------------------------------

    def hurry(self) -> None:
        """Has what gathered sent soon."""
        if self.background:
            self._wake.set()
        else:
            self.flush()

    def stir(self) -> None:
        """Has the publishing thread look around, if it has not done so for long."""
        if self._dozing:
            self._wake.set()

    def flush(self) -> None:
        """Sends at once what has gathered."""
        # One lock around taking and sending: reports must not overtake each other.
        with self._publish_lock:
            with self._lock:
                batch, self._pending = self._pending, []
            if not batch:
                return
            # Where the session is in this thread, what it does now is not the task's doing.
            token = running_task.set(None)
            try:
                self._publish(batch)
            finally:
                running_task.reset(token)

    def _publish_forever(self) -> None:
        last_busy = time.monotonic()
        while not self._closed:
            if self._owner.is_busy:
                last_busy = time.monotonic()
            # Between tasks that come one by one it stays awake: waking it costs each more.
            self._dozing = time.monotonic() - last_busy > _AWAKE_SECONDS
            limit = self._owner.most_idle_seconds
            if self._wake.wait(limit if self._dozing else FLUSH_SECONDS):
                last_busy = time.monotonic()
            self._wake.clear()
            self._owner.tend()
            self._owner.send_first()
            self.flush()

    def close(self) -> None:
        """Ends the publishing thread."""
        self._closed = True
        self._wake.set()
        if self._publisher is not None and self._publisher is not threading.current_thread():
            self._publisher.join(1.0)
