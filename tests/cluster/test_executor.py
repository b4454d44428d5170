"""An executor is as complete as those of the standard library.

Many cases are those of CPython's own tests of executors, whose names stand beside them.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import BrokenExecutor
from pathlib import Path

import cloudpickle
import pytest
import tqdm

import scopekit as sk

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMIT = 30


class OnPurposeError(Exception):
    pass


def mul(x, y):
    return x * y


def capture(*args, **kwargs):
    return args, kwargs


def fail(x=0):
    raise OnPurposeError(x)


class Thing:
    def method(self):
        return "method"


def make_thing(_):
    return Thing()


def hold(path, started=None):
    """Run until a file appears; make another one first."""
    import pathlib
    import time

    if started is not None:
        pathlib.Path(started).touch()
    limit = time.monotonic() + 60
    while not pathlib.Path(path).exists() and time.monotonic() < limit:
        time.sleep(0.005)
    return "let go"


@pytest.fixture
def executor(plain):
    with plain.executor() as executor:
        yield executor


@pytest.fixture
def narrow(plain):
    """An executor that sends one call at a time."""
    with plain.executor(max_workers=1) as executor:
        yield executor


# -- submit --------------------------------------------------------------------------


def test_a_call_gives_its_value(executor):
    """test_submit."""
    assert executor.submit(pow, 2, 8).result(LIMIT) == 256


def test_a_keyword_of_any_name_reaches_the_function(executor):
    """test_submit_keyword."""
    assert executor.submit(mul, 2, y=8).result(LIMIT) == 16
    given = dict.fromkeys(
        ["self", "fn", "f", "scope", "compute_scope", "result_scope", "name", "args", "timeout"], 1
    )
    assert executor.submit(capture, 1, **given).result(LIMIT) == ((1,), given)


def test_without_a_function_there_is_a_type_error(executor):
    """test_submit_keyword."""
    with pytest.raises(TypeError):
        executor.submit(fn=capture, arg=1)
    with pytest.raises(TypeError):
        executor.submit(arg=1)


def test_an_error_is_raised_as_it_is_with_the_remote_traceback(executor):
    """test_traceback."""
    future = executor.submit(fail, 123)

    with pytest.raises(OnPurposeError) as caught:
        future.result(LIMIT)

    assert caught.value.args == (123,)
    assert ", in fail" in "".join(traceback.format_exception(caught.value))
    assert future.exception(LIMIT) is caught.value


def test_a_done_future_has_its_value_at_once(executor):
    future = executor.submit(mul, "ab", 3)
    concurrent.futures.wait([future], LIMIT)

    assert future.result(0) == "ababab"
    assert future.exception(0) is None


def test_a_value_outlives_the_session_that_made_it():
    with sk.start(1) as session, session.executor() as executor:
        future = executor.submit(mul, "ab", 3)
    assert future.result(0) == "ababab"


def test_a_value_of_any_size_comes_back(executor):
    values = [executor.submit(mul, b"x", size) for size in (1, 1 << 10, 1 << 20, 1 << 23)]

    assert [len(future.result(LIMIT)) for future in values] == [1, 1 << 10, 1 << 20, 1 << 23]


def test_an_argument_that_does_not_pickle_is_the_future_s_error(executor):
    """test_error_at_task_pickle."""
    future = executor.submit(id, threading.Lock())

    with pytest.raises(sk.ScopekitError, match="argument 1"):
        future.result(LIMIT)
    assert executor.submit(mul, 2, 3).result(LIMIT) == 6


class BreaksWhenRead:
    def __reduce__(self):
        return fail, (7,)


def test_an_argument_that_cannot_be_read_is_the_future_s_error(executor):
    """test_error_at_task_unpickle."""
    with pytest.raises(OnPurposeError):
        executor.submit(id, BreaksWhenRead()).result(LIMIT)
    assert executor.submit(mul, 2, 3).result(LIMIT) == 6


def test_a_result_that_cannot_be_read_here_is_the_future_s_error(executor):
    """test_error_during_result_unpickle_in_result_handler."""
    with pytest.raises(sk.ScopekitError, match="cannot be read here"):
        executor.submit(BreaksWhenRead).result(LIMIT)
    assert executor.submit(mul, 2, 3).result(LIMIT) == 6


def test_a_result_that_does_not_pickle_is_the_future_s_error(executor):
    """test_error_during_result_pickle_on_worker."""
    future = executor.submit(threading.Lock)

    with pytest.raises(sk.ScopeViolationError, match=r"_thread\.lock"):
        future.result(LIMIT)
    assert isinstance(future.exception(0), sk.ScopeViolationError)
    assert executor.submit(mul, 2, 3).result(LIMIT) == 6


def test_a_bad_value_among_good_ones_is_alone_with_its_error(executor):
    calls = [threading.Lock if i % 3 == 0 else list for i in range(12)]

    futures = [executor.submit(call) for call in calls]
    concurrent.futures.wait(futures, LIMIT)

    assert [future.exception(0) is None for future in futures] == [i % 3 != 0 for i in range(12)]


def test_a_call_that_ends_the_interpreter_is_the_future_s_error(executor):
    """test_exit_during_func_exec_on_worker."""
    with pytest.raises(sk.RemoteError, match="SystemExit"):
        executor.submit(sys.exit, 3).result(LIMIT)


def test_a_coroutine_function_is_awaited(executor):
    async def later(x):
        await asyncio.sleep(0)
        return x

    assert executor.submit(later, "text").result(LIMIT) == "text"
    assert list(executor.map(later, [1, 2, 3], chunksize=2)) == [1, 2, 3]


def test_a_task_and_a_chunk_can_be_arguments_and_function(plain, executor):
    task, chunk = plain.spawn(mul, 2, 3), plain.tochunk([1])

    assert executor.submit(capture, task, [chunk]).result(LIMIT) == ((6, [[1]]), {})
    assert executor.submit(plain.tochunk(mul), 2, 3).result(LIMIT) == 6
    assert executor.submit(plain.spawn(lambda: mul), 2, 3).result(LIMIT) == 6


def test_a_future_of_an_executor_is_no_argument_and_says_so(executor):
    future = executor.submit(mul, 2, 3)

    with pytest.raises(sk.ScopekitError, match=r"Pass its result\(\)"):
        executor.submit(mul, future, 2).result(LIMIT)


def test_many_threads_submit_at_once(executor):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        futures = list(threads.map(lambda i: executor.submit(mul, i, 2), range(400)))

    assert [future.result(LIMIT) for future in futures] == [2 * i for i in range(400)]


# -- map -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 6, 40, 50])
def test_map_gives_values_in_order(executor, chunksize):
    """test_map, test_map_chunksize."""
    got = executor.map(pow, range(40), range(40), chunksize=chunksize)

    assert list(got) == list(map(pow, range(40), range(40)))


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_ends_with_the_shortest_iterable(executor, chunksize):
    got = executor.map(mul, itertools.count(), [1, 2, 3, 4], chunksize=chunksize)

    assert list(got) == [0, 2, 6, 12]


def test_map_of_nothing_gives_nothing(executor):
    assert list(executor.map(mul, [], [])) == []
    assert list(executor.map(mul, [], [], chunksize=5)) == []
    assert list(executor.map(mul)) == []


@pytest.mark.parametrize("chunksize", [1, 2, 4])
def test_map_raises_at_the_element_that_failed(executor, chunksize):
    """test_map_exception."""
    got = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=chunksize)

    assert next(got) == (0, 1)
    assert next(got) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(got)
    with pytest.raises(StopIteration):
        next(got)


def test_map_keeps_its_limit(executor, gate):
    """test_map_timeout."""
    got = executor.map(hold, [str(gate.parent), str(gate.parent), str(gate)], timeout=1)

    assert [next(got), next(got)] == ["let go", "let go"]
    with pytest.raises(TimeoutError):
        next(got)


@pytest.mark.parametrize("bad", [{"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}])
def test_map_refuses_numbers_that_are_too_small(executor, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        executor.map(mul, [1], [2], **bad)


def test_map_refuses_a_buffersize_that_is_no_number(executor):
    with pytest.raises(TypeError):
        executor.map(mul, [1], [2], buffersize="2")


def test_map_reads_the_iterables_and_sends_without_being_asked(executor, tmp_path):
    """test_map_submits_without_iteration."""
    paths = [tmp_path / str(i) for i in range(10)]

    executor.map(os.mkdir, map(str, paths))
    executor.shutdown()

    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_buffersize_bounds_how_far_map_reads_ahead(executor, chunksize):
    numbers = itertools.count()

    got = executor.map(mul, numbers, itertools.repeat(2), buffersize=4, chunksize=chunksize)

    assert [next(got) for _ in range(10)] == list(range(0, 20, 2))
    assert next(numbers) <= (10 + 5) * chunksize
    got.close()


def test_a_closed_map_cancels_what_has_not_begun(narrow, gate, tmp_path):
    """test_executor_map_current_future_cancel."""
    first = narrow.submit(hold, str(gate))
    traces = [str(tmp_path / name) for name in ("second", "third")]

    late = narrow.map(hold, [str(gate)] * 2, traces, timeout=0)
    with contextlib.closing(late) as got, pytest.raises(TimeoutError):
        next(got)
    gate.touch()

    assert first.result(LIMIT) == "let go"
    narrow.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["open"]


def test_a_map_that_fails_cancels_the_rest(narrow, tmp_path):
    def work(path):
        if path is None:
            raise OnPurposeError
        hold(path)

    got = narrow.map(work, [None, *[str(tmp_path / str(i)) for i in range(20)]])

    with pytest.raises(OnPurposeError):
        next(got)
    # whoever has begun waits for a file
    for i in range(20):
        (tmp_path / str(i)).touch()
    narrow.shutdown()


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_map_that_is_left_early_cancels_what_has_not_begun(narrow, gate, tmp_path, chunksize):
    traces = [str(tmp_path / str(i)) for i in range(20)]
    opened = [str(tmp_path), str(tmp_path), *[str(gate)] * 18]

    for value in narrow.map(hold, opened, traces, chunksize=chunksize):
        assert value == "let go"
        break
    gate.touch()
    narrow.shutdown()

    assert len(list(tmp_path.iterdir())) < 20


def test_map_keeps_no_value_that_the_caller_has(executor):
    """test_free_reference."""
    for chunksize in (1, 3):
        for thing in executor.map(make_thing, range(10), chunksize=chunksize):
            gone = weakref.ref(thing)
            del thing
            gc.collect()
            assert gone() is None


# -- references ----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 1])
def test_arguments_and_function_are_let_go_of_when_sent(plain, limit):
    """test_no_stale_references."""
    gone = threading.Event()
    with plain.executor(max_workers=limit) as executor:
        things = [Thing(), Thing()]
        watched = [weakref.ref(thing, lambda _: gone.set()) for thing in things]
        executor.submit(things[0].method)
        executor.submit(capture, things[1], k=things[1])
        del things
        executor.shutdown()

        assert gone.wait(LIMIT)
        gc.collect()
        assert [ref() for ref in watched] == [None, None]


def test_a_value_goes_with_its_future(executor):
    future = executor.submit(make_thing, 1)
    gone = weakref.ref(future.result(LIMIT))

    assert gone() is not None
    del future
    gc.collect()
    assert gone() is None


def test_a_value_that_is_here_is_kept_nowhere_else(plain, executor, until):
    before = plain.statistics()["chunks"]
    futures = [executor.submit(make_thing, i) for i in range(20)]
    concurrent.futures.wait(futures, LIMIT)

    until(lambda: plain.statistics()["chunks"] <= before, "the engines let go of the values")


# -- max_workers ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1])
def test_max_workers_must_be_more_than_0(plain, number):
    """test_max_workers_negative."""
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        plain.executor(max_workers=number)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_calls_than_max_workers_are_sent_and_unfinished(plain, limit, monkeypatch):
    most = 0
    real = plain._driver.spawn

    def counted(spec, call, task, sink):
        nonlocal most
        real(spec, call, task, sink)
        most = max(most, len(plain._driver._pending))

    monkeypatch.setattr(plain._driver, "spawn", counted)
    with plain.executor(max_workers=limit) as executor:
        futures = [executor.submit(time.sleep, 0.001) for _ in range(60)]
        concurrent.futures.wait(futures, LIMIT)

    assert most == limit


def test_calls_that_wait_for_their_turn_are_made_in_order(narrow, tmp_path):
    path = tmp_path / "log"

    def note(i):
        with path.open("a") as file:
            file.write(f"{i} ")

    for i in range(50):
        narrow.submit(note, i)
    narrow.shutdown()

    assert path.read_text() == "".join(f"{i} " for i in range(50))


def test_a_call_that_waits_has_the_options_of_the_block_that_made_it(plain, narrow):
    with sk.with_options(scope=sk.ProcessScope(1)):
        futures = [narrow.submit(sk.myid) for _ in range(6)]

    assert [future.result(LIMIT) for future in futures] == [1] * 6


def test_many_more_calls_than_max_workers_all_end(plain):
    """test_saturation, test_hang_issue12364."""
    with plain.executor(max_workers=4) as executor:
        futures = [executor.submit(mul, i, 1) for i in range(15 * 4)]
    assert [future.result(0) for future in futures] == list(range(60))


# -- scopes --------------------------------------------------------------------------


def test_calls_run_where_the_scope_says(session):
    with session.executor(sk.ProcessScope(2)) as executor:
        assert set(executor.map(sk_myid, range(20))) == {2}
    with session.executor(scope=sk.NodeScope("a"), max_workers=3) as executor:
        assert set(executor.map(sk_myid, range(40))) <= {0, 1}


def sk_myid(_):
    import scopekit

    return scopekit.myid()


def test_calls_take_the_options_that_tasks_take(session):
    with session.executor(name="mine", result_scope=sk.NodeScope("b")) as executor:
        future = executor.submit(list)
        with pytest.raises(sk.ScopeViolationError):
            future.result(LIMIT)
    assert "mine" in {record.spec.name for record in session._driver.scheduler.tasks.values()}


def test_an_unknown_option_is_refused_where_it_is_written(session):
    with pytest.raises(sk.ScopeError, match="executor has no option 'nmae'"):
        session.executor(nmae="mine")


@pytest.mark.parametrize("limit", [None, 1])
def test_a_call_that_nobody_may_run_is_refused_by_its_future(session, limit):
    task = session.options(result_scope=sk.ProcessScope(1)).spawn(list)
    with session.executor(sk.ProcessScope(2), limit) as executor:
        future = executor.submit(len, task)
        with pytest.raises(sk.ScopeConflictError):
            future.result(LIMIT)


# -- cancelling ----------------------------------------------------------------------


def test_a_call_that_waits_for_its_turn_can_be_cancelled(narrow, gate):
    called = threading.Event()
    first, second = narrow.submit(hold, str(gate)), narrow.submit(mul, 2, 3)
    second.add_done_callback(lambda _: called.set())

    assert second.cancel()
    assert second.cancelled()
    assert second.done()
    assert second.cancel()
    assert concurrent.futures.wait([second], LIMIT).done == {second}
    assert called.wait(LIMIT)
    with pytest.raises(concurrent.futures.CancelledError):
        second.result(0)
    gate.touch()
    assert first.result(LIMIT) == "let go"


def test_a_call_that_runs_is_not_cancelled(executor, gate, tmp_path, until):
    future = executor.submit(hold, str(gate), str(tmp_path / "runs"))
    until((tmp_path / "runs").exists, "it runs")
    until(future.running, "it is known to run")

    assert not future.cancel()
    gate.touch()
    assert future.result(LIMIT) == "let go"
    assert not future.running()


def test_a_call_that_ended_is_not_cancelled(executor):
    future = executor.submit(mul, 2, 3)
    future.result(LIMIT)

    assert not future.cancel()
    assert future.result(0) == 6


def test_a_cancelled_call_makes_room_for_others(narrow, gate):
    held = narrow.submit(hold, str(gate))
    others = [narrow.submit(mul, i, 1) for i in range(10)]
    for future in others[::2]:
        assert future.cancel()
    gate.touch()

    assert [future.result(LIMIT) for future in others[1::2]] == [1, 3, 5, 7, 9]
    assert held.result(LIMIT) == "let go"


def test_cancelling_from_many_threads_settles_each_call_once(plain):
    with plain.executor(max_workers=2) as executor:
        futures = [executor.submit(mul, i, 1) for i in range(300)]
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda future: future.cancel(), futures))
        concurrent.futures.wait(futures, LIMIT)

    for i, (future, cancelled) in enumerate(zip(futures, answers, strict=True)):
        assert future.cancelled() == cancelled
        if not cancelled:
            assert future.result(0) == i


# -- shutdown ------------------------------------------------------------------------


def test_after_shutdown_no_call_is_taken(plain):
    """test_run_after_shutdown."""
    executor = plain.executor()
    assert not executor._shutdown
    executor.shutdown()

    assert executor._shutdown
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 5)
    with pytest.raises(RuntimeError):
        executor.map(pow, [2], [5])
    executor.shutdown()


def test_the_end_of_the_block_waits_for_all_calls(plain):
    """test_context_manager_shutdown."""
    with plain.executor() as executor:
        futures = [executor.submit(time.sleep, 0.01) for _ in range(10)]

    assert all(future.done() for future in futures)


def test_shutdown_without_waiting_lets_the_calls_end(plain, gate):
    """test_shutdown_no_wait."""
    executor = plain.executor(max_workers=1)
    futures = [executor.submit(hold, str(gate)) for _ in range(3)]

    executor.shutdown(wait=False)

    assert not futures[0].done()
    gate.touch()
    assert [future.result(LIMIT) for future in futures] == ["let go"] * 3


@pytest.mark.parametrize("limit", [None, 2])
def test_shutdown_can_cancel_what_has_not_begun(plain, limit):
    """test_cancel_futures."""
    executor = plain.executor(max_workers=limit)
    futures = [executor.submit(time.sleep, 0.1) for _ in range(50)]

    executor.shutdown(cancel_futures=True)

    cancelled = [future for future in futures if future.cancelled()]
    others = [future for future in futures if not future.cancelled()]
    assert len(cancelled) > 20
    assert others
    assert [future.exception(0) for future in others] == [None] * len(others)


def test_shutdown_after_a_call_was_cancelled_ends(plain):
    """test_hang_gh94440."""
    executor = plain.executor(max_workers=1)
    executor.submit(int).result(LIMIT)
    executor.submit(int).cancel()

    executor.shutdown()


def test_shutdown_while_a_call_fails_to_be_sent_ends(plain):
    """test_shutdown_deadlock_pickle."""
    executor = plain.executor(max_workers=1)
    futures = [executor.submit(id, threading.Lock()) for _ in range(5)]

    executor.shutdown()

    assert all(isinstance(future.exception(0), sk.ScopekitError) for future in futures)


def test_an_executor_that_nobody_holds_makes_its_calls_and_ends(plain):
    """test_del_shutdown."""
    executor = plain.executor(max_workers=1)
    got = executor.map(abs, range(-5, 5))
    del executor
    gc.collect()

    assert list(got) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_an_executor_has_a_thread_only_while_it_has_calls_to_make(plain, until):
    def threads():
        return [t for t in threading.enumerate() if t.name == "scopekit-executor"]

    before = len(threads())
    executor = plain.executor()
    assert len(threads()) == before
    executor.submit(mul, 2, 3).result(LIMIT)
    executor.shutdown()
    assert len(threads()) == before


def test_a_session_that_closes_ends_its_executors():
    with sk.start(1) as session:
        executor, idle = session.executor(max_workers=1), session.executor()
        idle.submit(mul, 2, 3).result(LIMIT)
        futures = [executor.submit(time.sleep, 30) for _ in range(3)]
    for future in futures:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
    for each in (executor, idle):
        with pytest.raises(RuntimeError, match="session was closed"):
            each.submit(mul, 2, 3)
        each.shutdown()


def program(text):
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_interpreter_ends_when_all_calls_have():
    """test_interpreter_shutdown, test_hang_gh83386."""
    done = program(
        "import scopekit as sk, time\n"
        "def late(t, word):\n"
        "    time.sleep(t)\n"
        "    print(word)\n"
        "if __name__ == '__main__':\n"
        "    session = sk.start(1)\n"
        "    pool, quick = session.executor(max_workers=1), session.executor()\n"
        "    pool.submit(late, 0.3, 'apple')\n"
        "    pool.submit(late, 0.0, 'pear')\n"
        "    quick.submit(late, 0.0, 'plum')\n"
        "    quick.shutdown(wait=False)\n"
    )

    assert done.stderr == ""
    assert sorted(done.stdout.split()) == ["apple", "pear", "plum"]


def test_at_the_end_of_the_interpreter_no_call_is_taken():
    """test_submit_after_interpreter_shutdown."""
    done = program(
        "import atexit, scopekit as sk\n"
        "@atexit.register\n"
        "def run_last():\n"
        "    try:\n"
        "        pool.submit(id, None)\n"
        "    except RuntimeError:\n"
        "        print('runtime-error')\n"
        "        raise\n"
        "session = sk.start(1)\n"
        "pool = session.executor()\n"
        "pool.submit(id, 42).result()\n"
    )

    assert "RuntimeError: cannot schedule new futures" in done.stderr
    assert done.stdout.strip() == "runtime-error"


# -- initializers --------------------------------------------------------------------

STATUS = "uninitialized"
STATE = {}


def prepare(word, path=None):
    global STATUS  # noqa: PLW0603  # what initializers are for
    STATUS = word
    STATE["word"] = word
    if path is not None:
        with Path(path).open("a") as file:
            file.write(f"{os.getpid()}\n")


def status(_=None):
    return STATUS, STATE.get("word"), os.getpid()


def break_down():
    raise ValueError("error in initializer")


def test_an_initializer_prepares_every_process_once_before_the_first_call(plain, tmp_path):
    """test_initializer."""
    path = tmp_path / "log"
    with plain.executor(initializer=prepare, initargs=("ready", str(path))) as executor:
        got = [future.result(LIMIT) for future in [executor.submit(status) for _ in range(40)]]
        got += executor.map(status, range(40), chunksize=7)

    assert {(word, other) for word, other, _ in got} == {("ready", "ready")}
    prepared = path.read_text().split()
    assert sorted(prepared) == sorted(set(prepared))
    assert {str(pid) for *_, pid in got} == set(prepared)


def test_threads_of_a_process_wait_for_one_initializer(session, tmp_path):
    path = tmp_path / "log"

    def slow(path):
        time.sleep(0.1)
        prepare("ready", path)

    with session.executor(sk.ProcessScope(1), initializer=slow, initargs=(str(path),)) as executor:
        got = list(executor.map(status, range(30)))

    assert {word for word, *_ in got} == {"ready"}
    assert len(path.read_text().split()) == 1


def test_each_executor_has_its_own_initializer(plain):
    with (
        plain.executor(initializer=prepare, initargs=("one",)) as one,
        plain.executor(initializer=prepare, initargs=("two",)) as two,
        plain.executor() as none,
    ):
        got = [
            [f.result(LIMIT)[0] for f in [e.submit(status) for _ in range(8)]]
            for e in (one, two, one, none)
        ]

    assert got == [["one"] * 8, ["two"] * 8, ["one"] * 8, ["uninitialized"] * 8]


def test_what_a_call_makes_of_the_globals_the_next_one_sees(plain):
    """As in a process of the standard library's pools."""

    def count():
        STATE["count"] = STATE.get("count", 0) + 1
        return STATE["count"]

    with plain.executor(sk.ProcessScope(0), initializer=prepare, initargs=("a",)) as executor:
        assert [executor.submit(count).result(LIMIT) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("limit", [None, 1])
def test_an_initializer_that_fails_breaks_the_executor(plain, limit, caplog):
    """FailingInitializerMixin."""
    with caplog.at_level(logging.CRITICAL, "concurrent.futures"):
        executor = plain.executor(max_workers=limit, initializer=break_down)
        futures = [executor.submit(status) for _ in range(6)]
        for future in futures:
            with pytest.raises(BrokenExecutor, match="error in initializer") as caught:
                future.result(LIMIT)
            assert isinstance(caught.value.__cause__, ValueError)
        assert executor._broken
        with pytest.raises(BrokenExecutor):
            executor.submit(status)
        executor.shutdown()

    assert "ValueError: error in initializer" in caplog.text
    assert len(caplog.records) == 1
    assert plain.spawn(mul, 2, 3).result(LIMIT) == 6


def test_each_future_of_a_broken_executor_has_an_error_of_its_own(plain, gate):
    """test_broken_process_pool_traceback."""

    # Once it is known to be broken, it takes no call any more.
    def break_down_later():
        hold(gate)
        break_down()

    executor = plain.executor(initializer=break_down_later)
    futures = [executor.submit(status) for _ in range(3)]
    gate.touch()
    errors = [future.exception(LIMIT) for future in futures]
    executor.shutdown()

    assert len({id(error) for error in errors}) == 3


def test_an_initializer_must_be_callable_and_pickle(plain):
    with pytest.raises(TypeError, match="callable"):
        plain.executor(initializer="prepare")
    with pytest.raises(sk.ScopekitError, match="initializer"):
        plain.executor(initializer=prepare, initargs=(threading.Lock(),))


def test_a_function_that_lives_on_an_engine_is_prepared_for_too(plain):
    with plain.executor(initializer=prepare, initargs=("ready",)) as executor:
        assert executor.submit(plain.tochunk(mul), 2, 3).result(LIMIT) == 6


# -- waiting, callbacks --------------------------------------------------------------


def test_wait_and_as_completed_take_its_futures(executor, gate):
    """test_first_completed, test_no_timeout, test_20369."""
    slow, fast = executor.submit(hold, str(gate)), executor.submit(mul, 21, 2)

    done, late = concurrent.futures.wait([fast, fast, slow], LIMIT, "FIRST_COMPLETED")
    assert (done, late) == ({fast}, {slow})
    gate.touch()
    assert set(concurrent.futures.as_completed([slow, fast], LIMIT)) == {slow, fast}


def test_wait_for_the_first_failure(executor, gate):
    """test_first_exception."""
    slow, failing = executor.submit(hold, str(gate)), executor.submit(fail)

    done, late = concurrent.futures.wait([failing, slow], LIMIT, "FIRST_EXCEPTION")

    assert (done, late) == ({failing}, {slow})


def test_a_wait_that_is_too_short_says_so(executor, gate):
    """test_timeout, test_future_times_out."""
    future = executor.submit(hold, str(gate))

    with pytest.raises(TimeoutError):
        future.result(0.02)
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([future], 0.02))
    assert concurrent.futures.wait([future], 0.02).not_done == {future}


