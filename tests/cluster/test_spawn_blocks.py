"""Blocks on real engines, in the client and in tasks."""

import contextlib
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, ProcessScope, ThreadProc

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMIT = 30
SLOT = ExactScope(ThreadProc(0, 1))


class OnPurposeError(Exception):
    pass


def note(path, word, seconds=0.0):
    """Write when it begins and when it ends."""
    import pathlib
    import time

    with pathlib.Path(path).open("a") as file:
        file.write(f"+{word} ")
        file.flush()
        time.sleep(seconds)
        file.write(f"-{word} ")
    return word


def fail():
    raise OnPurposeError("on purpose")


@contextlib.contextmanager
def failing(kind):
    """A block of that kind, whose code is to raise."""
    with pytest.raises(OnPurposeError), kind():
        yield


def hold(path):
    import pathlib
    import time

    limit = time.monotonic() + 60
    while not pathlib.Path(path).exists() and time.monotonic() < limit:
        time.sleep(0.005)
    return "let go"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


def test_tasks_in_a_row_run_one_after_another_on_any_workers(session, log):
    """C172."""
    with sk.spawn_sequential():
        tasks = [
            session.spawn(note, str(log), str(n), 0.01, scope=ProcessScope(n % 4))
            for n in range(12)
        ]

    assert session.fetch(tasks, timeout=LIMIT) == [str(n) for n in range(12)]
    assert log.read_text() == "".join(f"+{n} -{n} " for n in range(12))
    assert [task.worker for task in tasks] == [n % 4 for n in range(12)]


def test_a_row_goes_on_where_results_are_pinned_elsewhere(session):
    with sk.spawn_sequential():
        tasks = [
            session.spawn(sk.myid, scope=ProcessScope(n), result_scope=ProcessScope(n))
            for n in range(4)
        ]
    session.wait(tasks, LIMIT)

    assert [task.state for task in tasks] == ["done"] * 4


def test_where_one_fails_on_its_engine_those_after_it_fail(session, log):
    with sk.spawn_sequential():
        first = session.options(name="first").spawn(fail)
        second = session.spawn(note, str(log), "x")

    with pytest.raises(OnPurposeError) as caught:
        second.result(LIMIT)
    assert any("raised by task first" in note for note in caught.value.__notes__)
    assert any("was to run after it" in note for note in caught.value.__notes__)
    assert log.read_text() == ""
    assert first.state == "failed"


def test_a_bulk_block_hands_its_tasks_over_at_its_end(session, log):
    """C171."""
    with sk.spawn_bulk():
        tasks = [session.spawn(note, str(log), str(n)) for n in range(8)]
        # Whatever else is spawned meanwhile runs, by who is in no block.
        with session.executor() as executor:
            assert executor.submit(abs, -1).result(LIMIT) == 1
        assert log.read_text() == ""
        with pytest.raises(sk.ScopekitError, match="Wait for it after the block"):
            tasks[0].result(LIMIT)

    assert session.fetch(tasks, timeout=LIMIT) == [str(n) for n in range(8)]


def test_a_bulk_block_goes_to_each_engine_in_few_messages(plain, monkeypatch):
    flushed = []
    wires = plain._driver._distinct_wires()
    for wire in wires:
        monkeypatch.setattr(wire, "flush", lambda real=wire.flush: (flushed.append(1), real()))

    with sk.spawn_bulk():
        tasks = [plain.spawn(abs, -n) for n in range(100)]
        before = len(flushed)
    after = len(flushed)

    assert after - before <= len(wires) + 4
    assert plain.fetch(tasks, timeout=LIMIT) == list(range(100))


def test_a_bulk_block_that_fails_runs_nothing(session, log):
    with failing(sk.spawn_bulk):
        tasks = [session.spawn(note, str(log), str(n)) for n in range(4)]
        fail()
    for task in tasks:
        with pytest.raises(sk.TaskCancelledError):
            task.result(LIMIT)
    session.spawn(abs, 1).result(LIMIT)
    assert log.read_text() == ""


