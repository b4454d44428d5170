"""In one process pins refuse nothing but what nobody could wait for, and cost nothing."""

import contextlib
import queue
import sqlite3
import threading

import pinned
import pytest

import scopekit as sk
from scopekit.scopes import ExactScope, ProcessScope, ThreadProc


@pytest.fixture
def session():
    with sk.start(0) as session:
        yield session


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


def query(database, text="SELECT 6 * 7"):
    return database.execute(text).fetchone()[0]


BOUND = [
    case
    for case in pinned.CASES
    if case.strength == "hard" and case.row not in (10, 21) and case.level != "free"
]


@pytest.mark.parametrize("case", BOUND, ids=str)
def test_a_task_of_this_process_is_given_the_very_thing(session, case, tmp_path):
    with contextlib.ExitStack() as stack:
        value = case.build(tmp_path, stack)

        assert session.spawn(lambda x: x is value, value).result() is True
        assert session.spawn(lambda x: id(x["key"][0]), {"key": [value]}).result() == id(value)
        assert session.spawn(lambda: id(value)).result() == id(value)


def test_arguments_around_it_are_copies_as_ever(session, database):
    given = {"db": database, "numbers": [1]}

    def change(given):
        given["numbers"].append(2)
        return query(given["db"]), given["numbers"]

    assert session.spawn(change, given).result() == (42, [1, 2])
    assert given["numbers"] == [1]


def test_one_thing_in_two_places_is_one_thing_there(session, database):
    assert session.spawn(lambda a, b: a is b[0], database, [database]).result() is True


def test_it_goes_together_with_the_results_of_tasks(session, database):
    text = session.spawn(lambda: "SELECT 5")

    assert session.spawn(query, database, text).result() == 5
    assert session.spawn(
        lambda x: query(x["db"], x["text"]), {"text": text, "db": database}
    ).result()


def test_a_lock_is_refused_since_tasks_run_one_after_another(session):
    with pytest.raises(sk.ScopekitError, match=r"argument 'x' \(_thread.lock\)"):
        session.spawn(lambda x: x, threading.Lock())


def test_a_result_is_valid_where_its_type_says(session):
    assert session.fetch(session.spawn(queue.Queue), raw=True).scope == ProcessScope(0)
    thread = ExactScope(ThreadProc(0, 0))
    made = session.spawn(sqlite3.connect, ":memory:")
    assert session.fetch(made, raw=True).scope == thread
    made.result().close()


def test_it_dies_with_its_task(session):
    import weakref

    class Held(queue.Queue):
        pass

    value = Held()
    gone = weakref.ref(value)
    session.spawn(lambda q: q.put(1), value).result()
    assert value.get_nowait() == 1
    del value
    session.spawn(int).result()

    assert gone() is None


def test_what_has_nothing_to_do_with_it_is_refused_in_its_own_words(session, database):
    with pytest.raises(sk.ScopeConflictError) as caught:
        session.spawn(query, database, scope=ProcessScope(0), result_scope=ProcessScope(5))

    assert "cannot be sent" not in str(caught.value)
    assert "result_scope= allows worker 5" in str(caught.value)
