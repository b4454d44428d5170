"""How to open again, within its level, what is not to be copied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopekit.pinning.checks import root_of

if TYPE_CHECKING:
    from scopekit.pinning.rule import Reduced

__all__ = ("figure", "mapped_array", "shareable_list", "shared_memory")

_NUMBERED_PROTOCOL = 5


# -- arrays of mapped files --------------------------------------------------------------


def mapped_array(array: Any) -> Reduced | None:
    """Sends where in which file an array is; the other process maps it, too."""
    import numpy as np  # noqa: PLC0415  # is loaded: the array is here

    root = root_of(array)
    if root is None:
        return None  # no map of a file: its values go
    first = _address(array) - _address(root) + root.offset
    low, high = _extent(array)
    mode = "r" if root.mode == "r" or not array.flags.writeable else "r+"
    part = (str(Path(root.filename).absolute()), mode, first + low, high - low)
    view = (array.shape, array.dtype, -low, array.strides)
    return (_map_again, (part, view, type(array) is not np.ndarray))


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _extent(array: Any) -> tuple[int, int]:
    """Returns the first byte that an array has, and the one behind the last, from its own."""
    low, high = 0, array.dtype.itemsize
    for length, stride in zip(array.shape, array.strides, strict=True):
        if not length:
            return 0, 0
        reach = (length - 1) * stride
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high


def _map_again(
    part: tuple[str, Any, int, int], view: tuple[Any, Any, int, Any], mapped: bool
) -> Any:
    import numpy as np  # noqa: PLC0415  # loaded when the first one comes

    array: Any
    path, mode, begin, nbytes = part
    shape, dtype, offset, strides = view
    if not nbytes:
        return np.empty(shape, dtype)
    raw: Any = np.memmap(path, np.uint8, mode, begin, nbytes)
    plain = np.ndarray(shape, dtype, raw, offset, strides)
    if not mapped:
        return plain
    array = plain.view(np.memmap)
    # A view of what is no map itself does not know its file.
    array._mmap, array.filename = raw._mmap, raw.filename
    array.offset, array.mode = begin + offset, mode
    return array


# -- shared memory --------------------------------------------------------------------------


def shared_memory(value: Any) -> Reduced:
    """Sends the name; whoever attaches by it does not take the memory along when it ends."""
    return (_attach, (value.name,))


def shareable_list(value: Any) -> Reduced:
    """Does the same for a list in shared memory."""
    return (_attach_list, (value.shm.name,))


def _attach(name: str) -> Any:
    from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415  # slow to load

    memory = SharedMemory(name)
    _disown(memory)
    return memory


def _attach_list(name: str) -> Any:
    from multiprocessing.shared_memory import ShareableList  # noqa: PLC0415  # slow to load

    made: Any = ShareableList(name=name)
    _disown(made.shm)
    return made


def _disown(memory: Any) -> None:
    """Leaves memory where it is when this process ends: whoever attaches counts as an owner."""
    from multiprocessing.resource_tracker import unregister  # noqa: PLC0415  # slow to load

    unregister(memory._name, "shared_memory")


# -- pictures -----------------------------------------------------------------------------------


def figure(value: Any) -> Reduced:
    """Sends a figure without pyplot's part: else each copy opens a figure where it is read."""
    reduced: Reduced = value.__reduce_ex__(_NUMBERED_PROTOCOL)
    if len(reduced) > 2 and isinstance(reduced[2], dict):  # noqa: PLR2004
        state = {key: part for key, part in reduced[2].items() if key != "_restore_to_pylab"}
        reduced = (*reduced[:2], state, *reduced[3:])
    return reduced
