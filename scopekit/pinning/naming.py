"""Finds the way to an object, for messages: pickle tells what it met, and not where."""

from __future__ import annotations

import functools
import sys
from collections import deque
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("Way", "ways_to")

_MOST = 200_000
_LONGEST_KEY = 40
_IN_ORDER: tuple[Any, ...] = (list, tuple, deque)
_WITHOUT_PARTS = (str, bytes, int, float, ModuleType)
_BOUND = (MethodType, BuiltinFunctionType, MethodWrapperType)


class Way(NamedTuple):
    """How an object is reached.

    Attributes:
        root: which of the roots it is, or is in.
        text: an expression for it, such as ``config['db']``.
        variable: a name that it could be given.
        depth: 0 if it is the root itself.
        base: the first name of the text, where that is no argument.
        words: what that name is.
    """

    root: int
    text: str
    variable: str
    depth: int = 0
    base: str = ""
    words: str = ""

    def step(self, text: str, variable: str = "") -> Way:
        """Returns the way one step further."""
        return self._replace(text=text, variable=variable or self.variable, depth=self.depth + 1)

    def enter(self, name: str, words: str) -> Way:
        """Returns the way to a variable of a function."""
        return Way(self.root, name, name, self.depth + 1, name, words)

    def told(self) -> str:
        """Says it in words."""
        if not self.base:
            return self.text
        if self.text == self.base:
            return f"{self.text}, {self.words},"
        return f"{self.text} ({self.base} is {self.words})"


def ways_to(roots: Iterable[tuple[str, Any]], wanted: Iterable[Any]) -> dict[int, Way]:
    """Looks for objects in others, the nearest way to each.

    Args:
        roots: expression and value of each object to look in.
        wanted: what to look for.

    Returns:
        The way to each that was found, by its id.
    """
    # All that is met stays alive meanwhile: else two of them could have one id.
    seen: dict[int, Any] = {}
    missing = {id(value) for value in wanted}
    found: dict[int, Way] = {}
    todo = deque(
        (value, Way(number, text, text if text.isidentifier() else "value"))
        for number, (text, value) in enumerate(roots)
    )
    while todo and missing and len(seen) < _MOST:
        value, way = todo.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if id(value) in missing:
            missing.discard(id(value))
            found[id(value)] = way
            continue
        todo.extend(_parts(value, way))
    return found


def _parts(value: Any, way: Way) -> Iterator[tuple[Any, Way]]:
    """Yields what pickle would go on with, each with the way to it."""
    kind = type(value)
    # By its type, never by what it says that it is: a proxy would answer.
    if issubclass(kind, _WITHOUT_PARTS):
        return
    if kind is FunctionType:
        yield from _parts_of_function(value, way)
    elif kind in _BOUND:
        yield value.__self__, way.enter("self", f"the object of the method {value.__name__}")
    elif kind is functools.partial:
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        yield from ((part, way.step(f"{way.text}.{name}")) for name, part in parts.items())
    else:
        yield from _parts_of_container(value, kind, way)
    yield from _parts_of_instance(value, way)


def _parts_of_container(value: Any, kind: type, way: Way) -> Iterator[tuple[Any, Way]]:
    if issubclass(kind, dict):
        for key, part in dict.items(value):
            yield part, way.step(f"{way.text}[{_key(key)}]", _name(key))
        for key in dict.keys(value):
            yield key, way.step(f"a key of {way.text}")
    elif issubclass(kind, _IN_ORDER):
        # Not by its own way to iterate, which may do anything.
        base = next(base for base in _IN_ORDER if issubclass(kind, base))
        for number, part in enumerate(base.__iter__(value)):
            yield part, way.step(f"{way.text}[{number}]")
    elif issubclass(kind, (set, frozenset)):
        for part in list(value):
            yield part, way.step(f"an element of {way.text}")


def _key(key: Any) -> str:
    short = isinstance(key, (str, int)) and len(repr(key)) <= _LONGEST_KEY
    return repr(key) if short else "..."


def _name(key: Any) -> str:
    return key if isinstance(key, str) and key.isidentifier() else ""


def _parts_of_function(function: FunctionType, way: Way) -> Iterator[tuple[Any, Way]]:
    code, name = function.__code__, function.__name__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield cell.cell_contents, way.enter(variable, f"a variable in the closure of {name}")
        except ValueError:
            continue  # it is not bound yet
    parameters = code.co_varnames[: code.co_argcount]
    defaults = zip(reversed(parameters), reversed(function.__defaults__ or ()), strict=False)
    for variable, value in [*defaults, *(function.__kwdefaults__ or {}).items()]:
        yield value, way.enter(variable, f"the default of a parameter of {name}")
    if _goes_by_name(function):
        return
    for variable in dict.fromkeys(_names_in(code)):
        if variable in function.__globals__:
            value = function.__globals__[variable]
            yield value, way.enter(variable, f"a global variable that {name} uses")


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _goes_by_name(function: FunctionType) -> bool:
    module = sys.modules.get(function.__module__ or "")
    if module is None or function.__module__ == "__main__":
        return False
    return getattr(module, function.__qualname__, None) is function


def _parts_of_instance(value: Any, way: Way) -> Iterator[tuple[Any, Way]]:
    """Yields attributes, without asking for any: a proxy would answer."""
    kind = type(value)
    if issubclass(kind, type):
        if value.__module__ == "__main__":
            for name, part in vars(value).items():
                yield part, way.step(f"{way.text}.{name}", name)
        return
    if type.__getattribute__(kind, "__module__") == "__main__":
        yield kind, way.step(kind.__name__)  # it goes by value, too
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        attributes = {}
    if isinstance(attributes, dict) and kind is not FunctionType:
        for name, part in list(attributes.items()):
            yield part, way.step(f"{way.text}.{name}", str(name).strip("_"))
    yield from _parts_in_slots(value, kind, way)


def _parts_in_slots(value: Any, kind: type, way: Way) -> Iterator[tuple[Any, Way]]:
    for base in type.__getattribute__(kind, "__mro__"):
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            slot = vars(base).get(name)
            try:
                part = slot.__get__(value, kind) if slot is not None else None
            except AttributeError:
                continue  # it is empty
            yield part, way.step(f"{way.text}.{name}", name.strip("_"))
