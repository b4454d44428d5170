"""A simulated clock, with connections that keep order and may lose what is on its way."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Connection", "Timeline")

# One in so many messages is far slower than the rest.
_RARELY = 0.03
_SLOW = 60.0


class Timeline:
    """Does what is due, one thing after another.

    Attributes:
        now: the time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, what: Callable[..., None], *args: Any) -> None:
        """Has something done at a time; what is due at once keeps its order."""
        self._count += 1
        heappush(self._due, (max(time, self.now), self._count, what, args))

    def after(self, seconds: float, what: Callable[..., None], *args: Any) -> None:
        """Has something done after a while."""
        self.at(self.now + seconds, what, *args)

    def step(self) -> bool:
        """Does the next thing that is due.

        Returns:
            False if nothing is.
        """
        if not self._due:
            return False
        self.now, _, what, args = heappop(self._due)
        what(*args)
        return True

    @property
    def next(self) -> float | None:
        """The time of what is due next, None if nothing is."""
        return self._due[0][0] if self._due else None


class Connection:
    """One way from one process to another: in order, each message with a latency of its own.

    Args:
        timeline: the clock.
        seed: draws the latencies.
        latency: how long a message takes, give or take.
    """

    def __init__(self, timeline: Timeline, seed: int, latency: float) -> None:
        self._timeline = timeline
        self._random = Random(seed)
        self._latency = latency
        self._last = 0.0
        self._held_until = 0.0
        self._flying: deque[list[Any]] = deque()
        self.closed = False

    def send(self, what: Callable[..., None], *args: Any) -> None:
        """Sends a message, which is a call at the other end."""
        if self.closed:
            return
        random = self._random.random
        latency = self._latency * (0.2 + 1.6 * random())
        if random() < _RARELY:
            latency *= _SLOW
        now = self._timeline.now
        self._last = max(self._last, now + latency, self._held_until)
        message = [what, args]
        self._flying.append(message)
        self._timeline.at(self._last, self._deliver, message)

    def _deliver(self, message: list[Any]) -> None:
        if message[0] is None:
            return
        self._flying.popleft()
        what, args = message
        what(*args)

    def hold(self, until: float) -> None:
        """Keeps what is sent from now on until a time."""
        self._held_until = max(self._held_until, until)

    def lose_tail(self) -> None:
        """Breaks: of what is on its way, a part from some message on is lost."""
        kept = self._random.randint(0, len(self._flying))
        while len(self._flying) > kept:
            self._flying.pop()[0] = None

    def close(self) -> None:
        """Ends for good: what is on its way is lost, as is what follows."""
        self.closed = True
        while self._flying:
            self._flying.pop()[0] = None
