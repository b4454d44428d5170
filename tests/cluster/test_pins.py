"""Values that say themselves where they are valid, on real engines."""

import os
import queue
import sqlite3
import sys
import tempfile
import threading
import time
import warnings

import cloudpickle
import pinned
import pytest

import scopekit as sk
from scopekit import ExactScope, NodeScope, ProcessScope, ThreadProc
from scopekit.pinning.registry import registry

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ZERO, ONE, TWO = (ProcessScope(worker) for worker in range(3))


def here(thread=None):
    """Return the scope of worker 1, or of one of its threads, as a session knows it."""
    return ProcessScope(1) if thread is None else ExactScope(ThreadProc(1, thread))


def open_database():
    return sqlite3.connect(":memory:")


def query(database, text="SELECT 6 * 7"):
    return database.execute(text).fetchone()[0]


def where(*_):
    return sk.myid(), threading.get_ident()


class Service:
    """What an application may hand on: the connection is a part of a part of it."""

    def __init__(self, database):
        self.config = {"databases": [database]}

    def ask(self):
        return query(self.config["databases"][0])


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


@pytest.fixture
def rules():
    """Forget the rules that a test gives."""
    yield sk.pins
    registry.remove([key for rule in registry.own() for key in rule.keys])


# -- results -------------------------------------------------------------------------------------


def test_a_result_bound_to_a_thread_draws_its_tasks_to_that_thread(session):
    for thread in (0, 1):
        home = ThreadProc(1, thread)
        database = session.spawn(open_database, scope=ExactScope(home))

        chunk = session.fetch(database, raw=True)
        assert chunk.scope == ExactScope(home)
        answers = [session.spawn(query, database) for _ in range(4)]
        assert session.fetch(answers, timeout=20) == [42] * 4
        assert {answer.explain().chosen for answer in answers} == {home}


@pytest.mark.parametrize(
    ("make", "scope"),
    [
        (lambda: open(os.devnull), here),  # noqa: PTH123, SIM115  # the module travels by value
        (threading.Lock, here),
        (queue.Queue, here),
        (lambda: (n for n in range(3)), here),
        (lambda: __import__("socket").socket(), here),
        (lambda: __import__("mmap").mmap(-1, 8), here),
        (open_database, lambda: here(0)),
        (lambda: [open_database()], lambda: here(0)),
        (lambda: {"db": (open_database(),)}, lambda: here(0)),
        (lambda: Service(open_database()), lambda: here(0)),
        (lambda: Service(open_database()).ask, lambda: here(0)),
        (lambda: "plain", sk.AnyScope),
        (lambda: [1, {"a": (2.0, None)}], sk.AnyScope),
        (lambda: Service(None), sk.AnyScope),
    ],
)
def test_a_result_is_valid_where_its_type_says(session, make, scope):
    task = session.spawn(make, scope=here(0))

    assert session.fetch(task, raw=True).scope == scope()


def test_what_the_task_declared_wins_over_the_type(session):
    task = session.spawn(open_database, scope=ONE, result_scope=ONE)

    assert session.fetch(task, raw=True).scope == ONE


def test_the_scope_of_a_chunk_that_is_returned_wins_over_the_type(session):
    def make():
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        return sk.tochunk(connection, scope=sk.ProcessScope())

    database = session.spawn(make, scope=ExactScope(ThreadProc(1, 0)))

    assert session.fetch(database, raw=True).scope == here()
    other = session.spawn(query, database, scope=ExactScope(ThreadProc(1, 1)))
    assert other.result(20) == 42


def test_a_chunk_made_of_it_without_a_scope_has_that_of_its_type(session):
    def make():
        return sk.tochunk(sqlite3.connect(":memory:"))

    home = ThreadProc(2, 1)
    task = session.spawn(make, scope=ExactScope(home))

    assert session.fetch(task, raw=True).scope == ExactScope(home)


def test_each_of_several_results_has_the_scope_of_its_own_type(session):
    from scopekit.options import Options

    task = session.submit(
        Options.checked({"scope": ExactScope(ThreadProc(1, 0))}, "test"),
        lambda: (1, open_database(), [2]),
        (),
        {},
        outputs=("db", "numbers"),
    )

    scopes = [session.fetch(t, raw=True).scope for t in (task, *task.outputs.values())]
    assert scopes == [sk.AnyScope(), ExactScope(ThreadProc(1, 0)), sk.AnyScope()]


