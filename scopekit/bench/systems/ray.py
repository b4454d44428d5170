"""Ray."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from scopekit.bench.systems.base import System
from scopekit.bench.tasks import make_block, sum_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Ray",)


class _Place:
    """An actor: a process of its own that runs what it is told."""

    def make(self, count: int) -> Any:
        return make_block(count)

    def sum(self, block: Any) -> float:
        return sum_block(block)


class Ray(System):
    """Remote functions on a local Ray with one CPU for each worker."""

    title = "Ray"
    module = "ray"
    package = "ray"

    def load(self) -> None:
        """See :meth:`System.load`."""
        import ray  # noqa: PLC0415  # a peer, installed or not

        self._ray: Any = ray
        self._remote: dict[Callable[..., Any], Any] = {}
        self._places: list[Any] = []

    def start(self) -> None:
        """See :meth:`System.start`."""
        self._ray.init(
            num_cpus=self.workers,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=tempfile.gettempdir(),
        )

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """See :meth:`System.submit`."""
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self._ray.remote(function)
        return remote.remote(*args)

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """See :meth:`System.results`."""
        found: list[Any] = self._ray.get(list(handles))
        return found

    def close(self) -> None:
        """See :meth:`System.close`."""
        self._ray.shutdown()

    def transfer(self, count: int) -> float:
        """See :meth:`System.transfer`."""
        if not self._places:
            # Without a CPU of their own: tasks need those.
            actor = self._ray.remote(num_cpus=0)(_Place)
            self._places = [actor.remote(), actor.remote()]
        here, there = self._places
        return float(self._ray.get(there.sum.remote(here.make.remote(count))))
