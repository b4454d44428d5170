"""The results of tasks: each is kept where it was made, valid where it was declared or by type."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopeViolationError
from scopekit.handles import Chunk
from scopekit.pinning.place import Place
from scopekit.pinning.search import implied_by
from scopekit.scopes import AnyScope, ProcessScope, constrain
from scopekit.wire import messages as msg
from scopekit.wire.codec import type_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekit.engine.reporter import Reporter
    from scopekit.engine.store import Store
    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.pinning.rule import Rule
    from scopekit.scopes import Processor, Scope

__all__ = ("Results", "told_at_once")

_UNSCOPED = AnyScope()
# Results of these types go with the word that they are made. Texts do not: what nobody
# asked for stays where it was made.
_PLAIN = frozenset((type(None), bool, int, float, complex))
_MOST_BITS = 1024


class Results:
    """Keeps what the tasks of a process give.

    Args:
        worker: the id of the process.
        store: where it is kept.
        reporter: reports what says where a value is valid.
    """

    def __init__(self, worker: WorkerId, store: Store, reporter: Reporter) -> None:
        self._worker = worker
        self._store = store
        self._reporter = reporter
        self._process = ProcessScope(worker)
        self._noted: set[tuple[str, ...]] = set()

    def be_on_node(self, node: str | None) -> None:
        """Takes note of which node the process is on."""
        self._process = ProcessScope(self._worker, node=node)

    def keep(
        self,
        chunk: int,
        value: Any,
        scope: Scope | None,
        processor: Processor,
        seal: Scope | None = None,
    ) -> StoredChunk:
        """Keeps one result; a chunk made here and returned gives it its own scope.

        Args:
            chunk: its id.
            value: the result.
            scope: where it was declared to be valid; None for what its type implies.
            processor: where it was made.
            seal: where the sealed inputs of its task are valid, if there are any.

        Raises:
            ScopeViolationError: it may not be here.
        """
        kind = type(value)
        if kind in _PLAIN or kind is ModuleType:
            # A module is the name of something that every process has for itself.
            if scope is None or kind is ModuleType:
                scope = _UNSCOPED
            return self._put(chunk, value, _within(scope, seal), processor)
        if kind is Chunk and value.id in self._store:
            # Also under a seal: that is how a task hands out what it declassified.
            stored = self._store.alias(chunk, value.id, processor)
            self._report_pin(chunk, stored.scope, self._store.why(chunk))
            return stored
        why = ""
        if scope is None:
            scope, why = self.implied(value, processor)
        scope = _within(scope, seal)
        self._report_pin(chunk, scope, why)
        return self._put(chunk, value, scope, processor, why)

    def _put(
        self, chunk: int, value: Any, scope: Scope, processor: Processor, why: str = ""
    ) -> StoredChunk:
        if scope is not _UNSCOPED and not self._store.topology.admits(scope, self._worker):
            raise ScopeViolationError(
                f"the result is valid on {scope.describe()}, and worker {self._worker}, which made"
                " it, lies outside of that since its labels were changed while it did. Spawn the"
                " task again.",
                chunk,
                scope,
            )
        return self._store.put(chunk, value, scope, processor, why=why)

    def implied(self, value: Any, processor: Processor) -> tuple[Scope, str]:
        """Returns where a value that was made here is valid by its type, with what says so.

        Args:
            value: the value.
            processor: where it was made.

        Raises:
            ScopeViolationError: not here.
        """
        notes: list[tuple[Any, Rule]] = []
        topology = self._store.topology
        implied = implied_by(value, Place(processor, topology, self._process), notes)
        for part, rule in notes:
            self._note(part, rule)
        if implied is None:
            return _UNSCOPED, ""
        if not topology.admits(implied.scope, self._worker):
            reason = implied.why.partition("\n")[0]
            raise ScopeViolationError(
                f"this is worker {self._worker}, and what was made here is valid on"
                f" {implied.scope.describe()} alone: it is {reason}. Make it there: spawn the"
                " task with that scope."
            )
        return implied

    def _note(self, part: Any, rule: Rule) -> None:
        """Tells once, in the output of the task, of what is better left where it is."""
        if rule.keys not in self._noted:
            self._noted.add(rule.keys)
            better = f" Better send {rule.instead}." if rule.instead else ""
            sys.stderr.write(f"scopekit: a task gave a {type_name(part)}: {rule.why}.{better}\n")

    def _report_pin(self, chunk: int, scope: Scope, why: str) -> None:
        """Has the session know what says where a value is valid."""
        if why:
            self._reporter.add(msg.Pinned(chunk, scope, why))


def told_at_once(
    value: Any, results: Sequence[StoredChunk], *, split: bool
) -> tuple[Any, ...] | None:
    """Returns the values that go with the word that a task is done, None if they do not.

    Args:
        value: what the task returned.
        results: the chunks that it is kept as.
        split: True if each of its items is a result.
    """
    if split:
        plain = all(type(item) in _PLAIN and _is_small(item) for item in value)
        free = all(result.scope is _UNSCOPED for result in results)
        return tuple(value) if plain and free else None
    if type(value) in _PLAIN and _is_small(value) and results[0].scope is _UNSCOPED:
        return (value,)
    return None


def _is_small(value: Any) -> bool:
    return type(value) is not int or value.bit_length() <= _MOST_BITS


def _within(scope: Scope, seal: Scope | None) -> Scope:
    return scope if seal is None else constrain(scope, seal)
