"""Blocks in which tasks run in a row, or are handed over together; here in one process."""

import asyncio
import concurrent.futures
import contextlib
import threading

import pytest

import scopekit as sk
from scopekit.blocks import OPEN_BLOCKS


@pytest.fixture
def session():
    with sk.start(0) as session:
        yield session
    assert not OPEN_BLOCKS


class OnPurposeError(Exception):
    pass


def fail():
    raise OnPurposeError("on purpose")


@contextlib.contextmanager
def failing(kind):
    """A block of that kind, whose code is to raise."""
    with pytest.raises(OnPurposeError), kind():
        yield


def note(path, word):
    with path.open("a") as file:
        file.write(word)
    return word


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def read(log):
    return log.read_text() if log.exists() else ""


# -- in a row ------------------------------------------------------------------------


def test_in_a_sequential_block_tasks_depend_on_the_one_before(session):
    with sk.spawn_sequential():
        a, b, c = (session.spawn(abs, -n) for n in range(3))

    specs = [session._driver.scheduler.tasks[task.id].spec for task in (a, b, c)]
    assert [spec.after for spec in specs] == [(), (a.id,), (b.id,)]
    assert session.fetch([a, b, c]) == [0, 1, 2]


def test_they_can_be_waited_for_in_the_block(session):
    with sk.spawn_sequential():
        assert session.spawn(abs, -1).result() == 1
        assert session.spawn(abs, -2).result() == 2


def test_where_one_fails_those_after_it_fail_and_say_so(session):
    with sk.spawn_sequential():
        first = session.options(name="first").spawn(fail)
        second = session.options(name="second").spawn(abs, 1)
        third = session.options(name="third").spawn(abs, 1)

    for task in (second, third):
        assert task.state == "blocked"
        with pytest.raises(OnPurposeError) as caught:
            task.result()
        assert any("was to run after it" in note for note in caught.value.__notes__)
    assert first.state == "failed"


def test_after_the_block_tasks_stand_alone(session):
    with sk.spawn_sequential():
        session.spawn(fail)

    assert session.spawn(abs, -1).result() == 1


def test_an_exception_in_a_sequential_block_leaves_its_tasks_alone(session):
    with failing(sk.spawn_sequential):
        task = session.spawn(abs, -1)
        fail()

    assert task.result() == 1
    assert session.spawn(abs, -1).result() == 1


def test_a_task_that_is_refused_is_no_link_of_the_chain(session):
    with sk.spawn_sequential():
        first = session.spawn(abs, -1)
        with pytest.raises(sk.SchedulingError):
            session.spawn(abs, 1, scope=sk.scope(sk.NodeScope("nowhere")))
        second = session.spawn(abs, -2)

    assert session._driver.scheduler.tasks[second.id].spec.after == (first.id,)


# -- together ------------------------------------------------------------------------


def test_in_a_bulk_block_nothing_runs_before_its_end(session, log):
    with sk.spawn_bulk():
        tasks = [session.spawn(note, log, word) for word in "abc"]
        assert read(log) == ""
        assert [task.done() for task in tasks] == [False] * 3
        assert [task.state for task in tasks] == ["waiting"] * 3

    assert read(log) == "abc"
    assert session.fetch(tasks) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "wait",
    [
        lambda task: task.result(),
        lambda task: task.result(timeout=1),
        lambda task: task.fetch(),
        lambda task: task.exception(),
        lambda task: task.wait(),
        lambda task: sk.fetch([task]),
        lambda task: sk.fetch({"x": [task]}, raw=True),
        lambda task: sk.wait([task]),
        lambda task: list(sk.as_completed([task])),
        lambda task: concurrent.futures.wait([task]),
        lambda task: list(concurrent.futures.as_completed([task])),
        lambda task: asyncio.run(awaited(task)),
    ],
    ids=[
        *("result", "result with a limit", "fetch", "exception", "wait", "sk.fetch", "raw"),
        *("sk.wait", "sk.as_completed", "futures.wait", "futures.as_completed", "await"),
    ],
)
def test_waiting_in_a_bulk_block_is_refused(session, wait):
    """C171."""
    with sk.spawn_bulk():
        task = session.options(name="mine").spawn(abs, -1)
        with pytest.raises(sk.ScopekitError, match="mine is handed over when its spawn_bulk block"):
            wait(task)
    wait(task)

    assert task.result() == 1


async def awaited(task):
    return await task


