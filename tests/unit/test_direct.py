"""Direct sockets: real ones, broken ones, and those of strangers."""

import contextlib
import itertools
import os
import socket
import struct
import threading
import time

import pytest
import zmq

from scopekit.errors import ProtocolError, ScopekitError
from scopekit.graph import StoredChunk
from scopekit.scopes import AnyScope, ThreadProc
from scopekit.wire import direct
from scopekit.wire import messages as msg
from scopekit.wire.channel import NOBODY, Word
from scopekit.wire.direct import DirectHub, DirectLine
from scopekit.wire.messages import PeerAddress
from scopekit.wire.parcels import Parcel
from scopekit.wire.peers import key_pair

LIMIT = 20.0
PLACE = ThreadProc(0, 0)


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def run(task):
    return msg.Run(task, f"f-{task}", b"d", None, (), ((), ()), PLACE, (), (task,), None)


def done(task):
    stored = StoredChunk(task, AnyScope(), PLACE, "int", 28)
    return msg.Finished(task, (stored,), 1.0, 2.0, (task,))


def tasks(items):
    return [item.task for item in items]


class Engine(DirectLine):
    """A line that keeps what arrives."""

    def __init__(self, address, keys=None):
        self.keys = key_pair() if keys is None else keys
        self.orders = []
        self.broken = []
        super().__init__(self.keys, address, self.orders.extend, self.broken.append)


@pytest.fixture
def said():
    return {}


@pytest.fixture
def broken():
    return []


@pytest.fixture
def hub(said, broken):
    hub = DirectHub(
        key_pair(),
        "127.0.0.1",
        lambda worker, reports: said.setdefault(worker, []).extend(reports),
        lambda worker, error: broken.append((worker, error)),
    )
    yield hub
    hub.close()


@pytest.fixture
def join(hub):
    """Brings engines to the hub, which end with the test."""
    with contextlib.ExitStack() as stack:

        def joined(worker, address=None):
            keys = key_pair()
            hub.admit(worker, keys[0])
            engine = Engine(address or hub.address, keys)
            stack.callback(engine.close)
            assert engine.wait_connected(LIMIT)
            return engine

        yield joined


@pytest.fixture
def engine(join):
    return join(0)


@pytest.fixture
def serves(hub, engine, said):
    """Tells that the hub and an engine that was there before still hear each other."""
    numbers = itertools.count(1000)

    def check():
        number = next(numbers)
        hub.send(0, run(number))
        hub.flush()
        until(lambda: engine.orders and engine.orders[-1].task == number)
        engine.send([done(number)])
        until(lambda: said.get(0) and said[0][-1].task == number)
        return True

    return check


def test_orders_and_reports_arrive_in_order(hub, join, said):
    first, second = join(0), join("b")
    for task in range(3000):
        hub.send(0 if task % 2 else "b", run(task))
    hub.flush()
    first.send([done(task) for task in range(2500)])
    second.send([msg.Arrived((1, 2), 0.0)])

    until(lambda: len(first.orders) == len(second.orders) == 1500)
    until(lambda: len(said.get(0, ())) == 2500 and "b" in said)
    assert tasks(first.orders) == list(range(1, 3000, 2))
    assert tasks(second.orders) == list(range(0, 3000, 2))
    assert tasks(said[0]) == list(range(2500))
    assert said["b"] == [msg.Arrived((1, 2), 0.0)]
    assert hub.refused == 0


def test_what_was_sent_before_an_engine_came_arrives_when_it_comes(hub):
    keys = key_pair()
    hub.admit(0, keys[0])
    hub.send(0, run(1))
    hub.flush()
    assert hub.heard(0) is None
    engine = Engine(hub.address, keys)
    try:
        until(lambda: tasks(engine.orders) == [1])
    finally:
        engine.close()


