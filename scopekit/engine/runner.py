"""Runs one task: reads its call, makes it, hands its results to be kept."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopekitError
from scopekit.scopes import AnyScope
from scopekit.wire.codec import load_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopekit.graph import StoredChunk
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.messages import Run

__all__ = ("run_task",)


def run_task(
    order: Run,
    function: Callable[..., Any],
    inputs: list[Any],
    keep: Callable[[int, Any, Scope, Processor], StoredChunk],
) -> tuple[StoredChunk, ...]:
    """Runs a task.

    Args:
        order: the task.
        function: what to call.
        inputs: the values of the inputs, in order.
        keep: stores one result.

    Returns:
        A description of each result, in order.
    """
    args, kwargs = load_arguments(order.arguments, inputs)
    value = function(*args, **kwargs)
    if isinstance(value, CoroutineType):
        import asyncio  # noqa: PLC0415  # slow to load

        value = asyncio.run(value)
    return tuple(
        keep(chunk, result, order.result_scope or AnyScope(), order.processor)
        for chunk, result in zip(order.outputs, _split(value, order), strict=True)
    )


def _split(value: Any, order: Run) -> Sequence[Any]:
    count = len(order.outputs)
    if count == 1:
        return (value,)
    if not isinstance(value, (tuple, list)) or len(value) != count:
        raise ScopekitError(
            f"{order.name} is to give {count} results and returned"
            f" {type(value).__name__}{_length(value)}; return a tuple of {count}"
        )
    return value


def _length(value: Any) -> str:
    return f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
