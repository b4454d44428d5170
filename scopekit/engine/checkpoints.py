"""Asks for a result that is there before a task runs, and gives it away after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.engine.context import running_task
from scopekit.engine.filestore import FileStore, Label
from scopekit.engine.runner import awaited
from scopekit.errors import ScopekitError
from scopekit.handles import Chunk
from scopekit.scopes import AnyScope, NodeScope, Scope
from scopekit.wire.codec import load_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.engine.context import RunningTask

__all__ = ("Keeping", "kept")

_UNSCOPED = AnyScope()


class Keeping(NamedTuple):
    """What a task is told of checkpoints.

    Attributes:
        function: the name of its function.
        checkpoint: a store or a function, or None.
        restore: likewise.
        scope: the scope of its results, as far as it is declared.
    """

    function: str
    checkpoint: Any
    restore: Any
    scope: Scope | None


def kept(pickled: bytes, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a function, unless its result is there already; gives the result away.

    What goes wrong with that is written to the task's standard error, and the task goes on:
    it is no reason to lose a result.

    Args:
        pickled: a Keeping.
        f: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    keeping: Keeping = load_value(pickled)
    task = running_task.get()
    assert task is not None
    if keeping.restore is not None:
        try:
            found = _restore(keeping, task)
        except Exception as error:  # noqa: BLE001  # a user's code may raise anything
            _note(task, "restore", error, "so it runs")
        else:
            if found is not None:
                return found[0]
    value = awaited(f(*args, **kwargs))
    if keeping.checkpoint is not None:
        try:
            _checkpoint(keeping, task, value)
        except Exception as error:  # noqa: BLE001  # likewise
            _note(task, "checkpoint", error, "its result is not affected")
    return value


def _restore(keeping: Keeping, task: RunningTask) -> tuple[Any] | None:
    store = keeping.restore
    if not isinstance(store, FileStore):
        value = store(task)
        return None if value is None else (value,)
    found = store.load(task.name, lambda label: _check(label, keeping, task))
    if found is None:
        return None
    value, label = found
    if label.scope == _UNSCOPED:
        return (value,)
    scope = label.scope & (keeping.scope or _UNSCOPED)
    return (task.agent.chunks.new_chunk(value, task.processor, scope),)


def _check(label: Label, keeping: Keeping, task: RunningTask) -> None:
    """Looks whether a result that was kept is the one that is asked for, and may be read here."""
    if label.function != keeping.function:
        raise ScopekitError(
            f"the file holds a result of {label.function}, and this is {keeping.function}. Give"
            " each a file of its own, by {name} in the path."
        )
    if not task.agent.topology.contains(label.scope, task.processor):
        raise ScopekitError(
            f"the result that was kept is valid on {label.scope.describe()}, which leaves out"
            f" {task.processor.describe()}"
        )


def _checkpoint(keeping: Keeping, task: RunningTask, value: Any) -> None:
    store = keeping.checkpoint
    if not isinstance(store, FileStore):
        store(task, value)
        return
    scope = keeping.scope or _UNSCOPED
    if isinstance(value, Chunk):
        value, scope = _content(value, task)
    scope = task.agent.seals.within(task.id, scope)
    readers = store.scope or NodeScope(task.node)
    if readers & scope != readers:
        raise ScopekitError(
            f"the result is valid on {scope.describe()}, and a file can be read on"
            f" {readers.describe()}. Keep it on a node where all may have it, or give a function"
            " as checkpoint= that puts it where it may be."
        )
    store.save(Label(keeping.function, task.name, scope), value)


def _content(chunk: Chunk, task: RunningTask) -> tuple[Any, Scope]:
    if chunk.id not in task.agent.store:
        raise ScopekitError(f"the result is chunk {chunk.id}, which is not on worker {task.worker}")
    content: tuple[Any, Scope] = task.agent.store.look(chunk.id)
    return content


def _note(task: RunningTask, what: str, error: Exception, then: str) -> None:
    text = f"{task.name}: {what} failed, {then}: {type(error).__name__}: {error}\n"
    task.agent.write_output(task.id, "stderr", text)