def test_tasks_of_a_bulk_block_may_need_each_other(session):
    with sk.spawn_bulk():
        one = session.spawn(abs, -1)
        two = session.spawn(sum, [one, one])

    assert two.result() == 2


def test_an_exception_in_a_bulk_block_cancels_its_tasks(session, log):
    with failing(sk.spawn_bulk):
        tasks = [session.spawn(note, log, word) for word in "ab"]
        tasks.append(session.spawn(len, tasks[0]))
        fail()

    assert read(log) == ""
    for task in tasks:
        assert task.done()
        with pytest.raises(sk.TaskCancelledError):
            task.result()


def test_what_cannot_be_placed_is_refused_in_the_block_where_it_is_spawned(session):
    with sk.spawn_bulk():
        with pytest.raises(sk.SchedulingError):
            session.spawn(abs, 1, scope=sk.NodeScope("nowhere"))
        task = session.spawn(abs, -1)

    assert task.result() == 1


def test_a_task_of_a_bulk_block_can_be_cancelled_in_it(session, log):
    with sk.spawn_bulk():
        kept, dropped = session.spawn(note, log, "a"), session.spawn(note, log, "b")
        assert dropped.cancel()
        with pytest.raises(sk.TaskCancelledError):
            dropped.result()

    assert kept.result() == "a"
    assert read(log) == "a"


def test_callbacks_of_a_bulk_block_s_tasks_are_called_after_it(session):
    called = []
    with sk.spawn_bulk():
        task = session.spawn(abs, -1)
        task.add_done_callback(called.append)
        assert called == []
    assert called == [task]


def test_an_empty_block_does_nothing(session):
    for block in (sk.spawn_bulk, sk.spawn_sequential):
        with block():
            pass
        with block(), block():
            pass


# -- one in another ------------------------------------------------------------------


def after(session, task):
    tasks = session._driver.scheduler.tasks
    return {tasks[before].spec.name for before in tasks[task.id].spec.after}


def spawn(session, log, word):
    return session.options(name=word).spawn(note, log, word)


def test_a_bulk_block_is_one_step_of_a_sequential_one(session, log):
    """C173."""
    with sk.spawn_sequential():
        spawn(session, log, "a")
        with sk.spawn_bulk():
            b, c = spawn(session, log, "b"), spawn(session, log, "c")
            assert read(log) == "a"
        d = spawn(session, log, "d")

    assert after(session, b) == after(session, c) == {"a"}
    assert after(session, d) == {"b", "c"}
    assert read(log) == "abcd"


def test_a_sequential_block_in_a_bulk_one_begins_at_its_end(session, log):
    """C174."""
    with sk.spawn_bulk():
        spawn(session, log, "a")
        with sk.spawn_sequential():
            b, c = spawn(session, log, "b"), spawn(session, log, "c")
        d = spawn(session, log, "d")
        assert read(log) == ""

    assert after(session, c) == {"b"}
    assert after(session, b) == after(session, d) == set()
    assert sorted(read(log)) == ["a", "b", "c", "d"]


def test_a_sequential_block_in_a_sequential_one_goes_on_with_the_row(session, log):
    with sk.spawn_sequential():
        spawn(session, log, "a")
        with sk.spawn_sequential():
            b, c = spawn(session, log, "b"), spawn(session, log, "c")
        d = spawn(session, log, "d")

    assert [after(session, task) for task in (b, c, d)] == [{"a"}, {"b"}, {"c"}]


def test_a_bulk_block_in_a_bulk_one_ends_with_that(session, log):
    with sk.spawn_bulk():
        with sk.spawn_bulk():
            inner = spawn(session, log, "a")
        assert read(log) == ""
        with pytest.raises(sk.ScopekitError, match="handed over"):
            inner.result()
        spawn(session, log, "b")

    assert read(log) == "ab"


def test_groups_within_groups_keep_their_order(session, log):
    with sk.spawn_sequential():
        a = spawn(session, log, "a")
        with sk.spawn_bulk():
            with sk.spawn_sequential():
                b, c = spawn(session, log, "b"), spawn(session, log, "c")
            with sk.spawn_bulk():
                d, e = spawn(session, log, "d"), spawn(session, log, "e")
        f = spawn(session, log, "f")

    got = [after(session, task) for task in (a, b, c, d, e, f)]
    assert got == [set(), {"a"}, {"b"}, {"a"}, {"a"}, {"c", "d", "e"}]