def test_fetching_it_is_refused_with_its_type_and_the_reason(session):
    database = session.spawn(open_database, scope=ONE)

    with pytest.raises(sk.ScopeViolationError, match=r"sqlite3\.Connection.*no other thread") as e:
        database.result(20)
    assert 'sk.shard(lambda: sqlite3.connect(path), per="thread")' in str(e.value)


def test_a_task_that_cannot_go_there_is_told_why(session):
    database = session.spawn(open_database, scope=ONE)
    task = session.spawn(query, database, scope=TWO)

    with pytest.raises(sk.ScopeConflictError, match=r"'database'.*sqlite3\.Connection: SQLite"):
        task.result(20)
    assert "SQLite lets no other thread use it" in str(task.explain())
    assert 'sk.shard(lambda: sqlite3.connect(path), per="thread")' in str(task.exception())


def test_explain_says_what_type_bound_an_input_also_when_that_is_gone(session):
    task = session.spawn(query, session.spawn(open_database, scope=ONE))
    task.result(20)
    session.spawn(int).result(20)

    told = str(task.explain())
    assert "a sqlite3.Connection: SQLite lets no other thread use it" in told
    assert task.explain().chosen.worker == 1


class Vault:
    """Nothing of it is in the table, and it does not pickle."""

    def __reduce__(self):
        raise TypeError("not me")


def hold_line(path):
    limit = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < limit:  # noqa: PTH110  # by value
        time.sleep(0.005)


def test_what_turns_out_not_to_pickle_stays_and_its_task_is_placed_anew(session, tmp_path):
    """It was sent to another process, as far as anybody knew, since its own was busy."""
    gate = tmp_path / "gate"
    vault = session.spawn(Vault, scope=TWO)
    vault.wait(20)
    there = [ExactScope(ThreadProc(2, thread)) for thread in (0, 1)]
    busy = [session.spawn(hold_line, str(gate), scope=thread) for thread in there]
    task = session.spawn(where, vault)
    sent = [at for at in session.events() if at["task"] == task.id]
    gate.touch()
    session.fetch(busy, timeout=30)

    assert task.result(20)[0] == 2
    kinds = [at["kind"] for at in session.events() if at["task"] == task.id]
    assert "RunHandedBack" in kinds, sent
    told = str(task.explain())
    assert "Vault, which does not pickle" in told
    assert "worker 2" in told
    with pytest.raises(sk.ScopekitError, match="does not pickle"):
        vault.result(20)


def test_two_parts_that_are_never_valid_in_one_place_are_refused_with_both_named(session, rules):
    rules("test_pins:Left", "free")
    rules("test_pins:Left")(lambda _: sk.ProcessScope(1))
    rules("test_pins:Right")(lambda _: sk.ProcessScope(2))

    task = session.spawn(lambda: [Left(), Right()], scope=ONE)

    with pytest.raises(sk.ScopeConflictError, match="never valid in the same place") as caught:
        task.result(20)
    assert "Left is valid on worker 1" in str(caught.value)
    assert "Right is valid on worker 2" in str(caught.value)


def test_two_arguments_of_one_call_are_refused_likewise(session, rules):
    rules("test_pins:Left")(lambda _: sk.ProcessScope(1))
    rules("test_pins:Right")(lambda _: sk.ProcessScope(2))

    with pytest.raises(sk.ScopeConflictError) as caught:
        session.spawn(print, Left(), [Right()])
    told = str(caught.value)
    assert "argument 1 is a test_pins.Left" in told
    assert "args[1][0] is a test_pins.Right" in told
    assert "valid on worker 1" in told
    assert "valid on worker 2" in told


class Left:
    pass


class Right:
    pass


class Window:
    """It may only be closed by the thread that opened it."""

    def __init__(self, path):
        self.path = path
        self.thread = threading.get_ident()

    def __del__(self):
        with open(self.path, "w") as file:  # noqa: PTH123  # the module travels by value
            file.write(f"{self.thread == threading.get_ident()}")


@pytest.mark.parametrize("thread", [0, 1])
def test_what_belongs_to_a_thread_dies_on_it(session, rules, tmp_path, until, thread):
    path = tmp_path / "ended"
    rules("test_pins:Window", "thread")
    window = session.spawn(Window, str(path), scope=ExactScope(ThreadProc(1, thread)))
    window.wait(20)
    del window
    session.spawn(int).result(20)

    assert until(lambda: path.exists() and path.read_text(), "the end of the window") == "True"


