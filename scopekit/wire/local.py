"""The wire to an agent in this very process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from scopekit.wire.codec import KnownFunctions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scopekit.graph import WorkerId
    from scopekit.wire.messages import Order
    from scopekit.wire.peers import Given

__all__ = ("LocalWire",)


class _Exchange(Protocol):
    def give(self, chunks: Sequence[int], asker: WorkerId) -> list[Given]: ...


class _Agent(Protocol):
    @property
    def exchange(self) -> _Exchange: ...

    def receive(self, orders: Iterable[Order]) -> None: ...


class LocalWire:
    """Hands orders straight to an agent of this process.

    Args:
        agent: the agent.
    """

    any_thread = True

    def __init__(self, agent: _Agent) -> None:
        self._agent = agent
        self._known = KnownFunctions()

    def send(self, worker: WorkerId, order: Order) -> None:
        """Hands an order over."""
        del worker
        self._agent.receive((order,))

    def flush(self) -> None:
        """Does nothing: orders never gather here."""

    def forget(self, worker: WorkerId) -> None:
        """Does nothing: this process cannot outlive itself."""

    def functions(self, worker: WorkerId) -> KnownFunctions:
        """Returns which functions the agent was sent."""
        del worker
        return self._known

    def ask(self, worker: WorkerId, chunks: Sequence[int], timeout: float | None) -> list[Given]:
        """Asks the agent for chunks, as the client."""
        del worker, timeout
        return self._agent.exchange.give(chunks, "client")
