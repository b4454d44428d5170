"""What a cell reads, leaves and shows, case by case."""

from __future__ import annotations

import builtins
import linecache
import pickle
import traceback

import cloudpickle
import pytest

from scopekit.engine.cell import run_cell, spawned_cell
from scopekit.notebook.cells import OptionTextError, analyse, split_options

# cell, names read, names assigned; in order
CELLS = [
    ("", "", ""),
    ("x = 1", "", "x"),
    ("x = y", "y", "x"),
    ("x = x + 1", "x", "x"),
    ("x += y", "x y", "x"),
    ("x = 1; y = x", "", "x y"),
    ("x.attribute = y", "y x", ""),
    ("x[i] = y", "y x i", ""),
    ("x[i] += 1", "x i", ""),
    ("a, (b, *c) = z", "z", "a b c"),
    ("a = b = z", "z", "a b"),
    ("x: int = y", "y", "x"),
    ("x: Kind", "Kind", ""),
    ("x: Kind = 1", "Kind", "x"),
    ("del x", "x", ""),
    ("x = 1\ndel x", "", ""),
    ("x = 1\ndel x\nx = 2", "", "x"),
    ("x = 1\ndel x\nx", "x", ""),
    ("x = 1\nif c:\n    del x", "c", "x"),
    ("import os, a.b, c.d as e", "", "os a e"),
    ("from m import f, g as h", "", "f h"),
    ("from m import *\nf", "f", ""),
    ("from __future__ import annotations\nx = 1", "", "annotations x"),
    # branches
    ("if c:\n    x = 1\nx", "c x", "x"),
    ("if c:\n    x = 1\nelse:\n    x = 2\nx", "c", "x"),
    ("if c:\n    x = 1\nelse:\n    raise E\nx", "c E", "x"),
    ("if c:\n    x = 1\nelif d:\n    x = 2\nx", "c d x", "x"),
    ("x = a if c else b", "c a b", "x"),
    ("assert x, y", "x y", ""),
    ("raise E(x) from y\nz", "E x y", ""),
    # loops
    ("for i in s:\n    t = i\nt", "s t", "i t"),
    ("for i in s:\n    t = i\n    u = t", "s", "i t u"),
    ("for i in s:\n    t = i\n    del t", "s", "i"),
    ("for i, (a.b, c[d]) in s: pass", "s a c d", "i"),
    ("for i in s:\n    if i: break\nelse:\n    i = 0\n    e = 1", "s", "i e"),
    ("while c:\n    c = f()", "c f", "c"),
    ("while True:\n    x = f()\n    if x: break\nx", "f", "x"),
    ("while True:\n    x = f()\n    if x: break\n    del x\nx", "f", "x"),
    ("while (line := f()):\n    use(line)\nline", "f use", "line"),
    ("for i in s:\n    if i: continue\n    x = 1\nx", "s x", "i x"),
    ("async for i in s:\n    i", "s", "i"),
    # with
    ("with open(p) as f:\n    text = f.read()\ntext", "p", "f text"),
    ("with a as (b, c), d(b) as e: pass", "a d", "b c e"),
    ("async with a as b: await b", "a", "b"),
    # try
    ("try:\n    x = f()\nexcept E as e:\n    print(e)\nx", "f E x", "x"),
    ("try:\n    import a\nexcept ImportError:\n    a = None\na", "", "a"),
    ("try:\n    x = f()\nexcept E:\n    raise\nx", "f E", "x"),
    ("try:\n    x = f()\nfinally:\n    x\nx", "f x", "x"),
    ("try:\n    x = f()\nfinally:\n    del t", "f t", "x"),
    ("try:\n    pass\nexcept E as e:\n    e = 1", "E", ""),
    ("try:\n    x = 1\nexcept E:\n    pass\nelse:\n    y = x", "E", "x y"),
    ("try:\n    x = f()\nexcept* E as e:\n    x = e.exceptions", "f E", "x"),
    ("e = 1\ntry:\n    f()\nexcept E as e:\n    pass\ne", "f E e", "e"),
    # walrus
    ("(x := y)", "y", "x"),
    ("if (m := f()) and m.g: m", "f", "m"),
    ("a and (x := b)\nx", "a b x", "x"),
    ("if a or (x := b): x", "a b x", "x"),
    ("[y for i in s if (y := i)]", "s", "y"),
    ("print(x := 1, x)", "", "x"),
    # comprehensions
    ("[i for i in i]", "i", ""),
    ("i = 5\n[i for i in range(i)]", "", "i"),
    ("{k: v + w for k, v in d.items() if p(k)}", "d p w", ""),
    ("[b for a in s for b in a]", "s", ""),
    ("[b for a in b for b in a]", "b", ""),
    ("(f(x) for x in s)", "s f", ""),
    ("{x async for x in s}", "s", ""),
    ("[[j for j in i] for i in s]", "s", ""),
    ("[(lambda: i + z) for i in s]", "s z", ""),
    # functions
    ("def f(a, b=c, *d, e=g, **h):\n    return a + b + d + e + h + i", "c g i", "f"),
    ("def f():\n    x = y\n    return x", "y", "f"),
    ("def f():\n    return x\nx = 1", "", "f x"),
    ("def f():\n    return x\nif c: x = 1", "c x", "f x"),
    ("def f(): return g()\ndef g(): return f()", "", "f g"),
    ("def f(n):\n    return f(n - 1)", "", "f"),
    ("def f():\n    def g(): return x\n    x = 1\n    return g", "", "f"),
    (
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += m\n    return g",
        "m",
        "f",
    ),
    ("@d(x)\ndef f(): pass", "d x", "f"),
    ("def f(a: A, *b: B, c: C = 1) -> R: pass", "A C B R", "f"),
    ("async def f(x):\n    async for y in x: await z(y)", "z", "f"),
    ("def f():\n    import os\n    return os.x", "", "f"),
    ("def f():\n    try: pass\n    except E as e: return e", "E", "f"),
    ("def f():\n    return [x for x in y if z]", "y z", "f"),
    ("def f():\n    global k\n    k = 1\nf()", "", "f k"),
    ("def f():\n    global k\n    k = 1", "", "f"),
    ("def f():\n    global k\n    k += 1\nf()", "k", "f k"),
    ("h = lambda a, b=c: a + b + d", "c d", "h"),
    (
        "def f():\n    class K:\n        y = x\n        def m(self): return y\n    return K",
        "x y",
        "f",
    ),
    ("def f():\n    print(f'{x!r:>{w}}')", "x w", "f"),
    # classes
    ("class K(B, metaclass=M): pass", "B M", "K"),
    ("class K:\n    x = 1\n    y = x + z", "z", "K"),
    ("class K:\n    x = x", "x", "K"),
    ("class K:\n    x = 1\n    def m(self): return x", "x", "K"),
    ("class K:\n    def m(self): return super().m(), __class__, K", "", "K"),
    ("class K:\n    for i in s: pass\n    del i", "s", "K"),
    ("class K:\n    global g\n    g = 1", "", "g K"),
    ("class K:\n    class L:\n        a = b\n    c = L", "b", "K"),
    ("class A:\n    v = 1\nclass B:\n    w = v", "v", "A B"),
    ("@dataclass\nclass K:\n    a: int = 1\n    b: T = field()", "dataclass field T", "K"),
    # match
    ("match v:\n    case [a, *b]: pass\n    case {'k': c, **d}: pass", "v", "a b c d"),
    ("match v:\n    case K(x=p) if p > q: r = p\n    case _: r = 0\nr", "v K q", "p r"),
    ("match v:\n    case m.X: y = 1\n    case other: y = other\ny", "v m", "y other"),
    ("match v:\n    case 1 | 2 as n: pass\nn", "v n", "n"),
    # text, await, odd ones
    ("f'{x} {y!r:{z}}'", "x y z", ""),
    ("await x", "x", ""),
    ("y = await f(x)", "f x", "y"),
    ("print(len(x), sorted)", "x", ""),
    ("_, x = 1, 2", "", "x"),
    ("__name__, __doc__", "", ""),
    ("x; y; x", "x y", ""),
    ("global x\nx = 1", "", "x"),
    ("a[b:c, ...].d(*e, **f)", "a b c e f", ""),
    ("x = y = 1 if (z := 2) else z", "", "z x y"),
]


