"""The labels that users put on workers and nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopeError, ScopekitError
from scopekit.scheduler.leaving import left_outside
from scopekit.scopes import CLIENT, NodeScope, OSProc, ProcessScope
from scopekit.scopes.processors import check_worker, describe_worker

if TYPE_CHECKING:
    from scopekit.driver import Driver
    from scopekit.graph import ChunkRecord, WorkerId
    from scopekit.places import Process, Topology
    from scopekit.wire.messages import PeerAddress

__all__ = ("Labels", "read_labels")

_NAMED = 5
_Place = tuple[str, Any]
"""``"worker"`` or ``"node"``, with which of them."""


def read_labels(given: Mapping[Any, Any] | None) -> dict[_Place, dict[str, None]]:
    """Reads labels as a user wrote them.

    Args:
        given: a label, or several, for each worker or node.

    Returns:
        The labels of each place.

    Raises:
        ScopeError: they make no sense.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ScopeError(
            f"labels={given!r} says not where; give a mapping such as {{0: 'camera', 'a': ['gpu']}}"
            " from workers and nodes to their labels"
        )
    return {_place(where): dict.fromkeys(_texts(labels)) for where, labels in given.items()}


def _place(where: Any) -> _Place:
    if isinstance(where, NodeScope):
        return ("node", where.node)
    if isinstance(where, (ProcessScope, OSProc)):
        return ("worker", where.worker)
    if isinstance(where, str) and where != CLIENT:
        return ("node", NodeScope(where).node)
    return ("worker", check_worker(where))


def _texts(labels: Any) -> tuple[str, ...]:
    several = (labels,) if isinstance(labels, str) else labels
    if not isinstance(several, Iterable):
        raise ScopeError(f"{labels!r} is no label; a label is a text such as 'camera'")
    texts = tuple(several)
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ScopeError(f"{text!r} is no label; a label is a text such as 'camera'")
    return texts


class Labels:
    """Knows which worker has which labels, of its own or of its node.

    Args:
        given: the labels of each place at the start.
    """

    def __init__(self, given: Mapping[_Place, dict[str, None]]) -> None:
        self._given = {place: dict(labels) for place, labels in given.items()}
        self._changing = threading.Lock()

    def of(self, worker: WorkerId, node: str) -> tuple[str, ...]:
        """Returns the labels of a worker on a node."""
        mine = self._given.get(("worker", worker), {})
        return tuple(sorted({**mine, **self._given.get(("node", node), {})}))

    def check_places(self, topology: Topology) -> None:
        """Looks whether all that was labelled is there.

        Raises:
            ScopeError: something is not.
        """
        for place in self._given:
            _workers_at(place, topology)

    def change(
        self,
        driver: Driver,
        addresses: Mapping[WorkerId, PeerAddress],
        where: Any,
        labels: tuple[str, ...],
        *,
        add: bool,
        force: bool,
    ) -> None:
        """Gives a place labels, or takes them, and has every process hear of it.

        Args:
            driver: knows what is where.
            addresses: where engines serve their chunks.
            where: a worker, or a node.
            labels: the labels.
            add: True to give them, False to take them.
            force: True to go on although something will be lost.

        Raises:
            ScopeError: there is no such place, or it has no such label.
            ScopekitError: something would be lost, and what.
        """
        with self._changing:
            changed = self._change(driver, where, labels, add=add, force=force)
            after = {process.worker: labels for process, labels in changed}
            driver.change_processes(
                list(after),
                lambda process: replace(process, labels=after[process.worker]),
                addresses,
            )

    def _change(
        self, driver: Driver, where: Any, labels: tuple[str, ...], *, add: bool, force: bool
    ) -> list[tuple[Process, tuple[str, ...]]]:
        """Returns the processes whose labels change, each with those that it has from now on."""
        texts = _texts(labels)
        if not texts:
            raise ScopeError("no label is named; give at least one text such as 'camera'")
        place = _place(where)
        topology = driver.scheduler.topology
        workers = _workers_at(place, topology)
        before = self._given.get(place, {})
        if not add:
            _refuse_foreign(place, texts, before, self)
        after = {**before, **dict.fromkeys(texts)} if add else _without(before, texts)
        wanted = Labels({**self._given, place: after})
        changed = [
            (process, wanted.of(process.worker, process.node))
            for process in topology.processes
            if process.worker in workers
        ]
        if not force:
            with driver.lock:
                lost = left_outside(driver.scheduler, changed)
                if lost:
                    raise ScopekitError(_losses(driver, place, lost))
        self._given[place] = after
        return changed


def _without(labels: dict[str, None], gone: tuple[str, ...]) -> dict[str, None]:
    return {label: None for label in labels if label not in gone}


def _workers_at(place: _Place, topology: Topology) -> list[WorkerId]:
    kind, name = place
    if kind == "worker":
        found = [p.worker for p in topology.processes if p.worker == name]
        known = ", ".join(map(str, topology.workers)) or "none"
    else:
        found = [p.worker for p in topology.processes if p.node == name]
        known = ", ".join(map(repr, topology.nodes))
    if not found:
        raise ScopeError(
            f"there is no {kind} {name!r} to label; the {kind}s are {known}"
            + (" and 'client'" if kind == "worker" else "")
        )
    return found


def _refuse_foreign(
    place: _Place, texts: tuple[str, ...], has: dict[str, None], labels: Labels
) -> None:
    kind, name = place
    for text in texts:
        if text in has:
            continue
        where = describe_worker(name) if kind == "worker" else f"node {name!r}"
        others = [
            other[1]
            for other, given in labels._given.items()
            if text in given and other[0] == "node" and kind == "worker"
        ]
        from_node = f" It may have it of its node: unlabel({others[0]!r}, ...)." if others else ""
        raise ScopeError(f"{where} was not given the label {text!r}.{from_node}")


def _losses(driver: Driver, place: _Place, lost: list[ChunkRecord]) -> str:
    lines = []
    for chunk in lost[:_NAMED]:
        name = driver.scheduler.name_of(driver.scheduler.maker_of(chunk.id))
        what = f"the result of {name}" if chunk.maker is not None else f"chunk {chunk.id}"
        lines.append(f"  {what} ({chunk.type}): valid on {chunk.scope.describe()}")
    if len(lost) > _NAMED:
        lines.append(f"  and {len(lost) - _NAMED} more")
    return (
        f"with these labels of {place[0]} {place[1]!r} would be lost what no process may have"
        " any more:\n" + "\n".join(lines) + "\nFetch what you need and drop its handle, label"
        " another worker first, or say force=True."
    )
