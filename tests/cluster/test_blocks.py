"""Options of blocks and of functions, as far as they reach: into tasks, and what these spawn."""

import asyncio
import contextvars
import sys
import threading

import cloudpickle
import pytest

import scopekit as sk
from scopekit import NodeScope, ProcessScope

# Functions travel as those of a notebook do.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

NODE_A, NODE_B = NodeScope("a"), NodeScope("b")
E10 = sk.ExactScope(sk.ThreadProc(1, 0))


@pytest.fixture
def elsewhere(request):
    """Tell a test that its tasks spawn elsewhere than where they run."""
    if request.config.getoption("--wire") == "views":
        pytest.skip("over views a task spawns where it runs alone")


def where(*_args, **_kwargs):
    return sk.myid()


def node(*_args, **_kwargs):
    return sk.current_task().node


def children(count=2):
    """Spawn children and children of theirs; tell where all of them ran."""
    nested = [sk.spawn(grandchild) for _ in range(count)]
    return [sk.myid(), *(place for places in sk.fetch(nested) for place in places)]


def grandchild():
    return sk.myid(), sk.spawn(where).result()


def asked(key, *default):
    return sk.get_options(key, *default)


@pytest.mark.parametrize(
    ("key", "default"), [("scope", sk.AnyScope()), ("single", 0), ("wait_for", 3.0)]
)
def test_outside_of_blocks_an_option_has_the_default_that_is_asked_for(session, key, default):
    """C135, C136."""
    assert sk.get_options(key, default) == default
    assert session.spawn(asked, key, default).result(20) == default
    with pytest.raises(KeyError, match="not set"):
        sk.get_options(key)
    with pytest.raises(KeyError, match="not set"):
        session.spawn(asked, key).result(20)


def test_coroutines_and_threads_with_the_context_see_a_block(session):
    """C137."""
    seen = {}

    async def in_a_coroutine():
        inner = asyncio.get_running_loop().create_task(spawned())
        return await inner

    async def spawned():
        return await session.spawn(where)

    def in_a_thread():
        seen["thread"] = session.spawn(where).result(20)

    with sk.with_options(scope=ProcessScope(1)):
        seen["coroutine"] = asyncio.run(in_a_coroutine())
        thread = threading.Thread(target=contextvars.copy_context().run, args=(in_a_thread,))
        thread.start()
        thread.join(20)

    assert seen == {"coroutine": 1, "thread": 1}


def test_coroutines_of_a_task_see_the_block_around_its_spawn(session):
    """C137: inside of a task as outside."""

    async def outer():
        async def inner():
            return await sk.spawn(where)

        return await asyncio.gather(inner(), inner())

    with sk.with_options(scope=ProcessScope(1)):
        task = session.spawn(outer)

    assert task.result(20) == [1, 1]


def test_a_task_s_own_block_holds_for_what_it_spawns_inside(session):
    """C138."""

    def outer():
        with sk.with_options(scope=sk.ProcessScope(sk.myid()), wait_for=1):
            return sk.spawn(asked, "wait_for").result(), sk.get_options("wait_for")

    with sk.with_options(scope=NODE_A, wait_for=2):
        assert session.spawn(outer).result(20) == (1, 1)
        assert sk.get_options("wait_for") == 2


def test_options_of_nested_blocks_are_all_there(session):
    """C139."""
    with sk.with_options(scope=NODE_B), sk.with_options(retries=2):
        assert sk.get_options("scope") == NODE_B
        assert session.spawn(asked, "scope").result(20) == NODE_B
        assert session.spawn(asked, "retries").result(20) == 2


@pytest.mark.parametrize("worker", [0, 3])
def test_a_block_s_scope_reaches_children_at_every_depth(session, worker):
    """C129, C140."""
    with sk.with_options(scope=ProcessScope(worker)):
        task = session.spawn(children)
    assert set(task.result(20)) == {worker}

    with sk.with_options(single=worker):
        task = session.spawn(children)
    assert set(task.result(20)) == {worker}


