"""scopekit, over either of its wires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import scopekit
from scopekit.bench.systems.base import System
from scopekit.bench.tasks import make_block, sum_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Direct", "Views")


class Direct(System):
    """scopekit over its direct sockets."""

    title = "scopekit"
    wire: ClassVar[str] = "direct"

    _session: scopekit.Session

    def load(self) -> None:
        """See :meth:`System.load`."""
        import ipyparallel  # noqa: F401, PLC0415  # only to have it loaded

    def start(self) -> None:
        """See :meth:`System.start`."""
        self._session = scopekit.start(self.workers, wire=self.wire)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """See :meth:`System.submit`."""
        return self._session.spawn(function, *args)

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """See :meth:`System.results`."""
        found: list[Any] = self._session.fetch(list(handles))
        return found

    def close(self) -> None:
        """See :meth:`System.close`."""
        self._session.close()

    def transfer(self, count: int) -> float:
        """See :meth:`System.transfer`."""
        here, there = (scopekit.ProcessScope(worker) for worker in self._two_workers())
        block = self._session.spawn(make_block, count, compute_scope=here)
        answer = self._session.spawn(sum_block, block, compute_scope=there)
        return float(answer.result())

    def _two_workers(self) -> list[Any]:
        workers = self._session.workers
        return [workers[0], workers[-1]]


class Views(Direct):
    """scopekit with everything over ipyparallel's views."""

    title = "scopekit, views"
    wire = "views"
