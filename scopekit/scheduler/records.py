"""What the scheduler knows, as far as it can be told."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from scopekit.errors import NoProcessorError
from scopekit.graph import FINAL_STATES
from scopekit.scheduler.chunks import Chunks, Outbox
from scopekit.scheduler.doubts import Doubts
from scopekit.scheduler.load import Durations, Loads
from scopekit.scheduler.placement import Operands, explain, never_meet
from scopekit.scheduler.transfers import Transfers
from scopekit.scopes import AnyScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from scopekit.explanation import Explanation
    from scopekit.graph import ChunkRecord, Input, TaskRecord, WorkerId
    from scopekit.places import Topology
    from scopekit.rescoping import Rescoping
    from scopekit.scheduler.lines import Ranked
    from scopekit.scopes import Processor, Scope

__all__ = ("Records", "outcome")

_UNSCOPED = AnyScope()
_RESCOPINGS_KEPT = 100_000


class Records:
    """The records of tasks, chunks and loads, with what can be told of them.

    Args:
        topology: the processes there are.
        budget: seconds of work sent ahead to a processor.
    """

    def __init__(self, topology: Topology, budget: float) -> None:
        self.topology = topology
        self.tasks: dict[int, TaskRecord] = {}
        self.out = Outbox()
        self.table = Chunks(self.out, lambda: self._at)
        self.budget = budget
        self.durations = Durations()
        self.transfers = Transfers()
        self.doubts = Doubts()
        # Tasks that have no processor: in lines by the mask of where they may run, without
        # anybody who may run them now, and to be alone in a process.
        self._lines: dict[int, deque[int] | Ranked] = {}
        self._ranked: dict[int, Ranked] = {}  # those of the lines that have priorities
        self._knows_priorities = False
        self._unmatched: dict[int, None] = {}
        self._suspects: dict[int, None] = {}
        # Who waits for whose end, without needing its result.
        self._followers: dict[int, list[int]] = {}
        self._unplanned: dict[int, None] = {}  # whose results others were sent ahead for
        # Tasks that engines were asked to stop and have not answered for, processes that are
        # to be killed for a task from some time on, and what tasks have spawned.
        self._stops: dict[int, None] = {}
        self._kills: dict[int, tuple[WorkerId, float]] = {}
        # Whose time to stop was over before a word of them came.
        self._forced: dict[int, float] = {}
        self._children: dict[int, list[int]] = {}
        self._finished: deque[int] = deque()
        self._finished_before = 0
        self.rescopings: deque[Rescoping] = deque(maxlen=_RESCOPINGS_KEPT)
        # What is to be done before the next event.
        self._to_block: deque[tuple[int, int, float]] = deque()
        self._to_place: deque[int] = deque()
        self._to_use: deque[Processor] = deque()
        self._to_cancel: deque[int] = deque()
        self._at = 0.0
        # By the client's clock alone: engines have clocks of their own.
        self._clock = 0.0
        self.loads = Loads(topology, self.durations, budget)

    @property
    def lines(self) -> Mapping[int, deque[int] | Ranked]:
        """The tasks in lines, by the mask of where they may run; some may have left theirs."""
        return self._lines

    @property
    def chunks(self) -> dict[int, ChunkRecord]:
        """The records of the chunks, by id."""
        return self.table.records

    def found(self, tasks: Iterable[int]) -> Iterator[TaskRecord]:
        """Yields the records of tasks, of those that were not folded away, by priority.

        What waits for a chunk stays on its list when it ends otherwise, perhaps for long.
        """
        for task in self._by_priority(tasks) if self._knows_priorities else tasks:
            record = self.tasks.get(task)
            if record is not None:
                yield record

    def _by_priority(self, tasks: Iterable[int]) -> list[int]:
        known = self.tasks
        return sorted(tasks, key=lambda t: -known[t].spec.priority if t in known else 0)

    def _sent_to(self, task: int, worker: WorkerId) -> TaskRecord | None:
        """Returns the record of a task if that worker is the one that has it now."""
        record = self.tasks.get(task)
        if record is None or record.state not in ("queued", "running", "waiting"):
            return None
        if record.processor is None or record.processor.worker != worker:
            return None
        return record

    # -- scopes of a task ----------------------------------------------------------

    def operands(self, record: TaskRecord) -> Operands:
        """Returns every scope that bears on a task, with its origin."""
        if record.operands is not None:
            return record.operands
        if not record.spec.inputs:
            return record.spec.operands
        return record.spec.operands + self._input_operands(record, declared=False)

    def declared_operands(self, record: TaskRecord) -> Operands:
        """Returns the scopes that the program's text gives to a task."""
        if not record.spec.inputs:
            return record.spec.operands
        return record.spec.operands + self._input_operands(record, declared=True)

    def _input_operands(self, record: TaskRecord, *, declared: bool) -> Operands:
        chunks = self.table.records
        found: Operands = ()
        for need in record.spec.inputs:
            chunk = chunks.get(need.chunk)
            if chunk is None or (chunk.scope is _UNSCOPED and chunk.declared is None):
                continue
            # Before it is made, an engine that was refused it may know its scope already.
            made = chunk.state != "pending" or chunk.scope is not _UNSCOPED
            known = need.handle or (made and not declared)
            scope = chunk.scope if known else chunk.declared
            if scope is _UNSCOPED and chunk.state == "pending":
                scope = chunk.declared
            if scope is not None and scope != _UNSCOPED:
                found += ((self._origin(need), scope),)
        return found

    def _origin(self, need: Input) -> str:
        maker = None if need.handle else self.table.makers.get(need.chunk)
        return need.origin if maker is None else f"{need.origin} (result of {self.name_of(maker)})"

    def pins_of(self, record: TaskRecord) -> dict[str, str]:
        """Returns what gave a task's inputs their scopes by their types, each by its origin."""
        found = {}
        for need in record.spec.inputs:
            chunk = self.table.records.get(need.chunk)
            why = chunk.pin if chunk is not None else record.pins.get(need.chunk)
            if why:
                found[self._origin(need)] = why
        return found

    # -- telling ---------------------------------------------------------------------

    def explain(self, task: int) -> Explanation:
        """Tells why a task runs where it runs, or why it does not."""
        record = self.tasks[task]
        operands = self.operands(record)
        name = record.spec.name
        seen = record.topology or self.topology
        tell = partial(explain, name, operands, pins=self.pins_of(record))
        if record.state == "waiting":
            missing = self.missing_names(record)
            rule = "the end of its spawn_bulk block" if record.held else ""
            return tell(self.topology, outcome="waiting", waiting_for=missing, rule=rule)
        if record.state == "cancelled":
            rule = "before it ran" if record.started is None else "while it ran"
            return tell(seen, outcome="cancelled", rule=rule)
        if record.state == "blocked":
            origin = () if record.origin is None else (self.name_of(record.origin),)
            return tell(seen, outcome="blocked", waiting_for=origin)
        if isinstance(record.failure, NoProcessorError) or record.state == "unmatched":
            return tell(seen, outcome="unmatched")
        if record.processor is None and record.state == "queued":
            return tell(self.topology, outcome="queued", rule=self._why_in_line(record))
        return tell(
            seen,
            outcome="placed" if record.processor else outcome(operands, seen),
            chosen=record.processor,
            rule=record.rule,
        )

    def _why_in_line(self, record: TaskRecord) -> str:
        del record
        return "all that may run it are busy"

    def missing_names(self, record: TaskRecord) -> tuple[str, ...]:
        """Returns the names of the tasks that a task waits for."""
        before = self.found(record.spec.after) if record.gates else ()
        names = {each.spec.name: None for each in before if each.state not in FINAL_STATES}
        for need in record.spec.inputs:
            chunk = self.chunks.get(need.chunk)
            if chunk is not None and chunk.state == "pending" and chunk.maker in self.tasks:
                names[self.tasks[chunk.maker].spec.name] = None
        return tuple(names)

    def counts(self) -> dict[str, int]:
        """Counts the tasks by state."""
        counts: dict[str, int] = {}
        for record in self.tasks.values():
            counts[record.state] = counts.get(record.state, 0) + 1
        return counts

    def busy(self) -> dict[WorkerId, int]:
        """Counts the tasks that each worker was sent and has not finished."""
        return {
            worker: sum(len(load.tasks) + len(load.lingering) for load in loads)
            for worker, loads in self.loads.of_worker.items()
        }

    def name_of(self, task: int) -> str:
        """Returns the name of a task, also where its record was folded away."""
        record = self.tasks.get(task)
        return f"task {task}" if record is None else record.spec.name

    def maker_of(self, chunk: int) -> int:
        """Returns the task that makes a chunk, or the chunk itself where no task does."""
        return self.table.makers.get(chunk, chunk)

    def effective_scope_operands(self, task: int) -> Operands:
        """Returns every scope that bears on a task, with its origin."""
        return self.operands(self.tasks[task])


def outcome(operands: Sequence[tuple[str, Scope]], topology: Topology) -> Any:
    """Tells apart scopes that never meet from those that no processor matches now."""
    return "conflict" if never_meet(operands, topology) else "unmatched"