@pytest.mark.parametrize(("cell", "reads", "assigns"), CELLS)
def test_names_of_cells(cell, reads, assigns):
    names = analyse(cell)
    assert names.reads == tuple(reads.split())
    assert names.assigns == tuple(assigns.split())


@pytest.mark.parametrize(("cell", "reads", "assigns"), CELLS)
def test_whatever_runs_needs_no_more_than_what_was_found(cell, reads, assigns):
    """A cell that is given exactly what it reads never misses a name."""
    given = {name: _Anything() for name in reads.split()}
    missing = None
    try:
        run_cell(cell, "<cell 1>", given, ())
    except NameError as error:
        missing = error.name
    except Exception:  # noqa: BLE001  # what else goes wrong is the cell's own affair
        return
    # reading what was deleted, or maybe never assigned, is no fault of the analysis
    assert missing is None or missing in assigns.split() or "del " in cell


class _Anything:
    """Answers most of what a cell may ask of a value."""

    def __init__(self):
        self._asked = 0

    def __bool__(self):
        self._asked += 1
        return self._asked < 3

    def __call__(self, *args, **keywords):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key):
        if isinstance(key, int) and key > 2:
            raise IndexError
        return 1

    def __setitem__(self, key, value):
        pass

    def __add__(self, other):
        return self

    __radd__ = __iadd__ = __add__


