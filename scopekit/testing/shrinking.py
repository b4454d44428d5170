"""Shrinking: from a plan that fails to a small one that fails in the same way."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

from scopekit.scheduler import Scheduler
from scopekit.testing.acts import Plan, Spawn, Worker
from scopekit.testing.watching import Violation
from scopekit.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("failure_of", "shrink")

_MOST_RUNS = 1500
_KEPT_FIELDS = ("at", "task", "chunk", "worker")


def failure_of(plan: Plan, kind: type[Scheduler] = Scheduler) -> Violation | None:
    """Runs a plan.

    Args:
        plan: what happens.
        kind: the scheduler to try.

    Returns:
        What was violated, None if nothing was.
    """
    try:
        World(plan, kind).run()
    except Violation as violation:
        return violation
    return None


def shrink(plan: Plan, kind: type[Scheduler] = Scheduler, *, runs: int = _MOST_RUNS) -> Plan:
    """Makes a plan that fails smaller, for as long as it breaks the same rule.

    Args:
        plan: a plan that fails.
        kind: the scheduler that fails in it.
        runs: how many plans to try at most.

    Returns:
        The smallest one found; the plan itself if it does not fail.
    """
    violation = failure_of(plan, kind)
    if violation is None:
        return plan
    return _Shrinking(violation.rule, kind, runs).shrink(plan)


class _Shrinking:
    def __init__(self, rule: str, kind: type[Scheduler], runs: int) -> None:
        self._rule = rule
        self._kind = kind
        self._left = runs

    def shrink(self, plan: Plan) -> Plan:
        while self._left > 0:
            smaller = plan
            for simplified in (_without_acts, _simpler_parts):
                smaller = self._follow(smaller, simplified)
            if smaller == plan:
                break
            plan = smaller
        return plan

    def _follow(self, plan: Plan, candidates: Callable[[Plan], Iterator[Plan]]) -> Plan:
        """Takes each candidate that still fails, and goes on from there."""
        again = True
        while again and self._left > 0:
            again = False
            for candidate in candidates(plan):
                if self._fails(candidate):
                    plan = candidate
                    again = True
                    break
        return plan

    def _fails(self, plan: Plan) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        violation = failure_of(plan, self._kind)
        return violation is not None and violation.rule == self._rule


def _without_acts(plan: Plan) -> Iterator[Plan]:
    """Yields plans without some of the acts: half of them first, single ones at the end."""
    count = len(plan.acts)
    size = count
    while size:
        for start in range(0, count, size):
            yield replace(plan, acts=plan.acts[:start] + plan.acts[start + size :])
        size //= 2


def _simpler_parts(plan: Plan) -> Iterator[Plan]:
    """Yields plans of which one part is simpler."""
    if len(plan.workers) > 1:
        yield replace(plan, workers=plan.workers[:-1])
    for name, default in _defaults(plan):
        yield replace(plan, **{name: default})
    for number, worker in enumerate(plan.workers):
        for simpler in _simpler(worker):
            yield replace(plan, workers=_with(plan.workers, number, simpler))
    for number, act in enumerate(plan.acts):
        for simpler in _simpler(act):
            yield replace(plan, acts=_with(plan.acts, number, simpler))
    if plan.seed:
        yield replace(plan, seed=plan.seed // 10)


def _with(parts: tuple[Any, ...], number: int, part: Any) -> tuple[Any, ...]:
    return (*parts[:number], part, *parts[number + 1 :])


def _simpler(part: Any) -> Iterator[Any]:
    for name, default in _defaults(part):
        yield replace(part, **{name: default})
    if isinstance(part, Spawn):
        for number in range(len(part.inputs)):
            fewer = part.inputs[:number] + part.inputs[number + 1 :]
            yield replace(part, inputs=fewer)
    at = getattr(part, "at", None)
    if at is not None:
        yield from (replace(part, at=time) for time in (round(at, 1), round(at, 2)) if time != at)
    engine = getattr(part, "engine", None)
    if engine is not None and engine != Worker():
        yield from (replace(part, engine=simpler) for simpler in _simpler(engine))


def _defaults(part: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(part):
        plain = field.default is not MISSING and field.name not in _KEPT_FIELDS
        if plain and getattr(part, field.name) != field.default:
            yield field.name, field.default
