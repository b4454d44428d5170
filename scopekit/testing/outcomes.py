"""What came of a world, against what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scopekit.errors import (
    ChunkLostError,
    NoProcessorError,
    SchedulingError,
    ScopeConflictError,
    ScopeViolationError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)
from scopekit.scheduler.placement import never_meet
from scopekit.testing.watching import Violation
from scopekit.testing.work import TaskError, value_of

if TYPE_CHECKING:
    from scopekit.graph import WorkerId
    from scopekit.scheduler import Scheduler
    from scopekit.scheduler.events import Settle
    from scopekit.testing.acts import Spawn
    from scopekit.testing.work import Held

__all__ = ("Truth",)

_DEATHS = 3


@dataclass(slots=True)
class Truth:
    """What really happened, which the scheduler is not told.

    Attributes:
        spawned: the tasks that were taken in, each with the inputs that it was given.
        values: what each chunk must be, computed directly.
        began: how many runs of each task ever began.
        failed: how many of them raised, as far as engines came to say so.
        deaths: of each task, how many processes died that were told to run it.
        kills: how many processes each task killed.
        cancelled: what the user wanted not to run.
        rescoped: the chunks whose scope the user narrowed.
        late: what took longer than it may.
        unreadable: chunks that no process could read.
        released: what was held, and was let go where its block ended.
        done: what ended well.
    """

    spawned: dict[int, Spawn] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)
    began: dict[int, int] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    kills: dict[int, int] = field(default_factory=dict)
    cancelled: dict[int, None] = field(default_factory=dict)
    rescoped: dict[int, None] = field(default_factory=dict)
    late: dict[int, None] = field(default_factory=dict)
    unreadable: dict[int, None] = field(default_factory=dict)
    released: dict[int, None] = field(default_factory=dict)
    done: dict[int, None] = field(default_factory=dict)
    faults: int = 0

    def spawn(self, spawn: Spawn) -> None:
        """Takes a task in, with what its results must be."""
        self.spawned[spawn.task] = spawn
        inputs = [self.values[chunk] for chunk in spawn.inputs]
        for output in range(spawn.outputs):
            self.values[spawn.task + 1 + output] = value_of(spawn.task, output, inputs)

    def begin(self, task: int) -> int:
        """Takes note that a run began.

        Raises:
            Violation: it must not.
        """
        runs = self.began[task] = self.began.get(task, 0) + 1
        spawn = self.spawned[task]
        # What it raised may be tried again all the same: an error is told, a death is not.
        if spawn.held and task not in self.released:
            raise Violation("I9", f"task {task} began, and is held")
        early = [before for before in spawn.after if before not in self.done]
        if early:
            raise Violation("I9", f"task {task} began before tasks {early} ended well")
        if not spawn.idempotent and runs > 1 + self.failed.get(task, 0):
            raise Violation("I3", f"task {task} must not run twice, and began {runs} times")
        return runs

    def fail(self, task: int) -> None:
        """Takes note that a run raised, and that the client was told.

        Raises:
            Violation: it had been tried often enough.
        """
        failed = self.failed[task] = self.failed.get(task, 0) + 1
        if failed > self.spawned[task].retries + 1:
            raise Violation("retries", f"task {task} was tried again {failed - 1} times")

    def kill(self, task: int) -> None:
        """Takes note that a task killed its process.

        Raises:
            Violation: it was let to kill more than it may.
        """
        kills = self.kills[task] = self.kills.get(task, 0) + 1
        # One death may be another's doing as far as can be told: the word that its inputs
        # were made can die with the process.
        if kills > _DEATHS + len(self.spawned[task].inputs):
            raise Violation("kills", f"task {task} killed {kills} processes")

    def holds(self, worker: WorkerId, chunk: int, held: Held) -> None:
        """Takes note of a value that a process comes to hold.

        Raises:
            Violation: it is not what it must be.
        """
        if held.value != self.values[chunk]:
            raise Violation("values", f"worker {worker} has {held.value} for chunk {chunk}")

    def ends(self, settle: Settle, scheduler: Scheduler, now: float) -> None:
        """Judges how a task ended.

        Raises:
            Violation: it had no reason to end so.
        """
        task, state, failure = settle.task, settle.state, settle.failure
        spawn = self.spawned[task]
        if state == "done":
            self.done[task] = None
            right = self.began.get(task, 0) > 0
        elif state == "cancelled":
            right = task in self.cancelled and isinstance(failure, TaskCancelledError)
        elif state == "blocked":
            right = settle.origin is not None and self._needs(task, settle.origin)
        elif isinstance(failure, TaskTimeoutError):
            right = task in self.late and state == "failed"
        elif isinstance(failure, TaskError):
            right = self.failed.get(task, 0) > spawn.retries or self._needs_unreadable(spawn)
        elif isinstance(failure, ScopeViolationError):
            # Of a value that could not be kept where it came, or was made, by new labels.
            right = self.faults > 0
        elif isinstance(failure, SchedulingError):
            right = self._is_nowhere(task, failure, scheduler, now)
        elif isinstance(failure, WorkerLostError):
            right = self._may_have_died(spawn, scheduler)
        else:
            right = isinstance(failure, ChunkLostError) and any(
                self._is_gone(chunk, scheduler) for chunk in spawn.inputs
            )
        if not right:
            raise Violation("reasons", f"task {task} ended as {state}, by {failure!r}")

    def _needs(self, task: int, origin: int) -> bool:
        """Tells whether a task is made of what another gives."""
        todo = [task]
        seen: dict[int, None] = {}
        while todo:
            spawn = self.spawned[todo.pop()]
            for maker in (*(chunk - chunk % 10 for chunk in spawn.inputs), *spawn.after):
                if maker == origin:
                    return True
                if maker in self.spawned and maker not in seen:
                    seen[maker] = None
                    todo.append(maker)
        return False

    def _is_gone(self, number: int, scheduler: Scheduler) -> bool:
        """Tells whether a chunk is not there and cannot be made again."""
        chunk = scheduler.chunks.get(number)
        if chunk is not None and chunk.state in ("held", "pending"):
            return False
        if number in self.rescoped:
            return True
        maker = self.spawned.get(number - number % 10)
        record = None if maker is None else scheduler.tasks.get(maker.task)
        if self.faults == 0 or maker is None or record is None:
            return chunk is None or chunk.state == "released" or maker is None
        if not maker.idempotent or record.state != "done":
            return True
        nowhere = not scheduler._mask(scheduler.operands(record))
        return nowhere or any(self._is_gone(need, scheduler) for need in maker.inputs)

    def _needs_unreadable(self, spawn: Spawn) -> bool:
        return any(chunk in self.unreadable for chunk in spawn.inputs)

    def _is_nowhere(
        self, task: int, failure: SchedulingError, scheduler: Scheduler, now: float
    ) -> bool:
        record = scheduler.tasks.get(task)
        if record is None:
            return True  # folded away at once, where little history is kept: nobody can tell
        assert record.operands is not None
        topology = scheduler.topology
        if isinstance(failure, ScopeConflictError):
            return never_meet(record.operands, topology)
        mask = topology.everything
        for _, scope in record.operands:
            mask &= topology.mask(scope)
        in_time = record.deadline is not None and now < record.deadline
        return isinstance(failure, NoProcessorError) and not mask and not in_time

    def _may_have_died(self, spawn: Spawn, scheduler: Scheduler) -> bool:
        deaths = self.deaths.get(spawn.task, 0)
        record = scheduler.tasks.get(spawn.task)
        nowhere = record is None or not scheduler._mask(scheduler.operands(record))
        return deaths >= (1 if nowhere or not spawn.idempotent else _DEATHS)
