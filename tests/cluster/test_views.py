"""Everything goes over views where no engine can be dialled."""

import time

import pytest

import scopekit as sk
from scopekit.wire.direct import DirectWire


@pytest.fixture(scope="module")
def session():
    with sk.start(2, wire="views") as session:
        # What the probe finds where engines cannot be dialled from here.
        session._fetcher._reachable.update(dict.fromkeys(session.workers, False))
        yield session


def test_values_come_over_views(session):
    tasks = [session.spawn(_numbers, n) for n in range(8)]

    assert session.fetch(tasks) == [list(range(n)) for n in range(8)]


def _numbers(n):
    return list(range(n))


def test_a_large_value_comes_over_views_as_it_is(session):
    assert session.spawn(bytes, 5_000_000).result() == bytes(5_000_000)


def test_the_engine_itself_refuses_what_may_not_leave_it(session):
    task = session.spawn(_secret, scope=sk.ProcessScope(1)).wait()
    wire = session._driver.wires[1]

    with pytest.raises(sk.ScopeViolationError, match="valid only on worker 1") as caught:
        wire.ask(1, [task.chunk_id], 10)
    assert "canary" not in str(caught.value)


def _secret():
    return sk.tochunk("canary", scope=sk.ProcessScope())


def test_an_engine_says_that_it_does_not_hold_a_chunk(session):
    with pytest.raises(sk.ChunkLostError, match="does not hold chunk 123456"):
        session._driver.wires[0].ask(0, [123456], 10)


def test_a_wait_over_views_has_its_limit(session, until, tmp_path):
    held = session.spawn(bytes, 3, scope=sk.ProcessScope(0)).wait()
    gate = tmp_path / "gate"
    busy = session.spawn(_wait_for_file, gate, scope=sk.ProcessScope(0))
    # The engine's main thread reads what comes over views, and it is taken.
    until(lambda: busy.state == "running", "the task runs")
    with pytest.raises(TimeoutError, match=r"worker 0 gave no answer within 0\.2 s"):
        held.result(timeout=0.2)
    gate.touch()
    assert busy.result() is None
    assert held.result() == bytes(3)


def _wait_for_file(path):
    while not path.exists():
        time.sleep(0.01)


def test_unless_a_wire_is_asked_for_sessions_of_one_machine_speak_over_direct_sockets():
    with sk.start(1, wire=None) as session:
        assert isinstance(session._driver.wires[0], DirectWire)
        assert session.spawn(abs, -1).result(20) == 1
