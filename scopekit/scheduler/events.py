"""What the scheduler is told, with the commands that it answers.

Both are frozen values. An event carries the time at which it happened, since the
scheduler has no clock; a command names the task or the chunks it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scopekit.errors import SchedulingError
    from scopekit.graph import StoredChunk, TaskSpec, TaskState, WorkerId
    from scopekit.places import Process
    from scopekit.scopes import Processor, Scope

__all__ = (
    "CancelAsked",
    "ChunkFailed",
    "ChunkPinned",
    "ChunkStored",
    "Command",
    "DropChunks",
    "Event",
    "HandlesAdded",
    "HandlesDropped",
    "Refuse",
    "RunFailed",
    "RunFinished",
    "RunHandedBack",
    "RunStarted",
    "Settle",
    "StartRun",
    "TaskSpawned",
    "TimePassed",
    "WorkerJoined",
    "WorkerLeft",
)


@dataclass(frozen=True, slots=True)
class TaskSpawned:
    """A user asked for a task."""

    spec: TaskSpec
    at: float


@dataclass(frozen=True, slots=True)
class RunStarted:
    """An engine began to run a task."""

    task: int
    worker: WorkerId
    at: float


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run gave its results, which its engine holds.

    Attributes:
        results: one entry for each output of the task, in order.
        replicas: ids of inputs of which the engine now holds a copy.
    """

    task: int
    worker: WorkerId
    results: tuple[StoredChunk, ...]
    replicas: tuple[int, ...]
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A run ended in an error; ``failure`` is opaque to the scheduler."""

    task: int
    worker: WorkerId
    failure: Any
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class RunHandedBack:
    """An engine did not start a task, since an input's scope turned out to forbid it there."""

    task: int
    worker: WorkerId
    chunk: int
    scope: Scope
    at: float


@dataclass(frozen=True, slots=True)
class ChunkPinned:
    """A value turned out to be valid in fewer places than was said."""

    chunk: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class ChunkStored:
    """A process holds a chunk that no task of this session made as its result."""

    chunk: StoredChunk
    worker: WorkerId
    at: float


@dataclass(frozen=True, slots=True)
class ChunkFailed:
    """A chunk could not be put where it should go."""

    chunk: int
    failure: Any
    at: float


@dataclass(frozen=True, slots=True)
class HandlesAdded:
    """Handles to chunks came to life in the client."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HandlesDropped:
    """Handles to chunks are gone."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A process is ready for work."""

    process: Process
    at: float


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """A process is gone, with all that it held."""

    worker: WorkerId
    at: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """A user wants a task not to run."""

    task: int
    at: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The clock moved; waits with a limit may be over."""

    at: float


Event = (
    TaskSpawned
    | RunStarted
    | RunFinished
    | RunFailed
    | RunHandedBack
    | ChunkPinned
    | ChunkStored
    | ChunkFailed
    | HandlesAdded
    | HandlesDropped
    | WorkerJoined
    | WorkerLeft
    | CancelAsked
    | TimePassed
)


@dataclass(frozen=True, slots=True)
class StartRun:
    """Run a task on a processor.

    Attributes:
        inputs: id and holder of each chunk that the task needs, in the order of its
            inputs; the holder is the processor's own worker where it has the chunk.
    """

    task: int
    processor: Processor
    inputs: tuple[tuple[int, WorkerId], ...]


@dataclass(frozen=True, slots=True)
class DropChunks:
    """Forget chunks that nobody wants any more."""

    worker: WorkerId
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settle:
    """Tell whoever waits for a task how it ended.

    Attributes:
        failure: what the run or the scheduler said, None if it is done.
        origin: the id of the task whose failure it is, where it is not its own.
    """

    task: int
    state: TaskState
    failure: Any = None
    origin: int | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The spawn itself fails: the program's text already shows that it cannot be placed."""

    task: int
    error: SchedulingError


Command = StartRun | DropChunks | Settle | Refuse
