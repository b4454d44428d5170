"""What tells values of one type apart, for rules that hold for some of them only.

A check runs after the type matched, so that it may ask for what such a value has. It
imports nothing: what it needs of a library was imported by whoever made the value.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scopekit.pinning.rule import Rule

__all__ = (
    "array_of_something",
    "blocks_of",
    "frame_of_mapped_file",
    "large_index",
    "lazy_and_local",
    "logger_with_handlers",
    "mapped_file",
    "of_lmdb",
    "on_device",
    "open_file",
    "open_port",
    "raised",
    "random_state",
    "root_of",
    "small_part",
)

_LARGE = 1 << 20
_SMALL_TENSOR = 1 << 10
_LARGE_FRAME = 10 << 20
_URL = "://"
_DEEPEST = 64


def open_file(value: Any, rule: Rule) -> Rule | None:
    """Leaves the standard streams alone: each process has its own by that name."""
    if any(value is stream for stream in (sys.stdout, sys.stderr)):
        return None
    if value.closed:
        return replace(rule, why="it is closed already")
    return rule


def random_state(value: Any, rule: Rule) -> Rule | None:
    """Leaves the operating system's generator alone, which has no state and says so itself."""
    return None if isinstance(value, _loaded("random", "SystemRandom")) else rule


def logger_with_handlers(value: Any, rule: Rule) -> Rule | None:
    """Counts a logger that has handlers of its own; the root's are everybody's."""
    return rule if value.handlers and value.parent is not None else None


def raised(value: Any, rule: Rule) -> Rule | None:
    """Counts an exception that has a traceback to lose."""
    return rule if value.__traceback__ is not None else None


def of_lmdb(value: Any, rule: Rule) -> Rule | None:
    """Counts what is of LMDB: its types pass for builtin ones."""
    module = sys.modules.get("lmdb")
    known = [getattr(module, name, None) for name in ("Environment", "Transaction", "Cursor")]
    return rule if type(value) in known else None


def open_port(value: Any, rule: Rule) -> Rule | None:
    """Counts a port that is open."""
    return rule if value.is_open else None


def mapped_file(value: Any, rule: Rule) -> Rule | None:
    """Tells a map of a file from what is left of one.

    A map without a file of a name cannot be made again; the changes of one that copies on
    write are in no file, so its values go.
    """
    root = root_of(value)
    if root is None:
        return None  # a copy of one, which owns its bytes
    if root.mode == "c":
        return replace(
            rule, strength="note", why="its values are sent, since its changes are in no file"
        )
    if root.filename is None:
        return replace(rule, level="process", reopen=None, why="the file that it maps has no name")
    return rule


def array_of_something(value: Any, rule: Rule) -> Rule | None:
    """Finds the array that is a view of a mapped file, or lies in shared memory."""
    if value.base is None:
        return None
    root = root_of(value)
    if root is not None:
        why = "it shows a file of one machine, and writes to a copy would be lost"
        return mapped_file(value, replace(rule, row=55, strength="hard", why=why))
    return rule if _is_shared(value) else None


def frame_of_mapped_file(value: Any, rule: Rule) -> Rule | None:
    """Counts a table of pandas that shows a mapped file; a small one is not told of."""
    shown = [block for block in blocks_of(value) if root_of(block) is not None]
    if not shown:
        return None
    large = sum(block.nbytes for block in shown) > _LARGE_FRAME
    return rule if large else replace(rule, strength="hard", why="")


def blocks_of(value: Any) -> list[Any]:
    """Returns the arrays that a table of pandas consists of, as far as it tells."""
    blocks = getattr(getattr(value, "_mgr", None), "blocks", ())
    return [block.values for block in blocks]


def root_of(array: Any) -> Any:
    """Returns the map of a file that an array shows, None if it shows none."""
    memmap = _loaded("numpy", "memmap")
    found = None
    for _ in range(_DEEPEST):
        if array is None or not isinstance(array, _loaded("numpy", "ndarray")):
            return found
        # A copy is of that type, too, and maps nothing.
        if isinstance(array, memmap) and array._mmap is not None:
            found = array
        array = array.base
    return found


def _is_shared(array: Any) -> bool:
    """Tells whether an array lies in memory that other processes map."""
    base = array
    for _ in range(_DEEPEST):
        if isinstance(base, _loaded("numpy", "ndarray")):
            base = base.base
        elif type(base) is memoryview:
            base = base.obj
        else:
            break
    return isinstance(base, _loaded("mmap", "mmap"))


def lazy_and_local(value: Any, rule: Rule) -> Rule | None:
    """Counts what reads its values from a file of this machine when they are asked for."""
    source = value.encoding.get("source")
    if not isinstance(source, str) or _URL in source:
        return None
    variables = getattr(value, "variables", None) or {"": getattr(value, "variable", None)}
    return None if all(getattr(v, "_in_memory", True) for v in variables.values()) else rule


def on_device(value: Any, rule: Rule) -> Rule | None:
    """Counts a tensor that lies on a device, unless it is as small as the loss of one step."""
    small = value.nelement() * value.element_size() <= _SMALL_TENSOR
    return rule if value.is_cuda and not small else None


def small_part(value: Any, rule: Rule) -> Rule | None:
    """Counts what brings much more along than it shows."""
    try:
        held, shown = value.get_total_buffer_size(), value.nbytes
    except Exception:  # noqa: BLE001  # an extension type may have no size
        return None
    return rule if held > _LARGE and held > 2 * shown else None


def large_index(value: Any, rule: Rule) -> Rule | None:
    """Counts an index of more than a megabyte of vectors."""
    return rule if 4 * value.ntotal * value.d > _LARGE else None


def _loaded(module: str, name: str) -> Any:
    """Returns a class of a module that somebody imported, or no class at all."""
    return getattr(sys.modules.get(module), name, ())
