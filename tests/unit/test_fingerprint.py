"""Fingerprints: two that are equal stand for the same pickle, or there is none."""

import functools
import gc
import itertools
import math
import sys
import types
import weakref

import cloudpickle
import pytest

from scopekit.wire.codec import dump_value, load_value, pack_call
from scopekit.wire.fingerprint import fingerprint


def notebook(source, filename="cell", **names):
    """Runs a cell; its functions travel by value."""
    namespace = {"__name__": "__main__", **names}
    exec(compile(source, filename, "exec"), namespace)
    return types.SimpleNamespace(names=namespace, f=namespace["f"])


READS_X = "def f(): return x"


def flat(value):
    """All that a fingerprint names, at any depth."""
    if type(value) is not tuple:
        return [value]
    return [inner for item in value for inner in flat(item)]


# -- what stays ---------------------------------------------------------------------

STEADY = {
    "reads nothing": "def f(a): return a + 1",
    "reads a number": "x = 1\ndef f(): return x",
    "has defaults and a text": "def f(a, b=2.0, *, c): 'adds'\n",
    "names types": "def f(a: int, b: str) -> None: ...",
    "calls a builtin": "def f(a): return len(str(a))",
    "calls a module": "import math\ndef f(a): return math.sqrt(a)",
    "calls an imported function": "from textwrap import dedent\ndef f(a): return dedent(a)",
    "calls its neighbour": "def g(): return 1\ndef f(): return g()",
    "calls itself": "def f(a): return f(a - 1)",
    "is called by what it calls": "def g(a): return f(a)\ndef f(a): return g(a)",
    "closes over a number": "def outer(n):\n  def f(): return n\n  return f\nf = outer(3)",
    "is a lambda": "f = lambda a: a",
    "is async": "async def f(): return 1",
}


@pytest.mark.parametrize("source", STEADY.values(), ids=STEADY)
def test_while_nothing_changes_it_is_the_same(source):
    cell = notebook(source)

    assert fingerprint(cell.f) is not None
    assert fingerprint(cell.f) == fingerprint(cell.f)
    assert hash(fingerprint(cell.f)) == hash(fingerprint(cell.f))


@pytest.mark.parametrize("source", STEADY.values(), ids=STEADY)
def test_a_cell_that_is_run_again_changes_nothing(source):
    once, again = notebook(source).f, notebook(source).f

    assert fingerprint(once) == fingerprint(again)
    assert dump_value(once) == dump_value(again)


def test_what_a_function_does_not_read_may_change():
    cell = notebook(READS_X, x=1, y=1)
    before = fingerprint(cell.f)
    cell.names["y"] = [2]

    assert fingerprint(cell.f) == before


def test_a_function_that_many_call_is_described_once():
    layers = [[f"g{depth}_{number}" for number in range(6)] for depth in range(4)]
    source = "def f(): return " + "+".join(f"{name}()" for name in layers[0])
    for callers, called in itertools.pairwise([*layers, ["int"]]):
        for name in callers:
            source += f"\ndef {name}(): return " + "+".join(f"{other}()" for other in called)
    cell = notebook(source)
    described = flat(fingerprint(cell.f))

    assert all(described.count(cell.names[name].__code__) == 1 for name in layers[-1])


# -- what changes ---------------------------------------------------------------------


def test_values_that_are_equal_but_not_the_same_are_told_apart():
    values = [0, False, 0.0, -0.0, 0j, complex(-0.0, 0.0), complex(0.0, -0.0)]
    values += [1, True, 1.0, "1", b"1", "", b"", None, ..., math.inf, -math.inf]
    found = {fingerprint(notebook(READS_X, x=value).f) for value in values}

    assert None not in found
    assert len(found) == len(values)


def test_constants_of_the_code_are_told_apart():
    sources = [f"def f(): return {value}" for value in ("1", "True", "1.0", "0.0", "-0.0", "'1'")]

    assert len({fingerprint(notebook(source).f) for source in sources}) == len(sources)


