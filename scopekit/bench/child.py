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

from scopekit.bench.programs import PROGRAMS, warm_up
from scopekit.bench.systems import SYSTEMS
from scopekit.bench.tasks import noop
from scopekit.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.bench.systems.base import System

__all__ = ("Order", "main")


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to measure.

    Attributes:
        system: which system.
        workloads: which workloads, in this order.
        workers: on how many workers.
        quick: True for the small sizes.
        pipe: the file descriptor to write to.
    """

    system: str
    workloads: tuple[str, ...]
    workers: int
    quick: bool
    pipe: int

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
            tell(kind="figure", workload="start", value=time.perf_counter() - began)
            tell(kind="finished", workload="start")
        rest = [name for name in order.workloads if name != "start"]
        if rest:
            warm_up(system, WORKLOADS["noops"].quick if order.quick else 1000)
        for name in rest:
            _run(system, name, order, tell)
    finally:
        tell(kind="begun", workload="close")
        system.close()


def _run(system: System, name: str, order: Order, tell: Callable[..., None]) -> None:
    workload = WORKLOADS[name]
    tell(kind="begun", workload=name)
    try:
        value = PROGRAMS[name](system, workload.quick if order.quick else workload.size)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the table says
        tell(kind="failed", workload=name, reason=_reason(error))
    else:
        tell(kind="figure", workload=name, value=value)
    tell(kind="finished", workload=name)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
