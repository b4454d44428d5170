import asyncio
import contextvars
import threading
import weakref

import pytest

from scopekit.engine.lanes import InlineLane, LoopLane, ThreadLane

LIMIT = 10.0


@pytest.fixture
def thread_lane():
    lane = ThreadLane("scopekit-test")
    yield lane
    lane.close()


def on_loop(work):
    """Runs ``work(lane, loop)`` beside a loop whose thread is the lane."""

    async def main():
        loop = asyncio.get_running_loop()
        return await work(LoopLane(loop), loop)

    return asyncio.run(main())


def after(lane, jobs):
    """An event that is set once the lane has come to it."""
    done = asyncio.Event()
    for job in [*jobs, done.set]:
        lane.submit(job)
    return asyncio.wait_for(done.wait(), LIMIT)


def test_an_inline_lane_runs_at_once():
    seen = []
    lane = InlineLane()
    lane.submit(lambda: seen.append(threading.get_ident()))

    assert seen == [threading.get_ident()]
    assert lane.idle()


def test_a_loop_lane_keeps_the_order_in_the_thread_of_its_loop():
    seen = []

    async def work(lane, _):
        jobs = [lambda n=n: seen.append((n, threading.get_ident())) for n in range(500)]
        await after(lane, jobs)
        return lane.idle()

    assert on_loop(work)
    assert seen == [(n, threading.get_ident()) for n in range(500)]


def test_a_loop_lane_keeps_the_order_of_each_thread_that_submits():
    seen = []

    async def work(lane, loop):
        def submit(who):
            for n in range(200):
                lane.submit(lambda n=n: seen.append((who, n)))

        threads = [threading.Thread(target=submit, args=(who,)) for who in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            await loop.run_in_executor(None, thread.join)
        await after(lane, [])

    on_loop(work)
    for who in "ab":
        assert [n for one, n in seen if one == who] == list(range(200))
    assert len(seen) == 400


def test_a_loop_lane_lets_the_loop_s_own_callbacks_in_between():
    seen = []

    async def work(lane, loop):
        slow = threading.Event()

        def job(n):
            slow.wait(0.006)  # longer than one slice
            seen.append(n)

        loop.call_soon(beat, loop)
        await after(lane, [lambda n=n: job(n) for n in range(10)])

    def beat(loop):
        seen.append("beat")
        if len(seen) < 15:
            loop.call_soon(beat, loop)

    on_loop(work)
    between = seen[seen.index(0) : seen.index(9)]

    assert "beat" in between


def test_a_task_on_a_loop_lane_may_run_a_loop_of_its_own():
    seen = []

    async def answer():
        await asyncio.sleep(0)
        return 42

    async def work(lane, loop):
        await after(lane, [lambda: seen.append(asyncio.run(answer()))])
        return asyncio.get_running_loop() is loop

    assert on_loop(work)
    assert seen == [42]


@pytest.mark.parametrize("kind", ["loop", "thread"])
def test_what_a_job_sets_in_its_context_ends_with_it(kind, thread_lane):
    variable = contextvars.ContextVar("variable", default="before")
    seen = []
    jobs = [lambda: variable.set("mine"), lambda: seen.append(variable.get())]
    if kind == "loop":
        on_loop(lambda lane, _: after(lane, jobs))
    else:
        done = threading.Event()
        for job in [*jobs, done.set]:
            thread_lane.submit(job)
        assert done.wait(LIMIT)

    assert seen == ["before"]


def test_a_closed_loop_lane_drops_what_waits():
    seen = []

    async def work(lane, _):
        lane.submit(lambda: (seen.append("first"), lane.close()))
        lane.submit(lambda: seen.append("second"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return lane.idle()

    assert on_loop(work)
    assert seen == ["first"]


def test_a_thread_lane_has_one_thread_for_life(thread_lane):
    seen = []
    for _ in range(3):
        done = threading.Event()
        thread_lane.submit(lambda: seen.append(threading.current_thread()))
        thread_lane.submit(done.set)
        assert done.wait(LIMIT)

    assert len(set(seen)) == 1
    assert seen[0].name == "scopekit-test"
    assert seen[0] is not threading.current_thread()


def test_a_thread_lane_starts_no_thread_before_it_is_used():
    before = threading.active_count()
    lane = ThreadLane("scopekit-unused")

    assert threading.active_count() == before
    assert lane.idle()
    lane.close()


def test_a_thread_lane_keeps_the_order(thread_lane):
    seen, done = [], threading.Event()
    for n in range(500):
        thread_lane.submit(lambda n=n: seen.append(n))
    thread_lane.submit(done.set)

    assert done.wait(LIMIT)
    assert seen == list(range(500))


def test_a_thread_lane_does_not_keep_what_it_ran(thread_lane):
    class Job:
        def __call__(self):
            pass

    job = Job()
    gone = threading.Event()
    weakref.finalize(job, gone.set)
    thread_lane.submit(job)
    del job

    assert gone.wait(LIMIT)


def test_a_closed_thread_lane_waits_for_what_runs_and_drops_the_rest():
    lane = ThreadLane("scopekit-closing")
    began, go, seen = threading.Event(), threading.Event(), []
    lane.submit(lambda: (began.set(), go.wait(LIMIT), seen.append("first")))
    lane.submit(lambda: seen.append("second"))
    assert began.wait(LIMIT)
    assert not lane.idle()
    threading.Timer(0.05, go.set).start()
    lane.close()

    assert seen == ["first"]


def test_a_lane_may_be_closed_from_within(thread_lane):
    done = threading.Event()
    thread_lane.submit(lambda: (thread_lane.close(), done.set()))

    assert done.wait(LIMIT)
