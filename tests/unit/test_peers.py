"""Chunks from process to process, over real sockets."""

import contextlib
import itertools
import os
import pickle
import random
import socket
import threading
import time

import pytest
import zmq

from scopekit.engine.store import Store
from scopekit.errors import ChunkLostError, ScopeViolationError
from scopekit.places import Process, Topology
from scopekit.scopes import AnyScope, ProcessScope, ThreadProc
from scopekit.wire import peers
from scopekit.wire.lending import Lender
from scopekit.wire.messages import PeerAddress
from scopekit.wire.parcels import load_parcel
from scopekit.wire.peers import PeerClient, PeerServer, key_pair

TOPOLOGY = Topology([Process.with_threads(0, "a"), Process.with_threads(1, "b")])
LIMIT = 20.0


class Asked(PeerClient):
    """A peer that remembers its public key."""

    def __init__(self, keys=None):
        self.keys = key_pair() if keys is None else keys
        super().__init__(self.keys)


@pytest.fixture
def store():
    store = Store(0, TOPOLOGY)
    store.put(1, [1, 2, 3], AnyScope(), ThreadProc(0, 0))
    store.put(2, "secret", ProcessScope(0), ThreadProc(0, 0))
    store.put(3, b"x" * 5_000_000, AnyScope(), ThreadProc(0, 0))
    return store


@pytest.fixture
def pushed():
    return []


@pytest.fixture
def server(store, pushed):
    server = PeerServer(
        key_pair(),
        "127.0.0.1",
        lambda chunks, asker, lent: [store.give(chunk, asker, lent=lent) for chunk in chunks],
        lambda sender, items: pushed.append((sender, items)),
    )
    yield server
    server.close()


@pytest.fixture
def client(server):
    client = Asked()
    server.allow({client.keys[0]: 1})
    yield client
    client.close()


def values(answer):
    return [load_parcel(parcel) for _, parcel in answer]


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_peer_is_given_the_chunks_that_it_asks_for_in_order(server, client):
    answer = client.ask(server.address, [3, 1], LIMIT)

    assert [stored.id for stored, _ in answer] == [3, 1]
    assert values(answer) == [b"x" * 5_000_000, [1, 2, 3]]


def test_asking_for_nothing_gives_nothing(server, client):
    assert client.ask(server.address, [], LIMIT) == []


def test_a_violation_of_a_scope_travels_as_its_own_error(server, client):
    with pytest.raises(ScopeViolationError, match="chunk 2 is valid only on") as caught:
        client.ask(server.address, [1, 2], LIMIT)

    assert "secret" not in str(caught.value)
    assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]


def test_a_chunk_that_is_not_there_travels_as_its_own_error(server, client):
    with pytest.raises(ChunkLostError, match="chunk 99"):
        client.ask(server.address, [99], LIMIT)


def test_another_error_s_text_stays_with_the_holder(store, server, client):
    def give(chunks, asker, lent):
        raise ValueError("the secret is 42")

    server._give = give
    with pytest.raises(ChunkLostError) as caught:
        client.ask(server.address, [1], LIMIT)

    assert "ValueError" in str(caught.value)
    assert "42" not in str(caught.value)


def test_who_asks_is_read_from_the_key(store, server, client):
    other = Asked()
    server.allow({client.keys[0]: 1, other.keys[0]: 0})
    try:
        assert values(other.ask(server.address, [2], LIMIT)) == ["secret"]
        with pytest.raises(ScopeViolationError):
            client.ask(server.address, [2], LIMIT)
    finally:
        other.close()


def test_an_unknown_key_gets_no_answer_and_the_service_goes_on(server, client):
    stranger = Asked()
    try:
        with pytest.raises((TimeoutError, ConnectionError)):
            stranger.ask(server.address, [1], 0.5)
    finally:
        stranger.close()

    assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]


def test_a_key_that_is_taken_off_the_list_is_refused_on_a_connection_that_stands(server, client):
    client.ask(server.address, [1], LIMIT)
    server.allow({})
    with pytest.raises((TimeoutError, ConnectionError, ScopeViolationError, ChunkLostError)):
        client.ask(server.address, [1], 0.5)


def test_somebody_who_takes_another_for_the_server_sends_it_nothing(server, client):
    wrong = PeerAddress(server.address.endpoint, key_pair()[0])
    with pytest.raises((TimeoutError, ConnectionError)):
        client.ask(wrong, [1], 0.5)


