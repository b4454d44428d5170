"""What the machine has left for the benchmark: others may use it at the same time."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from scopekit.bench.figures import Reading
from scopekit.bench.kernel import calibrate, compute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.bench.figures import Setup

__all__ = ("free_cores",)

_PASSES = 500_000
_QUICK_PASSES = 20_000


def free_cores(setup: Setup) -> Iterator[Reading]:
    """Yields the part of a core that each of as many plain processes as workers gets now."""
    passes = _QUICK_PASSES if setup.quick else _PASSES
    with ProcessPoolExecutor(setup.workers) as pool:
        per_pass = min(pool.map(_calibrate, range(setup.workers)))
        walls = list(pool.map(_wall, [passes] * setup.workers))
    yield Reading(min(1.0, passes * per_pass * setup.workers / sum(walls)), unit="")


def _calibrate(_: int) -> float:
    return calibrate()


def _wall(passes: int) -> float:
    began = time.perf_counter()
    compute(passes)
    return time.perf_counter() - began
