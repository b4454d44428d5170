"""What can be seen of a session: its places, its tasks, what was done."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scopekit import looking
from scopekit.holding import holdings_of
from scopekit.options import NO_OPTIONS, operands
from scopekit.scheduler.details import with_details
from scopekit.scheduler.placement import allowed_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekit.driver import Driver
    from scopekit.explanation import Explanation
    from scopekit.graph import WorkerId
    from scopekit.handles import Task
    from scopekit.holding import Holdings
    from scopekit.places import Topology
    from scopekit.rescoping import Rescoping
    from scopekit.roster import Roster
    from scopekit.scopes import Processor, Scope

__all__ = ("Overview",)


class Overview(ABC):
    """Tells what there is in a session, without changing any of it.

    Attributes:
        name: what the session is called.
    """

    name: str
    _driver: Driver
    _roster: Roster | None
    _closed: bool

    @abstractmethod
    def _read(self, scope: Any) -> Scope:
        """Reads a scope that the user wrote."""

    @property
    def topology(self) -> Topology:
        """A snapshot of the processes there are."""
        return self._driver.scheduler.topology

    @property
    def workers(self) -> list[WorkerId]:
        """The ids of the engines, in order."""
        return list(self.topology.workers)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes on which there are engines."""
        topology = self.topology
        return list(dict.fromkeys(str(topology.node_of(w)) for w in topology.workers))

    def processors(self, scope: Any = None) -> tuple[Processor, ...]:
        """Returns the processors of a scope.

        Args:
            scope: the scope; where a task spawned here would run if None.
        """
        wanted = operands(NO_OPTIONS) if scope is None else (("scope=", self._read(scope)),)
        return self.topology.select(allowed_mask(wanted, self.topology))

    def compatible_processors(self, scope: Any = None) -> tuple[Processor, ...]:
        """Does the same as :meth:`processors`."""
        return self.processors(scope)

    def num_processors(self, scope: Any = None, all: bool = False) -> int:  # noqa: A002
        """Counts the processors of a scope, or with ``all`` those that there are."""
        return len(self.topology.processors) if all else len(self.processors(scope))

    def least_busy(self, processors: Sequence[Processor]) -> Processor:
        """Returns the processor whose process has the least to do."""
        return looking.least_busy(self._driver, processors)

    def explain(self, task: Task) -> Explanation:
        """Tells why a task runs where it runs, or why it does not."""
        with self._driver.lock:
            known = self._driver.scheduler
            return with_details(known.explain(task.id), known, task.id, time.time())

    def satisfiable(self, scope: Any) -> bool:
        """Tells whether a processor of the scope exists now."""
        return bool(self.topology.mask(self._read(scope)))

    @property
    def rescopings(self) -> tuple[Rescoping, ...]:
        """Every change of a scope, oldest first: which chunk, before, after, by whom, when."""
        with self._driver.lock:
            return tuple(self._driver.scheduler.rescopings)

    def statistics(self) -> dict[str, Any]:
        """Counts tasks by state, chunks, workers, what they are busy with, who was refused."""
        refused = 0 if self._roster is None else self._roster.refused
        return {**looking.statistics(self._driver), "refused": refused}

    def events(self) -> list[dict[str, Any]]:
        """Returns what happened so far, oldest first: seconds, kind, task, worker."""
        return looking.event_facts(self._driver)

    def graph(self) -> Any:
        """Returns the task graph as a networkx DiGraph.

        Nodes are tasks and chunks with name, state, scope, processor, worker, node,
        times in seconds since the session began, and sizes in bytes.
        """
        from scopekit.dag import build_graph  # noqa: PLC0415  # loads networkx

        return build_graph(self._driver, self.name)

    def summary(self) -> str:
        """Tells in a few lines what there is and what was done."""
        return looking.summary(self._driver, self.name)

    def facts(self) -> dict[str, Any]:
        """Returns what a display of the session shows."""
        return {
            "name": self.name,
            "state": "closed" if self._closed else "open",
            "tasks": self.statistics()["tasks"],
            "workers": looking.worker_facts(self._driver),
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.workers)} workers"
        return f"<Session {self.name}: {state} on {', '.join(self.nodes) or 'no node'}>"

    def _repr_html_(self) -> str:
        html: str = import_module("scopekit.notebook.displays").session_html(self.facts())
        return html

    def holds(self, worker: WorkerId) -> Holdings:
        """Tells what a worker holds, and what would be lost if it left.

        Args:
            worker: its id; ``"client"`` for this process.

        Returns:
            Its values and tasks, with ``safe``: True if nothing is lost when it is removed.

        Raises:
            ScopekitError: there is no such worker.

        Example:
            >>> from scopekit import start
            >>> with start(0) as session:
            ...     print(session.holds(0))
            worker 0 on node ...: 0 chunks of 0 bytes, 0 tasks to run; safe to remove
        """
        return holdings_of(self._driver, worker)
