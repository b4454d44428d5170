"""Connections that break, processes that stand still for ten seconds: no task is lost."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import cloudpickle
import figures
import pytest

import scopekit as sk
from scopekit import ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEED = 20_261_125
STILL_SECONDS = 10.0
ESTABLISHED = "01"


def square(x):
    return x * x


def inc(x):
    return x + 1


def marked(folder, n):
    """Leaves a mark for each time that it began."""
    fd = os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    return n


def nap(seconds):
    time.sleep(seconds)
    return sk.myid()


# -- connections -----------------------------------------------------------------------


def cut(ports):
    """Break the connections of this process that begin at one of these ports.

    Returns:
        How many there were.
    """
    connections = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == ESTABLISHED and int(words[1].rpartition(":")[2], 16) in ports:
            connections.add(f"socket:[{words[9]}]")
    broken = 0
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            if str(entry.readlink()) not in connections:
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as ours:
                ours.shutdown(socket.SHUT_RDWR)
            broken += 1
        except OSError:  # it was closed meanwhile
            continue
    return broken


def port(address):
    return int(address.endpoint.rpartition(":")[2])


@pytest.fixture
def two():
    with sk.start(2) as session:
        yield session


@pytest.fixture
def hub(two):
    """The client's own socket, which every engine is connected to."""
    if two._roster._hub is None:
        pytest.skip("over views there are no sockets of our own")
    return two._roster._hub


class Cutter(threading.Thread):
    """Breaks connections again and again, at random times."""

    def __init__(self, break_all):
        super().__init__(name="cutter")
        self._break_all = break_all
        self._draw = random.Random(SEED)
        self._over = threading.Event()
        self.broken = 0

    def run(self):
        while not self._over.wait(self._draw.uniform(0.02, 0.3)):
            self.broken += self._break_all()

    def __enter__(self):
        print(f"seed {SEED}")
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join(20)


def test_connections_cut_in_a_stream_of_tasks_lose_none_and_double_none(two, hub, tmp_path, until):
    folder = str(tmp_path)
    once = two.options(idempotent=False)
    pure, marks = [], []
    with Cutter(lambda: cut({port(hub.address)})) as cutter:

        def round_of_tasks():
            first = len(pure)
            pure.extend(two.spawn(square, n) for n in range(first, first + 200))
            marks.extend(once.spawn(marked, folder, n) for n in range(len(marks), len(marks) + 20))
            two.wait(pure[first : first + 100], timeout=60)
            return cutter.broken >= 16

        until(round_of_tasks, "connections broke", 60)
        values = two.fetch(pure, timeout=60)
        numbers = two.fetch(marks, timeout=60)

    assert values == [square(n) for n in range(len(pure))]
    assert numbers == list(range(len(marks)))
    assert [Path(folder, str(n)).read_text() for n in numbers] == ["x"] * len(marks)
    assert two.workers == [0, 1]
    resent = sum(hub.counts(worker).resent for worker in two.workers)
    figures.tell(
        "connections cut",
        f"{cutter.broken} during {len(pure) + len(marks)} tasks, {resent} pieces sent again",
    )


def test_connections_cut_between_engines_lose_no_input(two, until):
    """Large inputs travel from one engine to the other all the time."""
    ports = {port(address) for address in two._roster.addresses.values()}
    sides = [ProcessScope(0), ProcessScope(1)]
    chains = [two.spawn(bytearray, 200_000, scope=sides[n % 2]) for n in range(20)]

    def append(data, n):
        return data + bytes([n])

    with Cutter(lambda: sum(two.run(cut, ports).values())) as cutter:
        for n in range(8):
            chains = [
                two.spawn(append, data, n, scope=sides[(k + n + 1) % 2])
                for k, data in enumerate(chains)
            ]
            two.wait(chains, timeout=60)
        until(lambda: cutter.broken, "connections broke")
        lengths = [two.spawn(len, data) for data in chains]
        values = two.fetch(lengths, timeout=60)
    tails = two.fetch([two.spawn(lambda d: bytes(d[-8:]), data) for data in chains], timeout=60)

    assert values == [200_008] * 20
    assert tails == [bytes(range(8))] * 20
    assert two.workers == [0, 1]
    figures.tell("connections cut between engines", f"{cutter.broken}")


# -- processes that stand still -----------------------------------------------------------


@pytest.mark.slow
def test_an_engine_that_stands_still_for_ten_seconds_loses_nothing(tmp_path):
    folder = str(tmp_path)
    with sk.start(3) as session:
        pids = session.run(os.getpid)
        pure = [session.spawn(nap, 0.01) for _ in range(100)]
        first = [session.spawn(square, n, scope=ProcessScope(1)) for n in range(50)]
        second = [session.spawn(inc, task) for task in first]
        once = session.options(idempotent=False)
        marks = [once.spawn(marked, folder, n) for n in range(100)]
        os.kill(pids[1], signal.SIGSTOP)
        try:
            time.sleep(STILL_SECONDS)
            # Others go on meanwhile.
            assert session.spawn(nap, 0, scope=ProcessScope(0)).result(20) == 0
        finally:
            os.kill(pids[1], signal.SIGCONT)

        assert len(session.fetch(pure, timeout=60)) == 100
        assert session.fetch(second, timeout=60) == [inc(square(n)) for n in range(50)]
        assert session.fetch(marks, timeout=60) == list(range(100))
        assert session.workers == [0, 1, 2]
        assert session.run(os.getpid) == pids
    assert [Path(folder, str(n)).read_text() for n in range(100)] == ["x"] * 100


CLIENT = textwrap.dedent(
    """
    import json
    import os
    import sys
    import time

    import scopekit as sk

    def nap(n):
        time.sleep(0.005)
        return n

    def marked(folder, n):
        fd = os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, b"x")
        os.close(fd)
        return n

    folder, wire = sys.argv[1], sys.argv[2] or None
    with sk.start(2, wire=wire) as session:
        pids = session.run(os.getpid)
        before = [session.spawn(nap, n) for n in range(600)]
        marks = [session.options(idempotent=False).spawn(marked, folder, n) for n in range(50)]
        total = session.spawn(lambda values: sum(values), before)
        print("working", flush=True)
        sys.stdin.readline()
        after = [session.spawn(nap, n) for n in range(100)]
        told = {
            "before": session.fetch(before, timeout=60) == list(range(600)),
            "marks": session.fetch(marks, timeout=60) == list(range(50)),
            "total": total.result(60) == sum(range(600)),
            "after": session.fetch(after, timeout=60) == list(range(100)),
            "same engines": session.run(os.getpid) == pids,
            "nobody left": "WorkerLeft" not in [event["kind"] for event in session.events()],
        }
        print(json.dumps(told), flush=True)
    """
)


@pytest.mark.slow
def test_a_client_that_stands_still_for_ten_seconds_loses_nothing(tmp_path, request):
    wire = request.config.getoption("--wire") or ""
    command = [sys.executable, "-c", CLIENT, str(tmp_path), wire]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout.readline() == "working\n"
        os.kill(client.pid, signal.SIGSTOP)
        time.sleep(STILL_SECONDS)
        os.kill(client.pid, signal.SIGCONT)
        shown, errors = client.communicate("go on\n", timeout=90)

    assert client.returncode == 0, errors
    told = json.loads(shown)
    assert all(told.values()), told
    assert errors == ""
    assert [Path(tmp_path, str(n)).read_text() for n in range(50)] == ["x"] * 50
