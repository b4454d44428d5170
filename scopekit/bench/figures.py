"""What was measured: one figure, one failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ("Failure", "Figure", "Reading", "Setup", "best")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a workload is told.

    Attributes:
        size: how large it is to be.
        quick: True where only the benchmark itself is tried.
        workers: on how many workers.
        wire: over which of scopekit's wires, where it starts sessions of its own.
        patterns: which of Task Bench's patterns.
    """

    size: int
    quick: bool
    workers: int
    wire: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure, as a workload gives it.

    Attributes:
        value: how much.
        case: which part of the workload, "" if it has one figure only.
        unit: of what, the workload's own unit if None.
        bound: "<" or ">" where the true value lies below or above.
        problem: why there is no value, "" if there is one.
        detail: what else was seen.
    """

    value: float
    case: str = ""
    unit: str | None = None
    bound: str = ""
    problem: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        workload: which workload gave it.
        case: which part of the workload, "" if it has one figure only.
        system: which system it was measured on.
        round: in which round, from 0.
        value: how much, less being better.
        unit: of what: "µs", "ms", "s", "MB", or "" for a number of things.
        bound: "<" or ">" where the true value lies below or above, as far as can be told.
        detail: what else was seen.
    """

    workload: str
    case: str
    system: str
    round: int
    value: float
    unit: str
    bound: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """A workload that a system did not get through.

    Attributes:
        workload: which workload.
        case: which part of it, "" for all.
        system: which system.
        round: in which round.
        reason: why, in a line.
    """

    workload: str
    case: str
    system: str
    round: int
    reason: str


def best(figures: list[Figure], workload: str, case: str, system: str) -> Figure | None:
    """Returns the smallest figure of a kind, None if there is none."""
    found = [f for f in figures if (f.workload, f.case, f.system) == (workload, case, system)]
    # One that is known only to lie above counts if there is no other.
    return min(found, key=lambda f: (f.bound == ">", f.value), default=None)
