"""A task is a future that the standard library and others can use."""

import asyncio
import concurrent.futures
import sys
import threading
import time

import cloudpickle
import pytest
import tqdm

import scopekit as sk
from scopekit import ExactScope, ProcessScope, ThreadProc

cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Not an engine's main thread, through which the orders for its other threads come.
SLOT = ExactScope(ThreadProc(0, 1))


class OnPurposeError(Exception):
    pass


def add(x, y=1):
    return x + y


def fail():
    raise OnPurposeError("on purpose")


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


# -- the standard library ------------------------------------------------------------


def test_wait_takes_tasks(session):
    tasks = [session.spawn(add, i) for i in range(10)]

    done, missing = concurrent.futures.wait(tasks, 30)

    assert done == set(tasks)
    assert not missing


def test_wait_returns_at_the_first_that_ends(session, gate):
    slow = session.spawn(hold, str(gate), scope=SLOT)
    fast = session.spawn(add, 1)

    done, missing = concurrent.futures.wait(
        [slow, fast], 30, return_when=concurrent.futures.FIRST_COMPLETED
    )

    assert done == {fast}
    assert missing == {slow}


def test_wait_returns_at_the_first_that_fails(session, gate):
    slow = session.spawn(hold, str(gate), scope=SLOT)
    failing = session.options(single=1).spawn(fail)

    done, missing = concurrent.futures.wait(
        [slow, failing], 30, return_when=concurrent.futures.FIRST_EXCEPTION
    )

    assert failing in done
    assert missing == {slow}


def test_wait_for_the_first_failure_waits_for_all_where_none_fails(session):
    tasks = [session.spawn(add, i) for i in range(5)]

    done, missing = concurrent.futures.wait(
        tasks, 30, return_when=concurrent.futures.FIRST_EXCEPTION
    )

    assert (done, missing) == (set(tasks), set())


@pytest.mark.parametrize("as_completed", [concurrent.futures.as_completed, sk.as_completed])
def test_as_completed_yields_in_the_order_of_ending(session, gate, as_completed):
    slow = session.spawn(hold, str(gate), scope=SLOT)
    fast = session.spawn(add, 1)
    order = as_completed([slow, fast], 30)

    assert next(order) is fast
    gate.touch()
    assert next(order) is slow
    with pytest.raises(StopIteration):
        next(order)


def test_as_completed_keeps_its_limit(session, gate):
    slow = session.spawn(hold, str(gate), scope=SLOT)

    with pytest.raises(TimeoutError):
        list(sk.as_completed([slow], 0.05))


def test_tqdm_counts_tasks(session, capsys):
    tasks = [session.spawn(add, i) for i in range(4)]

    ended = list(tqdm.tqdm(sk.as_completed(tasks), total=4))

    assert sorted(task.result() for task in ended) == [1, 2, 3, 4]
    assert "4/4" in capsys.readouterr().err


# -- callbacks -----------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False], ids=["before it ends", "after it ended"])
@pytest.mark.parametrize("function", [int, fail])
def test_a_callback_runs_once_with_its_task(session, before, function, until):
    called = []
    task = session.spawn(function)
    if not before:
        task.wait(20)
    task.add_done_callback(called.append)

    until(lambda: called, "the callback")
    task.wait()
    assert called == [task]


def test_a_callback_may_wait_for_another_task(session):
    got = []
    rung = threading.Event()

    def ring(task):
        got.append(session.spawn(add, task.result(20)).result(20))
        rung.set()

    session.spawn(add, 1).add_done_callback(ring)

    assert rung.wait(20)
    assert got == [3]


def test_a_callback_that_raises_harms_nothing(session, caplog):
    def bad(_task):
        raise OnPurposeError

    task = session.spawn(add, 1)
    task.add_done_callback(bad)

    assert task.result(20) == 2
    assert session.spawn(add, 2).result(20) == 3


def test_a_callback_that_waits_does_not_keep_results_from_arriving(session):
    block = threading.Event()
    entered = threading.Event()

    def stuck(_task):
        entered.set()
        block.wait(20)

    task = session.spawn(hold_a_moment)
    task.add_done_callback(stuck)
    try:
        assert entered.wait(20)
        assert session.spawn(add, 1).result(20) == 2
    finally:
        block.set()


def hold_a_moment():
    import time

    time.sleep(0.05)


# -- asyncio -------------------------------------------------------------------------


def test_a_task_can_be_awaited(session):
    async def main():
        return await session.spawn(add, 1)

    assert asyncio.run(main()) == 2


def test_awaiting_raises_what_the_task_raised(session):
    async def main():
        await session.spawn(fail)

    with pytest.raises(OnPurposeError, match="on purpose"):
        asyncio.run(main())


def test_many_tasks_can_be_gathered(session):
    async def main():
        return await asyncio.gather(*(_awaited(session.spawn(add, i)) for i in range(100)))

    async def _awaited(task):
        return await task

    assert asyncio.run(main()) == list(range(1, 101))


def test_one_task_can_be_awaited_by_many(session):
    async def main():
        task = session.spawn(add, 1)

        async def once():
            return await task

        return await asyncio.gather(*(once() for _ in range(20)))

    assert asyncio.run(main()) == [2] * 20


