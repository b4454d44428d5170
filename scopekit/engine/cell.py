"""Runs one cell of a notebook as a task."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import linecache
import sys
from typing import TYPE_CHECKING, Any

from scopekit.handles import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("SHOWN", "remember_source", "run_cell", "spawned_cell")

# No identifiers, so that no cell can touch them.
_RESULT = "<result>"
SHOWN = "<shown>"


def spawned_cell(source: str, filename: str, outputs: tuple[str, ...], /, **inputs: Any) -> Any:
    """Runs a cell in the form in which a task calls it.

    The variables come as keywords, so that messages call each by its name.
    """
    results = run_cell(source, filename, inputs, outputs)
    return results if outputs else results[0]


def run_cell(
    source: str, filename: str, inputs: Mapping[str, Any], outputs: tuple[str, ...]
) -> tuple[Any, ...]:
    """Runs a cell in a namespace of its own.

    The namespace begins as a copy of the engine's user namespace, where ``%px`` works,
    and nothing that the cell assigns goes back into that.

    Args:
        source: the cell, as plain Python; it may await.
        filename: what tracebacks call it.
        inputs: variables that it is given, by name.
        outputs: names of the variables that it is to leave; under ``SHOWN`` is the value
            of its last statement as a notebook shows it.

    Returns:
        The value of its last statement, None if that is no expression, then its outputs.

    Raises:
        NameError: an output was not assigned.
        BaseException: whatever the cell raises.
    """
    code = _compiled(source, filename)
    # Functions and classes of __main__ travel by value.
    namespace = {**_user_namespace(), **inputs, "__name__": "__main__", _RESULT: None}
    try:
        with _displays_as_text():
            running = eval(code, namespace)  # noqa: S307  # running users' code is the task
            if inspect.iscoroutine(running):
                asyncio.run(running)
    except NameError as error:
        _say_where_unknown(error, namespace)
        raise
    if SHOWN in outputs:
        namespace[SHOWN] = _shown(namespace[_RESULT])
    missing = [name for name in outputs if name not in namespace]
    if missing:
        raise NameError(
            f"the cell ended and had not assigned {', '.join(missing)}: it does so only on a path"
            f" that it did not take. Assign it before, such as with {missing[0]} = None.",
            name=missing[0],
        )
    return (namespace.pop(_RESULT), *(namespace[name] for name in outputs))


def _shown(value: Any) -> Any:
    """Returns a value as mime bundle with metadata, None where that is left to the notebook.

    It is made here, where the value is: a figure of pyplot that is read elsewhere becomes
    one of the figures there, and is drawn under whatever cell runs then.
    """
    shell = _shell()
    if value is None or shell is None or isinstance(value, Chunk):
        return None
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", ())
    if not isinstance(value, figure):
        return shell.display_formatter.format(value)
    from IPython.core.pylabtools import select_figure_formats  # noqa: PLC0415  # is loaded here

    select_figure_formats(shell, {"png"})
    shown = shell.display_formatter.format(value)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(value)
    return shown


def remember_source(source: str, filename: str) -> None:
    """Lets tracebacks show the lines of a cell."""
    lines = source.splitlines(keepends=True)
    # Without a time, linecache takes it for the source of a loader and keeps it.
    linecache.cache[filename] = (len(source), None, lines, filename)


def _compiled(source: str, filename: str) -> Any:
    remember_source(source, filename)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(source, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        target = ast.copy_location(ast.Name(_RESULT, ast.Store()), last)
        tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
    return compile(tree, filename, "exec", flags, dont_inherit=True)


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _user_namespace() -> Mapping[str, Any]:
    """Returns the names that ``%px`` sees, none where no IPython runs."""
    shell = _shell()
    return {} if shell is None else shell.user_ns


@contextlib.contextmanager
def _displays_as_text() -> Iterator[None]:
    """Prints what the cell displays, which would reach nobody: no notebook asked for it."""
    publisher: Any = getattr(_shell(), "display_pub", None)
    if not hasattr(publisher, "register_hook"):
        yield
        return
    publisher.register_hook(_print_display)
    try:
        yield
    finally:
        publisher.unregister_hook(_print_display)


def _print_display(message: Mapping[str, Any]) -> None:
    text = message["content"].get("data", {}).get("text/plain")
    if text:
        sys.stdout.write(f"{text}\n")


def _say_where_unknown(error: NameError, namespace: Mapping[str, Any]) -> None:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    in_cell = frames is not None and frames.tb_frame.f_globals is namespace
    if in_cell and error.name is not None and not isinstance(error, UnboundLocalError):
        error.add_note(f"neither the notebook nor this engine has {error.name!r}")
