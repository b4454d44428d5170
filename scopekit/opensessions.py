"""The sessions that are open, the innermost of which module-level functions act on."""

from __future__ import annotations

import atexit
import contextlib
from typing import TYPE_CHECKING

from scopekit.calls import finish_executors
from scopekit.engine.surroundings import Here, task_surroundings
from scopekit.errors import ScopekitError
from scopekit.scopes import ambient

if TYPE_CHECKING:
    from scopekit.session import Session

__all__ = (
    "add_session",
    "current_session",
    "innermost_session",
    "open_sessions",
    "remove_session",
)

_sessions: list[Session] = []


def add_session(session: Session) -> None:
    """Makes a session the innermost one."""
    _sessions.append(session)
    # Again for each session: what a session needs is registered before it, and
    # the last to be registered is the first to run.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    ambient.set_provider(_surroundings)


def remove_session(session: Session) -> None:
    """Takes a session out, if it is there."""
    if session in _sessions:
        _sessions.remove(session)


def innermost_session() -> Session | None:
    """Returns the session that module-level functions act on, None if there is none."""
    return _sessions[-1] if _sessions else None


def open_sessions() -> tuple[Session, ...]:
    """Returns the sessions that are open, the innermost last."""
    return tuple(_sessions)


def current_session() -> Session:
    """Returns the session that module-level functions act on.

    Raises:
        ScopekitError: there is none.
    """
    session = innermost_session()
    if session is None:
        raise ScopekitError("there is no session; start one with scopekit.start()")
    return session


def _close_all() -> None:
    finish_executors()
    for session in reversed(_sessions):
        with contextlib.suppress(Exception):  # the others must still be closed
            session.close()


def _surroundings() -> Here | None:
    """Returns what scopes written in this process refer to."""
    if (of_task := task_surroundings()) is not None:
        return of_task
    session = innermost_session()
    return None if session is None else Here(session.topology, session._here)
