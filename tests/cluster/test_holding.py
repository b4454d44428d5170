"""What workers hold, and functions that run in each of them."""

import os
import sys
import threading

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, NodeScope, ProcessScope, ThreadProc

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMIT = 30
SLOT = ExactScope(ThreadProc(0, 1))


class OnPurposeError(Exception):
    pass


def hold(path):
    import pathlib
    import time

    limit = time.monotonic() + 60
    while not pathlib.Path(path).exists() and time.monotonic() < limit:
        time.sleep(0.005)
    return "let go"


# -- holds ---------------------------------------------------------------------------


def test_a_worker_that_holds_nothing_is_safe_to_remove(session, until):
    until(lambda: not session.holds(3).chunks, "what other tests left is gone")
    held = session.holds(3)

    assert (held.worker, held.node, held.chunks, held.tasks) == (3, "b", (), ())
    assert held.safe
    assert held.idle
    assert str(held) == "worker 3 on node b: 0 chunks of 0 bytes, 0 tasks to run; safe to remove"


def test_a_value_that_others_may_have_is_kept(session):
    task = session.options(name="made", scope=ProcessScope(1)).spawn(list, "abc")
    task.wait(LIMIT)

    held = session.holds(1)
    chunk = next(chunk for chunk in held.chunks if chunk.id == task.chunk_id)

    assert chunk.name == "result of made"
    assert chunk.type == "list"
    assert chunk.nbytes > 0
    assert chunk.scope == sk.AnyScope()
    assert not chunk.lost
    assert held.nbytes >= chunk.nbytes


def test_a_pinned_value_would_be_lost(session):
    chunk = session.tochunk([1], scope=ProcessScope(1))
    session.spawn(len, chunk).wait(LIMIT)

    held = session.holds(1)

    assert not held.safe
    lost = next(each for each in held.lost if each.id == chunk.id)
    assert lost.name == f"chunk {chunk.id}"
    # What would be lost comes first.
    assert held.chunks[0].lost
    assert f"lost: chunk {chunk.id} (list" in str(held)
    assert "would be lost with it" in repr(held)
    with pytest.raises(sk.ScopekitError, match="would be lost"):
        session.remove_workers([1], timeout=20)


def test_a_value_that_nobody_wants_is_not_held(session, until):
    chunk = session.tochunk([1], scope=ProcessScope(2))
    number = chunk.id
    session.spawn(len, chunk).wait(LIMIT)
    assert number in {each.id for each in session.holds(2).chunks}

    del chunk
    until(lambda: number not in {c.id for c in session.holds(2).chunks}, "it is let go of")


def test_it_names_who_else_holds_a_value(session, until):
    chunk = session.tochunk(list(range(100)), scope=NodeScope("a"))
    for worker in (0, 1):
        session.options(single=worker).spawn(len, chunk).wait(LIMIT)

    def others():
        return [c.others for c in session.holds(0).chunks if c.id == chunk.id]

    until(lambda: others() == [(1,)], "both have it")


def test_tasks_that_only_it_may_run_would_be_lost(session, tmp_path, until):
    gate = tmp_path / "open"
    tasks = [session.options(name=f"t{n}", scope=SLOT).spawn(hold, str(gate)) for n in range(5)]
    until(lambda: session.holds(0).tasks, "it has something to run")

    held = session.holds(0)

    assert {task.name for task in held.tasks if task.lost} == {f"t{n}" for n in range(5)}
    assert not held.idle
    assert not held.safe
    assert "lost: task t0" in str(held)
    gate.touch()
    session.wait(tasks, LIMIT)


def test_the_client_holds_something_too(session):
    chunk = session.tochunk("here")

    assert chunk.id in {each.id for each in session.holds("client").chunks}


def test_a_worker_that_is_not_there_is_refused_with_those_that_are(session):
    with pytest.raises(
        sk.ScopekitError, match="worker 9 is none of this session's; the workers are 0, 1, 2, 3"
    ):
        session.holds(9)


def test_a_worker_that_is_gone_is_refused_as_gone():
    with sk.start(2) as session:
        session.remove_workers([1])
        with pytest.raises(sk.ScopekitError, match="worker 1 is gone"):
            session.holds(1)


def test_a_notebook_shows_it_as_tables(session):
    chunk = session.options(name="<b>", scope=ProcessScope(1)).spawn(list, "ab")
    chunk.wait(LIMIT)
    html = session.holds(1)._repr_html_()

    assert "result of &lt;b&gt;" in html
    assert "<table" in html


# -- run -----------------------------------------------------------------------------


def test_run_calls_a_function_once_in_every_engine(session):
    pids = session.run(os.getpid)

    assert list(pids) == [0, 1, 2, 3]
    assert len(set(pids.values())) == 4
    assert session.run(pow, 2, 3) == dict.fromkeys(range(4), 8)


def test_run_keeps_to_a_scope(session):
    assert session.run(sk.myid, scope=NodeScope("b")) == {2: 2, 3: 3}
    assert session.run(sk.myid, scope=ProcessScope("client")) == {"client": "client"}
    assert list(session.run(sk.myid, scope=sk.AnyScope())) == [0, 1, 2, 3, "client"]


def test_run_uses_the_thread_that_the_scope_names(session):
    got = session.run(sk.task_processor, scope=ExactScope(ThreadProc(2, 1)))

    assert got == {2: ThreadProc(2, 1)}


def test_run_in_a_perimeter_runs_everywhere_or_nowhere(session, tmp_path):
    def touch():
        (tmp_path / str(sk.myid())).touch()

    with sk.perimeter(NodeScope("a")):
        with pytest.raises(sk.ScopeConflictError, match="perimeter"):
            session.run(touch)
        assert list(tmp_path.iterdir()) == []
        assert list(session.run(sk.myid, scope=NodeScope("a"))) == [0, 1]


def test_run_is_no_affair_of_with_options(session):
    with sk.with_options(scope=ProcessScope(1)):
        assert list(session.run(sk.myid)) == [0, 1, 2, 3]


def test_run_raises_what_the_function_raised_with_the_place(session):
    def fail():
        if sk.myid() == 2:
            raise OnPurposeError

    with pytest.raises(OnPurposeError) as caught:
        session.run(fail)
    assert any("worker 2" in note for note in caught.value.__notes__)


def test_run_of_a_scope_without_a_process_is_refused(session):
    with pytest.raises(sk.NoProcessorError, match="no process lies in"):
        session.run(sk.myid, scope=NodeScope("nowhere"))


def test_run_without_engines_runs_here():
    with sk.start(0) as session:
        assert session.run(threading.get_ident) == {0: threading.get_ident()}
