"""``scopekit bench``: its words, and what it does with them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scopekit.bench.machine import describe_machine, describe_versions
from scopekit.bench.page import blocks, with_blocks
from scopekit.bench.patterns import PATTERNS
from scopekit.bench.record import Record
from scopekit.bench.report import (
    figures_table,
    groups,
    ratios_table,
    targets_table,
    tell_failures,
    tell_free_cores,
)
from scopekit.bench.rounds import Asked, run_rounds
from scopekit.bench.systems import PEERS, SYSTEMS, WIRES, is_installed
from scopekit.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("add_arguments", "run")

_WRONG = 1
_IMPOSSIBLE = 2
_ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of the command to its parser."""
    parser.add_argument(
        "--peers",
        type=_names("peer", PEERS),
        metavar="LIST",
        help=f"which to compare with, of {', '.join(PEERS)}; none for none"
        " (default: those that are installed)",
    )
    parser.add_argument(
        "--wires",
        type=_names("wire", WIRES),
        default=WIRES,
        metavar="LIST",
        help="which wires of scopekit to measure (default: direct,views)",
    )
    parser.add_argument(
        "--only",
        type=_names("workload", tuple(WORKLOADS)),
        default=tuple(WORKLOADS),
        metavar="LIST",
        help=f"which workloads to run, of {', '.join(WORKLOADS)} (default: all)",
    )
    parser.add_argument(
        "--patterns",
        type=_names("pattern", tuple(PATTERNS)),
        default=tuple(PATTERNS),
        metavar="LIST",
        help=f"which patterns of Task Bench to run, of {', '.join(PATTERNS)} (default: all)",
    )
    parser.add_argument(
        "--workers", type=_count, default=2, metavar="N", help="workers of each (default: 2)"
    )
    parser.add_argument(
        "--rounds",
        type=_count,
        metavar="N",
        help="how often each is measured; the best counts (default: 3, with --quick 1)",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    parser.add_argument(
        "--limit",
        type=_count,
        default=180,
        metavar="S",
        help="seconds after which a system that says nothing is ended (default: 180)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--docs", type=Path, metavar="PAGE", help="write the tables between the marks of a page"
    )
    parser.add_argument(
        "--load", type=Path, metavar="FILE", help="measure nothing; tell of a run that --json kept"
    )


def run(given: argparse.Namespace, complain: Callable[[str], None]) -> int:
    """Runs the benchmark.

    Args:
        given: the words of the command.
        complain: tells what is wrong.

    Returns:
        The exit code: 1 if something of scopekit itself failed, 2 if a peer that was asked
        for is not installed or a file cannot be used.
    """
    try:
        page = given.docs and given.docs.read_text(encoding="utf-8")
        if given.json:
            given.json.touch()  # what cannot be written is to be told before all the work
        record = _load(given.load) if given.load else _measure(given, complain)
        if record is None:
            return _IMPOSSIBLE
        _show(record)
        if given.json:
            text = json.dumps(record.as_json(), indent=1)
            given.json.write_text(f"{text}\n", encoding="utf-8")
        if page:
            given.docs.write_text(with_blocks(page, blocks(record)), encoding="utf-8")
    except (OSError, ValueError) as error:
        complain(str(error))
        return _IMPOSSIBLE
    return _WRONG if any(one.system in WIRES for one in record.found.failures) else 0


def _load(path: Path) -> Record:
    return Record.from_json(json.loads(path.read_text(encoding="utf-8")))


def _measure(given: argparse.Namespace, complain: Callable[[str], None]) -> Record | None:
    """Measures what is asked for; returns None if it is not there."""
    lacking = [peer for peer in given.peers or PEERS if not is_installed(peer)]
    if given.peers != ():
        for peer in lacking:
            complain(f"{peer} is not installed; pip install {SYSTEMS[peer].package}")
    if lacking and given.peers:
        return None
    peers = given.peers if given.peers is not None else PEERS
    asked = Asked(
        systems=(*given.wires, *(peer for peer in peers if peer not in lacking)),
        workloads=given.only,
        workers=given.workers,
        rounds=given.rounds or (1 if given.quick else _ROUNDS),
        quick=given.quick,
        patterns=given.patterns,
        limit=given.limit,
    )
    machine = describe_machine()
    return Record(asked, run_rounds(asked, _hint), machine, describe_versions())


def _show(record: Record) -> None:
    asked, found = record.asked, record.found
    peers = [system for system in asked.systems if system not in WIRES]
    wires = [system for system in asked.systems if system in WIRES]
    for heading, names in groups(asked.workloads).items():
        alone = heading == "scopekit alone"
        tables = [figures_table(found, wires if alone else asked.systems, names)]
        if peers and not alone:
            tables += [ratios_table(found, peers, names, wire) for wire in wires]
        for table in tables:
            _print(f"{table.text()}\n")
    targets = targets_table(found)
    if targets.rows:
        _print(f"{targets.text()}\n")
    for line in tell_failures(found):
        _print(f"failed: {line}")
    if said := tell_free_cores(found):
        _print(said)


def _names(what: str, known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Returns what reads a list of names, in the order in which they are known."""

    def read(text: str) -> tuple[str, ...]:
        given = {name.strip() for name in text.split(",") if name.strip()} - {"none"}
        unknown = sorted(given - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown {what} {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return tuple(name for name in known if name in given)

    return read


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of 1 or more")
    return int(text)


def _hint(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # the tables alone go to the output


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # this is what a command is for
