"""ipyparallel's own LoadBalancedView."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.bench.systems.base import System
from scopekit.bench.systems.deferring import submit_when_ready
from scopekit.bench.tasks import make_block, sum_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("LoadBalanced",)


class LoadBalanced(System):
    """A LoadBalancedView of a cluster started as the manual says.

    Its dependencies order tasks and pass no results on, so calls with inputs are
    submitted when these are done.
    """

    title = "ipyparallel"
    module = "ipyparallel"
    package = "ipyparallel"

    _cluster: Any
    _client: Any
    _view: Any

    def load(self) -> None:
        """See :meth:`System.load`."""
        import ipyparallel  # noqa: F401, PLC0415  # only to have it loaded

    def start(self) -> None:
        """See :meth:`System.start`."""
        import ipyparallel  # noqa: PLC0415  # slow to load

        self._cluster = ipyparallel.Cluster(n=self.workers)
        self._client = self._cluster.start_and_connect_sync()
        self._view = self._client.load_balanced_view()

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """See :meth:`System.submit`."""
        return submit_when_ready(self._view.apply_async, function, args)

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """See :meth:`System.results`."""
        return [handle.result() for handle in handles]

    def close(self) -> None:
        """See :meth:`System.close`."""
        self._client.close()
        self._cluster.stop_cluster_sync()

    def transfer(self, count: int) -> float:
        """See :meth:`System.transfer`."""
        block = self._client[0].apply_sync(make_block, count)
        return float(self._client[-1].apply_sync(sum_block, block))
