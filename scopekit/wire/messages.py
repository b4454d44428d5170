"""What session and engine say to each other.

Orders go out to an agent, reports come back. Both are plain values that pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.codec import PickledError

__all__ = (
    "AgentCard",
    "AgentConfig",
    "Beat",
    "ChunkPut",
    "Drop",
    "Finished",
    "HandedBack",
    "Order",
    "Output",
    "PeerAddress",
    "Put",
    "PutFailed",
    "Report",
    "Run",
    "RunError",
    "Started",
    "TopologyChanged",
)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a process serves its chunks, with the public key that proves it."""

    endpoint: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent is told when it is installed.

    Attributes:
        session: the id of the session, which names its agent in the engine.
        worker: the id by which users know the engine.
        threads: how many thread processors it has, the main thread among them.
        report_header: the message header under which reports are published.
        client_key: the public key of the client, allowed to ask for chunks.
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
    controller: str
    lease: float | None = None
    directory: str | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What an agent answers once it is installed."""

    worker: WorkerId
    pid: int
    node_id: str
    node_name: str
    incarnation: str
    address: PeerAddress | None


# -- orders -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopologyChanged:
    """The processes there are now, with the addresses of those that serve chunks."""

    topology: Topology
    addresses: Mapping[WorkerId, PeerAddress]


@dataclass(frozen=True, slots=True)
class Run:
    """Run a task.

    Attributes:
        digest: names the function.
        function: its pickle, or None where the agent has it.
        forget: digests of functions that the agent need not keep any longer.
        inputs: id and holder of each input, in order.
        outputs: the ids under which to keep the results.
        result_scope: the scope of results that bring none of their own, or None.
    """

    task: int
    name: str
    digest: bytes
    function: bytes | None
    forget: tuple[bytes, ...]
    arguments: bytes
    processor: Processor
    inputs: tuple[tuple[int, WorkerId], ...]
    outputs: tuple[int, ...]
    result_scope: Scope | None


@dataclass(frozen=True, slots=True)
class Put:
    """Keep a value that the client hands over.

    Attributes:
        reports: True for a chunk whose home this is, which is to be reported; False
            for the copy of an input.
    """

    chunk: int
    pickled: bytes
    scope: Scope
    processor: Processor
    reports: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget chunks."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """The client is still there."""


Order = TopologyChanged | Run | Put | Drop | Beat

# -- reports ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A task is running."""

    task: int
    at: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A task gave its results; replicas are the inputs of which a copy was made."""

    task: int
    results: tuple[StoredChunk, ...]
    replicas: tuple[int, ...]
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class RunError:
    """A task failed."""

    task: int
    error: PickledError
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class HandedBack:
    """A task was not started, since the scope of an input turned out to forbid it here."""

    task: int
    chunk: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class Output:
    """A task wrote to ``"stdout"`` or ``"stderr"``."""

    task: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class ChunkPut:
    """A chunk arrived at its home, or was made there by tochunk."""

    chunk: StoredChunk


@dataclass(frozen=True, slots=True)
class PutFailed:
    """A chunk could not be read where it was to live."""

    chunk: int
    error: PickledError


Report = Started | Finished | RunError | HandedBack | Output | ChunkPut | PutFailed
