"""Doubts: whose results may turn out to be valid in fewer places than was declared.

Only a run can tell the scope of a chunk that a task makes by itself. A task that is sent
ahead of such an input would be handed back wherever that scope leaves its engine out, and
would come last where others used the input in the order in which they were spawned. So
the results of a function that never ran, or that once gave a scoped one, are in doubt.
"""

from __future__ import annotations

__all__ = ("Doubts",)

_FUNCTIONS_KEPT = 10_000


class Doubts:
    """Learns from results which functions give scoped ones.

    Attributes:
        scoped: the functions of which results were seen, and whether one was scoped.
    """

    def __init__(self) -> None:
        self.scoped: dict[str, bool] = {}
        self._held: dict[str, dict[int, None]] = {}

    def hold(self, task: int, function: str) -> None:
        """Takes note that a task is held until the first result of a function is known."""
        if function not in self.scoped:
            self._held.setdefault(function, {})[task] = None

    def learn(self, function: str, *, scoped: bool) -> list[int]:
        """Takes note of one result.

        Returns:
            The tasks that were held until now.
        """
        known = self.scoped.get(function)
        if known is None or (scoped and not known):
            self.scoped[function] = scoped
            if len(self.scoped) > _FUNCTIONS_KEPT:
                del self.scoped[next(iter(self.scoped))]
        return self.release(function) if self._held else []

    def release(self, function: str) -> list[int]:
        """Returns the tasks that are held for a function, and holds them no more.

        Those of which an input is still in doubt are to be held anew: a function that
        only fails would gather tasks that ended long ago.
        """
        return list(self._held.pop(function, ()))
