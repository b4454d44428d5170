"""An immutable snapshot of nodes, processes and processors, with scopes as bits over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from scopekit.errors import ScopeError
from scopekit.scopes.form import (
    DEFAULT,
    INDEX,
    KIND,
    NODE,
    SEALED,
    WORKER,
    Form,
    Value,
    Variable,
    decide,
    is_label,
    label_variable,
)
from scopekit.scopes.processors import CLIENT, OSProc, Processor, ThreadProc, Worker, check_worker
from scopekit.scopes.scope import own_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scopekit.scopes.scope import Scope

__all__ = ("Node", "Process", "Topology")


@dataclass(frozen=True, slots=True)
class Node:
    """A machine.

    Attributes:
        name: what users call it.
        id: what tells it from every other machine.
    """

    name: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs tasks, in one life of it.

    Attributes:
        worker: its engine id, or ``"client"``.
        node: the name of its node.
        processors: what it has to run tasks on.
        labels: the labels that it carries, sorted.
        pid: its process id on the node; 0 where nobody asked.
        incarnation: what tells this life of it from every other.
    """

    worker: Worker
    node: str
    processors: tuple[Processor, ...] = ()
    labels: tuple[str, ...] = ()
    pid: int = 0
    incarnation: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "worker", check_worker(self.worker))
        object.__setattr__(self, "processors", tuple(self.processors))
        object.__setattr__(self, "labels", tuple(sorted(dict.fromkeys(self.labels))))
        strangers = [p for p in self.processors if p.worker != self.worker]
        if strangers:
            msg = f"{strangers[0]!r} cannot be a processor of worker {self.worker!r}"
            raise ScopeError(msg)
        if len(dict.fromkeys(self.processors)) != len(self.processors):
            msg = f"a processor of worker {self.worker!r} is listed twice: {self.processors!r}"
            raise ScopeError(msg)

    @classmethod
    def with_threads(
        cls, worker: Worker, node: str, threads: int = 1, labels: Iterable[str] = ()
    ) -> Process:
        """Return a process that has threads alone.

        Args:
            worker: its engine id, or ``"client"``.
            node: the name of its node.
            threads: how many.
            labels: the labels that it carries.

        Returns:
            The process.

        Example:
            >>> Process.with_threads(0, "a", 2).processors
            (ThreadProc(0, 0), ThreadProc(0, 1))
        """
        processors = tuple(ThreadProc(worker, thread) for thread in range(threads))
        return cls(worker, node, processors, tuple(labels))


_CACHED: Final = 65_536
"""How many compiled scopes a topology remembers."""


