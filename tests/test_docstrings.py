"""Every public name says what it is; what it shows as an example is true."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import scopekit

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(scopekit.__path__, "scopekit.")
    if found.name != "scopekit.__main__"
)


def members():
    for name in scopekit.__all__:
        value = getattr(scopekit, name)
        yield name, value
        if inspect.isclass(value):
            for member, made in own_and_inherited(value).items():
                if not member.startswith("_") and (callable(made) or isinstance(made, property)):
                    yield f"{name}.{member}", made


def own_and_inherited(kind):
    """What a class has of its own, or of a base class that is scopekit's too."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("scopekit")]
    return {member: made for base in reversed(bases) for member, made in vars(base).items()}


def inherited(path):
    """The docstring as ``help`` finds it, which looks into base classes too."""
    owner, _, member = path.partition(".")
    value = getattr(scopekit, owner)
    return inspect.getdoc(getattr(value, member) if member else value)


@pytest.mark.parametrize("path", [path for path, _ in members()])
def test_every_public_name_has_a_docstring(path):
    doc = inherited(path)

    assert doc
    assert doc.strip().splitlines()[0].rstrip()[-1] in ".:", "the first line is a sentence"


@pytest.mark.parametrize(
    "path", [path for path, made in members() if inspect.isfunction(made) and path[0].islower()]
)
def test_arguments_are_told_of_by_their_names(path):
    """Where a docstring lists arguments, it lists those that there are."""
    doc, function = inherited(path), getattr(scopekit, path)
    if "Args:" not in doc:
        return
    told = doc.partition("Args:")[2]
    for name in inspect.signature(function).parameters:
        assert f"{name}:" in told, name


@pytest.mark.parametrize("module", ["scopekit", *MODULES])
def test_examples_are_true(module):
    loaded = importlib.import_module(module)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    said = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(loaded, module):
        runner.run(test, out=said.append)

    assert not runner.failures, "".join(said)


def test_there_are_examples():
    count = sum(
        len(test.examples)
        for module in MODULES
        for test in doctest.DocTestFinder().find(importlib.import_module(module), module)
    )

    assert count > 50
