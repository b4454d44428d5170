"""Cancelling tasks on real engines, wherever they are just then."""

import asyncio
import concurrent.futures
import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, NodeScope, ProcessScope, ThreadProc
from scopekit.engine.cell import run_cell

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MAIN = ExactScope(ThreadProc(0, 0))
OTHER = ExactScope(ThreadProc(0, 1))
LONG = 60


def add(x, y=1):
    return x + y


def tell(path):
    """Say that a task has begun."""
    import pathlib

    pathlib.Path(path).touch()


def wait_for(path):
    import pathlib

    limit = time.monotonic() + LONG
    while not pathlib.Path(path).exists() and time.monotonic() < limit:
        time.sleep(0.005)


def loop(began):
    tell(began)
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        time.sleep(0.01)


def sleep(began):
    tell(began)
    time.sleep(LONG)


def spin(began):
    tell(began)
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        pass


def hash_for_ever(began):
    """C calls of a tenth of a second each, one after another."""
    import hashlib

    tell(began)
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 100_000)


def compute(began):
    import numpy as np

    tell(began)
    matrix = np.ones((100, 100))
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        matrix = matrix @ matrix / 100


def chat(began):
    """Printing is code of ours, that holds locks."""
    tell(began)
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        print("x" * 50)


def wait_in_coroutine(began):
    async def work():
        tell(began)
        await asyncio.gather(asyncio.sleep(LONG), asyncio.sleep(LONG))

    return work()


def ask(began):
    tell(began)
    until = time.monotonic() + LONG
    while not sk.cancelled() and time.monotonic() < until:
        time.sleep(0.005)
    return "part of it"


def hold_the_interpreter(seconds, began):
    """C code that lets no other thread of the process run."""
    import ctypes

    tell(began)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@pytest.fixture
def began(tmp_path):
    return tmp_path / "began"


@pytest.fixture
def started(session, began, until):
    """Spawn a task, and return it once it runs."""

    def start(function, *args, scope=MAIN, **options):
        task = session.options(scope=scope, **options).spawn(function, *args, str(began))
        until(began.exists, "the task runs")
        return task

    return start


@pytest.fixture
def spared(request):
    """Over views an engine hears nothing else while its main thread is in a task."""
    if request.config.getoption("--wire") == "views":
        pytest.skip("over views a task spawns only where it runs itself")


def at_rest(session, until):
    until(lambda: not any(session.statistics()["busy"].values()), "all code has ended")


# -- running tasks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "work", [loop, sleep, spin, hash_for_ever, compute, chat, wait_in_coroutine]
)
def test_a_task_that_runs_on_the_main_thread_is_interrupted(session, started, until, work):
    """C176."""
    task = started(work)
    before = time.monotonic()

    assert task.cancel()
    assert task.cancelled()
    assert task.state == "cancelled"
    with pytest.raises(sk.TaskCancelledError, match="while it ran on node a, worker 0, thread 0"):
        task.result(10)
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2
    assert time.monotonic() - before < LONG / 2
    at_rest(session, until)


def test_what_has_to_be_cleared_up_is(session, started, gate):
    def work(cleared, began):
        try:
            sleep(began)
        finally:
            tell(cleared)

    task = started(work, str(gate))
    task.cancel()
    session.spawn(add, 1, scope=MAIN).result(20)

    assert gate.exists()


def test_the_interruption_is_as_ctrl_c_would_be(session, started, tmp_path):
    def work(path, began):
        try:
            sleep(began)
        except Exception:  # noqa: BLE001  # to see that it is none
            return
        except KeyboardInterrupt as error:
            Path(path).write_text(f"{type(error).__name__}: {error}")
            raise

    task = started(work, str(tmp_path / "seen"))
    task.cancel()
    session.spawn(add, 1, scope=MAIN).result(20)

    assert (tmp_path / "seen").read_text() == f"Interrupted: task {task.name} was cancelled"


def test_what_a_task_returns_that_ignores_its_interruption_is_dropped(session, started, until):
    def work(began):
        try:
            sleep(began)
        except BaseException:  # noqa: BLE001  # on purpose
            return "done all the same"

    task = started(work)

    assert task.cancel()
    with pytest.raises(sk.TaskCancelledError):
        task.result(10)
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2
    at_rest(session, until)
    assert task.cancelled()


