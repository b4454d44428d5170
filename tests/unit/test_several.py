"""Tasks that give several results, in this very process."""

import collections.abc
import concurrent.futures
import gc
import pickle
import typing

import pytest

import scopekit as sk
from scopekit import ExactScope, ProcessScope, ThreadProc
from scopekit.options import Options, operands

A, B = ProcessScope(0), ProcessScope(1)


@pytest.fixture
def session():
    with sk.start(0) as session:
        yield session


@pytest.fixture
def wide():
    with sk.start(0, threads=3) as session:
        yield session


def held(session):
    session._driver.catch_up()
    return len(session._agent.store)


def pair(x, y):
    return x, y


# -- the handle ------------------------------------------------------------------------


def test_a_number_of_outputs_gives_as_many_tasks(session):
    q, r = task = session.options(outputs=2).spawn(divmod, 7, 2)

    assert (q.result(), r.result()) == (3, 1)
    assert task.result() == task.fetch() == (3, 1)
    assert list(task.outputs) == ["0", "1"]
    assert list(task.outputs.values()) == [q, r]


def test_outputs_have_the_names_that_they_are_given(session):
    task = session.options(outputs=["quotient", "rest"], name="d").spawn(divmod, 7, 2)

    assert {name: each.result() for name, each in task.outputs.items()} == {
        "quotient": 3,
        "rest": 1,
    }
    assert task.outputs["rest"].name == "d[rest]"


def test_a_list_or_a_named_tuple_will_do(session):
    class Point(typing.NamedTuple):
        x: int
        y: list

    assert session.options(outputs=2).spawn(lambda: [1, [2]]).result() == (1, [2])
    assert session.options(outputs=2).spawn(lambda: Point(1, [2])).result() == (1, [2])


def test_one_output_is_a_tuple_of_one(session):
    (only,) = task = session.options(outputs=1).spawn(lambda: ("x",))

    assert only.result() == "x"
    assert task.result() == ("x",)


@pytest.mark.parametrize("given", [3, None, (1,), (1, 2, 3), "ab", {"0": 1, "1": 2}], ids=repr)
def test_another_number_of_results_is_an_error(session, given):
    task = session.options(outputs=2, name="t").spawn(lambda: given)

    with pytest.raises(sk.ScopekitError, match="t is to give 2 results and returned"):
        task.result()
    with pytest.raises(sk.ScopekitError, match="return a tuple of 2"):
        task.outputs["1"].result()


def test_an_error_of_the_function_ends_every_output(session):
    q, r = task = session.options(outputs=2).spawn(divmod, 1, 0)

    for each in (task, q, r):
        assert isinstance(each.exception(), ZeroDivisionError)


def test_it_is_a_future_like_any_other(session):
    called = []
    task = session.options(outputs=2).spawn(divmod, 7, 2)
    task.add_done_callback(called.append)

    assert concurrent.futures.wait([task, *task]).not_done == set()
    assert called == [task]
    assert task.exception() is None
    assert not isinstance(session.spawn(int), collections.abc.Iterable)


# -- as an argument, and in what is fetched ------------------------------------------------


def test_the_task_stands_for_the_tuple_and_an_output_for_itself(session):
    q, r = task = session.options(outputs=2).spawn(divmod, 7, 2)

    assert session.spawn(pair, task, r).result() == ((3, 1), 1)
    assert session.spawn(sum, task).result() == 4
    assert session.spawn(lambda x: x["a"], {"a": [task, q]}).result() == [(3, 1), 3]


def test_fetch_puts_tuples_in(session):
    q, r = task = session.options(outputs=2).spawn(pair, [1], [2])

    assert session.fetch({"a": task, "b": [r]}) == {"a": ([1], [2]), "b": [[2]]}
    raw = session.fetch([task, q], raw=True)
    assert [chunk.fetch() for chunk in raw[0]] == [[1], [2]]
    assert raw[1].id == raw[0][0].id
    assert session.wait([task]) == [task]


def test_a_task_of_several_results_cannot_be_called(session):
    task = session.options(outputs=2).spawn(pair, len, abs)

    with pytest.raises(TypeError, match=r"pair-1 gives several results.*outputs\['0'\]"):
        session.spawn(task, [1])
    assert session.spawn(task.outputs["1"], -1).result() == 1


def test_it_does_not_pickle_and_neither_do_its_outputs(session):
    task = session.options(outputs=2).spawn(divmod, 7, 2)

    for each in (task, *task):
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(each)


def test_tasks_spawn_tasks_of_several_results(session):
    def outer():
        q, r = task = sk.options(outputs=2).spawn(divmod, 7, 2)
        return task.result(), q.result(), sk.fetch([r]), sk.spawn(sum, task).result()

    assert session.spawn(outer).result() == ((3, 1), 3, [1], 4)


# -- what is kept ---------------------------------------------------------------------------


