"""What a worker holds, with what would be lost if it left."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from scopekit.errors import ScopekitError
from scopekit.scheduler.leaving import losses

if TYPE_CHECKING:
    from scopekit.driver import Driver
    from scopekit.graph import ChunkRecord, TaskRecord, TaskState, WorkerId
    from scopekit.places import Topology
    from scopekit.scheduler.records import Records
    from scopekit.scopes import Scope

__all__ = ("HeldChunk", "HeldTask", "Holdings", "holdings_of")

_LISTED = 12


@dataclass(frozen=True, slots=True)
class HeldChunk:
    """A value that a worker holds; never the value itself.

    Attributes:
        id: the number of the chunk.
        name: whose result it is, or its number.
        type: the name of its type.
        nbytes: its size in bytes, as far as that is known.
        scope: where it is valid.
        others: the other workers that hold it.
        lost: True if nobody else has it or may have it.
    """

    id: int
    name: str
    type: str
    nbytes: int
    scope: Scope
    others: tuple[WorkerId, ...]
    lost: bool


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task that a worker has to run, or that only it may run.

    Attributes:
        id: the number of the task.
        name: its name.
        state: its state.
        lost: True if nobody else may run it.
    """

    id: int
    name: str
    state: TaskState
    lost: bool


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a worker holds, what would be lost with it.

    Attributes:
        worker: its id.
        node: the name of its node.
        chunks: the values that it holds and somebody wants, the lost ones first.
        tasks: the tasks that it has to run, or that only it may run, likewise.
        topology: the processes there were.
    """

    worker: WorkerId
    node: str
    chunks: tuple[HeldChunk, ...]
    tasks: tuple[HeldTask, ...]
    topology: Topology

    @property
    def safe(self) -> bool:
        """True if nothing is lost when it is removed: all moves, or others do it."""
        return not self.lost

    @property
    def idle(self) -> bool:
        """True if it has nothing to run."""
        return not self.tasks

    @property
    def lost(self) -> tuple[HeldChunk | HeldTask, ...]:
        """What would be lost with it."""
        held: tuple[HeldChunk | HeldTask, ...] = (*self.tasks, *self.chunks)
        return tuple(each for each in held if each.lost)

    @property
    def nbytes(self) -> int:
        """The size of all that it holds in bytes, as far as that is known."""
        return sum(chunk.nbytes for chunk in self.chunks)

    def sentence(self) -> str:
        """Says in one sentence what there is, and whether it may go."""
        chunks, tasks = len(self.chunks), len(self.tasks)
        what = f"{_count(chunks, 'chunk')} of {self.nbytes} bytes, {_count(tasks, 'task')} to run"
        lost = len(self.lost)
        fate = "safe to remove" if not lost else f"{lost} of them would be lost with it"
        return f"worker {self.worker} on node {self.node}: {what}; {fate}"

    def text(self) -> str:
        """Tells all as text, one line each, what would be lost first."""
        tasks = [f"  {_mark(t)} task {t.name}, {t.state}" for t in self.tasks]
        chunks = [
            f"  {_mark(c)} {c.name} ({c.type}, {c.nbytes} bytes), valid on {c.scope.describe()}"
            + (f", also on {', '.join(map(str, c.others))}" if c.others else "")
            for c in self.chunks
        ]
        return "\n".join([self.sentence(), *_cut(tasks), *_cut(chunks)])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Holdings: {self.sentence()}>"

    def _repr_html_(self) -> str:
        html: str = import_module("scopekit.notebook.displays").holdings_html(self)
        return html


def holdings_of(driver: Driver, worker: WorkerId) -> Holdings:
    """Tells what a worker holds; see :meth:`scopekit.Session.holds`."""
    driver.catch_up()
    with driver.lock:
        known = driver.scheduler
        process = known.topology.process(worker)
        if process is None:
            workers = ", ".join(map(str, known.topology.workers)) or "none"
            gone = "is gone" if worker in known.topology.departed else "is none of this session's"
            raise ScopekitError(f"worker {worker!r} {gone}; the workers are {workers}")
        lost = losses(known, (worker,))
        lost_chunks = {chunk.id for chunk in lost.chunks}
        lost_tasks = {record.spec.id for record in lost.tasks}
        tasks = {
            task: known.tasks[task]
            for load in known.loads.of_worker.get(worker, ())
            for task in load.tasks
        }
        tasks |= {record.spec.id: record for record in lost.tasks}
        chunks = [
            _chunk(chunk, known, worker, chunk.id in lost_chunks)
            for chunk in known.chunks.values()
            if chunk.state == "held" and worker in chunk.holders
        ]
        found = [_task(record, record.spec.id in lost_tasks) for record in tasks.values()]
        return Holdings(
            worker,
            str(process.node),
            tuple(sorted(chunks, key=_is_kept)),
            tuple(sorted(found, key=_is_kept)),
            known.topology,
        )


def _is_kept(held: HeldChunk | HeldTask) -> bool:
    return not held.lost


def _mark(held: HeldChunk | HeldTask) -> str:
    return "lost:" if held.lost else "kept:"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _LISTED:
        return lines
    return [*lines[:_LISTED], f"  and {len(lines) - _LISTED} more"]


def _chunk(chunk: ChunkRecord, known: Records, worker: WorkerId, lost: bool) -> HeldChunk:
    others = tuple(holder for holder in chunk.holders if holder != worker)
    name = f"chunk {chunk.id}"
    if chunk.maker is not None:
        name = f"result of {known.name_of(chunk.maker)}"
    return HeldChunk(chunk.id, name, chunk.type, chunk.nbytes, chunk.scope, others, lost)


def _task(record: TaskRecord, lost: bool) -> HeldTask:
    return HeldTask(record.spec.id, record.spec.name, record.state, lost)