def test_plain_zmq_is_refused_and_the_service_goes_on(server, client):
    context = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.linger = 0
    plain.connect(server.address.endpoint)
    plain.send_multipart([b"\0" * 8, b"\0" * 8])

    assert not plain.poll(300)
    assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]
    plain.close(0)
    context.destroy(0)


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x00" * 10_000], ids=repr
)
def test_garbage_bytes_are_refused_and_the_service_goes_on(server, client, said):
    host, port = server.address.endpoint.removeprefix("tcp://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), LIMIT) as raw:
        raw.sendall(said)

        assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]


@pytest.mark.parametrize(
    "frames",
    [[b"short"], [b"\0" * 8, b"odd length"], [b"", b"", b""], [b"\0" * 8, b"\0" * 8, b"more"]],
    ids=repr,
)
def test_a_known_peer_that_says_nonsense_is_counted_and_the_others_are_served(
    server, client, frames
):
    context = zmq.Context()
    known = context.socket(zmq.DEALER)
    known.linger = 0
    known.curve_publickey, known.curve_secretkey = client.keys
    known.curve_serverkey = server.address.public_key
    known.connect(server.address.endpoint)
    known.send_multipart(frames)
    until(lambda: server.refused)

    assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]
    known.close(0)
    context.destroy(0)


@contextlib.contextmanager
def speaker(server, keys, routing_id=None):
    """Says what it likes, with keys that the server may know."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.curve_publickey, dealer.curve_secretkey = keys
        dealer.curve_serverkey = server.address.public_key
        if routing_id is not None:
            dealer.routing_id = routing_id
        dealer.connect(server.address.endpoint)
        yield dealer


class Evil:
    """Leaves a mark wherever it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_pickle_of_a_stranger_or_of_one_who_was_struck_off_is_read(server, client, tmp_path):
    mark = tmp_path / "read"
    evil = [b"\0" * 8, pickle.dumps(Evil(mark)), b"\0"]
    other = key_pair()
    server.allow({client.keys[0]: 1, other[0]: 0})
    with speaker(server, other) as struck_off, speaker(server, key_pair()) as stranger:
        stranger.send_multipart(evil)
        struck_off.send_multipart([b"short"])
        until(lambda: server.refused == 2)
        server.allow({client.keys[0]: 1})
        struck_off.send_multipart(evil)
        until(lambda: server.refused == 3)

        assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]
    assert not mark.exists()


def test_whatever_a_known_peer_says_is_answered_or_counted(server, client, pushed):
    """Three hundred messages of up to five frames, of bytes from a seed."""
    draw = random.Random(7)
    known = key_pair()
    server.allow({client.keys[0]: 1, known[0]: 0})
    with speaker(server, known) as liar:
        for _ in range(300):
            starts = [b"", b"\0" * 8, draw.randbytes(8), draw.randbytes(draw.randint(0, 40))]
            frames = [draw.choice(starts)]
            frames += [draw.randbytes(8 * draw.randint(0, 9)) for _ in range(draw.randint(0, 4))]
            liar.send_multipart(frames)
        answered = 0
        deadline = time.monotonic() + LIMIT
        while server.refused + answered < 300:
            assert time.monotonic() < deadline
            while liar.poll(10):
                liar.recv_multipart()
                answered += 1
        assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]
    assert pushed == []
    assert server.refused > 100


def test_nobody_gets_the_answers_of_another_by_taking_its_routing_id(server, client):
    thief_keys, keys = key_pair(), key_pair()
    server.allow({client.keys[0]: 1, keys[0]: 0, thief_keys[0]: 1})
    with speaker(server, keys, b"mine") as owner:
        owner.send_multipart([b"short"])
        until(lambda: server.refused)
        with speaker(server, thief_keys, b"mine") as thief:
            thief.send_multipart([b"short"])
            assert not thief.poll(300)
        assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]


def test_everybody_who_was_turned_away_is_counted(monkeypatch):
    monkeypatch.setattr(peers, "_HANDSHAKE_MILLISECONDS", 200)
    monkeypatch.setattr(peers, "_PATIENCE_SECONDS", 0.3)
    server = PeerServer(key_pair(), "127.0.0.1", lambda *_: [], lambda *_: None)
    host, port = server.address.endpoint.removeprefix("tcp://").rsplit(":", 1)
    try:
        with contextlib.ExitStack() as stack:
            for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, bytes(10_000)):
                raw = stack.enter_context(socket.create_connection((host, int(port)), LIMIT))
                with contextlib.suppress(OSError):
                    raw.sendall(said)
            until(lambda: server.refused == 4)
            stranger = stack.enter_context(contextlib.closing(Asked()))
            stranger.push(server.address, [(7, AnyScope())])
            until(lambda: server.refused == 5)
    finally:
        server.close()


