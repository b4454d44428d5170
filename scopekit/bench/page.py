"""Writes a run's tables into a page, between marks that the page has for them."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

from scopekit.bench.report import (
    figures_table,
    groups,
    ratios_table,
    targets_table,
    tell_failures,
    tell_free_cores,
)
from scopekit.bench.systems import SYSTEMS, WIRES
from scopekit.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopekit.bench.record import Record

__all__ = ("blocks", "with_blocks")

_WIDTH = 118
_NOTHING = "Nothing of this was measured."
_DISTRIBUTIONS = {
    "processes": "",
    "ipyparallel": "ipyparallel",
    "dask": "distributed",
    "ray": "ray",
    "parsl": "parsl",
}


def with_blocks(page: str, made: Mapping[str, str]) -> str:
    """Returns the text of a page with each block put between its marks.

    Raises:
        ValueError: the page has no marks for a block.
    """
    for name, block in made.items():
        begin, end = f"<!-- benchmark: {name} -->\n", "<!-- end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no {begin.strip()} with {end} below")
        page = f"{before}{begin}{block}\n{end}{after}"
    return page


def blocks(record: Record) -> dict[str, str]:
    """Returns what stands between the marks of each name."""
    asked, found = record.asked, record.found
    peers = [system for system in asked.systems if system not in WIRES]
    wires = [system for system in asked.systems if system in WIRES]
    parts = groups(asked.workloads)
    targets = targets_table(found)
    made = {
        "machine": _machine(record),
        "workloads": _both(record, parts.get("workloads", []), wires, peers),
        "Task Bench": _both(record, parts.get("Task Bench", []), wires[:1], peers),
        "scopekit alone": _figures(record, wires, parts.get("scopekit alone", [])),
        "targets": targets.markdown() if targets.rows else "",
        "how": "\n".join(_item(f"**{one.title}**: {one.how}") for one in WORKLOADS.values()),
        "failures": "\n".join(map(_item, tell_failures(found))) or "Nothing failed.",
    }
    return {name: text or _NOTHING for name, text in made.items()}


def _both(record: Record, names: Sequence[str], wires: Sequence[str], peers: Sequence[str]) -> str:
    if not names:
        return ""
    tables = [figures_table(record.found, record.asked.systems, names)]
    if peers:
        tables += [ratios_table(record.found, peers, names, wire) for wire in wires]
    return "\n\n".join(table.markdown() for table in tables)


def _figures(record: Record, systems: Sequence[str], names: Sequence[str]) -> str:
    return figures_table(record.found, systems, names).markdown() if names and systems else ""


def _item(text: str) -> str:
    return fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _machine(record: Record) -> str:
    machine, versions, asked = record.machine, record.versions, record.asked
    named = [
        f"{SYSTEMS[system].title} {versions[package]}"
        for system, package in _DISTRIBUTIONS.items()
        if system in asked.systems and package in versions
    ]
    others = f", {', '.join(named)}" if named else ""
    rounds = f"the best of {asked.rounds} rounds" if asked.rounds > 1 else "one round"
    taken = (
        f"Taken on {machine['date']} on {machine['cores']} cores with {machine['memory_gb']:g} GB"
        f" of memory ({machine['system']}, {machine['architecture']}), with"
        f" {machine['implementation']} {machine['python']}, scopekit {versions['scopekit']}"
        f"{others}; {asked.workers} workers each, {rounds}."
    )
    lines = [taken, tell_free_cores(record.found)]
    if asked.quick:
        lines.append("**Small sizes, to try the benchmark: these figures say nothing.**")
    return fill(" ".join(filter(None, lines)), _WIDTH, break_on_hyphens=False)
