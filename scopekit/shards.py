"""Shards: one of a thing for each place, made there; a task gets the one where it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.engine.context import running_task
from scopekit.engine.pieces import Recipe
from scopekit.errors import NoProcessorError, ScopeError
from scopekit.handles import Chunk
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    Processor,
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    ThreadProc,
    UnionScope,
    as_scope,
)
from scopekit.spawning import function_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scopekit.graph import WorkerId
    from scopekit.handles import Task
    from scopekit.places import Topology
    from scopekit.session import Session

__all__ = ("Shard", "make_shard")

_KINDS: dict[str, type[Processor]] = {"thread": ThreadProc, "gpu": CudaProc}
_PER = ("process", "thread", "node", "gpu")


class Shard(Chunk):
    """A handle to one thing for each place.

    Given to a task it restricts the task to these places, and the function gets the one of
    the place where it runs. A piece is made by the first task that needs it there, also on
    workers that join later; it is closed with its last handle, or with the session.
    """

    __slots__ = ("_base", "_per", "_session", "name")

    _base: Scope
    _per: str | type[Processor]
    _session: Session
    name: str

    @property
    def places(self) -> tuple[Scope, ...]:
        """Where there is a piece, or will be as soon as it is needed; one scope for each."""
        return tuple(_places(self._per, self._base, self._session.topology))

    @property
    def placement(self) -> Scope:
        """Where a task can run that takes the shard."""
        if self._per == "node":
            return _union(self.places)
        kind = _kind(self._per)
        return self._base if kind is None else self._base & ProcessorTypeScope(kind)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.pieces())

    def pieces(self) -> list[Chunk]:
        """Makes the pieces that are not made yet, in parallel.

        Returns:
            A handle to each piece, valid where the piece lives. Waits without a limit until
            all are made.

        Raises:
            BaseException: what making one of them raised.
        """
        tasks = self.map(_as_chunk)
        chunks: list[Chunk] = self._session.fetch(tasks, raw=True)
        return chunks

    def map(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Task]:
        """Calls a function on each piece, where it lives.

        Args:
            f: gets the piece first.
            args: further arguments, the same for all.
            kwargs: keyword arguments, likewise.

        Returns:
            A task for each piece, in the order of ``places``.

        Raises:
            NoProcessorError: there is no such place now.
        """
        places = self.places
        if not places:
            raise NoProcessorError(
                f"{self.name} has no place now: no processor lies in {self._base.describe()}"
            )
        session = self._session
        return [
            session.options(compute_scope=place, name=f"{self.name}: {function_name(f)}").spawn(
                f, self, *args, **kwargs
            )
            for place in places
        ]

    def reduce(self, op: Callable[[Any, Any], Any], f: Callable[[Any], Any]) -> Task:
        """Combines what a function gives on each piece, two at a time.

        Args:
            op: combines two results; the order is that of ``places``, so it need not be
                commutative.
            f: makes of a piece what may leave its place.

        Returns:
            The task whose result is the combination.
        """
        tasks = self.map(f)
        while len(tasks) > 1:
            pairs = zip(tasks[::2], tasks[1::2], strict=False)
            combined = [self._session.spawn(op, one, other) for one, other in pairs]
            tasks = combined + tasks[len(tasks) & ~1 :]
        return tasks[0]

    def __repr__(self) -> str:
        per = self._per if isinstance(self._per, str) else self._per.__name__
        return f"<Shard {self.name}: one per {per} on {self._base.describe()}>"


def make_shard(
    session: Session,
    make: Callable[[], Any],
    *,
    per: str | type[Processor],
    workers: Iterable[WorkerId] | None,
    scope: Any,
    close: Callable[[Any], object] | None,
    name: str | None,
) -> Shard:
    """Makes a shard; see ``scopekit.shard``.

    Raises:
        ScopeError: ``per``, ``workers`` or ``scope`` makes no sense, or both of the latter
            were given.
        TypeError: what is to make the pieces cannot be called.
    """
    if running_task.get() is not None:
        raise ScopeError("a task cannot make a shard; make it in the notebook and pass it")
    called = function_name(make)
    if per not in _PER and _kind(per) is None:
        known = ", ".join(map(repr, _PER))
        raise ScopeError(f"per={per!r} is none of {known}, nor a processor type")
    shard_name = name or f"shard of {called}"
    by_processor = _kind(per) is not None
    recipe = Recipe(shard_name, make, by_processor, close)
    base = _base(session, per, workers, scope)
    chunk = session.tochunk(recipe)
    session.add_handle(chunk.id)
    shard = Shard(session, chunk.id, {**session.chunk_facts(chunk.id), "state": "released"})
    shard._session, shard._per, shard._base, shard.name = session, per, base, shard_name
    return shard


def _base(
    session: Session, per: str | type[Processor], workers: Iterable[WorkerId] | None, scope: Any
) -> Scope:
    if workers is not None and scope is not None:
        raise ScopeError("give workers= or scope=, not both")
    if scope is not None:
        return as_scope(scope)
    if workers is None:
        return DefaultScope() if _kind(per) in (None, ThreadProc) else AnyScope()
    named = list(workers)
    known = session.workers
    if not named:
        raise ScopeError("workers=[] leaves no place for a piece")
    for worker in named:
        if session.topology.process(worker) is None:
            listed = ", ".join(map(str, known)) or "none"
            raise ScopeError(f"workers: there is no worker {worker!r}; the workers are {listed}")
    return _union(ProcessScope(worker) for worker in named)


def _union(scopes: Iterable[Scope]) -> Scope:
    return UnionScope(tuple(scopes))


def _kind(per: str | type[Processor]) -> type[Processor] | None:
    if isinstance(per, str):
        return _KINDS.get(per)
    return per if isinstance(per, type) and issubclass(per, Processor) else None


def _places(per: str | type[Processor], base: Scope, topology: Topology) -> Iterator[Scope]:
    kind = _kind(per)
    if kind is not None:
        mask = topology.mask(base & ProcessorTypeScope(kind))
        yield from (ExactScope(processor) for processor in topology.select(mask))
        return
    nodes: dict[str | None, None] = {}
    for process in topology.processes:
        here = base & ProcessScope(process.worker)
        if not topology.mask(here):
            continue
        if per == "node" and process.node in nodes:
            continue
        nodes[process.node] = None
        yield here


def _as_chunk(piece: Any) -> Any:
    """Makes a chunk of a piece, valid where the piece is."""
    from scopekit.api import tochunk  # noqa: PLC0415  # runs in a task

    task = running_task.get()
    assert task is not None
    by_processor = task.agent.pieces.share(piece)
    scope = ExactScope(task.processor) if by_processor else ProcessScope(task.worker)
    return tochunk(piece, scope=scope)
