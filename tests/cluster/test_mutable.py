"""One object, made and kept in one place."""

import sqlite3
import threading
import time

import pytest

import scopekit as sk


class Counter:
    def __init__(self):
        self.total = 0
        self.where = sk.myid()

    def add(self, n=1):
        self.total += n
        return self.total


def test_c150_a_task_that_takes_it_runs_where_it_lives(session):
    counter = session.mutable(Counter, worker=1)
    totals = [session.spawn(Counter.add, counter) for _ in range(10)]

    assert sorted(session.fetch(totals)) == list(range(1, 11))
    assert {task.worker for task in totals} == {1}
    assert session.spawn(lambda c: c.where, counter).result(20) == 1


def test_c150_one_that_lives_here_is_used_by_tasks_that_may_run_here(session):
    counter = session.mutable(Counter, worker="client")
    here = sk.ProcessScope("client")

    assert session.spawn(Counter.add, counter, 5, scope=here).result(20) == 5
    assert counter.fetch(timeout=20).total == 5
    with pytest.raises(sk.ScopeConflictError, match="default allows default"):
        session.spawn(Counter.add, counter)


def test_c151_elsewhere_it_is_refused_with_the_reason(session):
    counter = session.mutable(Counter, worker=1)

    with pytest.raises(sk.ScopeConflictError, match="argument"):
        session.spawn(Counter.add, counter, scope=sk.ProcessScope(0))


def test_c152_one_object_has_one_place(session):
    with pytest.raises(sk.ScopeError, match="worker= and processor= were given"):
        session.mutable(Counter, worker=1, processor=sk.ThreadProc(1, 0))


def test_c153_it_can_live_on_one_processor(session):
    def where(_):
        return sk.task_processor(), threading.get_ident()

    processor = sk.ThreadProc(1, 1)
    counter = session.mutable(Counter, processor=processor)
    seen = session.fetch([session.spawn(where, counter) for _ in range(4)])

    assert counter.scope == sk.ExactScope(processor)
    assert {place for place, _ in seen} == {processor}
    assert len({ident for _, ident in seen}) == 1


def test_a_connection_is_used_on_the_thread_that_opened_it(session):
    database = session.mutable(lambda: sqlite3.connect(":memory:"), processor=sk.ThreadProc(2, 1))

    def execute(connection, text):
        return connection.execute(text).fetchall()

    session.spawn(execute, database, "CREATE TABLE t (x)").wait(20)
    session.fetch(
        [session.spawn(execute, database, f"INSERT INTO t VALUES ({i})") for i in range(5)]
    )
    assert session.spawn(execute, database, "SELECT sum(x) FROM t").result(20) == [(10,)]


def test_a_scope_that_spans_processes_is_refused_with_what_to_write(session):
    with pytest.raises(sk.ScopeError, match=r"spans the workers 0, 1.*worker=0.*shard"):
        session.mutable(Counter, scope=sk.NodeScope("a"))


def test_a_scope_within_one_process_says_where(session):
    counter = session.mutable(Counter, scope=sk.scope(worker=3))

    assert session.spawn(Counter.add, counter).result(20) == 1
    assert counter.worker == 3


def test_without_a_place_it_comes_to_some_engine_and_stays(session):
    counter = session.mutable(Counter)
    homes = {session.spawn(lambda c: (c.add(), sk.myid())[1], counter).result(20) for _ in range(5)}

    assert len(homes) == 1
    assert homes < set(session.workers)


def test_a_place_that_does_not_exist_is_refused(session):
    with pytest.raises(sk.NoProcessorError, match="77"):
        session.mutable(Counter, worker=77)


def test_what_cannot_be_called_is_refused(session):
    with pytest.raises(TypeError, match="cannot be called"):
        session.mutable(3)


def test_objects_are_made_at_the_same_time(session):
    def slow():
        time.sleep(0.5)
        return Counter()

    began = time.monotonic()
    counters = [session.mutable(slow, worker=worker) for worker in session.workers]
    for counter in counters:
        session.spawn(Counter.add, counter).wait(20)

    assert time.monotonic() - began < 0.5 * len(counters)


def test_what_making_it_raises_is_raised_by_what_takes_it(session):
    broken = session.mutable(lambda: 1 / 0, worker=1)
    task = session.spawn(str, broken)

    with pytest.raises(ZeroDivisionError):
        task.result(20)
    with pytest.raises((ZeroDivisionError, sk.ChunkLostError)):
        broken.fetch(timeout=20)


def test_it_is_never_copied_out(session):
    counter = session.mutable(Counter, worker=1)

    with pytest.raises(sk.ScopeViolationError):
        counter.fetch(timeout=20)


def test_it_is_freed_with_its_handle(session, until):
    def alive():
        import gc

        return sum(type(o).__name__ == "Marked" for o in gc.get_objects())

    def make():
        return type("Marked", (), {})()

    marked = session.mutable(make, worker=1)
    assert session.spawn(lambda m: type(m).__name__, marked).result(20) == "Marked"
    del marked

    until(lambda: session.spawn(alive, scope=sk.ProcessScope(1)).result(20) == 0, "it is gone", 10)