def test_an_order_leaves_with_the_flush_and_not_before(hub, engine, serves):
    hub.send(0, run(1))
    assert hub.unacknowledged(0) == 0
    hub.flush()
    assert serves()
    assert tasks(engine.orders)[0] == 1


def test_large_values_arrive_whole(hub, engine):
    value = os.urandom(1 << 20) * 9 + b"end"
    hub.send(0, msg.Put(1, Parcel((value,)), AnyScope(), PLACE, True))
    hub.send(0, run(2)._replace(arguments=value[::-1]))
    hub.flush()
    until(lambda: len(engine.orders) == 2)

    assert engine.orders[0].parcel.parts[0] == value
    assert engine.orders[1].arguments == value[::-1]
    until(lambda: hub.unacknowledged(0) == 0)


def test_a_batch_that_would_be_too_large_goes_as_several(hub, engine, monkeypatch):
    monkeypatch.setattr(direct, "_LARGEST_FRAME", direct._LARGEST_MESSAGE + 200_000)
    for chunk in range(40):
        hub.send(0, msg.Put(chunk, Parcel((bytes(200_000),)), AnyScope(), PLACE, True))
    with pytest.raises(ScopekitError, match="cut it up"):
        hub.send(0, msg.Put(99, Parcel((bytes(200_001),)), AnyScope(), PLACE, True))
    hub.flush()
    until(lambda: [order.chunk for order in engine.orders] == list(range(40)))


def test_any_thread_may_send_and_flush(hub, engine, said):
    def work(part):
        for task in range(part, 400, 4):
            hub.send(0, run(task))
            hub.flush()
            engine.send([done(task)])

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(engine.orders) == len(said.get(0, ())) == 400)

    for arrived in (tasks(engine.orders), tasks(said[0])):
        for part in range(4):
            assert [task for task in arrived if task % 4 == part] == list(range(part, 400, 4))


def test_a_callback_may_answer_at_once(hub, join, said):
    engine = join(0)
    engine._on_orders = lambda orders: engine.send([done(order.task) for order in orders])
    for task in range(50):
        hub.send(0, run(task))
        hub.flush()
    until(lambda: tasks(said.get(0, ())) == list(range(50)))


def test_a_callback_that_raises_ends_nothing(hub, engine, said, monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda told: shown.append(told.exc_type))

    def take(worker, reports):
        said[worker] = reports
        raise ValueError

    hub._on_reports = take
    engine.send([done(1)])
    until(lambda: shown)
    engine.send([done(2)])
    until(lambda: tasks(said[0]) == [2])
    until(lambda: shown == [ValueError, ValueError])


def test_an_idle_engine_is_heard_now_and_then(hub, join, monkeypatch):
    monkeypatch.setattr(direct, "_BEAT_SECONDS", 0.02)
    monkeypatch.setattr(direct, "_SWEEP_SECONDS", 0.01)
    engine = join(0)
    before = hub.heard(0)
    until(lambda: hub.heard(0) > before)
    assert engine.heard is not None
    assert hub.heard("nobody") is None


# -- who may speak ----------------------------------------------------------------------


def test_an_unknown_key_gets_in_nowhere(hub, serves):
    stranger = Engine(hub.address)
    try:
        until(lambda: hub.refused)
        assert not stranger.wait_connected(0.05)
        assert serves()
        assert stranger.orders == []
    finally:
        stranger.close()


def test_the_right_key_at_a_wrong_hub_says_nothing(hub, serves):
    keys = key_pair()
    hub.admit(1, keys[0])
    engine = Engine(PeerAddress(hub.address.endpoint, key_pair()[0]), keys)
    try:
        assert not engine.wait_connected(0.3)
        assert hub.heard(1) is None
        assert serves()
    finally:
        engine.close()


