"""A ZeroMQ socket that any thread sends by, and one thread at a time receives from.

The descriptor of a ZeroMQ socket only tells that something changed since anybody used
the socket. So whoever has used it looks whether there is something to receive, and wakes
whoever receives, who would otherwise never hear of it.

Who receives? A thread of the post's own, as a rule. To pass what it received on to the
thread that waits for it costs as much as the message did, so those who wait may receive
themselves, for as long as they wait: a thread at the client that wants a result (it
*leads*), the event loop of an engine whose main thread has nothing to do. The post's own
thread is parked then. It looks around from time to time, and goes on by itself where
nobody else receives, as while a task runs on the engine's main thread.
"""

from __future__ import annotations

import contextlib
import select
import socket as sockets
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from scopekit.shield import shield

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from scopekit.wire.frames import Buffer

__all__ = ("Post", "PostOwner")

_JOIN_SECONDS = 1.0
# How long what arrived may lie while the thread is parked and nobody else receives.
_PARKED_SECONDS = 0.02
# After so long without a message the thread looks around less often.
_AWAKE_SECONDS = 1.0
_DOZING_SECONDS = 0.5


class PostOwner(Protocol):
    """Reads what a post receives.

    Attributes:
        copies: True to have frames as bytes, False to have them as ZeroMQ made them.
    """

    copies: bool

    def take(self, frames: list[Any], now: float) -> None:
        """Reads one message; called with the lock held."""

    def deliver(self) -> None:
        """Hands on what arrived, in order; called without the lock, by one at a time."""

    def tick(self, now: float) -> float:
        """Sends what is due, with the lock held; returns the seconds until more may be."""

    def closed(self) -> None:
        """Ends what the socket needed; called once it is closed."""


class _Signal:
    """Wakes a thread that waits in poll."""

    def __init__(self) -> None:
        self._near, self._far = sockets.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)

    def fileno(self) -> int:
        return self._far.fileno()

    def give(self) -> None:
        # It was given often enough, or nobody waits any more.
        with contextlib.suppress(OSError):
            self._near.send(b"\0")

    def take(self) -> None:
        with contextlib.suppress(OSError):
            self._far.recv(4096)

    def close(self) -> None:
        self._near.close()
        self._far.close()