@pytest.mark.parametrize(
    ("cell", "shows"),
    [
        ("x", True),
        ("x;", False),
        ("x  # ;", True),
        ("x;  # no value", False),
        ("x = 1", False),
        ("x\n\n# end\n", True),
        ("'text'", True),
        ("f(\n  x\n)", True),
        ("if x: x", False),
        ("await x", True),
        ("# nothing", False),
        ("';'", True),
    ],
)
def test_the_last_expression_is_shown(cell, shows):
    assert analyse(cell).shows is shows


def test_names_that_only_imports_bind():
    names = analyse(
        "import a, b.c, d.e as f\nfrom g import h, i as j\nfrom . import k\n"
        "try: import l\nexcept ImportError: l = None\nimport a\nimport m\nimport n as m\n"
        "class K:\n    import o"
    )
    assert names.imports == {
        "a": ("a", None),
        "b": ("b", None),
        "f": ("d.e", None),
        "h": ("g", "h"),
        "j": ("g", "i"),
        "k": (".", "k"),
    }


def test_a_notebooks_own_name_hides_a_builtin():
    assert analyse("list(x)", notebook={"list": 1, "x": 2}).reads == ("list", "x")
    assert analyse("list(x)", notebook={"x": 2}).reads == ("x",)


@pytest.mark.parametrize("cell", ["x =", "return 1", "break", "def f(:", "yield", "a b"])
def test_what_is_no_python_raises_with_the_cells_name(cell):
    with pytest.raises(SyntaxError) as caught:
        analyse(cell, filename="<cell 7>")
    assert caught.value.filename == "<cell 7>"


