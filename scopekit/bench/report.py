"""The tables of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.bench.figures import best
from scopekit.bench.patterns import PATTERNS
from scopekit.bench.systems import SYSTEMS
from scopekit.bench.tables import Table, amount
from scopekit.bench.targets import TARGETS, ratio
from scopekit.bench.workloads import OURS, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scopekit.bench.rounds import Found

__all__ = (
    "figures_table",
    "groups",
    "ratios_table",
    "targets_table",
    "tell_failures",
    "tell_free_cores",
)

_NONE = "-"
_FAILED = "failed"
_QUIET = 0.9


def groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Returns which of the workloads share a table, by the heading of that.

    Example:
        >>> groups(["chain", "metg", "memory"])
        {'workloads': ['chain'], 'Task Bench': ['metg'], 'scopekit alone': ['memory']}
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if WORKLOADS[name].systems == OURS or len(WORKLOADS[name].systems) == 1:
            heading = "scopekit alone"
        else:
            heading = "Task Bench" if name in ("patterns", "metg") else "workloads"
        found.setdefault(heading, []).append(name)
    return found


def figures_table(found: Found, systems: Sequence[str], names: Sequence[str]) -> Table:
    """Returns the best figure of each system for the workloads of those names."""

    def cell(name: str, case: str, system: str) -> str:
        figure = best(found.figures, name, case, system)
        if figure is not None:
            return _told(figure.value, figure.bound)
        return _FAILED if _failed(found, name, case, system) else _NONE

    rows = [
        (_with_unit(found, name, case), *(cell(name, case, system) for system in systems))
        for name, case in _cases(found, names)
    ]
    return Table(("", *(SYSTEMS[system].title for system in systems)), tuple(rows))


def ratios_table(found: Found, peers: Sequence[str], names: Sequence[str], wire: str) -> Table:
    """Returns the figures of scopekit over a wire, divided by those of each peer."""

    def cell(name: str, case: str, peer: str) -> str:
        part = ratio(found.figures, name, case, wire, peer)
        return _NONE if part is None else _told(part.value, part.bound)

    rows = [
        (_title(name, case), *(cell(name, case, peer) for peer in peers))
        for name, case in _cases(found, names)
    ]
    heading = f"{SYSTEMS[wire].title} / peer"
    return Table((heading, *(SYSTEMS[peer].title for peer in peers)), tuple(rows))


def targets_table(found: Found) -> Table:
    """Returns what is to be reached with what was, as far as it was measured."""
    rows = []
    for target in TARGETS:
        part = ratio(found.figures, target.workload, target.case, target.system, target.peer)
        if part is None:
            continue
        rows.append(
            (
                _title(target.workload, target.case),
                f"{SYSTEMS[target.system].title} / {SYSTEMS[target.peer].title}",
                f"≤ {target.most:g}",
                _told(part.value, part.bound),
                target.verdict(found.figures),
            )
        )
    return Table(("", "ratio", "target", "measured", "verdict"), tuple(rows))


def tell_free_cores(found: Found) -> str:
    """Returns what of the cores was left for the benchmark, "" where that was not looked at."""
    if not found.free_cores:
        return ""
    shares = ", ".join(f"{100 * share:.0f} %" for share in found.free_cores)
    told = f"Before each round, as many plain processes as workers got {shares} of a core each."
    if min(found.free_cores) >= _QUIET:
        return told
    return f"{told} Others had the rest: ratios are rough, and METG(50 %) can be far too large."


def tell_failures(found: Found) -> list[str]:
    """Returns one line for each reason why something failed."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for failure in found.failures:
        title = _title(failure.workload, failure.case)
        titles = reasons.setdefault((SYSTEMS[failure.system].title, failure.reason), [])
        if title not in titles:
            titles.append(title)
    return [f"{who}: {', '.join(titles)}: {why}" for (who, why), titles in reasons.items()]


def _cases(found: Found, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields each workload with each of its parts that was measured or failed."""
    for name in names:
        seen = [figure.case for figure in found.figures if figure.workload == name]
        failed = [failure.case for failure in found.failures if failure.workload == name]
        # A failure of all parts has a line of its own only where there is no other.
        cases = dict.fromkeys([*seen, *filter(None, failed)] or failed)
        # The first round has few patterns.
        yield from ((name, case) for case in sorted(cases, key=_place_of_pattern))


def _place_of_pattern(case: str) -> int:
    return list(PATTERNS).index(case) if case in PATTERNS else 0


def _title(name: str, case: str) -> str:
    title = WORKLOADS[name].title if name in WORKLOADS else name
    return f"{title}: {case}" if case else title


def _with_unit(found: Found, name: str, case: str) -> str:
    for figure in found.figures:
        if (figure.workload, figure.case) == (name, case):
            return f"{_title(name, case)}{figure.unit and f', {figure.unit}'}"
    return f"{_title(name, case)}, {WORKLOADS[name].unit}"


def _failed(found: Found, name: str, case: str, system: str) -> bool:
    return any(
        (failure.workload, failure.system) == (name, system) and failure.case in ("", case)
        for failure in found.failures
    )


def _told(value: float, bound: str) -> str:
    if bound == "?":
        return bound
    return f"{bound} {amount(value)}" if bound else amount(value)
