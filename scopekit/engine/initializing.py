"""Prepares a process for the tasks of an executor, once, before the first of them."""

from __future__ import annotations

import functools
import sys
import threading
from concurrent.futures import BrokenExecutor
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from scopekit.engine.context import running_task
from scopekit.wire.around import Around
from scopekit.wire.codec import dump_error, load_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.engine.agent import Agent
    from scopekit.wire.codec import PickledError

__all__ = ("InitializerError", "initialized")

_MARK = "__scopekit_initialized__"
# Two functions that name one of these mean the same, however often it is pickled.
_SAME = (
    *(type(None), bool, int, float, complex, str, bytes, tuple, frozenset, type(...)),
    *(type, FunctionType, BuiltinFunctionType, ModuleType),
)


class InitializerError(BrokenExecutor):
    """The initializer of an executor failed in some process.

    Attributes:
        cause: what it raised.
    """

    def __init__(self, cause: PickledError) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        what = f"{self.cause.type_name}: {self.cause.message}".rstrip(": ")
        return (
            f"the executor's initializer failed on {self.cause.place} ({what}), and the executor"
            " takes no more calls. Make another one once its cause is gone."
        )


class _Once:
    """One initializer in this process."""

    def __init__(self) -> None:
        # Reentrant: an initializer that waits for tasks gives its thread to others.
        self._lock = threading.RLock()
        self._began = False
        self._ended = False
        self._failure: PickledError | None = None
        self._module = ""
        self._made: dict[str, Any] = {}

    def run(self, pickled: bytes, place: str) -> None:
        """Runs it, unless that was done; others wait, without a limit, for as long as it runs."""
        if not self._ended:
            with self._lock:
                if self._began and not self._ended:
                    raise RuntimeError(
                        "the executor's initializer waits for tasks, and this one, which was to"
                        " run in the meantime, needs it to be done. Wait for nothing in it."
                    )
                if not self._began:
                    self._run(pickled, place)
        if self._failure is not None:
            raise InitializerError(self._failure)

    def _run(self, pickled: bytes, place: str) -> None:
        self._began = True
        try:
            initializer, args = load_value(pickled)
            found = _own_globals(initializer) or {}
            before = dict(found)
            initializer(*args)
            self._module = str(found.get("__name__"))
            self._made = {
                name: value
                for name, value in found.items()
                if name not in before or value is not before[name] or not isinstance(value, _SAME)
            }
        except BaseException as error:  # noqa: BLE001  # as the standard library's pools do
            self._failure = dump_error(error, place)
        finally:
            self._ended = True

    def share(self, f: Any) -> None:
        """Gives a function the globals that the initializer made.

        Both are of one module, as a rule the notebook, and each came in a pickle of its own.
        """
        if not self._made:
            return
        found = _own_globals(f)
        if found is None or found.get("__name__") != self._module or _MARK in found:
            return
        found.update(self._made)
        found[_MARK] = True


def _own_globals(f: Any) -> dict[str, Any] | None:
    """Returns the globals of a function that came by value; None if it was imported."""
    while isinstance(f, (Around, functools.partial, MethodType)):
        if isinstance(f, Around):
            f = f.inner
        else:
            f = f.func if isinstance(f, functools.partial) else f.__func__
    if not isinstance(f, FunctionType):
        f = type(f).__call__
    found: dict[str, Any] | None = getattr(f, "__globals__", None)
    if found is None or found is getattr(sys.modules.get(f.__module__), "__dict__", None):
        return None
    return found


# Of each session what ran here; it goes with the session.
_ran: WeakKeyDictionary[Agent, dict[bytes, _Once]] = WeakKeyDictionary()
_entering = threading.Lock()


def initialized(
    key: bytes, pickled: bytes, f: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Calls a function in a process that an initializer has prepared.

    Args:
        key: names the executor.
        pickled: its initializer with the arguments.
        f: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        InitializerError: the initializer failed here, now or before.
    """
    task = running_task.get()
    assert task is not None
    with _entering:
        once = _ran.setdefault(task.agent, {}).setdefault(key, _Once())
    once.run(pickled, task.processor.describe())
    once.share(f)
    return f(*args, **kwargs)
