import asyncio
import concurrent.futures
import gc
import pickle
import threading

import pytest

from scopekit import handles
from scopekit.errors import ScopeError, TaskCancelledError, TaskTimeoutError
from scopekit.handles import Chunk, Task, handles_become
from scopekit.scopes import NodeScope, ProcessScope, ThreadProc

FACTS = {
    "scope": NodeScope("a"),
    "processor": ThreadProc(0, 0),
    "type": "int",
    "nbytes": 28,
    "state": "held",
}


class Home:
    """A session that only remembers what it was asked."""

    def __init__(self):
        self.released = []
        self.values = {}
        self.known = {}
        self.refused = None
        self.waited = []
        self.bring = lambda task: None
        self.called_back = threading.Event()

    def release_chunk(self, chunk_id):
        self.released.append(chunk_id)

    def chunk_facts(self, chunk_id):
        return {"state": "held"} | self.known

    def fetch_chunk(self, chunk, timeout):
        return self.values[chunk.id]

    def fetch_result(self, task, timeout):
        return self.values[task.chunk_id]

    def wait_for_task(self, task, timeout):
        """What brings a task to its end comes from elsewhere, unless a test says how."""
        self.waited.append((task, timeout))
        self.bring(task)

    def fetch_refusal(self, task):
        return self.refused

    def export_chunk(self, chunk):
        return (chunk.id,)

    def task_facts(self, task_id):
        return {"state": "queued", "processor": ThreadProc(1, 0), "node": "a"}

    def cancel_task(self, task):
        task.mark_cancelled()
        return task.cancelled()

    def call_back(self, callback):
        callback()
        self.called_back.set()


@pytest.fixture
def home():
    return Home()


@pytest.fixture
def chunk(home):
    return Chunk(home, 7, FACTS)


@pytest.fixture
def task(home):
    return Task(home, 1, "load-1", 2)


# -- chunks ---------------------------------------------------------------------


def test_a_chunk_shows_its_facts_and_fetches_from_its_home(home, chunk):
    home.values[7] = 42

    assert (chunk.id, chunk.scope, chunk.worker, chunk.type, chunk.nbytes, chunk.state) == (
        *(7, NodeScope("a"), 0, "int", 28, "held"),
    )
    assert chunk.fetch() == 42


def test_what_its_home_knows_now_wins(home, chunk):
    home.known = {"scope": ProcessScope(0), "state": "lost"}

    assert chunk.scope == ProcessScope(0)
    assert chunk.state == "lost"


def test_a_handle_that_goes_tells_its_home_once(home):
    chunk = Chunk(home, 7, FACTS)
    del chunk
    gc.collect()

    assert home.released == [7]


def test_a_handle_that_cannot_be_made_is_no_handle(home):
    with pytest.raises(TypeError):
        Chunk(home, 7, None)
    gc.collect()

    assert home.released == []


def test_a_chunk_is_written_without_its_value(home, chunk):
    home.values[7] = "secret"

    assert "secret" not in repr(chunk)
    assert repr(chunk) == "<Chunk 7: int on worker 0, thread 0, valid on node a>"


def test_a_pickled_chunk_is_revived_for_whoever_reads_it(chunk):
    pickled = pickle.dumps(chunk)
    with pytest.raises(pickle.UnpicklingError, match="only where a session fetches it"):
        pickle.loads(pickled)

    with handles_become(lambda number: f"chunk {number}"):
        assert pickle.loads(pickled) == "chunk 7"


# -- tasks ----------------------------------------------------------------------


def test_a_task_gives_the_value_once_it_is_done(home, task):
    home.values[2] = "value"
    assert not task.done()
    task.set_result(None)

    assert task.result() == task.fetch() == "value"
    assert task.exception() is None
    assert task.wait() is task


def test_a_task_raises_its_error(task):
    task.set_exception(KeyError("k"))

    with pytest.raises(KeyError):
        task.result()
    assert isinstance(task.exception(), KeyError)
    assert task.wait() is task


def test_a_value_that_may_not_come_here_counts_as_an_error(home, task):
    home.refused = PermissionError("stays there")
    task.set_result(None)

    assert task.exception() is home.refused


def test_a_value_that_came_with_the_word_is_given_without_its_home(home, task):
    task.plain_value = (None,)
    task.mark_done()

    assert task.result() is None
    assert home.waited == []


@pytest.mark.parametrize("ask", ["result", "exception", "wait"])
def test_whoever_waits_has_the_home_work_on_it(home, task, ask):
    home.values[2] = "value"
    home.bring = Task.mark_done
    getattr(task, ask)(5)

    assert home.waited == [(task, 5)]


def test_a_task_that_ended_is_waited_for_no_more(home, task):
    task.mark_done()

    assert task.wait(0) is task
    assert home.waited == []


@pytest.mark.parametrize("ask", ["result", "exception", "wait"])
def test_that_a_task_is_done_wakes_all_who_wait(home, ask):
    home.values[2] = "value"
    for _ in range(50):
        task = Task(home, 1, "t", 2)
        began, woken = threading.Barrier(4), []

        def wait(task=task, began=began, woken=woken):
            began.wait(10)
            woken.append(getattr(task, ask)(10))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        began.wait(10)
        task.mark_done()
        for thread in threads:
            thread.join(10)

        assert len(woken) == 3


def test_a_callback_runs_once_whether_it_came_before_the_end_or_after(home):
    for _ in range(200):
        task = Task(home, 1, "t", 2)
        began, seen = threading.Barrier(2), []

        def end(task=task, began=began):
            began.wait(10)
            task.mark_done()

        thread = threading.Thread(target=end)
        thread.start()
        began.wait(10)
        task.add_done_callback(seen.append)
        thread.join(10)

        assert seen == [task]


