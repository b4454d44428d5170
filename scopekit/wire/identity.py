"""What tells one process apart from every other, on any machine.

Engines that lack scopekit are sent this file's source text, so it must run on
its own: standard library only, no syntax newer than Python 3.8, nothing at import
but definitions.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from typing import Any, Dict, Optional  # noqa: UP035 -- the source also runs on older engines

__all__ = (
    "NODE_VARIABLE",
    "card_text",
    "identity_card",
    "local_address",
    "machine_id",
    "node_name",
)

NODE_VARIABLE = "SCOPEKIT_NODE"

# What a card of this process states instead where /proc is missing; fixed for its life.
_loaded_at = time.time()


def machine_id() -> str:
    """Return the node id: equal for all processes that share memory and loopback.

    SCOPEKIT_NODE, where set, is the id. Otherwise it is a digest of the boot id, the mount
    behind /dev/shm and the network namespace. The host name is no part of it where these are known:
    containers and cloned machines repeat it.
    """
    named = os.environ.get(NODE_VARIABLE)
    if named:
        return named
    boot = _read("/proc/sys/kernel/random/boot_id")
    parts = [boot or "host:" + socket.gethostname(), _shared_memory(), _network()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def node_name() -> str:
    """Return the node's label for people: SCOPEKIT_NODE, or the host name."""
    return os.environ.get(NODE_VARIABLE) or socket.gethostname()


def identity_card() -> Dict[str, Any]:  # noqa: UP006
    """Return plain data that says which process this is and what it can run."""
    return {
        "python": "{}.{}".format(*sys.version_info[:2]),
        "pid": os.getpid(),
        "started": _start_time(),
        "node": machine_id(),
        "node_name": node_name(),
        "cloudpickle": _version("cloudpickle"),
        "scopekit": _version("scopekit"),
    }


def card_text() -> str:
    """Return the card as JSON, which crosses any pair of Python versions."""
    return json.dumps(identity_card())


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 -- import cost
            return file.read().strip()
    except OSError:
        return ""


def _shared_memory() -> str:
    try:
        device = os.stat("/dev/shm").st_dev  # noqa: PTH116, S108 -- asked about, not written to
        # 0 on old kernels, where it then simply tells nothing
        filesystem = os.statvfs("/dev/shm").f_fsid  # noqa: S108
    except (OSError, AttributeError):
        return "no shm"
    return f"{device}:{filesystem}"


def _network() -> str:
    try:
        return str(os.stat("/proc/self/ns/net").st_ino)  # noqa: PTH116
    except OSError:
        return "no net"


def _start_time() -> str:
    """Return the start of this process in its kernel's ticks since boot, or as a clock time."""
    fields = _read("/proc/self/stat").rpartition(")")[2].split()
    # the 22nd field, counted from the pid; the text before ")" is the name, which may hold blanks
    return fields[19] if len(fields) > 19 else f"{_loaded_at:.6f}"  # noqa: PLR2004


def _version(distribution: str) -> Optional[str]:  # noqa: UP045
    from importlib import metadata  # noqa: PLC0415 -- slow to load

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def local_address(controller: str) -> str:
    """Returns the address by which other hosts reach this one, seen from the controller's side."""
    if controller in ("localhost", "") or controller.startswith("127."):
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: to connect only asks the routing table.
        probe.connect((controller, 9))
        return str(probe.getsockname()[0])