class Topology:
    """The processors that there are, each with a bit.

    A scope is compiled once into the mask of its processors; to intersect
    scopes then costs a look-up and an ``&`` for each. A change makes another
    topology, with bits of its own.

    Args:
        processes: the live processes, in order; the client is one of them.
        departed: the workers that once were.
        version: counts the changes.

    Raises:
        ScopeError: a worker is listed twice.

    Example:
        >>> from scopekit.scopes import ProcessScope
        >>> topology = Topology([Process.with_threads(0, "a"), Process.with_threads(1, "b", 2)])
        >>> topology.select(topology.mask(ProcessScope(1)))
        (ThreadProc(1, 0), ThreadProc(1, 1))
    """

    __slots__ = (
        "_bits",
        "_by_worker",
        "_compiled",
        "_index",
        "departed",
        "everything",
        "processes",
        "processors",
        "version",
    )

    processes: tuple[Process, ...]
    departed: tuple[Worker, ...]
    version: int
    processors: tuple[Processor, ...]
    everything: int

    def __init__(
        self, processes: Iterable[Process] = (), departed: Iterable[Worker] = (), version: int = 0
    ) -> None:
        self.processes = tuple(processes)
        self.departed = tuple(departed)
        self.version = version
        self._by_worker = {process.worker: process for process in self.processes}
        if len(self._by_worker) != len(self.processes):
            msg = f"a worker is listed twice: {[p.worker for p in self.processes]!r}"
            raise ScopeError(msg)
        self.processors = tuple(p for process in self.processes for p in process.processors)
        self._bits = {processor: bit for bit, processor in enumerate(self.processors)}
        self.everything = (1 << len(self.processors)) - 1
        self._index = _index(self.processes)
        self._compiled: dict[Scope, int] = {}

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The live engines, in order, without the client."""
        return tuple(worker for worker in self._by_worker if worker != CLIENT)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes, in the order of their first process."""
        return tuple(dict.fromkeys(process.node for process in self.processes))

    def process(self, worker: Worker) -> Process | None:
        """Return a worker's process.

        Args:
            worker: a worker id.

        Returns:
            The process, or None where no such process lives.

        Example:
            >>> Topology().process(0) is None
            True
        """
        return self._by_worker.get(worker)

    def node_of(self, worker: Worker) -> str | None:
        """Return the name of a worker's node.

        Args:
            worker: a worker id.

        Returns:
            The name, or None where no such process lives.

        Example:
            >>> Topology([Process.with_threads(0, "a")]).node_of(0)
            'a'
        """
        process = self._by_worker.get(worker)
        return None if process is None else process.node

    def describe_place(self, worker: Worker, processor: Processor | None = None) -> str:
        """Return in words where something is: its node, with its worker or its processor.

        Args:
            worker: a worker id.
            processor: the processor of it that is meant, if one is.

        Example:
            >>> Topology([Process.with_threads(0, "a")]).describe_place(0)
            'node a, worker 0'
        """
        node = self.node_of(worker)
        where = f"worker {worker}" if processor is None else processor.describe()
        return f"node {node}, {where}" if node else where

    def labels_of(self, worker: Worker) -> tuple[str, ...] | None:
        """Return a worker's labels.

        Args:
            worker: a worker id.

        Returns:
            The labels, sorted, or None where no such process lives.

        Example:
            >>> Topology([Process.with_threads(0, "a", labels=["camera"])]).labels_of(0)
            ('camera',)
        """
        process = self._by_worker.get(worker)
        return None if process is None else process.labels

    def knows(self, worker: Worker) -> bool:
        """Return whether the worker lives or once lived here.

        Args:
            worker: a worker id.

        Returns:
            Whether it was ever seen.

        Example:
            >>> Topology(departed=[0]).knows(0)
            True
        """
        return worker in self._by_worker or worker in self.departed

    def mask(self, scope: Scope) -> int:
        """Return the processors in a scope, as bits.

        Args:
            scope: any scope.

        Returns:
            A number with bit i set if processor i is in the scope.

        Example:
            >>> from scopekit.scopes import AnyScope
            >>> Topology([Process.with_threads(0, "a", 2)]).mask(AnyScope())
            3
        """
        try:
            return self._compiled[scope]
        except KeyError:
            pass
        if len(self._compiled) >= _CACHED:
            self._compiled.clear()
        found = self._compiled[scope] = self._compile(scope._form, self.everything)
        return found

    def _compile(self, form: Form, within: int) -> int:
        if isinstance(form, bool):
            return within if form else 0
        if not within:
            return 0
        index = self._index.get(form.variable, {})
        rest = within
        found = 0
        for value, case in form.cases:
            bits = index.get(value, 0) & within
            if bits:
                rest &= ~bits
                found |= self._compile(case, bits)
        return found | self._compile(form.other, rest)

    def select(self, mask: int) -> tuple[Processor, ...]:
        """Return the processors whose bits are set.

        Args:
            mask: bits, as `mask` gives them.

        Returns:
            The processors, in the topology's order.

        Example:
            >>> Topology([Process.with_threads(0, "a", 2)]).select(2)
            (ThreadProc(0, 1),)
        """
        bits = reversed(f"{mask:b}")
        return tuple(
            processor for processor, bit in zip(self.processors, bits, strict=False) if bit == "1"
        )

    def bit(self, processor: Processor) -> int | None:
        """Return the number of a processor's bit.

        Args:
            processor: a processor.

        Returns:
            Its place in `processors`, or None where it does not exist.

        Example:
            >>> Topology([Process.with_threads(0, "a", 2)]).bit(ThreadProc(0, 1))
            1
        """
        return self._bits.get(processor)

    def worker_mask(self, worker: Worker) -> int:
        """Return a worker's processors, as bits.

        Args:
            worker: a worker id.

        Returns:
            The mask; 0 where no such process lives.

        Example:
            >>> Topology([Process.with_threads(0, "a", 2)]).worker_mask(0)
            3
        """
        return self._index[WORKER].get(worker, 0)

    def contains(self, scope: Scope, processor: Processor) -> bool:
        """Return whether a processor of a live process is in a scope.

        Args:
            scope: any scope.
            processor: a processor; it need not be one that runs tasks.

        Returns:
            Whether it is; False where its process does not live.

        Example:
            >>> from scopekit.scopes import NodeScope
            >>> Topology([Process.with_threads(0, "a")]).contains(NodeScope("a"), OSProc(0))
            True
        """
        process = self._by_worker.get(processor.worker)
        if process is None:
            return False

        def look_up(variable: Variable) -> object:
            if variable == NODE:
                return process.node
            if is_label(variable):
                return variable[1] in process.labels
            return own_value(processor, variable)

        return decide(scope._form, look_up) is True

    def admits(self, scope: Scope, worker: Worker) -> bool:
        """Return whether a process may hold what a scope is on.

        Args:
            scope: any scope.
            worker: a worker id.

        Returns:
            Whether any processor of the process, or the process as a place, is
            in the scope.

        Example:
            >>> from scopekit.scopes import ProcessScope
            >>> topology = Topology([Process.with_threads(0, "a"), Process.with_threads(1, "a")])
            >>> topology.admits(ProcessScope(0), 0), topology.admits(ProcessScope(0), 1)
            (True, False)
        """
        if self.mask(scope) & self.worker_mask(worker):
            return True
        return worker in self._by_worker and self.contains(scope, OSProc(worker))

    def with_process(self, process: Process) -> Topology:
        """Return the topology with a process added, or replaced in its place.

        Args:
            process: the process.

        Returns:
            The next topology.

        Example:
            >>> Topology().with_process(Process.with_threads(0, "a")).workers
            (0,)
        """
        by_worker = {**self._by_worker, process.worker: process}
        departed = tuple(worker for worker in self.departed if worker != process.worker)
        return Topology(by_worker.values(), departed, self.version + 1)

    def without(self, worker: Worker) -> Topology:
        """Return the topology with a process gone.

        Args:
            worker: a worker id.

        Returns:
            The next topology, which remembers the worker; this one where no
            such process lives.

        Example:
            >>> Topology([Process.with_threads(0, "a")]).without(0).departed
            (0,)
        """
        if worker not in self._by_worker:
            return self
        left = [process for process in self.processes if process.worker != worker]
        return Topology(left, (*self.departed, worker), self.version + 1)

    def with_labels(self, worker: Worker, labels: Iterable[str]) -> Topology:
        """Return the topology with other labels on a process.

        Args:
            worker: a worker id.
            labels: all the labels that it carries from now on.

        Returns:
            The next topology.

        Raises:
            ScopeError: no such process lives.

        Example:
            >>> topology = Topology([Process.with_threads(0, "a")])
            >>> topology.with_labels(0, ["camera"]).labels_of(0)
            ('camera',)
        """
        process = self._by_worker.get(worker)
        if process is None:
            msg = f"there is no worker {worker!r} to label; the workers are {self.workers!r}"
            raise ScopeError(msg)
        return self.with_process(replace(process, labels=tuple(labels)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return (self.version, self.processes, self.departed)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Topology, (self.processes, self.departed, self.version))

    def __repr__(self) -> str:
        return (
            f"<Topology {self.version}: {len(self.processors)} processors of "
            f"{len(self.processes)} processes on {len(self.nodes)} nodes>"
        )


def _index(processes: tuple[Process, ...]) -> Mapping[Variable, Mapping[Value, int]]:
    # For each variable, the processors that have a value, as bits.
    index: dict[Variable, dict[Value, int]] = {WORKER: {}}
    start = 0
    for process in processes:
        whole = ((1 << len(process.processors)) - 1) << start
        _add(index, WORKER, process.worker, whole)
        _add(index, NODE, process.node, whole)
        for label in process.labels:
            _add(index, label_variable(label), True, whole)
        for offset, processor in enumerate(process.processors):
            bit = 1 << (start + offset)
            for variable in (KIND, INDEX, DEFAULT, SEALED):
                _add(index, variable, own_value(processor, variable), bit)
        start += len(process.processors)
    return index


def _add(
    index: dict[Variable, dict[Value, int]], variable: Variable, value: Any, bits: int
) -> None:
    values = index.setdefault(variable, {})
    values[value] = values.get(value, 0) | bits
