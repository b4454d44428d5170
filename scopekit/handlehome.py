"""What handles ask of the session that they belong to."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from scopekit import looking
from scopekit.errors import ScopekitError, ScopeViolationError
from scopekit.handles import CANCEL_SECONDS, Chunk, HiddenHandleError, Task
from scopekit.scheduler import events as ev
from scopekit.several import labelled
from scopekit.spawning import chunk_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scopekit.clientchunks import ClientChunks
    from scopekit.driver import Driver
    from scopekit.fetching import Fetcher
    from scopekit.graph import StoredChunk

__all__ = ("HandleHome", "home_of", "values_of")


class HandleHome:
    """Brings, cancels or tells what a handle stands for; counts the handles there are."""

    _driver: Driver
    _fetcher: Fetcher
    _chunks: ClientChunks

    def fetch_result(self, task: Task, timeout: float | None) -> Any:
        """Brings the result of a task that is done."""
        if task.parts:
            return tuple(values_of(task.parts, timeout))
        if task.label or task.refusal is not None:
            return values_of((task,), timeout)[0]
        return self._fetcher.values([task.chunk_id], timeout)[0]

    def fetch_chunk(self, chunk: Chunk, timeout: float | None) -> Any:
        """Brings the value of a chunk."""
        return self._fetcher.values([chunk.id], timeout)[0]

    def send_now(self) -> None:
        """Sends off at once what tasks were spawned: somebody waits."""
        self._driver.send_now()

    def wait_for_task(self, task: Task, timeout: float | None) -> None:
        """Does what brings a task to its end, for as long as it may take."""
        self._driver.wait_for(task, timeout)

    def fetch_refusal(self, task: Task) -> ScopekitError | None:
        """Returns why a result may not come here, None if it may."""
        for handle in task.parts or (task,):
            refusal = self._fetcher.refusal(handle.chunk_id)
            if isinstance(refusal, ScopeViolationError):
                return labelled(refusal, (handle,))
            if refusal is not None:
                return refusal
        return None

    def add_handle(self, chunk_id: int) -> None:
        """Takes note of one more handle to a chunk."""
        self._driver.handle(ev.HandlesAdded((chunk_id,)))

    def chunk_of(self, task: Task) -> Chunk:
        """Returns the handle to the result of a task that is done."""
        self.add_handle(task.chunk_id)
        return Chunk(self, task.chunk_id, self.chunk_facts(task.chunk_id))

    def release_chunk(self, chunk_id: int) -> None:
        """Takes note that a handle is gone."""
        self._driver.release(chunk_id)

    def chunk_facts(self, chunk_id: int) -> Mapping[str, Any]:
        """Tells what is known of a chunk; never its value."""
        return looking.chunk_facts(self._driver, chunk_id)

    def task_facts(self, task: int) -> Mapping[str, Any]:
        """Tells what is known of a task; never a value."""
        return looking.task_facts(self._driver, task)

    def export_chunk(self, chunk: Chunk) -> tuple[Any, ...]:
        """Refuses: where handles travel, they travel as arguments."""
        raise HiddenHandleError(
            f"chunk {chunk.id} is a handle, and a handle cannot be pickled. Give it to the task as"
            " an argument (in a list, tuple, dict or set if you like): its value takes its place."
            " Here it hides inside an object or a closure."
        )

    def revive_chunk(self, stored: StoredChunk) -> Chunk:
        """Makes a handle of what an engine exported."""
        return self._chunks.revive(stored)

    def cancel_soon(self, tasks: Sequence[Task]) -> None:
        """Has tasks cancelled that nobody wants; may run whenever Python collects something."""
        self._driver.cancel_soon([task.id for task in tasks])

    def cancel_unsent(self, task: Task) -> bool:
        """Cancels a task, unless it was sent to an engine."""
        self._driver.cancel_unsent(task.id)
        return task.cancelled()

    def cancel_task(self, task: Task, grace: float | None = None) -> bool:
        """Cancels a task; waits a little for its engine's word, where it takes one."""
        # What was cancelled may still run, and is asked again.
        if not task.done() or task.cancelled():
            self._driver.handle(ev.CancelAsked(task.id, time.time(), grace))
            self._driver.send_now()
        if not task.done():
            with contextlib.suppress(TimeoutError):
                task.wait(CANCEL_SECONDS)
        return task.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Runs the callbacks of a future on a thread that may wait."""
        self._driver.call_back(callback)


def values_of(found: Sequence[Task | Chunk], timeout: float | None) -> list[Any]:
    """Brings the values of handles, each from the session that it belongs to.

    Args:
        found: the handles.
        timeout: seconds to wait at most for what one session has; None for no limit.

    Raises:
        ScopeViolationError: a value's scope leaves this process out.
        TimeoutError: not all values were here in time.
    """
    sessions: dict[HandleHome, list[int]] = {}
    values: dict[tuple[HandleHome, int], Any] = {}
    for handle in found:
        if isinstance(handle, Task) and handle.plain_value is not None:
            values[home_of(handle), handle.chunk_id] = handle.plain_value[0]
            continue
        sessions.setdefault(home_of(handle), []).append(chunk_id_of(handle))
    for session, chunks in sessions.items():
        try:
            fetched = session._fetcher.values(chunks, timeout)
        except ScopeViolationError as error:
            raise labelled(error, found) from None
        for chunk, value in zip(chunks, fetched, strict=True):
            values[session, chunk] = value
    return [values[home_of(handle), chunk_id_of(handle)] for handle in found]


def home_of(handle: Task | Chunk) -> HandleHome:
    """Returns the session that a handle belongs to."""
    home = handle._session if isinstance(handle, Task) else handle._home
    return cast("HandleHome", home)
