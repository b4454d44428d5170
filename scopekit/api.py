"""What users call: the functions that act on the current session."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

from scopekit.blocks import spawn_bulk, spawn_sequential
from scopekit.engine.context import RunningTask, running_task
from scopekit.errors import ScopeError, ScopekitError
from scopekit.gather import wait_for
from scopekit.handles import Chunk, Task
from scopekit.inside import Inside, inside
from scopekit.options import Options
from scopekit.scopes import AnyScope, ambient, as_scope
from scopekit.session import Session, innermost_session
from scopekit.spawning import OptionSet
from scopekit.wire.codec import read_handles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scopekit.explanation import Explanation
    from scopekit.graph import WorkerId
    from scopekit.mapping import Mapped
    from scopekit.scopes import Processor, Scope

__all__ = (
    "as_completed",
    "compatible_processors",
    "connect",
    "current_task",
    "explain",
    "fetch",
    "isready",
    "map",
    "myid",
    "num_processors",
    "options",
    "plan",
    "satisfiable",
    "spawn",
    "spawn_bulk",
    "spawn_sequential",
    "start",
    "task_processor",
    "tochunk",
    "wait",
)


# -- sessions ---------------------------------------------------------------------------


def start(
    n: int | None = None,
    *,
    threads: int = 1,
    nodes: Mapping[str, int] | None = None,
    engines: str | None = None,
    timeout: float = 60,
    wire: str | None = None,
    **cluster_options: Any,
) -> Session:
    """Starts engines and makes them the current session.

    Args:
        n: how many engines; one for each core if None. 0 runs everything here, one
            call after another, so that a debugger works.
        threads: how many threads of each engine run tasks, its main thread among them.
        nodes: pretend nodes on this machine, name to number of engines.
        engines: which of ipyparallel's launchers starts them: "slurm", "ssh", "mpi", ...
        timeout: seconds until all must be ready.
        wire: how to speak with the engines: "direct" over sockets of our own, "views" over
            ipyparallel's; None for the first where engines can dial this process.
        cluster_options: what ipyparallel.Cluster takes besides.

    Returns:
        The session; closing it ends the engines.

    Raises:
        ScopeError: an argument makes no sense.
        ScopekitError: the engines did not come up.

    Example:
        >>> with start(0) as session:
        ...     fetch(spawn(sum, [1, 2]))
        3
    """
    _refuse_session_in_task()
    _check_count("threads", threads)
    _check_wire(wire)
    if n == 0 and n is not False:
        if nodes or engines or cluster_options:
            raise ScopeError("start(0) runs everything here; it takes no nodes and no engines")
        return Session(None, threads=threads)
    from scopekit.wire.cluster import launch  # noqa: PLC0415  # loads ipyparallel

    if n is None and nodes is None:
        n = _cores()
    link = launch(n, nodes=nodes, engines=engines, timeout=timeout, **cluster_options)
    return _open(link, threads, wire)


def connect(
    target: Any = None, *, threads: int = 1, wire: str | None = None, **options: Any
) -> Session:
    """Makes engines that run already the current session.

    Args:
        target: an ipyparallel Client or Cluster, a profile, a cluster id or the path
            of a connection file; None for the default profile.
        threads: how many threads of each engine run tasks, its main thread among them.
        wire: "direct" or "views", as for ``start``.
        options: what ipyparallel.Client takes besides.

    Returns:
        The session; closing it leaves the engines as they were found.

    Raises:
        ScopekitError: nothing answers there, or an engine cannot be used.
    """
    from scopekit.wire.cluster import attach  # noqa: PLC0415  # loads ipyparallel

    _refuse_session_in_task()
    _check_count("threads", threads)
    _check_wire(wire)
    return _open(attach(target, **options), threads, wire)


def _open(link: Any, threads: int, wire: str | None) -> Session:
    try:
        return Session(link, threads=threads, wire=wire)
    except BaseException:
        link.close()
        raise


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ScopeError(f"{name}={value!r} is no number of {name}; give 1 or more")


def _check_wire(wire: Any) -> None:
    if wire not in (None, "direct", "views"):
        raise ScopeError(f'wire={wire!r} is unknown; give "direct" or "views", or leave it out')


def _cores() -> int:
    import os  # noqa: PLC0415

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session() -> Session | Inside:
    """Returns what spawns here: the task's process, or the current session, or a new one."""
    return inside() or innermost_session() or start()


def _refuse_session_in_task() -> None:
    task = running_task.get()
    if task is not None:
        raise ScopekitError(
            f"task {task.name} cannot start a session of its own: it runs in one. Start sessions"
            " in the notebook."
        )


# -- tasks --------------------------------------------------------------------------------


def spawn(
    f: Any,
    /,
    *args: Any,
    scope: Any = None,
    compute_scope: Any = None,
    result_scope: Any = None,
    **kwargs: Any,
) -> Task:
    """Makes a task of a call; see :meth:`scopekit.Session.spawn`."""
    return _session().spawn(
        f, *args, scope=scope, compute_scope=compute_scope, result_scope=result_scope, **kwargs
    )