def test_an_output_that_nobody_holds_is_let_go(session):
    before = held(session)
    q, r = session.options(outputs=2).spawn(pair, [1], [2])
    assert held(session) == before + 2
    assert session.statistics()["chunks"] == 2

    del r
    gc.collect()

    assert held(session) == before + 1
    assert q.result() == [1]
    assert session.spawn(len, q).result() == 1


def test_the_task_keeps_all_of_its_outputs(session):
    task = session.options(outputs=2).spawn(pair, [1], [2])
    gc.collect()
    assert task.result() == ([1], [2])

    del task
    gc.collect()

    assert held(session) == 0
    assert session.statistics()["chunks"] == 0


# -- scopes -------------------------------------------------------------------------------


def test_one_result_scope_is_for_all_outputs(wide):
    scope = ExactScope(ThreadProc(0, 1))
    task = wide.options(outputs=2, result_scope=scope).spawn(pair, [1], [2])

    assert task.processor == ThreadProc(0, 1)
    assert [chunk.scope for chunk in wide.fetch(task, raw=True)] == [scope, scope]


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_each_output_may_have_a_scope_of_its_own(wide, kind):
    first = ExactScope(ThreadProc(0, 1)) | ExactScope(ThreadProc(0, 2))
    second = ExactScope(ThreadProc(0, 2))
    scopes = {"a": first, "b": None, "c": second}
    given = scopes if kind is dict else kind(scopes.values())
    task = wide.options(outputs=list("abc"), result_scope=given).spawn(lambda: (1, 2, [3]))

    assert task.processor == ThreadProc(0, 2)
    found = [chunk.scope for chunk in wide.fetch(task, raw=True)]
    assert found == [first, sk.AnyScope(), second]


def test_a_task_that_cannot_run_in_all_of_its_result_scopes_is_refused(wide):
    scopes = {"a": ExactScope(ThreadProc(0, 1)), "b": ExactScope(ThreadProc(0, 2))}

    with pytest.raises(sk.ScopeConflictError) as caught:
        wide.options(outputs=["a", "b"], result_scope=scopes).spawn(divmod, 7, 2)

    assert "result_scope= of 'a' allows worker 0, thread 1" in str(caught.value)
    assert "result_scope= of 'b' allows worker 0, thread 2" in str(caught.value)


def test_a_chunk_among_the_results_keeps_its_own_scope(wide):
    scope = ExactScope(ThreadProc(0, 1))

    def work():
        return sk.tochunk([1], scope=scope), [2]

    task = wide.options(outputs=2, result_scope=ProcessScope(0)).spawn(work)

    found = [chunk.scope for chunk in wide.fetch(task, raw=True)]
    assert found == [scope, ProcessScope(0)]
    assert task.result() == ([1], [2])


def test_a_block_gives_outputs_and_their_scopes_and_an_inner_word_wins(session):
    with sk.with_options(outputs=["a", "b"], result_scope={"b": A}):
        assert sk.get_options("outputs") == ("a", "b")
        task = session.spawn(divmod, 7, 2)
        assert [chunk.scope for chunk in session.fetch(task, raw=True)] == [sk.AnyScope(), A]
        other = session.options(result_scope={"a": A}).spawn(divmod, 7, 2)
        assert [chunk.scope for chunk in session.fetch(other, raw=True)] == [A, sk.AnyScope()]
        with pytest.raises(sk.ScopeError, match=r"has 2 scopes.* the task has 3 outputs"):
            session.options(outputs=3).spawn(divmod, 7, 2)


def test_plans_know_the_scopes_of_outputs(wide):
    scopes = {"b": ExactScope(ThreadProc(0, 2))}
    explanation = wide.options(outputs=["a", "b"], result_scope=scopes).plan(divmod, 7, 2)

    assert explanation.chosen == ThreadProc(0, 2)
    assert "result_scope= of 'b'" in str(explanation)


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outputs", [0, -1, True, 1.5, "ab", [], ["a", "a"], ["a", 1], [""], {"a", "b"}], ids=repr
)
def test_outputs_that_make_no_sense_are_refused(outputs):
    with pytest.raises(sk.ScopeError, match="outputs="):
        Options.checked({"outputs": outputs}, "options")


@pytest.mark.parametrize(
    ("scopes", "text"),
    [
        ([A], "has 1 scopes for the 2 outputs a, b"),
        ((A, A, A), "has 3 scopes for the 2 outputs a, b"),
        ({"a": A, "c": A}, "names the output 'c'; the outputs are a, b"),
        ([A, 1.5], "no scope can be made from 1.5"),
    ],
)
def test_scopes_that_do_not_fit_the_outputs_are_refused(scopes, text):
    with pytest.raises(sk.ScopeError, match=text):
        Options.checked({"outputs": ["a", "b"], "result_scope": scopes}, "options")


def test_without_outputs_records_and_tuples_are_scopes_as_ever():
    given = Options.checked({"result_scope": (A, B)}, "options")
    assert operands(given)[1] == ("result_scope=", A | B)
    given = Options.checked({"outputs": 2, "result_scope": {"worker": 1}}, "options")
    assert operands(given)[1] == ("result_scope=", sk.scope(worker=1))