# -- arguments, closures, globals, bound methods -------------------------------------------------


def hidings(connection):
    service = Service(connection)
    return {
        "argument": ((query, connection), "argument 'database' (sqlite3.Connection)", "database"),
        "in a list": ((query, [connection]), "database[0] is a sqlite3.Connection", "database"),
        "in an object": (
            (query, service),
            "database.config['databases'][0] is a sqlite3.Connection",
            "databases",
        ),
        "closure": (
            (lambda: query(connection),),
            "connection, a variable in the closure",
            "connec",
        ),
        "default": ((lambda db=connection: query(db),), "db, the default of a parameter", "db"),
        "bound method": ((service.ask,), "self.config['databases'][0] (self is the", "databases"),
        "its own": ((connection.execute, "SELECT 1"), "self, the object of", "self"),
    }


HIDINGS = ("argument", "in a list", "in an object", "closure", "default", "bound method", "its own")


@pytest.mark.parametrize("hide", HIDINGS)
def test_what_is_bound_here_is_refused_at_the_spawn_with_its_name_and_the_way_out(
    session, database, hide
):
    call, named, variable = hidings(database)[hide]

    with pytest.raises(sk.ScopeConflictError) as caught:
        session.spawn(*call)

    told = str(caught.value)
    assert named in told
    assert "SQLite lets no other thread use it" in told
    assert f"{variable}" in told
    assert '= sk.shard(lambda: sqlite3.connect(path), per="thread")' in told
    assert caught.value.explanation.outcome == "conflict"


def test_a_global_variable_is_named_too(session, database):
    namespace = {"query": query, "__name__": "__main__"}
    exec("def ask():\n    return query(CONNECTION)", namespace)
    namespace["CONNECTION"] = database

    with pytest.raises(sk.ScopeConflictError, match="CONNECTION, a global variable that ask uses"):
        session.spawn(namespace["ask"])


def test_all_that_is_bound_is_told_at_once(session, database):
    def work(events, lines):
        return database, events, lines

    with pytest.raises(sk.ScopekitError) as caught:
        session.spawn(work, [threading.Event()], lines=queue.Queue())
    assert "sqlite3.Connection" in str(caught.value)
    with pytest.raises(sk.ScopekitError) as caught:
        session.spawn(print, [threading.Event()], [database, queue.Queue()])
    for kind in ("threading.Event", "sqlite3.Connection", "queue.Queue"):
        assert kind in str(caught.value)


def test_a_refused_task_is_in_the_graph_with_its_reason(session, database):
    with pytest.raises(sk.ScopeConflictError):
        session.options(name="refused-pin").spawn(query, database)

    names = {data.get("name"): data for _, data in session.graph().nodes(data=True)}
    assert names["refused-pin"]["state"] == "failed"


def test_a_plan_says_what_the_spawn_would(session, database):
    assert session.plan(query, database).outcome == "conflict"
    assert session.plan(query, queue.Queue()).outcome == "conflict"
    client = ProcessScope("client")
    assert session.plan(query, queue.Queue(), scope=client).outcome == "placed"
    assert session.plan(query, database, scope=client).outcome == "conflict"


def test_what_may_be_used_in_this_process_goes_to_a_task_of_this_process_as_it_is(session):
    words = queue.Queue()
    session.spawn(words.put, "hello", scope=ProcessScope("client")).result(20)
    session.spawn(lambda q: q.put("again"), words, scope=ProcessScope("client")).result(20)

    assert [words.get_nowait(), words.get_nowait()] == ["hello", "again"]


def test_a_thread_of_this_process_that_runs_no_tasks_is_no_place(session, database):
    with pytest.raises(sk.ScopeConflictError, match="No task runs on the thread"):
        session.spawn(query, database, scope=ProcessScope("client"))


def test_a_lock_is_refused_wherever_it_hides(session):
    with pytest.raises(sk.ScopekitError, match=r"argument 'database' \(_thread.lock\)"):
        session.spawn(query, threading.Lock())
    with pytest.raises(sk.ScopekitError, match=r"database\['lock'\] is a _thread.lock"):
        session.spawn(query, {"lock": threading.Lock()}, scope=ProcessScope("client"))


