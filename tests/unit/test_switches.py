"""The options meta and get_result, in this very process."""

import gc

import pytest

import scopekit as sk
from scopekit import ExactScope, ThreadProc
from scopekit.options import Options

SECOND = ExactScope(ThreadProc(0, 1))


@pytest.fixture
def wide():
    with sk.start(0, threads=3) as session:
        yield session


def held(session):
    gc.collect()
    for _ in range(2):
        session._driver.catch_up()
        session.spawn(int)  # without threads, the agent looks around when there is work
    return len(session._agent.store)


def same(x):
    return x


def test_the_function_gets_handles_in_place_of_the_values_of_its_inputs(wide):
    """C122."""
    chunk = wide.tochunk([1, 2], scope=SECOND)
    made = wide.spawn(list, "ab")

    def look(one, other, *, inside, plain):
        handles = (one, other, *inside)
        kinds = {isinstance(each, sk.Chunk) for each in handles}
        return kinds, plain, one.scope, one.type, [each.fetch() for each in handles]

    task = wide.options(meta=True).spawn(look, chunk, made, inside=[chunk], plain=[7])

    assert task.result() == ({True}, [7], SECOND, "list", [[1, 2], ["a", "b"], [1, 2]])


def test_plain_calls_get_handles_too(wide):
    made = wide.spawn(abs, -1)

    assert wide.options(meta=True).spawn(lambda x, y: (type(x).__name__, y), made, 3).result() == (
        "Chunk",
        3,
    )


def test_a_handle_that_is_returned_is_passed_on_with_its_own_scope(wide):
    value = [1]
    chunk = wide.tochunk(value, scope=SECOND)

    task = wide.options(meta=True).spawn(same, chunk)

    assert wide.fetch(task, raw=True).scope == SECOND
    assert task.result() is value


def test_scopes_of_inputs_count_as_ever(wide):
    """C123."""
    chunk = wide.tochunk([1], scope=SECOND)

    assert wide.options(meta=True).spawn(same, chunk).processor == ThreadProc(0, 1)
    with pytest.raises(sk.ScopeConflictError):
        wide.options(meta=True, scope=ExactScope(ThreadProc(0, 2))).spawn(same, chunk)


def test_a_function_that_is_a_chunk_is_called_all_the_same(wide):
    function = wide.tochunk(lambda x: type(x).__name__)

    assert wide.options(meta=True).spawn(function, wide.tochunk(1)).result() == "Chunk"


def test_a_block_says_meta_beside_a_scope(wide):
    """C139."""
    with sk.with_options(scope=SECOND), sk.with_options(meta=True):
        assert (sk.get_options("scope"), sk.get_options("meta")) == (SECOND, True)
        task = wide.spawn(lambda x: isinstance(x, sk.Chunk), wide.tochunk(1))

    assert task.result() is True
    assert task.processor == ThreadProc(0, 1)
    assert sk.get_options("meta", False) is False


def test_parts_of_several_results_are_handles_and_may_be_handles(wide):
    both = wide.options(outputs=2).spawn(lambda: ([1], [2]))

    one, other = wide.options(meta=True, outputs=2).spawn(lambda pair: pair[::-1], both)

    assert (one.result(), other.result()) == ([2], [1])


def test_a_task_spawns_with_the_handles_that_it_got(wide):
    def outer(x):
        return sk.spawn(len, x).result()

    assert wide.options(meta=True).spawn(outer, wide.tochunk([1, 2])).result() == 2


def test_a_handle_that_a_task_keeps_in_its_result_keeps_the_value(wide):
    before = held(wide)
    made = wide.spawn(list, "ab")
    kept = wide.options(meta=True).spawn(lambda x: [x], made)
    assert isinstance(kept.result()[0], sk.Chunk)

    del made
    assert held(wide) == before + 2
    assert wide.spawn(lambda x: x[0].fetch(), kept).result() == ["a", "b"]

    del kept
    assert held(wide) == before


def test_without_engines_every_result_is_here(wide):
    task = wide.options(get_result=True).spawn(list, "ab")

    assert task.done()
    assert task.result() == ["a", "b"]


@pytest.mark.parametrize("name", ["meta", "get_result"])
@pytest.mark.parametrize("value", [1, 0, "yes", None], ids=repr)
def test_switches_are_true_or_false(name, value):
    with pytest.raises(sk.ScopeError, match=f"{name}="):
        Options.checked({name: value}, "options")
