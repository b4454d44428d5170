"""Tasks that spawn tasks, on real engines."""

import os
import sys
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, ProcessScope, ThreadProc

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ZERO, ONE, TWO = (ProcessScope(worker) for worker in range(3))


@pytest.fixture
def anywhere(request):
    """A task that spawns for other places needs to hear of these while it runs."""
    if request.config.getoption("--wire") == "views":
        pytest.skip("over views a task spawns only where it runs itself, and says so")


def add(x, y):
    return x + y


def where(*_):
    return sk.myid()


def fib(n):
    if n < 2:
        return n
    one, other = sk.spawn(fib, n - 1), sk.spawn(fib, n - 2)
    return one.result() + other.result()


def wait_for_flag(path, seconds=20):
    until = time.monotonic() + seconds
    while not os.path.exists(path):  # noqa: PTH110  # the module travels by value
        assert time.monotonic() < until
        time.sleep(0.005)


# -- spawning and fetching -------------------------------------------------------------


def test_a_task_spawns_and_fetches(session):
    def squares(n):
        return sum(sk.fetch([sk.spawn(pow, i, 2) for i in range(n)]))

    assert session.spawn(squares, 20).result(20) == sum(i * i for i in range(20))


def test_a_program_that_calls_itself_ends_on_one_engine_of_one_thread():
    with sk.start(1) as session:
        assert session.spawn(fib, 14).result(60) == 377


def test_tasks_wait_for_tasks_a_hundred_deep(session):
    def down(n):
        return 0 if n == 0 else 1 + sk.spawn(down, n - 1).result()

    assert session.spawn(down, 100).result(60) == 100


def test_the_results_of_siblings_are_arguments(session):
    def tree():
        leaves = [sk.spawn(add, i, i) for i in range(8)]
        while len(leaves) > 1:
            leaves = [sk.spawn(add, *leaves[i : i + 2]) for i in range(0, len(leaves), 2)]
        return leaves[0].result()

    assert session.spawn(tree).result(20) == 56


def test_handles_count_within_containers(session):
    def total(parts):
        return sum(parts["a"]) + parts["b"]

    def outer():
        one, two = sk.spawn(add, 1, 1), sk.spawn(add, 2, 2)
        return sk.spawn(total, {"a": [one, two], "b": two}).result()

    assert session.spawn(outer).result(20) == 10


def test_several_waits_and_values_of_many_kinds(session):
    def outer():
        tasks = [sk.spawn(list, range(i)) for i in range(5)]
        assert sk.wait(tasks) is tasks
        assert all(sk.isready(task) for task in tasks)
        in_order = sorted(len(task.result()) for task in sk.as_completed(tasks))
        return in_order, sk.fetch({"x": tasks[3], "y": 1})

    assert session.spawn(outer).result(20) == ([0, 1, 2, 3, 4], {"x": [0, 1, 2], "y": 1})


def test_options_reach_what_a_task_spawns(session, anywhere):
    def outer():
        named = sk.options(name="mine", single=1).spawn(where)
        with sk.with_options(single=2):
            other = sk.spawn(where)
        return sk.fetch([named, other])

    assert session.options(single=0).spawn(outer).result(20) == [1, 2]


def test_a_coroutine_awaits_what_it_spawned_on_the_one_processor_there_is(session):
    here = sk.ExactScope(sk.ThreadProc(0, 0))

    async def twice(n):
        return [await sk.spawn(list, range(n)), n]

    def raises():
        raise ZeroDivisionError("on purpose")

    async def outer():
        import asyncio

        both = await asyncio.gather(sk.spawn(twice, 2), awaited(sk.spawn(len, "abc")))
        try:
            await sk.spawn(raises)
        except ZeroDivisionError as error:
            return [*both, str(error)]

    async def awaited(task):
        return await task

    with sk.with_options(scope=here):
        task = session.spawn(outer)

    assert task.result(20) == [[[0, 1], 2], 3, "on purpose"]


def test_a_limit_on_a_wait_ends_it(session):
    def slow():
        time.sleep(0.5)

    def outer():
        task = sk.options(single=3).spawn(slow)
        try:
            task.result(timeout=0.02)
        except TimeoutError as error:
            return str(error)

    # Sent away, or run here where it is spawned: the wait is over only if it is away.
    if session.options(single=0).spawn(where).result(20) == 0 and session._roster._hub:
        assert "was not done within" in session.options(single=0).spawn(outer).result(20)


