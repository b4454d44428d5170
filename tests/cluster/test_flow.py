"""A million tasks, or a task for each call of a program: what they take of memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
import figures
import pytest

import scopekit as sk

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MIB = 1 << 20
MOST_AT_ONE = 1000


def nothing():
    pass


def inc(x):
    return x + 1


def fib(n):
    if n < 2:
        return n
    one, two = sk.spawn(fib, n - 1), sk.spawn(fib, n - 2)
    return one.result() + two.result()


def hold(path):
    """Runs until a file is there."""
    limit = time.monotonic() + 90
    while not os.path.exists(path) and time.monotonic() < limit:  # noqa: PTH110  # by value
        time.sleep(0.005)


def resident(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


class Memory:
    """Measures the client and the engines of a session."""

    def __init__(self, session):
        self.pids = list(session.run(os.getpid).values())
        self.began = time.monotonic()
        self.told = {}

    def measure(self, when):
        client, engines = resident(os.getpid()), [resident(pid) for pid in self.pids]
        self.told[when] = client, engines
        seconds = time.monotonic() - self.began
        shown = ", ".join(f"{engine:.0f}" for engine in engines)
        print(f"{when}: {seconds:.0f} s, client {client:.0f} MiB, engines {shown} MiB")

    def growth(self, begin, end):
        """Returns by how much the client grew, and the engine that grew most."""
        client, engines = self.told[begin]
        client_then, engines_then = self.told[end]
        pairs = zip(engines_then, engines, strict=True)
        return client_then - client, max(after - before for after, before in pairs)


def unfinished(session):
    tasks = session.statistics()["tasks"]
    return sum(tasks.get(state, 0) for state in ("waiting", "queued", "running"))


# -- each in an interpreter of its own, so that nobody else's memory counts ----------------


@pytest.fixture
def alone(request):
    """Runs a function of this module in a fresh interpreter; returns what it returns."""
    wire = request.config.getoption("--wire")

    def run(function):
        script = (
            f"import json, sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"  # noqa: PTH120
            f"import {__name__} as here\n"
            f"json.dump(here.{function.__name__}({wire!r}), sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        print(done.stdout)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stderr)

    return run


def a_million(wire):
    with sk.start(2, wire=wire) as session:
        memory = Memory(session)
        most = queued = 0
        for number in range(1, 10**6 + 1):
            session.spawn(nothing)
            if number % 20_000 == 0:
                busy = session.statistics()["busy"]
                most = max(most, *(busy[worker] for worker in session.workers))
                queued = max(queued, unfinished(session))
            if number in (10**5, 5 * 10**5, 10**6):
                memory.measure(number)
        while unfinished(session):
            time.sleep(0.05)
        memory.measure("the end")
        print(f"{most} at most were sent to one engine, {queued} unfinished in all")
        return [most, *memory.growth(10**5, "the end")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_tasks_leave_client_and_engines_as_small_as_a_tenth_of_them(alone):
    most, client, engine = alone(a_million)

    figures.tell(
        "from 10^5 to 10^6 tasks",
        f"client {client:+.0f} MiB, an engine {engine:+.0f} MiB, {most} at most sent to one",
    )
    assert most <= MOST_AT_ONE
    assert client < 100
    assert engine < 30


def a_hundred_thousand(wire):
    count = 10**5
    with sk.start(2, wire=wire) as session:
        memory = Memory(session)
        memory.measure("before")
        tasks = [session.spawn(inc, number) for number in range(count)]
        memory.measure("spawned")
        busy = session.statistics()["busy"]
        assert max(busy[worker] for worker in session.workers) <= MOST_AT_ONE
        assert sum(session.fetch(tasks, timeout=200)) == sum(range(1, count + 1))
        memory.measure("after")
        client, engine = memory.growth("before", "after")
        return [client * MIB / count, engine]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_results_that_are_kept_take_little_each(alone):
    each, engine = alone(a_hundred_thousand)

    figures.tell("a result that is kept", f"{each:.0f} bytes at the client")
    assert each < 3000
    assert engine < 50


def what_waits(wire):
    count = 100_000
    with tempfile.TemporaryDirectory() as folder, sk.start(1, wire=wire) as session:
        memory = Memory(session)
        memory.measure("before")
        session.spawn(hold, f"{folder}/gate")
        tasks = [session.spawn(inc, number) for number in range(count)]
        memory.measure("queued")
        assert unfinished(session) == count + 1
        assert session.statistics()["busy"][0] <= MOST_AT_ONE
        Path(folder, "gate").touch()
        assert session.fetch(tasks[-1], timeout=60) == count
        client, _ = memory.growth("before", "queued")
        return client * MIB / count


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_tasks_that_wait_take_little_each(alone):
    each = alone(what_waits)

    figures.tell("a task that waits", f"{each:.0f} bytes at the client")
    assert each < 3000


def fib_of_25(wire):
    with sk.start(1, wire=wire) as session:
        memory = Memory(session)
        assert session.spawn(fib, 16).result(60) == 987
        memory.measure("fib(16)")
        assert session.spawn(fib, 22).result(300) == 17_711
        memory.measure("fib(22)")
        assert session.spawn(fib, 25).result(300) == 75_025
        memory.measure("fib(25)")
        assert session.workers == [0]
        return [*memory.growth("fib(16)", "fib(22)"), *memory.growth("fib(22)", "fib(25)")]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fib_of_25_with_a_task_per_call_ends_on_one_engine_of_one_thread(alone):
    """A quarter of a million tasks, four times those of fib(22)."""
    client, engine, client_then, engine_then = alone(fib_of_25)

    figures.tell(
        "fib(25) in tasks, after fib(22)",
        f"client {client_then:+.0f} MiB, engine {engine_then:+.0f} MiB",
    )
    # What is kept of finished tasks has a bound, which fib(22) reaches.
    assert client < 150
    assert client_then < 40
    assert engine < 40
    assert engine_then < 40


# -- nobody waits for himself ----------------------------------------------------------------


def test_spawning_goes_on_while_all_that_was_spawned_waits_for_what_comes(tmp_path):
    """More than a spawner ever waits for: nothing of it can end before the last is spawned."""
    gate, count = tmp_path / "gate", 40_000
    with sk.start(1) as session:
        session.spawn(hold, str(gate))
        tasks = [session.spawn(inc, number) for number in range(count)]
        assert unfinished(session) == count + 1
        session.options(single="client").spawn(gate.touch)
        assert sum(session.fetch(tasks, timeout=60)) == sum(range(1, count + 1))