def test_plain_zeromq_gets_in_nowhere(hub, serves, said):
    context = zmq.Context()
    with context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(hub.address.endpoint)
        plain.send(Word(b"a" * 8, NOBODY, 1, 1, 0).head())
        assert serves()
        assert not plain.poll(200)
    assert list(said) == [0]


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", os.urandom(4096), b"", b"\xff" + bytes(8)],
    ids=["http", "random", "nothing", "half a greeting"],
)
def test_bytes_of_another_protocol_get_in_nowhere(hub, serves, said, data):
    host, port = hub.address.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(data)
        assert serves()
    assert serves()
    assert list(said) == [0]


def test_many_that_never_greet_keep_nobody_waiting(hub, serves, join):
    host, port = hub.address.endpoint.removeprefix("tcp://").split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection((host, int(port))))
        assert serves()
        assert join(1).wait_connected(LIMIT)


NO_PEERS = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    bytes(range(256)) * 16,
    b"",
    b"\xff" + bytes(8),
    b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48),
]


def test_everybody_who_was_turned_away_is_counted_once(monkeypatch):
    monkeypatch.setattr(direct, "_HANDSHAKE_MILLISECONDS", 200)
    monkeypatch.setattr(direct, "_PATIENCE_SECONDS", 0.3)
    own = DirectHub(key_pair(), "127.0.0.1", lambda *_: None)
    keys = key_pair()
    own.admit(0, keys[0])
    engine = Engine(own.address, keys)
    host, port = own.address.endpoint.removeprefix("tcp://").split(":")
    try:
        assert engine.wait_connected(LIMIT)
        with contextlib.ExitStack() as stack:
            for said in NO_PEERS:
                stranger = stack.enter_context(socket.create_connection((host, int(port))))
                with contextlib.suppress(OSError):
                    stranger.sendall(said)
            until(lambda: own.refused == len(NO_PEERS))
            late = stack.enter_context(contextlib.closing(Engine(own.address)))
            until(lambda: own.refused == len(NO_PEERS) + 1)
            assert not late.wait_connected(0.01)
        engine.send([done(1)])
        until(lambda: engine.unacknowledged == 0)
        assert own.refused == len(NO_PEERS) + 1
    finally:
        engine.close()
        own.close()


