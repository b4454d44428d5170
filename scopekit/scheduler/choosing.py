"""Chooses the processor of a task: by its scopes, by load, by what there is to move."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from scopekit.graph import TaskRecord
from scopekit.scheduler.placement import allowed_mask, explain
from scopekit.scheduler.records import Records, outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.explanation import Explanation
    from scopekit.graph import ChunkRecord, WorkerId
    from scopekit.places import Topology
    from scopekit.scheduler.load import Load
    from scopekit.scheduler.placement import Operands

__all__ = ("Choosing",)

_MASKS_KEPT = 4096


class Choosing(Records):
    """Weighs the processors that a task may run on."""

    def __init__(self, topology: Topology, budget: float) -> None:
        super().__init__(topology, budget)
        self._masks: dict[int, tuple[Operands, int]] = {}

    def _mask(self, operands: Operands) -> int:
        # Most tasks have the very operands of the one before.
        known = self._masks.get(id(operands))
        if known is not None and known[0] is operands:
            return known[1]
        mask = allowed_mask(operands, self.topology)
        if len(self._masks) >= _MASKS_KEPT:
            self._masks.clear()
        self._masks[id(operands)] = (operands, mask)
        return mask

    def _allowed_now(self, record: TaskRecord) -> int:
        """Returns the processors that a task may run on by what its inputs turned out to be."""
        if record.spec.inputs:
            record.operands = None
            record.operands = self.operands(record)
        return self._mask(self.operands(record))

    def plan(self, spec: Any) -> Explanation:
        """Tells where a task would go now, without taking it in."""
        record = TaskRecord(spec, 0.0)
        operands = self.operands(record)
        mask = record.allowed = allowed_mask(operands, self.topology)
        missing = self.missing_names(record)
        tell = partial(explain, spec.name, operands, pins=self.pins_of(record))
        if not mask:
            found = outcome(operands, self.topology)
            return tell(self.topology, outcome=found)
        if missing:
            return tell(self.topology, outcome="waiting", waiting_for=missing)
        choice = self._choose_for_plan(record)
        if choice is None:
            rule = "all that may run it are kept for others"
            return tell(self.topology, outcome="queued", rule=rule)
        load, rule = choice
        return tell(
            self.topology,
            outcome="placed",
            chosen=load.processor,
            rule=rule,
        )

    def _choose_for_plan(self, record: TaskRecord) -> tuple[Load, str] | None:
        return self._choose(record, record.allowed, forced=True)

    def doubted_inputs(self, record: TaskRecord) -> list[TaskRecord]:
        """Returns the makers of inputs that may turn out to be valid in fewer places."""
        makers = []
        for need in record.spec.inputs:
            chunk = self.table.records[need.chunk]
            if chunk.maker is None or chunk.state != "pending":
                continue
            maker = self.tasks[chunk.maker]
            if self.doubts.scoped.get(maker.spec.function, True):
                makers.append(maker)
        return makers

    def _choose(self, record: TaskRecord, allowed: int, *, forced: bool) -> tuple[Load, str] | None:
        """Chooses among the allowed processors, or some of them.

        Returns:
            The load of the processor with the reason in words, None if none has room.
        """
        loads = self.loads
        if record.spec.inputs:
            near = self._near(record, allowed, forced=forced)
            if near is not None:
                return near
        load = loads.pick(allowed)
        if load is not None:
            if allowed & (allowed - 1) == 0:
                return load, "the only processor allowed"
            if allowed & loads.room == load.bit and not load.tasks:
                return load, "the only one with room"
            return load, "least loaded"
        if not forced:
            return None
        among = [loads.by_processor[p] for p in self.topology.select(allowed)]
        open_to_all = [load for load in among if loads.is_open(load.processor.worker)]
        least = min(open_to_all, key=lambda load: load.seconds, default=None)
        return None if least is None else (least, "least loaded")

    def _near(self, record: TaskRecord, allowed: int, *, forced: bool) -> tuple[Load, str] | None:
        """Weighs the processors where a task's inputs are against the least loaded one.

        Returns:
            None if the task is better off, or as well, wherever there is room.
        """
        homes, to_move, ready = self._homes(record)
        best: Load | None = None
        best_cost = 0.0
        loads = self.loads
        usable = loads.may_wait_at if record.missing or forced else loads.has_room
        for worker, saved in homes.items():
            load = loads.least(allowed, worker)
            if load is None:
                continue
            # Where moving takes longer than waiting, a task waits.
            worth_waiting = loads.seconds_of(worker) < saved and loads.may_wait_at(load)
            if worth_waiting or usable(load):
                cost = max(loads.seconds_of(worker), ready) + to_move - saved
                if best is None or cost < best_cost:
                    best, best_cost = load, cost
        if best is None:
            return None
        if allowed == best.bit:
            return best, "the only processor allowed"
        if best_cost > ready + self.transfers.latency:
            other = loads.pick(self._elsewhere(allowed, homes))
            if other is not None:
                begin = max(loads.seconds_of(other.processor.worker), ready)
                if begin + to_move < best_cost:
                    return other, "least loaded"
        there = homes[best.processor.worker] >= to_move
        return best, "its inputs are there" if there else "least to move"

    def _elsewhere(self, mask: int, workers: Iterable[WorkerId]) -> int:
        """Leaves some workers out of a mask."""
        for worker in workers:
            mask &= ~self.topology.worker_mask(worker)
        return mask

    def _homes(self, record: TaskRecord) -> tuple[dict[WorkerId, float], float, float]:
        """Looks for where a task's inputs are, or will be made.

        Inputs that come from elsewhere come at the same time, so that all of them together
        cost one latency.

        Returns:
            For each worker that has one of them how many seconds of moving that saves; how
            many it takes to move all of them; and how long it takes until all are made.
        """
        homes: dict[WorkerId, float] = {}
        inputs = record.spec.inputs
        share = self.transfers.latency / len(inputs)
        to_move = ready = 0.0
        for need in inputs:
            chunk = self.table.records[need.chunk]
            cost = share + self.transfers.seconds_for(chunk.nbytes)
            to_move += cost
            if chunk.state == "held":
                for worker in chunk.holders:
                    homes[worker] = homes.get(worker, 0.0) + cost
            else:
                home = self._maker_worker(chunk)
                if home is not None:
                    homes[home] = homes.get(home, 0.0) + cost
                ready = max(ready, self._seconds_until_made(chunk))
            for worker in chunk.senders:
                homes[worker] = homes.get(worker, 0.0) + cost
        return homes, to_move, ready

    def _seconds_to_move(self, record: TaskRecord, worker: WorkerId) -> float:
        """Returns how long it takes to bring a task's inputs to a worker."""
        inputs = (self.table.records[need.chunk] for need in record.spec.inputs)
        sizes = [chunk.nbytes for chunk in inputs if worker not in chunk.holders]
        return self.transfers.estimate(sum(sizes)) if sizes else 0.0

    def _seconds_until_made(self, chunk: ChunkRecord) -> float:
        maker = None if chunk.maker is None else self.tasks.get(chunk.maker)
        if maker is None:
            return 0.0
        if maker.ready > self._at:
            return maker.ready - self._at
        # One that is overdue takes as long as any of its kind, as far as we know.
        return self.loads.estimate(maker.spec.function)

    def _maker_worker(self, chunk: ChunkRecord) -> WorkerId | None:
        """Returns the worker that was told to make a chunk, None if none was."""
        maker = None if chunk.maker is None else self.tasks.get(chunk.maker)
        if maker is None or maker.processor is None:
            home = chunk.processor
            return home.worker if home is not None and chunk.maker is None else None
        return maker.processor.worker
