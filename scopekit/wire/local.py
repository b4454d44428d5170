"""The wire to an agent in this very process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.wire.messages import Order

__all__ = ("LocalWire",)


class _Agent(Protocol):
    def receive(self, orders: Iterable[Order]) -> None: ...

    def give(
        self, chunks: Sequence[int], asker: WorkerId
    ) -> list[tuple[StoredChunk, bytes]]: ...


class LocalWire:
    """Hands orders straight to an agent of this process.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: _Agent) -> None:
        self._agent = agent
        self._known: dict[bytes, None] = {}

    def send(self, worker: WorkerId, order: Order) -> None:
        """Hands an order over."""
        del worker
        self._agent.receive((order,))

    def needs_function(self, worker: WorkerId, digest: bytes) -> bool:
        """Tells whether the agent lacks a function, and counts on its being sent now."""
        del worker
        if digest in self._known:
            return False
        self._known[digest] = None
        return True

    def ask(
        self, worker: WorkerId, chunks: Sequence[int], timeout: float | None
    ) -> list[tuple[StoredChunk, bytes]]:
        """Asks the agent for chunks, as the client."""
        del worker, timeout
        return self._agent.give(chunks, "client")
