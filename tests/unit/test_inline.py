"""start(0) does everything here, in this very thread, with the same words and errors."""

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import threading

import pytest

import scopekit as sk
from scopekit import ExactScope, NodeScope, ProcessScope, ThreadProc, UnionScope


@pytest.fixture
def session():
    with sk.start(0) as session:
        yield session


@pytest.fixture
def wide():
    """Three processors, all of them this thread."""
    with sk.start(0, threads=3) as session:
        yield session


def add(x, y=1):
    return x + y


class OnPurposeError(Exception):
    pass


class NeedsTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail():
    raise OnPurposeError("on purpose")


# -- where and when ------------------------------------------------------------------


def test_a_task_runs_in_the_callers_thread_before_spawn_returns(session):
    ran = []

    task = session.spawn(lambda: ran.append((os.getpid(), threading.get_ident())))

    assert task.done()
    # functions travel by value here as well, so that what works here works on engines
    assert task.result() is None


def test_a_task_has_the_callers_thread(session):
    assert session.spawn(threading.get_ident).result() == threading.get_ident()
    assert session.spawn(os.getpid).result() == os.getpid()


def test_a_debugger_can_stop_in_a_task(session):
    stops = []

    def hook():
        frame = sys._getframe(1)
        stops.append((frame.f_code.co_name, frame.f_locals["x"]))

    before, sys.breakpointhook = sys.breakpointhook, hook
    try:

        def work(x):
            breakpoint()  # noqa: T100  # is what is tested
            return x

        assert session.spawn(work, 5).result() == 5
    finally:
        sys.breakpointhook = before

    assert stops == [("work", 5)]


DEADLOCK = """
import faulthandler, time
import scopekit as sk

def work():
    print("running")
    time.sleep(0.2)
    return 7

if __name__ == "__main__":
    faulthandler.dump_traceback_later(8, exit=True)
    session = sk.start(0)
    print(session.spawn(work).result())
    session.close()
"""