def test_what_pickles_well_and_arrives_broken_is_refused(session, tmp_path):
    with tempfile.TemporaryDirectory(dir=tmp_path) as made:
        assert os.path.isdir(made)  # noqa: PTH112
    folder = tempfile.TemporaryDirectory(dir=tmp_path)

    with pytest.raises(sk.ScopeConflictError, match=r"delete the directory.*\n.*\n.*\n.*\.name"):
        session.spawn(os.listdir, folder)
    assert os.path.isdir(folder.name)  # noqa: PTH112
    folder.cleanup()


def test_a_value_that_is_to_move_and_is_bound_here_is_refused_at_tochunk(session, database):
    with pytest.raises(sk.ScopekitError, match=r"is to move to worker 1.*SQLite lets no other"):
        session.tochunk(database, scope=ONE)


def test_a_chunk_of_this_process_has_the_scope_of_its_type(session):
    chunk = session.tochunk(queue.Queue())

    assert chunk.scope == ProcessScope("client")
    with pytest.raises(sk.ScopeConflictError, match=r"allows client \(a queue.Queue"):
        session.spawn(query, chunk)


def test_an_unknown_type_that_does_not_pickle_gets_the_line_that_registers_it(session):
    with pytest.raises(sk.ScopekitError) as caught:
        session.spawn(query, [Native()])

    assert 'sk.pins("test_pins:Native", "process")' in str(caught.value)


class Native:
    def __reduce__(self):
        raise TypeError("no default __reduce__ due to non-trivial __cinit__")


def test_a_call_that_waits_does_not_keep_what_it_was_given(session, tmp_path):
    """The call is kept for as long as it may have to run again."""
    import gc
    import random
    import weakref

    rng = random.Random(3)
    gone = weakref.ref(rng)
    gate = tmp_path / "gate"
    with pytest.warns(UserWarning, match="same numbers"):
        task = session.spawn(lambda r, path: hold_line(path), rng, str(gate))
    del rng
    gc.collect()

    assert gone() is None
    gate.touch()
    task.result(30)


# -- tasks that spawn tasks ----------------------------------------------------------------------


def test_a_task_that_a_task_spawns_over_what_is_bound_stays_with_it(session):
    def outer():
        database = open_database()
        inner = sk.spawn(lambda db: (query(db), sk.task_processor()), database)
        return inner.result(), sk.task_processor()

    (answer, there), here = session.spawn(outer, scope=ExactScope(ThreadProc(2, 1))).result(20)

    assert answer == 42
    assert there == here == ThreadProc(2, 1)


def test_it_is_refused_there_too_where_it_cannot_stay(session):
    def outer():
        try:
            sk.spawn(query, open_database(), scope=sk.ProcessScope(0))
        except sk.SchedulingError as error:
            return str(error)

    told = session.spawn(outer, scope=TWO).result(20)

    assert "argument 'database' (sqlite3.Connection) cannot be sent" in told
    assert "sk.shard(" in told


# -- errors --------------------------------------------------------------------------------------


def test_an_error_that_holds_what_is_bound_arrives_as_text(session):
    class ClientError(Exception):
        def __init__(self, client):
            super().__init__("the query failed")
            self.client = client

    def work():
        raise ClientError(open_database())

    with pytest.raises(sk.RemoteError, match="the query failed") as caught:
        session.spawn(work).result(20)
    assert caught.value.type_name.endswith("ClientError")
    assert "in work" in caught.value.traceback_text


def test_a_file_that_is_here_and_not_there_is_told_of(session, tmp_path):
    path = tmp_path / "here.csv"

    def read(name):
        # As if this were another machine, for a moment.
        os.rename(name, name + ".away")  # noqa: PTH104
        try:
            return open(name)  # noqa: PTH123
        finally:
            os.rename(name + ".away", name)  # noqa: PTH104

    path.write_text("1,2")
    task = session.spawn(read, str(path), scope=NodeScope("b"))

    with pytest.raises(FileNotFoundError) as caught:
        task.result(20)
    notes = "\n".join(caught.value.__notes__)
    assert "is there on this machine, and not on node b" in notes
    assert "NodeScope" in notes


# -- arrays of mapped files ----------------------------------------------------------------------


@pytest.fixture
def mapped(tmp_path):
    numpy = pinned.needs("numpy")
    made = numpy.memmap(tmp_path / "cube", "float64", "w+", shape=(6, 4))
    made[:] = numpy.arange(24.0).reshape(6, 4)
    return made


def double(array):
    array *= 2
    return type(array).__name__, float(array.sum()), array.flags.c_contiguous


