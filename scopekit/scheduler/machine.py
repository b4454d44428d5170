"""The state machine of tasks and chunks.

How it works. Every task and every chunk has one record and one state. An event
changes records and yields commands; nothing else does, and nothing here waits. The
tables of ``states.py`` have every way from one state to another.

A task is *waiting* while one of its inputs is not made. It need not wait here: as soon
as each of its inputs is made, or has a processor that will make it, its scopes are
intersected with the processors that exist, and it is sent to one of these ahead of its
inputs. Its engine counts them in and starts it, with no word to or from here. Where an
input is made elsewhere, whoever makes it is told to send it on. Scopes that only a run
can tell are judged where the data lies: an engine hands a task back that an input's
scope turns out to forbid there, and the task is placed anew, or refused. Where an input
is in *doubt*, as its maker's function never ran or is known to give scoped results, a
task is sent ahead only to where the input is made.

The processors that a task may run on are its *allowed* mask. An empty mask is final if
the scopes never meet, or at once if the task may not wait for a processor; otherwise
the task is *unmatched* until a worker joins or its time is over. A task with an allowed
processor that has room is sent there and is *queued*, then *running* once its engine
says so; without room it is queued here, in one line per mask, and a processor that is
about to run dry takes from the lines that it may serve, oldest first. One that finds
none asks a loaded processor to hand tasks back that have not begun. A run ends *done* or
*failed*; a task whose input can never be had ends *blocked*, naming the task at fault.

A chunk is *pending* until its maker is done, then *held* by one or more workers. It is
*released* when no handle and no unfinished task wants it. When the last worker that
held it leaves it is *lost*, and made again if all can run again that it was made by; to
that end the calls of finished tasks are kept for as long as a wanted chunk depends on
them.

When a worker dies, what it may have begun runs again elsewhere. What was in two that
died is suspected: suspects run one at a time, alone in a process, so that the next death
has one author; three deaths are enough. Nothing is sent again that must not run twice
and may have begun.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from scopekit.errors import (
    ChunkLostError,
    ScopeViolationError,
    TaskCancelledError,
    WorkerLostError,
)
from scopekit.graph import FINAL_STATES, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.doubts import Doubts
from scopekit.scheduler.leaving import held_by_these_alone, where_it_can_go
from scopekit.scheduler.lineage import makers_to_run_again
from scopekit.scheduler.load import Loads
from scopekit.scheduler.placement import allowed_mask, explain, never_meet, refusal
from scopekit.scheduler.records import Records, outcome
from scopekit.scopes import AnyScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from scopekit.errors import SchedulingError
    from scopekit.explanation import Explanation
    from scopekit.graph import ChunkRecord, TaskState, WorkerId
    from scopekit.places import Topology
    from scopekit.scheduler.load import Load
    from scopekit.scheduler.placement import Operands
    from scopekit.scopes import Processor, Scope

__all__ = ("Scheduler",)

_UNSCOPED = AnyScope()
# What it costs to move inputs, in seconds: a request, and the bytes at loopback speed.
_MOVE_LATENCY = 0.3e-3
_MOVE_BYTES_PER_SECOND = 2e9
_DEATHS = 3
_FINISHED_KEPT = 50_000
_MASKS_KEPT = 4096
# Tasks are asked back from a processor only if it has so many seconds of work more.
_WORTH_ASKING = 5e-3
_ASKED_AT_ONCE = 64
# A processor is asked no more often than so many seconds apart, and only about so many of
# its tasks: most are refused where scopes keep them.
_ASK_AGAIN = 5e-3
_LOOKED_AT = 128


class Scheduler(Records):
    """Decides what runs where.

    Args:
        topology: the processes there are at the start.
        budget: seconds of work sent ahead to a processor.
    """

    def __init__(self, topology: Topology, *, budget: float = 0.05) -> None:
        super().__init__(topology, budget)
        self.move_latency = _MOVE_LATENCY
        self._lines: dict[int, deque[int]] = {}
        self._unmatched: dict[int, None] = {}
        self._suspects: dict[int, None] = {}  # that have no processor yet
        self._finished: deque[int] = deque()
        self._to_block: deque[tuple[int, int, float]] = deque()
        self._to_place: deque[int] = deque()
        self._to_use: deque[Processor] = deque()
        self._unplanned: dict[int, None] = {}  # whose results others were sent ahead for
        self._masks: dict[int, tuple[Operands, int]] = {}
        self._doubts = Doubts()
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.TaskSpawned: self._on_spawned,
            ev.ChildSpawned: self._on_child_spawned,
            ev.RunStarted: self._on_started,
            ev.RunPaused: self._on_paused,
            ev.RunResumed: self._on_resumed,
            ev.RunFinished: self._on_finished,
            ev.RunFailed: self._on_failed,
            ev.RunHandedBack: self._on_handed_back,
            ev.ChunkPinned: self._on_pinned,
            ev.ChunksArrived: self._on_arrived,
            ev.ChunksMissed: self._on_missed,
            ev.ChunkStored: self._on_stored,
            ev.ChunkFailed: self._on_chunk_failed,
            ev.HandlesAdded: self._on_handles_added,
            ev.HandlesDropped: self._on_handles_dropped,
            ev.HandlesReturned: self._on_handles_returned,
            ev.WorkerJoined: self._on_joined,
            ev.WorkerLeft: self._on_left,
            ev.DrainAsked: self._on_drain,
            ev.DrainEnded: self._on_drain_ended,
            ev.CancelAsked: self._on_cancel,
            ev.TimePassed: self._on_time,
        }
        self._at = 0.0
        # By the client's clock alone: engines have clocks of their own.
        self._clock = 0.0

    def handle(self, event: ev.Event) -> list[ev.Command]:
        """Takes one event in.

        Returns:
            The commands that follow from it, in the order in which to carry them out.
        """
        self.out.begin()
        self._handlers[type(event)](event)
        # Not by recursion: a chain of thousands would be as many frames deep.
        while self._to_place or self._to_block or self._to_use:
            self._follow_up()
        if self._suspects or self.loads.keeps_any:
            self._look_after_suspects()
        if self._unplanned:
            self._recall()
        if self.table.strays:
            self._recall_strays()
        if self.table.forgotten:
            self._forget_tasks()
        return self.out.take()

    def _look_after_suspects(self) -> None:
        while self._tend_suspects():
            while self._to_place or self._to_block or self._to_use:
                self._follow_up()

    def _follow_up(self) -> None:
        while self._to_block:
            task, output, at = self._to_block.popleft()
            self._block(self.tasks[task], output, at)
        if self._to_place:
            record = self.tasks.get(self._to_place.popleft())
            if record is not None and _is_to_be_placed(record):
                self._place(record, self._at)
        elif self._to_use:
            load = self.loads.by_processor.get(self._to_use.popleft())
            if load is not None:
                self._use_room(load)

    def plan(self, spec: Any) -> Explanation:
        """Tells where a task would go now, without taking it in."""
        record = TaskRecord(spec, 0.0)
        operands = self.operands(record)
        mask = record.allowed = allowed_mask(operands, self.topology)
        missing = self.missing_names(record)
        if not mask:
            found = outcome(operands, self.topology)
            return explain(spec.name, operands, self.topology, outcome=found)
        if missing:
            return explain(
                spec.name, operands, self.topology, outcome="waiting", waiting_for=missing
            )
        choice = self._choose(record, forced=True)
        if choice is None:
            rule = "all that may run it are kept for others"
            return explain(spec.name, operands, self.topology, outcome="queued", rule=rule)
        load, rule = choice
        return explain(
            spec.name,
            operands,
            self.topology,
            outcome="placed",
            chosen=load.processor,
            rule=rule,
        )

    # -- spawning ---------------------------------------------------------------

    def _on_spawned(self, event: ev.TaskSpawned) -> None:
        spec, at = event
        self._at = self._clock = at
        record = self.tasks[spec.id] = TaskRecord(spec, at, self.out.cause)
        self.table.expect_outputs(record)
        error = self._refused_at_spawn(record)
        if error is not None:
            record.topology = self.topology
            self._end(record, "failed", error, at=at)
            self.out.only(ev.Refuse(spec.id, error, self.out.cause))
            return
        if spec.wait_for:
            record.deadline = at + spec.wait_for
        if not spec.inputs or (self._take_inputs(record, at) and not record.unplanned):
            self._place(record, at)

    def _on_child_spawned(self, event: ev.ChildSpawned) -> None:
        spec, worker, processor, at = event
        if self.topology.process(worker) is None:
            return  # whoever asked for it is gone, and asks again where it runs next
        self._at = at
        record = self.tasks[spec.id] = TaskRecord(spec, at, self.out.cause)
        self.table.expect_outputs(record)
        self.table.lend(worker, spec.outputs)
        error = self._refused_at_spawn(record)
        if error is not None:
            record.topology = self.topology
            self._end(record, "failed", error, at=at)
        elif spec.wait_for:
            record.deadline = at + spec.wait_for
        if record.state not in FINAL_STATES and spec.inputs:
            self._take_inputs(record, at)
        if processor is not None:
            self._adopt(record, processor)
        elif record.state not in FINAL_STATES and not record.unplanned:
            self._place(record, at)

    def _adopt(self, record: TaskRecord, processor: Processor) -> None:
        """Takes note that a task is where it was spawned, unless it may not stay there."""
        load = self.loads.by_processor[processor]
        if record.state not in FINAL_STATES:
            operands = record.operands = self.operands(record)
            record.topology = self.topology
            record.allowed = self._mask(operands)
            if record.allowed & load.bit:
                self._assign(record, load, "it was spawned there")
                self._share(load)
                return
        self.out.put(ev.RetractRuns(processor.worker, (record.spec.id,), self.out.cause))
        if record.state not in FINAL_STATES and not record.unplanned:
            self._place(record, self._at)

    def _share(self, load: Load) -> None:
        """Has a processor hand tasks back that gathered there, if others are idle."""
        if load.seconds < _WORTH_ASKING or self._at < load.asked_at + _ASK_AGAIN:
            return
        load.asked_at = self._at
        for idle in self.loads.some_idle():
            if idle is not load and self.loads.has_room(idle):
                self._ask_back(load, idle)

    def _refused_at_spawn(self, record: TaskRecord) -> SchedulingError | None:
        """Judges what the program's text decides, and never what only a run can tell.

        The scope of a task's result counts only as far as it was declared, whether
        or not that task is done already: else the same program would raise here or
        at the fetch, depending on timing.
        """
        operands = self.declared_operands(record)
        if self._mask(operands):
            return None
        if record.spec.wait_for and not never_meet(operands, self.topology):
            return None
        record.operands = operands
        return refusal(record.spec.name, operands, self.topology)

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

    def _take_inputs(self, record: TaskRecord, at: float) -> bool:
        """Enters a task at its inputs; ends it if one of them can never be had.

        Returns:
            False if it ended.
        """
        chunks = self.table.records
        for need in record.spec.inputs:
            chunk = chunks.get(need.chunk)
            if chunk is None or chunk.state in ("failed", "released"):
                self._block(record, need.chunk, at)
                return False
        record.holds_lineage = True
        self.table.descend(record)
        return self._wait_for_inputs(record, at)

    def _wait_for_inputs(self, record: TaskRecord, at: float) -> bool:
        """Counts what a task that is to run, or to run again, has to wait for."""
        if not record.holds_inputs:
            self.table.want(record)
        record.missing = record.unplanned = 0
        for need in record.spec.inputs:
            chunk = self.table.records[need.chunk]
            if chunk.state in ("failed", "released") or (
                chunk.state == "lost" and not self._make_again([chunk], at)
            ):
                self._block(record, need.chunk, at)
                return False
            if chunk.state == "pending":
                record.missing += 1
                if not chunk.planned:
                    record.unplanned += 1
                if chunk.waiters is None:
                    chunk.waiters = [record.spec.id]
                else:
                    chunk.waiters.append(record.spec.id)
        return True

    # -- placing ----------------------------------------------------------------

    def _place(self, record: TaskRecord, at: float, *, forced: bool = False) -> None:
        """Sends a task to a processor, or lines it up.

        Args:
            record: the task; each of its inputs is made or will be made somewhere.
            at: the time.
            forced: True to send it even where there is no room: others that were sent
                ahead may wait for it there.
        """
        spec = record.spec
        # Kept, since an input may be released long before its task is explained.
        operands = record.operands = self.operands(record)
        record.topology = self.topology
        record.allowed = self._mask(operands)
        if not record.allowed:
            self._place_nowhere(record, operands, at)
            return
        if self._unmatched:
            self._unmatched.pop(spec.id, None)
        if record.missing and (record.suspected or not spec.idempotent):
            # Ahead of its inputs, nobody here could tell whether it has begun.
            self._turn(record, "waiting")
            return
        if record.suspected:
            self._place_alone(record)
            return
        doubted = self.doubted_inputs(record) if record.missing else ()
        if doubted:
            self._place_by_doubted(record, doubted)
            return
        choice = self._choose(record, forced=forced)
        if choice is not None:
            self._send(record, *choice)
            return
        self._turn(record, "waiting" if record.missing else "queued")
        record.line = record.allowed
        self._lines.setdefault(record.allowed, deque()).append(spec.id)

    def doubted_inputs(self, record: TaskRecord) -> list[TaskRecord]:
        """Returns the makers of inputs that may turn out to be valid in fewer places."""
        chunks, tasks = self.table.records, self.tasks
        return [
            tasks[chunk.maker]
            for need in record.spec.inputs
            if (chunk := chunks[need.chunk]).state == "pending"
            and chunk.maker is not None
            and self._doubts.about(tasks[chunk.maker].spec.function)
        ]

    def _place_by_doubted(self, record: TaskRecord, makers: list[TaskRecord]) -> None:
        """Sends a task to where its doubted inputs are made; else it waits until they are."""
        homes = list(dict.fromkeys(m.processor.worker for m in makers if m.processor is not None))
        if len(homes) == 1:
            load = self.loads.least(record.allowed, homes[0])
            if load is not None and self.loads.may_wait_at(load):
                self._send(record, load, "its inputs are made there")
                return
        self._turn(record, "waiting")
        for maker in makers:
            self._doubts.hold(record.spec.id, maker.spec.function)

    def _turn(self, record: TaskRecord, state: TaskState) -> None:
        record.state = state
        record.cause = self.out.cause

    def _place_nowhere(self, record: TaskRecord, operands: Operands, at: float) -> None:
        waits = record.deadline is not None and self._clock < record.deadline
        if waits and not never_meet(operands, self.topology):
            self._turn(record, "unmatched")
            self._unmatched[record.spec.id] = None
            return
        error: Exception = refusal(record.spec.name, operands, self.topology)
        if record.deaths:
            error = _may_have_run(record, ": nobody else may run it")
        self._end(record, "failed", error, at=at)

    def _place_alone(self, record: TaskRecord) -> None:
        """Lines up a task that may have killed its process, for one that does nothing else."""
        self._turn(record, "queued")
        self._suspects[record.spec.id] = None

    def _tend_suspects(self) -> bool:
        """Looks after the suspects, and after the processes that are kept for them.

        Returns:
            True if something else is to be placed now.
        """
        loads = self.loads
        for worker, task in loads.kept().items():
            if not self._needs_kept(task, worker):
                loads.reopen(worker)
                self._to_use.extend(load.processor for load in loads.of_worker[worker])
        kept = {task: worker for worker, task in loads.kept().items()}
        for task in list(self._suspects if loads.may_keep() else kept):
            if task not in self._suspects or not (task in kept or loads.may_keep()):
                continue
            record = self.tasks[task]
            if self._is_judged_anew(record):
                del self._suspects[task]
                continue
            home = kept.get(task)
            if home is None:
                home = loads.keep(record.allowed, task)
            if home is None:
                continue
            if loads.is_empty(home):
                self._send_alone(record, home)
            else:
                self._clear(home)
        return bool(self._to_place or self._to_use)

    def _needs_kept(self, task: int, worker: WorkerId) -> bool:
        """Tells whether a task waits for the process that is kept for it, or runs there."""
        record = self.tasks.get(task)
        if record is None or record.state in FINAL_STATES:
            return False
        if record.processor is not None:
            return record.processor.worker == worker
        return task in self._suspects and self.loads.least(record.allowed, worker) is not None

    def _clear(self, worker: WorkerId) -> None:
        """Asks for what a process cannot begin yet: it may wait for the very suspect."""
        sent = [self.tasks[task] for load in self.loads.of_worker[worker] for task in load.tasks]
        wanted = [record.spec.id for record in sent if _may_come_back(record)]
        for task in wanted:
            self.tasks[task].asked_back = True
        if wanted:
            self.out.put(ev.RunsAskedBack(worker, tuple(wanted), self.out.cause))

    def _send_alone(self, record: TaskRecord, worker: WorkerId) -> None:
        load = self.loads.least(record.allowed, worker)
        assert load is not None
        del self._suspects[record.spec.id]
        self._send(record, load, "alone, since a process died that had it")

    def _choose(self, record: TaskRecord, *, forced: bool) -> tuple[Load, str] | None:
        """Chooses among the allowed processors.

        Returns:
            The load of the processor with the reason in words, None if none has room.
        """
        allowed = record.allowed
        loads = self.loads
        if record.spec.inputs:
            near = self._near(record, forced=forced)
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

    def _near(self, record: TaskRecord, *, forced: bool) -> tuple[Load, str] | None:
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
            load = loads.least(record.allowed, worker)
            if load is not None and usable(load):
                cost = max(loads.seconds_of(worker), ready) + to_move - saved
                if best is None or cost < best_cost:
                    best, best_cost = load, cost
        if best is None:
            return None
        if record.allowed == best.bit:
            return best, "the only processor allowed"
        if best_cost > ready + self.move_latency:
            other = loads.pick(record.allowed)
            if other is not None and other.processor.worker not in homes:
                begin = max(loads.seconds_of(other.processor.worker), ready)
                if begin + to_move < best_cost:
                    return other, "least loaded"
        there = homes[best.processor.worker] >= to_move
        return best, "its inputs are there" if there else "least to move"

    def _homes(self, record: TaskRecord) -> tuple[dict[WorkerId, float], float, float]:
        """Looks for where a task's inputs are, or will be made.

        Returns:
            For each worker that has one of them how many seconds of moving that saves; how
            many it takes to move all of them; and how long it takes until all are made.
        """
        homes: dict[WorkerId, float] = {}
        to_move = ready = 0.0
        for need in record.spec.inputs:
            chunk = self.table.records[need.chunk]
            cost = self.move_latency + chunk.nbytes / _MOVE_BYTES_PER_SECOND
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

    def _send(self, record: TaskRecord, load: Load, rule: str) -> None:
        self._assign(record, load, rule)
        self.out.commands.append(ev.StartRun(record.spec.id, load.processor, self.out.cause))

    def _assign(self, record: TaskRecord, load: Load, rule: str) -> None:
        """Counts on a task being at a processor, and has its inputs sent there."""
        spec = record.spec
        if not record.missing and record.state != "queued":
            self._turn(record, "queued")
        processor = record.processor = load.processor
        record.rule = rule
        record.line = 0
        record.attempts += 1
        record.asked_back = False
        record.may_have_begun = not record.missing
        self.loads.add(load, spec.id, spec.function)
        record.ready = self._at + load.seconds
        if spec.inputs:
            for need in spec.inputs:
                chunk = self.table.records[need.chunk]
                self.table.deliver(chunk, processor.worker, self._maker_worker(chunk))
        records = self.table.records
        for output in spec.outputs:
            made = records.get(output)
            if made is None:
                continue  # nobody wants it any more; the task runs again for another one
            if made.waiters is not None:
                self._follow_planned(made, processor.worker)
            made.planned = True

    def _follow_planned(self, chunk: ChunkRecord, worker: WorkerId) -> None:
        """Looks after the tasks that need what will be made on that worker."""
        for task in chunk.waiters or ():
            waiter = self.tasks[task]
            if waiter.state in FINAL_STATES:
                continue
            if waiter.processor is not None:
                self.table.deliver(chunk, waiter.processor.worker, worker)
            elif not chunk.planned:
                waiter.unplanned -= 1
                if not waiter.unplanned:
                    self._to_place.append(task)

    def _serve_lines(self, load: Load) -> None:
        """Sends what waits in the lines that a processor with new room may serve, oldest first."""
        bit = load.bit
        served = [mask for mask in self._lines if mask & bit]
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
        record = self.tasks.get(line[0])
        if record is not None and _is_lined_up(record, mask):
            if self._is_judged_anew(record):
                return self._pop_head(mask)
            choice = self._choose(record, forced=False)
            if choice is None:
                return False
            self._send(record, *choice)
        return self._pop_head(mask)

    def _pop_head(self, mask: int) -> bool:
        line = self._lines[mask]
        line.popleft()
        if not line:
            del self._lines[mask]
        return bool(line)

    def _is_judged_anew(self, record: TaskRecord) -> bool:
        """Has a task placed anew whose inputs turned out in between to be valid in fewer places."""
        if not record.spec.inputs:
            return False
        record.operands = None
        if self._mask(self.operands(record)) == record.allowed:
            return False
        record.line = 0
        self._turn(record, "waiting")
        self._to_place.append(record.spec.id)
        return True

    def _use_room(self, load: Load) -> None:
        """Finds work for a processor that is about to run dry, or for others by it."""
        if self.loads.kept_for(load.processor.worker) is not None:
            return
        if not self.loads.wants_more(load):
            if self.loads.idle:
                self._share(load)
            return
        if self._lines:
            self._serve_lines(load)
        if load.is_idle:
            self._ask_back_for(load)

    def _ask_back_for(self, idle: Load) -> None:
        """Asks the processor with the most work for tasks that an idle one may run."""
        loaded = self.loads.busiest(self.topology.everything, _WORTH_ASKING)
        if loaded is not None and self.loads.has_room(idle):
            self._ask_back(loaded, idle)

    def _ask_back(self, loaded: Load, idle: Load) -> None:
        wanted: list[int] = []
        most = min(_ASKED_AT_ONCE, len(loaded.tasks) // 2)
        for task in islice(reversed(loaded.tasks), _LOOKED_AT):
            if len(wanted) >= most:
                break
            record = self.tasks[task]
            movable = record.state == "queued" and not record.asked_back and not record.suspected
            if movable and self._allowed_now(record) & idle.bit:
                record.asked_back = True
                wanted.append(task)
        if wanted:
            worker = loaded.processor.worker
            self.out.put(ev.RunsAskedBack(worker, tuple(wanted), self.out.cause))

    def _allowed_now(self, record: TaskRecord) -> int:
        """Returns the processors that a task may run on by what its inputs turned out to be."""
        if record.spec.inputs:
            record.operands = None
            record.operands = self.operands(record)
        return self._mask(self.operands(record))

    # -- running ----------------------------------------------------------------

    def _on_started(self, event: ev.RunStarted) -> None:
        record = self._sent_to(event.task, event.worker)
        if record is not None:
            self._turn(record, "running")
            record.started = event.at

    def _on_paused(self, event: ev.RunPaused) -> None:
        self._at = event.at
        record = self._sent_to(event.task, event.worker)
        if record is not None and record.processor is not None:
            load = self.loads.by_processor[record.processor]
            self.loads.pause(load, event.task)
            self._use_room(load)

    def _on_resumed(self, event: ev.RunResumed) -> None:
        record = self._sent_to(event.task, event.worker)
        if record is not None and record.processor is not None:
            self.loads.resume(self.loads.by_processor[record.processor], event.task)

    def _on_finished(self, event: ev.RunFinished) -> None:
        task, worker, results, started, finished = event
        self._at = finished
        record = self._sent_to(task, worker)
        if record is None:
            self._drop_late(event)
            return
        record.started = started
        function = record.spec.function
        self.loads.learn(function, finished - started)
        scoped = any(result.scope is not _UNSCOPED for result in results)
        self._to_place.extend(self._doubts.learn(function, scoped=scoped))
        for result in results:
            for waiter in self.table.hold(result, worker, finished, self.topology):
                self._count_in(self.tasks[waiter])
        self._end(record, "done", at=finished)

    def _drop_late(self, event: ev.RunFinished) -> None:
        """Has an engine forget what it made for a task that was given to another, or ended."""
        if self.topology.process(event.worker) is None:
            return
        for result in event.results:
            chunk = self.table.records.get(result.id)
            if chunk is None or event.worker not in chunk.holders:
                self.out.drop(event.worker, result.id)

    def _count_in(self, waiter: TaskRecord) -> None:
        """Takes note that an input of a task is made."""
        waiter.missing -= 1
        if waiter.state != "waiting":
            return
        if waiter.processor is not None:
            if not waiter.missing:
                waiter.may_have_begun = True
                self._turn(waiter, "queued")
        elif not waiter.unplanned:
            # In a line perhaps, and to be judged anew by the scope that is known only now.
            waiter.line = 0
            waiter.operands = None
            self._suspects.pop(waiter.spec.id, None)
            self._to_place.append(waiter.spec.id)

    def _on_failed(self, event: ev.RunFailed) -> None:
        record = self._sent_to(event.task, event.worker)
        if record is None:
            return
        record.started = event.started
        if record.failures < record.spec.retries:
            record.failures += 1
            self._unship(record)
            self._turn(record, "waiting")
            self._place(record, event.finished, forced=True)
            return
        self._to_place.extend(self._doubts.release(record.spec.function))
        self._end(record, "failed", event.failure, at=event.finished)

    def _on_handed_back(self, event: ev.RunHandedBack) -> None:
        self._at = event.at
        if event.chunk is not None and event.scope is not None:
            self._narrow(event.chunk, event.scope)
        record = self._sent_to(event.task, event.worker)
        if record is None:
            return
        if event.chunk is not None and event.scope is not None:
            assert record.processor is not None
            if self.topology.contains(event.scope, record.processor):
                # Both sides follow one rule, so this is an error of ours, and would go round.
                error = ScopeViolationError(
                    f"worker {event.worker} may not have chunk {event.chunk} although it is valid"
                    f" on {event.scope.describe()}; {record.spec.name} cannot run there",
                    event.chunk,
                    event.scope,
                )
                self._end(record, "failed", error, at=event.at)
                return
        self._unship(record)
        self._place_anew(record, event.at, forced=event.chunk is not None)

    def _on_pinned(self, event: ev.ChunkPinned) -> None:
        self._narrow(event.chunk, event.scope)

    def _narrow(self, chunk_id: int, scope: Scope) -> None:
        """Takes note of the scope of a chunk, unless that is of an earlier making of it."""
        chunk = self.table.records.get(chunk_id)
        if chunk is None:
            return
        homes = chunk.holders if chunk.state == "held" else (self._maker_worker(chunk),)
        if any(home is not None and self.topology.admits(scope, home) for home in homes):
            self.table.narrow(chunk_id, scope, self.topology)

    def _sent_to(self, task: int, worker: WorkerId) -> TaskRecord | None:
        """Returns the record of a task if that worker is the one that has it now."""
        record = self.tasks.get(task)
        if record is None or record.state not in ("queued", "running", "waiting"):
            return None
        if record.processor is None or record.processor.worker != worker:
            return None
        return record

    def _unship(self, record: TaskRecord) -> None:
        """Takes a task from the processor that it was sent to."""
        load = self._unload(record)
        if load is not None:
            self._to_use.append(load.processor)
        record.processor = None
        record.operands = None
        self._unplan(record)

    def _unplan(self, record: TaskRecord) -> None:
        """Takes note that nobody knows any more where a task's results will be made."""
        for chunk in self.table.find(record.spec.outputs):
            if not chunk.planned or chunk.state != "pending":
                continue
            chunk.planned = False
            chunk.scope = _UNSCOPED
            for task in chunk.waiters or ():
                waiter = self.tasks[task]
                if waiter.processor is not None:
                    self._unplanned[record.spec.id] = None
                    continue
                # Out of its line: it would take the room that what it waits for needs.
                waiter.line = 0
                waiter.unplanned += 1

    def _recall(self) -> None:
        """Asks back what was sent ahead of tasks that have no processor any more.

        It would fill the processors that these need.
        """
        unplanned, self._unplanned = self._unplanned, {}
        wanted: dict[WorkerId, list[int]] = {}
        for maker in unplanned:
            if self.tasks[maker].processor is not None:
                continue
            for chunk in self.table.find(self.tasks[maker].spec.outputs):
                for task in chunk.waiters or ():
                    record = self.tasks[task]
                    if record.processor is not None and _may_come_back(record):
                        record.asked_back = True
                        wanted.setdefault(record.processor.worker, []).append(task)
        for worker, tasks in wanted.items():
            self.out.put(ev.RunsAskedBack(worker, tuple(tasks), self.out.cause))

    def _recall_strays(self) -> None:
        """Asks back the tasks that need what their process has to drop."""
        strays, self.table.strays = self.table.strays, []
        for worker, chunk in strays:
            wanted = []
            for load in self.loads.of_worker.get(worker, ()):
                for task in load.tasks:
                    record = self.tasks[task]
                    needs = any(need.chunk == chunk for need in record.spec.inputs)
                    if needs and record.state != "running" and not record.asked_back:
                        record.asked_back = True
                        wanted.append(task)
            if wanted:
                self.out.put(ev.RunsAskedBack(worker, tuple(wanted), self.out.cause))

    def _place_anew(self, record: TaskRecord, at: float, *, forced: bool) -> None:
        """Places a task that was taken from its processor and had not begun."""
        self._turn(record, "waiting")
        self._count_unplanned(record)
        if not record.unplanned:
            self._place(record, at, forced=forced)

    def _count_unplanned(self, record: TaskRecord) -> None:
        chunks = (self.table.records[need.chunk] for need in record.spec.inputs)
        record.unplanned = sum(chunk.state == "pending" and not chunk.planned for chunk in chunks)

    def _unload(self, record: TaskRecord) -> Load | None:
        """Counts a task out from the work of its processor."""
        if record.processor is None:
            return None
        load = self.loads.by_processor.get(record.processor)
        if load is not None:
            self.loads.remove(load, record.spec.id)
        return load

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
        spec = record.spec
        load = self._unload(record)
        if self._unmatched:
            self._unmatched.pop(spec.id, None)
        if self._suspects:
            self._suspects.pop(spec.id, None)
        if record.operands is None:
            record.operands = self.operands(record)
        record.state = state
        record.line = 0
        record.cause = self.out.cause
        record.finished = at
        if failure is not None:
            record.failure = failure
            record.origin = origin
        self.out.commands.append(ev.Settle(spec.id, state, failure, origin, self.out.cause))
        if record.holds_inputs:
            self.table.let_go(record)
        if state != "done":
            self._end_lineage(record)
            self._fail_outputs(record)
        elif not spec.idempotent:
            self._end_lineage(record)
        if load is not None:
            self._use_room(load)
        self._finished.append(spec.id)
        if len(self._finished) > _FINISHED_KEPT:
            self._fold_history()

    def _end_lineage(self, record: TaskRecord) -> None:
        """Takes note that a task will never run again."""
        if not record.call_forgotten:
            record.call_forgotten = True
            self.out.forget_call(record.spec.id)
        if record.holds_lineage:
            record.holds_lineage = False
            self.table.ascend(record)

    def _forget_tasks(self) -> None:
        """Ends the lineage of tasks whose results nobody can want any more."""
        forgotten = self.table.forgotten
        while forgotten:
            record = self.tasks.get(forgotten.popleft())
            if record is None or record.state not in FINAL_STATES:
                continue
            if not any(output in self.table.records for output in record.spec.outputs):
                self._end_lineage(record)

    def _fail_outputs(self, record: TaskRecord) -> None:
        for chunk in self.table.find(record.spec.outputs):
            if chunk.state != "pending":
                continue  # it ran again for another one
            waiters = self.table.fail(chunk)
            self._to_block.extend((task, chunk.id, record.finished or 0.0) for task in waiters)

    def _block(self, record: TaskRecord, chunk_id: int, at: float) -> None:
        """Ends a task that needs a chunk which nobody can make any more."""
        if record.state in FINAL_STATES:
            return
        if record.state == "running":
            # It had its input before that was lost, or before the word of it was.
            record.missing = max(0, record.missing - 1)
            return
        chunk = self.table.records.get(chunk_id)
        maker = self.tasks.get(self.table.makers.get(chunk_id, chunk_id))
        self._retract(record)
        if maker is not None and maker.state in FINAL_STATES and maker.failure is not None:
            origin = maker.spec.id if maker.origin is None else maker.origin
            self._end(record, "blocked", maker.failure, at=at, origin=origin)
            return
        if chunk is not None and chunk.failure is not None:
            self._end(record, "failed", chunk.failure, at=at)
            return
        self._end(record, "failed", _lost(record, chunk_id, chunk), at=at)

    def _retract(self, record: TaskRecord) -> None:
        """Has an engine forget a task that it cannot have begun, since it lacks an input."""
        if record.processor is not None:
            processor = record.processor
            self._unship(record)
            self.out.put(ev.RetractRuns(processor.worker, (record.spec.id,), self.out.cause))
            self._to_use.append(processor)

    def _fold_history(self) -> None:
        # Two for each that ends: of those still wanted, which come round again, no more
        # are looked at each time than can be afforded.
        for _ in range(min(2, len(self._finished) - _FINISHED_KEPT)):
            oldest = self._finished.popleft()
            record = self.tasks.get(oldest)
            if record is None or record.state not in FINAL_STATES:
                continue
            outputs = record.spec.outputs
            if any(self._still_wanted(output) for output in outputs):
                self._finished.append(oldest)
                continue
            self._end_lineage(record)
            del self.tasks[oldest]
            for output in outputs:
                self.table.makers.pop(output, None)
                self.table.records.pop(output, None)

    def _still_wanted(self, chunk_id: int) -> bool:
        chunk = self.table.records.get(chunk_id)
        if chunk is None:
            return False
        # Of descendants a chunk may have to be made again that is wanted.
        return chunk.handles > 0 or chunk.users > 0 or chunk.descendants > 0

    # -- chunks -----------------------------------------------------------------

    def _on_stored(self, event: ev.ChunkStored) -> None:
        if self.topology.process(event.worker) is None:
            return  # the late word of a process that is gone
        self._at = event.at
        for waiter in self.table.hold(event.chunk, event.worker, event.at, self.topology):
            self._count_in(self.tasks[waiter])

    def _on_chunk_failed(self, event: ev.ChunkFailed) -> None:
        chunk = self.table.records.get(event.chunk)
        if chunk is None:
            return
        if chunk.state != "pending" or chunk.maker is not None:
            self._fail_copy(chunk, event)
            return
        chunk.failure = event.failure
        self._to_block.extend((task, chunk.id, event.at) for task in self.table.fail(chunk))

    def _fail_copy(self, chunk: ChunkRecord, event: ev.ChunkFailed) -> None:
        """Ends the tasks of a worker that need a copy which cannot be read there."""
        for load in self.loads.of_worker.get(event.worker, ()):
            for task in list(load.tasks):
                record = self.tasks[task]
                if any(need.chunk == chunk.id for need in record.spec.inputs):
                    self._retract(record)
                    self._end(record, "failed", event.failure, at=event.at)

    def _on_arrived(self, event: ev.ChunksArrived) -> None:
        if self.topology.process(event.worker) is None:
            return
        for chunk in event.chunks:
            for waiter in self.table.arrived(chunk, event.worker):
                self._count_in(self.tasks[waiter])

    def _on_missed(self, event: ev.ChunksMissed) -> None:
        self._at = event.at
        for chunk_id in event.chunks:
            chunk = self.table.records.get(chunk_id)
            if chunk is None or chunk.state != "held":
                continue
            if self.topology.admits(chunk.scope, event.worker):
                self.table.send_again(chunk_id, event.worker, self.topology)
            else:
                self._hand_back_all(chunk, event)

    def _hand_back_all(self, chunk: ChunkRecord, event: ev.ChunksMissed) -> None:
        """Places anew what waits on a worker for a chunk that may never come there."""
        for load in self.loads.of_worker.get(event.worker, ()):
            for task in list(load.tasks):
                record = self.tasks[task]
                if any(need.chunk == chunk.id for need in record.spec.inputs):
                    self._retract(record)
                    self._place_anew(record, event.at, forced=True)

    def expect(self, chunk: ChunkRecord) -> None:
        """Takes in a chunk that is on its way to the process that will hold it."""
        chunk.planned = True
        self.table.records[chunk.id] = chunk

    def _on_handles_added(self, event: ev.HandlesAdded) -> None:
        for chunk in self.table.find(event.chunks):
            chunk.handles += 1

    def _on_handles_dropped(self, event: ev.HandlesDropped) -> None:
        self.table.drop_handles(event.chunks)

    def _on_handles_returned(self, event: ev.HandlesReturned) -> None:
        self.table.take_back(event.worker, event.chunks)

    # -- workers ----------------------------------------------------------------

    def _on_joined(self, event: ev.WorkerJoined) -> None:
        self._at = self._clock = event.at
        self.topology = self.topology.with_process(event.process)
        self._replace_all(event.at)

    def _on_left(self, event: ev.WorkerLeft) -> None:
        self._at = self._clock = event.at
        interrupted = {
            task: self.tasks[task]
            for load in self.loads.of_worker.get(event.worker, ())
            for task in load.tasks
        }
        began = {task for task in interrupted if self._may_have_begun(task, interrupted)}
        self.topology = self.topology.without(event.worker)
        self._rebuild_loads()
        lost = {chunk.id: chunk for chunk in self.table.forget_worker(event.worker)}
        for record in interrupted.values():
            record.processor = None
            record.operands = None
            self._unplan(record)
        for chunk in lost.values():
            self._expect_again(chunk)
        self._orphan(event, interrupted)
        for record in self._bereft(lost) if lost else ():
            if record.spec.id not in interrupted and record.state != "running":
                self._miss_again(record, event.at)
        for record in interrupted.values():
            self._rerun(record, event, begun=record.spec.id in began)
        for chunk in lost.values():
            if chunk.state == "lost" and chunk.handles > 0:
                self._make_again([chunk], event.at)
            self.table.release_if_unwanted(chunk)
        self._replace_all(event.at)

    def _expect_again(self, chunk: ChunkRecord) -> None:
        """Goes on waiting for a chunk that is lost while its maker is to run, for another one."""
        maker = self.tasks.get(chunk.maker or 0)
        if maker is not None and maker.state not in FINAL_STATES:
            chunk.state = "pending"
            chunk.planned = maker.processor is not None

    def _on_drain(self, event: ev.DrainAsked) -> None:
        self._at = event.at
        self.loads.draining |= set(event.workers)
        for worker in event.workers:
            self._empty(worker)
        for chunk in held_by_these_alone(self, event.workers):
            home = where_it_can_go(self, chunk)
            if home is not None:
                self.table.deliver(chunk, home, None)

    def _empty(self, worker: WorkerId) -> None:
        """Takes back what a worker has not begun, as far as others may run it."""
        asked: list[int] = []
        elsewhere = ~self.topology.worker_mask(worker)
        for load in self.loads.of_worker.get(worker, ()):
            for task in list(load.tasks):
                record = self.tasks[task]
                if not record.allowed & elsewhere or record.state == "running":
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

    def _on_drain_ended(self, event: ev.DrainEnded) -> None:
        self._at = event.at
        self.loads.draining -= set(event.workers)
        for worker in event.workers:
            self._to_use.extend(load.processor for load in self.loads.of_worker.get(worker, ()))

    def _orphan(self, event: ev.WorkerLeft, interrupted: Mapping[int, TaskRecord]) -> None:
        """Lets go of what tasks of a dead worker spawned.

        Where such a task runs again it spawns anew; what it had spawned ends with it.
        """
        for chunk in self.table.lent_to(event.worker):
            record = self.tasks.get(self.table.makers.get(chunk.id, 0))
            if record is None or record.state in FINAL_STATES:
                continue
            parent = interrupted.get(record.spec.parent or 0)
            if parent is not None and parent.state not in FINAL_STATES:
                self._retract(record)
                error = TaskCancelledError(
                    f"{record.spec.name} was cancelled: worker {event.worker} is gone, and with"
                    f" it the run of {parent.spec.name} that spawned it"
                )
                self._end(record, "cancelled", error, at=event.at)
        self.table.forget_handles(event.worker)

    def _bereft(self, lost: Mapping[int, ChunkRecord]) -> list[TaskRecord]:
        """Returns the unfinished tasks that need one of the chunks that are lost."""
        return [
            record
            for record in self.tasks.values()
            if record.holds_inputs and any(need.chunk in lost for need in record.spec.inputs)
        ]

    def _miss_again(self, record: TaskRecord, at: float) -> None:
        """Has a task wait for inputs that were there and are lost."""
        if record.processor is None:
            self._wait_again(record, at)
            return
        for need in record.spec.inputs:
            chunk = self.table.records[need.chunk]
            if chunk.state == "lost" and not self._make_again([chunk], at):
                self._to_block.append((record.spec.id, need.chunk, at))
                return
            if chunk.state == "pending" and record.spec.id not in (chunk.waiters or ()):
                chunk.waiters = [*(chunk.waiters or ()), record.spec.id]
                record.missing += 1
                self._turn(record, "waiting")
                if chunk.maker is not None:
                    self._unplanned[chunk.maker] = None

    def _may_have_begun(self, task: int, interrupted: Mapping[int, TaskRecord]) -> bool:
        """Tells whether a task of a dead worker may have begun there.

        An engine tells only of long runs that they began: whatever had its inputs may have,
        and whatever lacks only what was to be made there, too, of which no word came.
        """
        record = self.tasks[task]
        if record.may_have_begun or record.state == "running":
            return True
        needed = (self.table.records[need.chunk] for need in record.spec.inputs)
        return all(chunk.state != "pending" or chunk.maker in interrupted for chunk in needed)

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft, *, begun: bool) -> None:
        if record.state in FINAL_STATES:
            return
        spec = record.spec
        if begun and not event.planned:
            record.deaths += 1
        self._turn(record, "waiting")
        if begun and (not spec.idempotent or record.deaths >= _DEATHS):
            self._end(record, "failed", _may_have_run(record, ""), at=event.at)
            return
        self._wait_again(record, event.at)

    def _wait_again(self, record: TaskRecord, at: float) -> None:
        """Has a task wait for its inputs anew, some of which may have been lost."""
        task = record.spec.id
        self._turn(record, "waiting")
        self._unmatched.pop(task, None)
        self._suspects.pop(task, None)
        record.line = 0
        record.operands = None
        self._wait_no_more(record)
        if self._wait_for_inputs(record, at) and not record.unplanned:
            self._place(record, at, forced=True)

    def _wait_no_more(self, record: TaskRecord) -> None:
        """Takes a task out where it waits for its inputs; it is to be entered anew."""
        for chunk in self.table.find(need.chunk for need in record.spec.inputs):
            if chunk.waiters:
                chunk.waiters = [waiter for waiter in chunk.waiters if waiter != record.spec.id]

    def _make_again(self, lost: list[ChunkRecord], at: float) -> bool:
        """Runs again what made a chunk, and what made its inputs as far as they are gone.

        Returns:
            False if one of them cannot run again.
        """
        makers = makers_to_run_again(lost, self, self._clock)
        if makers is None:
            return False
        for record in makers:
            self._restart(record)
        for record in makers:
            if self._wait_for_inputs(record, at) and not record.unplanned:
                self._to_place.append(record.spec.id)
        return True

    def _restart(self, record: TaskRecord) -> None:
        self._turn(record, "waiting")
        record.processor = None
        record.operands = None
        record.started = record.finished = None
        # It may have ended before the word of its inputs came.
        self._wait_no_more(record)
        for output in record.spec.outputs:
            chunk = self.table.records.get(output)
            if chunk is not None and chunk.state != "held":
                chunk.state = "pending"
                chunk.planned = False
                chunk.scope = _UNSCOPED
                chunk.cause = self.out.cause

    def _replace_all(self, at: float) -> None:
        """Judges anew every task that has no processor yet: the bits of masks moved."""
        self._rebuild_loads()
        lined_up = {
            task: None
            for mask, line in self._lines.items()
            for task in line
            if _is_lined_up(self.tasks.get(task), mask)
        }
        self._lines = {}
        suspects, self._suspects = self._suspects, {}
        for task in [*suspects, *sorted(lined_up), *self._unmatched]:
            record = self.tasks[task]
            self._turn(record, "waiting")
            record.line = 0
            record.operands = None
            if record.unplanned:
                self._unmatched.pop(task, None)
            else:
                self._place(record, at)

    def _rebuild_loads(self) -> None:
        self._masks.clear()
        before = self.loads
        self.loads = Loads(self.topology, self.durations, self.budget, before.by_processor)
        self.loads.keep_again(before.kept())
        self.loads.draining = before.draining & set(self.topology.workers)

    # -- control ----------------------------------------------------------------

    def _on_cancel(self, event: ev.CancelAsked) -> None:
        record = self.tasks.get(event.task)
        if record is None or record.state in FINAL_STATES:
            return
        if record.processor is not None and (record.state == "running" or not record.missing):
            return
        self._retract(record)
        error = TaskCancelledError(f"{record.spec.name} was cancelled before it ran")
        self._end(record, "cancelled", error, at=event.at)

    def _on_time(self, event: ev.TimePassed) -> None:
        self._at = self._clock = event.at
        for task in list(self._unmatched):
            record = self.tasks[task]
            if record.deadline is not None and event.at >= record.deadline:
                operands = self.operands(record)
                error = refusal(record.spec.name, operands, self.topology)
                self._end(record, "failed", error, at=event.at)
        for load in self.loads.some_idle():
            self._ask_back_for(load)

    def next_deadline(self) -> float | None:
        """Returns the time at which a wait for a processor ends, if there is one."""
        deadlines: Iterable[float] = (
            deadline
            for task in self._unmatched
            if (deadline := self.tasks[task].deadline) is not None
        )
        return min(deadlines, default=None)


