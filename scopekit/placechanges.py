"""Changes the places of a session: its workers, their labels, the kinds of their processors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from scopekit import clientagent
from scopekit.errors import ScopekitError
from scopekit.roster import dump_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopekit.driver import Driver
    from scopekit.engine.agent import Agent
    from scopekit.graph import WorkerId
    from scopekit.labels import Labels
    from scopekit.roster import Roster
    from scopekit.scopes import Kind

__all__ = ("PlaceChanges",)


class PlaceChanges(ABC):
    """Has workers join or leave, labels come or go, processors of a new kind count."""

    _driver: Driver
    _agent: Agent
    _roster: Roster | None
    _labels: Labels

    @abstractmethod
    def _check_open(self) -> None:
        """Raises if nothing can change any more."""

    def add_workers(
        self, n: int, *, node: str | None = None, timeout: float = 60
    ) -> list[WorkerId]:
        """Starts further engines and waits until they are part of the session.

        Args:
            n: how many.
            node: the pretended node that they are to be on, this machine if None.
            timeout: seconds to wait at most.

        Returns:
            The ids of the new workers.

        Raises:
            ScopekitError: the engines were not started here, or did not come up.
        """
        self._check_open()
        if self._roster is None:
            raise ScopekitError("a session in this process has no engines to add to")
        return self._roster.add(n, node=node, timeout=timeout)

    def remove_workers(
        self, workers: Iterable[WorkerId], *, force: bool = False, timeout: float = 60
    ) -> list[WorkerId]:
        """Takes engines out of the session, once they have nothing left to do.

        What they run ends first, what they have not begun goes to others, and what they
        hold moves to where it is valid. Engines that were started here are stopped, all
        others are left running.

        Args:
            workers: their ids.
            force: True to go on although something will be lost.
            timeout: seconds to wait at most for all of it.

        Returns:
            The ids of the workers that are left.

        Raises:
            ScopekitError: one of them is no engine of this session; something would be
                lost with them, and what; they had not ended in time.
        """
        self._check_open()
        chosen = list(dict.fromkeys(workers))
        engines = () if self._roster is None else self._driver.scheduler.topology.workers
        for worker in chosen:
            if worker not in engines:
                known = ", ".join(map(str, engines)) or "none"
                raise ScopekitError(
                    f"worker {worker!r} is no engine of this session; its engines are {known}"
                )
        if chosen and self._roster is not None:
            self._roster.remove(chosen, force=force, timeout=timeout)
        return list(self._driver.scheduler.topology.workers)

    @property
    def labels(self) -> dict[WorkerId, tuple[str, ...]]:
        """The labels of each worker, the client among them, as far as it has any."""
        return {p.worker: p.labels for p in self._driver.scheduler.topology.processes if p.labels}

    def label(self, where: Any, *labels: str, force: bool = False) -> None:
        """Gives a worker, or a node, labels.

        What waits for such a place goes there. What a label keeps out of it, with
        ``~LabelScope(...)``, leaves it: see :meth:`unlabel`.

        Args:
            where: a worker's id, or the name of a node, which counts for workers that
                join there later, too.
            labels: the labels.
            force: True to go on although values will be lost.

        Raises:
            ScopeError: there is no such place, or that is no label.
            ScopekitError: a value would be lost, since no place is left for it.

        Example:
            >>> import scopekit as sk
            >>> with sk.start(0) as session:
            ...     session.label(0, "camera")
            ...     sk.compatible_processors(sk.scope(label="camera"))
            (ThreadProc(0, 0),)
        """
        self._relabel(where, labels, add=True, force=force)

    def unlabel(self, where: Any, *labels: str, force: bool = False) -> None:
        """Takes labels from a worker, or from a node.

        What was sent there and has not begun, and may not run there any more, comes back;
        what runs goes on. A value that may not be there any more moves to a process that
        may have it.

        Args:
            where: a worker's id, or the name of a node.
            labels: the labels.
            force: True to go on although values will be lost.

        Raises:
            ScopeError: there is no such place, or it was not given such a label.
            ScopekitError: a value would be lost, since no place is left for it.

        Example:
            >>> import scopekit as sk
            >>> with sk.start(0, labels={0: ["camera", "fast"]}) as session:
            ...     session.unlabel(0, "camera")
            ...     session.labels
            {0: ('fast',)}
        """
        self._relabel(where, labels, add=False, force=force)

    def _relabel(self, where: Any, labels: tuple[str, ...], *, add: bool, force: bool) -> None:
        self._check_open()
        addresses = {} if self._roster is None else self._roster.addresses
        self._labels.change(self._driver, addresses, where, labels, add=add, force=force)

    def add_kind(self, kind: Kind, probe: Callable[[], int], timeout: float = 30) -> None:
        """Counts the processors of a kind that was registered since the session began.

        Args:
            kind: the kind.
            probe: counts them in a process.
            timeout: seconds to wait for engines at most.

        Raises:
            ScopekitError: the probe does not pickle.
        """
        self._check_open()
        pickled = dump_probe(kind, probe)
        if self._roster is not None:
            self._roster.probe(kind, pickled, timeout)
            return
        clientagent.add_kind(self._agent, self._driver, kind, pickled)
