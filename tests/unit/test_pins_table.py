"""Every row of the table of pins, with real objects where their libraries are installed."""

import contextlib
import copyreg
import ctypes
import functools
import io
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile
import threading
from unittest.mock import MagicMock
from xml.etree import ElementTree as ET

import pinned
import pytest

from scopekit.pinning.giving import GivingJudge
from scopekit.pinning.hook import PinnedError, StayingJudge
from scopekit.pinning.place import Place
from scopekit.pinning.registry import CODE, PLAIN, registry
from scopekit.pinning.search import implied_by
from scopekit.pinning.table import TABLE, in_force
from scopekit.places import Process, Topology
from scopekit.scopes import ExactScope, NodeScope, ProcessScope, ThreadProc
from scopekit.wire.codec import dump_value, load_value

TOPOLOGY = Topology([Process.with_threads(worker, node) for worker, node in enumerate("aab")])
HERE = Place(ThreadProc(0, 0), TOPOLOGY)
SCOPES = {
    "thread": ExactScope(ThreadProc(0, 0), node="a"),
    "process": ProcessScope(0, node="a"),
    "node": NodeScope("a"),
}
# Rows that are free, so that they have no rule of their own, each with what else sees to them.
WITHOUT_RULE = {
    3: "a closed file is refused by the rule for files, as closed",
    7: "a path is a text; what is not found on an engine says so",
    9: "plain data",
    27: "thousands of types: the message tells how to register one",
    59: "a plan of a query: what is not found on an engine says so",
}


@pytest.fixture
def stack():
    with contextlib.ExitStack() as made:
        yield made


@pytest.fixture
def build(tmp_path, stack):
    return lambda case: case.build(tmp_path, stack)


class Holder:
    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value


def in_closure(value):
    return lambda: value


def as_default(value):
    def function(x=value):
        return x

    return function


HIDINGS = {
    "itself": lambda value: value,
    "list": lambda value: [1, [value]],
    "dict": lambda value: {"a": {"b": value}},
    "tuple": lambda value: (1, (value,)),
    "attribute": Holder,
    "bound method": lambda value: Holder(value).method,
    "closure": in_closure,
    "default": as_default,
    "partial": lambda value: functools.partial(print, value),
}


class Noting(StayingJudge):
    def __init__(self):
        super().__init__(HERE)
        self.notes = []

    def note(self, value, rule):
        self.notes.append((value, rule))


def met_in(value):
    judge = Noting()
    dump_value(value, None, judge)
    return judge


@pytest.mark.parametrize("case", pinned.CASES, ids=str)
def test_an_object_is_bound_as_the_table_says(case, build):
    rule = registry.rule_for(build(case))

    assert rule is not None
    assert (rule.row, rule.level, rule.strength) == (case.row, case.level, case.strength)


@pytest.mark.parametrize("hide", HIDINGS)
@pytest.mark.parametrize("case", pinned.CASES, ids=str)
def test_it_is_met_wherever_it_hides(case, hide, build):
    value = build(case)
    judge = met_in(HIDINGS[hide](value))

    if case.strength == "hard" and case.level != "free":
        assert value in [met for met, _ in judge.met] or judge.met[0][0] is value
        assert judge.met[0][1].scope == SCOPES[case.level]
    elif case.row != 79:
        assert any(noted is value for noted, _ in judge.notes)


@pytest.mark.parametrize("case", [c for c in pinned.CASES if c.strength == "hard"], ids=str)
def test_nothing_goes_that_is_bound_and_that_nobody_judges(case, build):
    value = build(case)
    if case.level == "free":
        assert dump_value(value)
        return

    with pytest.raises(PinnedError):
        dump_value([value])


@pytest.mark.parametrize(
    "case", [c for c in pinned.CASES if c.strength == "hard" and c.level != "free"], ids=str
)
def test_a_result_is_valid_where_the_table_says(case, build):
    value = build(case)

    for holding in (value, [value], {"key": (value,)}):
        implied = implied_by(holding, HERE, [])
        assert implied is not None
        assert implied.scope == SCOPES[case.level]


@pytest.mark.parametrize("case", [c for c in pinned.CASES if c.level == "node"], ids=str)
def test_what_is_bound_to_its_machine_goes_to_all_processes_of_that_and_no_further(case, build):
    value = build(case)
    near, far = GivingJudge(HERE, 1), GivingJudge(HERE, 2)
    dump_value(value, None, near)
    dump_value(value, None, far)

    if case.strength == "hard":
        assert (len(near.went), len(near.met)) == (1, 0)
        assert (len(far.went), len(far.met)) == (0, 1)
    else:
        assert near.pins == far.pins == []


def test_the_table_has_every_row():
    rows = {rule.row for rule in TABLE} | set(WITHOUT_RULE)

    assert set(range(1, 68)) | set(range(77, 81)) <= rows
    assert not WITHOUT_RULE.keys() & {rule.row for rule in TABLE}


def keys():
    return [(key, rule) for rule in TABLE for key in rule.keys if rule.check is None]


