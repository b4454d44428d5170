"""The hot part of the protocol over sockets of our own, past ipyparallel's slow messages.

The hub at the client lets in the public keys that it was told of, and takes who speaks from
the key of the connection, never from what is said. Orders and reports travel as
batches, cut into pieces, over a channel that survives broken connections.

Threads: any thread may send, and does so itself, for a switch of threads costs more
than all the rest. One thread at a time of each end receives, and calls back without
holding a lock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from scopekit.errors import ProtocolError, ScopekitError
from scopekit.wire import messages as msg
from scopekit.wire.batches import decode_orders, decode_reports, encode_orders, encode_reports
from scopekit.wire.channel import HEAD_SIZE, Channel, read_head
from scopekit.wire.codec import KnownFunctions
from scopekit.wire.messages import PeerAddress
from scopekit.wire.post import Post
from scopekit.wire.strangers import Strangers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from scopekit.graph import WorkerId
    from scopekit.wire.channel import Counts, Word
    from scopekit.wire.frames import Buffer
    from scopekit.wire.peers import Given, KeyPair

__all__ = ("DirectHub", "DirectLine", "DirectWire")

# On a line of a megabit per second a piece takes a second: heartbeats pass in between.
_PIECE = 1 << 17
_LARGEST_MESSAGE = 2 * _PIECE
_LARGEST_FRAME = 1 << 30
_MOST_BUFFERS = 1 << 16
_APART = 1 << 16
_BUFFER_GOES_ON = 1
_FRAME_GOES_ON = 2

_BATCH = 1000
_HEARTBEAT_MILLISECONDS = 1000
_SILENCE_MILLISECONDS = 3000
_HANDSHAKE_MILLISECONDS = 5000
_RECONNECT_MILLISECONDS = 100
_RECONNECT_MILLISECONDS_MOST = 2000
_LINGER_MILLISECONDS = 200
_QUEUED = 2048
_PATIENCE_SECONDS = 1.2 * _HANDSHAKE_MILLISECONDS / 1000
_BEAT_SECONDS = 1.0
_REDIAL_SECONDS = 4.0
_SWEEP_SECONDS = 0.5


class DirectHub:
    """Sends orders to engines and takes their reports, at the client.

    Args:
        keys: the key pair of this process.
        interface: the address to bind to, such as ``"127.0.0.1"``.
        on_reports: takes the id of an engine and a batch of its reports; called from the
            hub's own thread.
        on_broken: takes the id of an engine and what was wrong with what it said; nothing
            more is heard of it.

    Attributes:
        address: where engines find the hub.
    """

    copies = False  # only a frame that was not copied tells who sent it

    def __init__(
        self,
        keys: KeyPair,
        interface: str,
        on_reports: Callable[[WorkerId, list[msg.Report]], None],
        on_broken: Callable[[WorkerId, Exception], None] | None = None,
    ) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session
        from zmq.auth.thread import ThreadAuthenticator  # noqa: PLC0415

        self._on_reports = on_reports
        self._on_broken = on_broken
        self._far: dict[WorkerId, _Far] = {}
        self._allowed = _AllowList()
        self._refused = 0
        self._arrived: deque[tuple[_Far, list[Buffer]]] = deque()
        self._broken: deque[tuple[_Far, Exception]] = deque()
        self._touched: dict[_Far, None] = {}
        self._sweep_at = 0.0
        self._flushing = threading.Lock()
        # A context of our own: its authenticator must not judge the kernel's sockets.
        self._context = zmq.Context()
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.thread.name = "scopekit-hub-keys"
        self._authenticator.configure_curve_callback("*", credentials_provider=self._allowed)
        socket = self._context.socket(zmq.ROUTER)
        _set_up(socket, keys)
        socket.curve_server = True
        socket.router_mandatory = True
        self._strangers = Strangers(socket, _PATIENCE_SECONDS)
        port = socket.bind_to_random_port(f"tcp://{interface}")
        self.address = PeerAddress(f"tcp://{interface}:{port}", keys[0])
        self._post = Post(socket, "scopekit-hub", self)
        self._post.start()

    @property
    def refused(self) -> int:
        """How many connections and messages were refused.

        Unknown keys count at once; whoever never got as far, once its time is over.
        """
        with self._post.lock:
            if not self._post.closing:
                self._strangers.look(time.monotonic())
        return self._refused + max(self._allowed.refused, self._strangers.count)

    # -- who there is -------------------------------------------------------------

    def admit(self, worker: WorkerId, public_key: bytes) -> None:
        """Lets an engine in, instead of any that had its id.

        Args:
            worker: its id.
            public_key: what it proves itself with.
        """
        self.forget(worker)
        with self._post.lock:
            self._far[worker] = far = _Far(worker, public_key)
            self._allowed.far = {**self._allowed.far, public_key: far}

    def forget(self, worker: WorkerId) -> None:
        """Drops what was to go to an engine that is gone, and lets it in no more."""
        with self._post.lock:
            self._forget(worker)

    def _forget(self, worker: WorkerId) -> None:
        far = self._far.pop(worker, None)
        if far is not None:
            self._touched.pop(far, None)
            self._allowed.far = {k: f for k, f in self._allowed.far.items() if f is not far}

    def heard(self, worker: WorkerId) -> float | None:
        """Returns when an engine last said anything, by the monotonic clock; None if never."""
        far = self._far.get(worker)
        return None if far is None else far.heard

    def unacknowledged(self, worker: WorkerId) -> int:
        """Returns how many pieces of batches an engine has not confirmed."""
        far = self._far.get(worker)
        return 0 if far is None else far.channel.unacknowledged

    def counts(self, worker: WorkerId) -> Counts | None:
        """Returns what went wrong on the way to an engine and was mended."""
        far = self._far.get(worker)
        return None if far is None else far.channel.counts

    # -- orders -------------------------------------------------------------------

    def send(self, worker: WorkerId, order: msg.Order) -> None:
        """Takes an order, to leave with the next flush.

        Raises:
            ScopekitError: what goes with it is larger than a batch may be.
        """
        far = self._far.get(worker)
        if far is not None:
            _check_size(order)
            far.waiting.append(order)

    def functions(self, worker: WorkerId) -> KnownFunctions:
        """Returns which functions an engine was sent."""
        return self._far[worker].known

    def flush(self) -> None:
        """Sends what has gathered; any thread may do so."""
        # One at a time: batches must not overtake each other.
        with self._flushing:
            for far in list(self._far.values()):
                while far.waiting:
                    self._send_batch(far, _taken(far.waiting))

    def _send_batch(self, far: _Far, orders: list[msg.Order]) -> None:
        frame = encode_orders(orders)
        if len(orders) > 1 and sum(map(len, frame)) > _LARGEST_FRAME:
            middle = len(orders) // 2
            self._send_batch(far, orders[:middle])
            self._send_batch(far, orders[middle:])
            return
        with self._post.lock:
            if not self._post.closing:
                _send_frame(far.channel, frame)
                self._send_due(far, time.monotonic())
                self._post.look()

    def _send_due(self, far: _Far, now: float) -> None:
        if far.route is None:
            return
        for word in far.channel.due(now):
            if not self._post.send([far.route, *_parts(word)]):
                # Its next word shows the new way; the channel finds out what was lost.
                far.route = None
                return
        due = far.channel.next_due(now)
        if due is not None:
            self._sweep_at = min(self._sweep_at, due)

    # -- receiving ------------------------------------------------------------------

    def lead(self, holds: Callable[[], bool], until: float | None) -> bool:
        """Receives in the caller's thread until something holds; see :class:`Post`."""
        return self._post.lead(holds, until)

    def nudge(self) -> None:
        """Has whoever leads see whether what it waits for holds now."""
        self._post.nudge()

    def resume(self) -> None:
        """Has the hub's own thread receive again at once."""
        self._post.resume()

    # -- what the post asks for ------------------------------------------------------

    def take(self, frames: list[Any], now: float) -> None:
        """Reads one message; called with the lock held."""
        try:
            far = self._speaker(frames)
            self._hear(far, frames, now)
        except Exception:  # noqa: BLE001  # whatever one peer sends, the others are served
            self._refused += 1

    def _speaker(self, frames: list[Any]) -> _Far:
        # The list may have lost the key since the connection was let in.
        far = self._allowed.far.get(str(frames[-1].get("User-Id")).encode())
        if far is None:
            raise ProtocolError("a peer that is not on the list spoke")
        return far

    def _hear(self, far: _Far, frames: list[Any], now: float) -> None:
        word = _read_word([frame.bytes for frame in frames[1:]])
        stale = far.channel.counts.stale
        messages = far.channel.receive(word, now)
        if far.channel.counts.stale > stale:
            raise ProtocolError("a word is not for this hub")
        far.heard = now
        route = frames[0].bytes
        if route != far.route:
            far.route = route
            far.channel.probe()
        self._touched[far] = None
        try:
            self._arrived += ((far, frame) for frame in far.frames.take(messages))
        except ProtocolError as error:
            self._break(far, error)
            raise

    def _break(self, far: _Far, error: Exception) -> None:
        if self._far.get(far.worker) is far:
            self._forget(far.worker)
            self._broken.append((far, error))

    def tick(self, now: float) -> float:
        """Sends what is due; called with the lock held.

        Returns:
            The seconds until something may be due again.
        """
        touched, self._touched = self._touched, {}
        if now >= self._sweep_at:
            self._strangers.look(now)
            self._sweep_at = now + _SWEEP_SECONDS
            touched = dict.fromkeys(self._far.values())
        for far in touched:
            self._send_due(far, now)
        return self._sweep_at - now

    def deliver(self) -> None:
        """Hands on what arrived; called without the lock."""
        while self._arrived:
            far, frame = self._arrived.popleft()
            if self._far.get(far.worker) is not far:
                continue
            try:
                reports = decode_reports(frame)
            except ProtocolError as error:
                with self._post.lock:
                    self._refused += 1
                    self._break(far, error)
                continue
            _call(self._on_reports, far.worker, reports)
        while self._broken:
            far, wrong = self._broken.popleft()
            if self._on_broken is not None:
                _call(self._on_broken, far.worker, wrong)

    def closed(self) -> None:
        """Ends what the socket needed; called once it is closed."""
        self._authenticator.stop()
        self._context.destroy(0)

    def close(self) -> None:
        """Closes the socket and ends the threads, within a second."""
        self._post.close()


