"""Runs a function in every process of a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.errors import NoProcessorError
from scopekit.options import Options, perimeter_scope
from scopekit.scheduler.placement import allowed_mask, refusal
from scopekit.scopes import ProcessorTypeScope, ProcessScope, Scope, ThreadProc
from scopekit.spawning import function_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.graph import WorkerId
    from scopekit.places import Topology
    from scopekit.session import Session

__all__ = ("run_everywhere",)


def run_everywhere(
    session: Session, f: Callable[..., Any], args: tuple[Any, ...], scope: Scope | None
) -> dict[WorkerId, Any]:
    """Calls a function once in every process; see :meth:`scopekit.Session.run`."""
    topology = session.topology
    workers = list(topology.workers)
    if scope is not None:
        everybody = dict.fromkeys([*workers, *(process.worker for process in topology.processes)])
        allowed = topology.mask(scope)
        workers = [worker for worker in everybody if allowed & topology.worker_mask(worker)]
        if not workers:
            raise NoProcessorError(f"no process lies in {scope.describe()}")
    places = {worker: _place(worker, scope, topology) for worker in workers}
    for worker, place in places.items():
        # Before it runs anywhere.
        operands = (("scope=", place), ("perimeter", perimeter_scope()))
        if not allowed_mask(operands, topology):
            raise refusal(f"{function_name(f)} on worker {worker}", operands, topology)
    tasks = {
        worker: session.submit(Options(scope=place), f, args, {}, apart=True)
        for worker, place in places.items()
    }
    values: dict[WorkerId, Any] = session.fetch(tasks)
    return values


def _place(worker: WorkerId, scope: Scope | None, topology: Topology) -> Scope:
    """Returns where in a process to run: on a thread, unless the scope has none there."""
    # With its node: another session may be the current one, where the worker is elsewhere.
    within: Scope = ProcessScope(worker, node=topology.node_of(worker))
    if scope is not None:
        within &= scope
    threads = ProcessorTypeScope(ThreadProc, within)
    return threads if topology.mask(threads) else within
