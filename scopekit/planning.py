"""Tells where a call would run, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.graph import TaskSpec
from scopekit.options import NO_OPTIONS, Options, block_options, function_options, operands
from scopekit.scheduler.details import with_load
from scopekit.scheduler.placement import explain
from scopekit.scopes import InvalidScope
from scopekit.spawning import function_name, pinned_operands, placements
from scopekit.wire.codec import pack_call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.explanation import Explanation
    from scopekit.session import Session

__all__ = ("plan_call",)


def plan_call(
    session: Session, given: Options, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Explanation:
    """Tells where a call with these options would run; see :meth:`scopekit.Session.plan`."""
    function = function_name(f)
    defaults = function_options(f)
    merged = given.merged_over(block_options()).merged_over(defaults or NO_OPTIONS)
    name = merged.name or function
    call = pack_call(f, args, kwargs, name=name, desk=session)
    result_scope, _ = merged.declared(name, len(merged.outputs))
    spec = TaskSpec(
        id=0,
        name=name,
        function=function,
        operands=operands(given, defaults, function)
        + placements(call.handles)
        + pinned_operands(call),
        inputs=session._inputs(call.handles, name),
        outputs=(),
        result_scope=result_scope,
        prefer=session._wishes(merged.prefer),
    )
    if call.pinned and session._lacks_thread(spec, call):
        nowhere = ("the thread of what it is given, which runs no tasks", InvalidScope())
        scopes = (*spec.operands, nowhere)
        return explain(name, scopes, session.topology, outcome="conflict")
    with session._driver.lock:
        known = session._driver.scheduler
        return with_load(known.plan(spec), known)
