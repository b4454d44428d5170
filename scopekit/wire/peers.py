"""Chunks from process to process, over sockets that know who asks.

Every process has a CURVE key pair of its own, made in memory. A server lets in the
public keys it was told of and no others, and takes who asks from the key of the
connection, never from what the message says. Its holder then asks the chunk's scope.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, ProtocolError, ScopeViolationError
from scopekit.wire.codec import dump_own, load_value
from scopekit.wire.lending import Loan, LoanOverError, can_borrow
from scopekit.wire.messages import PeerAddress
from scopekit.wire.parcels import Parcel
from scopekit.wire.strangers import Strangers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.scopes import Scope
    from scopekit.wire.frames import Buffer

__all__ = ("Given", "KeyPair", "PeerClient", "PeerServer", "Pushed", "key_pair", "sayable")

_GIVEN = b"\x00"
_REFUSED = b"\x01"
_ID = struct.Struct("!Q")
_PUSHED = _ID.pack(0)
# Only whom the list names gets as far as to send a message at all.
_LARGEST_MESSAGE = 1 << 32
_MOST_QUEUED = 100_000
_POLL_MILLISECONDS = 200
_HANDSHAKE_MILLISECONDS = 5000
_PATIENCE_SECONDS = 1.2 * _HANDSHAKE_MILLISECONDS / 1000
_ASK_SECONDS = 60.0

KeyPair = tuple[bytes, bytes]
Given = tuple["StoredChunk", Parcel]
"""A chunk with its value."""
Pushed = Given | tuple[int, "Scope | int"]
"""A chunk with its value; or the id of one that may not be had, with its scope; or
``messages.SENT_BY`` with the version of the topology by which the sender judged what follows."""


def key_pair() -> KeyPair:
    """Makes a CURVE key pair: public half, secret half."""
    import zmq  # noqa: PLC0415  # loaded with the first session

    public, secret = zmq.curve_keypair()
    return public, secret


class _AllowList:
    """Tells the authenticator which public keys may connect."""

    def __init__(self) -> None:
        self.workers: Mapping[bytes, WorkerId] = {}
        self.refused = 0

    def callback(self, domain: str, key: bytes) -> bool:
        """Answers for one key; the name is what the authenticator calls."""
        del domain
        if key in self.workers:
            return True
        self.refused += 1
        return False


class PeerServer:
    """Serves the chunks of this process to the peers that it was told of.

    Args:
        keys: the key pair of this process.
        interface: the address to bind to, such as ``"127.0.0.1"``.
        give: pickles chunks for a worker, which may be able to read what this process
            lends, or raises if it may not have them.
        take: takes what a worker sends without being asked.
        card: shows whether others can read what this process lends.
    """

    def __init__(
        self,
        keys: KeyPair,
        interface: str,
        give: Callable[[Sequence[int], WorkerId, bool], list[Given]],
        take: Callable[[WorkerId, list[Pushed]], None],
        card: Loan | None = None,
    ) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session
        from zmq.auth.thread import ThreadAuthenticator  # noqa: PLC0415

        self._give = give
        self._take = take
        self._allowed = _AllowList()
        self._closing = threading.Event()
        # A context of our own: its authenticator must not judge the kernel's sockets.
        self._context = zmq.Context()
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", credentials_provider=self._allowed)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.curve_publickey, self._socket.curve_secretkey = keys
        self._socket.curve_server = True
        self._socket.linger = 0
        self._socket.maxmsgsize = _LARGEST_MESSAGE
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MILLISECONDS)
        self._strangers = Strangers(self._socket, _PATIENCE_SECONDS)
        port = self._socket.bind_to_random_port(f"tcp://{interface}")
        self.address = PeerAddress(f"tcp://{interface}:{port}", keys[0], card)
        self._refused = 0
        self._thread = threading.Thread(target=self._serve, name="scopekit-peers", daemon=True)
        self._thread.start()

    def allow(self, workers: Mapping[bytes, WorkerId]) -> None:
        """Replaces the public keys that may ask, with the worker that each one is."""
        self._allowed.workers = dict(workers)

    @property
    def refused(self) -> int:
        """How many connections and messages were refused.

        Unknown keys count at once; whoever never got as far, once its time is over.
        """
        return self._refused + max(self._allowed.refused, self._strangers.count)

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._strangers.look(time.monotonic())
            if not self._socket.poll(_POLL_MILLISECONDS):
                continue
            frames = self._socket.recv_multipart(copy=False)
            try:
                self._answer(frames)
            except Exception:  # noqa: BLE001  # whatever one peer sends, the others are served
                self._refused += 1

    def _answer(self, frames: Sequence[Any]) -> None:
        routing, request, wanted, *parts = frames
        key = str(request.get("User-Id")).encode()
        # The list may have lost the key since the connection was let in.
        asker = self._allowed.workers.get(key)
        if asker is None:
            raise ProtocolError("a peer that is not on the list asked for chunks")
        if request.bytes == _PUSHED:
            self._take(asker, _read_pushed(wanted.bytes, [frame.buffer for frame in parts]))
            return
        (card,) = parts
        _ID.unpack(request.bytes)
        chunks = [number for (number,) in _ID.iter_unpack(wanted.bytes)]
        try:
            lent = bool(card.bytes) and can_borrow(Loan.from_bytes(card.bytes))
            given = self._give(chunks, asker, lent)
            head = dump_own([(stored, _outline(parcel)) for stored, parcel in given])
            answer = [_GIVEN, head, *(part for _, parcel in given for part in parcel.parts)]
        except Exception as error:  # noqa: BLE001  # the asker is told, whatever it is
            answer = [_REFUSED, dump_own(sayable(error))]
        self._socket.send_multipart([routing.bytes, request.bytes, *answer], copy=False)

    def close(self) -> None:
        """Closes the sockets and ends the threads, within a second."""
        self._closing.set()
        self._thread.join(1.0)
        self._authenticator.stop()
        self._socket.close(0)
        self._context.destroy(0)


def sayable(error: Exception) -> Exception:
    """Returns the error that another process may be told of."""
    if isinstance(error, (ScopeViolationError, ChunkLostError)):
        return error
    # Another error's text may hold a part of the value.
    return ChunkLostError(f"its holder could not give the chunk ({type(error).__name__})")


class PeerClient:
    """Asks peers for chunks.

    Args:
        keys: the key pair of this process.
        card: shows whether it can read what others lend; None if it lends nothing itself.
    """

    def __init__(self, keys: KeyPair, card: Loan | None = None) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session

        self._keys = keys
        self._card = b"" if card is None else card.to_bytes()
        self._context = zmq.Context()
        self._sockets: dict[str, _Line] = {}
        self._pushers: dict[str, _Line] = {}
        self._closed = False
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._requests = itertools.count(1)

    def ask(
        self, address: PeerAddress, chunks: Sequence[int], timeout: float | None = None
    ) -> list[Given]:
        """Asks one peer for chunks.

        Args:
            address: where the peer serves.
            chunks: the ids.
            timeout: seconds to wait at most, a minute if None.

        Returns:
            A description and the value of each chunk, in order. What was lent is this
            process's own: it may be written to, and nobody else sees it.

        Raises:
            ScopeViolationError: this process lies outside a chunk's scope.
            ChunkLostError: the peer does not hold a chunk.
            TimeoutError: no answer came in time.
            ConnectionError: the peer is gone.
        """
        until = time.monotonic() + (_ASK_SECONDS if timeout is None else timeout)
        with self._lock:
            lock = self._locks.setdefault(address.endpoint, threading.Lock())
        with lock:
            given = self._ask(address, chunks, self._card, until)
            try:
                return [(stored, parcel.borrowed(own=True)) for stored, parcel in given]
            except LoanOverError:
                return self._ask(address, chunks, b"", until)

    def _ask(
        self, address: PeerAddress, chunks: Sequence[int], card: bytes, until: float
    ) -> list[Given]:
        socket = self._socket(self._sockets, address)
        number = _ID.pack(next(self._requests))
        try:
            socket.send([number, b"".join(map(_ID.pack, chunks)), card])
            while True:
                socket.wait(until)
                frames = socket.receive()
                # An answer to a request that was given up may still come in.
                if frames[0] == number:
                    return _read_answer(frames[1:])
        except (TimeoutError, ConnectionError, KeyboardInterrupt):
            # Where Ctrl-C came between the parts of an answer, the rest is still in there.
            self._sockets.pop(address.endpoint, None)
            socket.close()
            raise

    def push(self, address: PeerAddress, items: Sequence[Pushed]) -> None:
        """Sends chunks to a peer that did not ask, without waiting for an answer.

        What is lost on the way is asked for again by whoever waits for it.

        Args:
            address: where the peer serves.
            items: the chunks; or ids of those that it may not have, with their scopes.
        """
        heads: list[Any] = []
        parts: list[Buffer] = []
        for head, body in items:
            if isinstance(body, Parcel):
                heads.append((head, _outline(body)))
                parts += body.parts
            else:
                heads.append((head, body))
        with self._lock:
            if self._closed:
                return
            line = self._socket(self._pushers, address)
            with contextlib.suppress(ConnectionError):
                line.send([_PUSHED, dump_own(heads), *parts])

    def _socket(self, lines: dict[str, _Line], address: PeerAddress) -> _Line:
        line = lines.get(address.endpoint)
        if line is not None and line.is_broken():
            # Perhaps the peer was only told late that it may let this process in.
            line.close()
            line = None
        if line is None:
            line = lines[address.endpoint] = _Line(self._context, self._keys, address)
        return line

    def close(self) -> None:
        """Closes the sockets."""
        with self._lock:
            self._closed = True
            lines = [*self._sockets.values(), *self._pushers.values()]
            self._sockets.clear()
            self._pushers.clear()
        for line in lines:
            line.close()
        self._context.destroy(0)


class _Line:
    """The socket to one peer, which notices when nobody is at the other end.

    By itself ZeroMQ goes on dialling a process that is gone, without a word, and never
    dials again where its key was refused. So it dials once, and its monitor says when the
    connection is over: a few words for each line, as one that nobody reads and that is
    full would stop ZeroMQ's own thread.
    """

    def __init__(self, context: Any, keys: KeyPair, address: PeerAddress) -> None:
        import zmq  # noqa: PLC0415  # loaded with the first session

        self._zmq = zmq
        self._endpoint = address.endpoint
        self._socket = context.socket(zmq.DEALER)
        self._socket.curve_publickey, self._socket.curve_secretkey = keys
        self._socket.curve_serverkey = address.public_key
        self._socket.linger = 0
        self._socket.sndhwm = _MOST_QUEUED
        self._socket.reconnect_ivl = -1
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._socket.connect(address.endpoint)

    def is_broken(self) -> bool:
        """Tells whether the connection is over."""
        return bool(self._monitor.poll(0))

    def send(self, frames: Sequence[Buffer]) -> None:
        """Sends a message, without waiting.

        Raises:
            ConnectionError: nobody is there to whom it could go.
        """
        try:
            self._socket.send_multipart(frames, self._zmq.DONTWAIT, copy=False)
        except self._zmq.Again:
            raise ConnectionError(f"{self._endpoint} is gone") from None

    def receive(self) -> list[Buffer]:
        frames = self._socket.recv_multipart(copy=False)
        return [frame.buffer for frame in frames]

    def wait(self, until: float) -> None:
        """Waits for an answer.

        Raises:
            TimeoutError: none came in time.
            ConnectionError: nobody is there who could give one.
        """
        while True:
            left = until - time.monotonic()
            ready = dict(self._poller.poll(max(0, int(left * 1000) + 1))) if left > 0 else {}
            # What was said before the connection broke counts.
            if self._socket in ready:
                return
            if self._monitor in ready:
                raise ConnectionError(f"{self._endpoint} is gone, or does not know this process")
            if not ready:
                raise TimeoutError(f"{self._endpoint} gave no answer in time")

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)


def _outline(parcel: Parcel) -> Loan | int:
    """Says where a parcel is: in how many of the parts that follow, or lent."""
    return len(parcel.parts) if parcel.loan is None else parcel.loan


def _filled(outline: Loan | int, parts: Iterator[Buffer]) -> Parcel:
    if isinstance(outline, Loan):
        return Parcel((), outline)
    found = tuple(islice(parts, outline))
    if len(found) != outline or not found:
        raise ProtocolError("a message lacks parts of a value")
    return Parcel(found)


def _read_pushed(heads: Buffer, parts: Sequence[Buffer]) -> list[Pushed]:
    rest = iter(parts)
    return [
        (head, body) if isinstance(head, int) else (head, _filled(body, rest))
        for head, body in load_value(heads)
    ]


def _read_answer(frames: Sequence[Buffer]) -> list[Given]:
    status, head, *parts = frames
    if status == _REFUSED:
        error = load_value(head)
        raise error if isinstance(error, Exception) else ProtocolError("a peer refused")
    rest = iter(parts)
    return [(stored, _filled(outline, rest)) for stored, outline in load_value(head)]
