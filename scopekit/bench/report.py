"""The tables of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.bench.figures import best
from scopekit.bench.systems import SYSTEMS, WIRES
from scopekit.bench.tables import Table, amount
from scopekit.bench.targets import TARGETS, ratio
from scopekit.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scopekit.bench.figures import Failure, Figure
    from scopekit.bench.rounds import Found

__all__ = ("figures_table", "ratios_table", "targets_table", "tell_failures")

_NONE = "-"
_FAILED = "failed"


def figures_table(found: Found, systems: Sequence[str], names: Iterable[str]) -> Table:
    """Returns the best figure of each system for the workloads of those names."""

    def cell(workload: str, case: str, system: str) -> str:
        figure = best(found.figures, workload, case, system)
        if figure is not None:
            return _told(figure.value, figure.bound)
        return _FAILED if _failed(found.failures, workload, case, system) else _NONE

    return _table(found, systems, names, cell, "")


def ratios_table(found: Found, systems: Sequence[str], names: Iterable[str], wire: str) -> Table:
    """Returns the figures of scopekit over a wire, divided by those of each peer."""

    def cell(workload: str, case: str, system: str) -> str:
        part = ratio(found.figures, workload, case, wire, system)
        return _NONE if part is None else _told(part.value, part.bound)

    return _table(found, systems, names, cell, f"{SYSTEMS[wire].title} / ")


def targets_table(found: Found) -> Table:
    """Returns what is to be reached, with what was."""
    rows = []
    for target in TARGETS:
        part = ratio(found.figures, target.workload, target.case, target.system, target.peer)
        rows.append(
            (
                _row_name(target.workload, target.case),
                f"{SYSTEMS[target.system].title} / {SYSTEMS[target.peer].title}",
                f"≤ {target.most:g}",
                _NONE if part is None else _told(part.value, part.bound),
                target.verdict(found.figures),
            )
        )
    return Table(("workload", "ratio", "target", "measured", "verdict"), tuple(rows))


def tell_failures(failures: Sequence[Failure]) -> list[str]:
    """Returns one line for each thing that failed, however often it did."""
    lines = [
        f"{SYSTEMS[failure.system].title}, {_row_name(failure.workload, failure.case)}:"
        f" {failure.reason}"
        for failure in failures
    ]
    return list(dict.fromkeys(lines))


def _table(
    found: Found,
    systems: Sequence[str],
    names: Iterable[str],
    cell: Callable[[str, str, str], str],
    before: str,
) -> Table:
    rows = []
    for name in names:
        unit = WORKLOADS[name].unit
        for case in _cases(found, name):
            cells = (cell(name, case, system) for system in systems)
            rows.append((f"{_row_name(name, case)}{f', {unit}' if not before else ''}", *cells))
    return Table(("", *(f"{before}{SYSTEMS[system].title}" for system in systems)), tuple(rows))


def _cases(found: Found, name: str) -> list[str]:
    seen = [entry.case for entry in (*found.figures, *found.failures) if entry.workload == name]
    return list(dict.fromkeys(seen))


def _row_name(workload: str, case: str) -> str:
    title = WORKLOADS[workload].title if workload in WORKLOADS else workload
    return f"{title}, {case}" if case else title


def _failed(failures: Sequence[Failure], workload: str, case: str, system: str) -> bool:
    return any(
        (failure.workload, failure.system) == (workload, system) and failure.case in ("", case)
        for failure in failures
    )


def _told(value: float, bound: str) -> str:
    return f"{bound} {amount(value)}" if bound else amount(value)
