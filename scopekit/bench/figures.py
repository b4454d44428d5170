"""What was measured: one figure, one failure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ("Failure", "Figure", "best")


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

    def as_json(self) -> dict[str, Any]:
        """Returns what a file is to keep of it."""
        return asdict(self)


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

    def as_json(self) -> dict[str, Any]:
        """Returns what a file is to keep of it."""
        return asdict(self)


def best(figures: list[Figure], workload: str, case: str, system: str) -> Figure | None:
    """Returns the smallest figure of a kind, None if there is none."""
    found = [f for f in figures if (f.workload, f.case, f.system) == (workload, case, system)]
    # One that is known only to lie above counts if there is no other.
    return min(found, key=lambda f: (f.bound == ">", f.value), default=None)
