"""Measures one system, in the process of its own that this is the main module of.

Its one argument is an :class:`Order` as JSON. What it measures it writes, line by line
as JSON, to the file descriptor that the order names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scopekit.bench.contention import free_cores
from scopekit.bench.figures import Reading, Setup
from scopekit.bench.memory import memory
from scopekit.bench.programs import PROGRAMS, warm_up
from scopekit.bench.scoped import placement, unions
from scopekit.bench.systems import SYSTEMS
from scopekit.bench.taskbench import metg, patterns
from scopekit.bench.tasks import noop
from scopekit.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopekit.bench.systems.base import System

__all__ = ("Order", "main")

_WARM = 200
# Those with several figures, and those that start sessions of their own.
_SERIES = {"patterns": patterns, "metg": metg}
_ALONE = {"free_cores": free_cores, "unions": unions, "placement": placement, "memory": memory}


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to measure.

    Attributes:
        system: which system.
        workloads: which workloads, in this order.
        workers: on how many workers.
        quick: True for the small sizes.
        patterns: which of Task Bench's patterns.
        pipe: the file descriptor to write to.
    """

    system: str
    workloads: tuple[str, ...]
    workers: int
    quick: bool
    patterns: tuple[str, ...]
    pipe: int = -1

    def as_text(self) -> str:
        """Returns what :func:`main` takes."""
        return json.dumps(asdict(self))


def main() -> None:
    """Measures what the order says."""
    order = Order(**json.loads(sys.argv[1]))
    signal.signal(signal.SIGTERM, _leave)
    with os.fdopen(order.pipe, "w", encoding="utf-8") as pipe:

        def tell(**facts: Any) -> None:
            pipe.write(f"{json.dumps(facts)}\n")
            pipe.flush()

        _measure(order, tell)
        tell(kind="ended")


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _measure(order: Order, tell: Callable[..., None]) -> None:
    if order.workloads[0] in _ALONE:
        for name in order.workloads:
            _take(_ALONE[name](_setup(name, order)), name, tell)
        return
    system = SYSTEMS[order.system](order.workers)
    tell(kind="begun", workload="start")
    try:
        system.load()
        began = time.perf_counter()
        system.start()
        system.results([system.submit(noop)])
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the table says
        tell(kind="failed", workload="start", reason=_reason(error), fatal=True)
        return
    try:
        if "start" in order.workloads:
            tell(kind="figure", workload="start", **_facts(Reading(time.perf_counter() - began)))
            tell(kind="finished", workload="start")
        rest = [name for name in order.workloads if name != "start"]
        if rest:
            warm_up(system, WORKLOADS["noops"].quick if order.quick else _WARM)
        for name in rest:
            _take(_readings(system, name, _setup(name, order)), name, tell)
    finally:
        tell(kind="begun", workload="close")
        system.close()


def _setup(name: str, order: Order) -> Setup:
    workload = WORKLOADS.get(name)
    size = 0 if workload is None else workload.quick if order.quick else workload.size
    return Setup(size, order.quick, order.workers, order.system, tuple(order.patterns))


def _readings(system: System, name: str, setup: Setup) -> Iterator[Reading | None]:
    if name in _SERIES:
        yield from _SERIES[name](system, setup)
    else:
        yield Reading(PROGRAMS[name](system, setup.size))


def _take(readings: Iterator[Reading | None], name: str, tell: Callable[..., None]) -> None:
    tell(kind="begun", workload=name)
    try:
        for reading in readings:
            if reading is None:
                tell(kind="alive", workload=name)
            elif reading.problem:
                tell(kind="failed", workload=name, case=reading.case, reason=reading.problem)
            else:
                tell(kind="figure", workload=name, **_facts(reading))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the table says
        tell(kind="failed", workload=name, reason=_reason(error))
    tell(kind="finished", workload=name)


def _facts(reading: Reading) -> dict[str, Any]:
    return {key: value for key, value in asdict(reading).items() if key != "problem"}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