def _is_to_be_placed(record: TaskRecord) -> bool:
    """Tells whether a task was not placed, and did not end, in between."""
    nowhere = record.processor is None and not record.line
    return nowhere and record.state == "waiting" and not record.unplanned


def _is_lined_up(record: TaskRecord | None, mask: int) -> bool:
    """Tells whether an entry of a line is still meant."""
    return record is not None and record.line == mask


def _may_come_back(record: TaskRecord) -> bool:
    """Tells whether a task waits at its processor for inputs, and was not asked back."""
    return record.missing > 0 and record.state == "waiting" and not record.asked_back


def _may_have_run(record: TaskRecord, why: str) -> WorkerLostError:
    topology = record.topology
    where = f"worker {topology.departed[-1]}" if topology and topology.departed else "its worker"
    return WorkerLostError(
        f"{where} died while it had {record.spec.name} to run"
        f" (attempt {record.attempts}); it may have begun and is not started again{why}"
    )


def _lost(record: TaskRecord, chunk_id: int, chunk: ChunkRecord | None) -> ChunkLostError:
    if chunk is None or chunk.state == "released":
        return ChunkLostError(
            f"{record.spec.name} needs chunk {chunk_id}, which was released: no handle to it"
            " was left. Keep its task or its Chunk alive until it is used."
        )
    home = chunk.processor.describe() if chunk.processor else "its worker"
    return ChunkLostError(
        f"{record.spec.name} needs chunk {chunk_id}, which is lost: {home} is gone, and it"
        " cannot be made again. Spawn again the task that makes it."
    )
