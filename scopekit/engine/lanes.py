"""Lanes: each runs the tasks of one processor, one after another."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ("InlineLane", "Lane", "LoopLane", "ThreadLane", "no_running_loop")

# How long tasks may keep an engine from its other messages, %px among them.
_SLICE = 0.005
_JOIN = 5.0


class Lane(Protocol):
    """Runs jobs in the order in which they come."""

    def submit(self, job: Callable[[], None]) -> None:
        """Takes a job in; it must not raise."""

    def idle(self) -> bool:
        """Tells whether nothing is waiting."""

    def take(self) -> Callable[[], None] | None:
        """Takes the next job away, for whoever waits on the lane's thread; None if none is."""

    def is_own(self) -> bool:
        """Tells whether the caller runs on the lane's thread."""

    def close(self) -> None:
        """Drops what is waiting; ends once what runs has ended, or after a limit."""


class InlineLane:
    """Runs each job in the caller's thread, before ``submit`` returns."""

    def submit(self, job: Callable[[], None]) -> None:
        """Runs the job."""
        with no_running_loop():
            job()

    def idle(self) -> bool:
        """Returns True: nothing ever waits here."""
        return True

    def take(self) -> Callable[[], None] | None:
        """Returns None: nothing ever waits here."""
        return None

    def is_own(self) -> bool:
        """Returns True: whoever calls is the lane."""
        return True

    def close(self) -> None:
        """Does nothing."""


class LoopLane:
    """Runs jobs on the thread of an event loop, between the loop's own callbacks.

    This is how tasks get an engine's main thread while ipyparallel's messages, which
    the same loop reads, still come through.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._lock = threading.Lock()
        self._thread = threading.get_ident()

    def submit(self, job: Callable[[], None]) -> None:
        """Queues the job; may be called from any thread."""
        with self._lock:
            self._jobs.append(job)
            if self._scheduled:
                return
            self._scheduled = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._pump)
        else:
            self._loop.call_soon_threadsafe(self._pump)

    def run_waiting(self) -> None:
        """Runs what is waiting, for a while, now; called on the loop's own thread."""
        if self._jobs:
            with no_running_loop():
                self._run_for_a_while()

    def idle(self) -> bool:
        """Tells whether nothing is waiting."""
        return not self._jobs

    def take(self) -> Callable[[], None] | None:
        """Takes the next job away."""
        try:
            return self._jobs.popleft()
        except IndexError:
            return None

    def is_own(self) -> bool:
        """Tells whether the caller runs on the loop's thread."""
        return threading.get_ident() == self._thread

    def close(self) -> None:
        """Drops what is waiting."""
        with self._lock:
            self._jobs.clear()

    def _pump(self) -> None:
        with no_running_loop():
            self._run_for_a_while()
        with self._lock:
            if not self._jobs:
                self._scheduled = False
                return
        self._loop.call_soon(self._pump)

    def _run_for_a_while(self) -> None:
        jobs = self._jobs
        until = time.monotonic() + _SLICE
        while jobs:
            try:
                job = jobs.popleft()
            except IndexError:  # closed in this very moment
                return
            # A copy, so that what a task sets in its context ends with it.
            contextvars.copy_context().run(job)
            if time.monotonic() >= until:
                return


@contextlib.contextmanager
def no_running_loop() -> Iterator[None]:
    """Lets a task call asyncio.run although a loop of the engine runs below it."""
    import asyncio  # noqa: PLC0415  # slow to load, and there already where a loop runs

    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


class ThreadLane:
    """Runs jobs on one thread of its own, the same one for life.

    Args:
        name: the name of the thread.
        within: makes what each job runs in; it must not raise.
    """

    def __init__(
        self, name: str, within: Callable[[], AbstractContextManager[None]] | None = None
    ) -> None:
        self._within = within or contextlib.nullcontext
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        self._name = name
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        """Queues the job; may be called from any thread."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        self._jobs.put(job)

    def idle(self) -> bool:
        """Tells whether nothing is waiting."""
        return self._jobs.empty()

    def take(self) -> Callable[[], None] | None:
        """Takes the next job away."""
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None
        if job is None:
            # The end of the lane, which its thread must find.
            self._jobs.put(None)
        return job

    def is_own(self) -> bool:
        """Tells whether the caller runs on the lane's thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Drops what is waiting and waits for what runs, five seconds at most."""
        self._closed = True
        self._jobs.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)

    def finish(self) -> None:
        """Runs what is waiting, then ends; waits for that no longer than a limit."""
        self._jobs.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._closed:
            with self._within():
                contextvars.copy_context().run(job)
            # Else it would keep its task alive until the next one comes.
            del job
