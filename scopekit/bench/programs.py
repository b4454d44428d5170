"""The workloads that every system can run, as its users would write them."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from scopekit.bench.tasks import add, blend, increment, noop, same

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.bench.systems.base import System

__all__ = ("PROGRAMS", "WrongAnswerError", "warm_up")

_WIDTH = 16
_PER_MB = 125_000  # doubles


class WrongAnswerError(Exception):
    """A system gave an answer that is not the right one."""


def warm_up(system: System, tasks: int) -> None:
    """Lets the workers load what they need before anything is timed."""
    system.results([system.submit(noop) for _ in range(tasks)])
    _chain(system, min(tasks, 10))
    _tree(system, 8)
    _stencil(system, 2)


def noops(system: System, size: int) -> float:
    """Runs independent no-ops; returns µs per task."""
    began = time.perf_counter()
    system.results([system.submit(noop) for _ in range(size)])
    return 1e6 * (time.perf_counter() - began) / size


def spawn(system: System, size: int) -> float:
    """Submits no-ops; returns the µs that each took in the caller."""
    began = time.perf_counter()
    handles = [system.submit(noop) for _ in range(size)]
    took = time.perf_counter() - began
    system.results(handles)
    return 1e6 * took / size


def roundtrip(system: System, size: int) -> float:
    """Runs no-ops one after another; returns the µs of a typical one."""
    times = []
    for _ in range(size):
        began = time.perf_counter()
        system.results([system.submit(noop)])
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)


def chain(system: System, size: int) -> float:
    """Runs a chain of tasks; returns µs per link."""
    return 1e6 * _chain(system, size) / size


def tree(system: System, size: int) -> float:
    """Sums numbers in pairs; returns µs per task."""
    return 1e6 * _tree(system, size) / (2 * size - 1)


def stencil(system: System, size: int) -> float:
    """Runs rows of tasks of three neighbours each; returns µs per task."""
    return 1e6 * _stencil(system, size) / (_WIDTH * size)


def transfer(system: System, size: int) -> float:
    """Hands so many MB from a worker to another; returns ms."""
    system.transfer(_PER_MB // 10)
    began = time.perf_counter()
    answer = system.transfer(_PER_MB * size)
    took = time.perf_counter() - began
    _check("sum of the array", answer, float(_PER_MB * size))
    return 1e3 * took


PROGRAMS: dict[str, Callable[[System, int], float]] = {
    "noops": noops,
    "spawn": spawn,
    "roundtrip": roundtrip,
    "chain": chain,
    "tree": tree,
    "stencil": stencil,
    "transfer": transfer,
}


def _chain(system: System, size: int) -> float:
    began = time.perf_counter()
    link = system.submit(same, 0)
    for _ in range(size - 1):
        link = system.submit(increment, link)
    (answer,) = system.results([link])
    took = time.perf_counter() - began
    _check("end of the chain", answer, size - 1)
    return took


def _tree(system: System, size: int) -> float:
    began = time.perf_counter()
    row = [system.submit(same, number) for number in range(size)]
    while len(row) > 1:
        row = [system.submit(add, *row[place : place + 2]) for place in range(0, len(row), 2)]
    (answer,) = system.results(row)
    took = time.perf_counter() - began
    _check("sum of the tree", answer, size * (size - 1) // 2)
    return took


def _stencil(system: System, size: int) -> float:
    began = time.perf_counter()
    row = [system.submit(same, place) for place in range(_WIDTH)]
    for _ in range(size - 1):
        row = [system.submit(blend, *row[max(0, place - 1) : place + 2]) for place in range(_WIDTH)]
    answers = system.results(row)
    took = time.perf_counter() - began
    right = list(range(_WIDTH))
    for _ in range(size - 1):
        right = [blend(*right[max(0, place - 1) : place + 2]) for place in range(_WIDTH)]
    _check("last row of the stencil", answers, right)
    return took


def _check(what: str, answer: object, right: object) -> None:
    if answer != right:
        raise WrongAnswerError(f"the {what} should be {right}, and it is {answer}")