@pytest.mark.parametrize(("key", "rule"), keys(), ids=lambda value: value if value is str else "")
def test_a_key_is_the_name_of_a_class_and_holds_for_what_derives_from_it(key, rule):
    """Also where the library is not installed: names are all that is looked at."""
    module, _, name = key.partition(":")
    kind = type(name, (), {"__module__": module or "anywhere"})
    derived = type("Derived", (kind,), {})

    assert registry.rule_for(kind()).row == rule.row
    assert registry.rule_for(derived()).row == rule.row


def test_no_key_stands_in_two_rules():
    found = [key for rule in TABLE for key in rule.keys]

    assert sorted(found) == sorted(set(found))


def test_a_rule_says_why_as_the_end_of_a_sentence():
    for rule in TABLE:
        assert rule.why
        assert not rule.why.endswith(".")
        assert rule.why[0].islower() or rule.why.split()[0].strip("'s") in (
            *("SQLite", "HDF5", "GDAL", "COM", "NEURON", "DuckDB", "ZeroMQ", "LMDB"),
        )


# -- what is free ------------------------------------------------------------------------------


FREE = {
    "bytes in memory": lambda: io.BytesIO(b"x"),
    "text in memory": lambda: io.StringIO("x"),
    "path": lambda: pathlib.Path("somewhere"),
    "ctypes number": lambda: ctypes.c_int(3),
    "element": lambda: ET.fromstring("<a/>"),
    "zip": lambda: zip([1], [2], strict=False),
    "iterator": lambda: iter([1, 2]),
    "logger": lambda: __import__("logging").getLogger("without.handlers"),
    "error": lambda: ValueError("not raised"),
    "class": lambda: Holder,
    "module": lambda: json,
    "function": lambda: in_closure,
}


@pytest.mark.parametrize("make", FREE.values(), ids=FREE)
def test_what_copies_well_is_free(make):
    judge = met_in(make())

    assert judge.met == judge.notes == []


def mapped(folder, shape, mode="w+"):
    return pinned.needs("numpy").memmap(folder / "mapped", "float64", mode, shape=shape)


def table_over_a_file(folder, rows):
    pandas = pinned.needs("pandas")
    return pandas.DataFrame(mapped(folder, (rows, 100)), copy=False)


def loaded_xarray(folder):
    xarray = pinned.needs("xarray")
    pinned.needs("netCDF4")
    xarray.Dataset({"a": ("x", [1.0])}).to_netcdf(folder / "x", engine="netcdf4")
    return xarray.load_dataset(folder / "x", engine="netcdf4")


def small_index(_):
    made = pinned.needs("faiss").IndexFlatL2(4)
    made.add(pinned.needs("numpy").zeros((3, 4), "float32"))
    return made


FREE_OF_LIBRARIES = {
    "array": lambda _: pinned.needs("numpy").arange(6.0).reshape(2, 3).T[1:],
    "copy of a mapped array": lambda folder: mapped(folder, (3,)).copy(),
    "sum of mapped arrays": lambda folder: mapped(folder, (3,)) + 1,
    "table of pandas": lambda _: pinned.needs("pandas").DataFrame({"a": [1, 2]}),
    "small table over a file": lambda folder: table_over_a_file(folder, 10),
    "loaded xarray": loaded_xarray,
    "xarray of no file": lambda _: pinned.needs("xarray").Dataset({"a": ("x", [1.0])}),
    "table of arrow": lambda _: pinned.needs("pyarrow").table({"a": list(range(10**6))}),
    "part of one that was taken": lambda _: (
        pinned.needs("pyarrow").table({"a": list(range(10**6))}).take([0, 1])
    ),
    "small index": small_index,
    "schema of a database": lambda _: pinned.needs("sqlalchemy").MetaData(),
    "figure": lambda _: pinned.needs("matplotlib.figure").Figure(),
    "class of arrays": lambda _: pinned.needs("numpy").memmap,
    "tensor in memory": lambda _: pinned.needs("torch").zeros(3),
}


@pytest.mark.parametrize("name", FREE_OF_LIBRARIES)
def test_what_copies_well_of_a_library_is_free(name, tmp_path):
    value = FREE_OF_LIBRARIES[name](tmp_path)
    judge = met_in([value])

    assert judge.met == judge.notes == []
    assert load_value(dump_value([value]))
    assert implied_by([value], HERE, []) is None


def test_a_large_table_over_a_file_goes_by_value_and_is_told_of(tmp_path):
    table = table_over_a_file(tmp_path, 20_000)
    judge = met_in({"table": table})

    assert judge.met == []
    assert [rule.row for _, rule in judge.notes] == [55]
    assert len(dump_value(table)) > table.size * 8


def test_a_private_map_of_a_file_goes_by_value(tmp_path):
    """What was written to it is in no file."""
    mapped(tmp_path, (3,)).flush()
    private = mapped(tmp_path, (3,), "c")
    private[:] = 7
    judge = met_in(private)

    assert judge.met == []
    assert [rule.strength for _, rule in judge.notes] == ["note"]
    assert load_value(dump_value(private)).tolist() == [7, 7, 7]


