"""What the scheduler is told, with the commands that it answers.

Both are frozen values. An event carries the time at which it happened, since the
scheduler has no clock; a command names the task or the chunks it is about, with the
number of the event that caused it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scopekit.errors import SchedulingError
    from scopekit.graph import StoredChunk, TaskSpec, TaskState, WorkerId
    from scopekit.places import Process
    from scopekit.scopes import Processor, Scope

__all__ = (
    "CancelAsked",
    "ChildSpawned",
    "ChunkFailed",
    "ChunkPinned",
    "ChunkStored",
    "ChunksArrived",
    "ChunksMissed",
    "Command",
    "DrainAsked",
    "DrainEnded",
    "DropChunks",
    "Event",
    "ForgetCalls",
    "HandlesAdded",
    "HandlesDropped",
    "HandlesReturned",
    "ProcessesChanged",
    "Refuse",
    "RetractRuns",
    "RunFailed",
    "RunFinished",
    "RunHandedBack",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunsAskedBack",
    "SendChunk",
    "Settle",
    "StartRun",
    "TaskSpawned",
    "TimePassed",
    "WorkerJoined",
    "WorkerLeft",
)

# Named tuples, since one of each is made for every task: they are the cheapest frozen
# values there are.


class TaskSpawned(NamedTuple):
    """A user asked for a task."""

    spec: TaskSpec
    at: float


class ChildSpawned(NamedTuple):
    """A task asked for a task.

    Attributes:
        worker: where the one that asked runs, and the handles to the results live.
        processor: where it was kept to run, None if it is to be sent somewhere.
    """

    spec: TaskSpec
    worker: WorkerId
    processor: Processor | None
    at: float


class RunStarted(NamedTuple):
    """An engine began to run a task."""

    task: int
    worker: WorkerId
    at: float


class RunPaused(NamedTuple):
    """A task waits for tasks that it spawned, and has given its processor up."""

    task: int
    worker: WorkerId
    at: float


class RunResumed(NamedTuple):
    """A task that waited goes on."""

    task: int
    worker: WorkerId
    at: float


class RunFinished(NamedTuple):
    """A run gave its results, which its engine holds.

    Attributes:
        results: one entry for each output of the task, in order.
        told: True if the value of the first one came along, so that whoever holds its
            handle has it.
    """

    task: int
    worker: WorkerId
    results: tuple[StoredChunk, ...]
    started: float
    finished: float
    told: bool = False


class RunFailed(NamedTuple):
    """A run ended in an error; ``failure`` is opaque to the scheduler."""

    task: int
    worker: WorkerId
    failure: Any
    started: float
    finished: float


class RunHandedBack(NamedTuple):
    """An engine did not start a task.

    Attributes:
        chunk: the input whose scope turned out to forbid it there, None if the task was
            asked back.
        scope: the scope of that input.
    """

    task: int
    worker: WorkerId
    chunk: int | None
    scope: Scope | None
    at: float


class ChunkPinned(NamedTuple):
    """A value turned out to be valid in fewer places than was said."""

    chunk: int
    scope: Scope


class ChunksArrived(NamedTuple):
    """Copies of chunks came to a process.

    Attributes:
        version: that of the topology by which they were sent, None where they came in the
            order of commands.
    """

    worker: WorkerId
    chunks: tuple[int, ...]
    at: float
    version: int | None = None


class ChunksMissed(NamedTuple):
    """Chunks that tasks need in a process did not come for a while."""

    worker: WorkerId
    chunks: tuple[int, ...]
    at: float


class ChunkStored(NamedTuple):
    """A process holds a chunk that no task of this session made as its result."""

    chunk: StoredChunk
    worker: WorkerId
    at: float


class ChunkFailed(NamedTuple):
    """A chunk could not be put where it should go."""

    chunk: int
    worker: WorkerId
    failure: Any
    at: float


class HandlesAdded(NamedTuple):
    """Handles to chunks came to life in the client."""

    chunks: tuple[int, ...]


class HandlesDropped(NamedTuple):
    """Handles to chunks are gone."""

    chunks: tuple[int, ...]


class HandlesReturned(NamedTuple):
    """Handles to results are gone that tasks of a worker had."""

    worker: WorkerId
    chunks: tuple[int, ...]


class WorkerJoined(NamedTuple):
    """A process is ready for work."""

    process: Process
    at: float


class ProcessesChanged(NamedTuple):
    """Living processes have other labels, or more processors."""

    processes: tuple[Process, ...]
    at: float


class WorkerLeft(NamedTuple):
    """A process is gone, with all that it held.

    Attributes:
        planned: True if it was stopped on purpose: then no task is suspected.
    """

    worker: WorkerId
    at: float
    planned: bool = False


class DrainAsked(NamedTuple):
    """Workers are to be removed: they get no more tasks, and what they hold is to move.

    It may come again, for what they made since.
    """

    workers: tuple[WorkerId, ...]
    at: float


class DrainEnded(NamedTuple):
    """Workers that were to be removed stay."""

    workers: tuple[WorkerId, ...]
    at: float


class CancelAsked(NamedTuple):
    """A user wants a task not to run."""

    task: int
    at: float


class TimePassed(NamedTuple):
    """The clock moved; waits with a limit may be over."""

    at: float


Event = (
    TaskSpawned
    | ChildSpawned
    | RunStarted
    | RunPaused
    | RunResumed
    | RunFinished
    | RunFailed
    | RunHandedBack
    | ChunkPinned
    | ChunksArrived
    | ChunksMissed
    | ChunkStored
    | ChunkFailed
    | HandlesAdded
    | HandlesDropped
    | HandlesReturned
    | WorkerJoined
    | ProcessesChanged
    | WorkerLeft
    | DrainAsked
    | DrainEnded
    | CancelAsked
    | TimePassed
)


class StartRun(NamedTuple):
    """Send a task to a processor; it begins there once its inputs are there."""

    task: int
    processor: Processor
    cause: int


class SendChunk(NamedTuple):
    """Have a process send a chunk to another one, as soon as it has it."""

    chunk: int
    holder: WorkerId
    to: WorkerId
    cause: int


class DropChunks(NamedTuple):
    """Forget chunks that nobody wants any more."""

    worker: WorkerId
    chunks: tuple[int, ...]
    cause: int


class RetractRuns(NamedTuple):
    """Forget tasks that have not begun: they ended otherwise."""

    worker: WorkerId
    tasks: tuple[int, ...]
    cause: int


class RunsAskedBack(NamedTuple):
    """Ask for tasks that have not begun, for a processor that is idle."""

    worker: WorkerId
    tasks: tuple[int, ...]
    cause: int


class Settle(NamedTuple):
    """Tell whoever waits for a task how it ended.

    Attributes:
        failure: what the run or the scheduler said, None if it is done.
        origin: the id of the task whose failure it is, where it is not its own.
    """

    task: int
    state: TaskState
    failure: Any
    origin: int | None
    cause: int


class ForgetCalls(NamedTuple):
    """Forget the calls of tasks that will never run again."""

    tasks: tuple[int, ...]
    cause: int


class Refuse(NamedTuple):
    """The spawn itself fails: the program's text already shows that it cannot be placed."""

    task: int
    error: SchedulingError
    cause: int


Command = (
    StartRun | SendChunk | DropChunks | RetractRuns | RunsAskedBack | Settle | ForgetCalls | Refuse
)
