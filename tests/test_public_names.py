import ast
import functools
import importlib
import inspect
from pathlib import Path

import pytest

import scopekit

ROOT = Path(scopekit.__file__).parent
PATHS = {
    ".".join(("scopekit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}
# What runs on import, or is no more than a door.
WITHOUT_NAMES = {
    *("scopekit.__main__", "scopekit.engine", "scopekit.wire", "scopekit.notebook"),
    "scopekit.pinning",
}


MODULES = [name for name in PATHS if name not in WITHOUT_NAMES]


def bound(tree):
    """The public names that a module makes itself: classes, functions, constants."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("scopekit"):
            yield from (alias.asname or alias.name for alias in node.names)


@functools.cache
def imports():
    """All that is imported from a module by name: from where, what, and by which module."""
    return [
        (node.module, alias.name, source)
        for source, path in PATHS.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_all_is_sorted_and_has_no_name_twice():
    names = list(scopekit.__all__)

    assert names == sorted(set(names))


@pytest.mark.parametrize("name", scopekit.__all__)
def test_every_name_of_the_package_is_there(name):
    assert getattr(scopekit, name) is not None


def test_every_public_name_of_the_package_is_in_all():
    tree = ast.parse(PATHS["scopekit"].read_text(encoding="utf-8"))
    names = public(imported(tree)) | public(bound(tree))
    # Brought along by the functions that load late.
    names -= {"plots", "register", "unregister"}

    assert names == set(scopekit.__all__)


def test_nothing_else_looks_public_at_run_time():
    extra = {
        name
        for name, value in vars(scopekit).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    } - set(scopekit.__all__)

    assert extra <= {"TYPE_CHECKING", "Any"}


def test_a_name_that_is_not_there_is_missed_as_usual():
    with pytest.raises(AttributeError, match="no attribute 'spwan'"):
        _ = scopekit.spwan


def test_star_brings_all_of_the_names():
    namespace = {}
    exec("from scopekit import *", namespace)

    assert set(scopekit.__all__) <= set(namespace)


@pytest.mark.parametrize("module", MODULES)
def test_all_of_a_module_is_a_tuple_of_names_that_are_there(module):
    names = importlib.import_module(module).__all__

    assert isinstance(names, tuple)
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(importlib.import_module(module), name), name


@pytest.mark.parametrize("module", MODULES)
def test_what_others_import_from_a_module_is_in_its_all(module):
    """A name is public in a module if another module imports it from there."""
    names = set(importlib.import_module(module).__all__)
    taken = {name: source for where, name, source in imports() if where == module != source}
    missing = {
        name: source
        for name, source in taken.items()
        if name not in names and not name.startswith("_") and f"{module}.{name}" not in PATHS
    }

    assert missing == {}
