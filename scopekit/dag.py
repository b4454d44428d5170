"""The task graph of a session as a networkx DiGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.looking import record_facts
from scopekit.scopes import AnyScope, constrain

if TYPE_CHECKING:
    import networkx as nx

    from scopekit.driver import Driver
    from scopekit.graph import ChunkRecord, TaskRecord

__all__ = ("build_graph",)


def build_graph(driver: Driver, name: str) -> nx.DiGraph[int]:
    """Builds the graph of all tasks that are remembered, with the chunks made by hand.

    Args:
        driver: the driver of the session.
        name: the name of the session.

    Returns:
        A graph whose nodes are ids; an edge runs from what gives a value to what
        takes it, or where its kind is "order", from a task to one that was to run
        after it. ``graph.graph["topology"]`` has the processors there are.
    """
    import networkx as nx  # noqa: PLC0415  # slow to load

    with driver.lock:
        graph: nx.DiGraph[int] = nx.DiGraph(session=name, topology=driver.scheduler.topology)
        for record in driver.scheduler.tasks.values():
            graph.add_node(record.spec.id, **_task_attributes(record, driver))
        for chunk in driver.scheduler.chunks.values():
            if chunk.maker is None:
                graph.add_node(chunk.id, **_chunk_attributes(chunk, driver))
        for record in driver.scheduler.tasks.values():
            _add_inputs(graph, record, driver)
    return graph


def _task_attributes(record: TaskRecord, driver: Driver) -> dict[str, Any]:
    written = [scope for _, scope in record.spec.operands]
    scopes = [s for _, s in driver.scheduler.effective_scope_operands(record.spec.id)]
    effective = constrain(AnyScope(), AnyScope(), *scopes)
    result = driver.scheduler.chunks.get(record.spec.outputs[0])
    return {
        **_without_topology(record_facts(record, driver)),
        "kind": "task",
        "scope": effective,
        "scopes_written": effective != constrain(AnyScope(), AnyScope(), *written),
        "nbytes": result.nbytes if result is not None and result.state == "held" else None,
        "explanation": driver.scheduler.explain(record.spec.id).sentence(),
    }


def _without_topology(facts: dict[str, Any]) -> dict[str, Any]:
    # The graph has one for all.
    return {key: value for key, value in facts.items() if key != "topology"}


def _chunk_attributes(chunk: ChunkRecord, driver: Driver) -> dict[str, Any]:
    processor = chunk.processor
    worker = processor.worker if processor else None
    made = None if chunk.made is None else chunk.made - driver.began
    return {
        "id": chunk.id,
        "kind": "chunk",
        "name": f"{chunk.type or 'chunk'} {chunk.id}",
        "function": chunk.type,
        "state": chunk.state,
        "scope": chunk.scope,
        "processor": processor,
        "worker": worker,
        "node": driver.scheduler.topology.node_of(worker) if worker is not None else None,
        "spawned": made,
        "started": made,
        "finished": made,
        "nbytes": chunk.nbytes,
        "cell": None,
        "explanation": None,
    }


def _add_inputs(graph: nx.DiGraph[int], record: TaskRecord, driver: Driver) -> None:
    for need in record.spec.inputs:
        source = driver.scheduler.maker_of(need.chunk)
        if source in graph:
            chunk = driver.scheduler.chunks.get(need.chunk)
            nbytes = chunk.nbytes if chunk is not None else None
            facts = {"name": need.origin, "nbytes": nbytes, "kind": "value"}
            graph.add_edge(source, record.spec.id, **facts)
    for before in record.spec.after:
        if before in graph and not graph.has_edge(before, record.spec.id):
            graph.add_edge(before, record.spec.id, name="after", nbytes=None, kind="order")
