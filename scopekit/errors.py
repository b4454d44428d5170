"""The errors that scopekit raises.

::

    ScopekitError
    ├─ ScopeError (ValueError)                a scope or option makes no sense
    ├─ SchedulingError                        the task could not be placed; carries .explanation
    │   ├─ ScopeConflictError                 its scopes never meet
    │   └─ NoProcessorError                   no processor of that scope now
    ├─ ScopeViolationError (PermissionError)  a value was asked for outside its scope
    ├─ ChunkLostError (LookupError)           its process died and it cannot be made again
    ├─ WorkerLostError                        the process died under a task
    ├─ TaskCancelledError (CancelledError)    the task was cancelled before it gave a value
    ├─ TaskTimeoutError (TimeoutError)        the task took longer than its option timeout= allows
    ├─ RemoteError                            a task's error that could not be rebuilt here
    └─ ProtocolError                          a peer said something it should not

Each one is built from its text alone and keeps further facts as attributes, so
that all of them pickle and none holds a scoped value.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

__all__ = (
    "ChunkLostError",
    "NoProcessorError",
    "ProtocolError",
    "RemoteError",
    "SchedulingError",
    "ScopeConflictError",
    "ScopeError",
    "ScopeViolationError",
    "ScopekitError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "WorkerLostError",
)


class ScopekitError(Exception):
    """The base of every error that scopekit raises of its own accord."""


class ScopeError(ScopekitError, ValueError):
    """A scope or an option makes no sense; raised where it is written."""


class SchedulingError(ScopekitError):
    """The task could not be placed.

    Attributes:
        explanation: which operand removed which processors, or None where the
            error was raised before any processor was looked at.
    """

    def __init__(self, message: str = "", explanation: Any = None) -> None:
        super().__init__(message)
        self.explanation = explanation

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (*self.args, self.explanation))


class ScopeConflictError(SchedulingError):
    """The scopes of a task never meet, whatever processors there are."""


class NoProcessorError(SchedulingError):
    """No processor of the task's scope exists now."""


class ScopeViolationError(ScopekitError, PermissionError):
    """A value was asked for outside its scope.

    Attributes:
        chunk: the id of the chunk, or None.
        scope: where its value turned out to be valid, where that is less than was said.
        why: what says so, where it is the type of the value.
    """

    def __init__(
        self, message: str = "", chunk: int | None = None, scope: Any = None, why: str = ""
    ) -> None:
        super().__init__(message)
        self.chunk = chunk
        self.scope = scope
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (*self.args, self.chunk, self.scope, self.why))


class ChunkLostError(ScopekitError, LookupError):
    """The process that held the chunk is gone and the chunk cannot be made again.

    Attributes:
        chunk: the id of a chunk that its process turned out not to have, None otherwise.
    """

    def __init__(self, message: str = "", chunk: int | None = None) -> None:
        super().__init__(message)
        self.chunk = chunk

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (*self.args, self.chunk))


class WorkerLostError(ScopekitError):
    """The process died under a task that may not run again."""


class TaskCancelledError(ScopekitError, CancelledError):
    """The task was cancelled before it gave a value."""


class TaskTimeoutError(ScopekitError, TimeoutError):
    """The task took longer than its option ``timeout=`` allows, and was stopped."""


class RemoteError(ScopekitError):
    """A task's error that could not be rebuilt here.

    Attributes:
        type_name: the name of the error's class where it was raised.
        traceback_text: the formatted traceback of the engine.
    """

    def __init__(self, message: str = "", type_name: str = "", traceback_text: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback_text = traceback_text

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (*self.args, self.type_name, self.traceback_text))


class ProtocolError(ScopekitError):
    """A peer said something that it should not."""