def test_groups_run_at_the_same_time_inside_and_in_order_between(session, log, tmp_path):
    """C173."""
    gate = tmp_path / "open"
    with sk.spawn_sequential():
        session.spawn(note, str(log), "a", 0.01)
        with sk.spawn_bulk():
            slow = session.spawn(hold, str(gate), scope=SLOT)
            quick = session.spawn(note, str(log), "b", scope=ProcessScope(1))
        last = session.spawn(note, str(log), "c")
    quick.result(LIMIT)
    assert log.read_text() == "+a -a +b -b "
    assert not last.done()
    gate.touch()

    assert last.result(LIMIT) == "c"
    assert slow.done()
    assert log.read_text() == "+a -a +b -b +c -c "


def test_a_row_in_a_bulk_block_keeps_its_order(session, log):
    """C174."""
    with sk.spawn_bulk():
        with sk.spawn_sequential():
            tasks = [
                session.spawn(note, str(log), str(n), 0.01, scope=ProcessScope(n % 4))
                for n in range(6)
            ]
        assert log.read_text() == ""
    session.fetch(tasks, timeout=LIMIT)

    assert log.read_text() == "".join(f"+{n} -{n} " for n in range(6))


def test_a_session_that_closes_in_a_bulk_block_ends_its_tasks():
    with sk.spawn_bulk():
        with sk.start(1) as session:
            tasks = [session.spawn(abs, -1) for _ in range(3)]
        for task in tasks:
            with pytest.raises(sk.TaskCancelledError):
                task.result(5)


def test_a_row_outlives_a_worker(log):
    with sk.start(3) as session:

        def step(path, n):
            import os

            if n == 2 and not os.path.exists(f"{path}.died"):  # noqa: PTH110
                os.mkdir(f"{path}.died")  # noqa: PTH102
                os._exit(1)
            note(path, str(n))
            # A number comes with the word that it is made, and is not lost with its worker.
            return n

        with sk.spawn_sequential():
            tasks = [session.spawn(step, str(log), n) for n in range(5)]
        assert session.fetch(tasks, timeout=60) == list(range(5))

    assert log.read_text() == "".join(f"+{n} -{n} " for n in range(5))


def test_cancelling_a_link_cancels_the_rest_of_the_row(session, tmp_path):
    gate = tmp_path / "open"
    with sk.spawn_sequential():
        first = session.spawn(hold, str(gate), scope=SLOT)
        second, third = session.spawn(abs, -2), session.spawn(abs, -3)

    assert second.cancel()
    gate.touch()

    assert first.result(LIMIT) == "let go"
    for task in (second, third):
        with pytest.raises(sk.TaskCancelledError):
            task.result(LIMIT)


def test_explain_names_what_a_task_of_a_row_waits_for(session, tmp_path):
    gate = tmp_path / "open"
    with sk.spawn_sequential():
        session.options(name="slow one", scope=SLOT).spawn(hold, str(gate))
        second = session.options(name="second").spawn(abs, -2)

    assert second.explain().waiting_for == ("slow one",)
    assert "second waits for slow one" in second.explain().text()
    gate.touch()
    assert second.result(LIMIT) == 2


def test_explain_says_that_a_task_waits_for_its_block(session):
    with sk.spawn_bulk():
        task = session.options(name="mine").spawn(abs, -2)
        assert "mine waits for the end of its spawn_bulk block" in task.explain().text()


# -- in tasks ------------------------------------------------------------------------


def test_a_task_can_spawn_in_a_row(session, log):
    def parent(path):
        with sk.spawn_sequential():
            tasks = [sk.spawn(note, path, str(n)) for n in range(6)]
        return [task.result() for task in tasks]

    assert session.spawn(parent, str(log)).result(LIMIT) == [str(n) for n in range(6)]
    assert log.read_text() == "".join(f"+{n} -{n} " for n in range(6))


