"""``scopekit bench``: its words, and what it does with them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopekit.bench.machine import describe_machine, describe_versions
from scopekit.bench.report import figures_table, ratios_table, targets_table, tell_failures
from scopekit.bench.rounds import Asked, run_rounds
from scopekit.bench.systems import PEERS, SYSTEMS, WIRES, is_installed
from scopekit.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopekit.bench.rounds import Found

__all__ = ("add_arguments", "run")

_WRONG = 1
_IMPOSSIBLE = 2


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


def run(given: argparse.Namespace, complain: Callable[[str], None]) -> int:
    """Runs the benchmark.

    Args:
        given: the words of the command.
        complain: tells what is wrong.

    Returns:
        The exit code: 1 if something of scopekit itself failed, 2 if a peer that was asked
        for is not installed.
    """
    lacking = [peer for peer in given.peers or PEERS if not is_installed(peer)]
    for peer in lacking:
        complain(f"{peer} is not installed; pip install {SYSTEMS[peer].module}")
    if lacking and given.peers:
        return _IMPOSSIBLE
    peers = given.peers if given.peers is not None else PEERS
    systems = (*given.wires, *(peer for peer in peers if peer not in lacking))
    rounds = given.rounds or (1 if given.quick else 3)
    asked = Asked(systems, given.only, given.workers, rounds, given.quick, given.limit)
    machine = describe_machine()
    found = run_rounds(asked, _hint)
    _show(found, asked)
    if given.json:
        facts = _facts(found, asked, machine)
        given.json.write_text(f"{json.dumps(facts, indent=1)}\n", encoding="utf-8")
    return _WRONG if any(failure.system in WIRES for failure in found.failures) else 0


def _show(found: Found, asked: Asked) -> None:
    names = [name for name in asked.workloads if name in WORKLOADS]
    peers = [system for system in asked.systems if system not in WIRES]
    _print(figures_table(found, asked.systems, names).text())
    for wire in asked.systems:
        if wire in WIRES and peers:
            _print(f"\n{ratios_table(found, peers, names, wire).text()}")
    if peers:
        _print(f"\n{targets_table(found).text()}")
    for line in tell_failures(found.failures):
        _print(f"failed: {line}")


def _facts(found: Found, asked: Asked, machine: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "machine": machine,
        "versions": describe_versions(),
        "workers": asked.workers,
        "rounds": asked.rounds,
        "quick": asked.quick,
        "figures": [figure.as_json() for figure in found.figures],
        "failures": [failure.as_json() for failure in found.failures],
    }


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