def options(**options: Any) -> OptionSet:
    """Gives options to the spawn that follows: ``options(name="fit").spawn(f, x)``.

    Args:
        options: scope, compute_scope, result_scope, single, name, wait_for, idempotent,
            retries, checkpoint, restore.

    Raises:
        ScopeError: an option is unknown or makes no sense.
    """
    return OptionSet(_session, Options.checked(options, "options"))


def map(  # noqa: A001  # what it is called everywhere
    f: Any,
    /,
    *iterables: Iterable[Any],
    chunksize: int | None = None,
    batch: int | None = None,
    buffersize: int | None = None,
    progress: bool | str = False,
    **options: Any,
) -> Mapped:
    """Maps a function over iterables, in tasks; see :meth:`scopekit.Session.map`."""
    return _session().map(
        f,
        *iterables,
        chunksize=chunksize,
        batch=batch,
        buffersize=buffersize,
        progress=progress,
        **options,
    )


def plan(f: Any, /, *args: Any, **kwargs: Any) -> Explanation:
    """Tells where ``spawn`` with the same arguments would run, without running it."""
    session = _session()
    if isinstance(session, Inside):
        raise ScopekitError("a task cannot plan; call plan() in the notebook")
    return session.plan(f, *args, **kwargs)


def fetch(x: Any, raw: bool = False, timeout: float | None = None) -> Any:
    """Brings values here; see :meth:`scopekit.Session.fetch`."""
    task = running_task.get()
    if task is not None and isinstance(x, Chunk):
        return x.fetch(timeout)
    handle = next(iter(read_handles(x)), None)
    if handle is None:
        return x
    session: Session | Inside = handle._session if isinstance(handle, Task) else handle._home  # type: ignore[assignment]
    return session.fetch(x, raw=raw, timeout=timeout)


def wait(x: Any, timeout: float | None = None) -> Any:
    """Waits until every task in ``x`` has ended, in whatever way.

    Args:
        x: a task, or lists, tuples, dicts and sets of them.
        timeout: seconds to wait at most for all; None waits without a limit.

    Returns:
        ``x``.

    Raises:
        TimeoutError: not all had ended in time.
    """
    wait_for(x, timeout)
    return x


def as_completed(tasks: Iterable[Task], timeout: float | None = None) -> Iterator[Task]:
    """Yields tasks in the order in which they end.

    Raises:
        TimeoutError: not all had ended in time.
    """
    here = inside()
    if here is not None:
        return here.as_completed(tasks, timeout)
    return concurrent.futures.as_completed(tasks, timeout)  # type: ignore[return-value]


def isready(task: Task) -> bool:
    """Tells whether a task has ended, in whatever way."""
    return task.done()


def explain(task: Task) -> Explanation:
    """Tells why a task runs where it runs, or why it does not."""
    return task.explain()


def satisfiable(scope: Any) -> bool:
    """Tells whether a processor of the scope exists now."""
    return _session().satisfiable(scope)


# -- chunks ---------------------------------------------------------------------------------


def tochunk(value: Any, processor: Processor | None = None, scope: Any = None) -> Chunk:
    """Makes a chunk of a value; in a task, one that lives where the task runs.

    Args:
        value: the value.
        processor: its home; must lie in the scope.
        scope: where it is valid; anywhere if None.

    Returns:
        The handle. A task that returns it gives its result the chunk's scope.

    Raises:
        ScopeError: the home lies outside the scope.
    """
    task = running_task.get()
    if task is None:
        return (innermost_session() or start()).tochunk(value, processor, scope)
    where: Scope = as_scope(scope) if scope is not None else AnyScope()
    chunk: Chunk = task.agent.new_chunk(value, processor, where)
    return chunk


# -- places ---------------------------------------------------------------------------------


def current_task() -> RunningTask | None:
    """Returns the task that the current code runs in, None outside of tasks."""
    return running_task.get()


def task_processor() -> Processor:
    """Returns the processor that runs the current task.

    Raises:
        ScopekitError: no task runs here.
    """
    task = running_task.get()
    if task is None:
        raise ScopekitError("task_processor() tells where a task runs, and no task runs here")
    return task.processor


def myid() -> WorkerId:
    """Returns the id of this process: an engine's id, or ``"client"``."""
    task = running_task.get()
    if task is not None:
        return task.worker
    surroundings = ambient.current()
    return "client" if surroundings is None else surroundings.here


def compatible_processors(scope: Any = None) -> tuple[Processor, ...]:
    """Returns the processors of a scope.

    Args:
        scope: the scope; where a task spawned here would run if None.
    """
    return _session().processors(scope)


def num_processors(scope: Any = None, all: bool = False) -> int:  # noqa: A002
    """Counts the processors of a scope.

    Args:
        scope: the scope; where a task spawned here would run if None.
        all: True counts every processor there is.
    """
    return _session().num_processors(scope, all)
