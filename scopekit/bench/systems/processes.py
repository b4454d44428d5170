"""The standard library's ProcessPoolExecutor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.bench.systems.base import System
from scopekit.bench.systems.deferring import submit_when_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future, ProcessPoolExecutor

__all__ = ("Processes",)


class Processes(System):
    """ProcessPoolExecutor; calls with inputs are submitted when these are done."""

    title = "ProcessPoolExecutor"

    _pool: ProcessPoolExecutor

    def load(self) -> None:
        """See :meth:`System.load`."""
        import concurrent.futures.process  # noqa: F401, PLC0415  # only to have it loaded

    def start(self) -> None:
        """See :meth:`System.start`."""
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

        self._pool = ProcessPoolExecutor(self.workers)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """See :meth:`System.submit`."""
        return submit_when_ready(self._pool.submit, function, args)

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """See :meth:`System.results`."""
        return [future.result() for future in handles]

    def close(self) -> None:
        """See :meth:`System.close`."""
        self._pool.shutdown()
