"""What scopes can see of the session that they are written in.

Scopes are pure values and know nothing of sessions. Whoever keeps a session
sets a provider here, so that ``ProcessScope(0)`` finds out its node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from scopekit.scopes.processors import Processor, Worker

__all__ = ("Provider", "Surroundings", "TopologyView", "current", "node_of", "set_provider")


class TopologyView(Protocol):
    """A snapshot of the processors that there are."""

    def mask(self, scope: Any, /) -> int:
        """Return the processors in a scope, as bits."""

    def select(self, mask: int, /) -> tuple[Processor, ...]:
        """Return the processors whose bits are set."""

    def node_of(self, worker: Worker, /) -> str | None:
        """Return the name of a worker's node, or None where it is unknown."""

    def labels_of(self, worker: Worker, /) -> Sequence[str] | None:
        """Return a worker's labels, or None where it is unknown."""


class Surroundings(Protocol):
    """The session around the code that makes a scope."""

    def node_of(self, worker: Worker, /) -> str | None:
        """Return the name of a worker's node, or None where it is unknown."""

    def knows(self, worker: Worker, /) -> bool:
        """Whether the worker was ever part of the session, dead ones too."""

    @property
    def workers(self) -> Sequence[Worker]:
        """The live engines, without the client."""

    @property
    def nodes(self) -> Sequence[str]:
        """The names of the nodes."""

    @property
    def here(self) -> Worker:
        """The worker that this process is."""

    @property
    def topology(self) -> TopologyView:
        """The processors that there are now."""


Provider: TypeAlias = Callable[[], Surroundings | None]


def _nowhere() -> Surroundings | None:
    return None


_provider: Provider = _nowhere


def set_provider(provider: Provider | None) -> Provider:
    """Say where surroundings come from.

    Args:
        provider: returns the current surroundings, or None outside any; None
            instead of a provider means that there never are any.

    Returns:
        The provider that was set before.

    Example:
        >>> before = set_provider(None)
        >>> current() is None
        True
        >>> _ = set_provider(before)
    """
    global _provider  # noqa: PLW0603 - the one thing this module is for
    before = _provider
    _provider = _nowhere if provider is None else provider
    return before


def current() -> Surroundings | None:
    """Return the surroundings of the code that runs now.

    Returns:
        The surroundings, or None outside any session.

    Example:
        >>> current() is None
        True
    """
    return _provider()


def node_of(worker: Worker) -> str | None:
    """Return the name of a worker's node, as far as the surroundings know it.

    Args:
        worker: a worker id.

    Returns:
        The name, or None.

    Example:
        >>> node_of(0) is None
        True
    """
    surroundings = _provider()
    return None if surroundings is None else surroundings.node_of(worker)