CHANGES = {
    "a global": lambda cell: cell.names.update(x=2),
    "a global that is gone": lambda cell: cell.names.pop("x"),
    "a builtin that is hidden": lambda cell: cell.names.update(len=abs),
    "a function it calls": lambda cell: cell.names.update(g=notebook("def f(): return 5").f),
    "what a function it calls reads": lambda cell: cell.names.update(y=2),
    "what it closes over": lambda cell: setattr(cell.f.__closure__[0], "cell_contents", 9),
    "its code": lambda cell: setattr(cell.f, "__code__", cell.names["other"].__code__),
    "its defaults": lambda cell: setattr(cell.f, "__defaults__", (2,)),
    "its keyword defaults": lambda cell: setattr(cell.f, "__kwdefaults__", {"b": 2}),
    "its text": lambda cell: setattr(cell.f, "__doc__", "says more"),
    "its name": lambda cell: setattr(cell.f, "__name__", "h"),
    "its long name": lambda cell: setattr(cell.f, "__qualname__", "h"),
    "its module": lambda cell: setattr(cell.f, "__module__", "elsewhere"),
    "its annotations": lambda cell: cell.f.__annotations__.update(a=str),
    "the order of its annotations": lambda cell: cell.f.__annotations__.update(
        a=cell.f.__annotations__.pop("a")
    ),
    "an attribute": lambda cell: setattr(cell.f, "note", 1),
}

CHANGING = """
def outer(n):
    def f(a: int = 1, *, b: float) -> int:
        "says"
        return len([a]) + n + x + g()
    return f, lambda: n
f, other = outer(1)
def g(): return y
"""


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_shows(change):
    cell = notebook(CHANGING, x=1, y=1)
    before, pickled = fingerprint(cell.f), dump_value(cell.f)
    assert before is not None
    change(cell)

    assert fingerprint(cell.f) != before
    assert dump_value(cell.f) != pickled


def test_the_same_code_in_another_place_is_another():
    source = "def f(): return 1"
    places = [notebook(source), notebook("\n" + source), notebook(source, "other cell")]

    assert len({fingerprint(cell.f) for cell in places}) == 3


def test_a_call_is_sent_with_what_a_global_is_now():
    cell = notebook(READS_X, x=1)
    calls = []
    for x in (1, 2, 1):
        cell.names["x"] = x
        calls.append(pack_call(cell.f, (), {}, name="t"))

    assert [load_value(call.function)() for call in calls] == [1, 2, 1]
    assert calls[0].digest == calls[2].digest != calls[1].digest


# -- what only a pickle can tell -----------------------------------------------------


def counting():
    count = 0

    def f():
        nonlocal count
        count += 1
        return later

    if count:
        later = 1
    return f


class Callable:
    def __call__(self):
        return 1

    def method(self):
        return 1


def with_attribute():
    f = notebook("def f(): ...").f
    f.calls = 0
    return f


def called_in_a_row(count):
    """A function that calls one that calls one, all of the notebook."""
    source = "".join(f"def g{number}(): return g{number + 1}()\n" for number in range(count - 1))
    return notebook(f"def f(): return g0()\n{source}g{count - 1} = f", f=None).f


def unnamed_class():
    """Made where nothing has a name, a class takes the module of the builtins."""
    namespace = {}
    exec("class C: ...", namespace)
    assert namespace["C"].__module__ == "builtins"
    return namespace["C"]


