"""What processes keep of tasks that are long done."""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING

import scopekit
from scopekit.bench.figures import Reading
from scopekit.bench.tasks import noop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.bench.figures import Setup

__all__ = ("memory",)

_BATCH = 1000
_STEP = 20_000
_MB = 1e6


def memory(setup: Setup) -> Iterator[Reading | None]:
    """Yields the MB of the client and of its largest engine after many no-ops.

    Tasks are spawned in a loop that waits for a thousand at a time and keeps no handle.
    """
    few, many = setup.size // 10, setup.size
    with scopekit.start(setup.workers, wire=setup.wire) as session:
        pids = [process.pid for process in session.topology.processes if process.pid]
        engines = [pid for pid in pids if pid != os.getpid()]
        seen = {0: _resident(engines)}
        done = 0
        began = time.perf_counter()
        while done < many:
            session.wait([session.spawn(noop) for _ in range(_BATCH)])
            done += _BATCH
            if done == _BATCH or done in (few, many):
                seen[done] = _resident(engines)
            if not done % _STEP:
                yield None
        detail = {
            "seconds": time.perf_counter() - began,
            "resident_mb": {str(count): found for count, found in seen.items()},
        }
    for place, who in enumerate(("client", "engine")):
        for count in (few, many):
            yield Reading(seen[count][place], f"{who}, after {count:,} tasks", detail=detail)
        yield Reading(seen[many][place] - seen[few][place], f"{who}, growth between", detail=detail)


def _resident(engines: list[int]) -> tuple[float, float]:
    """Returns the memory of this process and of the largest engine, in MB."""
    import psutil  # noqa: PLC0415  # only here

    gc.collect()
    here = psutil.Process().memory_info().rss
    largest = max(psutil.Process(pid).memory_info().rss for pid in engines)
    return here / _MB, largest / _MB
