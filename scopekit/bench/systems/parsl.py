"""Parsl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.bench.systems.base import System

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Parsl",)


class Parsl(System):
    """Python apps on one HighThroughputExecutor."""

    title = "Parsl"
    module = "parsl"
    package = "parsl"

    def load(self) -> None:
        """See :meth:`System.load`."""
        import parsl  # noqa: PLC0415  # a peer, installed or not
        import parsl.config  # noqa: PLC0415  # likewise
        import parsl.executors  # noqa: PLC0415  # likewise
        import parsl.providers  # noqa: PLC0415  # likewise

        self._parsl: Any = parsl
        self._apps: dict[Callable[..., Any], Any] = {}

    def start(self) -> None:
        """See :meth:`System.start`."""
        parsl = self._parsl
        executor = parsl.executors.HighThroughputExecutor(
            label="local",
            address="127.0.0.1",
            max_workers_per_node=self.workers,
            provider=parsl.providers.LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = parsl.config.Config(executors=[executor], strategy="none", usage_tracking=0)
        self._kernel = parsl.load(config)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """See :meth:`System.submit`."""
        app = self._apps.get(function)
        if app is None:
            app = self._apps[function] = self._parsl.python_app(function)
        return app(*args)

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """See :meth:`System.results`."""
        return [handle.result() for handle in handles]

    def close(self) -> None:
        """See :meth:`System.close`."""
        self._kernel.cleanup()
        self._parsl.clear()