def test_a_peer_that_does_not_answer_is_given_up(client):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = PeerAddress(f"tcp://127.0.0.1:{silent.getsockname()[1]}", key_pair()[0])
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="no answer"):
            client.ask(address, [1], 0.3)

    assert time.monotonic() - began < LIMIT / 2


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(store, server, client):
    go, calls = threading.Event(), itertools.count()

    def give(chunks, asker, lent):
        if next(calls) == 0:
            go.wait(LIMIT)
        return [store.give(chunk, asker, lent=lent) for chunk in chunks]

    server._give = give
    with pytest.raises(TimeoutError):
        client.ask(server.address, [1], 0.2)
    go.set()

    assert [stored.id for stored, _ in client.ask(server.address, [3], LIMIT)] == [3]


def test_several_threads_may_ask_at_once(server, client):
    found, failed = [], []

    def ask(chunk):
        try:
            given = [client.ask(server.address, [chunk], LIMIT)[0][0] for _ in range(20)]
            found.extend(stored.id == chunk for stored in given)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(chunk,)) for chunk in (1, 3, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)

    assert failed == []
    assert found == [True] * 60


def test_what_is_pushed_arrives_with_its_sender_in_order(server, client, store, pushed):
    client.push(server.address, [store.give(1, 1), (7, ProcessScope(0))])
    client.push(server.address, [store.give(3, 1)])
    until(lambda: len(pushed) == 2)

    assert [sender for sender, _ in pushed] == [1, 1]
    (first, refused), (last,) = [items for _, items in pushed]
    assert (first[0].id, load_parcel(first[1])) == (1, [1, 2, 3])
    assert refused == (7, ProcessScope(0))
    assert last[0].id == 3


def test_many_pushes_arrive_in_order(server, client, pushed):
    for number in range(1, 501):
        client.push(server.address, [(number, AnyScope())])
    until(lambda: len(pushed) == 500)

    assert [chunk for _, items in pushed for chunk, _ in items] == list(range(1, 501))