class Post:
    """Sends and receives the messages of one socket.

    Args:
        socket: the socket, which the post closes at the end.
        name: of its thread.
        owner: reads what it receives.

    Attributes:
        lock: to be held while the socket is used.
    """

    def __init__(self, socket: Any, name: str, owner: PostOwner) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session

        self._zmq = zmq
        self._socket = socket
        self._owner = owner
        self._closing = False
        self.lock = threading.Lock()
        # What arrived is handed on in order: by one thread at a time.
        self._delivering = threading.Lock()
        self._descriptor: int = socket.getsockopt(zmq.FD)
        self._due_at = 0.0
        self._heard_at = time.monotonic()
        self._woken = _Signal()
        self._poll = self._poller(self._woken)
        self._polling = False
        self._unparked = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._looks = 0
        self._after_look: Callable[[], None] = lambda: None
        self._leading = threading.Lock()
        self._leader = 0
        self._led_at = 0.0
        self._nudged = _Signal()
        self._lead_poll = self._poller(self._nudged)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _poller(self, signal: _Signal) -> Callable[[float], Any]:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(signal.fileno(), select.POLLIN)
        return poll.poll

    def start(self) -> None:
        """Begins to receive."""
        self._thread.start()

    @property
    def closing(self) -> bool:
        """True once the socket must not be used."""
        return self._closing

    # -- sending ------------------------------------------------------------------

    def send(self, parts: Sequence[Buffer]) -> bool:
        """Sends one message, with the lock held; tells whether ZeroMQ took it."""
        try:
            if len(parts) == 1:
                self._socket.send(parts[0], self._zmq.NOBLOCK)
            else:
                self._socket.send_multipart(parts, self._zmq.NOBLOCK)
        except self._zmq.ZMQError:
            return False
        return True

    def look(self) -> None:
        """Has others receive what is there; called with the lock held, after use.

        Whoever led a moment ago and sends now is about to lead again, as a rule: to wake
        the thread costs it more than the message. If it does not, the thread looks soon.
        """
        if self._has_more() and not self._led_just_now():
            self._wake_receiver()

    def _has_more(self) -> bool:
        return bool(self._socket.getsockopt(self._zmq.EVENTS) & self._zmq.POLLIN)

    def _wake_receiver(self) -> None:
        if self._leader:
            if self._leader != threading.get_ident():
                self._nudged.give()
        elif self._loop is not None:
            if self._loop_thread == threading.get_ident():
                self._loop.call_soon(self._on_readable)
                return
            # It may have been closed in the meantime.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_readable)
        self._woken.give()
        self._unparked.set()

    def redial(self, endpoint: str) -> None:
        """Begins a connection anew, with the lock held."""
        with contextlib.suppress(self._zmq.ZMQError):  # it may have given up the old one
            self._socket.disconnect(endpoint)
        self._socket.connect(endpoint)

    # -- receiving ------------------------------------------------------------------

    def _round(self) -> bool:
        """Takes one message, if there is one, hands it on, and sends what is due.

        Returns:
            True if there may be more.
        """
        took = self._take_one()
        return self._tick(took)

    def _take_one(self) -> bool:
        """Takes one message, if there is one: what is in it goes on before the next is read."""
        with self._delivering:
            with self.lock:
                if self._closing:
                    return False
                took = self._receive(time.monotonic())
            if took:
                self._owner.deliver()
        return took

    def _tick(self, took: bool) -> bool:
        """Sends what is due; tells whether there is more to receive."""
        with self.lock:
            if self._closing:
                return False
            now = time.monotonic()
            if took or now >= self._due_at:
                self._due_at = now + self._owner.tick(now)
            return self._has_more()

    def _more_to_take(self) -> bool:
        with self.lock:
            return not self._closing and self._has_more()

    def _receive(self, now: float) -> bool:
        try:
            parts = self._socket.recv_multipart(self._zmq.NOBLOCK, self._owner.copies)
        except self._zmq.Again:
            return False
        self._heard_at = now
        self._owner.take(parts, now)
        return True

    def _seconds_until_due(self) -> float:
        return max(0.0, self._due_at - time.monotonic())

    # -- by a thread of its own -------------------------------------------------------

    def _run(self) -> None:
        heard = looks = 0.0
        while not self._closing:
            if self._is_served() and (heard == self._heard_at or looks != self._looks):
                self._unparked.wait(self._parked_seconds())
                self._unparked.clear()
            heard, looks = self._heard_at, self._looks
            if self._round():
                continue
            if self._is_served() and heard == self._heard_at:
                continue
            self._polling = True
            limit = self._seconds_until_due()
            if self._is_served():
                limit = min(limit, _PARKED_SECONDS)
            if not self._closing and self._poll(limit * 1000 + 1):
                self._woken.take()
            self._polling = False
        self._end()

    def _is_served(self) -> bool:
        """Tells whether others receive."""
        return self._loop is not None or bool(self._leader) or self._led_just_now()

    def _led_just_now(self) -> bool:
        return not self._leader and time.monotonic() - self._led_at < _PARKED_SECONDS

    def _parked_seconds(self) -> float:
        if self._leader or self._led_just_now():
            return _PARKED_SECONDS
        quiet = time.monotonic() - self._heard_at > _AWAKE_SECONDS
        return _DOZING_SECONDS if quiet else _PARKED_SECONDS

    # -- by an event loop ---------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop, after: Callable[[], None]) -> None:
        """Has an event loop receive from now on, whenever it has nothing else to do.

        Args:
            loop: the loop; this is called on its thread.
            after: called there after something was received.
        """
        self._loop_thread = threading.get_ident()
        self._after_look = after
        self._loop = loop
        loop.add_reader(self._descriptor, self._on_readable)
        self._woken.give()

    def _on_readable(self) -> None:
        if self._loop is None:
            return
        was_quiet = time.monotonic() - self._heard_at > _AWAKE_SECONDS
        self._looks += 1
        took = self._take_one()
        if took and not self._more_to_take():
            # What somebody waits for first, then acknowledgements.
            self._after_look()
            took = self._tick(took)
        if took and self._loop is not None:
            self._loop.call_soon(self._on_readable)
        if was_quiet:
            # The thread is to look around more often, as long as this goes on.
            self._unparked.set()

    def _detach(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None or loop.is_closed():
            return
        if self._loop_thread == threading.get_ident():
            loop.remove_reader(self._descriptor)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.remove_reader, self._descriptor)

    # -- by whoever waits -----------------------------------------------------------------

    def lead(self, holds: Callable[[], bool], until: float | None) -> bool:
        """Receives in the caller's thread until something holds.

        Args:
            holds: what the caller waits for; whoever else brings it about calls ``nudge``.
            until: when to give up, by the monotonic clock; None never gives up.

        Returns:
            True if it holds; False if the time is over, the socket closed, or another
            thread leads already.
        """
        # What is received is taken in whole; a wait alone may be interrupted.
        with shield:
            return self._lead(holds, until)

    def _lead(self, holds: Callable[[], bool], until: float | None) -> bool:
        if self._closing or not self._leading.acquire(blocking=False):
            return holds()
        try:
            self._leader = threading.get_ident()
            if self._polling:
                self._woken.give()
            self._receive_until(holds, until)
        finally:
            self._led_at = time.monotonic()
            self._leader = 0
            self._leading.release()
        return holds()

    def _receive_until(self, holds: Callable[[], bool], until: float | None) -> None:
        while not holds() and not self._closing:
            if self._more_to_take() and self._take_one() and holds():
                return
            if self._tick(took=True):
                continue
            limit = self._seconds_until_due()
            if until is not None:
                limit = min(limit, until - time.monotonic())
                if limit <= 0 and time.monotonic() >= until:
                    return
            with shield.lifted():
                some = self._lead_poll(max(0.0, limit) * 1000 + 1)
            if some:
                self._nudged.take()

    def nudge(self) -> None:
        """Has whoever leads see whether what it waits for holds now."""
        if self._leader not in (0, threading.get_ident()):
            self._nudged.give()

    def resume(self) -> None:
        """Has the post's own thread receive again at once: nobody leads for a while."""
        if not self._leader and self._led_at:
            self._led_at = 0.0
            self._unparked.set()

    # -- end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes the socket and ends the thread, within a second."""
        self._detach()
        with self.lock:
            self._closing = True
        self._woken.give()
        self._nudged.give()
        self._unparked.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)

    def _end(self) -> None:
        # Whoever leads leaves first: it polls the descriptors that are closed here.
        left = self._leading.acquire(timeout=_JOIN_SECONDS)
        with self.lock:
            self._socket.close()
            if left:
                self._woken.close()
                self._nudged.close()
        self._owner.closed()