@pytest.mark.parametrize(
    "part",
    [
        lambda a: a,
        lambda a: a[2],
        lambda a: a[1:5, ::2],
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: __import__("numpy").asarray(a)[2:4],
    ],
    ids=["all", "row", "strided", "backwards", "transposed", "view"],
)
def test_an_array_of_a_file_is_mapped_again_on_its_machine(plain, mapped, part):
    """Writes are seen by its owner, and none of its bytes travel."""
    shown = part(mapped)
    kind, before, contiguous = type(shown).__name__, float(shown.sum()), shown.flags.c_contiguous
    rest = float(mapped.sum()) - before

    assert plain.spawn(double, shown).result(20) == (kind, 2 * before, contiguous)
    assert float(shown.sum()) == 2 * before
    assert float(mapped.sum()) == 2 * before + rest


def test_none_of_its_bytes_travel(plain, tmp_path):
    numpy = pinned.needs("numpy")
    made = numpy.memmap(tmp_path / "large", "float64", "w+", shape=(1 << 20,))
    task = plain.spawn(numpy.sum, made)

    (call,) = [c for c in plain._driver._calls.values() if b"large" in c.arguments] or [None]
    assert call is None or len(call.arguments) < 1000
    assert task.result(20) == 0.0


def test_on_another_machine_it_is_refused(session, mapped):
    """Pretended machines share no files."""
    with pytest.raises(sk.SchedulingError, match="it is a file of one machine"):
        session.spawn(double, mapped)
    with pytest.raises(sk.SchedulingError, match=r"cube\[0\] is a numpy.memmap"):
        session.spawn(lambda cube: cube, [mapped])


def test_an_array_of_a_file_that_a_task_made_stays_on_its_node(session, tmp_path):
    pinned.needs("numpy")

    def make(path):
        import numpy as np

        made = np.memmap(path, "float64", "w+", shape=(8,))
        made[:] = 1
        return {"array": made}

    result = session.spawn(make, str(tmp_path / "file"), scope=ZERO)
    near = session.spawn(lambda r: (float(r["array"].sum()), sk.myid()), result, scope=ONE)

    assert session.fetch(result, raw=True).scope == NodeScope("a")
    assert near.result(20) == (8.0, 1)
    with pytest.raises(sk.ScopeConflictError, match="node a"):
        session.spawn(len, result, scope=TWO).result(20)


def test_an_array_of_a_file_without_a_name_stays_in_its_process(plain, tmp_path):
    numpy = pinned.needs("numpy")
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(b"\0" * 64)
        made = numpy.memmap(file, "uint8", "r+")
        made.filename = None

        with pytest.raises(sk.ScopeConflictError, match="the file that it maps has no name"):
            plain.spawn(len, made)


def test_shared_memory_outlives_those_that_attach_to_it(plain):
    from multiprocessing import shared_memory

    def write(memory, place):
        memory.buf[place] = 7
        memory.close()
        os._exit(0) if place == 2 else None

    made = shared_memory.SharedMemory(create=True, size=16)
    try:
        for place in (0, 1):
            plain.spawn(write, made, place, scope=ProcessScope(place)).result(20)
        assert bytes(made.buf[:2]) == b"\7\7"
        again = shared_memory.SharedMemory(made.name)
        again.close()
    finally:
        made.close()
        made.unlink()


def test_a_figure_of_pyplot_opens_none_where_it_is_read(plain):
    pinned.needs("matplotlib")

    def draw():
        import matplotlib as mpl

        mpl.use("agg")
        import matplotlib.pyplot as plt

        figure = plt.figure()
        figure.add_subplot().plot([1, 2])
        return figure

    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    figure = plain.spawn(draw).result(60)

    assert plt.get_fignums() == before
    assert len(figure.axes) == 1


# -- notes ---------------------------------------------------------------------------------------


