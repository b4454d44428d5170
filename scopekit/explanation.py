"""Explanations: which operand removed which processors, or why the winner won."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scopekit.scopes import DefaultScope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = ("BEFORE", "DEFAULT", "Awaited", "Busy", "Explanation", "Operand", "Outcome")

DEFAULT = "default"
BEFORE = "before it"

Outcome = Literal["placed", "queued", "waiting", "unmatched", "conflict", "blocked", "cancelled"]
_LISTED = 6
_LINE = "\n"


@dataclass(frozen=True, slots=True)
class Operand:
    """One scope that a task must respect.

    Attributes:
        origin: where it was written: ``"scope="``, ``"argument 'cam'"``, ``"function"``.
        scope: the scope itself.
        removed: how many processors it removed, after the operands before it.
        allowed: how many processors it would allow alone.
        why: what gave an input its scope, where that is the type of its value; on a second
            line what makes one elsewhere.
    """

    origin: str
    scope: Scope
    removed: int
    allowed: int
    why: str = ""

    def told(self) -> str:
        """Names the scope with where it was written, such as ``scope= worker 0``."""
        if self.origin == DEFAULT:
            return "the default scope (engines only)"
        because = f" ({self.why.partition(_LINE)[0]})" if self.why else ""
        return f"{self.origin} {self.scope.describe()}{because}"


@dataclass(frozen=True, slots=True)
class Awaited:
    """A task that another one waits for.

    Attributes:
        name: its name.
        origin: the argument that it is to the one that waits, ``"before it"`` where only
            the order counts, ``""`` where what it waits for waits in turn for this one.
        state: what it does itself.
        processor: where it was sent, or None.
    """

    name: str
    origin: str
    state: str
    processor: Processor | None


@dataclass(frozen=True, slots=True)
class Busy:
    """A processor that may run a task, and has others to run.

    Attributes:
        processor: the processor.
        tasks: how many it has.
        seconds: how long they take, as far as that can be told.
    """

    processor: Processor
    tasks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task runs where it runs, or why it does not.

    Attributes:
        task: the name of the task.
        outcome: ``"placed"``, ``"queued"`` (busy), ``"waiting"`` (inputs missing),
            ``"unmatched"`` (no such processor now), ``"conflict"`` (never), ``"blocked"``
            (an input failed) or ``"cancelled"``.
        operands: the scopes in the order in which they were applied; their ``removed``
            counts and ``len(left)`` add up to ``candidates``.
        candidates: how many processors there are in all.
        left: the processors that every operand allows.
        chosen: the processor the task was given, or None.
        rule: what decided between those left.
        topology: the processors that the decision saw.
        waiting_for: names of the tasks whose results are missing, or failed.
        missing: the tasks that it waits for; after these the ones that they wait for, as
            far as these do not wait themselves.
        sent_to: where it waits for its turn or its inputs already, or None.
        ahead: how many tasks are to run before it: there, or among those that wait for
            the same processors.
        busy: those of the processors left that have something to run.
        idle: all processors that have nothing to run.
        seconds_left: how long it will go on waiting for a processor, or None.
    """

    task: str
    outcome: Outcome
    operands: tuple[Operand, ...]
    candidates: int
    left: tuple[Processor, ...]
    chosen: Processor | None
    rule: str
    topology: Topology
    waiting_for: tuple[str, ...] = ()
    missing: tuple[Awaited, ...] = ()
    sent_to: Processor | None = None
    ahead: int = 0
    busy: tuple[Busy, ...] = ()
    idle: tuple[Processor, ...] = ()
    seconds_left: float | None = None

    def sentence(self) -> str:
        """Says the outcome in one sentence."""
        removed = ", ".join(
            f"{op.told()} removed {op.removed}" for op in self.operands if op.removed
        )
        because = f"; {removed}" if removed else ""
        if self.chosen is not None:
            verb = "runs on" if self.sent_to is None else "is sent to"
            return f"{self.task} {verb} {self.place(self.chosen)}: {self.rule}{because}"
        others = ", ".join(self.waiting_for[:_LISTED])
        if len(self.waiting_for) > _LISTED:
            others += f" and {len(self.waiting_for) - _LISTED} more"
        said: dict[str, str] = {
            "conflict": "cannot run anywhere: its scopes never meet",
            "unmatched": "has no processor now",
            "blocked": f"did not run, since an input cannot be had: {others or 'lost'}",
            "cancelled": f"was cancelled {self.rule}",
            "waiting": f"waits for {' and '.join(filter(None, (others, self.rule)))}",
        }
        return f"{self.task} {said.get(self.outcome, f'waits: {self.rule}')}{because}"

    def place(self, processor: Processor) -> str:
        """Names a processor with its node, such as ``node a, worker 0, thread 0``."""
        node = self.topology.node_of(processor.worker)
        return f"node {node}, {processor.describe()}" if node else processor.describe()

    def widening(self) -> tuple[tuple[str, int], ...]:
        """Tells how many processors would be left if one operand alone were dropped.

        Returns:
            Pairs of origin and number of processors, best first, without those that
            would leave none.
        """
        gains = [(origin, mask.bit_count()) for origin, mask in self._without_each()]
        better = [(origin, count) for origin, count in gains if count > len(self.left)]
        return tuple(sorted(better, key=lambda gain: -gain[1]))

    def _without_each(self) -> Iterator[tuple[str, int]]:
        """Yields the origin of each operand with the processors that the others allow."""
        masks = [self.topology.mask(op.scope) for op in self.operands]
        for dropped, operand in enumerate(self.operands):
            mask = self.topology.everything
            for index, other in enumerate(masks):
                if index != dropped:
                    mask &= other
            rest = [op.origin for op in self.operands if op is not operand]
            if _says_where(operand.origin) and not any(map(_says_where, rest)):
                # Whoever does not say where a task runs means the default.
                mask &= self.topology.mask(DefaultScope())
            yield operand.origin, mask

    def relief(self) -> tuple[tuple[str, int], ...]:
        """Tells how many idle processors there would be if one operand alone were dropped.

        Returns:
            Pairs of origin and number of processors, best first, where all that are left
            are busy; none otherwise.
        """
        if not self.busy or len(self.busy) < len(self.left):
            return ()
        idle = set(self.idle)
        gains = [
            (origin, sum(processor in idle for processor in self.topology.select(mask)))
            for origin, mask in self._without_each()
        ]
        return tuple(sorted([gain for gain in gains if gain[1]], key=lambda gain: -gain[1]))

    def details(self) -> tuple[str, ...]:
        """Tells what the task waits for, and what would help, one sentence each."""
        said = [self._told_of(each) for each in self.missing[:_LISTED]]
        if len(self.missing) > _LISTED:
            said.append(f"and for {len(self.missing) - _LISTED} more")
        if self.sent_to is not None and self.chosen is None:
            said.append(f"it is sent ahead to {self.place(self.sent_to)}")
        if self.ahead:
            said.append(f"{_tasks(self.ahead)} before it")
        said += [
            f"{self.place(each.processor)} has {_tasks(each.tasks)} to run"
            f" (about {each.seconds:.2g} s)"
            for each in self.busy[:_LISTED]
        ]
        said += [f"without {origin} there would be {count} idle" for origin, count in self.relief()]
        if self.seconds_left is not None:
            said.append(f"it goes on waiting for {self.seconds_left:.3g} s")
        return tuple(said)

    def _told_of(self, awaited: Awaited) -> str:
        where = "" if awaited.processor is None else f" on {self.place(awaited.processor)}"
        tie = {"": "that waits for", BEFORE: "it comes after"}
        what = tie.get(awaited.origin, f"{awaited.origin} is to come from")
        return f"{what} {awaited.name}, {awaited.state}{where}"

    def text(self) -> str:
        """Tells the whole decision as text, one line per operand."""
        lines = [self.sentence(), *(f"  {said}" for said in self.details())]
        lines.append(f"  {self.candidates} processors")
        lines += [f"  - {op.removed:<4} {op.told()}" for op in self.operands]
        names = "; ".join(self.place(processor) for processor in self.left[:_LISTED])
        more = f" and {len(self.left) - _LISTED} more" if len(self.left) > _LISTED else ""
        lines.append(f"  = {len(self.left)} left{': ' + names + more if names else ''}")
        if not self.left:
            lines += [
                f"  without {origin} there would be {count}" for origin, count in self.widening()
            ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Explanation: {self.sentence()}>"

    def _repr_html_(self) -> str:
        # Drawing lives two layers up; it is loaded when a notebook asks for it.
        from importlib import import_module  # noqa: PLC0415

        html: str = import_module("scopekit.notebook.displays").explanation_html(self)
        return html


def _says_where(origin: str) -> bool:
    return origin.rsplit(" ", maxsplit=1)[-1] in ("scope=", "compute_scope=", "single=")


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
