"""Counts who came to a socket and never proved who they are."""

from __future__ import annotations

import struct
from collections import deque
from typing import Any

__all__ = ("Strangers",)

_EVENT = struct.Struct("=H")


class Strangers:
    """Counts the connections to a socket that never proved to have a key of the list.

    ZeroMQ turns them away by itself, whatever they are: unknown keys, ZeroMQ without keys,
    browsers, noise, those that say nothing. Not a byte of theirs is seen here, only that
    they were there. To be used by one thread at a time.

    Args:
        socket: one that serves, before it is bound.
        patience: the seconds within which a connection must have proved itself.

    Attributes:
        count: how many there were so far, of those whose time is over.
    """

    def __init__(self, socket: Any, patience: float) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session

        self._zmq = zmq
        self._patience = patience
        address = f"inproc://scopekit-strangers-{id(socket):x}"
        socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._events = socket.context.socket(zmq.PAIR)
        # Without a bound: ZeroMQ's own thread would wait for whoever does not read.
        self._events.rcvhwm = 0
        self._events.linger = 0
        self._events.connect(address)
        self._young: deque[float] = deque()
        self._grown = self._proved = 0
        self.count = 0

    def look(self, now: float) -> None:
        """Takes note of what happened since the last time.

        Args:
            now: the time, by the monotonic clock.
        """
        while (event := self._next()) is not None:
            if event == self._zmq.EVENT_ACCEPTED:
                self._young.append(now)
            elif event == self._zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._proved += 1
        while self._young and now - self._young[0] > self._patience:
            self._young.popleft()
            self._grown += 1
        # Of the young some have proved themselves already, so it may be more than that.
        self.count = max(self.count, self._grown - self._proved)

    def _next(self) -> int | None:
        try:
            words = self._events.recv_multipart(self._zmq.NOBLOCK)
        except self._zmq.Again:
            return None
        event: int = _EVENT.unpack_from(words[0])[0]
        return event

    def close(self) -> None:
        """Ends the count."""
        self._events.close(0)
