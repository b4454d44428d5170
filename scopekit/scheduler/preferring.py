"""Where tasks would rather run: which of the processors that they may have they take now."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from scopekit.scheduler import events as ev
from scopekit.scheduler.choosing import Choosing
from scopekit.scheduler.patience import Patience

if TYPE_CHECKING:
    from scopekit.graph import TaskRecord, Wish
    from scopekit.places import Topology
    from scopekit.scheduler.load import Load
    from scopekit.scopes import Scope

__all__ = ("Preferring",)


class _Standing(NamedTuple):
    """What a task takes now.

    Attributes:
        wishes: what it prefers, each with the processors of it that it may have.
        takes: the processors that it takes.
        patience: after how many seconds of waiting it takes more, None if it takes all that
            it may have.
    """

    wishes: tuple[tuple[int, Wish], ...]
    takes: int
    patience: float | None


class Preferring(Choosing):
    """Follows preferences as far as that goes; they never widen where a task may run.

    A task tries in their order what it prefers. What is not there, or not allowed, is passed
    over. What is busy, so that nothing more is sent there for now, is passed over as well
    unless the task has patience: then it waits in a line for what it prefers alone, where
    it is in nobody's way, until its patience is over.
    """

    def __init__(self, topology: Topology, budget: float) -> None:
        super().__init__(topology, budget)
        self.patience = Patience()
        # Asked back for an idle processor that they prefer less than the busy one.
        self._lured: dict[int, None] = {}

    def _standing(self, record: TaskRecord) -> _Standing:
        topology = self.topology
        leaving = 0
        for worker in self.loads.draining:
            leaving |= topology.worker_mask(worker)
        allowed = record.allowed
        wishes = tuple(
            (topology.mask(wish.scope) & allowed & ~leaving, wish) for wish in record.spec.prefer
        )
        since = self.patience.since.get(record.spec.id)
        takes, patience = 0, 0.0
        for found, wish in wishes:
            if found:
                takes |= found
                patience += wish.busy
                # By the very sum that was waited for: a difference would be rounded.
                if patience and (since is None or self._clock < since + patience):
                    return _Standing(wishes, takes, patience)
        return _Standing(wishes, allowed, None)

    def _choose_preferred(
        self, record: TaskRecord, among: int, *, forced: bool
    ) -> tuple[Load, str] | None:
        """Chooses among the allowed processors, or some of them, by what a task prefers."""
        standing = self._standing(record)
        among &= standing.takes
        if record.spec.id in self._lured:
            # Else it would be sent back to where it was asked for.
            among = among & self.loads.idle or among
        for found, _ in standing.wishes:
            if found & among:
                choice = self._choose(record, found & among, forced=False)
                if choice is not None:
                    return self._with_reasons(record, standing, *choice)
        choice = self._choose(record, among, forced=forced)
        return None if choice is None else self._with_reasons(record, standing, *choice)

    def _choose_for_plan(self, record: TaskRecord) -> tuple[Load, str] | None:
        if not record.spec.prefer:
            return super()._choose_for_plan(record)
        return self._choose_preferred(record, record.allowed, forced=True)

    def _with_reasons(
        self, record: TaskRecord, standing: _Standing, load: Load, rule: str
    ) -> tuple[Load, str]:
        """Says which preference counted, and why those before it did not."""
        said = []
        for found, wish in standing.wishes:
            if found & load.bit:
                rule = f"it prefers {_described(wish.scope)}"
                break
            if found:
                why = f"was busy for {wish.busy:g} s" if wish.busy else "was busy"
            elif self.topology.mask(wish.scope) & record.allowed:
                why = "is to be removed"
            else:
                why = "is not allowed" if self.topology.mask(wish.scope) else "is not there"
            said.append(f"{_described(wish.scope)} {why}")
        return load, "; ".join([rule, *said])

    def _first_choice(self, record: TaskRecord) -> int:
        """Returns the processors that a task prefers to all others, all of them if to none."""
        if not record.spec.prefer:
            return record.allowed
        found = (found for found, _ in self._standing(record).wishes if found)
        return next(found, record.allowed)

    # -- waiting ------------------------------------------------------------------------------

    def _waits_for(self, record: TaskRecord) -> int:
        """Returns the processors that a task waits for, by what it prefers."""
        standing = self._standing(record)
        self._be_patient(record, standing)
        return standing.takes

    def _be_patient(self, record: TaskRecord, standing: _Standing | None = None) -> None:
        """Begins to count how long a task waits that has its inputs."""
        if record.missing:
            return
        patience = (standing or self._standing(record)).patience
        if patience is not None:
            self.patience.begin(record.spec.id, patience)

    def _forget_patience(self, record: TaskRecord) -> None:
        """Has a task that ended, or runs anew, begin to wait anew."""
        self.patience.end(record.spec.id)
        self._lured.pop(record.spec.id, None)

    def _lure(self, record: TaskRecord) -> None:
        """Asks a task back from a processor that did not come to it, if others are idle."""
        assert record.processor is not None
        load = self.loads.by_processor[record.processor]
        takes = self._standing(record).takes
        if takes & self.loads.idle & ~load.bit and not record.asked_back:
            record.asked_back = True
            self._lured[record.spec.id] = None
            asked = (record.spec.id,)
            self.out.put(ev.RunsAskedBack(load.processor.worker, asked, self.out.cause))
        self._be_patient(record)

    def _may_be_lured(self, record: TaskRecord, loaded: Load, idle: Load) -> bool:
        """Tells whether an idle processor may have a task that another was given."""
        standing = self._standing(record)
        ranks = [found for found, _ in standing.wishes]
        of_loaded = next((n for n, found in enumerate(ranks) if found & loaded.bit), len(ranks))
        of_idle = next((n for n, found in enumerate(ranks) if found & idle.bit), len(ranks))
        if of_idle <= of_loaded:
            return True
        if not standing.takes & idle.bit or self.loads.has_room(loaded):
            return False
        self._lured[record.spec.id] = None
        return True

    def _why_in_line(self, record: TaskRecord) -> str:
        if record.line in (0, record.allowed):
            return super()._why_in_line(record)
        standing = self._standing(record)
        names = ", ".join(_described(wish.scope) for found, wish in standing.wishes if found)
        since = self.patience.since.get(record.spec.id)
        left = standing.patience or 0.0
        if since is not None:
            left += since - self._clock
        return f"it prefers {names}, which is busy, for up to {max(0.0, left):.3g} s more"


@lru_cache(maxsize=4096)
def _described(scope: Scope) -> str:
    return scope.describe()
