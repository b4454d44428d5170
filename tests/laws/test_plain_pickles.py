"""Plain data is pickled to the very bytes that it would be without a rule in the world."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import pickle
import uuid

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekit.pinning.place import Place
from scopekit.pinning.search import implied_by
from scopekit.places import Process, Topology
from scopekit.scopes import ThreadProc
from scopekit.wire.codec import dump_value, load_value

HERE = Place(ThreadProc(0, 0), Topology([Process.with_threads(0, "a")]))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object


class Own:
    def __init__(self, held):
        self.held = held


Pair = collections.namedtuple("Pair", "one two")  # noqa: PYI024

atoms = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.complex_numbers()),
    *(st.text(max_size=20), st.binary(max_size=20), st.dates(), st.datetimes(), st.timedeltas()),
    *(st.decimals(allow_nan=False), st.fractions(), st.uuids(), st.sampled_from(Colour)),
    st.builds(pathlib.PurePosixPath, st.text("abc/", max_size=10)),
    st.builds(range, st.integers(0, 9)),
    st.builds(ValueError, st.text(max_size=5)),
    st.builds(slice, st.integers(0, 9), st.integers(0, 9)),
    st.builds(bytearray, st.binary(max_size=5)),
)
keys = st.one_of(st.integers(), st.text(max_size=8), st.booleans(), st.sampled_from(Colour))


def containers(inner):
    return st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=4),
        st.frozensets(keys, max_size=4),
        st.builds(collections.deque, st.lists(inner, max_size=3)),
        st.builds(collections.OrderedDict, st.dictionaries(keys, inner, max_size=3)),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Own, inner),
    )


plain = st.recursive(atoms, containers, max_leaves=20)


@given(plain)
@settings(max_examples=400, deadline=None)
def test_plain_data_is_pickled_to_the_same_bytes(value):
    assert dump_value(value) == cloudpickle.dumps(value, protocol=5)


@given(plain)
@settings(max_examples=200, deadline=None)
def test_plain_data_is_valid_anywhere(value):
    assert implied_by(value, HERE, []) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda np: np.arange(12.0).reshape(3, 4),
        lambda np: np.arange(12.0).reshape(3, 4).T[::2],
        lambda np: np.array(["a", None], dtype=object),
        lambda np: np.float64(3),
        lambda np: {"weights": [np.zeros(3), np.ones((2, 2), "int8")]},
        lambda np: np.zeros(3).astype("datetime64[s]"),
        lambda np: np.zeros(3).dtype,
    ],
)
def test_so_are_arrays(make):
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    value = make(np)

    assert dump_value(value) == cloudpickle.dumps(value, protocol=5)
    assert implied_by(value, HERE, []) is None


def of_the_notebook(text):
    namespace = {"__name__": "__main__"}
    exec(text, namespace)
    return namespace["made"]


@pytest.mark.parametrize(
    "text",
    [
        "def made(x, y=3):\n    return x + y",
        "made = lambda x: x",
        "class made:\n    part = 3\n    def method(self):\n        return self",
        "import functools\nmade = functools.partial(print, 1)",
        "import json\ndef made():\n    return json.dumps(3)",
        "def outer(z):\n    return lambda: z\nmade = outer([1, 2])",
    ],
)
def test_so_are_functions_and_classes_of_a_notebook(text):
    """A class is given a number as it is pickled, so two pickles of it differ in that."""
    value = of_the_notebook(text)

    assert dump_value(value) == cloudpickle.dumps(value, protocol=5)


def test_what_is_read_back_is_what_was_there():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    value = {"at": now, "id": uuid.UUID(int=3), "share": fractions.Fraction(1, 3)}

    assert load_value(dump_value(value)) == value
    assert pickle.loads(dump_value([decimal.Decimal("1.5")])) == [decimal.Decimal("1.5")]
