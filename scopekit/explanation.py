"""Explanations: which operand removed which processors, or why the winner won."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = ("DEFAULT", "Explanation", "Operand", "Outcome")

DEFAULT = "default"

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

    def sentence(self) -> str:
        """Says the outcome in one sentence."""
        removed = ", ".join(
            f"{op.told()} removed {op.removed}" for op in self.operands if op.removed
        )
        because = f"; {removed}" if removed else ""
        if self.chosen is not None:
            return f"{self.task} runs on {self.place(self.chosen)}: {self.rule}{because}"
        others = ", ".join(self.waiting_for[:_LISTED])
        if len(self.waiting_for) > _LISTED:
            others += f" and {len(self.waiting_for) - _LISTED} more"
        said: dict[str, str] = {
            "conflict": "cannot run anywhere: its scopes never meet",
            "unmatched": "has no processor now",
            "blocked": f"did not run, since an input cannot be had: {others or 'lost'}",
            "cancelled": "was cancelled before it ran",
            "waiting": f"waits for {others}",
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
        masks = [self.topology.mask(op.scope) for op in self.operands]
        gains: list[tuple[str, int]] = []
        for dropped, operand in enumerate(self.operands):
            mask = self.topology.everything
            for index, other in enumerate(masks):
                if index != dropped:
                    mask &= other
            if mask.bit_count() > len(self.left):
                gains.append((operand.origin, mask.bit_count()))
        return tuple(sorted(gains, key=lambda gain: -gain[1]))

    def text(self) -> str:
        """Tells the whole decision as text, one line per operand."""
        lines = [self.sentence(), f"  {self.candidates} processors"]
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
