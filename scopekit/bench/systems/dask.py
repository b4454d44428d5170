"""Dask's distributed scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.bench.systems.base import System
from scopekit.bench.tasks import make_block, sum_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Distributed",)


class Distributed(System):
    """``Client.submit`` on a LocalCluster of single-threaded worker processes."""

    title = "Dask"
    module = "distributed"
    package = '"dask[distributed]"'

    _cluster: Any
    _client: Any

    def load(self) -> None:
        """See :meth:`System.load`."""
        import distributed  # noqa: F401, PLC0415  # a peer, installed or not

    def start(self) -> None:
        """See :meth:`System.start`."""
        from distributed import Client, LocalCluster  # noqa: PLC0415  # likewise

        self._cluster = LocalCluster(
            n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=":0"
        )
        self._client = Client(self._cluster)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """See :meth:`System.submit`."""
        return self._client.submit(function, *args, pure=False)

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """See :meth:`System.results`."""
        found: list[Any] = self._client.gather(list(handles))
        return found

    def close(self) -> None:
        """See :meth:`System.close`."""
        self._client.close()
        self._cluster.close()

    def transfer(self, count: int) -> float:
        """See :meth:`System.transfer`."""
        addresses = sorted(self._client.scheduler_info()["workers"])
        here, there = addresses[0], addresses[-1]
        block = self._client.submit(make_block, count, workers=[here], pure=False)
        answer = self._client.submit(sum_block, block, workers=[there], pure=False)
        return float(answer.result())