@contextlib.contextmanager
def dealer(hub, keys, routing_id=None):
    """Speaks with a key that the hub knows, and says what it likes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as speaker:
        speaker.linger = 0
        speaker.curve_publickey, speaker.curve_secretkey = keys
        speaker.curve_serverkey = hub.address.public_key
        if routing_id is not None:
            speaker.routing_id = routing_id
        speaker.connect(hub.address.endpoint)
        yield speaker


HELLO = Word(b"a" * 8, NOBODY, 0, 0, 0)


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"garbage"],
        [os.urandom(200)],
        [b"", b""],
        [HELLO.head(), b"", b""],
        [HELLO._replace(number=2, last=1).head()],
        [HELLO._replace(to=b"z" * 8).head()],
    ],
)
def test_garbage_under_a_known_key_is_counted_and_the_others_are_served(hub, serves, parts):
    keys = key_pair()
    hub.admit(1, keys[0])
    with dealer(hub, keys) as speaker:
        speaker.send_multipart(parts)
        until(lambda: hub.refused)
        assert serves()
    assert hub.refused == 1


@pytest.mark.parametrize("body", [b"garbage", b"skf\x01\x02", b"skp\x01\x02garbage"])
def test_a_batch_that_cannot_be_read_ends_the_line_and_is_told(hub, serves, said, broken, body):
    keys = key_pair()
    hub.admit(1, keys[0])
    with dealer(hub, keys) as speaker:
        speaker.send(HELLO._replace(number=1, last=1).head() + body)
        until(lambda: broken)
        speaker.send(HELLO._replace(number=2, last=2).head() + body)
        until(lambda: hub.refused == 2)
        assert serves()
    ((worker, error),) = broken
    assert (worker, type(error)) == (1, ProtocolError)
    assert list(said) == [0]


def test_pieces_without_end_are_refused(hub, serves, broken, monkeypatch):
    monkeypatch.setattr(direct, "_LARGEST_FRAME", 1 << 20)
    keys = key_pair()
    hub.admit(1, keys[0])
    with dealer(hub, keys) as speaker:
        for number in range(1, 20):
            word = HELLO._replace(number=number, last=number, flags=direct._BUFFER_GOES_ON)
            speaker.send_multipart([word.head(), bytes(100_000)])
        until(lambda: broken)
        assert serves()


def test_what_a_line_cannot_read_is_told(hub, engine):
    far = hub._far[0]
    with hub._post.lock:
        far.channel.send(b"garbage")
        hub._send_due(far, time.monotonic())
    until(lambda: engine.broken)
    assert engine.refused == 1


def test_a_key_that_was_taken_off_the_list_is_refused_at_its_next_word(hub, join, serves, said):
    other = join(1)
    hub.forget(1)
    other.send([done(1)])
    until(lambda: hub.refused)
    assert serves()
    assert list(said) == [0]
    assert hub.heard(1) is None


def test_an_id_that_is_given_anew_belongs_to_the_new_key(hub, join, said):
    first, second = join(0), join(0)
    hub.send(0, run(5))
    hub.flush()
    first.send([done(1)])
    second.send([done(2)])
    until(lambda: second.orders and hub.refused and said)
    assert first.orders == []
    assert tasks(said[0]) == [2]


def test_nobody_gets_the_orders_of_another_by_taking_its_routing_id(hub, engine, serves):
    keys = key_pair()
    hub.admit(1, keys[0])
    assert serves()
    with dealer(hub, keys, hub._far[0].route) as thief:
        thief.send(HELLO.head())
        for _ in range(10):
            assert serves()
        assert not thief.poll(100)
    assert serves()


def test_orders_for_an_engine_that_was_forgotten_go_nowhere(hub, join, serves):
    gone = join(1)
    hub.send(1, run(1))
    hub.forget(1)
    hub.send(1, run(2))
    hub.flush()
    assert serves()
    assert gone.orders == []
    assert hub.unacknowledged(1) == 0


def test_a_key_that_is_let_in_late_gets_in(hub, monkeypatch):
    monkeypatch.setattr(direct, "_REDIAL_SECONDS", 0.1)
    engine = Engine(hub.address)
    try:
        until(lambda: hub.refused > 1)
        hub.admit(0, engine.keys[0])
        assert engine.wait_connected(LIMIT)
    finally:
        engine.close()


# -- broken connections -----------------------------------------------------------------


class Proxy:
    """Stands between, and breaks connections when it is told to.

    It takes bytes from one side before the other side gets them, so a reset loses some.
    """

    def __init__(self, endpoint):
        host, port = endpoint.removeprefix("tcp://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs = []
        self._flows = threading.Event()
        self._flows.set()
        self._swallow = self._flip = False
        self.connections = 0
        self.carried = 0
        self._threads = []
        self._start(self._accept)

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._pairs.append((near, far))
                self.connections += 1
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                self._flows.wait(LIMIT)
                if self._flip:
                    self._flip = False
                    data = bytes([*data[:-1], data[-1] ^ 1])
                if not self._swallow:
                    target.sendall(data)
                self.carried += len(data)

    def swallow(self):
        """From now on takes bytes and passes none on, until the next reset."""
        self._swallow = True

    def flip(self):
        """Changes one bit of what comes next, whichever way it goes."""
        self._flip = True

    def hold(self):
        self._flows.clear()

    def release(self):
        self._flows.set()

    def reset(self):
        """Breaks all connections at once, with what is on its way in them."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs.clear()
        self._swallow = False

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flows.set()
        self.reset()
        for thread in self._threads:
            thread.join(LIMIT)