def test_what_threads_push_at_once_arrives_whole(server, client, store, pushed):
    def push(number):
        for _ in range(50):
            client.push(server.address, [store.give(1, 1), (number, AnyScope())])

    threads = [threading.Thread(target=push, args=(number,)) for number in (7, 8, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    until(lambda: len(pushed) == 150)

    assert sorted(refusal[0] for _, (_, refusal) in pushed) == [7] * 50 + [8] * 50 + [9] * 50


def test_a_push_whose_taking_fails_is_counted_and_the_next_is_taken(server, client, pushed):
    def fail(sender, items):
        server._take = lambda sender, items: pushed.append((sender, items))
        raise ValueError

    server._take = fail
    for number in (7, 8):
        client.push(server.address, [(number, AnyScope())])
    until(lambda: pushed)

    assert (server.refused, pushed) == (1, [(1, [(8, AnyScope())])])


def test_who_was_refused_at_first_gets_through_once_it_is_let_in(server, store, pushed):
    early = Asked()
    early.push(server.address, [(7, AnyScope())])
    until(early._pushers[server.address.endpoint].is_broken)
    server.allow({early.keys[0]: 1})
    early.push(server.address, [(8, AnyScope())])
    until(lambda: pushed)
    early.close()

    assert pushed == [(1, [(8, AnyScope())])]


def test_pushes_to_who_refuses_wait_for_nobody_and_end_with_the_client(server, pushed):
    stranger = Asked()
    stranger.push(server.address, [(7, AnyScope())])
    until(stranger._pushers[server.address.endpoint].is_broken)
    pushing = threading.Thread(
        target=lambda: [stranger.push(server.address, [(8, AnyScope())]) for _ in range(100)]
    )
    pushing.start()
    pushing.join(LIMIT)
    assert not pushing.is_alive()
    stranger.close()
    stranger.push(server.address, [(9, AnyScope())])

    assert pushed == []


@pytest.mark.parametrize("how", ["ask", "push"])
def test_who_hangs_up_is_dialled_again_only_when_there_is_something_to_say(client, how):
    """What ZeroMQ tells of each try would fill up, unread, and stop it for all the others."""

    def say():
        if how == "push":
            client.push(address, [(7, AnyScope())])
        else:
            with pytest.raises(ConnectionError):
                client.ask(address, [1], LIMIT)

    with socket.create_server(("127.0.0.1", 0)) as rude:
        address = PeerAddress(f"tcp://127.0.0.1:{rude.getsockname()[1]}", key_pair()[0])
        for _ in range(2):
            saying = threading.Thread(target=say)
            saying.start()
            rude.settimeout(LIMIT)
            rude.accept()[0].close()
            saying.join(LIMIT)
            rude.settimeout(0.5)
            with pytest.raises(TimeoutError):
                rude.accept()


def test_who_was_struck_off_and_let_in_again_is_answered_again(server, client, store):
    client.ask(server.address, [1], LIMIT)
    server.allow({})
    with pytest.raises((TimeoutError, ConnectionError)):
        client.ask(server.address, [1], 0.2)
    server.allow({client.keys[0]: 1})

    assert values(client.ask(server.address, [1], LIMIT)) == [[1, 2, 3]]


def test_what_a_stranger_pushes_is_not_taken(server, client, store, pushed):
    stranger = Asked()
    stranger.push(server.address, [store.give(1, 1)])
    client.push(server.address, [store.give(3, 1)])
    until(lambda: pushed)
    stranger.close()

    assert [sender for sender, _ in pushed] == [1]


def test_a_push_to_nobody_waits_for_nobody(server, client, store):
    server.close()
    began = time.monotonic()
    client.push(server.address, [store.give(3, 1)])

    assert time.monotonic() - began < LIMIT / 2


def test_a_server_closes_within_a_second_or_so():
    server = PeerServer(
        key_pair(), "127.0.0.1", lambda chunks, asker, lent: [], lambda sender, items: None
    )
    began = time.monotonic()
    server.close()

    assert time.monotonic() - began < LIMIT / 2
    assert not [t for t in threading.enumerate() if t.name == "scopekit-peers"]


# -- memory that is lent -------------------------------------------------------------------

LARGE = b"x" * (1 << 20)


@pytest.fixture
def neighbours():
    """A server that lends to a client of its node."""
    lender = Lender()
    topology = Topology([Process.with_threads(0, "a"), Process.with_threads(1, "a")])
    store = Store(0, topology, lender)
    store.put(1, LARGE, AnyScope(), ThreadProc(0, 0))
    taken = []
    server = PeerServer(
        key_pair(),
        "127.0.0.1",
        lambda chunks, asker, lent: [store.give(chunk, asker, lent=lent) for chunk in chunks],
        lambda sender, items: taken.extend(items),
        lender.card,
    )
    keys = key_pair()
    client = PeerClient(keys, lender.card)
    server.allow({keys[0]: 1})
    yield server, client, store, taken
    client.close()
    server.close()
    lender.close()


def test_who_shows_a_card_reads_large_values_where_they_lie(neighbours):
    server, client, store, _ = neighbours
    assert server.address.memory is not None
    asked = client._ask(server.address, [1], client._card, time.monotonic() + LIMIT)

    assert [parcel.loan for _, parcel in asked] == [store.give(1, 1, lent=True)[1].loan]
    assert values(client.ask(server.address, [1], LIMIT)) == [LARGE]


@pytest.mark.parametrize("card", [b"", b"x" * 32], ids=["none", "another's"])
def test_who_shows_no_card_that_can_be_read_gets_the_bytes(neighbours, card):
    server, client, _, _ = neighbours
    client._card = card
    asked = client._ask(server.address, [1], card, time.monotonic() + LIMIT)

    assert [parcel.loan for _, parcel in asked] == [None]
    assert values(asked) == [LARGE]


def test_what_cannot_be_read_where_it_lies_is_asked_for_again(neighbours, monkeypatch):
    server, client, _, _ = neighbours

    def fails(*_, **__):
        raise OSError("not allowed")

    monkeypatch.setattr("scopekit.wire.lending._map", fails)

    assert values(client.ask(server.address, [1], LIMIT)) == [LARGE]


def test_what_is_lent_can_be_pushed(neighbours):
    server, client, store, taken = neighbours
    client.push(server.address, [store.give(1, 1, lent=True), store.give(1, 1)])
    until(lambda: len(taken) == 2)

    assert [parcel.loan is None for _, parcel in taken] == [False, True]
    assert [load_parcel(parcel.borrowed()) for _, parcel in taken] == [LARGE, LARGE]