def test_a_task_is_interrupted_once_for_each_time_that_it_is_cancelled(session, started, until):
    def work(path, began):
        for number in range(3):
            try:
                sleep(began)
            except BaseException:  # noqa: BLE001  # on purpose
                tell(f"{path}{number}")

    task = started(work, path := str(session.id) + "-seen-")
    folder = Path.cwd()
    try:
        for number in range(3):
            assert task.cancel()
            until((folder / f"{path}{number}").exists, "it was interrupted")
            assert not (folder / f"{path}{number + 1}").exists()
        assert session.spawn(add, 1, scope=MAIN).result(20) == 2
    finally:
        for left in folder.glob(f"{path}*"):
            left.unlink()


def test_a_cell_that_runs_is_interrupted(session, until):
    task = session.spawn(run_cell, "while True: pass", "<cell 1>", {}, (), scope=MAIN)
    until(lambda: task.state == "running", "the cell runs")

    assert task.cancel()
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2


def test_a_c_call_that_cannot_be_broken_off_keeps_nobody_waiting(session, started, until):
    """Its processor is free once the call has returned."""

    def work(began):
        import hashlib

        tell(began)
        hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 3_000_000)

    task = started(work)
    before = time.monotonic()
    assert task.cancel()
    with pytest.raises(sk.TaskCancelledError):
        task.result(10)
    told = time.monotonic() - before
    assert session.statistics()["busy"][0] == 1
    assert session.spawn(add, 1, scope=MAIN).result(60) == 2

    assert told < time.monotonic() - before
    at_rest(session, until)


# -- other threads ---------------------------------------------------------------------


@pytest.mark.parametrize("place", [MAIN, OTHER], ids=["main thread", "another thread"])
def test_a_task_asks_whether_it_is_to_stop(session, until, tmp_path, place):
    def work(began, seen):
        tell(began)
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(0.01)
            if sk.cancelled():
                tell(seen)
                return

    began, seen = tmp_path / "began", tmp_path / "seen"
    task = session.spawn(work, str(began), str(seen), scope=place)
    until(began.exists, "the task runs")

    assert task.cancel()
    until(seen.exists, "the task saw it")
    with pytest.raises(sk.TaskCancelledError):
        task.result(10)


def test_a_thread_that_does_not_ask_goes_on_but_nobody_waits_for_it(session, started, gate, until):
    task = started(lambda gate, began: (tell(began), wait_for(gate)), str(gate), scope=OTHER)
    after = session.spawn(add, 1, scope=OTHER)

    assert task.cancel()
    with pytest.raises(sk.TaskCancelledError, match="worker 0, thread 1"):
        task.result(10)
    assert session.statistics()["busy"][0] >= 1
    assert not after.done()
    gate.touch()
    assert after.result(20) == 2
    at_rest(session, until)


def test_a_task_in_the_notebook_s_process_is_asked(session, until):
    begun, seen = threading.Event(), threading.Event()
    here = {"begun": begun, "seen": seen}
    sys.modules["scopekit_test_cancel_here"] = here

    def work():
        here = sys.modules["scopekit_test_cancel_here"]
        here["begun"].set()
        until = time.monotonic() + LONG
        while not sk.cancelled() and time.monotonic() < until:
            time.sleep(0.005)
        here["seen"].set()

    try:
        task = session.spawn(work, scope=ProcessScope("client"))
        assert begun.wait(20)
        assert task.cancel(force=True, grace=0.0)
        assert seen.wait(20)
    finally:
        del sys.modules["scopekit_test_cancel_here"]


def test_nothing_is_to_stop_outside_of_what_was_cancelled(session):
    assert not sk.cancelled()
    assert session.spawn(sk.cancelled).result(20) is False


# -- tasks that have not begun ---------------------------------------------------------


