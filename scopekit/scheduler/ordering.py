"""Holds tasks back until those that are to run before them have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler.sending import Sending

if TYPE_CHECKING:
    from scopekit.scheduler import events as ev

__all__ = ("Ordering",)


class Ordering(Sending):
    """Counts what a task waits for besides its inputs: its gates.

    There is one for each task that is to end before it, and one for the block that it was
    spawned in, if that hands its tasks over together. With a gate that is shut it has
    no processor, unless one took it where it was spawned.
    """

    def _shut_gates(self, record: TaskRecord, at: float) -> None:
        """Counts the gates of a task that is new."""
        spec = record.spec
        if spec.held:
            record.held = True
            record.gates += 1
        for task in spec.after:
            before = self.tasks.get(task)
            # One that is forgotten had ended well: somebody holds a handle to it.
            if before is None or before.state == "done":
                continue
            record.gates += 1
            if before.state in FINAL_STATES:
                self._to_block.append((spec.id, before.spec.outputs[0], at))
            else:
                self._followers.setdefault(task, []).append(spec.id)

    def _let_follow(self, record: TaskRecord) -> None:
        """Opens the gates that a task shut, now that it has ended; ends what it fails."""
        at = record.finished or 0.0
        for follower in self.found(self._followers.pop(record.spec.id, ())):
            if record.state == "done":
                self._open_gate(follower)
            else:
                self._to_block.append((follower.spec.id, record.spec.outputs[0], at))

    def _open_gate(self, record: TaskRecord) -> None:
        record.gates -= 1
        if not record.gates and not record.unplanned:
            self._to_place.append(record.spec.id)

    def _on_block_ended(self, event: ev.BlockEnded) -> None:
        self._at = event.at
        for record in self.found(event.tasks):
            if record.held:
                record.held = False
                self._open_gate(record)