# -- scopes ------------------------------------------------------------------------------


def test_what_a_task_spawns_runs_where_its_scope_says(session, anywhere):
    def outer():
        return sk.fetch([sk.spawn(where, scope=ProcessScope(n)) for n in (0, 1, 2, 3)])

    assert session.spawn(outer, scope=ONE).result(20) == [0, 1, 2, 3]


def test_another_thread_of_the_same_process_is_a_place_too(session, anywhere):
    def here():
        return sk.task_processor()

    def outer():
        return sk.spawn(here, scope=ExactScope(ThreadProc(1, 1))).result()

    outer_scope = ExactScope(ThreadProc(1, 0))
    assert session.spawn(outer, scope=outer_scope).result(20) == ThreadProc(1, 1)


def test_a_task_that_can_be_placed_nowhere_is_refused_at_its_spawn(session):
    def outer():
        try:
            sk.spawn(where, scope=ONE & TWO)
        except sk.ScopeConflictError as error:
            return str(error)

    assert "its scopes never meet" in session.spawn(outer).result(20)


def test_an_unknown_option_is_refused_in_a_task_as_elsewhere(session):
    def outer():
        sk.options(scop=ONE)

    with pytest.raises(sk.ScopeError, match="scop"):
        session.spawn(outer).result(20)


def test_a_value_that_may_not_come_to_the_task_stays_where_it_is(session, anywhere):
    def secret():
        return sk.tochunk(["secret"], scope=TWO)

    def outer():
        task = sk.spawn(secret, scope=TWO)
        try:
            return task.result()
        except sk.ScopeViolationError as error:
            told = str(error)
            return sk.spawn(len, task).result(), told

    length, told = session.spawn(outer, scope=ONE).result(20)
    assert length == 1
    assert "valid only on worker 2" in told


def test_a_chunk_that_a_task_made_is_an_argument_of_what_it_spawns(session):
    def outer():
        chunk = sk.tochunk([1, 2, 3], scope=ProcessScope(sk.myid()))
        first = sk.spawn(sum, chunk).result()
        return first, sk.spawn(len, chunk).result(), chunk.fetch()

    assert session.spawn(outer).result(20) == (6, 3, [1, 2, 3])


# -- errors --------------------------------------------------------------------------------


def test_an_error_of_what_a_task_spawned_keeps_its_type(session):
    def fails():
        raise KeyError("lost")

    def outer():
        try:
            sk.spawn(fails).result()
        except KeyError as error:
            return error.args, "\n".join(error.__notes__)

    args, notes = session.spawn(outer).result(20)
    assert args == ("lost",)
    assert "raised by task fails-" in notes


def test_an_error_that_nobody_catches_comes_to_the_notebook(session):
    def fails():
        raise ZeroDivisionError("inside")

    def outer():
        return sk.spawn(fails).result()

    with pytest.raises(ZeroDivisionError, match="inside"):
        session.spawn(outer).result(20)


def test_a_task_whose_input_failed_is_blocked(session):
    def outer():
        failed = sk.spawn(divmod, 1, 0)
        return type(sk.spawn(abs, failed).exception()).__name__

    assert session.spawn(outer).result(20) == "ZeroDivisionError"


def test_what_is_tried_again_comes_right_in_the_end(session, tmp_path, anywhere):
    path = str(tmp_path / "tried")

    def flaky():
        with open(path, "a") as file:  # noqa: PTH123  # the module travels by value
            file.write("x")
        if os.path.getsize(path) < 3:  # noqa: PTH202  # likewise
            raise OSError("not yet")
        return "right"

    def outer():
        return sk.options(retries=5).spawn(flaky).result()

    assert session.spawn(outer).result(20) == "right"


def test_a_task_of_a_task_cannot_be_the_result_of_one(session):
    def outer():
        return sk.spawn(where)

    with pytest.raises(sk.ScopekitError, match="a task"):
        session.spawn(outer).result(20)