@pytest.mark.parametrize("function", [int, list, fail])
def test_a_callback_gets_the_future_that_is_done(executor, function, until):
    called = []
    future = executor.submit(function)
    future.add_done_callback(called.append)

    until(lambda: called, "the callback")
    assert called == [future]
    assert future.done()


def test_callbacks_may_submit_further_calls_and_wait_for_them(executor):
    """As joblib does, which sends the next piece when one is done."""
    left = iter(range(30))
    values, ended = [], threading.Event()

    def next_one(future=None):
        if future is not None:
            values.append(future.result(0))
        try:
            executor.submit(mul, next(left), 2).add_done_callback(next_one)
        except StopIteration:
            values.append(executor.submit(mul, "a", 2).result(LIMIT))
            ended.set()

    next_one()

    assert ended.wait(LIMIT)
    assert values == [*range(0, 60, 2), "aa"]


# -- others that know only executors -------------------------------------------------


def test_asyncio_runs_functions_in_it(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(executor, mul, i, "ab") for i in range(20))
        )

    assert asyncio.run(main()) == ["ab" * i for i in range(20)]


def test_asyncio_gets_the_error_of_the_function(executor):
    async def main():
        await asyncio.get_running_loop().run_in_executor(executor, fail, 5)

    with pytest.raises(OnPurposeError):
        asyncio.run(main())


