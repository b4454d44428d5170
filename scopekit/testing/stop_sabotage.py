"""Schedulers with a bug planted in each where they stop tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.stopped import cancelled_error

if TYPE_CHECKING:
    from scopekit.graph import TaskRecord, WorkerId

__all__ = (
    "AsksNobodyToStop",
    "CancelsWhatRuns",
    "FreesWhatGoesOn",
    "IgnoresThatItStopped",
    "KillsAtOnce",
    "KillsForEveryone",
    "NeverFreesWhatWentOn",
    "NeverKills",
    "PlacesAnewWhatWasToStop",
    "RunsAgainWhatWasToStop",
    "StopsWithoutCancelling",
    "TriesAgainWhatWasToStop",
)


class CancelsWhatRuns(Scheduler):
    """Ends tasks that have begun without waiting for the word of their engines."""

    def _on_cancel(self, event: ev.CancelAsked) -> None:
        record = self.tasks.get(event.task)
        super()._on_cancel(event)
        if record is not None and record.state == "running":
            self._end(record, "cancelled", cancelled_error(record.spec.name), at=event.at)


class AsksNobodyToStop(Scheduler):
    """Lets go on what an engine has."""

    def _cancel(self, record: TaskRecord, at: float) -> None:
        if record.processor is None:
            super()._cancel(record, at)


class IgnoresThatItStopped(Scheduler):
    """Does not listen when an engine says that it stopped a task."""

    def _on_stopped(self, event: ev.RunStopped) -> None:
        pass


class StopsWithoutCancelling(Scheduler):
    """Places a task anew that its engine took back to stop it."""

    def _on_stopped(self, event: ev.RunStopped) -> None:
        record = self._sent_to(event.task, event.worker)
        if record is None or event.started is not None:
            super()._on_stopped(event)
            return
        self._stops.pop(event.task, None)
        self._unship(record)
        self._place_anew(record, event.at, forced=False)


class PlacesAnewWhatWasToStop(Scheduler):
    """Places a task anew that its engine handed back before it heard that it is to stop."""

    def _on_handed_back(self, event: ev.RunHandedBack) -> None:
        self._stops.pop(event.task, None)
        super()._on_handed_back(event)


class RunsAgainWhatWasToStop(Scheduler):
    """Runs a task again elsewhere whose engine died before it could stop it."""

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft, *, begun: bool) -> None:
        self._stops.pop(record.spec.id, None)
        super()._rerun(record, event, begun=begun)


class TriesAgainWhatWasToStop(Scheduler):
    """Tries a task again that raised before it could be stopped."""

    def _on_failed(self, event: ev.RunFailed) -> None:
        self._stops.pop(event.task, None)
        super()._on_failed(event)


class FreesWhatGoesOn(Scheduler):
    """Takes a processor for free as soon as its task was told to stop."""

    def _note_lingering(self, event: ev.RunStopped) -> None:
        pass


class NeverFreesWhatWentOn(Scheduler):
    """Takes a processor for busy for ever whose task did not end at once."""

    def _note_lingering(self, event: ev.RunStopped) -> None:
        if not event.over:
            super()._note_lingering(event)


class KillsAtOnce(Scheduler):
    """Gives nobody the time to stop by himself."""

    def _on_cancel(self, event: ev.CancelAsked) -> None:
        grace = None if event.grace is None else event.grace - 10.0
        super()._on_cancel(event._replace(grace=grace))


class KillsForEveryone(Scheduler):
    """Kills the process of each task that is cancelled, after a while."""

    def _on_cancel(self, event: ev.CancelAsked) -> None:
        super()._on_cancel(event._replace(grace=0.0 if event.grace is None else event.grace))


class NeverKills(Scheduler):
    """Lets go on for ever what is to be stopped by force."""

    def _kill_for(self, task: int, worker: WorkerId, at: float) -> None:
        pass
