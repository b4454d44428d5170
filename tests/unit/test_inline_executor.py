"""An executor of a session that runs everything here, in the caller's thread."""

import asyncio
import concurrent.futures
import threading

import pytest

import scopekit as sk


@pytest.fixture
def executor():
    with sk.start(0) as session, session.executor() as executor:
        yield executor


def test_a_call_has_run_when_submit_returns(executor):
    assert executor.submit(pow, 2, 8).done()
    assert executor.submit(str.upper, "a").result(0) == "A"


def test_no_thread_is_needed(executor):
    before = set(threading.enumerate())
    list(executor.map(str, range(10), chunksize=3))

    assert set(threading.enumerate()) == before


def test_with_a_limit_calls_from_many_threads_all_run():
    with (
        sk.start(0) as session,
        session.executor(max_workers=1) as executor,
        concurrent.futures.ThreadPoolExecutor(8) as threads,
    ):
        futures = list(threads.map(lambda i: executor.submit(str, i), range(200)))
        assert [future.result(20) for future in futures] == [str(i) for i in range(200)]


def test_errors_and_callbacks_come_at_once(executor):
    called = []
    future = executor.submit(divmod, 1, 0)
    future.add_done_callback(called.append)

    assert isinstance(future.exception(0), ZeroDivisionError)
    assert called == [future]


def test_asyncio_runs_functions_in_it(executor):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(executor, str.upper, "a")

    assert asyncio.run(main()) == "A"


def test_after_the_session_no_call_is_taken():
    with sk.start(0) as session:
        executor = session.executor()
    with pytest.raises(RuntimeError, match="session was closed"):
        executor.submit(int)


def test_a_closed_session_makes_none():
    with sk.start(0) as session:
        pass
    with pytest.raises(sk.ScopekitError, match="is closed"):
        session.executor()
