"""What only scopekit does: tasks in unions of pretend nodes, and columns kept to nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import scopekit
from scopekit.bench.figures import Reading
from scopekit.bench.kernel import point
from scopekit.bench.patterns import Graph
from scopekit.bench.programs import WrongAnswerError
from scopekit.bench.tasks import noop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopekit.bench.figures import Setup
    from scopekit.handles import Task
    from scopekit.scopes import Scope

__all__ = ("placement", "unions")

_NODES = tuple(f"node{number}" for number in range(8))
_WIDTH = 8


def unions(setup: Setup) -> Iterator[Reading]:
    """Yields the µs per no-op of tasks in unions of two of eight pretend nodes, and of others."""
    scopes = [
        scopekit.NodeScope(node) | scopekit.NodeScope(_NODES[(place + 1) % len(_NODES)])
        for place, node in enumerate(_NODES)
    ]
    with scopekit.start(nodes=dict.fromkeys(_NODES, 1), wire=setup.wire) as session:
        _spawn_all(session, scopes, len(scopes) * 10)
        _spawn_all(session, [None], len(scopes) * 10)
        plain, _ = _spawn_all(session, [None], setup.size)
        yield Reading(1e6 * plain / setup.size, "unscoped")
        took, tasks = _spawn_all(session, scopes, setup.size)
        yield Reading(1e6 * took / setup.size, "scoped")
        for place, task in enumerate(tasks):
            node = task.node
            if node not in (_NODES[place % 8], _NODES[(place + 1) % 8]):
                raise WrongAnswerError(f"task {place} ran on {node}, outside of its scope")


def _spawn_all(
    session: scopekit.Session, scopes: list[Any], count: int
) -> tuple[float, list[Task]]:
    began = time.perf_counter()
    tasks = [session.spawn(noop, scope=scopes[place % len(scopes)]) for place in range(count)]
    session.wait(tasks)
    return time.perf_counter() - began, tasks


def placement(setup: Setup) -> Iterator[Reading]:
    """Yields how many edges of a stencil crossed from node to node.

    Its columns are kept to two pretend nodes in turn, which says how many must cross,
    and are then left to themselves.
    """
    nodes = _NODES[:2]
    graph = Graph("stencil_1d", setup.size, _WIDTH)

    def owner(column: int) -> str:
        return nodes[column % len(nodes)]

    def pinned(column: int) -> Scope:
        return scopekit.NodeScope(owner(column))

    with scopekit.start(nodes=dict.fromkeys(nodes, 1), wire=setup.wire) as session:
        for _ in range(2):  # once to warm up
            crossed, seconds = _stencil(session, graph, pinned)
            others, free = _stencil(session, graph, lambda _: None)
    least = graph.crossing(owner)
    per_task = 1e6 / graph.tasks()
    detail = {"tasks": graph.tasks(), "edges": graph.edges(), "width": graph.width}
    yield Reading(crossed, "edges that crossed, columns pinned", unit="", detail=detail)
    yield Reading(least, "edges that must, columns pinned", unit="", detail=detail)
    yield Reading(others, "edges that crossed, unpinned", unit="", detail=detail)
    yield Reading(seconds * per_task, "time, columns pinned", unit="µs")
    yield Reading(free * per_task, "time, unpinned", unit="µs")


def _stencil(
    session: scopekit.Session, graph: Graph, scope: Callable[[int], Scope | None]
) -> tuple[int, float]:
    """Runs a stencil; returns how many edges crossed, with the seconds that it took."""
    scopes = {i: scope(i) for i in range(graph.width)}
    tasks: dict[tuple[int, int], Task] = {}
    began = time.perf_counter()
    for t, i in graph.points():
        needs = graph.inputs(t, i)
        given = [tasks[t - 1, j] for j in needs]
        tasks[t, i] = session.spawn(point, t, i, 0, needs, *given, compute_scope=scopes[i])
    last = [tasks[graph.timesteps - 1, i] for i in range(graph.width)]
    session.fetch(last)
    took = time.perf_counter() - began
    session.wait(list(tasks.values()))
    where = {place: task.node for place, task in tasks.items()}
    crossed = sum(
        where[t, i] != where[t - 1, j] for t, i in graph.points() for j in graph.inputs(t, i)
    )
    return crossed, took