def test_a_task_that_prints_and_takes_its_time_ends():
    done = subprocess.run(
        [sys.executable, "-c", DEADLOCK], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "running\n7\n"


def test_nothing_but_the_callers_thread_is_needed():
    before = set(threading.enumerate())
    with sk.start(0) as session:
        session.spawn(add, 1).result()
        assert set(threading.enumerate()) == before


def test_this_process_is_worker_0(session):
    assert session.workers == [0]
    assert session.spawn(sk.myid).result() == 0
    assert sk.myid() == 0
    assert session.spawn(sk.task_processor).result() == ThreadProc(0, 0)
    assert session.spawn(sk.myid, scope=ProcessScope(0)).result() == 0
    assert session.spawn(sk.ProcessScope).result() == ProcessScope(0)
    assert session.spawn(sk.NodeScope).result() == NodeScope(session.nodes[0])


def test_threads_are_processors_that_one_thread_serves(wide):
    assert len(wide.processors()) == 3
    for processor in wide.processors():
        task = wide.spawn(sk.task_processor, scope=ExactScope(processor))
        assert task.result() == processor == task.processor


def test_run_calls_once_here(session):
    assert session.run(sk.myid) == {0: 0}
    assert session.run(add, 1, scope=ProcessScope(0)) == {0: 2}
    with pytest.raises(sk.NoProcessorError):
        session.run(add, 1, scope=ProcessScope(3))


def test_there_are_no_engines_to_add_to(session):
    with pytest.raises(sk.ScopekitError, match="no engines"):
        session.add_workers(1)


@pytest.mark.parametrize("options", [{"nodes": {"a": 1}}, {"engines": "slurm"}, {"profile": "x"}])
def test_engines_are_refused_where_there_are_none(options):
    with pytest.raises(sk.ScopeError, match=r"start\(0\)"):
        sk.start(0, **options)


@pytest.mark.parametrize("threads", [0, -1, "2", True, 1.5, None])
def test_a_senseless_number_of_threads_is_refused(threads):
    with pytest.raises(sk.ScopeError, match="threads"):
        sk.start(0, threads=threads)


# -- tasks ---------------------------------------------------------------------------


def test_a_graph_runs(session):
    sources = [session.spawn(add, i) for i in range(10)]
    total = session.spawn(sum, sources)

    assert total.result() == 55
    assert session.spawn(lambda d: d["x"][0], {"x": [total]}).result() == 55


def test_a_chain_does_not_recurse(session):
    task = session.spawn(int)
    for _ in range(200):
        task = session.spawn(add, task)

    assert task.result() == 200


def test_an_async_function_runs(session):
    async def work(x):
        await asyncio.sleep(0)
        return x + 1

    assert session.spawn(work, 1).result() == 2


def test_a_task_can_be_awaited(session):
    async def main():
        return await asyncio.gather(*[_value(session.spawn(add, i)) for i in range(10)])

    async def _value(task):
        return await task

    assert asyncio.run(main()) == list(range(1, 11))


def test_an_async_function_runs_also_where_a_loop_runs(session):
    """As it does in a notebook, whose cells run below a loop."""

    async def work():
        await asyncio.sleep(0)
        return 7

    async def cell():
        return session.spawn(work).result()

    assert asyncio.run(cell()) == 7


def test_what_the_standard_library_does_with_futures_works(session):
    tasks = [session.spawn(add, i) for i in range(5)]
    called = []
    tasks[0].add_done_callback(called.append)

    assert concurrent.futures.wait(tasks).done == set(tasks)
    assert set(concurrent.futures.as_completed(tasks)) == set(tasks)
    assert called == [tasks[0]]


@pytest.mark.parametrize("key", ["f", "self", "name", "timeout", "session"])
def test_a_keyword_of_any_name_reaches_the_function(session, key):
    assert session.spawn(lambda **kwargs: kwargs, **{key: 1}).result() == {key: 1}


def test_arguments_are_copies_as_they_are_on_engines(session):
    given = [1]

    def change(x):
        x.append(2)
        return x

    assert session.spawn(change, given).result() == [1, 2]
    assert given == [1]


# -- errors --------------------------------------------------------------------------


def test_an_error_is_the_tasks_own_with_notes(session):
    task = session.options(name="failing").spawn(fail)

    assert task.done()
    assert task.wait() is task
    with pytest.raises(OnPurposeError, match="on purpose") as caught:
        task.result()
    notes = "\n".join(caught.value.__notes__)
    assert "failing" in notes
    assert "in fail" in notes


def test_an_error_that_cannot_travel_is_described_as_on_engines(session):
    def work():
        raise NeedsTwoError(1, 2)

    with pytest.raises(sk.RemoteError, match="1 and 2"):
        session.spawn(work).result()


def test_a_dependant_names_the_origin(session):
    failing = session.options(name="origin").spawn(fail)
    task = session.options(name="end").spawn(add, session.spawn(add, failing))

    with pytest.raises(OnPurposeError) as caught:
        task.result()
    assert any("origin" in note and "end" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("make", [SystemExit, KeyboardInterrupt])
def test_an_exit_is_the_tasks(session, make):
    def leave():
        raise make

    task = session.spawn(leave)

    with pytest.raises(sk.RemoteError, match=make.__name__):
        task.result()


def test_what_does_not_pickle_is_refused_as_on_engines(session):
    with pytest.raises(sk.ScopekitError, match=r"argument 'x'.*lock"):
        session.spawn(add, threading.Lock())


def test_a_result_that_does_not_pickle_can_be_had_in_its_own_process(session):
    task = session.spawn(threading.Lock)

    assert task.result().locked() is False
    assert session.spawn(lambda lock: lock.locked(), task).result() is False


def test_impossible_and_unmatched_scopes_are_refused_at_the_spawn(wide):
    one, other = ExactScope(ThreadProc(0, 1)), ExactScope(ThreadProc(0, 2))

    with pytest.raises(sk.ScopeConflictError, match="never meet"):
        wide.spawn(add, 1, scope=one, result_scope=other)
    with pytest.raises(sk.NoProcessorError):
        wide.spawn(add, 1, scope=ProcessScope(1))


def test_a_wait_for_a_processor_that_cannot_come_ends(session):
    with pytest.raises(sk.NoProcessorError):
        session.options(scope=ProcessScope(5), wait_for=0.1).spawn(add, 1).result(2)


def test_options_are_checked(session):
    with pytest.raises(sk.ScopeError, match="Did you mean name="):
        session.options(nam="x")
    with pytest.raises(sk.ScopeError, match="no such worker"):
        session.options(single=4)
    for bad in ({"wait_for": -1}, {"wait_for": "1"}, {"name": 5}, {"idempotent": 1}):
        with pytest.raises(sk.ScopeError):
            session.options(**bad)


# -- chunks --------------------------------------------------------------------------


def test_a_chunk_is_the_object_itself(session):
    value = [1]
    chunk = session.tochunk(value, scope=ProcessScope(0))

    assert session.spawn(id, chunk).result() == id(value)
    assert chunk.fetch() is value
    assert chunk.worker == 0


def test_a_chunk_for_elsewhere_has_nowhere_to_go(session):
    with pytest.raises(sk.NoProcessorError):
        session.tochunk(1, scope=ProcessScope(1))


def test_a_chunk_made_in_a_task_gives_its_result_its_scope(wide):
    scope = UnionScope(ExactScope(ThreadProc(0, 1)), ExactScope(ThreadProc(0, 2)))
    task = wide.spawn(lambda: sk.tochunk("x", scope=scope), scope=scope)

    assert wide.fetch(task, raw=True).scope == scope
    assert task.result() == "x"
    assert wide.spawn(_where, task).result() in wide.processors(scope)


def _where(_):
    return sk.task_processor()


def test_dropped_handles_free_what_they_held(session):
    import gc

    for i in range(20):
        session.spawn(add, i)
        session.tochunk(i)
    gc.collect()
    session.spawn(add, 1)
    gc.collect()
    session.spawn(add, 1)

    assert len(session._agent.store) <= 2
    assert session.statistics()["chunks"] <= 2


# -- output --------------------------------------------------------------------------


def test_prints_are_kept_and_shown(capsys):
    def talk():
        print("out")
        print("err", file=sys.stderr)

    with sk.start(0) as session:
        task = session.spawn(talk)

    assert task.stdout == "out\n"
    assert task.stderr == "err\n"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("out\n", "err\n")


@pytest.mark.parametrize("name", ["encoding", "errors", "name"])
def test_the_streams_of_this_process_keep_their_attributes(name):
    expected = getattr(sys.__stdout__, name)
    before, sys.stdout = sys.stdout, sys.__stdout__
    try:
        with sk.start(0):
            assert getattr(sys.stdout, name) == expected
    finally:
        sys.stdout = before


def test_prints_outside_of_tasks_are_not_touched(capsys):
    with sk.start(0) as session:
        print("before")
        session.spawn(print, "inside")
        print("after")

    shown = capsys.readouterr().out
    assert shown.index("before") < shown.index("inside") < shown.index("after")


def test_the_streams_are_given_back(capsys):
    before = sys.stdout, sys.stderr
    with sk.start(0):
        pass

    assert (sys.stdout, sys.stderr) == before


# -- options of blocks ---------------------------------------------------------------


def test_with_options_is_a_default_that_a_spawn_overrides(wide):
    one, other = ExactScope(ThreadProc(0, 1)), ExactScope(ThreadProc(0, 2))
    with sk.with_options(scope=one, name="named"):
        assert sk.get_options("scope") == one
        assert wide.spawn(_where, 0).result() == ThreadProc(0, 1)
        assert wide.spawn(_where, 0).name == "named"
        assert wide.spawn(_where, 0, scope=other).result() == ThreadProc(0, 2)
        with sk.with_options(scope=other):
            assert wide.spawn(_where, 0).result() == ThreadProc(0, 2)
        assert wide.spawn(_where, 0).result() == ThreadProc(0, 1)
    with pytest.raises(KeyError):
        sk.get_options("scope")
    assert sk.get_options("scope", None) is None
    with pytest.raises(sk.ScopeError, match="no option"):
        sk.get_options("nonsense")


def test_with_options_ends_also_with_an_error(wide):
    with pytest.raises(OnPurposeError), sk.with_options(name="x"):
        raise OnPurposeError

    assert sk.get_options("name", None) is None


def test_with_options_of_unknown_name_is_refused_where_it_is_written():
    """C145."""
    with pytest.raises(sk.ScopeError, match="with_options has no option"), sk.with_options(x=1):
        pass


def test_a_perimeter_narrows_and_is_never_widened(wide):
    fence = UnionScope(ExactScope(ThreadProc(0, 0)), ExactScope(ThreadProc(0, 1)))
    with sk.perimeter(fence):
        assert wide.spawn(_where, 0, scope=sk.AnyScope()).result() != ThreadProc(0, 2)
        with pytest.raises(sk.ScopeConflictError, match="perimeter"):
            wide.spawn(_where, 0, scope=ExactScope(ThreadProc(0, 2)))
        with sk.perimeter(ExactScope(ThreadProc(0, 1))):
            assert wide.spawn(_where, 0).result() == ThreadProc(0, 1)
            assert sk.num_processors() == 1
        with sk.perimeter(sk.AnyScope()), pytest.raises(sk.ScopeConflictError):
            wide.spawn(_where, 0, scope=ExactScope(ThreadProc(0, 2)))
        assert len(wide.processors()) == 2


def test_contradicting_blocks_are_told_apart_in_the_message(wide):
    with (
        sk.perimeter(ExactScope(ThreadProc(0, 1))),
        sk.with_options(scope=ExactScope(ThreadProc(0, 2))),
        pytest.raises(sk.ScopeConflictError) as caught,
    ):
        wide.spawn(_where, 0)

    assert "with_options scope=" in str(caught.value)
    assert "perimeter" in str(caught.value)


# -- sessions ------------------------------------------------------------------------


def test_the_last_session_started_is_current_until_it_is_closed():
    with pytest.raises(sk.ScopekitError, match="there is no session"):
        sk.current_session()
    one, two = sk.start(0), sk.start(0)
    assert sk.current_session() is two
    one.close()
    assert sk.current_session() is two
    two.close()
    with pytest.raises(sk.ScopekitError, match=r"scopekit\.start"):
        sk.current_session()


def test_closing_out_of_order_gives_the_streams_back(capsys):
    before = sys.stdout
    one, two = sk.start(0), sk.start(0)
    one.close()
    two.close()

    assert sys.stdout is before


def test_a_closed_session_refuses_work(session):
    session.close()

    with pytest.raises(sk.ScopekitError, match="is closed"):
        session.spawn(add, 1)


@pytest.mark.parametrize("what", ["task", "chunk"])
def test_a_value_after_the_close_is_refused_in_words(what):
    session = sk.start(0)
    handle = session.spawn(list) if what == "task" else session.tochunk(1)
    session.close()

    with pytest.raises(sk.ScopekitError, match="closed"):
        handle.fetch()


def test_a_number_that_came_with_the_word_of_its_task_stays(session):
    task = session.spawn(add, 1)
    task.wait()
    session.close()

    assert task.result() == 2


def test_a_session_does_what_the_module_does(session):
    tasks = [session.spawn(add, n) for n in range(3)]

    assert session.wait(tasks) is tasks
    assert all(session.isready(task) for task in tasks)
    assert {task.result() for task in session.as_completed(tasks)} == {1, 2, 3}
    assert session.compatible_processors() == sk.compatible_processors() == session.processors()
    assert session.num_processors() == sk.num_processors() == 1
    assert session.num_processors(all=True) == sk.num_processors(all=True) == 1


def test_a_handle_of_another_session_is_refused(session):
    with sk.start(0) as other:
        for handle in (other.spawn(add, 1), other.tochunk(1)):
            with pytest.raises(sk.ScopekitError, match="another session"):
                session.spawn(add, handle)


def test_a_fetch_of_handles_of_two_sessions_gives_each_its_own(session):
    with sk.start(0) as other:
        mine, theirs = session.spawn(add, 1), other.spawn(add, 100)

        assert [sk.fetch(mine), sk.fetch(theirs)] == [2, 101]
        try:
            assert sk.fetch([mine, theirs]) == [2, 101]
        except sk.ScopekitError as error:
            assert "session" in str(error)  # noqa: PT017  # one of two right answers


def test_what_a_session_tells_of_itself(session):
    session.spawn(add, 1)
    session.spawn(fail)

    assert session.statistics()["tasks"] == {"done": 1, "failed": 1}
    assert "in this process" in repr(session)
    assert "1 done" in session.summary()
    assert session.spawn(add, 1).explain().outcome == "placed"
    assert session.plan(add, 1).chosen == ThreadProc(0, 0)
    assert session.satisfiable(ProcessScope(0))
    assert not session.satisfiable(ProcessScope(9))
    kinds = [event["kind"] for event in session.events()]
    assert kinds.count("TaskSpawned") == 3
