"""Mutable objects: one object, made and kept in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.engine.context import running_task
from scopekit.errors import ScopeError
from scopekit.handles import Chunk
from scopekit.scheduler.placement import refusal
from scopekit.scopes import (
    DefaultScope,
    ExactScope,
    Processor,
    ProcessScope,
    Scope,
    as_scope,
)
from scopekit.spawning import function_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.graph import WorkerId
    from scopekit.session import Session

__all__ = ("make_mutable",)


def make_mutable(
    session: Session,
    make: Callable[[], Any],
    *,
    worker: WorkerId | None,
    processor: Processor | None,
    scope: Any,
) -> Chunk:
    """Has one object made and kept in one place; see ``scopekit.mutable``.

    Raises:
        ScopeError: more than one place was given, or a scope that spans processes.
        NoProcessorError: there is no such place now.
        TypeError: what is to make it cannot be called.
    """
    if running_task.get() is not None:
        raise ScopeError(
            "a task cannot call mutable; it makes the object and returns"
            " tochunk(it, scope=ProcessScope())"
        )
    name = f"mutable {function_name(make)}"
    place = _place(session, name, worker, processor, scope)
    home = session.processors(place)[0]
    options = session.options(
        compute_scope=place, result_scope=place, idempotent=False, name=session.numbered(name)
    )
    task = options.spawn(_make_and_keep, make, processor is not None)
    session.add_handle(task.chunk_id)
    facts = {"scope": place, "processor": home, "type": "", "nbytes": 0, "state": "pending"}
    return Chunk(session, task.chunk_id, facts)


def _place(
    session: Session,
    name: str,
    worker: WorkerId | None,
    processor: Processor | None,
    scope: Any,
) -> Scope:
    options = {"worker=": worker, "processor=": processor, "scope=": scope}
    given = [key for key, value in options.items() if value is not None]
    if len(given) > 1:
        raise ScopeError(f"{' and '.join(given)} were given: one object has one place")
    if processor is not None:
        wanted: Scope = ExactScope(processor)
    elif worker is not None:
        wanted = ProcessScope(worker)
    else:
        wanted = DefaultScope() if scope is None else as_scope(scope)
    topology = session.topology
    processors = topology.select(topology.mask(wanted))
    if not processors:
        raise refusal(name, ((given[0] if given else "default", wanted),), topology)
    homes = list(dict.fromkeys(p.worker for p in processors))
    if scope is not None and len(homes) > 1:
        listed = ", ".join(map(str, homes))
        raise ScopeError(
            f"{wanted.describe()} spans the workers {listed}: a mutable object lives in one"
            f" process, and copies of it would go apart. Give worker={homes[0]!r}, or make one"
            " for each with shard(...)."
        )
    if given:
        return wanted if scope is None else wanted & ProcessScope(homes[0])
    return ProcessScope(session.least_busy(processors).worker)


def _make_and_keep(make: Callable[[], Any], exact: bool) -> Any:
    from scopekit.api import tochunk  # noqa: PLC0415  # runs in a task

    task = running_task.get()
    assert task is not None
    scope = ExactScope(task.processor) if exact else ProcessScope(task.worker)
    return tochunk(make(), scope=scope)
