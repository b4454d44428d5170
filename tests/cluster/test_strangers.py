"""Who comes to the ports of a running session and has no business there."""

import contextlib
import os
import socket
import sys

import cloudpickle
import pytest
import zmq

import scopekit as sk
from scopekit.wire.peers import key_pair

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def square(x):
    return x * x


def addresses(session):
    """All the sockets that a session serves by: the client's own, and one of each engine."""
    hub = session._roster._hub
    own = [] if hub is None else [hub.address]
    return [*own, *session._roster.addresses.values()]


def come(address, stack):
    """An unknown key, ZeroMQ without keys, a browser, noise, silence."""
    context = stack.enter_context(zmq.Context())
    for keys in (key_pair(), None):
        dealer = stack.enter_context(context.socket(zmq.DEALER))
        dealer.linger = 0
        if keys is not None:
            dealer.curve_publickey, dealer.curve_secretkey = keys
            dealer.curve_serverkey = address.public_key
        dealer.connect(address.endpoint)
        dealer.send_multipart([bytes(8), bytes(8)])
    host, port = address.endpoint.removeprefix("tcp://").rsplit(":", 1)
    for said in (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096), b""):
        raw = stack.enter_context(socket.create_connection((host, int(port)), 20))
        with contextlib.suppress(OSError):
            raw.sendall(said)


@pytest.mark.slow
def test_strangers_at_every_port_are_counted_and_disturb_nobody(until):
    with sk.start(2) as session, contextlib.ExitStack() as stack:
        session.run(int)
        assert session.statistics()["refused"] == 0
        for address in addresses(session):
            come(address, stack)
        tasks = [session.spawn(square, n) for n in range(500)]
        pairs = [session.spawn(max, *tasks[n : n + 2]) for n in range(0, 500, 2)]

        assert session.fetch(tasks, timeout=60) == [square(n) for n in range(500)]
        assert session.fetch(pairs, timeout=60) == [square(n + 1) for n in range(0, 500, 2)]
        if session._roster._hub is not None:
            until(lambda: session.statistics()["refused"] >= 5, "all five are counted", 20)
        assert session.fetch(session.spawn(square, 3), timeout=20) == 9
        assert session.workers == [0, 1]


def test_a_session_without_strangers_counts_none(plain):
    plain.run(int)

    assert plain.statistics()["refused"] == 0
