import collections
import functools
import threading

import pytest

from scopekit.pinning.naming import ways_to

LOOKED_FOR = object()
GLOBAL = {"inner": [LOOKED_FOR]}


class Slotted:
    __slots__ = ("_part", "empty")

    def __init__(self, part):
        self._part = part


class Plain:
    def __init__(self, part):
        self.part = part

    def method(self):
        return self.part


def reads_global():
    return [GLOBAL for _ in range(3)]


def reads_global_inside():
    return lambda: GLOBAL


def in_closure(value):
    def function():
        return value

    return function


Pair = collections.namedtuple("Pair", "one two")  # noqa: PYI024
found = LOOKED_FOR


@pytest.mark.parametrize(
    ("root", "text", "variable"),
    [
        (LOOKED_FOR, "x", "x"),
        ([1, [LOOKED_FOR]], "x[1][0]", "x"),
        ({"db": LOOKED_FOR}, "x['db']", "db"),
        ({"a key": LOOKED_FOR}, "x['a key']", "x"),
        ({"k" * 100: LOOKED_FOR}, "x[...]", "k" * 100),
        ({LOOKED_FOR: 1}, "a key of x", "x"),
        ({LOOKED_FOR}, "an element of x", "x"),
        (Pair(1, LOOKED_FOR), "x[1]", "x"),
        (collections.deque([LOOKED_FOR]), "x[0]", "x"),
        (collections.OrderedDict(a=LOOKED_FOR), "x['a']", "a"),
        (Plain(Plain(LOOKED_FOR)), "x.part.part", "part"),
        (Slotted(LOOKED_FOR), "x._part", "part"),
        (functools.partial(print, LOOKED_FOR), "x.args[0]", "x"),
        (functools.partial(print, end=LOOKED_FOR), "x.keywords['end']", "end"),
    ],
    ids=str,
)
def test_a_part_is_named_by_the_way_to_it(root, text, variable):
    way = ways_to([("x", root)], [LOOKED_FOR])[id(LOOKED_FOR)]

    assert (way.text, way.variable) == (text, variable)
    assert way.told() == text


def as_default(db=LOOKED_FOR):
    return db


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (in_closure(LOOKED_FOR), "value, a variable in the closure of function,"),
        (in_closure([LOOKED_FOR]), "value[0] (value is a variable in the closure of function)"),
        (as_default, "db, the default of a parameter of as_default,"),
        (Plain(LOOKED_FOR).method, "self.part (self is the object of the method method)"),
    ],
)
def test_what_a_function_takes_along_is_named_by_its_variable(function, told):
    way = ways_to([("f", function)], [LOOKED_FOR])[id(LOOKED_FOR)]

    assert way.told() == told


@pytest.mark.parametrize("name", ["reads_global", "reads_global_inside"])
def test_a_global_variable_is_one_of_a_function_that_goes_by_value(name):
    namespace = {"GLOBAL": GLOBAL, "__name__": "__main__", "OTHER": [LOOKED_FOR]}
    exec(f"def {name}():\n    return lambda: GLOBAL", namespace)
    way = ways_to([("f", namespace[name])], [LOOKED_FOR])[id(LOOKED_FOR)]

    assert way.told() == f"GLOBAL['inner'][0] (GLOBAL is a global variable that {name} uses)"
    # One that is imported by its name takes no globals along.
    assert ways_to([("f", globals()[name])], [LOOKED_FOR]) == {}


def test_the_nearest_way_is_told_and_the_root_that_it_is_in():
    deep = [[[LOOKED_FOR]]]
    way = ways_to([("x", deep), ("y", [LOOKED_FOR])], [LOOKED_FOR])[id(LOOKED_FOR)]

    assert (way.root, way.text) == (1, "y[0]")


def test_what_is_not_there_is_not_found_and_circles_end():
    circle = [1]
    circle.append(circle)

    assert ways_to([("x", circle)], [LOOKED_FOR]) == {}


def test_nothing_is_asked_for_an_attribute():
    class Remote:
        def __init__(self):
            object.__setattr__(self, "inner", LOOKED_FOR)

        def __getattribute__(self, name):
            raise AssertionError(f"asked for {name}, over the network")

    assert ways_to([("x", Remote())], [LOOKED_FOR])[id(LOOKED_FOR)].text == "x.inner"


def test_the_object_of_a_method_in_c_is_found():
    lock = threading.Lock()

    assert ways_to([("f", lock.acquire)], [lock])[id(lock)].text == "self"