def test_asyncio_wraps_a_task(session):
    async def main():
        return await asyncio.wait_for(asyncio.wrap_future(session.spawn(add, 1)), 20)

    # what asyncio gets is what result() gives
    assert asyncio.run(main()) == 2


def test_asyncio_wrap_future_brings_the_error(session):
    async def main():
        await asyncio.wait_for(asyncio.wrap_future(session.spawn(fail)), 20)

    with pytest.raises(OnPurposeError):
        asyncio.run(main())


def test_an_await_that_is_given_up_leaves_the_task(session, gate):
    task = session.spawn(hold, str(gate), scope=SLOT)

    async def main():
        async def once():
            return await task

        await asyncio.wait_for(once(), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    gate.touch()
    assert task.result(20) == "let go"


# -- time limits ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda task: task.result(0.02),
        lambda task: task.fetch(0.02),
        lambda task: task.exception(0.02),
        lambda task: task.wait(0.02),
        lambda task: sk.wait([task], 0.02),
        lambda task: sk.fetch([task], timeout=0.02),
    ],
    ids=["result", "fetch", "exception", "wait", "sk.wait", "sk.fetch"],
)
def test_a_limit_ends_the_wait_and_not_the_task(session, gate, ask):
    task = session.spawn(hold, str(gate), scope=SLOT)

    with pytest.raises(TimeoutError):
        ask(task)
    assert not task.done()
    gate.touch()
    assert task.result(20) == "let go"


def test_a_result_of_an_ended_task_can_be_had_with_no_time(session):
    task = session.spawn(add, 1)
    task.wait(20)

    assert task.exception(0) is None
    assert task.result(5) == 2


# -- errors --------------------------------------------------------------------------


def test_exception_is_none_where_there_is_a_value(session):
    assert session.spawn(add, 1).exception(20) is None


def test_exception_agrees_with_result(session):
    for task in (
        session.spawn(fail),
        session.spawn(add, session.spawn(fail)),
        session.spawn(add, 1, result_scope=ProcessScope(2)),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is what is asked
            task.result(20)
        assert type(caught.value) is type(task.exception(20))
        assert str(caught.value) == str(task.exception(20))


def test_fetching_a_failed_task_again_adds_no_notes(session):
    task = session.spawn(fail)
    notes = []
    for _ in range(3):
        with pytest.raises(OnPurposeError) as caught:
            task.result(20)
        notes.append(list(caught.value.__notes__))

    assert notes[0] == notes[1] == notes[2]


# -- cancelling ----------------------------------------------------------------------


def test_a_task_that_waits_for_an_input_can_be_cancelled(session, gate, until):
    slow = session.spawn(hold, str(gate), scope=SLOT)
    waiting = session.spawn(add, slow)

    assert waiting.cancel()
    assert waiting.cancelled()
    assert waiting.done()
    assert waiting.state == "cancelled"
    with pytest.raises(sk.TaskCancelledError, match=waiting.name):
        waiting.result(5)
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.exception(5)


def test_cancelling_ends_what_depends_on_it(session, gate):
    slow = session.spawn(hold, str(gate), scope=SLOT)
    cancelled = session.spawn(add, slow)
    dependant = session.spawn(add, cancelled)
    further = session.options(name="further").spawn(add, dependant)

    cancelled.cancel()

    with pytest.raises(sk.TaskCancelledError):
        further.result(20)
    gate.touch()
    assert slow.result(20) == "let go"


def test_a_cancelled_task_never_runs(session, gate, tmp_path):
    trace = tmp_path / "ran"
    slow = session.spawn(hold, str(gate), scope=SLOT)
    waiting = session.spawn(lambda _, path: open(path, "w").close(), slow, str(trace))  # noqa: PTH123

    waiting.cancel()
    # Orders come in order: where this one was heard, the cancellation was before.
    session.spawn(add, 1, scope=ProcessScope(0)).result(20)
    gate.touch()
    slow.result(20)

    assert session.spawn(add, 1).result(20) == 2
    assert not trace.exists()


def test_a_task_that_ended_is_not_cancelled(session):
    task = session.spawn(add, 1)
    task.wait(20)

    assert not task.cancel()
    assert task.result(20) == 2


def test_a_cancelled_task_tells_its_callbacks_and_waiters(session, gate, until):
    called = []
    waiting = session.spawn(add, session.spawn(hold, str(gate), scope=SLOT))
    waiting.add_done_callback(called.append)

    waiting.cancel()

    assert concurrent.futures.wait([waiting], 20).done == {waiting}
    until(lambda: called == [waiting], "the callback")


def test_a_task_in_a_line_can_be_cancelled(session, gate):
    def hold_line(path):
        return hold(path)

    # a function of unknown duration: two fill a processor, the others wait here
    tasks = [session.spawn(hold_line, str(gate), scope=SLOT) for _ in range(5)]

    assert tasks[-1].cancel()
    gate.touch()
    assert [task.result(20) for task in tasks[:-1]] == ["let go"] * 4


def test_an_awaited_task_that_is_cancelled_raises_its_own_error(session, gate):
    async def main():
        waiting = session.spawn(add, session.spawn(hold, str(gate), scope=SLOT))
        asyncio.get_running_loop().call_later(0.02, waiting.cancel)
        await waiting

    with pytest.raises(sk.TaskCancelledError):
        asyncio.run(main())


# -- fetching ------------------------------------------------------------------------


def test_sixteen_threads_fetch_the_same(session):
    """C167."""
    task = session.spawn(lambda: list(range(1000)))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        values = list(pool.map(lambda _: task.result(30), range(160)))

    assert values == [list(range(1000))] * 160


def test_sixteen_threads_spawn_and_fetch_at_once(session):
    def chain(i):
        return session.spawn(add, session.spawn(add, i)).result(30)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(chain, range(160))) == list(range(2, 162))


