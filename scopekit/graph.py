"""The task graph: what was asked for, what it needs, what it gave.

A task and each of its results have an id of their own, drawn from one counter.
Edges run through chunks: a task names the chunks it needs, a chunk names the
task that makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = (
    "CHUNK_STATES",
    "FINAL_STATES",
    "TASK_STATES",
    "ChunkRecord",
    "ChunkState",
    "How",
    "Input",
    "StoredChunk",
    "TaskRecord",
    "TaskSpec",
    "TaskState",
    "Wish",
    "WorkerId",
)

WorkerId = int | str
_SUSPECTED = 2
_NOBODY: Mapping[WorkerId, WorkerId] = {}
_NO_PINS: Mapping[int, str] = {}
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


class How(NamedTuple):
    """What few tasks ask of their run.

    Attributes:
        split: True if the function returns a tuple, which has a value for each output.
        result_scopes: the scope declared for each output or None, where they differ.
        meta: True if the function gets handles in place of the values of its inputs.
    """

    split: bool = False
    result_scopes: tuple[Scope | None, ...] = ()
    meta: bool = False


class Wish(NamedTuple):
    """Where a task would rather run.

    Attributes:
        scope: the processors that it prefers.
        busy: for how many seconds it waits for one of them while they are busy.
    """

    scope: Scope
    busy: float = 0.0


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
        retries: how often it is tried again after an error of its own.
        cell: the number of the notebook cell that spawned it, or None.
        parent: the task that spawned it, or None.
        around: what blocks around the spawn say of the tasks that it spawns, or None.
        how: what it asks of its run besides, or None.
        priority: the higher, the sooner it is sent if it has to wait for a processor.
        prefer: where it would rather run, in order.
        after: the tasks that are to end well before it begins.
        held: True if it waits for the end of the block that it is spawned in.
        timeout: how many seconds it may take, None for any time.
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
    retries: int = 0
    cell: int | None = None
    parent: int | None = None
    around: Any = None
    how: How | None = None
    priority: int = 0
    prefer: tuple[Wish, ...] = ()
    after: tuple[int, ...] = ()
    held: bool = False
    timeout: float | None = None


class StoredChunk(NamedTuple):
    """A chunk as the engine that holds it describes it."""

    id: int
    scope: Scope
    processor: Processor
    type: str
    nbytes: int


class TaskRecord:
    """All that the scheduler knows of one task.

    Attributes:
        spec: what was asked for.
        spawned: when.
        state: one of TASK_STATES.
        missing: how many of its inputs are not made.
        unplanned: of these, how many have no processor yet on which they will be made.
        gates: how many things it waits for besides: tasks before it, the end of its block.
        held: True as long as its block has not ended.
        line: the mask of the line that it stands in, 0 if in none.
        processor: where it was sent, None as long as it was not.
        ready: when its results are expected, as far as that can be told.
        attempts: how often it was sent.
        failures: how often it failed and was to be tried again.
        deaths: how many processes died that had it to run.
        holds_inputs: True as long as it counts among the users of its inputs.
        holds_lineage: True as long as it counts among their descendants.
        call_forgotten: True once it can never run again.
        asked_back: True if its processor was asked to hand it back.
        may_have_begun: True once its processor has had all that it takes to begin.
        pins: what gave inputs their scopes that are gone, where that is their types.
        cause: the number of the event that last changed its state.
    """

    # No dict of its own: with a hundred thousand of these, the garbage collector would
    # spend more time on them than all the rest takes.
    __slots__ = (
        "allowed",
        "asked_back",
        "attempts",
        "call_forgotten",
        "cause",
        "deadline",
        "deaths",
        "failure",
        "failures",
        "finished",
        "gates",
        "held",
        "holds_inputs",
        "holds_lineage",
        "line",
        "may_have_begun",
        "missing",
        "operands",
        "origin",
        "pins",
        "processor",
        "ready",
        "rule",
        "spawned",
        "spec",
        "started",
        "state",
        "topology",
        "unplanned",
    )

    def __init__(self, spec: TaskSpec, spawned: float, cause: int = 0) -> None:
        self.spec = spec
        self.spawned = spawned
        self.state: TaskState = "waiting"
        self.cause = cause
        self.missing = self.unplanned = self.gates = self.allowed = self.line = 0
        self.attempts = self.failures = self.deaths = 0
        self.holds_inputs = self.holds_lineage = self.call_forgotten = self.asked_back = False
        self.may_have_begun = self.held = False
        self.operands: tuple[tuple[str, Scope], ...] | None = None
        self.pins: Mapping[int, str] = _NO_PINS
        self.processor: Processor | None = None
        self.topology: Topology | None = None
        self.rule = ""
        self.ready = 0.0
        self.deadline: float | None = None
        self.started: float | None = None
        self.finished: float | None = None
        self.failure: Any = None
        self.origin: int | None = None

    @property
    def suspected(self) -> bool:
        """Tells whether it may have killed its processes, and is to run alone.

        Once is no reason: a process that dies has a thousand tasks, of which one may be at
        fault, if any is.
        """
        return self.deaths >= _SUSPECTED


class ChunkRecord:
    """All that the scheduler knows of one chunk.

    Attributes:
        state: one of CHUNK_STATES.
        maker: the task that makes it, None if it was made by hand.
        declared: the scope that its maker was told to give it, if any.
        planned: True once its maker had a processor.
        holders: the workers that have it.
        senders: the workers that it is sent to as soon as it is made, each with the one
            that was told to send it.
        waiters: unfinished tasks that need it, as long as it is pending.
        handles: how many handles to it there are.
        users: how many unfinished tasks need its value.
        descendants: how many tasks might have to run again for a chunk that is wanted,
            and would need it then.
        aimed: when it was last ordered to be sent somewhere.
        told: True if whoever holds its handles has its value, too: when it is lost, it is
            made again only for others.
        rescoped: True once its scope was changed by hand: made again, it would have another.
        pin: what gave it its scope, where that is the type of its value.
        cause: the number of the event that last changed its state.
    """

    __slots__ = (
        "aimed",
        "cause",
        "declared",
        "descendants",
        "failure",
        "handles",
        "holders",
        "id",
        "made",
        "maker",
        "nbytes",
        "pin",
        "planned",
        "processor",
        "rescoped",
        "scope",
        "senders",
        "state",
        "told",
        "type",
        "users",
        "waiters",
    )

    def __init__(
        self,
        id: int,  # noqa: A002  # what it is called everywhere
        scope: Scope,
        *,
        maker: int | None = None,
        processor: Processor | None = None,
        type: str = "",  # noqa: A002  # likewise
        handles: int = 0,
        cause: int = 0,
    ) -> None:
        self.id = id
        self.scope = scope
        self.state: ChunkState = "pending"
        self.handles = handles
        self.cause = cause
        self.maker = maker
        self.processor = processor
        self.type = type
        self.pin = ""
        self.declared: Scope | None = None
        self.planned = self.told = self.rescoped = False
        self.nbytes = self.users = self.descendants = 0
        self.holders: tuple[WorkerId, ...] = ()
        self.senders: Mapping[WorkerId, WorkerId] = _NOBODY
        self.waiters: list[int] | None = None
        self.made: float | None = None
        self.aimed = 0.0
        self.failure: Any = None

    @property
    def targets(self) -> tuple[WorkerId, ...]:
        """The workers that it is sent to as soon as it is made."""
        return tuple(self.senders)
