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

A task may also have *gates*: tasks that are to end before it, though it needs nothing of
them, and the block that it was spawned in. Until all are open it waits here, and is not sent
ahead.

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

from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopeViolationError
from scopekit.graph import FINAL_STATES, ChunkRecord, TaskRecord
from scopekit.scheduler import events as ev
from scopekit.scheduler.cancelling import Cancelling
from scopekit.scheduler.leaving import held_by_these_alone, where_it_can_go
from scopekit.scheduler.placement import never_meet, refusal
from scopekit.scheduler.sending import may_come_back
from scopekit.scopes import AnyScope

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.errors import SchedulingError
    from scopekit.graph import TaskSpec, WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = ("Scheduler",)

# So often a task may come back from where it may be: labels change, and word of them takes time.
_ENOUGH_ATTEMPTS = 20
_UNSCOPED = AnyScope()


class Scheduler(Cancelling):
    """Decides what runs where.

    Args:
        topology: the processes there are at the start.
        budget: seconds of work sent ahead to a processor.
    """

    def __init__(self, topology: Topology, *, budget: float = 0.05) -> None:
        super().__init__(topology, budget)
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.TaskSpawned: self._on_spawned,
            ev.ChildSpawned: self._on_child_spawned,
            ev.RunStarted: self._on_started,
            ev.RunPaused: self._on_paused,
            ev.RunResumed: self._on_resumed,
            ev.RunFinished: self._on_finished,
            ev.RunFailed: self._on_failed,
            ev.RunHandedBack: self._on_handed_back,
            ev.RunStopped: self._on_stopped,
            ev.ChunkPinned: self._on_pinned,
            ev.ChunksArrived: self._on_arrived,
            ev.ChunksMissed: self._on_missed,
            ev.ChunkStored: self._on_stored,
            ev.ChunkFailed: self._on_chunk_failed,
            ev.HandlesAdded: self._on_handles_added,
            ev.HandlesDropped: self._on_handles_dropped,
            ev.ResultsBrought: self._on_brought,
            ev.ChunkBorrowed: self._on_borrowed,
            ev.HandlesReturned: self._on_handles_returned,
            ev.ChunksUnheld: self._on_unheld,
            ev.CopyAsked: self._on_copy_asked,
            ev.ChunkRescoped: self._on_rescoped,
            ev.WorkerJoined: self._on_joined,
            ev.ProcessesChanged: self._on_changed,
            ev.WorkerLeft: self._on_left,
            ev.DrainAsked: self._on_drain,
            ev.DrainEnded: self._on_drain_ended,
            ev.CancelAsked: self._on_cancel,
            ev.BlockEnded: self._on_block_ended,
            ev.TimePassed: self._on_time,
        }

    def handle(self, event: ev.Event) -> list[ev.Command]:
        """Takes one event in.

        Returns:
            The commands that follow from it, in the order in which to carry them out.
        """
        self.out.begin()
        self._handlers[type(event)](event)
        # Not by recursion: a chain of thousands would be as many frames deep.
        while self._to_place or self._to_block or self._to_use or self._to_cancel:
            self._follow_up()
        if self._suspects or self.loads.keeps_any:
            self._look_after_suspects()
        if self._unplanned:
            self._recall()
        if self.table.outside:
            self._move_inside()
            while self._to_place or self._to_block or self._to_use:
                self._follow_up()
        if self.table.strays:
            self._recall_strays()
        if self.table.forgotten:
            self._forget_tasks()
        if len(self._finished) > self._finished_before:
            self._fold_history()
        return self.out.take()

    def _look_after_suspects(self) -> None:
        while self._tend_suspects():
            while self._to_place or self._to_block or self._to_use or self._to_cancel:
                self._follow_up()

    def _follow_up(self) -> None:
        if self._to_cancel:
            self._cancel_children()
        while self._to_block:
            task, output, at = self._to_block.popleft()
            record = self.tasks.get(task)
            if record is not None:
                self._block(record, output, at)
        if self._to_place:
            record = self.tasks.get(self._to_place.popleft())
            if record is not None and _is_to_be_placed(record):
                self._place(record, self._at)
        elif self._to_use:
            load = self.loads.by_processor.get(self._to_use.popleft())
            if load is not None:
                self._use_room(load)

    def _on_spawned(self, event: ev.TaskSpawned) -> None:
        spec, at = event
        self._at = self._clock = at
        record = self.tasks[spec.id] = TaskRecord(spec, at, self.out.cause)
        self.table.expect_outputs(record)
        if spec.priority:
            self._knows_priorities = True
        error = self._refused_at_spawn(record)
        if error is not None:
            record.topology = self.topology
            self._end(record, "failed", error, at=at)
            self.out.only(ev.Refuse(spec.id, error, self.out.cause))
            return
        if spec.wait_for:
            record.deadline = at + spec.wait_for
        if spec.after or spec.held:
            self._shut_gates(record, at)
        if not spec.inputs or (self._take_inputs(record, at) and not record.unplanned):
            self._place(record, at)

    def _on_child_spawned(self, event: ev.ChildSpawned) -> None:
        spec, worker, processor, at = event
        if self.topology.process(worker) is None:
            return  # whoever asked for it is gone, and asks again where it runs next
        self._at = at
        record = self.tasks[spec.id] = TaskRecord(spec, at, self.out.cause)
        self.table.expect_outputs(record)
        if spec.priority:
            self._knows_priorities = True
        self.table.lend(worker, spec.outputs)
        if self._is_stopped(spec.parent):
            self._refuse_child(record, event)
            return
        self._note_child(spec)
        # What was kept may have begun already.
        error = self._refused_at_spawn(record) if processor is None else None
        if error is not None:
            record.topology = self.topology
            self._end(record, "failed", error, at=at)
        elif spec.wait_for:
            record.deadline = at + spec.wait_for
        if record.state not in FINAL_STATES and spec.after:
            self._shut_gates(record, at)
        if record.state not in FINAL_STATES and spec.inputs:
            self._take_inputs(record, at)
        if processor is not None:
            self._adopt(record, processor)
        elif record.state not in FINAL_STATES and not record.unplanned:
            self._place(record, at)

    def _note_child(self, spec: TaskSpec) -> None:
        """Takes note of what a task spawned, for as long as that may end with it."""
        parent = self.tasks.get(spec.parent or 0)
        if parent is not None and parent.state not in FINAL_STATES:
            self._children.setdefault(parent.spec.id, []).append(spec.id)

    def _adopt(self, record: TaskRecord, processor: Processor) -> None:
        """Takes note that a task is where it was spawned, unless it may not stay there."""
        load = self.loads.by_processor[processor]
        if record.state not in FINAL_STATES:
            operands = record.operands = self.operands(record)
            record.topology = self.topology
            record.allowed = self._mask(operands)
            self._assign(record, load, "it was spawned there")
            if record.allowed & load.bit:
                self._share(load)
            else:
                # It may have begun by what its engine knew: labels change.
                record.asked_back = True
                asked = ev.RunsAskedBack(processor.worker, (record.spec.id,), self.out.cause)
                self.out.put(asked)
            return
        self.out.put(ev.RetractRuns(processor.worker, (record.spec.id,), self.out.cause))

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
        return refusal(record.spec.name, operands, self.topology, self.pins_of(record))

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

    def _on_started(self, event: ev.RunStarted) -> None:
        record = self._sent_to(event.task, event.worker)
        if record is None or record.processor is None:
            return
        self._turn(record, "running")
        record.started = event.at
        load = self.loads.by_processor[record.processor]
        self.loads.begin(load, event.task)
        if self.loads.idle and len(load.tasks) > 1 and load.keeps_waiting:
            self._spread(load)

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
        task, worker, results, started, finished, told = event
        self._at = finished
        record = self._sent_to(task, worker)
        if record is None:
            self._drop_late(event)
            return
        record.started = started
        if record.state == "running" and record.processor is not None:
            # It holds nothing up any more: what waits for its results need not go elsewhere.
            self.loads.pause(self.loads.by_processor[record.processor], task)
        function = record.spec.function
        self.loads.learn(function, finished - started)
        scoped = False
        for result in results:
            if result.scope is not _UNSCOPED:
                scoped = True
            waiters = self.table.hold(result, worker, finished, self.topology)
            for waiter in self.found(waiters) if waiters else ():
                self._count_in(waiter)
        if self.doubts.scoped.get(function) is not scoped:
            self._to_place.extend(self.doubts.learn(function, scoped=scoped))
        if told:
            how, outputs = record.spec.how, record.spec.outputs
            split = how is not None and how.split
            for chunk in self.table.find(outputs if split else outputs[:1]):
                chunk.told = True
        self._end(record, "done", at=finished)

    def _drop_late(self, event: ev.RunFinished) -> None:
        """Has an engine forget what it made for a task that was given to another, or ended."""
        if self.topology.process(event.worker) is None:
            return
        for result in event.results:
            chunk = self.table.records.get(result.id)
            # What is on its way there may have come before the word to drop it does.
            if chunk is None or event.worker not in (*chunk.holders, *chunk.senders):
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
                if waiter.spec.prefer:
                    self._be_patient(waiter)
                if self.loads.idle:
                    self._spread_one(waiter)
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
            if self._stops and self._ends_stopped(record, event.finished):
                return
            record.failures += 1
            if record.spec.prefer:
                self._forget_patience(record)
            self._unship(record)
            # Labels changed perhaps, and what it was given is gone.
            self._wait_again(record, event.finished)
            return
        self._to_place.extend(self.doubts.release(record.spec.function))
        self._end(record, "failed", event.failure, at=event.finished)

    def _on_handed_back(self, event: ev.RunHandedBack) -> None:
        self._at = event.at
        if event.chunk is not None and event.scope is not None:
            self._narrow(event.chunk, event.scope)
        record = self._sent_to(event.task, event.worker)
        if event.chunk is not None and event.scope is None:
            self._take_back_bereft(record, event)
            return
        if record is None:
            return
        if event.chunk is not None and event.scope is not None:
            assert record.processor is not None
            unchanged = record.topology is self.topology and record.attempts >= _ENOUGH_ATTEMPTS
            if unchanged and self.topology.contains(event.scope, record.processor):
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
        self._place_anew(record, event.at, forced=event.scope is not None)

    def _take_back_bereft(self, record: TaskRecord | None, event: ev.RunHandedBack) -> None:
        """Takes a task back from a process that lacks an input which it was thought to hold."""
        assert event.chunk is not None
        if record is not None:
            self._unship(record)
            if self._stops and self._ends_stopped(record, event.at):
                record = None
            else:
                self._turn(record, "waiting")
        self._hold_no_more(event.chunk, event.worker)
        # Where nobody holds it, the task waits for it to be made again, or has ended.
        if record is not None and _is_to_be_placed(record):
            self._place_anew(record, event.at, forced=False)

    def _on_pinned(self, event: ev.ChunkPinned) -> None:
        self._narrow(event.chunk, event.scope, event.why)

    def _narrow(self, chunk_id: int, scope: Scope, why: str = "") -> None:
        """Takes note of the scope of a chunk, unless that is of an earlier making of it."""
        chunk = self.table.records.get(chunk_id)
        if chunk is None:
            return
        homes = chunk.holders if chunk.state == "held" else (self._maker_worker(chunk),)
        inside = any(home is not None and self.topology.admits(scope, home) for home in homes)
        # Its home may have lost the label by which it was valid there.
        if inside or chunk_id in self.table.outside:
            self.table.narrow(chunk_id, scope, self.topology)
            chunk.pin = why or chunk.pin

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
                for record in self.found(chunk.waiters or ()):
                    if record.processor is not None and may_come_back(record):
                        record.asked_back = True
                        wanted.setdefault(record.processor.worker, []).append(record.spec.id)
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

    def _on_stored(self, event: ev.ChunkStored) -> None:
        if self.topology.process(event.worker) is None:
            return  # the late word of a process that is gone
        self._at = event.at
        if self.table.was_dropped(event.chunk.id, event.worker, event.version):
            return
        waiters = self.table.hold(event.chunk, event.worker, event.at, self.topology)
        for waiter in self.found(waiters):
            self._count_in(waiter)

    def _on_chunk_failed(self, event: ev.ChunkFailed) -> None:
        chunk = self.table.records.get(event.chunk)
        if chunk is None:
            return
        if chunk.state != "pending" or chunk.maker is not None:
            if self.topology.admits(chunk.scope, event.worker):
                self._fail_copy(chunk, event)
            else:
                # On its way there it turned out not to be valid there.
                self._hand_back_all(chunk, event)
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
        self._at = event.at
        for chunk in event.chunks:
            self._learn_transfer(chunk, event)
            waiters = self.table.arrived(chunk, event.worker, self.topology, event.version)
            for waiter in self.found(waiters):
                self._count_in(waiter)

    def _learn_transfer(self, chunk_id: int, event: ev.ChunksArrived) -> None:
        chunk = self.table.records.get(chunk_id)
        if chunk is None or chunk.made is None or event.worker not in chunk.senders:
            return
        self.transfers.learn(chunk.nbytes, event.at - max(chunk.made, chunk.aimed))

    def _on_missed(self, event: ev.ChunksMissed) -> None:
        self._at = event.at
        for chunk_id in event.chunks:
            chunk = self.table.records.get(chunk_id)
            if chunk is None or chunk.state != "held":
                continue
            if event.worker in chunk.holders:
                self._hold_no_more(chunk_id, event.worker)
            elif not self.topology.admits(chunk.scope, event.worker):
                self._hand_back_all(chunk, event)
            elif self._is_needed_at(event.worker, chunk_id):
                self.table.send_again(chunk_id, event.worker, self.topology)

    def _hold_no_more(self, chunk_id: int, worker: WorkerId) -> None:
        """Takes a process's word that it lacks a chunk which it was thought to hold."""
        chunk = self.table.records.get(chunk_id)
        if chunk is None or chunk.state != "held" or worker not in chunk.holders:
            return
        self.table.hold_no_more(chunk, worker)
        if not chunk.holders:
            self._lose([chunk])
        elif self._is_needed_at(worker, chunk_id):
            self.table.send_again(chunk_id, worker, self.topology)

    def _is_needed_at(self, worker: WorkerId, chunk_id: int) -> bool:
        """Tells whether a task that was sent to a process, and has not begun, needs a chunk."""
        return any(
            need.chunk == chunk_id
            for load in self.loads.of_worker.get(worker, ())
            for task in load.tasks
            if (record := self.tasks[task]).state != "running"
            for need in record.spec.inputs
        )

    def _hand_back_all(self, chunk: ChunkRecord, event: ev.ChunksMissed | ev.ChunkFailed) -> None:
        """Places anew what waits on a worker for a chunk that may never come there."""
        for load in self.loads.of_worker.get(event.worker, ()):
            for task in list(load.tasks):
                record = self.tasks[task]
                if record.state != "running" and any(
                    need.chunk == chunk.id for need in record.spec.inputs
                ):
                    self._retract(record)
                    self._place_anew(record, event.at, forced=True)

    def expect(self, chunk: ChunkRecord) -> None:
        """Takes in a chunk that is on its way to the process that will hold it."""
        chunk.planned = True
        self.table.records[chunk.id] = chunk

    def _on_handles_added(self, event: ev.HandlesAdded) -> None:
        for chunk in self.table.find(event.chunks):
            chunk.handles += 1
            if chunk.told:
                # This one may not come with the value.
                chunk.told = False
                if chunk.state == "lost":
                    self._make_again([chunk], self._clock)

    def _on_handles_dropped(self, event: ev.HandlesDropped) -> None:
        self.table.drop_handles(event.chunks)

    def _on_brought(self, event: ev.ResultsBrought) -> None:
        for chunk in self.table.find(event.chunks):
            # Others than the task's own handle may be without the value.
            if chunk.handles == 1:
                chunk.told = True

    def _on_borrowed(self, event: ev.ChunkBorrowed) -> None:
        stored = event.chunk
        home = stored.processor.worker
        if self.topology.process(event.worker) is None or self.topology.process(home) is None:
            return
        if stored.id not in self.table.records:
            self.expect(ChunkRecord(stored.id, stored.scope, processor=stored.processor, handles=1))
            self.table.hold(stored, home, event.at, self.topology)
        else:
            known = self.table.records[stored.id]
            known.handles += 1
            # Whoever has this handle may not have the value.
            known.told = False
        self.table.lend(event.worker, (stored.id,))

    def _on_unheld(self, event: ev.ChunksUnheld) -> None:
        if self.topology.process(event.worker) is None:
            return
        for chunk in event.chunks:
            if chunk not in self.table.records:
                self.out.drop(event.worker, chunk)

    def _on_copy_asked(self, event: ev.CopyAsked) -> None:
        self._at = event.at
        chunk = self.table.records.get(event.chunk)
        if chunk is not None and chunk.state == "held":
            self.table.deliver(chunk, event.worker, None)

    def _on_rescoped(self, event: ev.ChunkRescoped) -> None:
        change = event.change
        self.rescopings.append(change)
        self._at = change.at
        chunk = self.table.records.get(change.chunk)
        if chunk is None:
            return
        self.table.rescope(chunk, change.after, event.worker, self.topology)
        if change.declassified and self._unmatched:
            self._replace_all(change.at)

    def _on_handles_returned(self, event: ev.HandlesReturned) -> None:
        self.table.take_back(event.worker, event.chunks)

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
        self._kills = {t: kill for t, kill in self._kills.items() if kill[0] != event.worker}
        for chunk in lost.values():
            if chunk.state == "lost" and chunk.handles > 0 and not chunk.told:
                self._make_again([chunk], event.at)
            self.table.release_if_unwanted(chunk)
        self._replace_all(event.at)

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
        elsewhere = ~self.topology.worker_mask(worker)
        records = (
            self.tasks[task] for load in self.loads.of_worker.get(worker, ()) for task in load.tasks
        )
        self._take_back(worker, [each for each in records if each.allowed & elsewhere])

    def _on_drain_ended(self, event: ev.DrainEnded) -> None:
        self._at = event.at
        self.loads.draining -= set(event.workers)
        for worker in event.workers:
            self._to_use.extend(load.processor for load in self.loads.of_worker.get(worker, ()))

    def _on_time(self, event: ev.TimePassed) -> None:
        self._at = self._clock = event.at
        if self._kills:
            self._kill_overdue(event.at)
        for task in list(self._unmatched):
            record = self.tasks[task]
            if record.deadline is not None and event.at >= record.deadline:
                operands = self.operands(record)
                error = refusal(record.spec.name, operands, self.topology)
                self._end(record, "failed", error, at=event.at)
        if self.table.outside:
            self._send_again(event.at)
        if self.patience.since:
            self._lose_patience(event.at)
        for load in self.loads.some_idle():
            self._ask_back_for(load)

    def next_deadline(self) -> float | None:
        """Returns the time at which a wait ends, or something is to be done again, if any is."""
        waits = (self.tasks[task].deadline for task in self._unmatched)
        ends = [until for _, until in self._kills.values()]
        further = (*waits, self._send_again_at(), self.patience.next(), *ends)
        deadlines = [at for at in further if at is not None]
        return min(deadlines, default=None)


def _is_to_be_placed(record: TaskRecord) -> bool:
    """Tells whether a task was not placed, and did not end, in between."""
    nowhere = record.processor is None and not record.line
    return nowhere and record.state == "waiting" and not record.unplanned
