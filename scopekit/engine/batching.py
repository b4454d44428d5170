"""Makes several calls in one task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.engine.context import running_task
from scopekit.engine.runner import awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopekit.wire.codec import PickledError

__all__ = ("Batch", "run_batch")


class Batch(NamedTuple):
    """What several calls gave.

    Attributes:
        values: their values, up to the first that failed.
        failure: its error, None if none failed.
        seconds: how long all of them took.
    """

    values: list[Any]
    failure: PickledError | None
    seconds: float


def run_batch(retries: int, f: Callable[..., Any], *columns: Sequence[Any]) -> Batch:
    """Makes several calls, one after another, until one fails.

    Args:
        retries: how often each is tried again after an error.
        f: the function.
        columns: for each positional argument its values, one for each call.

    Returns:
        The values, with the error of the one that failed, if it was not alone: the error
        of a call that is alone is raised, so that the task fails as any other does.
    """
    began = time.perf_counter()
    if len(columns[0]) == 1:
        value = awaited(f(*(column[0] for column in columns)))
        return Batch([value], None, time.perf_counter() - began)
    values: list[Any] = []
    failure = None
    try:
        for args in zip(*columns, strict=True):
            values.append(_call(retries, f, args))  # noqa: PERF401  # those before an error stay
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a call may raise what it likes
        task = running_task.get()
        assert task is not None
        failure = task.agent.describe(error, task.processor)
    return Batch(values, failure, time.perf_counter() - began)


def _call(retries: int, f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    for _ in range(retries):
        try:
            return awaited(f(*args))
        except Exception:  # noqa: BLE001, S112  # it is tried again
            continue
    return awaited(f(*args))
