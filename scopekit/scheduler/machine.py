"""The state machine of tasks and chunks.

How it works. Every task and every chunk has one record and one state. An event
changes records and yields commands; nothing else does, and nothing here waits.

A task is *waiting* while one of its inputs is not made yet. When the last one is
there, its scopes are intersected with the processors that exist: that is its
*allowed* mask. An empty mask is final if the scopes never meet, or at once if the
task may not wait for a processor; otherwise the task is *unmatched* until a worker
joins or its time is over. A task with an allowed processor that has room is sent
there and is *running* once its engine says so; without room it is *queued*, in one
line per mask, and the processor that finishes something takes from the lines that
it may serve, oldest first. A run ends *done* or *failed*; a task whose input can
never be had ends *blocked*, naming the task at fault.

A chunk is *pending* until its maker is done, then *held* by one or more workers. It
is *released* when no handle and no unfinished task wants it, and *lost* when the
last worker that held it leaves.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from scopekit.errors import (
    ChunkLostError,
    NoProcessorError,
    ScopeViolationError,
    TaskCancelledError,
    WorkerLostError,
)
from scopekit.graph import FINAL_STATES, ChunkRecord, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.load import Durations, Load
from scopekit.scheduler.placement import Operands, allowed_mask, explain, never_meet, refusal
from scopekit.scopes import AnyScope, constrain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scopekit.errors import SchedulingError
    from scopekit.explanation import Explanation
    from scopekit.graph import Input, StoredChunk, TaskState, WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = ("Scheduler",)

# What it costs to move inputs, in seconds: a request, and the bytes at loopback speed.
_MOVE_LATENCY = 1e-3
_MOVE_BYTES_PER_SECOND = 5e8
_ATTEMPTS = 3
_FINISHED_KEPT = 50_000
_MASKS_KEPT = 4096


class Scheduler:
    """Decides what runs where.

    Args:
        topology: the processes there are at the start.
        budget: seconds of work sent ahead to a processor.
    """

    def __init__(self, topology: Topology, *, budget: float = 0.05) -> None:
        self.topology = topology
        self.tasks: dict[int, TaskRecord] = {}
        self.chunks: dict[int, ChunkRecord] = {}
        self._budget = budget
        self._durations = Durations()
        self._loads: dict[Processor, Load] = {}
        self._loads_by_mask: dict[int, list[Load]] = {}
        self._loads_of_worker: dict[WorkerId, list[Load]] = {}
        self._lines: dict[int, deque[int]] = {}
        self._unmatched: dict[int, None] = {}
        self._finished: deque[int] = deque()
        self._turn = 0
        self._to_block: deque[tuple[int, int, float]] = deque()
        self._makers: dict[int, int] = {}
        self._commands: list[ev.Command] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.TaskSpawned: self._on_spawned,
            ev.RunStarted: self._on_started,
            ev.RunFinished: self._on_finished,
            ev.RunFailed: self._on_failed,
            ev.RunHandedBack: self._on_handed_back,
            ev.ChunkPinned: self._on_pinned,
            ev.ChunkStored: self._on_stored,
            ev.ChunkFailed: self._on_chunk_failed,
            ev.HandlesAdded: self._on_handles_added,
            ev.HandlesDropped: self._on_handles_dropped,
            ev.WorkerJoined: self._on_joined,
            ev.WorkerLeft: self._on_left,
            ev.CancelAsked: self._on_cancel,
            ev.TimePassed: self._on_time,
        }
        self._rebuild_loads()

    def handle(self, event: ev.Event) -> list[ev.Command]:
        """Takes one event in.

        Returns:
            The commands that follow from it, in the order in which to carry them out.
        """
        self._commands = []
        self._handlers[type(event)](event)
        while self._to_block:
            task, output, at = self._to_block.popleft()
            if self.tasks[task].state == "waiting":
                self._block(self.tasks[task], output, at)
        return self._commands

    # -- looking ----------------------------------------------------------------

    def explain(self, task: int) -> Explanation:
        """Tells why a task runs where it runs, or why it does not."""
        record = self.tasks[task]
        operands = self._operands(record)
        if record.state == "waiting":
            return explain(
                record.spec.name,
                operands,
                self.topology,
                outcome="waiting",
                waiting_for=self._missing_names(record),
            )
        if record.state in ("blocked", "cancelled"):
            return explain(
                record.spec.name,
                operands,
                record.topology or self.topology,
                outcome=record.state,
                waiting_for=() if record.origin is None else (self.name_of(record.origin),),
            )
        if isinstance(record.failure, NoProcessorError) or record.state == "unmatched":
            return explain(
                record.spec.name, operands, record.topology or self.topology, outcome="unmatched"
            )
        if record.processor is None and record.state == "queued":
            return explain(
                record.spec.name,
                operands,
                self.topology,
                outcome="queued",
                rule="all that may run it are busy",
            )
        topology = record.topology or self.topology
        return explain(
            record.spec.name,
            operands,
            topology,
            outcome="placed" if record.processor else _outcome(operands, topology),
            chosen=record.processor,
            rule=record.rule,
        )

    def plan(self, spec: Any) -> Explanation:
        """Tells where a task would go now, without taking it in."""
        record = TaskRecord(spec, 0.0)
        operands = self._operands(record)
        mask = allowed_mask(operands, self.topology)
        missing = self._missing_names(record)
        if not mask:
            return explain(
                spec.name, operands, self.topology, outcome=_outcome(operands, self.topology)
            )
        if missing:
            return explain(
                spec.name, operands, self.topology, outcome="waiting", waiting_for=missing
            )
        load, rule = self._best(record, self._loads_of(mask))
        return explain(
            spec.name,
            operands,
            self.topology,
            outcome="placed",
            chosen=load.processor,
            rule=rule,
        )

    def counts(self) -> dict[str, int]:
        """Counts the tasks by state."""
        counts: dict[str, int] = {}
        for record in self.tasks.values():
            counts[record.state] = counts.get(record.state, 0) + 1
        return counts

    def busy(self) -> dict[WorkerId, int]:
        """Counts the tasks that each worker was sent and has not finished."""
        busy: dict[WorkerId, int] = {}
        for load in self._loads.values():
            busy[load.processor.worker] = busy.get(load.processor.worker, 0) + load.tasks
        return busy

    def name_of(self, task: int) -> str:
        """Returns the name of a task, also where its record was folded away."""
        record = self.tasks.get(task)
        return f"task {task}" if record is None else record.spec.name

    def maker_of(self, chunk: int) -> int:
        """Returns the task that makes a chunk, or the chunk itself where no task does."""
        return self._makers.get(chunk, chunk)

    def effective_scope_operands(self, task: int) -> Operands:
        """Returns every scope that bears on a task, with its origin."""
        return self._operands(self.tasks[task])

    # -- spawning ---------------------------------------------------------------

    def _on_spawned(self, event: ev.TaskSpawned) -> None:
        spec = event.spec
        record = TaskRecord(spec, event.at)
        self.tasks[spec.id] = record
        for output in spec.outputs:
            self._makers[output] = spec.id
            self.chunks[output] = ChunkRecord(
                output,
                AnyScope(),
                maker=spec.id,
                declared=spec.result_scope,
                handles=1,
            )
        error = self._refused_at_spawn(record)
        if error is not None:
            record.topology = self.topology
            self._end(record, "failed", error, at=event.at)
            self._commands = [ev.Refuse(spec.id, error)]
            return
        if spec.wait_for:
            record.deadline = event.at + spec.wait_for
        self._await_inputs(record, event.at)

    def _refused_at_spawn(self, record: TaskRecord) -> SchedulingError | None:
        """Judges what the program's text decides, and never what only a run can tell.

        The scope of a task's result counts only as far as it was declared, whether
        or not that task is done already: else the same program would raise here or
        at the fetch, depending on timing.
        """
        operands = self._declared_operands(record)
        if allowed_mask(operands, self.topology):
            return None
        if record.spec.wait_for and not never_meet(operands, self.topology):
            return None
        record.operands = operands
        return refusal(record.spec.name, operands, self.topology)

    def _declared_operands(self, record: TaskRecord) -> Operands:
        return record.spec.operands + tuple(self._input_operands(record, declared=True))

    def _operands(self, record: TaskRecord) -> Operands:
        if record.operands is not None:
            return record.operands
        return record.spec.operands + tuple(self._input_operands(record, declared=False))

    def _input_operands(self, record: TaskRecord, *, declared: bool) -> Iterator[tuple[str, Any]]:
        unscoped = AnyScope()
        for need in record.spec.inputs:
            chunk = self.chunks.get(need.chunk)
            if chunk is None:
                continue
            known = need.handle or not (declared or chunk.state == "pending")
            scope = chunk.scope if known else chunk.declared
            if scope is not None and scope != unscoped:
                yield self._origin(need), scope

    def _origin(self, need: Input) -> str:
        maker = None if need.handle else self._makers.get(need.chunk)
        return need.origin if maker is None else f"{need.origin} (result of {self.name_of(maker)})"

    def _await_inputs(self, record: TaskRecord, at: float) -> None:
        for need in record.spec.inputs:
            chunk = self.chunks.get(need.chunk)
            if chunk is None or chunk.state in ("failed", "lost", "released"):
                self._block(record, need.chunk, at)
                return
        record.holds_inputs = True
        for need in record.spec.inputs:
            chunk = self.chunks[need.chunk]
            chunk.users += 1
            if chunk.state == "pending":
                record.missing += 1
                chunk.waiters.append(record.spec.id)
        if not record.missing:
            self._place(record, at)

    def _missing_names(self, record: TaskRecord) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for need in record.spec.inputs:
            chunk = self.chunks.get(need.chunk)
            if chunk is not None and chunk.state == "pending" and chunk.maker in self.tasks:
                names[self.tasks[chunk.maker].spec.name] = None
        return tuple(names)

    # -- placing ----------------------------------------------------------------

    def _place(self, record: TaskRecord, at: float) -> None:
        # Kept, since an input may be released long before its task is explained.
        operands = record.operands = self._operands(record)
        missing = self._lost_input(record)
        if missing is not None:
            self._block(record, missing, at)
            return
        record.topology = self.topology
        record.allowed = allowed_mask(operands, self.topology)
        if not record.allowed:
            self._place_nowhere(record, operands, at)
            return
        self._unmatched.pop(record.spec.id, None)
        free = [load for load in self._loads_of(record.allowed) if load.has_room]
        if free:
            self._send(record, *self._best(record, free))
        else:
            record.state = "queued"
            self._lines.setdefault(record.allowed, deque()).append(record.spec.id)

    def _loads_of(self, mask: int) -> list[Load]:
        """Returns the loads of the processors of a mask, which most tasks share."""
        known = self._loads_by_mask.get(mask)
        if known is None:
            known = [self._loads[processor] for processor in self.topology.select(mask)]
            if len(self._loads_by_mask) >= _MASKS_KEPT:
                self._loads_by_mask.clear()
            self._loads_by_mask[mask] = known
        return known

    def _lost_input(self, record: TaskRecord) -> int | None:
        """Returns an input that was there and is no more, None if all are."""
        for need in record.spec.inputs:
            chunk = self.chunks.get(need.chunk)
            if chunk is None or chunk.state != "held":
                return need.chunk
        return None

    def _place_nowhere(self, record: TaskRecord, operands: Operands, at: float) -> None:
        waits = record.deadline is not None and at < record.deadline
        if waits and not never_meet(operands, self.topology):
            record.state = "unmatched"
            self._unmatched[record.spec.id] = None
            return
        self._end(record, "failed", refusal(record.spec.name, operands, self.topology), at=at)

    def _best(self, record: TaskRecord, loads: list[Load]) -> tuple[Load, str]:
        if len(loads) == 1:
            only = record.allowed.bit_count() <= 1
            return loads[0], "the only processor allowed" if only else "the only one with room"
        moves = {load.processor.worker: 0.0 for load in loads}
        for worker in moves:
            moves[worker] = self._seconds_to_move(record, worker)
        busy = self._seconds_of_workers(moves)
        best = min(
            loads,
            key=lambda load: (
                moves[load.processor.worker] + busy[load.processor.worker],
                load.seconds,
                load.tasks,
                load.last_used,
            ),
        )
        least = moves[best.processor.worker]
        if record.spec.inputs and least < max(moves.values()):
            return best, "its inputs are there" if not least else "least to move"
        return best, "least loaded"

    def _seconds_of_workers(self, workers: Iterable[WorkerId]) -> dict[WorkerId, float]:
        """Sums the work of all processors of each worker.

        The threads of a process share its interpreter, and its orders come in on its
        main thread: an idle thread of a busy process is not as good as an idle process.
        """
        return {
            worker: sum(load.seconds for load in self._loads_of_worker.get(worker, ()))
            for worker in workers
        }

    def _seconds_to_move(self, record: TaskRecord, worker: WorkerId) -> float:
        seconds = 0.0
        for need in record.spec.inputs:
            chunk = self.chunks[need.chunk]
            if worker not in chunk.holders:
                seconds += _MOVE_LATENCY + chunk.nbytes / _MOVE_BYTES_PER_SECOND
        return seconds

    def _send(self, record: TaskRecord, load: Load, rule: str) -> None:
        self._turn += 1
        record.state = "queued"
        record.processor = load.processor
        record.rule = rule
        record.attempts += 1
        load.add(record.spec.function, self._turn)
        worker = load.processor.worker
        sources = tuple(
            (need.chunk, self._source(self.chunks[need.chunk], worker))
            for need in record.spec.inputs
        )
        self._commands.append(ev.StartRun(record.spec.id, load.processor, sources))

    @staticmethod
    def _source(chunk: ChunkRecord, worker: WorkerId) -> WorkerId:
        return worker if worker in chunk.holders else chunk.holders[0]

    def _serve_lines(self, processor: Processor) -> None:
        """Sends what waits in the lines that a processor with new room may serve, oldest first.

        The others that may serve the same line are looked at as well: what was just
        learnt of a function's duration may have given them room, too.
        """
        number = self.topology.bit(processor)
        if number is None:
            return
        served = [mask for mask in self._lines if mask >> number & 1]
        while served:
            oldest = min(served, key=lambda mask: self._lines[mask][0])
            if not self._serve_head(oldest):
                served.remove(oldest)

    def _serve_head(self, mask: int) -> bool:
        """Sends the first task of a line.

        Returns:
            True if there may be more to send.
        """
        line = self._lines[mask]
        record = self.tasks[line[0]]
        if record.state == "queued" and record.processor is None:
            free = [load for load in self._loads_of(mask) if load.has_room]
            if not free:
                return False
            self._send(record, *self._best(record, free))
        line.popleft()
        if not line:
            del self._lines[mask]
        return bool(line)

    # -- running ----------------------------------------------------------------

    def _on_started(self, event: ev.RunStarted) -> None:
        record = self._running(event.task, event.worker)
        if record is not None:
            record.state = "running"
            record.started = event.at

    def _on_finished(self, event: ev.RunFinished) -> None:
        record = self._running(event.task, event.worker)
        if record is None:
            return
        record.started = event.started
        self._durations.learn(record.spec.function, event.finished - event.started)
        self._note_replicas(event)
        for result in event.results:
            self._hold(result, event.worker, event.finished)
        self._end(record, "done", at=event.finished)

    def _on_failed(self, event: ev.RunFailed) -> None:
        record = self._running(event.task, event.worker)
        if record is None:
            return
        record.started = event.started
        self._end(record, "failed", event.failure, at=event.finished)

    def _on_handed_back(self, event: ev.RunHandedBack) -> None:
        self._narrow(event.chunk, event.scope)
        record = self._running(event.task, event.worker)
        if record is None:
            return
        if self.topology.admits(event.scope, event.worker):
            # Both sides follow one rule, so this is an error of ours, and would go round.
            error = ScopeViolationError(
                f"worker {event.worker} may not have chunk {event.chunk} although it is valid on"
                f" {event.scope.describe()}; {record.spec.name} cannot run there",
                event.chunk,
                event.scope,
            )
            self._end(record, "failed", error, at=event.at)
            return
        processor = record.processor
        self._loads_remove(record)
        record.processor = None
        record.operands = None
        record.state = "waiting"
        self._place(record, event.at)
        if processor is not None:
            self._serve_lines(processor)

    def _on_pinned(self, event: ev.ChunkPinned) -> None:
        self._narrow(event.chunk, event.scope)

    def _narrow(self, chunk_id: int, scope: Scope) -> None:
        chunk = self.chunks.get(chunk_id)
        if chunk is None:
            return
        chunk.scope = constrain(chunk.scope, scope)
        for worker in [w for w in chunk.holders if not self.topology.admits(chunk.scope, w)]:
            chunk.holders.remove(worker)
            self._commands.append(ev.DropChunks(worker, (chunk_id,)))

    def _running(self, task: int, worker: WorkerId) -> TaskRecord | None:
        """Returns the record of a task if that worker is the one that runs it now."""
        record = self.tasks.get(task)
        if record is None or record.state not in ("queued", "running"):
            return None
        if record.processor is None or record.processor.worker != worker:
            return None
        return record

    def _note_replicas(self, event: ev.RunFinished) -> None:
        for replica in event.replicas:
            chunk = self.chunks.get(replica)
            if chunk is None or chunk.state != "held":
                # Released while the copy was on its way: the copy goes as well.
                self._commands.append(ev.DropChunks(event.worker, (replica,)))
            elif event.worker not in chunk.holders:
                chunk.holders.append(event.worker)

    def _hold(self, stored: StoredChunk, worker: WorkerId, at: float) -> None:
        chunk = self.chunks.get(stored.id)
        if chunk is None:
            chunk = self.chunks[stored.id] = ChunkRecord(stored.id, stored.scope)
        if chunk.state == "released":
            self._commands.append(ev.DropChunks(worker, (stored.id,)))
            return
        chunk.scope = stored.scope
        chunk.processor = stored.processor
        chunk.type = stored.type
        chunk.nbytes = stored.nbytes
        chunk.made = at
        chunk.state = "held"
        if worker not in chunk.holders:
            chunk.holders.append(worker)
        waiters, chunk.waiters = chunk.waiters, []
        for task in waiters:
            record = self.tasks[task]
            if record.state == "waiting":
                record.missing -= 1
                if not record.missing:
                    self._place(record, at)
        self._release_if_unwanted(chunk)

    def _end(
        self,
        record: TaskRecord,
        state: TaskState,
        failure: Any = None,
        *,
        at: float,
        origin: int | None = None,
    ) -> None:
        """Brings a task into a final state, and everything that hangs on it."""
        if record.processor is not None:
            self._loads_remove(record)
        self._unmatched.pop(record.spec.id, None)
        if record.operands is None:
            record.operands = self._operands(record)
        record.state = state
        record.failure = failure
        record.origin = origin
        record.finished = at
        self._commands.append(ev.Settle(record.spec.id, state, failure, origin))
        self._let_go_of_inputs(record)
        if state != "done":
            self._fail_outputs(record)
        if record.processor is not None and self._lines:
            self._serve_lines(record.processor)
        self._finished.append(record.spec.id)
        self._fold_history()

    def _loads_remove(self, record: TaskRecord) -> None:
        load = self._loads.get(record.processor) if record.processor else None
        if load is not None:
            load.remove(record.spec.function)

    def _let_go_of_inputs(self, record: TaskRecord) -> None:
        if not record.holds_inputs:
            return
        record.holds_inputs = False
        for need in record.spec.inputs:
            chunk = self.chunks[need.chunk]
            chunk.users -= 1
            self._release_if_unwanted(chunk)

    def _fail_outputs(self, record: TaskRecord) -> None:
        for output in record.spec.outputs:
            chunk = self.chunks[output]
            chunk.state = "failed"
            waiters, chunk.waiters = chunk.waiters, []
            # Not blocked here: a chain of thousands would be as many frames deep.
            self._to_block.extend((task, output, record.finished or 0.0) for task in waiters)
            self._release_if_unwanted(chunk)

    def _block(self, record: TaskRecord, chunk_id: int, at: float) -> None:
        """Ends a task that needs a chunk which nobody can make any more."""
        chunk = self.chunks.get(chunk_id)
        maker = self.tasks.get(self._makers.get(chunk_id, chunk_id))
        if maker is not None and maker.state in FINAL_STATES and maker.failure is not None:
            origin = maker.spec.id if maker.origin is None else maker.origin
            self._end(record, "blocked", maker.failure, at=at, origin=origin)
            return
        self._end(record, "failed", _lost(record, chunk_id, chunk), at=at)

    def _fold_history(self) -> None:
        # Two for each that ends: of those still wanted, which come round again, no more
        # are looked at each time than can be afforded.
        for _ in range(min(2, len(self._finished) - _FINISHED_KEPT)):
            oldest = self._finished.popleft()
            outputs = self.tasks[oldest].spec.outputs
            if any(self._still_wanted(output) for output in outputs):
                self._finished.append(oldest)
                continue
            del self.tasks[oldest]
            for output in outputs:
                del self._makers[output]

    def _still_wanted(self, chunk_id: int) -> bool:
        chunk = self.chunks.get(chunk_id)
        return chunk is not None and (chunk.handles > 0 or chunk.users > 0)

    # -- chunks -----------------------------------------------------------------

    def _on_stored(self, event: ev.ChunkStored) -> None:
        if self.topology.process(event.worker) is None:
            return  # the late word of a process that is gone
        self._hold(event.chunk, event.worker, event.at)

    def _on_chunk_failed(self, event: ev.ChunkFailed) -> None:
        chunk = self.chunks.get(event.chunk)
        if chunk is None:
            return
        chunk.state = "failed"
        chunk.failure = event.failure
        waiters, chunk.waiters = chunk.waiters, []
        for task in waiters:
            if self.tasks[task].state == "waiting":
                self._end(self.tasks[task], "failed", event.failure, at=event.at)

    def expect(self, chunk: ChunkRecord) -> None:
        """Takes in a chunk that is on its way to the process that will hold it."""
        self.chunks[chunk.id] = chunk

    def _on_handles_added(self, event: ev.HandlesAdded) -> None:
        for chunk_id in event.chunks:
            if chunk_id in self.chunks:
                self.chunks[chunk_id].handles += 1

    def _on_handles_dropped(self, event: ev.HandlesDropped) -> None:
        for chunk_id in event.chunks:
            chunk = self.chunks.get(chunk_id)
            if chunk is not None:
                chunk.handles -= 1
                self._release_if_unwanted(chunk)

    def _release_if_unwanted(self, chunk: ChunkRecord) -> None:
        if chunk.handles > 0 or chunk.users > 0 or chunk.state == "pending":
            return
        if chunk.state == "held":
            chunk.state = "released"
            for worker in chunk.holders:
                self._commands.append(ev.DropChunks(worker, (chunk.id,)))
            chunk.holders = []
        self.chunks.pop(chunk.id, None)

    # -- workers ----------------------------------------------------------------

    def _on_joined(self, event: ev.WorkerJoined) -> None:
        self.topology = self.topology.with_process(event.process)
        self._replace_all(event.at)

    def _on_left(self, event: ev.WorkerLeft) -> None:
        self.topology = self.topology.without(event.worker)
        interrupted = [
            record
            for record in self.tasks.values()
            if record.processor is not None
            and record.processor.worker == event.worker
            and record.state in ("queued", "running")
        ]
        self._rebuild_loads()
        self._lose_chunks(event.worker, event.at)
        for record in interrupted:
            self._rerun(record, event)
        self._replace_all(event.at)

    def _lose_chunks(self, worker: WorkerId, at: float) -> None:
        for chunk in list(self.chunks.values()):
            if worker in chunk.holders:
                chunk.holders.remove(worker)
                if not chunk.holders:
                    chunk.state = "lost"
            elif _was_on_its_way_to(worker, chunk):
                chunk.state = "lost"
                self._to_block.extend((task, chunk.id, at) for task in chunk.waiters)
                chunk.waiters = []

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft) -> None:
        record.processor = None
        # An engine tells only of long runs that they began: what was sent may have begun.
        lost = self._lost_input(record)
        if lost is not None:
            self._block(record, lost, event.at)
            return
        can_wait = record.deadline is not None and event.at < record.deadline
        nobody_left = not can_wait and not allowed_mask(self._operands(record), self.topology)
        if nobody_left or not record.spec.idempotent or record.attempts >= _ATTEMPTS:
            error = WorkerLostError(
                f"worker {event.worker} died while it had {record.spec.name} to run"
                f" (attempt {record.attempts}); it may have begun and is not started again"
                + (": nobody else may run it" if nobody_left else "")
            )
            self._end(record, "failed", error, at=event.at)
            return
        record.state = "waiting"
        record.operands = None
        self._place(record, event.at)

    def _replace_all(self, at: float) -> None:
        """Judges anew every task that has no processor yet: the bits of masks moved."""
        self._rebuild_loads()
        lined_up = sorted(task for line in self._lines.values() for task in line)
        self._lines = {}
        for task in [*lined_up, *self._unmatched]:
            record = self.tasks[task]
            if record.processor is None and record.state in ("queued", "unmatched"):
                self._place(record, at)

    def _rebuild_loads(self) -> None:
        known = self._loads
        self._loads_by_mask = {}
        self._loads = {
            processor: known.get(processor) or Load(processor, self._durations, self._budget)
            for processor in self.topology.processors
        }
        self._loads_of_worker = {}
        for load in self._loads.values():
            self._loads_of_worker.setdefault(load.processor.worker, []).append(load)

    # -- control ----------------------------------------------------------------

    def _on_cancel(self, event: ev.CancelAsked) -> None:
        record = self.tasks.get(event.task)
        if record is None or record.state in FINAL_STATES or record.processor is not None:
            return
        self._unmatched.pop(event.task, None)
        error = TaskCancelledError(f"{record.spec.name} was cancelled before it ran")
        self._end(record, "cancelled", error, at=event.at)

    def _on_time(self, event: ev.TimePassed) -> None:
        for task in list(self._unmatched):
            record = self.tasks[task]
            if record.deadline is not None and event.at >= record.deadline:
                del self._unmatched[task]
                operands = self._operands(record)
                error = refusal(record.spec.name, operands, self.topology)
                self._end(record, "failed", error, at=event.at)

    def next_deadline(self) -> float | None:
        """Returns the time at which a wait for a processor ends, if there is one."""
        deadlines: Iterable[float] = (
            deadline
            for task in self._unmatched
            if (deadline := self.tasks[task].deadline) is not None
        )
        return min(deadlines, default=None)


def _was_on_its_way_to(worker: WorkerId, chunk: ChunkRecord) -> bool:
    home = chunk.processor
    return chunk.state == "pending" and home is not None and home.worker == worker


def _outcome(operands: Operands, topology: Topology) -> Any:
    return "conflict" if never_meet(operands, topology) else "unmatched"


def _lost(record: TaskRecord, chunk_id: int, chunk: ChunkRecord | None) -> ChunkLostError:
    if chunk is None or chunk.state == "released":
        return ChunkLostError(
            f"{record.spec.name} needs chunk {chunk_id}, which was released: no handle to it"
            " was left. Keep its task or its Chunk alive until it is used."
        )
    home = chunk.processor.describe() if chunk.processor else "its worker"
    return ChunkLostError(
        f"{record.spec.name} needs chunk {chunk_id}, which is lost: {home} is gone."
        " Spawn again the task that makes it."
    )