def test_fetch_goes_through_containers(session):
    task, chunk = session.spawn(add, 1), session.tochunk("chunk")
    given = {"a": [task, (chunk, {"b": {task}})], "c": 5, "d": frozenset([chunk])}

    assert sk.fetch(given) == {"a": [2, ("chunk", {"b": {2}})], "c": 5, "d": frozenset(["chunk"])}


def test_fetch_leaves_alone_what_holds_no_handle(session):
    given = {"a": [1, (2,)], "b": {3}}

    assert sk.fetch(given) == given
    assert session.fetch(7) == 7
    assert session.fetch(None) is None
    assert session.fetch([]) == []


def test_fetch_raw_gives_chunks(session):
    task, chunk = session.spawn(add, 1), session.tochunk("chunk")

    raw = session.fetch([task, chunk, {"x": task}, 3], raw=True)

    assert isinstance(raw[0], sk.Chunk)
    assert raw[1] is chunk
    assert raw[2]["x"].fetch() == 2
    assert raw[3] == 3


def test_raw_fetch_of_a_failed_task_raises(session):
    with pytest.raises(OnPurposeError):
        session.fetch(session.spawn(fail), raw=True)


def test_a_task_twice_in_one_container_gives_its_value_twice(session):
    task = session.spawn(lambda: ["x"])

    assert sk.fetch([task, task, (task,)]) == [["x"], ["x"], (["x"],)]
    assert session.spawn(lambda items: items, [task, task]).result() == [["x"], ["x"]]


def test_fetching_again_gives_the_value_again(session):
    task = session.spawn(lambda: {"k": [1]})

    first = task.result()
    first["k"].append(2)

    assert task.result() == {"k": [1]}


def test_fetch_of_a_tuple_type_of_ones_own_leaves_it_as_it_is(session):
    from collections import namedtuple

    Pair = namedtuple("Pair", "a b")  # noqa: PYI024
    pair = Pair(1, 2)

    assert sk.fetch(pair) is pair


def test_fetch_raises_the_error_of_any_of_its_tasks(session):
    with pytest.raises(OnPurposeError):
        sk.fetch([session.spawn(add, 1), {"x": session.spawn(fail)}])


def test_fetch_keeps_a_limit_over_many_tasks(session, gate):
    tasks = [session.spawn(hold, str(gate), scope=SLOT) for _ in range(4)]
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        sk.fetch(tasks, timeout=0.1)

    assert time.monotonic() - began < 20


def test_a_large_value_arrives_whole(session):
    value = session.spawn(lambda: bytes(range(256)) * 40_000).result(60)

    assert value == bytes(range(256)) * 40_000


def test_a_task_is_done_once_its_state_says_so(session):
    task = session.spawn(add, 1)
    task.wait(20)

    assert task.done()
    assert not task.running()
    assert task.state == "done"
    assert "done" in repr(task)


@pytest.mark.parametrize("thread", [0, 1])
def test_a_task_that_runs_says_so(session, gate, until, thread):
    task = session.spawn(hold, str(gate), scope=ExactScope(ThreadProc(3, thread)))

    until(lambda: task.state == "running", "the task runs", 3)


def test_a_task_that_runs_is_running_like_any_future(session, gate, until, tmp_path):
    task = session.spawn(hold, str(gate), str(tmp_path / "runs"), scope=SLOT)
    until((tmp_path / "runs").exists, "the task runs")

    until(task.running, "running()", 3)


def test_a_busy_main_thread_does_not_idle_the_other_threads_of_its_engine(
    session, gate, until, tmp_path, orders_reach_busy_engines
):
    session.spawn(hold, str(gate), str(tmp_path / "runs"), scope=ExactScope(ThreadProc(3, 0)))
    until((tmp_path / "runs").exists, "the task runs")

    assert session.spawn(add, 1, scope=ExactScope(ThreadProc(3, 1))).result(3) == 2


def test_unscoped_tasks_flow_past_a_busy_main_thread(
    session, gate, until, tmp_path, orders_reach_busy_engines
):
    session.spawn(hold, str(gate), str(tmp_path / "runs"), scope=ExactScope(ThreadProc(3, 0)))
    until((tmp_path / "runs").exists, "the task runs")

    assert sk.fetch([session.spawn(add, i) for i in range(32)], timeout=3) == list(range(1, 33))
