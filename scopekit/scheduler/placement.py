"""Placement: from the scopes of a task to the processors that may run it."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from scopekit.errors import NoProcessorError, ScopeConflictError
from scopekit.explanation import DEFAULT, Explanation, Operand
from scopekit.scopes import AnyScope, InvalidScope, Scope, constrain
from scopekit.scopes.form import NODE, WORKER, conjunction, split
from scopekit.scopes.scope import from_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scopekit.errors import SchedulingError
    from scopekit.explanation import Outcome
    from scopekit.places import Topology
    from scopekit.scopes import Processor

__all__ = ("Operands", "allowed_mask", "explain", "never_meet", "refusal")

Operands = tuple[tuple[str, Scope], ...]
_NO_PINS: Mapping[str, str] = {}


def allowed_mask(operands: Iterable[tuple[str, Scope]], topology: Topology) -> int:
    """Intersects the operands over the processors there are.

    Returns:
        The bit mask of the processors that every operand allows.
    """
    return reduce(
        lambda mask, operand: mask & topology.mask(operand[1]), operands, topology.everything
    )


def never_meet(operands: Sequence[tuple[str, Scope]], topology: Topology) -> bool:
    """Tells whether no processor could ever satisfy all operands.

    A worker stays on its node for life, so that worker 0 on node a can never be on
    node b, whoever joins later.
    """
    meet = constrain(AnyScope(), _known_places(topology), *(scope for _, scope in operands))
    return isinstance(meet, InvalidScope)


def _known_places(topology: Topology) -> Scope:
    at_home = [
        (process.worker, conjunction([(NODE, process.node)])) for process in topology.processes
    ]
    return from_form(split(WORKER, at_home, other=True))


def explain(
    task: str,
    operands: Operands,
    topology: Topology,
    *,
    outcome: Outcome,
    chosen: Processor | None = None,
    rule: str = "",
    waiting_for: tuple[str, ...] = (),
    pins: Mapping[str, str] = _NO_PINS,
) -> Explanation:
    """Replays a decision operand by operand."""
    mask = topology.everything
    shown: list[Operand] = []
    for origin, scope in operands:
        alone = topology.mask(scope)
        removed = (mask & ~alone).bit_count()
        mask &= alone
        why = pins.get(origin, "")
        shown.append(Operand(origin, scope, removed, alone.bit_count(), why))
    return Explanation(
        task=task,
        outcome=outcome,
        operands=tuple(shown),
        candidates=topology.everything.bit_count(),
        left=topology.select(mask),
        chosen=chosen,
        rule=rule,
        topology=topology,
        waiting_for=waiting_for,
    )


def refusal(
    task: str, operands: Operands, topology: Topology, pins: Mapping[str, str] = _NO_PINS
) -> SchedulingError:
    """Builds the error for a task that no processor may run.

    Args:
        task: its name.
        operands: its scopes.
        topology: the processes there are.
        pins: what pinned inputs by their types, by their origins.

    Returns:
        ScopeConflictError if its scopes never meet, NoProcessorError if they do but
        no processor there is lies in all of them.
    """
    if never_meet(operands, topology):
        explanation = explain(task, operands, topology, outcome="conflict", pins=pins)
        return ScopeConflictError(_conflict_text(task, operands, topology, pins), explanation)
    explanation = explain(task, operands, topology, outcome="unmatched", pins=pins)
    return NoProcessorError(_unmatched_text(task, operands, explanation), explanation)


def _conflict_text(
    task: str, operands: Operands, topology: Topology, pins: Mapping[str, str]
) -> str:
    clash = _smallest_clash(operands, topology)
    named = "\n".join(
        f"  {origin} allows {scope.describe()}{_because(pins.get(origin))}"
        for origin, scope in clash
    )
    hint = ""
    if any(origin == DEFAULT for origin, _ in clash):
        hint = " The client and devices run no task that was given no scope: say scope='any'."
    return (
        f"{task} cannot run anywhere: its scopes never meet.\n{named}\n"
        "Widen one of them, or split the task so that each part runs where its data is valid."
        f"{hint}{_instead(clash, pins)}"
    )


def _instead(clash: Operands, pins: Mapping[str, str]) -> str:
    """Returns the lines that make what is pinned elsewhere, for those in a conflict."""
    lines = [pins.get(origin, "").partition("\n")[2] for origin, _ in clash]
    named = "".join(f"\n  {line}" for line in dict.fromkeys(lines) if line)
    return f"\nOr have one where the task runs:{named}" if named else ""


def _because(why: str | None) -> str:
    return " ({})".format(why.partition("\n")[0]) if why else ""


def _smallest_clash(operands: Operands, topology: Topology) -> Operands:
    for first, one in enumerate(operands):
        if never_meet((one,), topology):
            return (one,)
        for other in operands[:first]:
            if never_meet((other, one), topology):
                return (other, one)
    return operands


def _unmatched_text(task: str, operands: Operands, explanation: Explanation) -> str:
    topology = explanation.topology
    named = "\n".join(
        f"  {op.origin} allows {op.scope.describe()}: {op.allowed} of "
        f"{explanation.candidates} processors{_because(op.why)}"
        for op in explanation.operands
    )
    gone = [
        f"worker {worker}"
        for worker in topology.departed
        if any(_names(scope, worker) for _, scope in operands)
    ]
    lost = f"\nGone for good: {', '.join(gone)}." if gone else ""
    nodes = dict.fromkeys(str(topology.node_of(worker)) for worker in topology.workers)
    workers = ", ".join(str(worker) for worker in topology.workers) or "none"
    if not topology.workers:
        return f"{task} has no processor now: no engine is left.{lost} Start another session."
    return (
        f"{task} has no processor now.\n{named}{lost}\n"
        f"There are the workers {workers} on the nodes {', '.join(nodes)}. "
        "Widen a scope, add workers, or give the task wait_for=seconds."
    )


def _names(scope: Scope, worker: object) -> bool:
    """Tells whether a scope names a worker, rather than admitting it among others."""
    return any(getattr(part, "worker", None) == worker for part in scope.scopes)