class DirectWire:
    """Speaks with engines through a hub; asks for chunks by another way.

    Args:
        hub: carries the orders.
        ask: asks an engine for chunks, where its own socket cannot be reached.
    """

    any_thread = True

    def __init__(
        self,
        hub: DirectHub,
        ask: Callable[[WorkerId, Sequence[int], float | None], list[Given]],
    ) -> None:
        self.send = hub.send
        self.flush = hub.flush
        self.functions = hub.functions
        self.forget = hub.forget
        self.ask = ask


class DirectLine:
    """Takes orders from the client and sends reports to it, at an engine.

    Args:
        keys: the key pair of this process.
        address: where the hub is, with the key that proves it.
        on_orders: takes a batch of orders; called from the line's own thread.
        on_broken: takes what was wrong with what the hub said.
    """

    copies = True

    def __init__(
        self,
        keys: KeyPair,
        address: PeerAddress,
        on_orders: Callable[[list[msg.Order]], None],
        on_broken: Callable[[Exception], None] | None = None,
    ) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session

        self._on_orders = on_orders
        self._on_broken = on_broken
        self._channel = Channel(os.urandom(8), opens=True)
        self._frames = _Frames()
        self._arrived: deque[list[Buffer]] = deque()
        self._broken: deque[Exception] = deque()
        self._connected = threading.Event()
        self._sending = threading.Lock()
        self._endpoint = address.endpoint
        self._asked = self._silent_since = time.monotonic()
        self.refused = 0
        self.heard: float | None = None
        self._context = zmq.Context()
        socket = self._context.socket(zmq.DEALER)
        _set_up(socket, keys)
        socket.linger = _LINGER_MILLISECONDS
        socket.curve_serverkey = address.public_key
        socket.reconnect_ivl = _RECONNECT_MILLISECONDS
        socket.reconnect_ivl_max = _RECONNECT_MILLISECONDS_MOST
        # It has no routing id: the hub gives each connection a new one that nobody knows.
        socket.connect(address.endpoint)
        self._post = Post(socket, "scopekit-line", self)
        self._post.start()

    def wait_connected(self, timeout: float | None = None) -> bool:
        """Waits until the hub has answered.

        Args:
            timeout: seconds to wait at most, for ever if None.

        Returns:
            True if it has.
        """
        return self._connected.wait(timeout)

    @property
    def unacknowledged(self) -> int:
        """How many pieces of batches the hub has not confirmed."""
        return self._channel.unacknowledged

    @property
    def counts(self) -> Counts:
        """What went wrong on the way and was mended."""
        return self._channel.counts

    def attach(self, loop: asyncio.AbstractEventLoop, after: Callable[[], None]) -> None:
        """Has an event loop receive whenever it has nothing else to do; see :class:`Post`."""
        self._post.attach(loop, after)

    def lead(self, holds: Callable[[], bool], until: float | None) -> bool:
        """Receives in the caller's thread until something holds; see :class:`Post`."""
        return self._post.lead(holds, until)

    def nudge(self) -> None:
        """Has whoever leads see whether what it waits for holds now."""
        self._post.nudge()

    def send(self, reports: Sequence[msg.Report]) -> None:
        """Sends reports; any thread may do so.

        Args:
            reports: in the order in which the client is to read them.
        """
        # One at a time: batches must not overtake each other.
        with self._sending:
            for begin in range(0, len(reports), _BATCH):
                self._send_batch(encode_reports(reports[begin : begin + _BATCH]))

    def _send_batch(self, frame: Sequence[Buffer]) -> None:
        with self._post.lock:
            if not self._post.closing:
                _send_frame(self._channel, frame)
                self._send_due(time.monotonic())
                self._post.look()

    def _send_due(self, now: float) -> None:
        for word in self._channel.due(now):
            if not self._post.send(_parts(word)):
                return

    # -- what the post asks for ------------------------------------------------------

    def take(self, frames: list[Any], now: float) -> None:
        """Reads one message; called with the lock held."""
        try:
            messages = self._channel.receive(_read_word(frames), now)
            self._arrived += self._frames.take(messages)
        except ProtocolError as error:
            self.refused += 1
            self._broken.append(error)
        if self._channel.connected:
            self.heard = self._silent_since = now
            self._connected.set()

    def tick(self, now: float) -> float:
        """Sends what is due; called with the lock held.

        Returns:
            The seconds until something may be due again.
        """
        self._watch_silence(now)
        self._send_due(now)
        due = self._channel.next_due(now)
        return min(_SWEEP_SECONDS, _SWEEP_SECONDS if due is None else due - now)

    def _watch_silence(self, now: float) -> None:
        """Asks a hub that says nothing, and dials again where it gives no answer.

        ZeroMQ dials again by itself where a connection breaks, but never again where it did
        not like what it heard: a key that was not on the list yet, or a byte that changed.
        """
        if now - max(self._asked, self._silent_since) >= _BEAT_SECONDS:
            if now - self._asked >= 2 * _BEAT_SECONDS:
                # Nothing was asked for long: this process stood still, or was well served.
                self._silent_since = now
            self._asked = now
            if self._channel.connected:
                self._channel.probe()
        if now - self._silent_since >= _REDIAL_SECONDS:
            self._silent_since = now
            self._post.redial(self._endpoint)
            self._channel.probe()

    def deliver(self) -> None:
        """Hands on what arrived; called without the lock."""
        while self._arrived:
            try:
                orders = decode_orders(self._arrived.popleft())
            except ProtocolError as error:
                self.refused += 1
                self._broken.append(error)
            else:
                _call(self._on_orders, orders)
        while self._broken:
            wrong = self._broken.popleft()
            if self._on_broken is not None:
                _call(self._on_broken, wrong)

    def closed(self) -> None:
        """Ends what the socket needed; called once it is closed."""
        self._context.term()

    def close(self) -> None:
        """Closes the socket and ends the thread, within a second."""
        self._post.close()