def test_what_is_said_at_a_spawn_stays_with_its_task(session, elsewhere):
    """C140: the other half; the children go where there is room."""

    def outer():
        return sk.get_options("scope", None), sk.spawn(node, scope=sk.NodeScope("b")).result()

    assert session.spawn(outer, scope=NODE_A).result(20) == (None, "b")


def test_what_is_to_propagate_reaches_the_children(session):
    """C142."""

    def outer():
        inner = sk.spawn(asked, "propagates", None)
        return sk.get_options("scope"), sk.spawn(where).result(), inner.result()

    task = session.options(scope=E10, propagates=["scope"]).spawn(outer)

    assert task.result(20) == (E10, 1, None)


def test_an_option_that_is_no_option_does_not_propagate(session):
    with pytest.raises(sk.ScopeError, match="no option 'colour'"):
        session.options(propagates=["scope", "colour"])


def test_a_task_has_the_value_that_its_spawn_gave_of_a_block_s_option(session):
    """C143."""
    with sk.with_options(scope=NODE_A, retries=3):
        task = session.spawn(asked, "scope", scope=NODE_B)
        hidden = session.options(compute_scope=NODE_B).spawn(asked, "scope", None)
        other = session.spawn(asked, "retries", scope=NODE_B)

    assert task.result(20) == NODE_B
    assert hidden.result(20) is None
    assert other.result(20) == 3


def test_unknown_options_are_refused_where_they_are_written(session):
    """C145, C146."""
    with pytest.raises(sk.ScopeError, match="no option 'unknown'"), sk.with_options(unknown=1):
        pass
    with pytest.raises(sk.ScopeError, match="no option 'unknown'"):
        session.options(unknown=1)

    def outer():
        with sk.with_options(unknown=1):
            pass

    with pytest.raises(sk.ScopeError, match="no option 'unknown'"):
        session.spawn(outer).result(20)


@pytest.mark.parametrize("key", ["unknown_option", "retries", "self"])
def test_a_keyword_that_the_function_has_not_is_refused_at_the_spawn(session, key):
    """C146: spawn takes three options alone; all else is the function's."""

    def takes(one, /, two=2, *, three=3):
        return one, two, three

    with pytest.raises(TypeError, match=f"takes\\(\\) has no argument '{key}'"):
        session.spawn(takes, 1, **{key: 1})
    with pytest.raises(TypeError, match=r"write options\(retries=\.\.\.\)"):
        session.spawn(takes, 1, retries=1)
    assert session.spawn(takes, 1, two=5, three=6).result(20) == (1, 5, 6)


def test_a_block_ends_also_with_an_error(session):
    """C147."""
    with pytest.raises(ZeroDivisionError), sk.with_options(scope=NODE_B), sk.perimeter(NODE_B):
        raise ZeroDivisionError
    with sk.with_options(scope=NODE_A):
        pass

    assert sk.get_options("scope", None) is None
    assert len(session.compatible_processors()) == 8


def test_a_task_s_blocks_end_with_it(session):
    """C147: also where a task leaves one open."""

    def outer():
        block = sk.with_options(scope=sk.NodeScope("b"))
        block.__enter__()
        return sk.get_options("scope")

    here = ProcessScope(0)
    assert session.spawn(outer, scope=here).result(20) == NODE_B
    for _ in range(4):
        assert session.spawn(asked, "scope", None, scope=here).result(20) is None


@sk.default_options(scope=ProcessScope(3), retries=1)
def with_defaults():
    return sk.myid()


def test_options_of_a_function_hold_unless_others_are_given(session):
    """C148."""
    assert session.spawn(with_defaults).result(20) == 3
    assert session.spawn(with_defaults, scope=ProcessScope(1)).result(20) == 1
    with sk.with_options(scope=ProcessScope(2)):
        assert session.spawn(with_defaults).result(20) == 2
    with sk.with_options(retries=2):
        assert session.spawn(with_defaults).result(20) == 3
    assert session.spawn(where, scope=NODE_A).result(20) in (0, 1)


