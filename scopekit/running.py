"""Runs a function in every process of a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.errors import NoProcessorError
from scopekit.options import Options, perimeter_scope
from scopekit.scopes import ProcessorTypeScope, ProcessScope, Scope, ThreadProc

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
    fence = perimeter_scope()
    allowed = topology.mask(fence if scope is None else scope & fence)
    everybody = dict.fromkeys(topology.workers)
    if scope is not None:
        everybody |= dict.fromkeys(process.worker for process in topology.processes)
    workers = [worker for worker in everybody if allowed & topology.worker_mask(worker)]
    if scope is not None and not workers:
        raise NoProcessorError(f"no process lies in {(scope & fence).describe()}")
    tasks = {
        worker: session.submit(
            Options(scope=_place(worker, scope, topology)), f, args, {}, apart=True
        )
        for worker in workers
    }
    values: dict[WorkerId, Any] = session.fetch(tasks)
    return values


def _place(worker: WorkerId, scope: Scope | None, topology: Topology) -> Scope:
    """Returns where in a process to run: on a thread, unless the scope has none there."""
    within = ProcessScope(worker) if scope is None else ProcessScope(worker) & scope
    threads = ProcessorTypeScope(ThreadProc, within)
    return threads if topology.mask(threads) else within
