"""The fingerprint of a function: equal as long as its pickle would be.

To pickle a function of a notebook takes longer than to run it, and it seldom changes.
But it may: a global that it reads, a default, what a closure holds. Where all of these
are things that cannot change inside, who they are tells whether they changed.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ("fingerprint",)

_FIXED = frozenset((type(None), bool, int, float, complex, str, bytes, type(...)))
_DEEPEST = 4


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
    if kind is BuiltinFunctionType:
        # A method of an object is bound to it, and the object may change.
        bound = function.__self__
        return function if bound is None or type(bound) is ModuleType else None
    if kind is not FunctionType:
        return None
    try:
        return _of_function(function, ())
    except _ChangesError:
        return None


def _of_function(function: FunctionType, above: tuple[FunctionType, ...]) -> Any:
    if function in above:
        # It calls itself, or those that call it.
        return ("above", above.index(function))
    if function.__dict__ or len(above) > _DEEPEST:
        raise _ChangesError
    if _is_imported(function):
        return (function, function.__code__)
    code = function.__code__
    if function.__kwdefaults__ or _inner(code):
        raise _ChangesError
    doc = function.__doc__
    above = (*above, function)
    who = (
        code,
        code.co_filename,
        function.__module__,
        function.__qualname__,
        doc if type(doc) in _FIXED else None,
        _of_annotations(function, above),
    )
    if not (code.co_names or function.__closure__ or function.__defaults__):
        return who
    return (
        who,
        _of_values(function.__defaults__ or (), above),
        _of_values(tuple(_content(cell) for cell in function.__closure__ or ()), above),
        _of_globals(function, above),
    )


def _of_annotations(function: FunctionType, above: tuple[FunctionType, ...]) -> Any:
    annotations = function.__annotations__
    if not annotations:
        return ()
    return tuple(annotations), _of_values(tuple(annotations.values()), above)


def _inner(code: CodeType) -> bool:
    return any(type(constant) is CodeType for constant in code.co_consts)


def _is_imported(function: FunctionType) -> bool:
    """Tells whether the pickle is but the name by which a function is imported."""
    name = function.__module__
    if name == "__main__" or "." in function.__qualname__:
        return False
    module = sys.modules.get(name)
    if module is None or getattr(module, function.__qualname__, None) is not function:
        return False
    # cloudpickle can be told to send the functions of a module by value.
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    by_value = getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", ())
    parts = name.split(".")
    return not any(".".join(parts[:end]) in by_value for end in range(1, len(parts) + 1))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise _ChangesError from None


def _of_globals(function: FunctionType, above: tuple[FunctionType, ...]) -> Any:
    found = function.__globals__
    names = tuple(name for name in function.__code__.co_names if name in found)
    return names, _of_values(tuple(found[name] for name in names), above)


def _of_values(values: tuple[Any, ...], above: tuple[FunctionType, ...]) -> Any:
    return tuple([_of_value(value, above) for value in values])


def _of_value(value: Any, above: tuple[FunctionType, ...]) -> Any:
    kind = type(value)
    if kind in _FIXED:
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0, but they are not the same.
        return (kind, repr(value)) if kind in (float, complex) else (kind, value)
    if kind is ModuleType or kind is BuiltinFunctionType:
        return value
    if kind is FunctionType:
        return _of_function(value, above)
    if kind is type and value.__module__ == "builtins":
        return value
    raise _ChangesError
