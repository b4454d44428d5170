"""Judges anew what a change of a living process touches: its labels, or its processors.

What the process has not begun, and may not run any more, comes back; what it runs goes on.
A chunk that it holds, and may not hold any more, is sent to a process that may; once it is
there it is dropped here. Until then nobody gets at it here, since whoever holds it judges by
the new labels, too. Where no process may have it, it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.scheduler import events as ev
from scopekit.scheduler.leaving import is_on_its_way, where_it_can_go
from scopekit.scheduler.recovering import Recovering
from scopekit.scopes import AnyScope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.graph import ChunkRecord, TaskRecord, WorkerId
    from scopekit.places import Topology

__all__ = ("Changing",)

_UNSCOPED = AnyScope()
# What was sent may be lost on the way, and nobody waits for it who would ask again.
_SEND_AGAIN_SECONDS = 2.0


class Changing(Recovering):
    """Takes in that processes changed."""

    def __init__(self, topology: Topology, budget: float) -> None:
        super().__init__(topology, budget)
        self._sent_again = 0.0

    def _on_changed(self, event: ev.ProcessesChanged) -> None:
        # Some of them may be gone meanwhile.
        changed = [p for p in event.processes if self.topology.process(p.worker) is not None]
        if not changed:
            return
        self._at = self._clock = event.at
        for process in changed:
            self.topology = self.topology.with_process(process)
        self._rebuild_loads()
        scoped = [c for c in self.table.records.values() if c.scope is not _UNSCOPED]
        for chunk in scoped:
            self.table.keep_inside(chunk, self.topology)
        # What is on its way moves on from its home, if there is anybody to have it.
        gone = [c for c in scoped if is_on_its_way(c) and self._home_inside(c) is None]
        if gone:
            self._lose(gone)
        self._move_inside()
        for process in changed:
            self._send_away(process.worker)
        self._replace_all(event.at)

    def _send_away(self, worker: WorkerId) -> None:
        """Takes back what a process may not run any more."""
        unfit = []
        for load in self.loads.of_worker.get(worker, ()):
            for task in load.tasks:
                record = self.tasks[task]
                record.allowed = self._allowed_now(record)
                if not record.allowed & load.bit:
                    unfit.append(record)
        self._take_back(worker, unfit)

    def _take_back(self, worker: WorkerId, records: Iterable[TaskRecord]) -> None:
        """Takes tasks back from a process, unless they have begun or are being stopped."""
        asked: list[int] = []
        for record in records:
            task = record.spec.id
            if record.state == "running" or task in self._stops:
                continue
            if record.missing and not record.may_have_begun:
                self._retract(record)
                self._count_unplanned(record)
                self._to_place.append(task)
            elif not record.asked_back:
                record.asked_back = True
                asked.append(task)
        if asked:
            self.out.put(ev.RunsAskedBack(worker, tuple(asked), self.out.cause))

    def _move_inside(self) -> None:
        """Sends each chunk that lies outside of its scope alone to a process inside."""
        lost = []
        for chunk in self.table.find(list(self.table.outside)):
            self.table.keep_inside(chunk, self.topology)
            if chunk.id in self.table.outside and not chunk.senders:
                home = self._home_inside(chunk)
                if home is None:
                    lost.append(chunk)
                else:
                    self.table.deliver(chunk, home, None)
        if lost:
            self._lose(lost)

    def _home_inside(self, chunk: ChunkRecord) -> WorkerId | None:
        """Chooses a process that may have a chunk, None if there is none."""
        staying = where_it_can_go(self, chunk)
        if staying is not None:
            return staying
        processes = self.topology.processes
        return next(
            (p.worker for p in processes if self.topology.admits(chunk.scope, p.worker)), None
        )

    def _send_again(self, at: float) -> None:
        """Sends once more what has been on its way inside for long."""
        if at < self._sent_again + _SEND_AGAIN_SECONDS:
            return
        self._sent_again = at
        self._move_inside()
        for chunk in self.table.find(list(self.table.outside)):
            for to in chunk.senders:
                self.table.send_again(chunk.id, to, self.topology)

    def _send_again_at(self) -> float | None:
        """Returns when to look after what is on its way inside, None if nothing is."""
        return self._sent_again + _SEND_AGAIN_SECONDS if self.table.outside else None

    def _lose(self, lost: list[ChunkRecord]) -> None:
        """Drops chunks that no process may have."""
        for chunk in lost:
            self.table.lose(chunk, self.topology)
            self._expect_again(chunk)
        for record in self._bereft({chunk.id: chunk for chunk in lost}):
            if record.state != "running":
                self._miss_again(record, self._at)
        for chunk in lost:
            if chunk.state == "lost" and chunk.handles > 0 and not chunk.told:
                self._make_again([chunk], self._at)
            self.table.release_if_unwanted(chunk)
