"""What the figures were taken with: the machine and the versions, nothing that names it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ("describe_machine", "describe_versions")

_PACKAGES = ("scopekit", "ipyparallel", "distributed", "ray", "parsl", "numpy", "pyzmq")


def describe_machine() -> dict[str, Any]:
    """Tells of the machine what bears on the figures."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": cores(),
        "memory_gb": round(_memory() / 2**30, 1),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_versions() -> dict[str, str]:
    """Tells the versions of what is measured, where it is installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
