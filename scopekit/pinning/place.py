"""The place where a value is, from which its scope follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scopekit.scopes import AnyScope, ExactScope, NodeScope, ProcessScope

if TYPE_CHECKING:
    from scopekit.pinning.rule import Level
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = ("Place",)


class Place(NamedTuple):
    """Where a value is.

    Attributes:
        processor: the processor on which it was made.
        topology: the processes there are.
        process: the scope of its process, where somebody has it already.
    """

    processor: Processor
    topology: Topology
    process: Scope | None = None

    def scope(self, level: Level) -> Scope:
        """Returns where a value of this place is valid.

        Args:
            level: what it must not leave.
        """
        worker = self.processor.worker
        node = self.topology.node_of(worker)
        if level == "free":
            return AnyScope()
        if level == "thread":
            return ExactScope(self.processor, node=node)
        if level == "node" and node is not None:
            return NodeScope(node)
        return self.process or ProcessScope(worker, node=node)

    def leaves(self, scope: Scope) -> bool:
        """Tells whether a scope has a processor outside of this process."""
        topology = self.topology
        return bool(topology.mask(scope) & ~topology.worker_mask(self.processor.worker))

    def stays(self, scope: Scope) -> bool:
        """Tells whether a scope has a processor in this process."""
        return self.topology.admits(scope, self.processor.worker)
