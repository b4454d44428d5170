"""A function around another one looks like that one, and is pickled once."""

import pickle
import types

import pytest

from scopekit.engine.functions import ReceivedFunction
from scopekit.spawning import around, function_name
from scopekit.wire.around import Around, innermost
from scopekit.wire.codec import dump_value, load_value, pack_call
from scopekit.wire.fingerprint import fingerprint


def outer(head, f, /, *args, **kwargs):
    return head, f(*args, **kwargs)


def inner(x, self=0):
    return x + self


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return self.count


def cell(source):
    namespace = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace["f"]


def test_the_outer_function_gets_the_inner_one_and_every_argument():
    assert Around(outer, ("head",), inner)(1, self=2) == ("head", 3)


def test_it_survives_pickling():
    made = pickle.loads(pickle.dumps(Around(outer, ("head",), inner)))

    assert made(1, self=2) == ("head", 3)


def test_it_has_the_inner_function_s_name():
    assert function_name(Around(outer, ("head",), inner)) == "inner"
    assert function_name(Around(outer, ("head",), Around(outer, ("h",), inner))) == "inner"


def test_it_has_the_names_of_the_inner_function_s_arguments():
    with pytest.raises(Exception, match="argument 'x'"):
        pack_call(Around(outer, ("head",), inner), (iter_of_here(),), {}, name="t")


def iter_of_here():
    yield 1


def test_any_number_of_them_may_be_around_a_function():
    assert innermost(Around(outer, (), Around(outer, (), inner))) is inner
    assert innermost(inner) is inner


def test_one_and_the_same_function_is_pickled_once():
    f = cell("def f(x): return x + 1")
    one, other = (pack_call(Around(outer, (b"head",), f), (1,), {}, name="t") for _ in range(2))

    assert one.function is other.function


def test_what_is_around_a_function_tells_it_apart():
    prints = [
        fingerprint(made)
        for made in (
            inner,
            Around(outer, (b"a",), inner),
            Around(outer, (b"b",), inner),
            Around(dump_value, (b"b",), inner),
            Around(outer, (b"b",), len),
        )
    ]

    assert None not in prints
    assert len(set(prints)) == len(prints)


def test_around_something_that_may_change_nobody_can_tell_without_a_pickle():
    assert fingerprint(Around(outer, (), Counter())) is None
    assert fingerprint(Around(outer, ([],), inner)) is None


def test_around_an_object_that_is_called_each_task_gets_a_copy():
    made = ReceivedFunction(dump_value(Around(outer, ("h",), Counter())))

    assert [made.load()() for _ in range(3)] == [("h", 1)] * 3


def test_around_a_function_it_is_read_once():
    made = ReceivedFunction(dump_value(Around(outer, ("h",), inner)))

    assert made.load() is made.load()


def test_a_handle_to_a_function_goes_among_the_arguments():
    from scopekit.handles import Chunk

    home = types.SimpleNamespace(release_chunk=lambda _: None)
    chunk = Chunk(home, 7, {})

    function, args = around(outer, ("head",), chunk, (1, 2))

    assert args == (chunk, 1, 2)
    assert function_name(function) == "chunk 7"
    assert function(inner, 1, 2) == ("head", 3)
    assert load_value(dump_value(function))(inner, 1) == ("head", 1)
