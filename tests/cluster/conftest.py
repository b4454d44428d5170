"""Sessions on real engines, one of each kind for a module."""

from __future__ import annotations

import threading
import time

import pytest

import scopekit as sk


@pytest.fixture(scope="module")
def session(own_folders):
    """Four engines with two threads each: 0 and 1 on node a, 2 and 3 on node b."""
    with sk.start(nodes={"a": 2, "b": 2}, threads=2) as session:
        start_lazy_threads(session)
        yield session


@pytest.fixture(scope="module")
def plain(own_folders):
    """Two engines with a single thread each, on the node that they really are on."""
    with sk.start(2) as session:
        start_lazy_threads(session)
        yield session


def start_lazy_threads(session):
    """Start what a session starts when first needed, so that no test seems to leave it."""
    called = threading.Event()
    task = session.options(single="client").spawn(int)
    task.add_done_callback(lambda _: called.set())
    task.result(30)
    gate = threading.Event()
    late = session.options(single="client").spawn(_later)
    late.add_done_callback(lambda _: gate.set())
    late.result(30)
    session.options(get_result=True).spawn(list).result(30)
    assert called.wait(30)
    assert gate.wait(30)


def _later():
    time.sleep(0.05)


@pytest.fixture
def gate(tmp_path):
    """Return a path that is not there yet, and open it at the end in any case."""
    path = tmp_path / "open"
    yield path
    path.touch()


@pytest.fixture
def until():
    """Wait for a condition to come true; fail where it does not in time."""

    def wait(condition, what, limit=20):
        deadline = time.monotonic() + limit
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what}: not within {limit} s"
            time.sleep(0.01)
        return value

    return wait


@pytest.fixture
def orders_reach_busy_engines(request):
    """Expect failure over views alone, whose messages an engine reads on its main thread."""
    if request.config.getoption("--wire") == "views":
        reason = "over views an engine reads its orders on its main thread, which is busy"
        request.applymarker(pytest.mark.xfail(strict=False, reason=reason))