def noted(session, *call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tasks = [session.spawn(*call) for _ in range(3)]
    session.fetch(tasks, timeout=20)
    return caught


def test_a_generator_of_random_numbers_is_told_of_once_at_the_line_that_sends_it(session):
    import random

    draw = random.Random(3)
    caught = noted(session, lambda r: r.random(), draw)

    assert len(caught) == 1
    assert "argument 'r' is a random.Random" in str(caught[0].message)
    assert "draw the same numbers" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert len(noted(session, random.Random(4).random)) == 1


def test_each_of_many_generators_is_told_of_though_others_lay_at_its_address_before(session):
    import random

    def draws(seed):
        return len(noted(session, lambda r: r.random(), random.Random(seed)))

    assert [draws(seed) for seed in range(20)] == [1] * 20


def test_a_raised_error_that_is_sent_is_told_to_lose_its_traceback(session):
    try:
        int("no number")
    except ValueError as error:
        caught = noted(session, repr, error)

    assert ["without its traceback" in str(each.message) for each in caught] == [True]


def test_a_logger_is_told_of_only_if_it_leaves_handlers_behind(session):
    import logging

    own = logging.getLogger("scopekit.tests.noted")
    assert noted(session, repr, own) == []
    handler = logging.NullHandler()
    own.addHandler(handler)
    caught = noted(session, repr, own)
    own.removeHandler(handler)

    assert ["handlers stay here" in str(each.message) for each in caught] == [True]


# -- rules of users ------------------------------------------------------------------------------


class Records:
    """A class of the notebook."""

    def __init__(self, owner):
        self.owner = owner


def test_a_function_of_the_user_says_where_values_of_a_type_are_valid(session, rules):
    @rules(Records)
    def _(records):
        """Records stay with their company."""
        return sk.NodeScope(records.owner)

    made = session.spawn(Records, "b", scope=TWO)

    assert session.fetch(made, raw=True).scope == NodeScope("b")
    assert session.spawn(where, made).result(20)[0] in (2, 3)
    with pytest.raises(sk.ScopeViolationError, match="Records stay with their company"):
        made.result(20)
    with pytest.raises(sk.ScopeConflictError, match="Records stay with their company"):
        session.spawn(where, made, scope=ZERO).result(20)


def test_a_value_outside_of_where_its_rule_lets_it_be_goes_there(session, rules):
    rules(Records)(lambda records: sk.NodeScope(records.owner))

    task = session.spawn(lambda r: (r.owner, sk.myid()), Records("a"))

    assert task.result(20)[0] == "a"
    assert task.result(20)[1] in (0, 1)
    with pytest.raises(sk.ScopeConflictError, match="anywhere but to node a"):
        session.spawn(where, [Records("a")], scope=TWO)


def test_a_result_outside_of_where_its_rule_lets_it_be_is_refused(session, rules):
    rules(Records)(lambda records: sk.NodeScope(records.owner))

    task = session.spawn(Records, "a", scope=TWO)

    with pytest.raises(sk.ScopeViolationError, match="this is worker 2, and what was made here"):
        task.result(20)


def test_words_do_for_a_rule(session, rules):
    rules("test_pins:Records", "process")
    first = session.fetch(session.spawn(Records, "a", scope=ONE), raw=True)
    rules("test_pins:Records", "free")
    second = session.fetch(session.spawn(Records, "a", scope=ONE), raw=True)

    assert session.processors(first.scope) == session.processors(ONE)
    assert second.scope == sk.AnyScope()


def test_a_rule_of_the_user_wins_over_the_table(session, rules):
    rules(queue.Queue, "free")
    rules(sqlite3.Connection, "process")

    made = session.fetch(session.spawn(open_database, scope=ONE), raw=True)

    assert session.processors(made.scope) == session.processors(ONE)


def test_a_rule_that_fails_is_the_tasks_error(session, rules):
    @rules(Records)
    def _(records):
        raise ZeroDivisionError("in the rule")

    with pytest.raises(ZeroDivisionError, match="in the rule"):
        session.spawn(Records, "a").result(20)
    with pytest.raises(sk.ScopekitError, match="in the rule"):
        session.spawn(where, Records("a"))


def test_a_rule_that_an_engine_cannot_read_lets_nothing_go(session, rules):
    class OnlyHere:
        def __call__(self, value):
            return "free"

        def __reduce__(self):
            return (__import__, ("no_such_module_there",))

    rules(Records)(OnlyHere())
    made = session.spawn(Records, "a", scope=ONE)

    assert session.processors(session.fetch(made, raw=True).scope) == session.processors(ONE)
    with pytest.raises(sk.ScopeViolationError, match="its rule could not be read here"):
        made.result(20)


@pytest.mark.slow
def test_an_engine_that_joins_later_knows_the_rules_before_its_first_task(own_folders, rules):
    rules("test_pins:Records", "process")
    with sk.start(1) as session:
        (first,) = session.workers
        (_, joined) = sorted({first, *session.add_workers(1)})
        made = session.spawn(Records, "a", scope=ProcessScope(joined))

        assert session.fetch(made, raw=True).scope == ProcessScope(joined)
