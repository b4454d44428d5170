"""The rule by which a chunk is let out: its scope must cover the process that asks.

The scheduler follows the same rule when it places tasks; whoever holds a chunk asks
again, since the holder is the last one who can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.errors import ScopeViolationError
from scopekit.scopes import InvalidScope, ProcessScope

if TYPE_CHECKING:
    from scopekit.graph import WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Scope

__all__ = ("guard", "may_be_labelled")


def guard(chunk: int, scope: Scope, asker: WorkerId, topology: Topology, why: str = "") -> None:
    """Lets a chunk out only to a process that its scope covers.

    Args:
        chunk: its id.
        scope: where it is valid.
        asker: who wants it.
        topology: the processes there are.
        why: what gave it that scope, where that is the type of its value; on a second line
            what makes one elsewhere.

    Raises:
        ScopeViolationError: the asker lies outside the scope.
    """
    if not topology.admits(scope, asker):
        who = "the client (this notebook or script)" if asker == "client" else f"worker {asker}"
        reason, _, line = why.partition("\n")
        because = f" It is {reason}." if reason else ""
        instead = f" Or have one where it is wanted: {line}." if line else ""
        raise ScopeViolationError(
            f"chunk {chunk} is valid only on {scope.describe()}, and {who} lies outside of that."
            f"{because} Run a task on it there and fetch what the task returns.{instead}",
            chunk,
            scope,
            why,
        )


def may_be_labelled(scope: Scope, worker: WorkerId, topology: Topology) -> bool:
    """Tells whether a process lies in a scope, or would with other labels.

    Labels change while a value is on its way: whoever sent it went by the earlier ones.
    """
    here = ProcessScope(worker, node=topology.node_of(worker))
    return not isinstance(scope & here, InvalidScope)