@pytest.mark.parametrize("place", [MAIN, OTHER], ids=["main thread", "another thread"])
def test_what_an_engine_has_not_begun_is_taken_back(session, until, gate, tmp_path, place):
    trace = tmp_path / "ran"
    ahead = [session.spawn(wait_for, str(gate), scope=place) for _ in range(2)]
    until(lambda: ahead[0].state == "running", "the task ahead runs")
    task = session.spawn(tell, str(trace), scope=place)

    assert task.cancel()
    with pytest.raises(sk.TaskCancelledError, match="before it ran"):
        task.result(10)
    gate.touch()
    sk.fetch(ahead, timeout=20)
    assert session.spawn(add, 1, scope=place).result(20) == 2
    assert not trace.exists()


def test_all_of_many_are_cancelled_and_what_ran_ahead_is_not(session, gate, until):
    ahead = session.spawn(wait_for, str(gate), scope=MAIN)
    until(lambda: ahead.state == "running", "the task ahead runs")
    tasks = [session.spawn(add, number, scope=MAIN) for number in range(50)]

    assert all(task.cancel() for task in tasks)
    assert concurrent.futures.wait(tasks, 10).not_done == set()
    gate.touch()
    assert ahead.result(20) is None


# -- what depends on them --------------------------------------------------------------


def test_what_needs_a_cancelled_task_is_cancelled_and_says_why(session, started):
    task = started(sleep)
    chain = [task]
    for _ in range(4):
        chain.append(session.spawn(add, chain[-1]))
    fan = [session.spawn(add, task, number) for number in range(8)]
    both = session.spawn(sum, [fan[0], session.spawn(add, 1)])
    apart = session.spawn(add, 1, scope=NodeScope("b"))

    assert task.cancel()
    for other in [*chain[1:], *fan, both]:
        with pytest.raises(sk.TaskCancelledError) as caught:
            other.result(20)
        assert str(caught.value).startswith(f"{other.name} was cancelled: it needs the result of")
        assert task.name in str(caught.value)
        assert other.cancelled()
    assert apart.result(20) == 2


def test_the_middle_of_a_chain_is_cancelled_alone_with_what_follows(session, started, gate):
    first = started(lambda gate, began: (tell(began), wait_for(gate), 1)[-1], str(gate))
    middle = session.spawn(add, first)
    last = session.spawn(add, middle)

    assert middle.cancel()
    with pytest.raises(sk.TaskCancelledError, match=middle.name):
        last.result(20)
    gate.touch()
    assert first.result(20) == 1


# -- tasks that have ended -------------------------------------------------------------


def test_what_has_ended_is_not_cancelled(session):
    done = session.spawn(add, 1)
    failed = session.spawn(add, "x")
    sk.wait([done, failed], timeout=20)

    assert not done.cancel()
    assert not failed.cancel(force=True)
    assert done.result(20) == 2
    with pytest.raises(TypeError):
        failed.result(20)


def test_cancelling_twice_is_cancelling_once(session, started):
    task = started(sleep)

    assert task.cancel()
    assert task.cancel()
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2


@pytest.mark.parametrize("place", [MAIN, OTHER], ids=["main thread", "another thread"])
def test_a_cancel_that_races_with_the_end_gives_one_of_value_and_cancellation(
    session, until, place
):
    """With what runs next on the same thread unhurt, each time."""
    chance = random.Random(20)
    ended = {"value": 0, "cancelled": 0}
    for number in range(150):
        task = session.spawn(busy_for, chance.random() * 0.02, scope=place)
        others = [session.spawn(add, number, scope=place) for _ in range(2)]
        session.send_now()
        time.sleep(chance.random() * 0.03)
        asked = time.monotonic()
        said = task.cancel()
        in_time = time.monotonic() - asked < 1
        try:
            assert task.result(20) == "value"
            assert not said
        except sk.TaskCancelledError:
            assert said or not in_time
        assert said <= task.cancelled()
        ended["cancelled" if task.cancelled() else "value"] += 1
        assert sk.fetch(others, timeout=20) == [number + 1] * 2
    at_rest(session, until)

    assert min(ended.values()) > 0, ended


