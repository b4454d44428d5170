"""What can be told of tasks, chunks or sessions without touching a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.scopes import AnyScope, constrain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopekit.driver import Driver
    from scopekit.graph import ChunkRecord, TaskRecord
    from scopekit.scopes import Processor, Scope

__all__ = (
    "chunk_facts",
    "event_facts",
    "least_busy",
    "record_facts",
    "statistics",
    "summary",
    "task_facts",
    "worker_facts",
)


def task_facts(driver: Driver, task: int) -> dict[str, Any]:
    """Tells what is known of a task; times are in seconds since the session began."""
    with driver.lock:
        record = driver.scheduler.tasks.get(task)
        if record is None:
            return {"id": task, "state": "done", "processor": None, "node": None}
        scopes = [scope for _, scope in driver.scheduler.effective_scope_operands(task)]
        return {
            **record_facts(record, driver),
            "scope": constrain(AnyScope(), AnyScope(), *scopes),
            "duration": _duration(record),
            "error": _error_name(record.failure),
        }


def record_facts(record: TaskRecord, driver: Driver) -> dict[str, Any]:
    """Tells of a task what its record says."""
    processor = record.processor
    topology = record.topology or driver.scheduler.topology
    return {
        "id": record.spec.id,
        "name": record.spec.name,
        "function": record.spec.function,
        "state": record.state,
        "processor": processor,
        "worker": processor.worker if processor else None,
        "node": topology.node_of(processor.worker) if processor else None,
        "spawned": record.spawned - driver.began,
        "started": _since(record.started, driver.began),
        "finished": _since(record.finished, driver.began),
        "cell": record.spec.cell,
        "topology": topology,
    }


def chunk_facts(driver: Driver, chunk_id: int) -> Mapping[str, Any]:
    """Tells what is known of a chunk; never its value."""
    with driver.lock:
        record = driver.scheduler.chunks.get(chunk_id)
        if record is None:
            return {"state": "released"}
        facts: dict[str, Any] = {
            "scope": _said_scope(record),
            "state": record.state,
            "type": record.type,
            "nbytes": record.nbytes,
            "topology": driver.scheduler.topology,
        }
        if record.processor is not None:
            facts["processor"] = record.processor
            facts["node"] = driver.scheduler.topology.node_of(record.processor.worker)
        return facts


def _said_scope(record: ChunkRecord) -> Scope:
    """Returns where a chunk is valid, or will be as far as its maker was told."""
    if record.state == "pending" and record.declared is not None:
        return record.scope & record.declared
    return record.scope


def worker_facts(driver: Driver) -> list[dict[str, Any]]:
    """Tells of each process what a display of the session shows."""
    with driver.lock:
        busy = driver.scheduler.busy()
        return [
            {
                "worker": process.worker,
                "node": process.node,
                "pid": process.pid,
                "processors": len(process.processors),
                "running": min(busy.get(process.worker, 0), len(process.processors)),
                "queued": max(0, busy.get(process.worker, 0) - len(process.processors)),
            }
            for process in driver.scheduler.topology.processes
        ]


def event_facts(driver: Driver) -> list[dict[str, Any]]:
    """Tells what happened so far, oldest first."""
    return [
        {"at": at - driver.began, "kind": kind, "task": task, "worker": worker}
        for at, kind, task, worker in driver.log()
    ]


def least_busy(driver: Driver, processors: Sequence[Processor]) -> Processor:
    """Returns the processor whose process has the least to do."""
    with driver.lock:
        busy = driver.scheduler.busy()
    return min(processors, key=lambda processor: busy.get(processor.worker, 0))


def statistics(driver: Driver) -> dict[str, Any]:
    """Counts tasks by state, chunks, workers, what these are busy with."""
    driver.catch_up()
    with driver.lock:
        return {
            "tasks": driver.scheduler.counts(),
            "chunks": len(driver.scheduler.chunks),
            "workers": len(driver.scheduler.topology.workers),
            "busy": driver.scheduler.busy(),
        }


def summary(driver: Driver, name: str) -> str:
    """Tells in a few lines what there is, what was done."""
    with driver.lock:
        topology = driver.scheduler.topology
        counts = driver.scheduler.counts()
    by_node: dict[str, list[str]] = {}
    for worker in topology.workers:
        by_node.setdefault(str(topology.node_of(worker)), []).append(str(worker))
    lines = [f"Session {name}: {len(topology.workers)} workers on {len(by_node)} nodes"]
    lines += [f"  node {node}: workers {', '.join(ids)}" for node, ids in by_node.items()]
    tasks = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return "\n".join([*lines, f"  tasks: {tasks or 'none'}"])


def _since(at: float | None, began: float) -> float | None:
    return None if at is None else at - began


def _duration(record: TaskRecord) -> float | None:
    if record.started is None or record.finished is None:
        return None
    return record.finished - record.started


def _error_name(failure: Any) -> str | None:
    if failure is None:
        return None
    return getattr(failure, "type_name", None) or type(failure).__name__
