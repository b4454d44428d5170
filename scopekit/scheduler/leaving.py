"""What the leaving of workers or of their labels means: what must move, what would be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scopekit.graph import FINAL_STATES
from scopekit.scopes import CLIENT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from scopekit.graph import ChunkRecord, TaskRecord, WorkerId
    from scopekit.places import Process, Topology
    from scopekit.scheduler.records import Records

__all__ = (
    "Losses",
    "held_by_these_alone",
    "is_drained",
    "is_on_its_way",
    "left_outside",
    "losses",
    "where_it_can_go",
    "why_lost",
)


class Losses(NamedTuple):
    """What would be lost with some workers.

    Attributes:
        tasks: unfinished tasks that nobody else may run.
        chunks: wanted chunks that nobody else has or may have.
    """

    tasks: tuple[TaskRecord, ...]
    chunks: tuple[ChunkRecord, ...]


def held_by_these_alone(known: Records, workers: Collection[WorkerId]) -> list[ChunkRecord]:
    """Returns the wanted chunks that only some workers hold.

    Args:
        known: the records of tasks and chunks.
        workers: the workers.
    """
    return [
        chunk
        for chunk in known.chunks.values()
        if chunk.state == "held"
        and (chunk.handles > 0 or chunk.users > 0)
        and all(holder in workers for holder in chunk.holders)
    ]


def where_it_can_go(known: Records, chunk: ChunkRecord) -> WorkerId | None:
    """Chooses a worker that may have a chunk and is to stay, None if there is none."""
    among = [
        process.worker
        for process in known.topology.processes
        if process.worker not in known.loads.draining
        and known.topology.admits(chunk.scope, process.worker)
    ]
    # What the notebook asked for comes there anyway; what it did not fills its memory.
    return min(among, key=lambda w: (w == CLIENT, known.loads.seconds_of(w)), default=None)


def losses(known: Records, workers: Collection[WorkerId]) -> Losses:
    """Tells what would be lost if some workers left now, and all that can move had moved."""
    staying = known.topology.everything
    for worker in workers:
        staying &= ~known.topology.worker_mask(worker)
    tasks = tuple(
        record
        for record in known.tasks.values()
        if record.state not in FINAL_STATES and record.allowed and not record.allowed & staying
    )
    everybody = [process.worker for process in known.topology.processes]
    others = [worker for worker in everybody if worker not in workers]
    chunks = tuple(
        chunk
        for chunk in held_by_these_alone(known, workers)
        if not any(known.topology.admits(chunk.scope, worker) for worker in others)
    )
    return Losses(tasks, chunks)


def left_outside(
    known: Records, labelled: Iterable[tuple[Process, tuple[str, ...]]]
) -> list[ChunkRecord]:
    """Tells which wanted chunks nobody could have any more if labels were others.

    Args:
        known: the records of tasks and chunks.
        labelled: the processes, each with the labels that it would have.
    """
    after = known.topology
    for process, labels in labelled:
        after = after.with_labels(process.worker, labels)
    return [
        chunk
        for chunk in known.chunks.values()
        if (chunk.state == "held" or is_on_its_way(chunk))
        and (chunk.handles > 0 or chunk.users > 0)
        and not any(after.admits(chunk.scope, process.worker) for process in after.processes)
    ]


def is_on_its_way(chunk: ChunkRecord) -> bool:
    """Tells whether a chunk was handed over, and has not come to its home yet."""
    return chunk.state == "pending" and chunk.maker is None


def why_lost(chunk: ChunkRecord, topology: Topology) -> str:
    """Says how a chunk was lost."""
    home = chunk.processor
    if home is None or topology.process(home.worker) is None:
        return f"{home.describe() if home else 'its worker'} is gone"
    return (
        f"it was valid on {chunk.scope.describe()}, and since labels were changed no process"
        " lies in that"
    )


def is_drained(known: Records, workers: Collection[WorkerId]) -> bool:
    """Tells whether workers have nothing left to run, nor anything that could move."""
    idle = all(known.loads.is_empty(worker) for worker in workers)
    return idle and all(
        where_it_can_go(known, chunk) is None for chunk in held_by_these_alone(known, workers)
    )
