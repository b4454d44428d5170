"""What must hold where tasks are stopped.

=== ===================================================================================
C1  a task that is cancelled ends at once where it cannot have begun, else its engine is
    asked; when that says that it stopped, the task ends without a value
C2  what was to stop is never sent again, and code that goes on keeps its processor busy
C3  a process is killed if a task was to stop by force some time ago and still goes on in it,
    and for nothing else
=== ===================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.graph import FINAL_STATES
from scopekit.scheduler import events as ev
from scopekit.scopes import CLIENT
from scopekit.testing.watching import Violation

if TYPE_CHECKING:
    from scopekit.graph import TaskState, WorkerId
    from scopekit.scheduler import Scheduler
    from scopekit.scheduler.load import Load
    from scopekit.scopes import Processor

__all__ = ("StopRules",)


class StopRules:
    """Looks at what is said of tasks that are to stop.

    Args:
        scheduler: the scheduler.
        live: the worker that has the live run of each task, as far as is known.
        settled: the state in which each task ended.
    """

    def __init__(
        self, scheduler: Scheduler, live: dict[int, WorkerId], settled: dict[int, TaskState]
    ) -> None:
        self._scheduler = scheduler
        self._live = live
        self._settled = settled
        # Code that goes on of tasks that were stopped, with its processor.
        self._lingering: dict[tuple[WorkerId, int], Processor] = {}
        self._asked: dict[int, None] = {}
        self._unanswered: dict[int, WorkerId] = {}
        self._kill_from: dict[int, float] = {}
        self._put_down: dict[WorkerId, None] = {}
        self._now = 0.0

    # -- what happens ---------------------------------------------------------------------

    def note(self, event: ev.Event) -> None:
        """Takes note of an event, before anything is looked at."""
        if isinstance(event, ev.RunStopped):
            self._note_stopped(event)
        elif isinstance(event, ev.WorkerLeft):
            for key in [key for key in self._lingering if key[0] == event.worker]:
                del self._lingering[key]
        elif isinstance(event, ev.CancelAsked) and event.grace is not None:
            self._kill_from[event.task] = event.at + event.grace
        elif isinstance(event, ev.TimePassed):
            self._now = event.at

    def _note_stopped(self, event: ev.RunStopped) -> None:
        if event.over:
            self._lingering.pop((event.worker, event.task), None)
        elif event.processor and self._scheduler.topology.process(event.worker) is not None:
            self._lingering[event.worker, event.task] = event.processor

    # -- what is said -----------------------------------------------------------------------

    def look_at_start(self, command: ev.StartRun) -> None:
        """Looks at a task that is sent."""
        if command.task in self._asked:
            raise Violation("C2", f"task {command.task} is sent again, and was to stop")

    def look_at_stop(self, command: ev.StopRuns) -> None:
        """Looks at an engine that is asked to stop tasks."""
        for task in command.tasks:
            self._asked[task] = None
            record = self._scheduler.tasks.get(task)
            ended = record is None or record.state in FINAL_STATES
            if ended and self._live.get(task) == command.worker:
                del self._live[task]

    def look_at_kill(self, command: ev.KillWorker) -> None:
        """Looks at a process that is to be killed."""
        worker = command.worker
        self._put_down[worker] = None
        goes_on = [task for where, task in self._lingering if where == worker]
        goes_on += [task for task, where in self._unanswered.items() if where == worker]
        if not any(self._kill_from.get(task, self._now + 1) <= self._now for task in goes_on):
            raise Violation("C3", f"worker {worker} is killed, and nobody asked for that")

    def look_at_settle(self, command: ev.Settle) -> None:
        """Looks at a task that ended."""
        self._asked.pop(command.task, None)
        if command.state == "cancelled" and command.task in self._live:
            # Its engine gave no answer for too long.
            self._unanswered[command.task] = self._live.pop(command.task)

    # -- what follows -------------------------------------------------------------------------

    def look_back(self, event: ev.Event, commands: list[ev.Command], *, accepted: bool) -> None:
        """Looks at what followed from an event."""
        if isinstance(event, ev.CancelAsked):
            self._look_at_cancelled(event, commands)
        elif isinstance(event, ev.RunStopped) and accepted:
            state = self._settled.get(event.task)
            if state != ("failed" if event.late else "cancelled"):
                raise Violation("C1", f"task {event.task} was stopped, and is {state}")
        elif isinstance(event, ev.TimePassed):
            for worker, task in self._lingering:
                alive = worker != CLIENT and worker not in self._put_down
                if alive and self._kill_from.get(task, self._now + 1) <= self._now:
                    raise Violation("C3", f"task {task} goes on, and worker {worker} is not killed")

    def _look_at_cancelled(self, event: ev.CancelAsked, commands: list[ev.Command]) -> None:
        task, stops = event.task, ev.StopRuns
        record = self._scheduler.tasks.get(task)
        if record is None:
            return
        asked = any(isinstance(c, stops) and task in c.tasks for c in commands)
        if task in self._live and not asked:
            raise Violation("C1", f"task {task} was cancelled, and its engine not asked")
        ended = any(isinstance(c, ev.Settle) and c.task == task for c in commands)
        if asked and ended and not record.missing:
            raise Violation("C1", f"task {task} ended before its engine said that it stopped")
        if not asked and record.state not in FINAL_STATES:
            raise Violation("C1", f"task {task} was cancelled, and is {record.state}")

    def check(self, load: Load) -> None:
        """Looks at the load of a processor."""
        if load.processor.worker in self._put_down:
            return
        goes_on = [task for (_, task), where in self._lingering.items() if where == load.processor]
        if sorted(goes_on) != sorted(load.lingering):
            said = list(load.lingering)
            raise Violation("C2", f"on {load.processor} {goes_on} go on, and {said} are counted")
