"""The fingerprint of a function: equal as long as its pickle would be.

To pickle a function of a notebook takes longer than to run it, and it seldom changes.
But it may: a global that it reads, a default, what a closure holds. Where all of these
are things that cannot change inside, who they are tells whether they changed.
"""

from __future__ import annotations

import builtins
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from scopekit.wire.around import Around

__all__ = ("fingerprint",)

_FIXED = frozenset((type(None), bool, int, float, complex, str, bytes, type(...)))
_MOST_FUNCTIONS = 32


class _ChangesError(Exception):
    """Something may change inside, unseen."""


def fingerprint(function: Any) -> Any:
    """Returns what a function's pickle depends on.

    Args:
        function: anything that can be called.

    Returns:
        A hashable value that keeps alive what it names; None if only a new pickle can tell.

    Example:
        >>> fingerprint(len) == fingerprint(len)
        True
    """
    kind = type(function)
    if kind is not FunctionType and kind is not BuiltinFunctionType and kind is not Around:
        return None
    try:
        return _of_value(function, {})
    except _ChangesError:
        return None


def _of_function(function: FunctionType, seen: dict[FunctionType, int]) -> Any:
    before = seen.get(function)
    if before is not None:
        # It calls itself, or several call it.
        return ("seen", before)
    if function.__dict__ or len(seen) >= _MOST_FUNCTIONS:
        raise _ChangesError
    if _is_imported(function):
        return (function, function.__code__)
    code = function.__code__
    if function.__kwdefaults__ or _inner(code):
        raise _ChangesError
    seen[function] = len(seen)
    who = (
        code,
        code.co_filename,
        function.__module__,
        function.__name__,
        function.__qualname__,
        _of_value(function.__doc__, seen),
        _of_annotations(function, seen),
    )
    if not (code.co_names or function.__closure__ or function.__defaults__):
        return who
    cells = tuple([_content(cell) for cell in function.__closure__ or ()])
    names, values = _globals_of(function)
    return (
        who,
        _of_values(function.__defaults__ or (), seen),
        _of_values(cells, seen),
        names,
        _of_values(values, seen),
        _submodules(code, cells + values),
    )


def _of_annotations(function: FunctionType, seen: dict[FunctionType, int]) -> Any:
    annotations = function.__annotations__
    if not annotations:
        return ()
    return tuple(annotations), _of_values(tuple(annotations.values()), seen)


def _inner(code: CodeType) -> bool:
    # A loop, at half of what any() costs: this runs with each spawn.
    for constant in code.co_consts:  # noqa: SIM110
        if type(constant) is CodeType:
            return True
    return False


def _is_imported(function: FunctionType) -> bool:
    """Tells whether the pickle is but the name by which a function is imported."""
    name = function.__module__
    if name == "__main__" or "." in function.__qualname__:
        return False
    module = sys.modules.get(name)
    if module is None or getattr(module, function.__qualname__, None) is not function:
        return False
    return not _goes_by_value(name)


def _goes_by_value(module: str) -> bool:
    """Tells whether cloudpickle was told to send what a module holds by value."""
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    by_value = getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", ())
    if not by_value:
        return False
    parts = module.split(".")
    return any(".".join(parts[:end]) in by_value for end in range(1, len(parts) + 1))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise _ChangesError from None


def _globals_of(function: FunctionType) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    found = function.__globals__
    names = tuple([name for name in function.__code__.co_names if name in found])
    return names, tuple([found[name] for name in names])


def _submodules(code: CodeType, values: tuple[Any, ...]) -> tuple[str, ...]:
    """Returns the parts of packages that the pickle says to import, since the code names them."""
    reached = [v.__name__ for v in values if type(v) is ModuleType and "__path__" in v.__dict__]
    if not reached:
        return ()
    packages = len(reached)
    for name in reached:  # grows meanwhile: a part may have parts
        inner = [f"{name}.{part}" for part in code.co_names]
        reached += [part for part in inner if part in sys.modules]
    return tuple(reached[packages:])


def _of_values(values: tuple[Any, ...], seen: dict[FunctionType, int]) -> Any:
    return tuple([_of_value(value, seen) for value in values])


def _of_value(value: Any, seen: dict[FunctionType, int]) -> Any:
    kind = type(value)
    if kind in _FIXED:
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0, but they are not the same.
        return (kind, repr(value)) if kind in (float, complex) else (kind, value)
    if kind is FunctionType:
        return _of_function(value, seen)
    if kind is Around:
        return ("around", _of_values((value.outer, *value.head, value.inner), seen))
    if kind is ModuleType:
        same = value.__name__ in sys.modules and not _goes_by_value(value.__name__)
    elif kind is BuiltinFunctionType:
        # A method of an object is bound to it, and the object may change.
        bound = value.__self__
        same = bound is None or type(bound) is ModuleType
    else:
        # A class of the notebook may pass for a builtin one where it was made by exec.
        same = kind is type and getattr(builtins, value.__name__, None) is value
    if not same:
        raise _ChangesError
    return value