def busy_for(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "value"


# -- tasks that spawn tasks ------------------------------------------------------------


def test_what_a_cancelled_task_spawned_is_cancelled_with_it(session, started, until, tmp_path):
    """All of it is kept where the task runs itself: one runs above it, the rest never begins."""

    def child(trace, began):
        tell(trace)
        sleep(began)

    def parent(folder, began):
        children = [sk.spawn(child, f"{folder}/{number}", began) for number in range(5)]
        return sk.fetch(children)

    task = started(parent, str(tmp_path))
    before = session.statistics()["tasks"].get("cancelled", 0)

    assert task.cancel()
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2
    at_rest(session, until)
    assert session.statistics()["tasks"]["cancelled"] == before + 6
    assert len([path for path in tmp_path.iterdir() if path.name != "began"]) == 1


def test_children_elsewhere_are_cancelled_too(session, spared, until, tmp_path):
    def parent(paths):
        return sk.fetch(
            [sk.options(single=worker).spawn(sleep, path) for worker, path in paths.items()]
        )

    paths = {worker: str(tmp_path / f"on-{worker}") for worker in (1, 2, 3)}
    task = session.spawn(parent, paths, scope=MAIN)
    until(lambda: all(Path(path).exists() for path in paths.values()), "the children run")

    assert task.cancel()
    at_rest(session, until)
    assert [session.options(single=w).spawn(add, 1).result(20) for w in range(4)] == [2] * 4


def test_grandchildren_are_cancelled_too(session, spared, until, tmp_path):
    def child(path):
        return sk.options(single=2).spawn(sleep, path).result()

    def parent(path):
        return sk.options(single=1).spawn(child, path).result()

    task = session.spawn(parent, str(tmp_path / "began"), scope=MAIN)
    until((tmp_path / "began").exists, "the grandchild runs")

    assert task.cancel()
    at_rest(session, until)
    assert [session.options(single=w).spawn(add, 1).result(20) for w in range(3)] == [2] * 3


def test_children_of_a_task_that_is_done_go_on(session, spared, until, gate, tmp_path):
    def parent(gate, trace):
        sk.options(single=1, name="left alone").spawn(lambda: (wait_for(gate), tell(trace)))

    task = session.spawn(parent, str(gate), str(tmp_path / "went on"), scope=MAIN)
    task.result(20)

    assert not task.cancel()
    gate.touch()
    until((tmp_path / "went on").exists, "the child ended")


def test_a_task_cancels_what_it_spawned_and_does_not_need(session):
    def parent():
        kept = [sk.spawn(add, number) for number in range(4)]
        assert [child.cancel() for child in kept] == [True] * 4
        assert all(child.cancelled() for child in kept)
        try:
            kept[0].result()
        except sk.TaskCancelledError as error:
            return str(error)

    assert "was cancelled before it ran" in session.spawn(parent, scope=MAIN).result(20)


def test_a_task_cancels_what_runs_elsewhere(session, spared, until, tmp_path):
    def parent(path):
        child = sk.options(single=3).spawn(sleep, path)
        wait_for(path)
        return child.cancel(), child.cancelled(), child.cancel()

    told = session.spawn(parent, str(tmp_path / "began"), scope=MAIN).result(20)

    assert told == (True, True, True)
    assert session.options(single=3).spawn(add, 1).result(20) == 2


def test_dependants_within_a_task_are_cancelled_too(session):
    def parent():
        first = sk.spawn(add, 1)
        second = sk.spawn(add, first)
        third = sk.spawn(add, second)
        first.cancel()
        try:
            third.result(10)
        except sk.TaskCancelledError as error:
            return str(error), third.cancelled(), third.name, first.name

    text, cancelled, third, first = session.spawn(parent, scope=MAIN).result(20)

    assert text == f"{third} was cancelled: it needs the result of {first}, which was cancelled"
    assert cancelled


def test_a_task_that_is_to_stop_spawns_nothing_more(session, started, until):
    def parent(began):
        try:
            sleep(began)
        finally:
            sk.spawn(add, 1)

    task = started(parent)
    before = session.statistics()["tasks"]
    assert task.cancel()
    at_rest(session, until)
    after = session.statistics()["tasks"]

    assert sum(after.values()) == sum(before.values())


# -- beside tasks ----------------------------------------------------------------------


def test_a_px_cell_is_never_hit(session, until, tmp_path):
    """Tasks that wait for the main thread are cancelled, again and again, while a cell has it."""
    view = session._link.view(0)
    until(lambda: not session.statistics()["busy"][0], "nothing else runs there")
    code = f"""
import pathlib, time
pathlib.Path({str(tmp_path / "runs")!r}).touch()
until = time.monotonic() + 1.0
steps = 0
while time.monotonic() < until:
    time.sleep(0.0005)
    steps += 1
"""
    cell = view.execute(code, block=False)
    until((tmp_path / "runs").exists, "the cell runs")
    while not cell.ready():
        task = session.spawn(spin, str(tmp_path / "spins"), scope=MAIN)
        task.cancel()
    cell.get(20)

    assert view.pull("steps", block=True) > 100
    at_rest(session, until)


def test_to_stop_waiting_is_not_to_cancel(session, started, gate):
    task = started(lambda gate, began: (tell(began), wait_for(gate), "value")[-1], str(gate))
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        task.result(30)
    timer.join()
    assert not task.done()
    gate.touch()

    assert task.result(20) == "value"


def test_who_wraps_a_task_in_asyncio_cancels_it(session, started):
    async def main():
        wrapped = asyncio.wrap_future(started(sleep))
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(main())
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2


def test_the_standard_library_hears_of_tasks_that_are_cancelled_while_they_run(session, started):
    task, other = started(sleep), session.spawn(add, 1, scope=NodeScope("b"))
    called = threading.Event()
    task.add_done_callback(lambda _: called.set())
    threading.Timer(0.1, task.cancel).start()
    ended = list(concurrent.futures.as_completed([task, other], 20))

    assert set(ended) == {task, other}
    assert task.cancelled()
    assert called.wait(10)
    assert concurrent.futures.wait([task, other], 10).done == {task, other}


def test_a_cancelled_task_leaves_nothing_on_its_engine(session, started, until):
    task = started(lambda began: (tell(began), ask(began), bytearray(1_000_000)))
    assert task.cancel()
    at_rest(session, until)
    until(lambda: session.spawn(held_bytes, scope=MAIN).result(20) == 0, "its result is gone")


def held_bytes():
    from scopekit.engine.context import running_task

    store = running_task.get().agent.store
    return sum(type(entry.value) is tuple for entry in store._entries.values())


# -- time ------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [loop, sleep, spin])
def test_what_takes_too_long_is_stopped(session, until, began, work):
    task = session.options(scope=MAIN, timeout=0.3, retries=2).spawn(work, str(began))
    dependant = session.spawn(add, task)

    with pytest.raises(sk.TaskTimeoutError) as caught:
        task.result(20)
    text = f"{task.name} took longer than its timeout=0.3 s on node a, worker 0, thread 0"
    assert str(caught.value).startswith(text)
    assert isinstance(caught.value, TimeoutError)
    assert not task.cancelled()
    with pytest.raises(sk.TaskTimeoutError, match=task.name):
        dependant.result(20)
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2


def test_time_runs_from_when_a_task_begins(session, gate, until):
    ahead = session.spawn(wait_for, str(gate), scope=MAIN)
    until(lambda: ahead.state == "running", "the task ahead runs")
    tasks = [session.options(scope=MAIN, timeout=0.2).spawn(add, n) for n in range(3)]
    time.sleep(0.5)
    gate.touch()

    assert sk.fetch(tasks, timeout=20) == [1, 2, 3]


def test_what_is_quick_enough_is_not_stopped(session, until):
    tasks = [session.options(timeout=20.0).spawn(add, number) for number in range(50)]

    assert sk.fetch(tasks, timeout=20) == list(range(1, 51))


def test_a_thread_that_takes_too_long_is_asked_to_stop(session, started, until):
    task = started(ask, scope=OTHER, timeout=0.1)

    with pytest.raises(sk.TaskTimeoutError, match="worker 0, thread 1"):
        task.result(20)
    at_rest(session, until)


def test_a_limit_counts_for_what_tasks_spawn(session):
    def parent(began):
        child = sk.options(timeout=0.2).spawn(sleep, began)
        try:
            child.result()
        except TimeoutError as error:
            return str(error), child.name, sk.spawn(add, 1).result()

    text, name, value = session.spawn(parent, os.devnull, scope=MAIN).result(20)

    assert text.startswith(f"{name} took longer than its timeout=0.2 s on node a, worker 0")
    assert value == 2


def test_what_a_task_spawned_that_takes_too_long_goes_with_it(session, until, began):
    def parent(began):
        return sk.spawn(sleep, began).result()

    task = session.options(scope=MAIN, timeout=0.5).spawn(parent, str(began))

    with pytest.raises(sk.TaskTimeoutError):
        task.result(20)
    assert session.spawn(add, 1, scope=MAIN).result(20) == 2
    at_rest(session, until)


# -- force -----------------------------------------------------------------------------


@pytest.fixture
def short_lived(own_folders):
    """Two engines that a test may do without."""
    with sk.start(2) as session:
        yield session


def test_force_ends_the_process_and_others_run_elsewhere(short_lived, began, until, tmp_path):
    session = short_lived

    def work(began):
        tell(began)
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            try:
                time.sleep(0.01)
            except BaseException:  # noqa: BLE001  # on purpose
                tell(f"{began}-interrupted")

    trace = tmp_path / "began-interrupted"
    task = session.spawn(work, str(began), scope=ProcessScope(0))
    until(began.exists, "the task runs")
    others = [session.spawn(add, number) for number in range(100)]

    assert task.cancel(force=True, grace=0.3)
    until(trace.exists, "it was asked first")
    until(lambda: session.workers == [1], "its process is gone")
    assert sk.fetch(others, timeout=20) == list(range(1, 101))
    assert task.state == "cancelled"
    with pytest.raises(sk.TaskCancelledError):
        task.result(10)


def test_force_spares_a_process_whose_task_stops_in_time(short_lived, began, until):
    session = short_lived
    task = session.spawn(sleep, str(began), scope=ProcessScope(0))
    until(began.exists, "the task runs")

    assert task.cancel(force=True, grace=0.2)
    time.sleep(0.6)
    assert session.spawn(add, 1, scope=ProcessScope(0)).result(20) == 2
    assert session.workers == [0, 1]


def test_code_that_keeps_the_interpreter_is_ended_by_force(short_lived, began, until):
    session = short_lived
    task = session.spawn(hold_the_interpreter, LONG, str(began), scope=ProcessScope(0))
    until(began.exists, "the task runs")
    others = [session.spawn(add, number) for number in range(10)]

    before = time.monotonic()
    assert not task.cancel()
    assert 0.5 < time.monotonic() - before < 10
    task.cancel(force=True, grace=0.2)
    with pytest.raises(sk.TaskCancelledError):
        task.result(20)
    until(lambda: session.workers == [1], "its process is gone")
    assert sk.fetch(others, timeout=20) == list(range(1, 11))


def test_what_was_to_stop_is_not_run_again_when_its_engine_dies(short_lived, until, tmp_path):
    session = short_lived

    def work(path):
        with open(path, "a") as file:  # noqa: PTH123  # the module travels by value
            file.write("x")
        hold_the_interpreter(LONG, path)

    path = tmp_path / "runs"
    task = session.spawn(work, str(path))
    until(path.exists, "the task runs")
    assert not task.cancel()
    pid = session.topology.process(task.worker).pid
    os.kill(pid, signal.SIGKILL)

    with pytest.raises(sk.TaskCancelledError):
        task.result(20)
    assert session.spawn(add, 1).result(20) == 2
    assert path.read_text() == "x"


# -- where there is no engine ----------------------------------------------------------


def test_what_ran_in_this_process_has_ended():
    with sk.start(0) as session:
        task = session.spawn(add, 1)
        assert not task.cancel()
        assert session.spawn(sk.cancelled).result() is False

        failed = session.spawn(add, "x")
        dependant = session.spawn(add, failed)
        assert not dependant.cancel()