UNKNOWN = {
    "a list that it reads": lambda: notebook(READS_X, x=[1]).f,
    "a tuple that it reads": lambda: notebook(READS_X, x=([],)).f,
    "a number of a class of its own": lambda: notebook(READS_X, x=type("N", (int,), {})(1)).f,
    "a class of the notebook": lambda: notebook("class x: ...\ndef f(): return x").f,
    "a class without a module": lambda: notebook(READS_X, x=unnamed_class()).f,
    "an object that it reads": lambda: notebook(READS_X, x=Callable()).f,
    "a method of a builtin object that it reads": lambda: notebook(READS_X, x={}.get).f,
    "a module made by hand": lambda: notebook(READS_X, x=types.ModuleType("by_hand")).f,
    "a list among the defaults": lambda: notebook("def f(a=[]): ...").f,
    "keyword defaults": lambda: notebook("def f(*, a=1): ...").f,
    "a list that it closes over": lambda: (
        notebook("def outer(n):\n  def f(): return n\n  return f\nf = outer([])").f
    ),
    "what it closes over is not there yet": counting,
    "a function inside": lambda: notebook("def f(): return lambda: 1").f,
    "an attribute": with_attribute,
    "an annotation of its own": lambda: notebook("def f(a: []): ...").f,
    "a text of its own": lambda: notebook("def f(): ...\nf.__doc__ = []").f,
    "too many that call each other": lambda: called_in_a_row(100),
    "a method": lambda: Callable().method,
    "a method of a builtin object": lambda: [].append,
    "an object that can be called": Callable,
    "a partial": lambda: functools.partial(int),
    "a wrapped function": lambda: functools.cache(len),
    "a class": lambda: Callable,
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_where_something_may_change_inside_there_is_none(make):
    assert fingerprint(make()) is None


# -- modules -----------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``pack`` with the parts ``inner`` and ``inner.leaf``, none of them imported."""
    (tmp_path / "pack" / "inner").mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("def work(): return 1\n")
    (tmp_path / "pack" / "inner" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner" / "leaf.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("pack")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]


def test_an_imported_function_is_who_it_is_whatever_it_reads(package):
    before = fingerprint(package.work)
    package.work.__globals__["x"] = [1]

    assert before is not None
    assert fingerprint(package.work) == before


def test_an_imported_function_that_its_module_lost_is_another(package):
    work = package.work
    before, pickled = fingerprint(work), dump_value(work)
    del package.work

    assert fingerprint(work) != before
    assert dump_value(work) != pickled


def test_an_imported_function_that_is_to_go_by_value_is_another(package):
    before, pickled = fingerprint(package.work), dump_value(package.work)
    cloudpickle.register_pickle_by_value(package)
    try:
        assert fingerprint(package.work) != before
        assert dump_value(package.work) != pickled
    finally:
        cloudpickle.unregister_pickle_by_value(package)


def test_a_module_that_is_to_go_by_value_may_change_inside(package):
    cell = notebook("def f(): return pack.work()", pack=package)
    assert fingerprint(cell.f) is not None
    cloudpickle.register_pickle_by_value(package)
    try:
        assert fingerprint(cell.f) is None
    finally:
        cloudpickle.unregister_pickle_by_value(package)


def test_a_part_of_a_package_that_is_imported_later_shows(package):
    cell = notebook("def f(): return pack.inner.leaf", pack=package)
    seen = []
    for part in ("pack", "pack.inner", "pack.inner.leaf"):
        __import__(part)
        seen.append((fingerprint(cell.f), dump_value(cell.f)))

    assert None not in dict(seen)
    assert len(dict(seen)) == len({pickled for _, pickled in seen}) == 3


def test_a_part_of_a_package_that_is_not_named_does_not_count(package):
    cell = notebook("def f(): return pack.work()", pack=package)
    before = fingerprint(cell.f)
    __import__("pack.inner")

    assert fingerprint(cell.f) == before


def test_what_it_names_lives_as_long_as_it_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "passing", types.ModuleType("passing"))
    module = weakref.ref(sys.modules["passing"])
    found = fingerprint(notebook(READS_X, x=module()).f)
    del sys.modules["passing"]
    gc.collect()
    assert module() in flat(found)
    del found
    gc.collect()

    assert module() is None
