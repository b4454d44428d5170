"""Runs Task Bench's graphs on a system."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scopekit.bench.figures import Reading
from scopekit.bench.kernel import calibrate, output, point
from scopekit.bench.metg import UntrustworthyError, find_metg, sweep
from scopekit.bench.patterns import Graph
from scopekit.bench.programs import WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.bench.figures import Setup
    from scopekit.bench.systems.base import System

__all__ = ("metg", "patterns", "run_graph", "validate")

_WIDTH = 8
_REPEATS = 2
# How many passes a task of a sweep does at first, and at most.
_SIZES = {"first": 2**13, "largest": 2**15}
_QUICK_SIZES = {"first": 2**10, "largest": 2**12}


def patterns(system: System, setup: Setup) -> Iterator[Reading]:
    """Yields the µs per task of each pattern where tasks do nothing, each validated before."""
    for name in setup.patterns:
        graph = Graph(name, setup.size, _WIDTH)
        validate(system, graph)
        seconds = run_graph(system, graph, 0)
        yield Reading(1e6 * seconds / graph.tasks(), name)


def metg(system: System, setup: Setup) -> Iterator[Reading]:
    """Yields the METG(50 %) of each pattern in ms, each validated before.

    A graph has one column for each worker, as in the paper, and fewer rows.
    """
    repeats = 1 if setup.quick else _REPEATS
    for name in setup.patterns:
        graph = Graph(name, setup.size, system.workers)
        validate(system, graph)
        per_pass = calibrate()

        def wall(iterations: int, graph: Graph = graph) -> float:
            return min(run_graph(system, graph, iterations) for _ in range(repeats))

        sizes = _QUICK_SIZES if setup.quick else _SIZES
        points = list(sweep(wall, per_pass, tasks=graph.tasks(), cores=system.workers, **sizes))
        detail = {
            "timesteps": graph.timesteps,
            "width": graph.width,
            "repeats": repeats,
            "microseconds_per_pass": 1e6 * per_pass,
            "points": [point.as_json() for point in points],
        }
        try:
            granularity, bound = find_metg(points)
        except UntrustworthyError as error:
            yield Reading(0, name, problem=str(error), detail=detail)
        else:
            yield Reading(1e3 * granularity, name, bound=bound, detail=detail)


def validate(system: System, graph: Graph) -> None:
    """Runs a graph in which each task looks at each input.

    Raises:
        WrongAnswerError: what came back is not what it should be. A task that was given
            something wrong raises its own error.
    """
    sinks = _sinks(graph)
    answers = system.results(_submit(system, _plan(graph), 0, set(sinks), check=True))
    if answers != [output(t, i) for t, i in sinks]:
        raise WrongAnswerError(f"the graph {graph.pattern} gave other outputs than its own")


def run_graph(system: System, graph: Graph, iterations: int) -> float:
    """Runs a graph without looking at inputs; returns the seconds from first to last."""
    plan, sinks = _plan(graph), set(_sinks(graph))
    began = time.perf_counter()
    system.results(_submit(system, plan, iterations, sinks, check=False))
    return time.perf_counter() - began


def _plan(graph: Graph) -> list[list[tuple[int, tuple[int, ...]]]]:
    """Returns the points of each row with what they need, which is no part of what is timed."""
    return [[(i, graph.inputs(t, i)) for i in graph.row(t)] for t in range(graph.timesteps)]


def _sinks(graph: Graph) -> list[tuple[int, int]]:
    """Returns the points whose outputs no other point needs, in order."""
    needed = {(t - 1, j) for t, i in graph.points() for j in graph.inputs(t, i)}
    return [place for place in graph.points() if place not in needed]


def _submit(
    system: System,
    plan: list[list[tuple[int, tuple[int, ...]]]],
    iterations: int,
    sinks: set[tuple[int, int]],
    *,
    check: bool,
) -> list[Any]:
    """Submits all points, row by row; returns the handles of those to wait for, in order."""
    before: dict[int, Any] = {}
    last: list[Any] = []
    for t, points in enumerate(plan):
        here: dict[int, Any] = {}
        for i, needs in points:
            given = [before[j] for j in needs]
            handle = system.submit(point, t, i, iterations, needs if check else None, *given)
            here[i] = handle
            if (t, i) in sinks:
                last.append(handle)
        before = here
    return last
