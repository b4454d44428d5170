"""Runs one task: reads its call, makes it, hands its results to be kept."""

from __future__ import annotations

from itertools import repeat
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopekitError
from scopekit.wire.codec import load_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopekit.graph import StoredChunk
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.messages import PlainArguments, Run

__all__ = ("awaited", "run_task")


def run_task(
    order: Run,
    function: Callable[..., Any],
    inputs: Sequence[Any],
    keep: Callable[[int, Any, Scope | None, Processor], StoredChunk],
) -> tuple[tuple[StoredChunk, ...], Any]:
    """Runs a task.

    Args:
        order: the task.
        function: what to call.
        inputs: the values of the inputs, in order.
        keep: stores one result, valid where it was declared to be, if it was.

    Returns:
        A description of each result, in order, with the first result itself, or all of
        them where the function's tuple was split.
    """
    value = _call(function, order.arguments, inputs)
    if isinstance(value, CoroutineType):
        value = awaited(value)
    scope = order.result_scope
    split = order.how is not None and order.how.split
    if len(order.outputs) == 1 and not split:
        return (keep(order.outputs[0], value, scope, order.processor),), value
    parts = _split(value, order)
    scopes = order.how.result_scopes if order.how is not None else ()
    kept = tuple(
        keep(chunk, result, where, order.processor)
        for chunk, result, where in zip(
            order.outputs, parts, scopes or repeat(scope, len(parts)), strict=True
        )
    )
    return kept, parts if split else parts[0]


def awaited(value: Any) -> Any:
    """Returns what a coroutine returns; any other value as it is."""
    if not isinstance(value, CoroutineType):
        return value
    import asyncio  # noqa: PLC0415  # slow to load

    return asyncio.run(value)


def _call(
    function: Callable[..., Any], arguments: PlainArguments | bytes, inputs: Sequence[Any]
) -> Any:
    if isinstance(arguments, bytes):
        args, kwargs = load_arguments(arguments, inputs)
        return function(*args, **kwargs)
    plain, places = arguments
    if not places:
        return function(*plain)
    values = list(plain)
    # There may be more inputs, of which only the order counts.
    for place, value in zip(places, inputs, strict=False):
        values[place] = value
    return function(*values)


def _split(value: Any, order: Run) -> Sequence[Any]:
    count = len(order.outputs)
    if not isinstance(value, (tuple, list)) or len(value) != count:
        raise ScopekitError(
            f"{order.name} is to give {count} results and returned"
            f" {type(value).__name__}{_length(value)}; return a tuple of {count}"
        )
    return value


def _length(value: Any) -> str:
    return f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
