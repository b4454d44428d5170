"""Keeps results in files, with the scopes in which they are valid."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.errors import ScopeError, ScopekitError
from scopekit.scopes import Scope, as_scope
from scopekit.wire.codec import dump_apart

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FileStore", "Label")

_MAGIC = b"scopekit result 1\n"


class Label(NamedTuple):
    """What a file says of the result in it.

    Attributes:
        function: the name of the function that gave it.
        name: the name of the task.
        scope: where the value is valid.
    """

    function: str
    name: str
    scope: Scope


class FileStore:
    """Keeps results of tasks in files, for ``checkpoint=`` and ``restore=``.

    A file can be read by all processes of its machine. So a result is written only if it is
    valid on the whole node, and a file remembers where: what is read again is valid there
    and nowhere else. Reading a file runs what is pickled in it, as reading any pickle does.

    Args:
        path: the file; ``{name}`` in it stands for the name of the task. A relative path
            begins at the working directory of the engine.
        scope: where the file can be read: the node that runs the task if None; give
            ``AnyScope()`` for a folder that all machines share.

    Raises:
        ScopeError: the path or the scope is none.

    Example:
        >>> FileStore("results/{name}.pickle").path_of("fit 1/2")
        PosixPath('results/fit_1_2.pickle')
    """

    def __init__(self, path: str | os.PathLike[str], scope: Any = None) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ScopeError(f"FileStore: {path!r} is no path")
        self.path = os.fspath(path)
        self.scope: Scope | None = None if scope is None else as_scope(scope)

    def path_of(self, name: str) -> Path:
        """Returns the file of a task.

        Args:
            name: the name of the task.
        """
        return Path(self.path.replace("{name}", re.sub(r"[^\w.-]", "_", name)))

    def save(self, label: Label, value: Any) -> None:
        """Writes a result; the file is there as a whole, or as it was."""
        path = self.path_of(label.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC)
                dump_apart(tuple(label), file)
                dump_apart(value, file)
                file.flush()
                # Else a machine that stops may have the name, and not what is in the file.
                os.fsync(file.fileno())
            Path(beside).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(beside).unlink()
            raise

    def load(self, name: str, accept: Callable[[Label], None]) -> tuple[Any, Label] | None:
        """Reads a result; None if there is none.

        Args:
            name: the name of the task.
            accept: looks at the label, and raises where the value is not even to be read.

        Raises:
            ScopekitError: the file is none of these.
        """
        path = self.path_of(name)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ScopekitError(f"{path} holds no result that a task was given to keep")
            label = Label(*pickle.load(file))  # who reads it chose the file
            accept(label)
            return pickle.load(file), label  # likewise

    def __repr__(self) -> str:
        scope = "" if self.scope is None else f", scope={self.scope!r}"
        return f"FileStore({self.path!r}{scope})"
