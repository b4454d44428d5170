"""Words to an engine that is busy, over ipyparallel's channel for control.

What an engine is told there it reads on a thread of its own, while its main thread is in a
task. The channel has no message for others to use. But the ids of jobs that are to be
aborted are plain texts, so ours travel among them, and are taken out at the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ("listen_for_knocks", "stop_word")

_STOP = "stop"
_listeners: dict[str, Callable[[list[int]], None]] = {}


def stop_word(session: str, task: int) -> str:
    """Makes the word that a task of a session is to stop.

    Example:
        >>> stop_word("scopekit-1a2b", 7)
        'scopekit-1a2b:stop:7'
    """
    return f"{session}:{_STOP}:{task}"


def listen_for_knocks(
    kernel: Any, session: str, stop: Callable[[list[int]], None]
) -> Callable[[], None]:
    """Has an engine listen.

    Args:
        kernel: the engine's kernel.
        session: the id of the session whose words are meant.
        stop: takes the tasks that are to stop; called on the thread that reads the channel.

    Returns:
        What ends that.
    """
    # a private name of ipykernel: without it nobody listens, and tasks stop once the main
    # thread has come to the orders that say the same
    handlers: Any = getattr(kernel, "control_handlers", None) or {}
    handler = handlers.get("abort_request")
    if handler is not None and not isinstance(handler, _Door):
        handlers["abort_request"] = _Door(kernel, handler)
    _listeners[session] = stop
    return lambda: _stop_listening(kernel, session)


def _stop_listening(kernel: Any, session: str) -> None:
    _listeners.pop(session, None)
    handlers: Any = getattr(kernel, "control_handlers", None) or {}
    door = handlers.get("abort_request")
    if not _listeners and isinstance(door, _Door):
        handlers["abort_request"] = door.behind


class _Door:
    """Stands before the handler of requests to abort, and takes out what is meant for us."""

    def __init__(self, kernel: Any, behind: Callable[..., Any]) -> None:
        self._kernel = kernel
        self.behind = behind

    def __call__(self, stream: Any, ident: Any, parent: Any) -> Any:
        # The answer is that of a request to abort: whoever knocked waits for none.
        answer = self.behind(stream, ident, parent)
        words = parent["content"].get("msg_ids") or ()
        told = _sorted_by_session([words] if isinstance(words, str) else words)
        aborted = getattr(self._kernel, "aborted", None)
        if told and aborted is not None:
            aborted.difference_update(words)
        for session, tasks in told.items():
            _listeners[session](tasks)
        return answer


def _sorted_by_session(words: Iterable[Any]) -> dict[str, list[int]]:
    told: dict[str, list[int]] = {}
    for word in words:
        parts: Sequence[str] = str(word).split(":")
        if len(parts) == 3 and parts[0] in _listeners and parts[1] == _STOP:  # noqa: PLR2004
            told.setdefault(parts[0], []).append(int(parts[2]))
    return told
