"""What session and engine say to each other.

Orders go out to an agent, reports come back. Both are plain values that pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.graph import How, StoredChunk, TaskSpec, TaskState, WorkerId
    from scopekit.places import Topology
    from scopekit.rescoping import Rescoping
    from scopekit.scopes import Kind, Processor, Scope
    from scopekit.wire.codec import PickledError
    from scopekit.wire.lending import Loan
    from scopekit.wire.parcels import Parcel

__all__ = (
    "SENT_BY",
    "AddKind",
    "AgentCard",
    "AgentConfig",
    "Arrived",
    "Beat",
    "Borrowed",
    "CancelWanted",
    "ChunkPut",
    "Drop",
    "Finished",
    "GiveBack",
    "HandedBack",
    "KeptOut",
    "KindFound",
    "Limit",
    "Offered",
    "Order",
    "Output",
    "Paused",
    "PeerAddress",
    "Pinned",
    "PinsChanged",
    "PlainArguments",
    "Put",
    "PutFailed",
    "Report",
    "Rescope",
    "Rescoped",
    "Resumed",
    "Retract",
    "Returned",
    "Run",
    "RunError",
    "ScopeFollowed",
    "Send",
    "Settled",
    "Spawned",
    "Started",
    "StillWaiting",
    "Stop",
    "Stopped",
    "TopologyChanged",
    "Unheld",
)

SENT_BY = -1
"""Stands for the id of a chunk before the version of the topology by which others were sent."""


PlainArguments = tuple[tuple[Any, ...], tuple[int, ...]]
"""Positional arguments that need no pickle of their own, with the places that inputs take.

The second part has one place for each input, in order; what the first part has there
only keeps the place.
"""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a process serves its chunks, with the public key that proves it.

    Attributes:
        memory: a card that shows who can read what it lends, None if it lends nothing.
    """

    endpoint: str
    public_key: bytes
    memory: Loan | None = None


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent is told when it is installed.

    Attributes:
        session: the id of the session, which names its agent in the engine.
        worker: the id by which users know the engine.
        threads: how many thread processors it has, the main thread among them.
        kinds: further kinds of processors, each with the pickle of what counts them.
        report_header: the message header under which reports are published.
        client_key: the public key of the client, allowed to ask for chunks.
        client_memory: a card that shows whether the engine can read what the client lends.
        controller: the host of ipyparallel's controller, which engines and client reach.
        lease: seconds without an order after which the client counts as gone, None if
            something else sees to that.
        directory: the working directory to share with the client, or None.
        path: entries to add to the module search path.
    """

    session: str
    worker: WorkerId
    threads: int
    report_header: Mapping[str, object]
    client_key: bytes
    client_memory: Loan | None
    controller: str
    lease: float | None = None
    directory: str | None = None
    path: tuple[str, ...] = ()
    kinds: tuple[tuple[Kind, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What an agent answers once it is installed.

    Attributes:
        borrows: True if it can read what the client lends.
        processors: all that it has to run tasks on.
        troubles: why it may have fewer than it should.
    """

    worker: WorkerId
    pid: int
    node_id: str
    node_name: str
    incarnation: str
    address: PeerAddress | None
    borrows: bool = False
    processors: tuple[Processor, ...] = ()
    troubles: tuple[str, ...] = ()


# -- orders -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopologyChanged:
    """The processes there are now, with the addresses of those that serve chunks."""

    topology: Topology
    addresses: Mapping[WorkerId, PeerAddress]


class Run(NamedTuple):
    """Run a task as soon as its inputs are here.

    Attributes:
        digest: names the function.
        function: its pickle, or None where the agent has it.
        forget: digests of functions that the agent need not keep any longer.
        arguments: plain arguments as they are, or the pickle of any others.
        inputs: the ids of its inputs, in order; each is here, is made here by an earlier
            run, or is sent here by whoever holds it.
        outputs: the ids under which to keep the results.
        result_scope: the scope of results that bring none of their own, or None.
        around: what blocks around its spawn say of the tasks that it spawns, or None.
        how: what few tasks ask for besides, or None.
    """

    task: int
    name: str
    digest: bytes
    function: bytes | None
    forget: tuple[bytes, ...]
    arguments: PlainArguments | bytes
    processor: Processor
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    result_scope: Scope | None
    around: Any = None
    how: How | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Keep a value that the client hands over.

    Attributes:
        reports: True for a chunk whose home this is, which is to be reported; False
            for the copy of an input.
    """

    chunk: int
    parcel: Parcel
    scope: Scope
    processor: Processor
    reports: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Send a chunk to another process, at once or as soon as it is made here."""

    chunk: int
    to: WorkerId


@dataclass(frozen=True, slots=True)
class Retract:
    """Forget tasks that have not begun; nobody waits for them any more."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Hand tasks back that have not begun: another processor is idle."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Take tasks back that have not begun, and stop those that run; say so of each."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """A task that follows may take so many seconds."""

    task: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget chunks.

    Attributes:
        chunks: their ids.
        version: that of the topology by which it was decided. What was sent here by a
            later one stays: it may have overtaken this.
    """

    chunks: tuple[int, ...]
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Rescope:
    """Give a chunk by another scope from now on."""

    chunk: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class Settled:
    """A task that was spawned here has ended, elsewhere or not well.

    Attributes:
        results: where its results are, one for each output; none if it is not done.
        value: the first result itself, in a tuple of one, where it came with them.
        error: what ended it, None if it is done.
    """

    task: int
    state: TaskState
    results: tuple[StoredChunk, ...]
    value: tuple[Any] | None
    error: PickledError | None