def test_options_of_a_function_hold_in_tasks_and_in_a_plan(session, elsewhere):
    """C148."""

    def outer():
        return sk.spawn(with_defaults).result()

    assert session.spawn(outer, scope=ProcessScope(0)).result(20) == 3
    assert session.plan(with_defaults).chosen.worker == 3


def test_what_a_function_s_options_forbid_is_told_with_its_name(session):
    """C148."""
    with pytest.raises(sk.ScopeConflictError, match=r"default_options of with_defaults scope="):
        session.spawn(with_defaults, result_scope=NODE_A)


def test_options_are_never_changed_by_a_spawn(session):
    """C149."""
    scopes = {"workers": [1]}
    options = session.options(scope=scopes, retries=1, propagates=["retries"])
    before = repr(options._given)

    with sk.with_options(scope=NODE_B, name="outer"):
        tasks = [options.spawn(where) for _ in range(3)]

    assert session.fetch(tasks) == [1, 1, 1]
    assert repr(options._given) == before
    assert scopes == {"workers": [1]}


def test_an_option_that_says_the_default_wins_over_a_block(session):
    with sk.with_options(retries=2):
        task = session.options(retries=0).spawn(asked, "retries")
        with sk.with_options(retries=0):
            assert sk.get_options("retries") == 0

    assert task.result(20) == 0


def test_a_perimeter_holds_for_what_tasks_spawn(session, elsewhere):
    def widen():
        try:
            sk.spawn(where, scope=sk.NodeScope("a"))
        except sk.ScopeConflictError as refusal:
            return str(refusal)
        return "spawned"

    def outer():
        with sk.with_options(scope=sk.AnyScope()):
            return sk.spawn(widen).result()

    with sk.perimeter(NODE_B):
        task = session.spawn(outer)
        deep = session.spawn(children)

    assert "perimeter allows node b" in task.result(20)
    assert set(deep.result(20)) <= {2, 3}
    assert session.spawn(widen).result(20) == "spawned"


def test_a_block_reaches_a_task_that_waits_for_its_input(session):
    with sk.with_options(scope=NODE_B):
        first = session.spawn(where)
        second = session.spawn(lambda _: asked("scope"), first)

    assert second.result(20) == NODE_B


def test_thousands_of_tasks_of_a_block_all_know_it(session):
    with sk.with_options(scope=NODE_B, retries=1):
        tasks = [session.spawn(asked, "retries") for _ in range(2000)]
    plain = [session.spawn(asked, "retries", 0) for _ in range(2000)]

    assert set(session.fetch(tasks)) == {1}
    assert set(session.fetch(plain)) == {0}


def test_in_this_process_blocks_reach_as_far():
    def outer():
        return sk.spawn(asked, "retries").result(), sk.get_options("retries")

    with sk.start(0) as session:
        with sk.with_options(retries=2):
            task = session.options(retries=1).spawn(outer)
        assert task.result() == (1, 1)
        with sk.with_options(retries=2):
            assert session.spawn(outer).result() == (2, 2)
        with pytest.raises(KeyError):
            session.spawn(outer).result()


def test_processors_that_a_task_asks_for_are_those_of_its_block(session):
    def outer():
        return sk.compatible_processors(), sk.num_processors(), sk.num_processors(all=True)

    with sk.with_options(scope=sk.scope(worker=1)):
        task = session.spawn(outer)

    found, count, everything = task.result(20)
    assert set(found) == {sk.ThreadProc(1, 0), sk.ThreadProc(1, 1)}
    assert (count, everything) == (2, 9)
    assert session.spawn(outer).result(20)[1:] == (8, 9)
