"""Draws plans: a seed arms some faults, and says how much of what is to happen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from scopekit.graph import Wish
from scopekit.scopes import (
    CLIENT,
    AnyScope,
    DefaultScope,
    ExactScope,
    LabelScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
)
from scopekit.testing import acts

if TYPE_CHECKING:
    from scopekit.scopes import Scope
    from scopekit.testing.acts import Act, Plan, Turn, Worker

__all__ = ("Size", "draw_plan")

_NODES = ("a", "b", "c")
_FUNCTIONS = {"f": 0.002, "g": 0.02, "h": 0.2, "i": 1.0}
_CAMERA = LabelScope("camera")
_LABELLED = (_CAMERA, _CAMERA, ~_CAMERA, _CAMERA | NodeScope("a"), _CAMERA & NodeScope("b"))
_TURNS: tuple[Turn, ...] = ("processor", "process", "node", "unpicklable", "unpicklable")


@dataclass(frozen=True, slots=True)
class Size:
    """How large worlds are.

    Attributes:
        tasks: the fewest and the most tasks.
        workers: the fewest and the most engines at the start.
        labelled: True for worlds in which nearly all hangs on labels, which change.
    """

    tasks: tuple[int, int] = (5, 40)
    workers: tuple[int, int] = (1, 6)
    labelled: bool = False


class _Drawing:
    """Draws one plan.

    Args:
        seed: decides everything.
        size: how large it may be.
    """

    def __init__(self, seed: int, size: Size) -> None:
        self.random = Random(seed)
        random = self.random
        self.count = random.randint(*size.tasks)
        self.span = random.choice((0.0, 0.1, 1.0, 3.0))
        self.labelled = size.labelled
        self.workers = [self._worker() for _ in range(random.randint(*size.workers))]
        self.faulty = random.random() < 0.85
        self.chunks: list[int] = []
        self.acts: list[Act] = []
        # A swarm: what is armed in one world is not in another.
        self.scoped = self._armed(0.6) * 0.6 * random.random()
        self.depth = random.choice((0.2, 0.5, 0.8, 0.97))
        self.turning = self._armed(0.5) * 0.5
        self.once = self._armed(0.4) * 0.6
        self.failing = self._armed(0.4) * 0.3
        self.killing = self._fault(0.35) * 0.2
        self.dropping = self._armed(0.7) * random.random()
        self.waiting = self._armed(0.3) * 0.6
        self.cancelling = self._armed(0.3) * 0.3
        if self.labelled:
            self.scoped = self.waiting = 0.5
            self.dropping *= 0.4
        # What came later is drawn apart, so that the rest of each world stays as it was.
        self.more = Random(f"{seed} more")
        self.ranking = self.more.random() < 0.3
        self.wishing = self.more.random() * (self.more.random() < 0.3)

    def _armed(self, chance: float) -> float:
        return float(self.random.random() < chance)

    def _fault(self, chance: float) -> float:
        return float(self.faulty and self.random.random() < chance)

    def _worker(self) -> Worker:
        random = self.random
        return acts.Worker(
            node=random.choice(_NODES),
            threads=random.choice((1, 1, 1, 2, 3)),
            labels=("camera",) if random.random() < (0.5 if self.labelled else 0.2) else (),
            speed=random.choice((1.0, 1.0, 1.0, 3.0, 20.0)),
            skew=random.choice((0.0, 0.0, 0.0, -5.0, 3600.0)),
        )

    def _time(self) -> float:
        return round(self.random.random() * (self.span + 0.5), 4)

    def _any_worker(self) -> int:
        return self.random.randrange(len(self.workers) + 1)

    def _wishes(self) -> tuple[Wish, ...]:
        random = self.more
        return tuple(
            Wish(self._scope(1, random), random.choice((0.0, 0.0, 0.05, 0.5, 3.0)))
            for _ in range(random.choice((1, 1, 1, 2, 3)))
        )

    def _scope(self, depth: int = 2, other_random: Random | None = None) -> Scope:
        random = other_random or self.random
        if self.labelled and random.random() < 0.6:
            return random.choice(_LABELLED)
        if depth and random.random() < 0.25:
            one, other = self._scope(depth - 1, random), self._scope(depth - 1, random)
            return one & other if random.random() < 0.33 else one | other
        worker = ProcessScope(random.randrange(len(self.workers) + 1))
        exact = ExactScope(
            ThreadProc(random.randrange(len(self.workers) + 1), random.choice((0, 0, 1)))
        )
        node = NodeScope(random.choice(_NODES))
        rare = random.choice((~NodeScope("a"), ProcessScope(CLIENT), ~ProcessScope(0)))
        wide = random.choice((DefaultScope(), ProcessorTypeScope(ThreadProc), AnyScope()))
        return random.choice((worker, worker, worker, node, node, exact, _CAMERA, wide, rare))

    # -- what users do --------------------------------------------------------------------

    def spawn(self, number: int) -> None:
        """Draws one task, with what the user does about it later."""
        random = self.random
        task = 10 * (number + 1)
        at = round(self.span * number / max(1, self.count), 4)
        if random.random() < 0.12:
            self._put(at, task)
            return
        function = random.choice("ffggghi")
        outputs = 2 if random.random() < 0.1 else 1
        turns: Turn = random.choice(_TURNS) if random.random() < self.turning else ""
        declares = random.random() < 0.15 * bool(self.scoped)
        self.acts.append(
            acts.Spawn(
                at,
                task,
                inputs=self._inputs(),
                scope=self._scope() if random.random() < self.scoped else DefaultScope(),
                result_scope=self._scope() if declares else None,
                turns=turns,
                outputs=outputs,
                seconds=round(_FUNCTIONS[function] * (0.2 + 1.6 * random.random()), 4),
                function=function,
                wait_for=random.choice((0.3, 2.0, 20.0)) if random.random() < self.waiting else 0.0,
                idempotent=random.random() >= self.once,
                retries=random.choice((0, 0, 1, 2)),
                fails=random.choice((1, 1, 2, -1)) if random.random() < self.failing else 0,
                kills=random.choice((1, 2, -1)) if random.random() < self.killing else 0,
                priority=self.more.choice((0, 0, 1, 2, -1)) if self.ranking else 0,
                prefer=self._wishes() if self.more.random() < self.wishing else (),
            )
        )
        for output in range(outputs):
            self._chunk(at, task + 1 + output)
        if random.random() < self.cancelling:
            self.acts.append(acts.Cancel(round(at + random.random() * 0.3, 4), task))

    def _inputs(self) -> tuple[int, ...]:
        random = self.random
        if not self.chunks or random.random() > self.depth:
            return ()
        if random.random() < 0.5:
            return (self.chunks[-1],)
        recent = self.chunks[-8:]
        return tuple(random.sample(recent, min(len(recent), random.choice((1, 2, 2, 3)))))

    def _put(self, at: float, number: int) -> None:
        random = self.random
        scope = self._scope() if random.random() < self.scoped else AnyScope()
        self.acts.append(acts.Put(at, number, scope, unreadable=random.random() < 0.1))
        self._chunk(at, number)

    def _chunk(self, at: float, chunk: int) -> None:
        random = self.random
        self.chunks.append(chunk)
        if random.random() < 0.1:
            self.acts.append(acts.Keep(round(at + random.random(), 4), chunk))
        if random.random() < self.dropping:
            self.acts.append(acts.Drop(round(at + random.choice((0.0, 0.05, 1.0)), 4), chunk))

    # -- what fate does -------------------------------------------------------------------

    def faults(self) -> None:
        """Draws what befalls engines and connections."""
        random = self.random
        for number in range(random.randint(0, 3) if self.faulty else 0):
            joining = len(self.workers) + number
            self.acts.append(acts.Join(self._time(), joining, self._worker()))
        for _ in range(random.randint(1, 3) if self._fault(0.6) else 0):
            noticed = random.choice((0.001, 0.05, 0.3, 1.0))
            self.acts.append(acts.Crash(self._time(), self._any_worker(), noticed))
        for _ in range(random.randint(1, 2) if self._fault(0.2) else 0):
            self.acts.append(acts.Leave(self._time(), self._any_worker()))
        for _ in range(int(self._fault(0.2))):
            back = random.choice((0.1, 0.5, 3.0))
            cut = acts.CutOff(self._time(), self._any_worker(), random.choice((0.05, 0.3)), back)
            self.acts.append(cut)
        for _ in range(random.randint(1, 10) if self._fault(0.3) else 0):
            ends = self._any_worker(), self._any_worker()
            self.acts.append(acts.Reset(self._time(), *ends))
        for _ in range(random.randint(1, 3) if self._fault(0.25) else 0):
            stall = acts.Stall(self._time(), self._any_worker(), random.choice((0.1, 1.0, 5.0)))
            self.acts.append(stall)
        for _ in range(random.randint(1, 2) if self._fault(0.15) else 0):
            jump = random.choice((-20.0, -1.0, 1.0, 3600.0))
            self.acts.append(acts.JumpClock(self._time(), jump))
        for _ in range(random.randint(1, 4) if self._armed(0.3) else 0):
            self.acts.append(acts.Look(self._time()))

    def changes(self) -> None:
        """Draws the scopes that the user narrows."""
        random = self.random
        for _ in range(random.randint(1, 4) if self.chunks and self._armed(0.6) else 0):
            chunk = random.choice(self.chunks)
            self.acts.append(acts.Rescope(self._time(), chunk, self._scope()))


def _relabelled(seed: int, drawing: _Drawing) -> list[Act]:
    """Draws what labels change; apart, so that all else stays as it was."""
    random = Random(f"labels {seed}")
    if not drawing.labelled and random.random() > 0.3:
        return []
    span = drawing.span + 0.5
    return [
        acts.Relabel(
            round(random.random() * span, 4),
            random.randrange(len(drawing.workers) + 1),
            random.choice(((), ("camera",))),
        )
        for _ in range(random.randint(1, 12 if drawing.labelled else 6))
    ]


def _forgetful(seed: int, drawing: _Drawing) -> list[Act]:
    """Draws which engines lose what they hold, apart as well."""
    random = Random(f"forgets {seed}")
    if not drawing.faulty or random.random() > 0.15:
        return []
    span = drawing.span + 0.5
    return [
        acts.Forget(round(random.random() * span, 4), random.randrange(len(drawing.workers)))
        for _ in range(random.randint(1, 3))
    ]


def draw_plan(seed: int, size: Size | None = None) -> Plan:
    """Draws the plan of a world.

    Args:
        seed: decides everything.
        size: how large it may be; small if None.

    Example:
        >>> draw_plan(3) == draw_plan(3)
        True
    """
    drawing = _Drawing(seed, size or Size())
    for number in range(drawing.count):
        drawing.spawn(number)
    drawing.faults()
    drawing.acts += _relabelled(seed, drawing)
    drawing.acts += _forgetful(seed, drawing)
    latency = drawing.random.choice((0.0002, 0.001, 0.001, 0.02))
    drawing.changes()
    drawn = _with_stops(seed, _in_order(seed, drawing.acts))
    in_time = sorted(drawn, key=lambda act: act.at)
    plan = acts.Plan(seed, tuple(drawing.workers), tuple(in_time), latency)
    return replace(plan, snatching=Random(f"snatches of {seed}").choice((0.0, 0.0, 0.0, 0.5)))


def _in_order(seed: int, drawn: list[Act]) -> list[Act]:
    """Draws which tasks run after which others, and which are held for the end of a block."""
    random = Random(f"order of {seed}")
    following, holding = (float(random.random() < 0.2) * random.random() for _ in range(2))
    found: list[Act] = []
    before: list[int] = []
    for act in drawn:
        if isinstance(act, acts.Spawn):
            follows = before and random.random() < following
            after = tuple(random.sample(before[-8:], min(len(before), 2))) if follows else ()
            held = random.choice((0.001, 0.05, 1.0)) if random.random() < holding else 0.0
            before.append(act.task)
            found.append(replace(act, after=after, held=held))
        else:
            found.append(act)
    return found


def _with_stops(seed: int, drawn: list[Act]) -> list[Act]:
    """Draws which tasks are cancelled while they run, with what their code does about it."""
    random = Random(f"stops of {seed}")
    cancelling, stubborn, limited = (
        float(random.random() < chance) * random.random() for chance in (0.3, 0.5, 0.12)
    )
    found: list[Act] = []
    for act in drawn:
        if not isinstance(act, acts.Spawn):
            found.append(act)
            continue
        limit = random.choice((0.0, 0.01, 0.1, 1.0)) if random.random() < 0.5 * limited else None
        found.append(replace(act, stubborn=random.random() < stubborn, limit=limit))
        while random.random() < 0.5 * cancelling:
            at = act.at + random.choice((0.0, 0.003, 0.03, 0.3, 1.0)) * random.random()
            grace = random.choice((None, None, None, 0.0, 0.02, 0.3))
            found.append(acts.Cancel(round(at, 4), act.task, grace))
    return found
