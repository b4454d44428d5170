"""The systems that are measured: this package over both of its wires, and its peers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from scopekit.bench.systems.dask import Distributed
from scopekit.bench.systems.ipyparallel import LoadBalanced
from scopekit.bench.systems.ours import Direct, Views
from scopekit.bench.systems.parsl import Parsl
from scopekit.bench.systems.processes import Processes
from scopekit.bench.systems.ray import Ray

if TYPE_CHECKING:
    from scopekit.bench.systems.base import System

__all__ = ("PEERS", "SYSTEMS", "WIRES", "is_installed")

WIRES = ("direct", "views")
SYSTEMS: dict[str, type[System]] = {
    "direct": Direct,
    "views": Views,
    "processes": Processes,
    "ipyparallel": LoadBalanced,
    "dask": Distributed,
    "ray": Ray,
    "parsl": Parsl,
}
PEERS = tuple(name for name in SYSTEMS if name not in WIRES)


def is_installed(system: str) -> bool:
    """Tells whether what a system needs can be imported, without importing it."""
    module = SYSTEMS[system].module
    return not module or find_spec(module) is not None