def test_a_row_in_a_task_fails_from_where_one_failed(session, log):
    def parent(path):
        with sk.spawn_sequential():
            sk.spawn(note, path, "a")
            bad = sk.spawn(fail)
            late = sk.spawn(note, path, "b")
        sk.wait([bad, late])
        with sk.spawn_sequential():
            again = sk.spawn(fail)
            sk.wait(again)
            after = sk.spawn(note, path, "c")
        return [type(task.exception()).__name__ for task in (bad, late, again, after)]

    assert session.spawn(parent, str(log)).result(LIMIT) == ["OnPurposeError"] * 4
    assert log.read_text() == "+a -a "


def test_a_task_can_hand_tasks_over_together(session, log):
    def parent(path):
        with sk.spawn_bulk():
            tasks = [sk.spawn(note, path, str(n)) for n in range(5)]
            tasks.append(sk.spawn(len, tasks[:2]))
            try:
                tasks[0].result()
            except sk.ScopekitError as error:
                refused = "Wait for it after the block" in str(error)
            states = {task.state for task in tasks}
            written = Path(path).read_text()
        return refused, states, written, [task.result() for task in tasks]

    got = session.spawn(parent, str(log)).result(LIMIT)

    assert got == (True, {"waiting"}, "", ["0", "1", "2", "3", "4", 2])


def test_a_bulk_block_in_a_task_that_fails_cancels_its_tasks(session, log):
    def parent(path):
        try:
            with sk.spawn_bulk():
                tasks = [sk.spawn(note, path, "x")]
                tasks.append(sk.spawn(len, tasks[0]))
                fail()
        except OnPurposeError:
            return [task.cancelled() for task in tasks]

    assert session.spawn(parent, str(log)).result(LIMIT) == [True, True]
    assert log.read_text() == ""


def test_cancelling_in_a_bulk_block_of_a_task_takes_dependants_along(session, log):
    def parent(path):
        with sk.spawn_bulk():
            one, other = sk.spawn(note, path, "x"), sk.spawn(note, path, "y")
            needs = sk.spawn(len, one)
            one.cancel()
        return one.cancelled(), needs.cancelled(), other.result()

    assert session.spawn(parent, str(log)).result(LIMIT) == (True, True, "y")
    assert log.read_text() == "+y -y "


def test_blocks_nest_in_tasks(session, log):
    def parent(path):
        with sk.spawn_sequential():
            sk.spawn(note, path, "a")
            with sk.spawn_bulk():
                b, c = sk.spawn(note, path, "b"), sk.spawn(note, path, "c")
            d = sk.spawn(note, path, "d")
        return d.result(), b.result(), c.result()

    assert session.spawn(parent, str(log)).result(LIMIT) == ("d", "b", "c")
    words = log.read_text().split()
    assert words[:2] == ["+a", "-a"]
    assert words[-2:] == ["+d", "-d"]


@pytest.mark.usefixtures("orders_reach_busy_engines")
def test_a_row_in_a_task_may_lead_over_other_workers(session, log):
    def parent(path):
        with sk.spawn_sequential():
            tasks = [
                sk.spawn(note, path, str(n), 0.01, scope=ProcessScope(n % 4)) for n in range(8)
            ]
        return [task.result() for task in tasks]

    task = session.spawn(parent, str(log), scope=ProcessScope(2))

    assert task.result(LIMIT) == [str(n) for n in range(8)]
    assert log.read_text() == "".join(f"+{n} -{n} " for n in range(8))


@pytest.mark.usefixtures("orders_reach_busy_engines")
def test_a_row_in_a_task_is_kept_when_others_take_of_it(session, log):
    """Idle workers ask for what gathers where it was spawned."""

    def parent(path):
        with sk.spawn_sequential():
            tasks = [sk.spawn(note, path, str(n), 0.03) for n in range(12)]
        time.sleep(0.2)
        return [task.result() for task in tasks]

    tasks = session.spawn(parent, str(log), scope=ExactScope(ThreadProc(1, 0)))

    assert tasks.result(LIMIT) == [str(n) for n in range(12)]
    assert log.read_text() == "".join(f"+{n} -{n} " for n in range(12))