def test_only_the_notebook_plans_or_explains(session):
    def outer(what):
        task = sk.spawn(where)
        return sk.plan(where) if what == "plan" else sk.explain(task)

    for what in ("plan", "explain"):
        with pytest.raises(sk.ScopekitError, match="notebook"):
            session.spawn(outer, what).result(20)


# -- where it runs, what is left ---------------------------------------------------------------


def test_idle_engines_take_what_a_busy_task_spawned(plain, tmp_path, anywhere):
    """The one that waits runs the newest itself; the other engine asks for some of the rest."""

    def nap(_):
        time.sleep(0.05)
        return sk.myid()

    def outer():
        return sk.fetch([sk.spawn(nap, n) for n in range(40)])

    assert set(plain.spawn(outer).result(60)) == {0, 1}


def test_a_task_that_waits_gives_its_processor_to_others(plain, tmp_path, anywhere):
    flag = str(tmp_path / "flag")

    def outer():
        return sk.spawn(wait_for_flag, flag, scope=ONE).result()

    def raise_flag():
        open(flag, "w").close()  # noqa: PTH123  # the module travels by value
        return sk.myid()

    waiting = plain.spawn(outer, scope=ProcessScope(0))
    assert plain.spawn(raise_flag, scope=ProcessScope(0)).result(20) == 0
    waiting.result(20)


def test_what_a_task_mapped_and_nobody_wants_any_more_is_not_run(plain, tmp_path, until):
    """As in the notebook: a generator that is dropped leaves nothing behind."""
    folder = str(tmp_path)

    def leave_a_mark(n):
        open(f"{folder}/{n}", "w").close()  # noqa: PTH123  # the module travels by value
        return n

    def outer():
        values = sk.map(leave_a_mark, range(10), scope=ZERO, batch=1)
        assert next(values) == 0
        first = set(os.listdir(folder))  # noqa: PTH208
        del values
        # Whoever waits gives its processor to others: had these been left, they would run.
        sk.spawn(int, scope=ZERO).result()
        time.sleep(0.2)
        sk.spawn(int, scope=ZERO).result()
        return len(first)

    before = plain.statistics()["chunks"]
    marked = plain.spawn(outer, scope=ZERO).result(30)
    until(lambda: plain.statistics()["chunks"] <= before, "all has ended")
    assert len(os.listdir(folder)) <= marked  # noqa: PTH208


def test_nothing_of_what_tasks_spawned_is_left(plain, until):
    before = plain.statistics()["chunks"]
    assert plain.spawn(fib, 8).result(60) == 21
    until(lambda: plain.statistics()["chunks"] <= before, "chunks are freed")


def test_tasks_of_tasks_are_told_and_drawn_as_others(plain, until):
    plain.spawn(fib, 3).result(20)

    names = [event["kind"] for event in plain.events()]
    assert "ChildSpawned" in names


def test_the_run_of_a_task_that_died_takes_what_it_spawned_with_it(tmp_path, until, anywhere):
    died, ran = str(tmp_path / "died"), str(tmp_path / "ran")

    def child(n):
        with open(ran, "a") as file:  # noqa: PTH123  # the module travels by value
            file.write(f"{n}\n")
        return n

    def outer():
        tasks = [sk.spawn(child, n) for n in range(4)]
        if not os.path.exists(died):  # noqa: PTH110  # likewise
            open(died, "w").close()  # noqa: PTH123  # likewise
            os._exit(1)
        return sum(sk.fetch(tasks))

    with sk.start(2) as session:
        assert session.spawn(outer).result(60) == 6
        until(lambda: session.statistics()["chunks"] == 0, "chunks are freed")
        assert set(session.statistics()["tasks"]) <= {"done", "cancelled"}


def test_in_one_process_tasks_spawn_tasks_as_well():
    with sk.start(0) as session:
        assert session.spawn(fib, 7).result(20) == 13


def test_over_views_a_task_spawns_where_it_runs_or_is_told_why_not():
    def outer(scope):
        return sk.spawn(where, scope=scope).result()

    with sk.start(2, wire="views") as session:
        assert session.spawn(outer, ProcessScope(0), scope=ProcessScope(0)).result(20) == 0
        with pytest.raises(sk.NoProcessorError, match="ipyparallel's own messages"):
            session.spawn(outer, ProcessScope(1), scope=ProcessScope(0)).result(20)
