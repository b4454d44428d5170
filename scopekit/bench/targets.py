"""What scopekit is to reach beside its peers, as ratios of figures of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scopekit.bench.figures import best

if TYPE_CHECKING:
    from scopekit.bench.figures import Figure

__all__ = ("TARGETS", "Ratio", "Target", "ratio")


@dataclass(frozen=True, slots=True)
class Target:
    """One ratio that is to be reached.

    Attributes:
        most: the largest ratio that counts as reached.
        peer: the system whose figure is the divisor.
        workload: of which workload.
        case: of which part of it.
        system: the wire of scopekit whose figure is divided.
    """

    most: float
    peer: str
    workload: str
    case: str = ""
    system: str = "direct"

    def verdict(self, figures: list[Figure]) -> str:
        """Tells whether the figures reach it: "reached", "not reached", "cannot be told"."""
        found = ratio(figures, self.workload, self.case, self.system, self.peer)
        if found is None:
            return "not measured"
        if found.bound == "?":
            return "cannot be told"
        if found.value <= self.most:
            return "cannot be told" if found.bound == ">" else "reached"
        return "cannot be told" if found.bound == "<" else "not reached"


TARGETS = (
    Target(0.2, "processes", "noops"),
    Target(0.03, "ray", "noops"),
    Target(1.5, "processes", "roundtrip"),
    Target(0.2, "ray", "roundtrip"),
    Target(0.06, "processes", "chain"),
    Target(0.01, "ray", "chain"),
    Target(0.3, "processes", "tree"),
    Target(0.05, "ray", "tree"),
    Target(0.5, "processes", "stencil"),
    Target(0.07, "ray", "stencil"),
    Target(1.0, "ray", "transfer"),
    Target(0.25, "ray", "start"),
    Target(0.35, "ipyparallel", "start"),
    Target(0.15, "ray", "metg", "stencil_1d"),
    Target(0.15, "ray", "metg", "no_comm"),
    Target(0.05, "ipyparallel", "noops", system="views"),
    Target(0.02, "ipyparallel", "chain", system="views"),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two figures.

    Attributes:
        value: the ratio.
        bound: "<" or ">" where it lies below or above, "?" where that cannot be told.
    """

    value: float
    bound: str = ""


def ratio(figures: list[Figure], workload: str, case: str, system: str, peer: str) -> Ratio | None:
    """Returns the ratio of the best figures of two systems, None where one is missing."""
    ours, theirs = (best(figures, workload, case, name) for name in (system, peer))
    if ours is None or theirs is None or theirs.value == 0:
        return None
    above = {"<": ">", ">": "<", "": ""}[theirs.bound]
    bounds = {ours.bound, above} - {""}
    return Ratio(ours.value / theirs.value, "?" if len(bounds) > 1 else "".join(bounds))
