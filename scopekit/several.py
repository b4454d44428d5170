"""The handle to a task that gives several results."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopeViolationError
from scopekit.handles import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scopekit.handles import Chunk

__all__ = ("SeveralTask", "labelled")

_NO_CHUNK = -1


class SeveralTask(Task):
    """A handle to one call that gives several results, each of them a task of its own.

    It has no chunk: given to another task it stands for the tuple of its results, each
    of which has its own scope and lives for as long as somebody holds its handle.

    Args:
        session: the session or the process that it belongs to.
        task_id: the number of the task.
        name: what graphs and messages call it.
        outputs: name and chunk of each result, in order.
    """

    def __init__(
        self, session: Any, task_id: int, name: str, outputs: Iterable[tuple[str, int]]
    ) -> None:
        super().__init__(session, task_id, name, _NO_CHUNK)
        made = {key: Task(session, task_id, f"{name}[{key}]", chunk) for key, chunk in outputs}
        for key, part in made.items():
            part.label = f"output {key!r} of {name}"
        self.outputs = MappingProxyType(made)
        self.parts = tuple(made.values())

    def __del__(self) -> None:
        """Does nothing: each part says of itself when it is gone."""

    def __iter__(self) -> Iterator[Task]:
        return iter(self.parts)

    @property
    def plain_value(self) -> tuple[Any] | None:
        """The results in a tuple of one, where all of them came with the word that it is done."""
        values = [part.plain_value for part in self.parts]
        told = tuple(value[0] for value in values if value is not None)
        return (told,) if len(told) == len(values) else None

    @plain_value.setter
    def plain_value(self, values: tuple[Any, ...] | None) -> None:
        for part, value in zip(self.parts, values or (), strict=False):
            part.plain_value = (value,)


def labelled(error: ScopeViolationError, handles: Iterable[Task | Chunk]) -> ScopeViolationError:
    """Returns an error with what is known of the result that it is about.

    That is its name where it is one of several, and why it did not come when it was made.
    """
    for handle in handles:
        if not isinstance(handle, Task) or handle.chunk_id != error.chunk:
            continue
        text = str(handle.refusal or error)
        label = f"{handle.label}: " if handle.label else ""
        return ScopeViolationError(f"{label}{text}", error.chunk, error.scope)
    return error
