"""The invariants of a scheduler, looked through after each event.

=== ===================================================================================
I1  nothing is sent, delivered or begun outside of a scope
I2  each task has one state, and stays in a final one
I3  a task has one live run at most; one that must not run twice is begun once at most
I4  what is published comes from the run that was accepted
I5  a wanted chunk is held, being made, or told to be lost
I6  counts match: work, waiters, users, handles, lineage
I7  no command goes to a process that is gone
I8  the edges between tasks and chunks agree in both directions
I9  what waits has an input to wait for; what is queued has none; each task is somewhere,
    and nothing waits where there is room
I10 nothing is held that nobody wants
I11 a task goes where it prefers, as far as anybody is there, until its patience is over
C.. what stands in ``stops.py``
=== ===================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.graph import FINAL_STATES
from scopekit.scheduler import events as ev
from scopekit.testing.stops import StopRules
from scopekit.testing.watching import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scopekit.graph import ChunkRecord, TaskRecord, TaskState, WorkerId
    from scopekit.scheduler import Scheduler
    from scopekit.scopes import Processor

__all__ = ("Invariants",)

_FINAL = frozenset(FINAL_STATES)
_UNHAD = frozenset(("failed", "lost", "released"))


class Invariants:
    """Looks a scheduler through.

    Args:
        scheduler: the scheduler.
        handles: how many handles to each chunk there are, as users know it.

    Attributes:
        settled: the state in which each task ended, as far as waiters were told.
        live: the worker that has the live run of each task.
        forgotten: the tasks whose calls were forgotten, or never taken in.
    """

    def __init__(self, scheduler: Scheduler, handles: Mapping[int, int]) -> None:
        self.settled: dict[int, TaskState] = {}
        self._scheduler = scheduler
        self._handles = handles
        self.forgotten: dict[int, None] = {}
        self.live: dict[int, WorkerId] = {}
        self._senders: dict[tuple[int, WorkerId], WorkerId] = {}
        self._deaths: dict[int, int] = {}
        self._accepted: int | None = None
        self._events = 0
        self._stops = StopRules(scheduler, self.live, self.settled)
        self._look: dict[type, Callable[[Any], None]] = {
            ev.StartRun: self._look_at_start,
            ev.SendChunk: self._look_at_send,
            ev.Settle: self._look_at_settle,
            ev.RetractRuns: self._look_at_retract,
            ev.StopRuns: self._stops.look_at_stop,
            ev.KillWorker: self._stops.look_at_kill,
            ev.ForgetCalls: self._look_at_forget,
            ev.Refuse: self._look_at_refuse,
        }

    # -- what is said -----------------------------------------------------------------

    def after(self, event: ev.Event, commands: list[ev.Command]) -> None:
        """Looks at an event that was taken in, with what followed from it.

        Raises:
            Violation: something is not as it must be.
        """
        self._events += 1
        self._stops.note(event)
        accepted = self._accepted = self._note_event(event)
        for command in commands:
            self._look_at(command)
        if accepted is not None and isinstance(event, ev.RunFinished):
            self._look_at_results(event)
        self._stops.look_back(event, commands, accepted=accepted is not None)
        if isinstance(event, ev.TimePassed):
            self._check_patience()
        self.check()

    def _look_at_results(self, event: ev.RunFinished) -> None:
        topology = self._scheduler.topology
        for stored in event.results:
            chunk = self._scheduler.chunks.get(stored.id)
            if chunk is None or chunk.state != "held" or chunk.holders[0] != event.worker:
                continue
            if topology.mask(chunk.scope) & ~topology.mask(stored.scope):
                raise Violation("I1", f"chunk {stored.id} is taken for valid in more places")

    def _note_event(self, event: ev.Event) -> int | None:
        """Takes note of a run that is over; returns its task if the run was the live one."""
        if isinstance(event, (ev.RunFinished, ev.RunFailed, ev.RunHandedBack, ev.RunStopped)):
            if self.live.get(event.task) != event.worker:
                return None
            del self.live[event.task]
            return event.task
        if isinstance(event, ev.WorkerLeft):
            for task in [task for task, where in self.live.items() if where == event.worker]:
                del self.live[task]
                self._deaths[task] = self._deaths.get(task, 0) + (not event.planned)
        return None

    def _look_at(self, command: ev.Command) -> None:
        if command.cause != self._events:
            raise Violation("cause", f"{command} names another event than {self._events}")
        worker = getattr(command, "worker", None)
        if worker is not None and self._scheduler.topology.process(worker) is None:
            raise Violation("I7", f"{command} goes to a process that is gone")
        look = self._look.get(type(command))
        if look is not None:
            look(command)

    def _look_at_retract(self, command: ev.RetractRuns) -> None:
        for task in command.tasks:
            if self.live.get(task) == command.worker:
                del self.live[task]

    def _look_at_forget(self, command: ev.ForgetCalls) -> None:
        self.forgotten.update(dict.fromkeys(command.tasks))

    def _look_at_refuse(self, command: ev.Refuse) -> None:
        self.settled[command.task] = "failed"
        self.forgotten[command.task] = None

    def _be_alive(self, worker: WorkerId, command: ev.Command) -> None:
        if self._scheduler.topology.process(worker) is None:
            raise Violation("I7", f"{command} goes to a process that is gone")

    def _look_at_start(self, command: ev.StartRun) -> None:
        task, processor, _ = command
        self._be_alive(processor.worker, command)
        self._stops.look_at_start(command)
        if task in self.live:
            raise Violation(
                "I3", f"task {task} is sent again while worker {self.live[task]} has it"
            )
        if task in self.forgotten:
            raise Violation("I3", f"task {task} is sent again, and its call was forgotten")
        self.live[task] = processor.worker
        record = self._scheduler.tasks.get(task)
        if record is None or record.processor != processor:
            return  # it came and went within the event
        if record.missing and (record.suspected or not record.spec.idempotent):
            raise Violation("I3", f"task {task} is sent ahead, and nobody can tell if it begins")
        topology = self._scheduler.topology
        for origin, scope in self._scheduler.operands(record):
            if not topology.contains(scope, processor):
                raise Violation("I1", f"task {task} is sent to {processor}, outside of {origin}")
        if record.spec.prefer and not record.suspected:
            self._look_at_preferred(record, processor)

    def _look_at_preferred(self, record: TaskRecord, processor: Processor) -> None:
        if processor not in self._taken(record):
            task = record.spec.id
            raise Violation("I11", f"task {task} is sent to {processor}, which it likes less")

    def _taken(self, record: TaskRecord) -> list[Processor]:
        """Returns the processors that a task with preferences takes now."""
        scheduler, topology = self._scheduler, self._scheduler.topology
        scopes = [scope for _, scope in scheduler.operands(record)]
        allowed = [p for p in topology.processors if all(topology.contains(s, p) for s in scopes)]
        since = scheduler.patience.since.get(record.spec.id)
        taken: list[Processor] = []
        patience = 0.0
        for scope, busy in record.spec.prefer:
            found = [p for p in allowed if topology.contains(scope, p)]
            taken += found
            patience += busy if found else 0.0
            if found and patience and (since is None or scheduler._clock < since + patience):
                return taken
        return allowed

    def _check_patience(self) -> None:
        """Looks whether all who prefer something wait for what they take by now."""
        for number, record in self._scheduler.tasks.items():
            if record.line and record.spec.prefer:
                waits = self._scheduler.topology.select(record.line)
                missing = [p for p in self._taken(record) if p not in waits]
                if missing:
                    raise Violation("I11", f"task {number} waits, and takes {missing} as well")

    def _look_at_send(self, command: ev.SendChunk) -> None:
        self._be_alive(command.holder, command)
        self._be_alive(command.to, command)
        if command.holder == command.to:
            raise Violation("I1", f"{command} goes to where it is")
        chunk = self._scheduler.chunks.get(command.chunk)
        if chunk is None:
            return
        self._senders[chunk.id, command.to] = command.holder
        scope = chunk.scope if chunk.state == "held" else chunk.declared
        if scope is not None and not self._scheduler.topology.admits(scope, command.to):
            raise Violation("I1", f"{command} leads out of the chunk's scope")

    def _look_at_settle(self, command: ev.Settle) -> None:
        task, state = command.task, command.state
        before = self.settled.get(task)
        if before not in (None, "done") or state not in _FINAL:
            raise Violation("I2", f"task {task} ends as {state} after {before}")
        if (command.failure is None) != (state == "done"):
            raise Violation("I2", f"task {task} ends as {state} with {command.failure!r}")
        if state == "done" and self._accepted != task:
            raise Violation("I4", f"task {task} is done without a word of the run that was live")
        self.settled[task] = state
        self._stops.look_at_settle(command)

    # -- what is known ----------------------------------------------------------------

    def check(self) -> None:
        """Looks all records through.

        Raises:
            Violation: something is not as it must be.
        """
        users: dict[int, int] = {}
        descendants: dict[int, int] = {}
        work: dict[WorkerId, int] = {}
        for number, record in self._scheduler.tasks.items():
            if record.state in _FINAL:
                self._check_ended(number, record)
            else:
                self._check_unfinished(number, record)
                if record.processor is not None:
                    self._check_work(number, record)
                    worker = record.processor.worker
                    work[worker] = work.get(worker, 0) + 1
            for need in record.spec.inputs:
                chunk = need.chunk
                users[chunk] = users.get(chunk, 0) + record.holds_inputs
                descendants[chunk] = descendants.get(chunk, 0) + record.holds_lineage
        self._check_chunks(users, descendants)
        self._check_loads(work)
        self._check_lines()

    def _check_chunks(self, users: Mapping[int, int], descendants: Mapping[int, int]) -> None:
        chunks = self._scheduler.chunks
        for number, chunk in chunks.items():
            self._check_chunk(chunk)
            counted = (self._handles.get(number, 0), users.get(number, 0))
            if counted != (chunk.handles, chunk.users):
                said = (chunk.handles, chunk.users)
                raise Violation("I6", f"chunk {number} has handles, users {counted}, not {said}")
            if descendants.get(number, 0) != chunk.descendants:
                raise Violation(
                    "I6", f"chunk {number} has descendants {descendants.get(number, 0)}"
                )
        for number, count in users.items():
            if count and number not in chunks:
                raise Violation("I8", f"chunk {number} is needed, and there is no record of it")

    def _check_ended(self, number: int, record: TaskRecord) -> None:
        if self.settled.get(number) != record.state:
            raise Violation("I2", f"task {number} is {record.state}, and nobody was told")
        if record.holds_inputs or record.line:
            raise Violation("I6", f"task {number} has ended, and holds its inputs or a place")

    def _check_unfinished(self, number: int, record: TaskRecord) -> None:
        chunks = self._scheduler.chunks
        missing = unplanned = 0
        for need in record.spec.inputs:
            chunk = chunks.get(need.chunk)
            if chunk is None or (chunk.state in _UNHAD and record.state != "running"):
                state = "forgotten" if chunk is None else chunk.state
                raise Violation("I5", f"task {number} needs chunk {need.chunk}, which is {state}")
            # What runs had its inputs, also those that were dropped meanwhile.
            had = record.state == "running" and number not in (chunk.waiters or ())
            if chunk.state == "pending" and not had:
                missing += 1
                unplanned += not chunk.planned
                if number not in (chunk.waiters or ()):
                    raise Violation("I8", f"chunk {chunk.id} does not know that {number} waits")
            comes_back = record.state == "running" or record.asked_back
            if record.processor is not None and not comes_back:
                self._check_coming(chunk, record.processor.worker)
        if record.missing != missing:
            raise Violation("I6", f"task {number} lacks {missing} inputs, not {record.missing}")
        if record.spec.inputs and not record.holds_inputs:
            raise Violation("I6", f"task {number} is not counted among the users of its inputs")
        if record.deaths > self._deaths.get(number, 0):
            raise Violation("blame", f"task {number} is blamed for {record.deaths} deaths")
        self._check_place(number, record, unplanned)

    def _check_place(self, number: int, record: TaskRecord, unplanned: int) -> None:
        state, placed = record.state, record.processor is not None
        scheduler = self._scheduler
        if state == "queued" and record.missing:
            raise Violation("I9", f"task {number} is queued and lacks {record.missing} inputs")
        if state == "waiting" and not (record.missing or record.gates):
            raise Violation("I9", f"task {number} waits, and has all of its inputs")
        if record.gates > self._shut_gates(record):
            raise Violation("I6", f"task {number} waits at {record.gates} gates, some open")
        if state == "running" and not placed:
            raise Violation("I9", f"task {number} runs nowhere")
        if (number in scheduler._unmatched) != (state == "unmatched"):
            raise Violation("I9", f"task {number} is {state}: not as the unmatched are kept")
        aside = number in scheduler._suspects
        held_back = record.missing and (
            record.suspected or not record.spec.idempotent or scheduler.doubted_inputs(record)
        )
        somewhere = placed or record.line or aside or state == "unmatched"
        if not (somewhere or unplanned or held_back or record.gates):
            raise Violation("I9", f"task {number} is {state} and nowhere")
        if placed + bool(record.line) + aside + (state == "unmatched") > 1:
            raise Violation("I9", f"task {number} is in several places")

    def _shut_gates(self, record: TaskRecord) -> int:
        tasks = self._scheduler.tasks
        before = [tasks[task] for task in record.spec.after if task in tasks]
        return record.held + sum(each.state not in _FINAL for each in before)

    def _check_work(self, number: int, record: TaskRecord) -> None:
        load = self._scheduler.loads.by_processor.get(record.processor)  # type: ignore[arg-type]
        if load is None:
            raise Violation("I7", f"task {number} is on {record.processor}, which is gone")
        if number not in load.tasks:
            raise Violation("I6", f"task {number} is not counted where it is")
        if record.suspected:
            others = self._scheduler.loads.of_worker[load.processor.worker]
            if sum(len(other.tasks) for other in others) > 1:
                raise Violation("blame", f"task {number} is suspected, and not alone")

    def _check_chunk(self, chunk: ChunkRecord) -> None:
        state, holders = chunk.state, chunk.holders
        if state == "held":
            if not holders:
                raise Violation("I5", f"chunk {chunk.id} is held by nobody")
            if chunk.handles <= 0 and chunk.users <= 0:
                raise Violation("I10", f"chunk {chunk.id} is held, and nobody wants it")
        elif state == "pending":
            self._check_pending(chunk)
        elif holders or chunk.waiters:
            raise Violation("I5", f"chunk {chunk.id} is {state} and has holders or waiters")
        elif state == "released" and (chunk.handles > 0 or chunk.users > 0):
            raise Violation("I5", f"chunk {chunk.id} was released, and is wanted")
        if state != "pending" and chunk.handles + chunk.users + chunk.descendants <= 0:
            raise Violation("I10", f"the record of chunk {chunk.id} is kept for nobody")
        self._check_where(chunk)

    def _check_where(self, chunk: ChunkRecord) -> None:
        topology = self._scheduler.topology
        for worker in chunk.holders:
            if topology.process(worker) is None:
                raise Violation("I7", f"chunk {chunk.id} is said to be held by {worker}")
            leaves = chunk.id in self._scheduler.table.outside
            if chunk.state == "held" and not (topology.admits(chunk.scope, worker) or leaves):
                raise Violation("I1", f"chunk {chunk.id} is held by {worker}, outside of its scope")
        for worker in chunk.targets:
            if topology.process(worker) is None:
                raise Violation("I7", f"chunk {chunk.id} is to go to {worker}, which is gone")

    def _check_pending(self, chunk: ChunkRecord) -> None:
        if chunk.maker is not None:
            maker = self._scheduler.tasks.get(chunk.maker)
            if maker is None or maker.state in _FINAL:
                raise Violation("I5", f"chunk {chunk.id} is pending, and nobody makes it")
        elif chunk.processor is not None and (
            self._scheduler.topology.process(chunk.processor.worker) is None
        ):
            raise Violation("I5", f"chunk {chunk.id} is pending, and its home is gone")
        waiters = chunk.waiters or ()
        if len(dict.fromkeys(waiters)) != len(waiters):
            raise Violation("I8", f"a task waits twice for chunk {chunk.id}: {waiters}")

    def _check_coming(self, chunk: ChunkRecord, worker: WorkerId) -> None:
        """Looks whether a chunk that a task was sent ahead of is there, or will come."""
        if worker in chunk.holders:
            return
        maker = self._scheduler._maker_worker(chunk) if chunk.state == "pending" else worker
        if chunk.state == "pending" and maker in (worker, None):
            return
        sender = self._senders.get((chunk.id, worker))
        if sender is None or (sender not in chunk.holders and sender != maker):
            raise Violation("I5", f"chunk {chunk.id} is awaited by {worker}; {sender} has none")

    def _check_loads(self, work: Mapping[WorkerId, int]) -> None:
        loads = self._scheduler.loads
        if tuple(loads.by_processor) != self._scheduler.topology.processors:
            raise Violation("I6", "the loads are not those of the processors that there are")
        counted: dict[WorkerId, int] = {}
        for load in loads.all:
            tasks = len(load.tasks) - len(load.paused)
            self._stops.check(load)
            if load.tasks:
                worker = load.processor.worker
                counted[worker] = counted.get(worker, 0) + len(load.tasks)
                slow = len(load.running - load.paused)
                if tasks != sum(load.by_function.values()) + slow:
                    raise Violation("I6", f"{load.processor} has {tasks} tasks, not as weighed")
            if bool(loads.idle & load.bit) == bool(tasks or load.lingering):
                raise Violation("I6", f"{load.processor} is idle and has {tasks} tasks, or neither")
        if counted != work:
            raise Violation("I6", f"workers have {work} tasks, and {counted} are counted")

    def _check_lines(self) -> None:
        """Looks whether something waits where there is room."""
        scheduler = self._scheduler
        room = scheduler.loads.idle & ~scheduler.loads._closed()
        for mask, line in scheduler._lines.items():
            for number in line:
                record = scheduler.tasks.get(number)
                if record is not None and record.line == mask and mask & room:
                    raise Violation("I9", f"task {number} waits, and a processor for it is idle")
        kept = scheduler.loads.kept()
        for worker, task in kept.items():
            if scheduler.loads.is_empty(worker):
                raise Violation("I9", f"worker {worker} is kept empty for task {task}")
        for task in scheduler._suspects:
            if task not in kept.values() and self._could_keep(task):
                raise Violation("I9", f"suspect {task} waits, and a process could be kept for it")

    def _could_keep(self, task: int) -> bool:
        scheduler = self._scheduler
        kept = scheduler.loads.kept()
        allowed = scheduler.tasks[task].allowed
        return scheduler.loads.may_keep() and any(
            worker not in kept and any(load.bit & allowed for load in loads)
            for worker, loads in scheduler.loads.of_worker.items()
        )