def test_the_standard_library_waits_for_what_is_marked_done(home):
    tasks = [Task(home, number, f"t{number}", number) for number in range(3)]
    tasks[0].mark_done()
    threading.Timer(0.02, tasks[1].mark_done).start()
    (first,), _ = concurrent.futures.wait(tasks[1:], 10, concurrent.futures.FIRST_COMPLETED)
    tasks[2].mark_done()

    assert first is tasks[1]
    assert set(concurrent.futures.as_completed(tasks, timeout=10)) == set(tasks)


def test_an_error_of_the_task_that_looks_like_a_limit_is_the_task_s_own(task):
    task.set_exception(TimeoutError("mine"))

    with pytest.raises(TimeoutError, match="mine"):
        task.result(5)


def test_waits_with_a_limit_end(task):
    for ask in (task.result, task.exception, task.wait):
        with pytest.raises(TimeoutError):
            ask(0.01)


def test_a_cancelled_task_says_so_in_both_words(task):
    assert task.cancel()
    assert task.cancelled()
    for kind in (TaskCancelledError, concurrent.futures.CancelledError):
        with pytest.raises(kind, match="load-1"):
            task.result()
    assert task.wait() is task


@pytest.mark.parametrize("running", [False, True], ids=["before it ran", "while it ran"])
def test_a_task_that_is_cancelled_is_a_cancelled_future(home, task, running):
    seen = []
    if running:
        task.mark_running()
        assert task.running()
    task.add_done_callback(seen.append)
    threading.Timer(0.02, task.mark_cancelled, [TaskCancelledError("said so")]).start()

    assert concurrent.futures.wait([task], 10).done == {task}
    assert list(concurrent.futures.as_completed([task], timeout=10)) == [task]
    assert (task.cancelled(), task.done(), task.running()) == (True, True, False)
    assert home.called_back.wait(10)
    assert seen == [task]
    for ask in (task.result, task.exception):
        with pytest.raises(TaskCancelledError, match="said so"):
            ask(1)


def test_asyncio_takes_a_cancelled_task_for_a_cancelled_future(task):
    async def main():
        wrapped = asyncio.wrap_future(task)
        threading.Timer(0.02, task.mark_cancelled).start()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        return wrapped.cancelled()

    task.mark_running()
    assert asyncio.run(main())


def test_each_who_asks_is_given_an_error_of_his_own(task):
    task.mark_cancelled(TaskCancelledError("said so"))
    errors = []
    for _ in range(2):
        with pytest.raises(TaskCancelledError) as caught:
            task.result()
        errors.append(caught.value)

    assert errors[0] is not errors[1]


def test_what_has_ended_stays_as_it_is(task):
    task.mark_done()
    task.mark_cancelled(TaskCancelledError("too late"))
    task.mark_running()

    assert not task.cancelled()
    assert task.done()


def test_a_task_that_took_too_long_failed(task):
    task.mark_stopped(TaskTimeoutError("it took 3 s"))

    assert not task.cancelled()
    with pytest.raises(TimeoutError, match="it took 3 s"):
        task.result(5)


@pytest.mark.parametrize("grace", [-1, "2", True, float("nan")])
def test_a_grace_time_is_a_number_of_seconds(task, grace):
    with pytest.raises(ScopeError, match="grace="):
        task.cancel(force=True, grace=grace)


def test_the_standard_library_waits_for_tasks(home):
    tasks = [Task(home, number, f"t{number}", number) for number in range(3)]
    tasks[1].set_result(None)
    done, rest = concurrent.futures.wait(tasks, timeout=0.01)
    assert (done, rest) == ({tasks[1]}, {tasks[0], tasks[2]})
    tasks[0].mark_cancelled()
    tasks[2].set_exception(ValueError())

    assert set(concurrent.futures.as_completed(tasks, timeout=10)) == set(tasks)


def test_callbacks_run_where_the_session_says(home, task):
    seen = []
    task.add_done_callback(seen.append)
    task.set_result(None)

    assert home.called_back.is_set()
    assert seen == [task]


def test_a_task_is_awaited(home, task):
    home.values[2] = "value"

    async def main():
        threading.Timer(0.02, task.set_result, [None]).start()
        return await task

    assert asyncio.run(main()) == "value"


def test_a_task_that_failed_is_awaited_with_its_error(task):
    task.set_exception(KeyError("k"))

    async def main():
        await task

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_whoever_stops_awaiting_does_no_harm(task):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(_await(task)), 0.02)
        task.set_result(None)
        await asyncio.sleep(0)

    asyncio.run(main())


async def _await(task):
    return await task


def test_a_task_says_what_to_do_instead_of_pickling_it(task):
    with pytest.raises(pickle.PicklingError, match=r"load-1 is a task.*as an argument"):
        pickle.dumps(task)


def test_output_is_kept_up_to_a_limit(task, monkeypatch):
    monkeypatch.setattr(handles, "_OUTPUT_KEPT", 10)
    for number in range(8):
        task.add_output("stdout", f"{number}{number}")
    task.add_output("stderr", "oh")

    assert task.stdout == "3344556677"
    assert task.stderr == "oh"


def test_a_task_is_written_with_its_state_and_place(task):
    assert repr(task) == "<Task load-1: queued on worker 1, thread 0>"
    assert (task.state, task.worker, task.node) == ("queued", 1, "a")


def test_a_task_that_goes_lets_go_of_its_result(home):
    task = Task(home, 1, "t", 2)
    del task
    gc.collect()

    assert home.released == [2]