@pytest.fixture
def proxy(hub):
    proxy = Proxy(hub.address.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def distant(hub, join, proxy):
    return join(0, PeerAddress(proxy.endpoint, hub.address.public_key))


def exchange(hub, engine, first, last):
    for task in range(first, last):
        hub.send(0, run(task)._replace(arguments=os.urandom(20_000)))
        hub.flush()
        engine.send([done(task)])


def all_came(hub, engine, said, count):
    until(lambda: len(engine.orders) >= count and len(said.get(0, ())) >= count)
    until(lambda: hub.unacknowledged(0) == engine.unacknowledged == 0)
    return tasks(engine.orders) == tasks(said[0]) == list(range(count))


def test_a_connection_that_is_reset_again_and_again_loses_and_doubles_nothing(
    hub, proxy, distant, said
):
    for part in range(5):
        exchange(hub, distant, part * 50, part * 50 + 25)
        carried = proxy.carried
        until(lambda before=carried: proxy.carried > before or hub.unacknowledged(0) == 0)
        proxy.reset()
        exchange(hub, distant, part * 50 + 25, part * 50 + 50)

    assert all_came(hub, distant, said, 250)
    assert proxy.connections > 1


def test_a_tail_that_is_dropped_arrives_in_the_end(hub, proxy, distant, said):
    exchange(hub, distant, 0, 5)
    assert all_came(hub, distant, said, 5)
    proxy.swallow()
    before = proxy.carried
    exchange(hub, distant, 5, 20)
    until(lambda: proxy.carried > before + 15 * 20_000)
    assert len(distant.orders) == 5
    proxy.reset()

    assert all_came(hub, distant, said, 20)
    assert hub.counts(0).resent + distant.counts.resent > 0


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(direct, "_REDIAL_SECONDS", 0.5)
    monkeypatch.setattr(direct, "_BEAT_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["to the engine", "to the hub"])
def test_a_bit_that_changes_on_the_way_loses_and_doubles_nothing(hub, proxy, join, said, way):
    engine = join(0, PeerAddress(proxy.endpoint, hub.address.public_key))
    until(lambda: engine.unacknowledged == hub.unacknowledged(0) == 0)
    proxy.flip()
    if way == "to the hub":
        engine.send([done(0)])
        hub.send(0, run(0))
        hub.flush()
    else:
        hub.send(0, run(0))
        hub.flush()
        engine.send([done(0)])
    exchange(hub, engine, 1, 20)

    assert all_came(hub, engine, said, 20)
    assert proxy.connections > 1


@pytest.mark.slow
def test_a_line_that_stalls_for_seconds_loses_and_doubles_nothing(hub, proxy, distant, said):
    exchange(hub, distant, 0, 50)
    proxy.hold()
    exchange(hub, distant, 50, 100)
    released = threading.Timer(4.0, proxy.release)
    released.start()
    exchange(hub, distant, 100, 150)

    assert all_came(hub, distant, said, 150)
    released.join()


# -- the end ----------------------------------------------------------------------------


def test_closing_takes_less_than_a_second_and_may_happen_twice(hub, join):
    engine, lone = join(0), Engine(PeerAddress("tcp://127.0.0.1:9", hub.address.public_key))
    lone.send([done(1)])
    hub.send(0, run(1))
    for end in (lone, engine, hub, engine, hub):
        began = time.monotonic()
        end.close()
        assert time.monotonic() - began < 1.0
    assert not any(thread.name.startswith("scopekit-") for thread in threading.enumerate())


def test_what_is_sent_after_the_end_goes_nowhere(hub, engine):
    engine.close()
    engine.send([done(1)])
    hub.close()
    hub.send(0, run(1))
    hub.flush()


def test_a_callback_may_close(hub, engine, said):
    engine._on_orders = lambda _: engine.close()
    hub.send(0, run(1))
    hub.flush()
    until(lambda: not engine._post._thread.is_alive())


def test_the_last_reports_leave_before_a_line_ends(hub, engine, said):
    engine.send([done(task) for task in range(100)])
    engine.close()
    until(lambda: len(said.get(0, ())) == 100)
