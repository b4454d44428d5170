"""Measures all systems in rounds, so that what else the machine does hits all alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scopekit.bench.child import Order
from scopekit.bench.figures import Failure, Figure
from scopekit.bench.isolation import measure
from scopekit.bench.workloads import OFTEN, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ("Asked", "Found", "run_rounds")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run of the benchmark is to do.

    Attributes:
        systems: which systems, in the order of the table.
        workloads: which workloads.
        workers: how many workers each system has.
        rounds: how often each is measured.
        quick: True for the small sizes.
        patterns: which of Task Bench's patterns.
        limit: for how many seconds a system may say nothing.
    """

    systems: tuple[str, ...]
    workloads: tuple[str, ...]
    workers: int
    rounds: int
    quick: bool
    patterns: tuple[str, ...]
    limit: float


@dataclass(slots=True)
class Found:
    """What a run of the benchmark found.

    Attributes:
        figures: what was measured.
        failures: what was not.
        free_cores: before each round, the part of a core that each of as many plain
            processes as there are workers got.
    """

    figures: list[Figure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    free_cores: list[float] = field(default_factory=list)


def run_rounds(asked: Asked, say: Callable[[str], None]) -> Found:
    """Measures all that is asked for.

    Args:
        asked: what is asked for.
        say: tells the user how far it is.

    Returns:
        All figures and failures; where it is interrupted, those until then are lost.
    """
    found = Found()
    for number in range(asked.rounds):
        last = number == asked.rounds - 1
        found.free_cores += _free_cores(asked)
        for system in asked.systems:
            for workloads in _parts(asked.workloads, system, last=last):
                names = ", ".join(workloads)
                say(f"round {number + 1} of {asked.rounds}: {system}: {names}")
                part = replace(asked, patterns=_patterns(asked.patterns, last=last))
                _Part(part, system, number, found, say).run(list(workloads))
    return found


def _patterns(patterns: tuple[str, ...], *, last: bool) -> tuple[str, ...]:
    """Returns which patterns a round has: all would take too long for every round."""
    often = tuple(pattern for pattern in patterns if pattern in OFTEN)
    return patterns if last or not often else often


def _free_cores(asked: Asked) -> list[float]:
    """Returns the part of a core that plain processes get now; nothing if it cannot be told."""
    said: list[dict[str, Any]] = []
    order = Order("", ("free_cores",), asked.workers, asked.quick, ())
    measure(order, asked.limit, said.append)
    return [words["value"] for words in said if words["kind"] == "figure"]


def _parts(workloads: Sequence[str], system: str, *, last: bool) -> Iterator[tuple[str, ...]]:
    """Yields what runs in one process together: most workloads, and each that needs its own."""
    here = [
        WORKLOADS[name]
        for name in workloads
        if system in WORKLOADS[name].systems and (last or not WORKLOADS[name].once)
    ]
    together = tuple(workload.name for workload in here if not workload.alone)
    if together:
        yield together
    for workload in here:
        if workload.alone:
            yield (workload.name,)


class _Part:
    """What runs in one process together, and again without what it did not survive."""

    def __init__(
        self, asked: Asked, system: str, number: int, found: Found, say: Callable[[str], None]
    ) -> None:
        self._asked, self._system, self._number = asked, system, number
        self._found, self._say = found, say
        self._left: list[str] = []

    def run(self, workloads: list[str]) -> None:
        self._left = workloads
        while self._left:
            before = len(self._left)
            asked = self._asked
            order = Order(
                *(self._system, tuple(self._left), asked.workers, asked.quick),
                patterns=asked.patterns,
            )
            measure(order, asked.limit, self._take)
            if len(self._left) == before:
                break

    def _take(self, said: dict[str, Any]) -> None:
        name = said["workload"]
        if said["kind"] in ("begun", "alive"):
            return
        if said["kind"] == "failed":
            self._fail(said)
            return
        if said["kind"] == "finished":
            self._left.remove(name)
            return
        self._found.figures.append(
            Figure(
                name,
                said["case"],
                self._system,
                self._number,
                said["value"],
                WORKLOADS[name].unit if said["unit"] is None else said["unit"],
                said["bound"],
                said["detail"],
            )
        )

    def _fail(self, said: dict[str, Any]) -> None:
        name, reason, case = said["workload"], said["reason"], said.get("case", "")
        self._say(f"  {self._system}: {name}{f' ({case})' if case else ''}: {reason}")
        fatal = said.get("fatal")
        # A system that does not start does nothing else; otherwise the rest is tried again.
        lost = self._left if fatal and name == "start" else [name]
        for workload in lost:
            failure = Failure(workload, case, self._system, self._number, reason)
            self._found.failures.append(failure)
        if fatal:
            self._left = [workload for workload in self._left if workload not in lost]