# -- what both have ---------------------------------------------------------------------


class _AllowList:
    """Tells the authenticator which public keys may connect."""

    def __init__(self) -> None:
        self.far: dict[bytes, _Far] = {}
        self.refused = 0

    def callback(self, domain: str, key: bytes) -> bool:
        """Answers for one key; the name is what the authenticator calls."""
        del domain
        if key in self.far:
            return True
        self.refused += 1
        return False


class _Far:
    """What the hub knows of one engine."""

    def __init__(self, worker: WorkerId, public_key: bytes) -> None:
        self.worker = worker
        self.public_key = public_key
        self.channel = Channel(os.urandom(8), opens=False)
        self.frames = _Frames()
        self.known = KnownFunctions()
        self.waiting: deque[msg.Order] = deque()
        self.route: bytes | None = None
        self.heard: float | None = None


class _Frames:
    """Puts pieces together again, up to a bound."""

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self._pieces: list[Buffer] = []
        self._size = 0

    def take(self, messages: Sequence[tuple[int, Buffer]]) -> list[list[Buffer]]:
        """Takes pieces in order; returns the frames that are whole now."""
        frames: list[list[Buffer]] = []
        for flags, piece in messages:
            self._size += len(piece)
            if self._size > _LARGEST_FRAME or len(self._buffers) > _MOST_BUFFERS:
                raise ProtocolError("a batch is larger than any that is sent")
            self._pieces.append(piece)
            if flags & _BUFFER_GOES_ON:
                continue
            whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._buffers.append(whole)
            self._pieces = []
            if not flags & _FRAME_GOES_ON:
                frames.append(self._buffers)
                self._buffers, self._size = [], 0
        return frames