@dataclass(frozen=True, slots=True)
class AddKind:
    """Count the processors of a kind, and run tasks on those that are new.

    Attributes:
        kind: the kind.
        probe: the pickle of what counts them.
    """

    kind: Kind
    probe: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """The client is still there."""


@dataclass(frozen=True, slots=True)
class PinsChanged:
    """Users gave rules for types.

    Attributes:
        rules: the keys of each with its pickle; the later win.
    """

    rules: tuple[tuple[tuple[str, ...], bytes], ...]


Order = (
    TopologyChanged
    | Run
    | Put
    | Send
    | Retract
    | GiveBack
    | Stop
    | Limit
    | Drop
    | Rescope
    | Settled
    | AddKind
    | Beat
    | PinsChanged
)

# -- reports ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A task is running."""

    task: int
    at: float


@dataclass(frozen=True, slots=True)
class Paused:
    """A task has waited for a while, and others may have its processor."""

    task: int
    at: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """A task that waited goes on."""

    task: int
    at: float


class Finished(NamedTuple):
    """A task gave its results.

    Attributes:
        results: what the engine keeps, one for each output.
        value: the first result itself, in a tuple of one, where it is small, plain and
            may be had by the client; else None. Where the function's tuple was split, all
            results, if they are all like that.
    """

    task: int
    results: tuple[StoredChunk, ...]
    started: float
    finished: float
    value: tuple[Any] | None


@dataclass(frozen=True, slots=True)
class RunError:
    """A task failed."""

    task: int
    error: PickledError
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class HandedBack:
    """A task was not started.

    Attributes:
        chunk: the input whose scope turned out to forbid it here, or which is not here;
            None if the task was asked back.
        scope: the scope of that input, None if it is not here.
    """

    task: int
    chunk: int | None = None
    scope: Scope | None = None


class Stopped(NamedTuple):
    """A task gives no value: it was taken back, or told to stop.

    Attributes:
        processor: where it was to run, or runs; None if it was to come yet.
        over: True if nothing of it runs any more; else a second word will say so.
        late: True if its time was over.
        started: when it began, None if it had not.
        at: when.
        kept: results that are here all the same.
    """

    task: int
    processor: Processor | None
    over: bool
    late: bool
    started: float | None
    at: float
    kept: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelWanted:
    """A task wants one not to run, or to stop, that it spawned and that is elsewhere.

    Attributes:
        grace: after how many seconds its process is to be killed, None for never.
    """

    task: int
    grace: float | None


@dataclass(frozen=True, slots=True)
class Pinned:
    """A value that is here is valid where its type says.

    Attributes:
        why: what says so.
    """

    chunk: int
    scope: Scope
    why: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """Copies of chunks came in from other processes.

    Attributes:
        version: that of the topology by which they were sent.
    """

    chunks: tuple[int, ...]
    at: float
    version: int = 0


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """Chunks that tasks need here, or that are to be sent from here, did not come for a while."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """Chunks that the client is to have wait here to be fetched: no engine can dial it."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """A task wrote to ``"stdout"`` or ``"stderr"``."""

    task: int
    stream: str
    text: str


class Spawned(NamedTuple):
    """A task spawned a task.

    Attributes:
        spec: what it asked for.
        digest: names the function.
        function: its pickle, or None where the client has it from here.
        forget: digests of functions that the client need not keep any longer.
        arguments: as a run has them.
        chunks: those of its inputs that are chunks, which the client may not know yet.
        processor: where it was kept to run, None if it is to be sent somewhere.
        at: when.
    """

    spec: TaskSpec
    digest: bytes
    function: bytes | None
    forget: tuple[bytes, ...]
    arguments: PlainArguments | bytes
    chunks: tuple[StoredChunk, ...]
    processor: Processor | None
    at: float


class Borrowed(NamedTuple):
    """A handle was read here to a chunk that a task made by hand elsewhere."""

    chunk: StoredChunk


class Returned(NamedTuple):
    """The last handles here are gone to chunks of others, or to results of spawned tasks."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScopeFollowed:
    """A chunk is given by the new scope from now on."""

    chunk: int


@dataclass(frozen=True, slots=True)
class Rescoped:
    """A task changed the scope of a chunk here."""

    change: Rescoping


class Unheld(NamedTuple):
    """No handle is left here to chunks that tasks made here by hand; others may have some."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChunkPut:
    """A chunk arrived at its home, or was made there by tochunk.

    Attributes:
        chunk: what is known of it.
        version: that of the topology by which it was kept.
    """

    chunk: StoredChunk
    version: int = 0


@dataclass(frozen=True, slots=True)
class PutFailed:
    """A chunk could not be read where it was to live."""

    chunk: int
    error: PickledError


@dataclass(frozen=True, slots=True)
class KeptOut:
    """A chunk that was to come here may not: its scope turned out to leave this place out."""

    chunk: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class KindFound:
    """The processors of a kind that there are here.

    Attributes:
        kind: the kind.
        processors: the processors.
        trouble: why there may be fewer than there should be, None if nothing went wrong.
    """

    kind: Kind
    processors: tuple[Processor, ...]
    trouble: str | None


Report = (
    Started
    | Paused
    | Resumed
    | Finished
    | RunError
    | HandedBack
    | Pinned
    | Stopped
    | CancelWanted
    | Arrived
    | StillWaiting
    | Offered
    | Output
    | Spawned
    | Borrowed
    | Returned
    | Unheld
    | Rescoped
    | ScopeFollowed
    | ChunkPut
    | PutFailed
    | KeptOut
    | KindFound
)