class OnDevice:
    """As a tensor shows itself; it is known by its name alone."""

    is_cuda = True

    def __init__(self, numbers):
        self.numbers = numbers

    def nelement(self):
        return self.numbers

    def element_size(self):
        return 4


@pytest.mark.parametrize(("numbers", "told"), [(10_000, True), (1, False)])
def test_a_tensor_of_a_device_is_told_of_unless_it_is_tiny(numbers, told):
    kind = type("Parameter", (type("Tensor", (OnDevice,), {"__module__": "torch"}),), {})

    assert (registry.rule_for(kind(numbers)) is not None) == told


def test_a_temporary_file_in_memory_is_free():
    with tempfile.SpooledTemporaryFile() as made:
        assert registry.rule_for(made) is None


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_standard_stream_is_the_one_of_whoever_reads_it(name, monkeypatch):
    with open("/dev/null", "w") as stream:  # noqa: PTH123  # a text file of the usual type
        monkeypatch.setattr(sys, name, stream)

        assert registry.rule_for(stream) is None
        assert load_value(dump_value({"out": stream}))["out"] is stream


def test_a_closed_file_is_said_to_be_closed(tmp_path):
    with (tmp_path / "file").open("w") as file:
        pass

    assert registry.rule_for(file).why == "it is closed already"


def test_a_closed_port_is_free():
    serial = pinned.needs("serial")

    assert registry.rule_for(serial.Serial()) is None


def test_what_is_called_as_a_bound_class_is_free():
    """The types of LMDB pass for builtin ones, so that their names are everybody's."""
    other = type("Environment", (), {"__module__": "builtins"})

    assert registry.rule_for(other()) is None


def test_a_mock_that_passes_for_a_bound_class_is_free():
    mock = MagicMock(spec=threading.Event)

    assert mock.__class__ is threading.Event
    assert registry.rule_for(mock) is None


def test_nothing_is_asked_of_what_answers_everything():
    class Remote:
        def __getattribute__(self, name):
            raise AssertionError(f"asked for {name}, over the network")

    assert registry.rule_for(Remote()) is None
    assert implied_by([Remote()], HERE, []) is None


def test_a_class_that_cannot_be_compared_is_not():
    class Meta(type):
        __hash__ = None

        def __eq__(cls, other):
            raise AssertionError("compared")

    kind = Meta("Kind", (), {})

    assert registry.verdict(kind) is PLAIN
    assert registry.verdict(Meta) is CODE
    assert implied_by([kind(), {"a": kind()}], HERE, []) is None


def test_a_library_is_not_imported_to_know_its_types():
    libraries = sorted(
        {key.partition(":")[0].partition(".")[0] for rule in TABLE for key in rule.keys}
        - set(sys.stdlib_module_names)
        - {"", "builtins", "scopekit"}
    )
    code = f"""
import json, sys
from scopekit.pinning.registry import registry
from scopekit.wire.codec import dump_value
class Own: pass
for value in (Own(), [Own()], 3, open, Exception("x")):
    registry.rule_for(value)
    dump_value(value)
print(json.dumps([name for name in {libraries!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert len(libraries) > 30
    assert json.loads(done.stdout) == []


# -- whoever took care ---------------------------------------------------------------------------


class Careful(threading.Event):
    def __reduce__(self):
        return (Careful, ())


class Forgetful(threading.Event):
    def __init__(self):
        super().__init__()
        self.name = "forgetful"


def test_a_class_that_says_how_it_is_pickled_is_let_go():
    rule = registry.rule_for(Careful())

    assert rule.strength == "soft"
    assert isinstance(load_value(dump_value(Careful())), Careful)
    assert registry.rule_for(Forgetful()).strength == "hard"


def test_so_is_one_for_which_somebody_told_pickle(monkeypatch):
    made = Forgetful()
    monkeypatch.setitem(copyreg.dispatch_table, Forgetful, lambda _: (Forgetful, ()))

    assert registry.rule_for(made).strength == "soft"
    assert isinstance(pickle.loads(dump_value(made)), Forgetful)


def test_a_lock_deep_in_an_object_does_not_bind_it():
    """It does not pickle, but many a class that holds one has its own way."""

    class Own:
        def __init__(self):
            self.lock = threading.Lock()

        def __getstate__(self):
            return {}

    class Plain:
        def __init__(self):
            self.lock = threading.Lock()

    assert implied_by(Own(), HERE, []) is None
    assert dump_value(Own())
    assert implied_by(Plain(), HERE, []) is None
    assert implied_by(threading.Lock(), HERE, []).scope == SCOPES["process"]


def test_a_rule_that_joins_the_table_is_soft_in_its_first_version():
    (rule,) = [rule for rule in TABLE if rule.row == 5]
    late = __import__("dataclasses").replace(rule, since=2)

    assert in_force(rule, 1).strength == "hard"
    assert in_force(late, 2).strength == "soft"
    assert in_force(late, 3).strength == "hard"