def _set_up(socket: Any, keys: KeyPair) -> None:
    """Sets what both ends have in common."""
    socket.curve_publickey, socket.curve_secretkey = keys
    socket.linger = 0
    socket.maxmsgsize = _LARGEST_MESSAGE
    socket.sndhwm = socket.rcvhwm = _QUEUED
    socket.handshake_ivl = _HANDSHAKE_MILLISECONDS
    socket.heartbeat_ivl = _HEARTBEAT_MILLISECONDS
    socket.heartbeat_timeout = socket.heartbeat_ttl = _SILENCE_MILLISECONDS


def _check_size(order: msg.Order) -> None:
    size = 0
    if type(order) is msg.Run and type(order.arguments) is bytes:
        size = len(order.arguments)
    elif type(order) is msg.Put and order.parcel.loan is None:
        size = order.parcel.nbytes
    if size > _LARGEST_FRAME - _LARGEST_MESSAGE:
        raise ScopekitError(
            f"{size} bytes are to go to an engine at once, which takes no more than"
            f" {_LARGEST_FRAME}. Let a task make the value where it is needed, or cut it up."
        )


def _taken(waiting: deque[msg.Order]) -> list[msg.Order]:
    """Takes what there is; others may add meanwhile."""
    return [waiting.popleft() for _ in range(min(len(waiting), _BATCH))]


