"""What a point of a Task Bench graph does: a known amount of work, and a known output."""

from __future__ import annotations

import struct
import time

__all__ = ("WrongInputError", "calibrate", "compute", "output", "point")

_DOUBLES = 64
_START = 1.2345
_REPEATS = 40
_ITERATIONS = 1000
_WARM = 5


class WrongInputError(Exception):
    """A task was given something else than the outputs that it needs."""


def compute(iterations: int) -> None:
    """Does so many passes over 64 doubles, about a microsecond each.

    Task Bench computes ``a * a + a``, which soon overflows; this has the same two
    operations and settles at one.
    """
    import numpy as np  # noqa: PLC0415  # slow to load

    values = np.full(_DOUBLES, _START)
    multiply, add = np.multiply, np.add
    for _ in range(iterations):
        multiply(values, 0.5, out=values)
        add(values, 0.5, out=values)


def output(t: int, i: int) -> bytes:
    """Returns what point ``i`` of row ``t`` gives: its own place, 16 bytes."""
    return struct.pack("<qq", t, i)


def point(
    t: int, i: int, iterations: int, needs: tuple[int, ...] | None, /, *given: bytes
) -> bytes:
    """Does the work of one point.

    Args:
        t: its row.
        i: its place in the row.
        iterations: how much work it does.
        needs: the points of the row before whose outputs it must have been given, in
            order; None to look at nothing.
        given: what it was given.

    Returns:
        Its output.

    Raises:
        WrongInputError: it was given something else.
    """
    if needs is not None:
        wanted = tuple(output(t - 1, j) for j in needs)
        if given != wanted:
            got = [struct.unpack("<qq", one) for one in given]
            raise WrongInputError(
                f"point ({t}, {i}) needs {[(t - 1, j) for j in needs]} and was given {got}"
            )
    if iterations:
        compute(iterations)
    return output(t, i)


def calibrate() -> float:
    """Returns the seconds that a pass takes on a core that does nothing else.

    That is the least of many short repeats: a core is rarely idle for one long one, and
    a pass that seems slower than it is makes every efficiency too good.
    """
    for _ in range(_WARM):
        compute(_ITERATIONS)
    least = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        compute(_ITERATIONS)
        least = min(least, time.perf_counter() - began)
    return least / _ITERATIONS