# -- options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", {}),
        ("   ", {}),
        ("a=1", {"a": "1"}),
        ("a=1 b=2", {"a": "1", "b": "2"}),
        ("a = 1  b =  x ", {"a": "1", "b": "x"}),
        ("name='open camera' scope=worker(2)", {"name": "'open camera'", "scope": "worker(2)"}),
        ("scope=worker(1, thread=0) name=n", {"scope": "worker(1, thread=0)", "name": "n"}),
        ('scope=worker(2) | node("a") single=1', {"scope": 'worker(2) | node("a")', "single": "1"}),
        ("a=[1, 2] b={'k': 1}", {"a": "[1, 2]", "b": "{'k': 1}"}),
        ("a=x if y == 1 else z b=2", {"a": "x if y == 1 else z", "b": "2"}),
        ("name='a=1 b=2'", {"name": "'a=1 b=2'"}),
        ("name='(' b=1", {"name": "'('", "b": "1"}),
        ("a=1 # b=2", {"a": "1 # b=2"}),
    ],
)
def test_options_are_split_where_a_name_begins(line, options):
    assert split_options(line) == options


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("5", "'5' is not"),
        ("fast a=1", "'fast' is not"),
        ("a=", "a= has no value"),
        ("a= b=1", "a= has no value"),
        ("a=1 a=2", "a= is given twice"),
        ("a=(1", "not closed"),
        ("a='x", "not closed"),
        ("=1", "'=1' is not"),
    ],
)
def test_what_is_no_option_is_named(line, cause):
    with pytest.raises(OptionTextError) as caught:
        split_options(line)
    assert cause in str(caught.value)


# -- running ---------------------------------------------------------------------------------


def test_a_cell_gives_its_value_then_its_outputs():
    cell = "y = x + 1\nz = 2 * y\nz"
    assert run_cell(cell, "<cell 1>", {"x": 1}, ("y", "z")) == (4, 2, 4)
    assert spawned_cell(cell, "<cell 1>", ("y",), x=1) == (4, 2)
    assert spawned_cell(cell, "<cell 1>", (), x=1) == 4


def test_a_cell_may_await():
    cell = "import asyncio\nawait asyncio.sleep(0)\nx = await asyncio.sleep(0, 5)\nx"
    assert run_cell(cell, "<cell 1>", {}, ("x",)) == (5, 5)


def test_a_cell_without_expression_has_no_value():
    assert run_cell("x = 1", "<cell 1>", {}, ()) == (None,)
    assert run_cell("", "<cell 1>", {}, ()) == (None,)


def test_an_output_that_was_not_assigned_is_named():
    with pytest.raises(NameError, match=r"not assigned x: .* path that it did not take"):
        run_cell("if False: x = 1", "<cell 1>", {}, ("x",))


def test_an_unknown_name_says_where_it_was_looked_for():
    with pytest.raises(NameError) as caught:
        run_cell("nowhere", "<cell 1>", {}, ())
    assert caught.value.__notes__ == ["neither the notebook nor this engine has 'nowhere'"]


def test_tracebacks_show_the_lines_of_the_cell():
    with pytest.raises(ZeroDivisionError) as caught:
        run_cell("def f():\n    return 1 / 0\nf()", "<cell 31>", {}, ())
    linecache.checkcache()
    text = "".join(traceback.format_exception(caught.value))
    assert 'File "<cell 31>", line 2, in f\n    return 1 / 0' in text


def test_functions_and_classes_of_a_cell_travel():
    cell = "import math\nclass K:\n    v = 2\ndef f(x): return math.floor(g(x)) * K.v\n"
    cell += "def g(x): return x + 0.5"
    _, function, made = run_cell(cell, "<cell 1>", {}, ("f", "K"))
    assert function.__module__ == made.__module__ == "__main__"
    assert pickle.loads(cloudpickle.dumps(function))(3) == 6
    assert pickle.loads(cloudpickle.dumps(made())).v == 2


def test_this_modules_future_does_not_reach_the_cell():
    result, _ = run_cell("def f(x: 1 + 1): pass\nf.__annotations__", "<cell 1>", {}, ("f",))
    assert result == {"x": 2}


def test_a_cell_leaves_builtins_alone():
    run_cell("len = 3", "<cell 1>", {}, ("len",))
    assert builtins.len([1]) == 1