def _send_frame(channel: Channel, frame: Sequence[Buffer]) -> None:
    """Hands the pieces of a frame to a channel."""
    for number, buffer in enumerate(frame, 1):
        goes_on = _FRAME_GOES_ON if number < len(frame) else 0
        view = memoryview(buffer)
        for begin in range(0, max(1, len(view)), _PIECE):
            more = _BUFFER_GOES_ON if begin + _PIECE < len(view) else 0
            piece = buffer if len(view) <= _PIECE else view[begin : begin + _PIECE]
            channel.send(piece, goes_on | more)


def _parts(word: Word) -> list[Buffer]:
    if len(word.body) < _APART:
        return [word.head() + word.body]
    return [word.head(), word.body]


def _read_word(parts: Sequence[Buffer]) -> Word:
    if len(parts) == 1:
        return read_head(parts[0][:HEAD_SIZE], memoryview(parts[0])[HEAD_SIZE:])
    if len(parts) != 2:  # noqa: PLR2004  # the head and the body
        raise ProtocolError("a message has more parts than a word")
    return read_head(*parts)


def _call(function: Callable[..., None], *arguments: Any) -> None:
    """Calls back; an error is shown, and does not end the thread that serves everybody."""
    try:
        function(*arguments)
    except Exception:  # noqa: BLE001  # whatever the callback raises
        told = (*sys.exc_info(), threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(told))
