"""The task graph: what was asked for, what it needs, what it gave.

A task and each of its results have an id of their own, drawn from one counter.
Edges run through chunks: a task names the chunks it needs, a chunk names the
task that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = (
    "CHUNK_STATES",
    "FINAL_STATES",
    "TASK_STATES",
    "ChunkRecord",
    "ChunkState",
    "Input",
    "StoredChunk",
    "TaskRecord",
    "TaskSpec",
    "TaskState",
    "WorkerId",
)

WorkerId = int | str
TaskState = Literal[
    "waiting", "unmatched", "queued", "running", "done", "failed", "blocked", "cancelled"
]
ChunkState = Literal["pending", "held", "failed", "lost", "released"]

TASK_STATES: tuple[TaskState, ...] = (
    "waiting",
    "unmatched",
    "queued",
    "running",
    "done",
    "failed",
    "blocked",
    "cancelled",
)
FINAL_STATES: tuple[TaskState, ...] = ("done", "failed", "blocked", "cancelled")
CHUNK_STATES: tuple[ChunkState, ...] = ("pending", "held", "failed", "lost", "released")


class Input(NamedTuple):
    """One chunk that a task needs.

    Attributes:
        origin: the argument it is given as, such as ``"argument 'cam'"``.
        chunk: the id of the chunk.
        handle: True if a Chunk was given, whose scope counts at the spawn; False for
            the result of a task, whose scope only the run can tell.
    """

    origin: str
    chunk: int
    handle: bool


class TaskSpec(NamedTuple):
    """What a spawn asks for.

    Attributes:
        id: the id of the task.
        name: what users see.
        function: the name of the function, under which durations are learnt.
        operands: origin and scope of each scope that the options bring.
        inputs: the chunks that it needs.
        outputs: the ids of the chunks that it makes; the first is its result.
        result_scope: the scope declared for its results, or None.
        wait_for: seconds to wait for a processor that does not exist yet.
        idempotent: False if it may not be started a second time.
        cell: the number of the notebook cell that spawned it, or None.
    """

    id: int
    name: str
    function: str
    operands: tuple[tuple[str, Scope], ...]
    inputs: tuple[Input, ...]
    outputs: tuple[int, ...]
    result_scope: Scope | None = None
    wait_for: float = 0.0
    idempotent: bool = True
    cell: int | None = None


class StoredChunk(NamedTuple):
    """A chunk as the engine that holds it describes it."""

    id: int
    scope: Scope
    processor: Processor
    type: str
    nbytes: int


@dataclass(slots=True)
class TaskRecord:
    """All that the scheduler knows of one task."""

    spec: TaskSpec
    spawned: float
    state: TaskState = "waiting"
    missing: int = 0
    holds_inputs: bool = False
    operands: tuple[tuple[str, Scope], ...] | None = None
    allowed: int = 0
    processor: Processor | None = None
    rule: str = ""
    topology: Topology | None = None
    attempts: int = 0
    deadline: float | None = None
    started: float | None = None
    finished: float | None = None
    failure: Any = None
    origin: int | None = None


@dataclass(slots=True)
class ChunkRecord:
    """All that the scheduler knows of one chunk."""

    id: int
    scope: Scope
    state: ChunkState = "pending"
    maker: int | None = None
    declared: Scope | None = None
    processor: Processor | None = None
    type: str = ""
    nbytes: int = 0
    holders: list[WorkerId] = field(default_factory=list)
    waiters: list[int] = field(default_factory=list)
    handles: int = 0
    users: int = 0
    made: float | None = None
    failure: Any = None