def test_asyncio_cancels_a_call_that_waits_for_its_turn(narrow, gate):
    held = narrow.submit(hold, str(gate))

    async def main():
        call = asyncio.get_running_loop().run_in_executor(narrow, mul, 2, 3)
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    gate.touch()
    assert held.result(LIMIT) == "let go"


def test_tqdm_shows_a_map(executor, capsys):
    """As tqdm.contrib.concurrent.process_map does with an executor of its own."""
    got = list(tqdm.tqdm(executor.map(mul, range(20), range(20), chunksize=3), total=20))

    assert got == [i * i for i in range(20)]
    assert "20/20" in capsys.readouterr().err


def test_it_is_an_executor_by_type_and_tells_how_many_work(session):
    with session.executor() as executor, session.executor(max_workers=3) as three:
        assert isinstance(executor, concurrent.futures.Executor)
        assert executor._max_workers == session.num_processors()
        assert three._max_workers == 3


def test_a_call_whose_process_dies_is_made_again_elsewhere(until):
    """Other executors break; here only the process does."""
    with sk.start(2) as session, session.executor() as executor:
        futures = [executor.submit(time.sleep, 0.2) for _ in range(4)]
        until(lambda: any(future.running() for future in futures), "one runs")
        os.kill(session.topology.process(session.workers[0]).pid, 9)

        assert [future.result(LIMIT) for future in futures] == [None] * 4
        assert executor.submit(mul, 2, 3).result(LIMIT) == 6
