"""Runs simulated worlds from the command line: ``python -m scopekit.testing --seeds 1000``.

Exit codes: 0 all went as it should, 1 something did not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scopekit.testing.acts import script
from scopekit.testing.generation import Size, draw_plan
from scopekit.testing.runs import run_seeds
from scopekit.testing.sabotage import SABOTAGES, find
from scopekit.testing.scale import measure
from scopekit.testing.watching import Violation
from scopekit.testing.world import replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekit.testing.runs import Failure

__all__ = ("main",)

_SHRUNK = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after the program's name; the process's own if None.

    Returns:
        The exit code.
    """
    given = _parser().parse_args(arguments)
    size = Size(_range(given.tasks), _range(given.workers))
    if given.replay is not None:
        return _replay(given.replay, size)
    if given.sabotage:
        return _sabotage(given.start, given.seeds)
    if given.scale is not None:
        return _scale(given.scale)
    return _run(given.start, given.seeds, size, given.keep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scopekit.testing", description="Try the scheduler in simulated worlds."
    )
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many worlds")
    parser.add_argument("--from", dest="start", type=int, default=0, metavar="S", help="the first")
    parser.add_argument("--tasks", default="5:40", metavar="LOW:HIGH", help="tasks in a world")
    parser.add_argument("--workers", default="1:6", metavar="LOW:HIGH", help="engines in a world")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add seeds that fail to a file")
    parser.add_argument("--replay", type=int, metavar="SEED", help="tell one world event by event")
    parser.add_argument("--sabotage", action="store_true", help="look for planted bugs")
    parser.add_argument("--scale", type=int, metavar="TASKS", help="measure the cost of a task")
    return parser


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    return int(low), int(high or low)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _replay(seed: int, size: Size) -> int:
    plan = draw_plan(seed, size)
    _say(script(plan))
    try:
        _say(str(replay(plan, tell=_say)))
    except Violation as violation:
        _say(str(violation))
        return 1
    return 0


def _run(start: int, count: int, size: Size, keep: Path | None) -> int:
    began = time.perf_counter()
    tally = run_seeds(range(start, start + count), size=size)
    took = time.perf_counter() - began
    _say(tally.text())
    _say(f"{60 * count / took:.0f} seeds a minute")
    _tell(tally.failures, keep)
    return bool(tally.failures)


def _tell(failures: list[Failure], keep: Path | None) -> None:
    for number, failure in enumerate(failures):
        told = failure.text() if number < _SHRUNK else f"# seed {failure.seed}: {failure.violation}"
        _say(told)
        if keep is not None:
            with keep.open("a", encoding="utf-8") as file:
                file.write(f"{failure.seed}  # {failure.violation.rule}\n")


def _sabotage(start: int, count: int) -> int:
    found = 0
    for kind in SABOTAGES:
        catch = find(kind, range(start, start + count))
        found += catch is not None
        _say(f"{kind.__name__:28} {'not found' if catch is None else catch}")
    _say(f"{found} found of {len(SABOTAGES)} planted")
    return found < len(SABOTAGES)


def _scale(most: int) -> int:
    tasks = 1000
    while tasks <= most:
        for processors in (10, 100, 1000, 10_000):
            _say(str(measure(tasks, processors, time.process_time)))
        tasks *= 10
    return 0


if __name__ == "__main__":
    sys.exit(main())
