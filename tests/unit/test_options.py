import asyncio
import threading

import pytest

import scopekit as sk
from scopekit.errors import ScopeError
from scopekit.graph import Wish
from scopekit.options import (
    Options,
    block_options,
    get_options,
    operands,
    perimeter,
    prefer,
    with_options,
)
from scopekit.scopes import (
    AnyScope,
    DefaultScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
)

A, B = NodeScope("a"), NodeScope("b")


def given(**options):
    return operands(Options.checked(options, "spawn"))


def test_without_a_word_the_default_scope_counts():
    assert given() == (("default", DefaultScope()),)


def test_compute_scope_wins_over_scope():
    assert given(scope=A, compute_scope=B) == (("compute_scope=", B),)


def test_a_result_scope_is_an_operand_beside_the_default():
    assert given(result_scope=A) == (("default", DefaultScope()), ("result_scope=", A))


def test_single_means_the_threads_of_a_worker():
    assert given(single=3) == (("single=", ProcessorTypeScope(ThreadProc, ProcessScope(3))),)


def test_a_block_s_scope_is_a_default():
    with with_options(scope=A):
        assert given() == (("with_options scope=", A),)
        assert given(scope=B) == (("scope=", B),)
        assert given(single=1)[0][0] == "single="


def test_the_innermost_block_wins():
    with with_options(compute_scope=A, name="outer"):
        with with_options(scope=B):
            assert given() == (("with_options scope=", B),)
            assert get_options("name") == "outer"
        assert given() == (("with_options compute_scope=", A),)


def test_an_inner_result_scope_hides_the_outer_one():
    with with_options(result_scope=A):
        assert ("with_options result_scope=", A) in given()
        assert given(result_scope=B)[1:] == (("result_scope=", B),)


def test_blocks_end_with_their_block_whatever_happens():
    with pytest.raises(KeyError), with_options(scope=A), perimeter(A):
        raise KeyError

    assert given() == (("default", DefaultScope()),)
    assert block_options() == Options()


def test_a_perimeter_narrows_and_nothing_widens_it():
    with perimeter(A):
        assert given(scope=AnyScope()) == (("scope=", AnyScope()), ("perimeter", A))
        with perimeter(AnyScope()):
            assert given()[-1] == ("perimeter", A)
        with perimeter(ProcessScope(1)):
            assert given()[-1] == ("perimeter", A & ProcessScope(1))


def test_threads_and_coroutines_have_blocks_of_their_own():
    seen = []
    with with_options(name="mine"):
        thread = threading.Thread(target=lambda: seen.append(get_options("name", None)))
        thread.start()
        thread.join()

        async def one(name):
            with with_options(name=name):
                await asyncio.sleep(0)
                return get_options("name")

        async def both():
            return await asyncio.gather(one("x"), one("y"))

        seen += asyncio.run(both())

    assert seen == [None, "x", "y"]


@pytest.mark.parametrize(
    "options",
    [
        {"wait_for": -1},
        {"wait_for": "10"},
        {"name": 3},
        {"idempotent": "yes"},
        {"timeout": 0},
        {"timeout": -1.5},
        {"timeout": "10"},
        {"timeout": True},
        {"scope": 1.5},
        {"single": "x y"},
        {"prefer": 1.5},
        {"prefer": []},
        {"prefer": ["nowhere"]},
        {"prefer": {"wroker": 1}},
        {"priority": "high"},
        {"priority": 1.5},
        {"priority": True},
        {"priority": None},
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(options):
    with pytest.raises(ScopeError):
        Options.checked(options, "spawn")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"wait_for": float("nan")}, id="nan"),
        pytest.param({"wait_for": True}, id="bool"),
        pytest.param({"timeout": float("nan")}, id="nan-timeout"),
        pytest.param({"timeout": float("inf")}, id="inf-timeout"),
    ],
)
def test_what_is_no_number_of_seconds_is_refused(options):
    with pytest.raises(ScopeError):
        Options.checked(options, "spawn")


def test_a_misspelt_option_is_answered_with_the_nearest():
    with pytest.raises(ScopeError, match=r"Did you mean compute_scope=\?"):
        Options.checked({"compute_scoep": A}, "spawn")
    with pytest.raises(ScopeError, match="no option 'priorityy'"), with_options(priorityy=1):
        pass


def test_preferences_are_a_scope_or_several_in_order():
    def read(value):
        return Options.checked({"prefer": value}, "options").prefer

    assert read(A) == read([A]) == read(prefer(A)) == (Wish(A, 0.0),)
    assert read((A, prefer({"node": "b"}, busy=2))) == (Wish(A, 0.0), Wish(sk.scope(node="b"), 2))
    assert read(None) == ()
    with with_options(prefer=A):
        assert get_options("prefer") == (Wish(A, 0.0),)


@pytest.mark.parametrize("busy", [-1, "1", True, None, float("nan")], ids=repr)
def test_patience_is_a_number_of_seconds(busy):
    with pytest.raises(ScopeError, match="busy="):
        prefer(A, busy=busy)


def test_options_of_blocks_are_asked_for_by_name():
    with pytest.raises(KeyError, match="not set"):
        get_options("scope")
    assert get_options("scope", None) is None
    with pytest.raises(ScopeError, match="no option"):
        get_options("colour")
    with with_options(scope=A):
        assert get_options("scope") == A


def test_keywords_go_to_the_function_where_options_come_first():
    with sk.start(0) as session:
        task = session.options(name="named").spawn(dict, scope="mine", name="yours")

        assert task.name == "named"
        assert task.fetch() == {"scope": "mine", "name": "yours"}


def test_an_unknown_worker_is_refused_where_a_session_knows_better():
    with sk.start(0), pytest.raises(ScopeError, match="no such worker"):
        Options.checked({"single": 77}, "spawn")
