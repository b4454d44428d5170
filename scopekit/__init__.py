"""Scopes for Python: say where a value is valid, and the work goes to it."""

from typing import TYPE_CHECKING, Any

from scopekit.api import (
    as_completed,
    cancelled,
    compatible_processors,
    connect,
    current_task,
    explain,
    fetch,
    isready,
    map,  # noqa: A004  # what it is called everywhere
    mutable,
    myid,
    num_processors,
    options,
    plan,
    processor_type,
    rescope,
    satisfiable,
    shard,
    spawn,
    spawn_bulk,
    spawn_sequential,
    start,
    task_processor,
    tochunk,
    wait,
)
from scopekit.engine.filestore import FileStore
from scopekit.errors import (
    ChunkLostError,
    NoProcessorError,
    ProtocolError,
    RemoteError,
    SchedulingError,
    ScopeConflictError,
    ScopeError,
    ScopekitError,
    ScopeViolationError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)
from scopekit.explanation import Explanation
from scopekit.handles import Chunk, Task
from scopekit.opensessions import current_session
from scopekit.options import default_options, get_options, perimeter, prefer, with_options
from scopekit.pinning.decorator import pins
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    OSProc,
    Processor,
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    TaintScope,
    ThreadProc,
    UnionScope,
    constrain,
    scope,
    scope_key,
    sealed,
)
from scopekit.session import Session
from scopekit.shards import Shard

if TYPE_CHECKING:
    from scopekit.plots import plot_dag, plot_timeline

__version__ = "0.1.0.dev0"

__all__ = (
    "AnyScope",
    "Chunk",
    "ChunkLostError",
    "CudaProc",
    "DefaultScope",
    "ExactScope",
    "Explanation",
    "FileStore",
    "InvalidScope",
    "LabelScope",
    "NoProcessorError",
    "NodeScope",
    "OSProc",
    "ProcessScope",
    "Processor",
    "ProcessorTypeScope",
    "ProtocolError",
    "RemoteError",
    "SchedulingError",
    "Scope",
    "ScopeConflictError",
    "ScopeError",
    "ScopeViolationError",
    "ScopekitError",
    "Session",
    "Shard",
    "TaintScope",
    "Task",
    "TaskCancelledError",
    "TaskTimeoutError",
    "ThreadProc",
    "UnionScope",
    "WorkerLostError",
    "as_completed",
    "cancelled",
    "compatible_processors",
    "connect",
    "constrain",
    "current_session",
    "current_task",
    "default_options",
    "explain",
    "fetch",
    "get_options",
    "isready",
    "load_ipython_extension",
    "map",
    "mutable",
    "myid",
    "num_processors",
    "options",
    "perimeter",
    "pins",
    "plan",
    "plot_dag",
    "plot_timeline",
    "prefer",
    "processor_type",
    "rescope",
    "satisfiable",
    "scope",
    "scope_key",
    "sealed",
    "shard",
    "spawn",
    "spawn_bulk",
    "spawn_sequential",
    "start",
    "task_processor",
    "tochunk",
    "unload_ipython_extension",
    "wait",
    "with_options",
)


def __getattr__(name: str) -> Any:
    # Whoever never draws does not wait for what drawing needs.
    if name in ("plot_dag", "plot_timeline"):
        from scopekit import plots  # noqa: PLC0415

        return getattr(plots, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: object) -> None:
    """Adds the magics to a notebook: ``%load_ext scopekit``."""
    from scopekit.notebook.magics import register  # noqa: PLC0415  # loads IPython

    register(shell)


def unload_ipython_extension(shell: object) -> None:
    """Takes the magics out again: ``%unload_ext scopekit``."""
    from scopekit.notebook.magics import unregister  # noqa: PLC0415  # loads IPython

    unregister(shell)
