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
from scopekit.labels import read_labels
from scopekit.opensessions import current_session, innermost_session, open_sessions
from scopekit.options import Options
from scopekit.scopes import ambient, as_scope
from scopekit.scopes import processor_type as register_type
from scopekit.session import Session
from scopekit.spawning import OptionSet
from scopekit.wire.codec import read_handles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from scopekit.explanation import Explanation
    from scopekit.graph import WorkerId
    from scopekit.mapping import Mapped
    from scopekit.scopes import Processor, Scope
    from scopekit.shards import Shard

__all__ = (
    "as_completed",
    "cancelled",
    "compatible_processors",
    "connect",
    "current_task",
    "explain",
    "fetch",
    "isready",
    "map",
    "mutable",
    "myid",
    "num_processors",
    "options",
    "plan",
    "processor_type",
    "rescope",
    "satisfiable",
    "shard",
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
    labels: Mapping[Any, Any] | None = None,
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
        labels: a label, or several, for each worker or node: ``{0: "camera", "a": ["gpu"]}``.
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
    _check_labels(labels, nodes)
    if n == 0 and n is not False:
        if nodes or engines or cluster_options:
            raise ScopeError("start(0) runs everything here; it takes no nodes and no engines")
        return Session(None, threads=threads, labels=labels)
    from scopekit.wire.cluster import launch  # noqa: PLC0415  # loads ipyparallel

    if n is None and nodes is None:
        n = _cores()
    link = launch(n, nodes=nodes, engines=engines, timeout=timeout, **cluster_options)
    return _open(link, threads, wire, labels)


def connect(
    target: Any = None,
    *,
    threads: int = 1,
    wire: str | None = None,
    labels: Mapping[Any, Any] | None = None,
    **options: Any,
) -> Session:
    """Makes engines that run already the current session.

    Args:
        target: an ipyparallel Client or Cluster, a profile, a cluster id or the path
            of a connection file; None for the default profile.
        threads: how many threads of each engine run tasks, its main thread among them.
        wire: "direct" or "views", as for ``start``.
        labels: a label, or several, for each worker or node, as for ``start``.
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
    _check_labels(labels, None)
    return _open(attach(target, **options), threads, wire, labels)


def _open(link: Any, threads: int, wire: str | None, labels: Mapping[Any, Any] | None) -> Session:
    try:
        return Session(link, threads=threads, wire=wire, labels=labels)
    except BaseException:
        link.close()
        raise


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ScopeError(f"{name}={value!r} is no number of {name}; give 1 or more")


def _check_wire(wire: Any) -> None:
    if wire not in (None, "direct", "views"):
        raise ScopeError(f'wire={wire!r} is unknown; give "direct" or "views", or leave it out')


def _check_labels(labels: Any, nodes: Mapping[str, int] | None) -> None:
    """Refuses labels that make no sense before anything is started."""
    for kind, name in read_labels(labels):
        if kind == "node" and nodes is not None and name not in nodes:
            raise ScopeError(
                f"labels={labels!r}: there will be no node {name!r}; the nodes are"
                f" {', '.join(map(repr, nodes))}"
            )


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
            retries, timeout, outputs, prefer, priority, meta, get_result, propagates,
            checkpoint, restore.

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


def tochunk(
    value: Any,
    processor: Processor | None = None,
    scope: Any = None,
    *,
    sealed: bool = False,
) -> Chunk:
    """Makes a chunk of a value; in a task, one that lives where the task runs.

    Args:
        value: the value.
        processor: its home; must lie in the scope.
        scope: where it is valid; where its type says if None, anywhere as a rule.
        sealed: True to have what is computed from it be valid no further: see ``sealed``.

    Returns:
        The handle. A task that returns it gives its result the chunk's scope.

    Raises:
        ScopeError: the home lies outside the scope.
    """
    task = running_task.get()
    if task is None:
        return (innermost_session() or start()).tochunk(value, processor, scope, sealed=sealed)
    where: Scope | None = as_scope(scope) if scope is not None else None
    chunk: Chunk = task.agent.chunks.new_chunk(value, processor, where, sealed=sealed)
    return chunk


def mutable(
    make: Callable[[], Any],
    *,
    worker: WorkerId | None = None,
    processor: Processor | None = None,
    scope: Any = None,
) -> Chunk:
    """Has one object made and kept in one place: what tasks do to it stays done.

    It is made by a task of its own, at once; tasks that take it run where it lives, and
    it is never copied. With its process it is lost, and is not made again.

    Args:
        make: makes it, there.
        worker: the process that is to have it.
        processor: the one processor that is to have it.
        scope: a scope that lies in one process. Without any of the three it comes to the
            process with the least to do.

    Returns:
        The handle. What ``make`` raises is raised by what takes the handle.

    Raises:
        ScopeError: more than one place was given, or a scope that spans processes.
        NoProcessorError: there is no such place now.
        TypeError: ``make`` cannot be called.
    """
    session = innermost_session() or start()
    return session.mutable(make, worker=worker, processor=processor, scope=scope)


def shard(
    make: Callable[[], Any],
    *,
    per: Any = "process",
    workers: Iterable[WorkerId] | None = None,
    scope: Any = None,
    close: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Shard:
    """Has one thing made for each place; a task that takes the shard gets the local one.

    Args:
        make: makes a piece, where it is first needed.
        per: ``"process"``, ``"thread"``, ``"node"``, ``"gpu"`` or a processor type. A piece
            for a node lives in one process of it, and tasks on it run there.
        workers: the processes that have pieces; every engine if None.
        scope: the same, as a scope; workers that join later count as they do in any scope.
        close: ends a piece, with the last handle or with the session; None to call its
            ``close`` where it has one.
        name: what messages call it.

    Returns:
        The handle, to be given to tasks: see :class:`scopekit.Shard`.

    Raises:
        ScopeError: ``per``, ``workers`` or ``scope`` makes no sense.
        TypeError: ``make`` cannot be called.
    """
    session = innermost_session() or start()
    return session.shard(make, per=per, workers=workers, scope=scope, close=close, name=name)


def rescope(x: Task | Chunk, scope: Any, declassify: bool = False) -> Chunk:
    """Changes where a chunk is valid: see :meth:`scopekit.Session.rescope`.

    In a task it takes a chunk that the task's process holds, and gives a handle that knows
    of the new scope.

    Args:
        x: the chunk, or the task whose result it is.
        scope: where it is valid from now on.
        declassify: True if that may be in more places than before, which is recorded.

    Raises:
        ScopeError: it would be valid nowhere, or in more places although nobody said so.
    """
    task = running_task.get()
    if task is None:
        return current_session().rescope(x, scope, declassify)
    if not isinstance(x, Chunk):
        raise TypeError("in a task, rescope takes a chunk; fetch the other task, or return it")
    chunk: Chunk = task.agent.chunks.rescope(x, as_scope(scope), declassify=declassify)
    return chunk


# -- places ---------------------------------------------------------------------------------


def current_task() -> RunningTask | None:
    """Returns the task that the current code runs in, None outside of tasks."""
    return running_task.get()


def cancelled() -> bool:
    """Tells whether the task that the current code runs in was asked to stop.

    A task that takes long and runs on another thread than an engine's main one asks from time
    to time, and returns then: what it returns is dropped.

    Returns:
        True if it was cancelled, or took longer than its ``timeout=`` allows; False
        otherwise, and outside of tasks.

    Example:
        >>> cancelled()
        False
    """
    task = running_task.get()
    return task is not None and task.id in task.agent.stops.marks


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


def processor_type(
    name: str, *, default_enabled: bool = False, probe: Callable[[], int] | None = None
) -> type[Processor]:
    """Registers a processor kind of your own.

    The engines of sessions that are open count their processors of that kind at once, those
    that join later when they join.

    Args:
        name: the word for it, a Python identifier such as ``"camera"``.
        default_enabled: whether DefaultScope holds processors of this kind.
        probe: called in each engine, says how many of them it has.

    Returns:
        The kind's class; it makes a processor from a worker and an index.

    Raises:
        ScopeError: the name is no identifier, or belongs to a built-in kind.
        ScopekitError: a session is open, and the probe does not pickle.

    Example:
        >>> Camera = processor_type("camera")
        >>> Camera(0, 1)
        processor_type('camera')(0, 1)
    """
    made = register_type(name, default_enabled=default_enabled, probe=probe)
    if probe is not None and running_task.get() is None:
        for session in open_sessions():
            session.add_kind(made.kind, probe)
    return made


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
