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
    from scopekit.rescoping import Rescoping
    from scopekit.scopes import Processor, Scope

__all__ = (
    "BlockEnded",
    "CancelAsked",
    "ChildSpawned",
    "ChunkBorrowed",
    "ChunkFailed",
    "ChunkPinned",
    "ChunkRescoped",
    "ChunkStored",
    "ChunksArrived",
    "ChunksMissed",
    "ChunksUnheld",
    "Command",
    "CopyAsked",
    "DrainAsked",
    "DrainEnded",
    "DropChunks",
    "Event",
    "ForgetCalls",
    "HandlesAdded",
    "HandlesDropped",
    "HandlesReturned",
    "KillWorker",
    "ProcessesChanged",
    "Refuse",
    "RescopeChunk",
    "ResultsBrought",
    "RetractRuns",
    "RunFailed",
    "RunFinished",
    "RunHandedBack",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunStopped",
    "RunsAskedBack",
    "SendChunk",
    "Settle",
    "StartRun",
    "StopRuns",
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
        told: True if the value of the first one came along, or of all where the task
            splits its result, so that whoever holds a handle to it has it.
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
        chunk: the input whose scope turned out to forbid it there, or which is not there;
            None if the task was asked back.
        scope: the scope of that input, None if it is not there.
    """

    task: int
    worker: WorkerId
    chunk: int | None
    scope: Scope | None
    at: float


class RunStopped(NamedTuple):
    """An engine was told that a task is to stop, or its time is over: it will give no value.

    It comes twice for a task that had begun: first at once, then when its code has ended.

    Attributes:
        processor: where it was to run, or runs; None if it was to come yet.
        over: True if nothing of it runs any more.
        late: True if it took longer than it may.
        started: when it began, None if it had not.
        kept: results that it made all the same, and that nobody wants.
    """

    task: int
    worker: WorkerId
    processor: Processor | None
    over: bool
    late: bool
    started: float | None
    at: float
    kept: tuple[int, ...] = ()


class ChunkPinned(NamedTuple):
    """A value turned out to be valid in fewer places than was said.

    Attributes:
        why: what says so, where that is its type.
    """

    chunk: int
    scope: Scope
    why: str = ""


class ChunksArrived(NamedTuple):
    """Copies of chunks came to a process.

    Attributes:
        version: that of the topology by which they were sent, None if nothing was dropped
            since.
    """

    worker: WorkerId
    chunks: tuple[int, ...]
    at: float
    version: int | None = None


class ChunksMissed(NamedTuple):
    """A process lacks chunks that it was to have for a while, or could not give them."""

    worker: WorkerId
    chunks: tuple[int, ...]
    at: float


class ChunkStored(NamedTuple):
    """A process holds a chunk that no task of this session made as its result.

    Attributes:
        version: that of the topology by which it was kept there, None if nothing was
            dropped since.
    """

    chunk: StoredChunk
    worker: WorkerId
    at: float
    version: int | None = None


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


class ResultsBrought(NamedTuple):
    """The values of results came to whoever holds the handles of their tasks."""

    chunks: tuple[int, ...]


class ChunkBorrowed(NamedTuple):
    """A worker came to hold a handle to a chunk that a task made by hand elsewhere."""

    chunk: StoredChunk
    worker: WorkerId
    at: float


class HandlesReturned(NamedTuple):
    """The last handles that a worker had to some chunks are gone."""

    worker: WorkerId
    chunks: tuple[int, ...]


class CopyAsked(NamedTuple):
    """A chunk is to be held by a worker, too."""

    chunk: int
    worker: WorkerId
    at: float


class ChunkRescoped(NamedTuple):
    """The scope of a chunk was changed.

    Attributes:
        change: the change.
        worker: the process whose store follows it already, None if none does.
    """

    change: Rescoping
    worker: WorkerId | None


class ChunksUnheld(NamedTuple):
    """A worker has no handle left to chunks of its own, to which others may have some."""

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
    """A user wants a task not to run, or to stop.

    Attributes:
        grace: after how many seconds its process is to be killed, if it still runs then;
            None never does that.
    """

    task: int
    at: float
    grace: float | None = None


class BlockEnded(NamedTuple):
    """A block ended that hands the tasks which were spawned in it over together."""

    tasks: tuple[int, ...]
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
    | RunStopped
    | ChunkPinned
    | ChunksArrived
    | ChunksMissed
    | ChunkStored
    | ChunkFailed
    | HandlesAdded
    | HandlesDropped
    | ResultsBrought
    | ChunkBorrowed
    | HandlesReturned
    | ChunksUnheld
    | CopyAsked
    | ChunkRescoped
    | WorkerJoined
    | ProcessesChanged
    | WorkerLeft
    | DrainAsked
    | DrainEnded
    | CancelAsked
    | BlockEnded
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


class RescopeChunk(NamedTuple):
    """Have a holder give a chunk by another scope from now on."""

    chunk: int
    worker: WorkerId
    scope: Scope
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


class StopRuns(NamedTuple):
    """Take tasks back that have not begun, and stop those that have; the engine answers."""

    worker: WorkerId
    tasks: tuple[int, ...]
    cause: int


class KillWorker(NamedTuple):
    """End a process: a task that was to stop goes on in it."""

    worker: WorkerId
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
    StartRun
    | SendChunk
    | RescopeChunk
    | DropChunks
    | RetractRuns
    | RunsAskedBack
    | StopRuns
    | KillWorker
    | Settle
    | ForgetCalls
    | Refuse
)
