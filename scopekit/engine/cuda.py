"""CUDA devices, by whatever library for them is installed.

Which devices a process has depends on its environment (``CUDA_VISIBLE_DEVICES``), so each
engine counts its own. A library that is loaded already is asked. Else none is loaded for the
counting alone, which would cost seconds and memory in every engine: the driver is asked, in a
process of its own, since one that has spoken to the driver can never be forked again.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("count_devices", "use_device")

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_SECONDS = 20.0
_ASK_DRIVER = """
import ctypes, sys
driver = ctypes.CDLL(sys.argv[1])
count = ctypes.c_int(0)
failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
print(0 if failed else count.value)
"""
_COUNT: dict[str, Callable[[Any], int]] = {
    "cupy": lambda cupy: cupy.cuda.runtime.getDeviceCount(),
    "torch": lambda torch: torch.cuda.device_count(),
    "numba": lambda numba: len(numba.cuda.gpus),
}
_USE: dict[str, Callable[[Any, int], object]] = {
    "cupy": lambda cupy, device: cupy.cuda.Device(device).use(),
    "torch": lambda torch, device: torch.cuda.set_device(device),
    "numba": lambda numba, device: numba.cuda.select_device(device),
}
_used = threading.local()


def count_devices() -> int:
    """Counts the CUDA devices that code in this process can use.

    Returns:
        Their number; 0 without a driver, or without a library for it.
    """
    installed = [name for name in _COUNT if _is_usable(name)]
    if not installed or not _has_driver():
        return 0
    for name in installed:
        if name in sys.modules:
            with contextlib.suppress(Exception):  # a library that is broken here
                return _COUNT[name](sys.modules[name])
    return _ask_driver()


def _is_usable(name: str) -> bool:
    """Tells whether a library is installed, and was not built for the CPU alone."""
    if name in sys.modules:
        return True
    import importlib.util  # noqa: PLC0415  # for whoever opens a session alone
    import re  # noqa: PLC0415  # likewise

    with contextlib.suppress(Exception):  # a broken package, or what only looks like one
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            return False
        version = Path(spec.origin).with_name("version.py")
        text = version.read_text(encoding="utf-8") if name == "torch" else ""
        return re.search(r"^cuda\b[^=]*= *None", text, re.MULTILINE) is None
    return False


def _has_driver() -> bool:
    import ctypes  # noqa: PLC0415  # seldom needed

    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def _ask_driver() -> int:
    import subprocess  # noqa: PLC0415  # seldom needed

    command = [sys.executable, "-I", "-S", "-c", _ASK_DRIVER, _DRIVER]
    try:
        answer = subprocess.run(  # noqa: S603  # this very interpreter
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
        return int(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


@contextlib.contextmanager
def use_device(device: int) -> Iterator[None]:
    """Makes a device the current one of this thread, in each library that is loaded.

    Which one is current is a matter of each thread; a library that a task loads later
    has its device from the next task on.

    Args:
        device: the number of the device.
    """
    for name, use in _USE.items():
        library = sys.modules.get(name)
        if library is not None and getattr(_used, name, None) != device:
            with contextlib.suppress(Exception):  # a library that is broken here
                use(library, device)
                setattr(_used, name, device)
    yield
