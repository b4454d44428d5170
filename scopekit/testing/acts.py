"""Acts: what users and fate do in a simulated world, as plain values that a script can list."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from scopekit.scopes import AnyScope

if TYPE_CHECKING:
    from scopekit.graph import Wish
    from scopekit.scopes import Scope

__all__ = (
    "Act",
    "Cancel",
    "Crash",
    "CutOff",
    "Drop",
    "Forget",
    "Join",
    "JumpClock",
    "Keep",
    "Leave",
    "Look",
    "Plan",
    "Put",
    "Relabel",
    "Rescope",
    "Reset",
    "Spawn",
    "Stall",
    "Turn",
    "Worker",
    "script",
)

Turn = Literal["", "processor", "process", "node", "unpicklable"]
"""What the scope of a result turns out to be: as declared, its place, or what cannot leave."""

_UNSCOPED = AnyScope()


@dataclass(frozen=True, slots=True)
class Worker:
    """An engine that is there, or that joins.

    Attributes:
        node: the name of its node.
        threads: how many tasks it runs at a time.
        labels: the labels that it carries.
        speed: by how much longer it takes for everything.
        skew: how far its clock is ahead, in seconds.
    """

    node: str = "a"
    threads: int = 1
    labels: tuple[str, ...] = ()
    speed: float = 1.0
    skew: float = 0.0


@dataclass(frozen=True, slots=True)
class Spawn:
    """The user asks for a task.

    Attributes:
        at: when, in seconds.
        task: its id; its results are the chunks with the ids that follow.
        inputs: ids of chunks.
        scope: where it may run.
        result_scope: where its results are said to be valid.
        turns: where they turn out to be valid.
        outputs: how many results it has.
        seconds: how long it takes.
        function: the name under which durations are learnt.
        wait_for: how long it waits for a processor that is not there.
        idempotent: False if it must not be started twice.
        retries: how often it is tried again.
        fails: how many of its runs raise, -1 for all.
        kills: how many of its runs kill their process, -1 for all.
        priority: the higher, the sooner it is sent if it has to wait for a processor.
        prefer: where it would rather run, in order.
        stubborn: True if its code goes on when it is told to stop.
        limit: how many seconds it may take, None for any time.
        after: tasks that are to end before it begins.
        held: for how many seconds it is held, for the end of a block.
    """

    at: float
    task: int
    inputs: tuple[int, ...] = ()
    scope: Scope = _UNSCOPED
    result_scope: Scope | None = None
    turns: Turn = ""
    outputs: int = 1
    seconds: float = 0.01
    function: str = "f"
    wait_for: float = 0.0
    idempotent: bool = True
    retries: int = 0
    fails: int = 0
    kills: int = 0
    priority: int = 0
    prefer: tuple[Wish, ...] = ()
    stubborn: bool = False
    limit: float | None = None
    after: tuple[int, ...] = ()
    held: float = 0.0


@dataclass(frozen=True, slots=True)
class Put:
    """The user makes a chunk of a value, which goes to the first processor of its scope."""

    at: float
    chunk: int
    scope: Scope = _UNSCOPED
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """The user takes another handle to a chunk that is made."""

    at: float
    chunk: int


@dataclass(frozen=True, slots=True)
class Drop:
    """The user lets go of a handle."""

    at: float
    chunk: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The user wants a task not to run, or to stop.

    Attributes:
        at: when.
        task: its id.
        grace: after how many seconds its process is to be killed, None for never.
    """

    at: float
    task: int
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class Rescope:
    """The user narrows the scope of a chunk, as far as a holder is left."""

    at: float
    chunk: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class Look:
    """The client looks at its clock."""

    at: float


@dataclass(frozen=True, slots=True)
class JumpClock:
    """The client's clock is set forward or back."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Join:
    """An engine joins."""

    at: float
    worker: int
    engine: Worker = Worker()


@dataclass(frozen=True, slots=True)
class Leave:
    """An engine is stopped on purpose."""

    at: float
    worker: int


@dataclass(frozen=True, slots=True)
class Relabel:
    """The user gives an engine other labels."""

    at: float
    worker: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Crash:
    """An engine dies.

    Attributes:
        at: when.
        worker: which.
        noticed: so many seconds pass until the client knows.
    """

    at: float
    worker: int
    noticed: float = 0.2


@dataclass(frozen=True, slots=True)
class CutOff:
    """An engine is cut off from everyone and taken for dead, and speaks again later.

    Attributes:
        at: when.
        worker: which.
        noticed: so many seconds pass until it is given up.
        back: so many seconds pass until what was said in between goes through.
    """

    at: float
    worker: int
    noticed: float = 0.2
    back: float = 1.0


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection from one engine to another breaks: what is on its way is lost."""

    at: float
    source: int
    to: int


@dataclass(frozen=True, slots=True)
class Stall:
    """An engine does nothing for a while."""

    at: float
    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """An engine loses all that it holds, and does not know it."""

    at: float
    worker: int


Act = (
    Spawn
    | Put
    | Keep
    | Drop
    | Cancel
    | Rescope
    | Look
    | JumpClock
    | Join
    | Leave
    | Relabel
    | Crash
    | CutOff
    | Reset
    | Stall
    | Forget
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole world: who is there, with all that will happen to them.

    Attributes:
        seed: draws how long messages take.
        workers: the engines at the start, with ids from 0.
        acts: what users and fate do, in the order of time.
        latency: how long a message takes, in seconds, give or take.
        patience: after how long an engine asks for inputs that did not come.
        snatching: how many of the tasks that an engine is asked to hand back are cancelled
            in this very moment.
    """

    seed: int
    workers: tuple[Worker, ...]
    acts: tuple[Act, ...]
    latency: float = 0.001
    patience: float = 2.0
    snatching: float = 0.0


def script(plan: Plan) -> str:
    """Writes a plan as a script that replays it.

    Example:
        >>> print(script(Plan(7, (Worker(),), (Spawn(0.0, 10, inputs=(1,)),))))
        from scopekit.scopes import *
        from scopekit.testing import *
        <BLANKLINE>
        replay(
            Plan(
                seed=7,
                workers=(
                    Worker(),
                ),
                acts=(
                    Spawn(at=0.0, task=10, inputs=(1,)),
                ),
            )
        )
    """
    lines = ["from scopekit.scopes import *", "from scopekit.testing import *", "", "replay("]
    lines += ["    Plan(", f"        seed={plan.seed},", "        workers=("]
    lines += [f"            {_said(worker)}," for worker in plan.workers]
    lines += ["        ),", "        acts=("]
    lines += [f"            {_said(act)}," for act in plan.acts]
    lines += ["        ),"]
    for name in ("latency", "patience", "snatching"):
        if getattr(plan, name) != getattr(Plan(0, (), ()), name):
            lines.append(f"        {name}={getattr(plan, name)!r},")
    return "\n".join([*lines, "    )", ")"])


def _said(value: Any) -> str:
    """Writes a value with what differs from the defaults alone."""
    parts = []
    for field in fields(value):
        has = getattr(value, field.name)
        if has != field.default:
            nested = isinstance(has, Worker)
            parts.append(f"{field.name}={_said(has) if nested else repr(has)}")
    return f"{type(value).__name__}({', '.join(parts)})"
