"""The layers of DESIGN.md section 5, read from the imports of the code."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

import scopekit

ROOT = Path(scopekit.__file__).parent

LAYERS = {
    0: ("errors", "scopes"),
    1: ("places", "graph", "explanation", "guard", "rescoping", "stopped"),
    2: ("scheduler",),
    3: ("handles", "several", "shield", "pinning", "engine", "wire"),
    4: (
        *(
            "options",
            "driver",
            "roster",
            "fetching",
            "gather",
            "looking",
            "dag",
            "spawning",
            "arguments",
            "labels",
            "bringing",
        ),
        *(
            "inside",
            "removal",
            "scopechanges",
            "mutables",
            "shards",
            "callfuture",
            "calls",
            "executor",
            "mapping",
            "holding",
            "running",
            "blocks",
            "clientagent",
            "clientchunks",
            "handlehome",
            "opensessions",
            "overview",
            "placechanges",
            "planning",
            "session",
            "api",
        ),
    ),
    5: ("plots", "encoding", "layout", "report", "notebook", "cli", "demo", "testing", "bench"),
}
LAYER = {f"scopekit.{name}": number for number, names in LAYERS.items() for name in names}
# The public names; the command stands above all.
LAYER |= {"scopekit": 4, "scopekit.__main__": 5}

PURE = {
    *("__future__", "collections", "dataclasses", "enum", "functools", "heapq", "hashlib"),
    *("itertools", "math", "operator", "types", "typing"),
}
# What modules of L0 to L2 import besides, each with its reason.
PURE_TOO = {
    ("scopekit.errors", "concurrent.futures"): "TaskCancelledError is a CancelledError",
    ("scopekit.explanation", "importlib"): "finds the display when a notebook asks for it",
    ("scopekit.scopes.helper", "difflib"): "the nearest name, for one message",
    ("scopekit.scopes.markup", "html"): "escapes text",
}
# Imports inside functions, or for a type checker, that go up; each with its reason.
UP = {
    ("scopekit", "scopekit.plots"): "whoever never draws does not wait for what drawing needs",
    ("scopekit", "scopekit.notebook.magics"): "only %load_ext wants IPython",
}
# Modules that are imported by their names as text, each with its reason.
AS_TEXT = {
    ("scopekit.explanation", "scopekit.notebook.displays"): "a notebook asks",
    ("scopekit.handles", "scopekit.notebook.displays"): "a notebook asks",
    ("scopekit.holding", "scopekit.notebook.displays"): "a notebook asks",
    ("scopekit.overview", "scopekit.notebook.displays"): "a notebook asks",
    ("scopekit.plots.scene", "scopekit"): "the current session, where none is given",
}
# Who imports what speaks to the outside, each with its reason.
OUTSIDE = {
    "ipyparallel": {"scopekit.wire": "the only way out", "scopekit.bench": "a peer"},
    "zmq": {"scopekit.wire": "the only way out"},
    "IPython": {
        "scopekit.wire": "where profiles lie, and whether a notebook runs",
        "scopekit.engine": "get_ipython, for the kernel's loop and the user's namespace",
        "scopekit.notebook": "magics",
    },
    "ipywidgets": {"scopekit.notebook": "widgets"},
    "anywidget": {"scopekit.notebook": "widgets"},
    "matplotlib": {"scopekit.plots": "pictures", "scopekit.report": "names the type of one"},
    "networkx": {"scopekit.dag": "the graph that users take away"},
    "numpy": {
        "scopekit.demo": "what the stories compute with",
        "scopekit.bench": "the work of a task, and 100 MB to hand on",
        "scopekit.pinning": "maps the files of arrays again",
    },
    "distributed": {"scopekit.bench": "a peer"},
    "ray": {"scopekit.bench": "a peer"},
    "parsl": {"scopekit.bench": "a peer"},
}


@dataclass(frozen=True)
class Import:
    source: str
    target: str
    inside: bool
    typing: bool

    def __str__(self):
        return f"{self.source} -> {self.target}"


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("scopekit", *path.relative_to(ROOT).with_suffix("").parts)
        yield (
            ".".join(parts[:-1] if parts[-1] == "__init__" else parts),
            ast.parse(path.read_text(encoding="utf-8")),
        )


TREES = dict(modules())


def _statements(tree):
    """Yields each import with whether it stands in a function, and for a type checker alone."""
    todo = [(node, False, False) for node in tree.body]
    while todo:
        node, inside, typing = todo.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, inside, typing
        inside |= isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        checked = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        todo += [(child, inside, typing or checked) for child in ast.iter_child_nodes(node)]


def imports(source, tree):
    for node, inside, typing in _statements(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            assert not node.level, f"{source} imports relatively"
            longer = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in TREES else str(node.module) for name in longer]
        for target in dict.fromkeys(targets):
            yield Import(source, target, inside, typing)


IMPORTS = [found for source, tree in TREES.items() for found in imports(source, tree)]
OURS = [found for found in IMPORTS if found.target.split(".")[0] == "scopekit"]


def top(module):
    """The entry of LAYER that a module belongs to."""
    return ".".join(module.split(".")[:2])


def layer(module):
    return LAYER[top(module)]


def test_every_module_has_a_layer():
    assert [module for module in TREES if top(module) not in LAYER] == []


def test_imports_go_down_or_stay():
    wrong = [
        str(found)
        for found in OURS
        if layer(found.target) > layer(found.source) and (found.source, found.target) not in UP
    ]

    assert wrong == []


def test_exceptions_stand_in_functions_or_for_a_type_checker():
    early = [
        str(found)
        for found in OURS
        if (found.source, found.target) in UP and not (found.inside or found.typing)
    ]

    assert early == []


def test_no_exception_is_left_over():
    ours = {(found.source, found.target) for found in OURS}
    known = {(found.source, found.target) for found in IMPORTS}
    outside = {(found.target.split(".")[0], top(found.source)) for found in IMPORTS}

    assert UP.keys() - ours == set()
    assert PURE_TOO.keys() - known == set()
    assert AS_TEXT.keys() - set(as_text()) == set()
    # The widgets are on their way.
    listed = {(name, who) for name, users in OUTSIDE.items() for who in users}
    assert {pair for pair in listed if "widget" not in pair[0]} - outside == set()


def test_nobody_imports_the_simulated_world_but_itself():
    assert [
        str(found)
        for found in OURS
        if top(found.target) == "scopekit.testing" and top(found.source) != "scopekit.testing"
    ] == []


def test_the_simulated_world_reads_nothing_of_the_real_one():
    allowed = {*PURE, "scopekit", "random", "gc"}
    # The command has the words it is given, a clock to measure with, and a file for seeds.
    assert [
        str(found)
        for found in IMPORTS
        if top(found.source) == "scopekit.testing"
        and found.source != "scopekit.testing.__main__"
        and found.target.split(".")[0] not in allowed
    ] == []


def test_modules_do_not_import_in_circles():
    after = {module: [] for module in TREES}
    for found in OURS:
        if not (found.inside or found.typing) and found.target != found.source:
            after[found.source].append(found.target)
    done = set()

    def walk(module, trail):
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for target in after[module]:
                walk(target, [*trail, module])
            done.add(module)

    for module in TREES:
        walk(module, [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("scopekit.engine", "scopekit.scheduler"),
        ("scopekit.scheduler", "scopekit.engine"),
        ("scopekit.wire", "scopekit.engine"),
        ("scopekit.wire", "scopekit.scheduler"),
    ],
)
def test_engine_wire_and_scheduler_meet_in_values_only(one, other):
    assert [
        str(found) for found in OURS if (top(found.source), top(found.target)) == (one, other)
    ] == []


def test_the_pure_layers_import_nothing_that_reads_the_world():
    wrong = [
        str(found)
        for found in IMPORTS
        if layer(found.source) <= 2
        and found.target.split(".")[0] not in {*PURE, "scopekit"}
        and (found.source, found.target) not in PURE_TOO
    ]

    assert wrong == []


@pytest.mark.parametrize("name", OUTSIDE)
def test_only_those_listed_speak_to_the_outside(name):
    wrong = [
        str(found)
        for found in IMPORTS
        if found.target.split(".")[0] == name and top(found.source) not in OUTSIDE[name]
    ]

    assert wrong == []


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_slow_to_load_is_loaded_late(name):
    late = {"scopekit.notebook.magics", "scopekit.notebook.widget"}
    early = [
        str(found)
        for found in IMPORTS
        if found.target.split(".")[0] == name and not (found.inside or found.typing)
    ]

    assert [found for found in early if found.split(" ")[0] not in late] == []


def as_text():
    """Yields module and target of each import by name as text, as far as it can be read."""
    for source, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                (name,) = node.args
                if isinstance(name, ast.Constant):
                    yield source, name.value


def test_imports_by_name_as_text_are_listed():
    wrong = [pair for pair in as_text() if layer(pair[1]) > layer(pair[0]) and pair not in AS_TEXT]

    assert wrong == []


SETS = ("set", "frozenset")
ORDERING = ("list", "tuple", "enumerate", "iter", "next", "zip", "map", "fromkeys", "join", "deque")


def unordered(tree):
    """Yields the places where the order of a bare set may show."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.comprehension)):
            told = [node.iter]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ORDERING:
            told = node.args
        elif isinstance(node, ast.Starred):
            told = [node.value]
        else:
            continue
        for value in told:
            made = isinstance(value, ast.Call) and ast.unparse(value.func) in SETS
            if made or isinstance(value, (ast.Set, ast.SetComp)):
                yield ast.unparse(value)


@pytest.mark.parametrize("module", [module for module in TREES if layer(module) <= 2])
def test_the_pure_layers_iterate_no_bare_set(module):
    assert list(unordered(TREES[module])) == []


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}: pass",
        "[x for x in set(y)]",
        "list(frozenset(y))",
        "','.join({x for x in y})",
    ],
)
def test_a_bare_set_would_be_seen(text):
    assert list(unordered(ast.parse(text)))