def test_an_inner_bulk_block_that_fails_takes_only_its_own_tasks_along(session, log):
    with sk.spawn_sequential():
        spawn(session, log, "a")
        with failing(sk.spawn_bulk):
            dropped = spawn(session, log, "b")
            fail()
        c = spawn(session, log, "c")

    assert dropped.cancelled()
    assert after(session, c) == {"a"}
    assert read(log) == "ac"


def test_an_inner_bulk_block_that_fails_is_no_part_of_the_outer_one(session, log):
    with sk.spawn_bulk():
        spawn(session, log, "a")
        with failing(sk.spawn_bulk):
            spawn(session, log, "b")
            fail()
        spawn(session, log, "c")

    assert read(log) == "ac"


def test_an_outer_block_that_fails_takes_the_inner_ones_along(session, log):
    with failing(sk.spawn_bulk):
        with sk.spawn_bulk():
            one = spawn(session, log, "a")
        with sk.spawn_sequential():
            other = spawn(session, log, "b")
        fail()

    assert one.cancelled()
    assert other.cancelled()
    assert read(log) == ""


# -- whom it concerns ----------------------------------------------------------------


def test_what_tasks_spawn_is_no_affair_of_the_block(session):
    """C175."""

    def parent():
        return sk.spawn(abs, -3).result()

    with sk.spawn_bulk():
        task = session.spawn(parent)
    assert task.result() == 3
    with sk.spawn_sequential():
        assert session.spawn(parent).result() == 3


def test_other_threads_are_not_in_the_block(session):
    def work():
        return session.spawn(abs, -1).result(5)

    with sk.spawn_bulk(), concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result(20) == 1


def test_code_that_a_block_started_is_outside_once_it_has_ended(session):
    async def main():
        go_on = asyncio.Event()

        async def later():
            await go_on.wait()
            return await session.spawn(abs, -1)

        with sk.spawn_bulk():
            task = asyncio.ensure_future(later())
            await asyncio.sleep(0)
        go_on.set()
        return await task

    assert asyncio.run(main()) == 1


def test_asyncio_tasks_of_a_sequential_block_are_in_its_row(session):
    async def main():
        async def one(n):
            return session.spawn(abs, -n)

        with sk.spawn_sequential():
            return await asyncio.gather(*(one(n) for n in range(5)))

    tasks = asyncio.run(main())
    specs = [session._driver.scheduler.tasks[task.id].spec for task in tasks]
    assert [spec.after for spec in specs] == [(), *[(task.id,) for task in tasks[:-1]]]


def test_maps_and_executors_and_runs_stand_apart(session):
    with sk.spawn_bulk():
        assert list(session.map(abs, [-1, -2])) == [1, 2]
        with session.executor() as executor:
            assert executor.submit(abs, -1).result(5) == 1
        assert session.run(abs, -1) == {0: 1}


def test_tasks_of_two_sessions_have_a_row_each(session):
    with sk.start(0) as other, sk.spawn_sequential():
        one, two = session.spawn(abs, -1), other.spawn(abs, -2)
        three = session.spawn(abs, -3)

        assert session.fetch([one, two, three]) == [1, 2, 3]
    with sk.start(0) as other:
        with sk.spawn_bulk():
            tasks = [session.spawn(abs, -1), other.spawn(abs, -2)]
        assert [task.result() for task in tasks] == [1, 2]


def test_threads_that_share_a_context_spawn_one_at_a_time(session):
    import contextvars

    with sk.spawn_sequential():
        contexts = [contextvars.copy_context() for _ in range(8)]
        threads = [
            threading.Thread(target=context.run, args=(session.spawn, abs, -1))
            for context in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    specs = [record.spec for record in session._driver.scheduler.tasks.values()]
    assert sorted(len(spec.after) for spec in specs) == [0] + [1] * 7
    assert len({spec.after for spec in specs}) == 8


@pytest.mark.parametrize("block", [sk.spawn_bulk, sk.spawn_sequential])
def test_a_session_that_closes_in_a_block_ends_its_tasks(block):
    with block():
        with sk.start(0) as session:
            task = session.spawn(abs, -1)
        assert task.done()


# -- looking -------------------------------------------------------------------------


def test_the_graph_shows_what_runs_after_what(session, log):
    with sk.spawn_sequential():
        a, b = spawn(session, log, "a"), spawn(session, log, "b")

    edge = session.graph().edges[a.id, b.id]
    assert edge == {"name": "after", "nbytes": None, "kind": "order"}
