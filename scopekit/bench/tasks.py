"""The functions that workers run; they must be importable there, so they stand alone here."""

from __future__ import annotations

import os
from typing import Any

__all__ = ("add", "blend", "increment", "make_block", "noop", "pid", "same", "sum_block")

_MODULUS = 1009


def noop() -> None:
    """Does nothing."""


def same(value: int) -> int:
    """Returns its argument."""
    return value


def increment(value: int) -> int:
    """Returns the next number."""
    return value + 1


def add(one: int, other: int) -> int:
    """Returns the sum of two numbers."""
    return one + other


def blend(*neighbours: int) -> int:
    """Returns the sum of numbers, kept small."""
    return sum(neighbours) % _MODULUS


def make_block(count: int) -> Any:
    """Makes an array of that many ones, eight bytes each."""
    import numpy as np  # noqa: PLC0415  # slow to load

    return np.ones(count)


def sum_block(block: Any) -> float:
    """Adds up what an array holds."""
    return float(block.sum())


def pid() -> int:
    """Returns the id of the process it runs in."""
    return os.getpid()
