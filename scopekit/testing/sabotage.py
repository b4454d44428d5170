"""Schedulers with a bug planted in each, which a simulated world must find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scheduler.chunks import Chunks
from scopekit.scopes import AnyScope
from scopekit.testing import stop_sabotage
from scopekit.testing.generation import draw_plan
from scopekit.testing.shrinking import failure_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.graph import ChunkRecord, StoredChunk, TaskRecord, WorkerId
    from scopekit.places import Topology
    from scopekit.scheduler.load import Load
    from scopekit.scheduler.placement import Operands
    from scopekit.scopes import Scope

__all__ = ("SABOTAGES", "Catch", "find")


class Catch(NamedTuple):
    """How a planted bug was found.

    Attributes:
        seed: in which world.
        tried: how many worlds that took.
        rule: what was seen to be broken.
    """

    seed: int
    tried: int
    rule: str


def find(kind: type[Scheduler], seeds: Iterable[int]) -> Catch | None:
    """Looks for a world in which a scheduler is wrong.

    Args:
        kind: the scheduler.
        seeds: the worlds to try.

    Returns:
        The first one, None if it is right in all of them.
    """
    for tried, seed in enumerate(seeds, start=1):
        violation = failure_of(draw_plan(seed), kind)
        if violation is not None:
            return Catch(seed, tried, violation.rule)
    return None


class ForgetsAnInput(Scheduler):
    """Begins to wait for one input fewer than there are."""

    def _wait_for_inputs(self, record: TaskRecord, at: float) -> bool:
        whole = super()._wait_for_inputs(record, at)
        record.missing = max(0, record.missing - 1)
        return whole


class CountsAnInputTwice(Scheduler):
    """Counts an input in twice that two tasks wait for."""

    def _count_in(self, waiter: TaskRecord) -> None:
        super()._count_in(waiter)
        if waiter.missing > 1:
            waiter.missing -= 1


class IgnoresPins(Scheduler):
    """Does not listen when a chunk turns out to be valid in fewer places."""

    def _narrow(self, chunk_id: int, scope: Scope, why: str = "") -> None:
        pass


class IgnoresScopesOfInputs(Scheduler):
    """Sends tasks where their inputs are not valid."""

    def _input_operands(self, record: TaskRecord, *, declared: bool) -> Operands:
        return super()._input_operands(record, declared=declared) if declared else ()


class WidensScopes(Scheduler):
    """Takes each result for valid anywhere."""

    def _on_finished(self, event: ev.RunFinished) -> None:
        results = tuple(result._replace(scope=AnyScope()) for result in event.results)
        super()._on_finished(event._replace(results=results))


class SendsAnywhere(Scheduler):
    """Gives tasks to whoever is idle, whatever their scopes."""

    def _choose(self, record: TaskRecord, allowed: int, *, forced: bool) -> tuple[Load, str] | None:
        load = self.loads.pick(self.topology.everything)
        if load is not None:
            return load, "idle"
        return super()._choose(record, allowed, forced=forced)


class SendsTwice(Scheduler):
    """Sends what is tried again a second time."""

    def _send(self, record: TaskRecord, load: Load, rule: str) -> None:
        super()._send(record, load, rule)
        if record.attempts > 1:
            self.out.put(ev.StartRun(record.spec.id, load.processor, self.out.cause))


class TrustsTheDead(Scheduler):
    """Takes a word about a task from whoever says it."""

    def _sent_to(self, task: int, worker: WorkerId) -> TaskRecord | None:
        record = self.tasks.get(task)
        if record is None or record.state not in ("queued", "running", "waiting"):
            return None
        return record if record.processor is not None else None


class RepeatsWhatMustNotBe(Scheduler):
    """Runs again what must not run twice."""

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft, *, begun: bool) -> None:
        if not record.spec.idempotent:
            self._wait_again(record, event.at)
            return
        super()._rerun(record, event, begun=begun)


class SendsAheadWhatMustNotBe(Scheduler):
    """Sends tasks ahead of their inputs of which nobody can tell then whether they began."""

    def _place(self, record: TaskRecord, at: float, *, forced: bool = False) -> None:
        spec = record.spec
        record.spec = spec._replace(idempotent=True)
        super()._place(record, at, forced=forced)
        record.spec = spec


class BlamesNobody(Scheduler):
    """Lets a task kill as many processes as it likes."""

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft, *, begun: bool) -> None:
        super()._rerun(record, event._replace(planned=True), begun=begun)


class BlamesPlannedStops(Scheduler):
    """Suspects tasks of processes that were stopped on purpose."""

    def _rerun(self, record: TaskRecord, event: ev.WorkerLeft, *, begun: bool) -> None:
        super()._rerun(record, event._replace(planned=False), begun=begun)


class RunsSuspectsInCompany(Scheduler):
    """Gives other tasks to the process that a suspect has for itself."""

    def _send_alone(self, record: TaskRecord, worker: WorkerId) -> None:
        super()._send_alone(record, worker)
        self.loads.reopen(worker)


class RetriesForEver(Scheduler):
    """Does not count how often a task was tried."""

    def _on_failed(self, event: ev.RunFailed) -> None:
        record = self._sent_to(event.task, event.worker)
        super()._on_failed(event)
        if record is not None and record.failures:
            record.failures -= 1


class NeverRetries(Scheduler):
    """Ends a task with its first error."""

    def _on_failed(self, event: ev.RunFailed) -> None:
        record = self._sent_to(event.task, event.worker)
        if record is not None:
            record.failures = record.spec.retries
        super()._on_failed(event)


class ForgetsDeadlines(Scheduler):
    """Lets tasks wait for ever for a processor."""

    def _on_time(self, event: ev.TimePassed) -> None:
        self._at = self._clock = event.at


class ForgetsToAskDeadlines(Scheduler):
    """Ends a wait for a processor as soon as somebody looks."""

    def _on_time(self, event: ev.TimePassed) -> None:
        super()._on_time(event._replace(at=event.at + 5.0))


class HasNoPatience(Scheduler):
    """Sends tasks elsewhere as soon as what they prefer is busy."""

    def _standing(self, record: TaskRecord) -> Any:
        return super()._standing(record)._replace(takes=record.allowed, patience=None)


class NeverLosesPatience(Scheduler):
    """Has tasks wait for what they prefer for ever."""

    def _lose_patience(self, at: float) -> None:
        self.patience.tell(at)
        for _ in self.patience.over(at):
            pass


class KeepsTheRoom(Scheduler):
    """Never counts a task that failed out of its processor's work."""

    def _unload(self, record: TaskRecord) -> Load | None:
        load = super()._unload(record)
        if load is not None and record.failures:
            self.loads.add(load, record.spec.id, record.spec.function)
        return load


class LeavesRoomUnused(Scheduler):
    """Does not look for work for a processor whose task was taken back."""

    def _follow_up(self) -> None:
        self._to_use.clear()
        super()._follow_up()


class LeavesJoinersIdle(Scheduler):
    """Gives a worker that joined nothing of what waits."""

    def _on_joined(self, event: ev.WorkerJoined) -> None:
        self.topology = self.topology.with_process(event.process)
        self._rebuild_loads()


class SettlesTwice(Scheduler):
    """Tells the end of a blocked task two times."""

    def _block(self, record: TaskRecord, chunk_id: int, at: float) -> None:
        ended = record.state
        super()._block(record, chunk_id, at)
        if record.state != ended:
            said = ev.Settle(record.spec.id, record.state, record.failure, None, self.out.cause)
            self.out.put(said)


class BlocksNobody(Scheduler):
    """Lets tasks go on whose input failed."""

    def _block(self, record: TaskRecord, chunk_id: int, at: float) -> None:
        pass


class NeverMakesAgain(Scheduler):
    """Takes for gone what could be made again."""

    def _make_again(self, lost: list[ChunkRecord], at: float) -> bool:
        return False


class LosesWaiters(Scheduler):
    """Forgets who waits for what is made again."""

    def _restart(self, record: TaskRecord) -> None:
        super()._restart(record)
        for chunk in self.table.find(record.spec.outputs):
            chunk.waiters = None

    def _miss_again(self, record: TaskRecord, at: float) -> None:
        super()._miss_again(record, at)
        for chunk in self.table.find(need.chunk for need in record.spec.inputs):
            chunk.waiters = None


class ForgetsCallsTooEarly(Scheduler):
    """Forgets a call as soon as its task is done."""

    def _end(self, record: TaskRecord, *args: Any, **options: Any) -> None:
        super()._end(record, *args, **options)
        if not record.call_forgotten and record.state == "done":
            self.out.put(ev.ForgetCalls((record.spec.id,), self.out.cause))


class KeepsCalls(Scheduler):
    """Keeps the calls of tasks for ever."""

    def _end_lineage(self, record: TaskRecord) -> None:
        if record.state != "done":
            super()._end_lineage(record)


class IgnoresMissedChunks(Scheduler):
    """Sends nothing again that was lost on its way."""

    def _on_missed(self, event: ev.ChunksMissed) -> None:
        pass


class FollowsNobody(Scheduler):
    """Sends tasks before those ended that are to run before them."""

    def _shut_gates(self, record: TaskRecord, at: float) -> None:
        if record.spec.held:
            record.held = True
            record.gates += 1


class HoldsNothing(Scheduler):
    """Sends tasks before their block ends."""

    def _shut_gates(self, record: TaskRecord, at: float) -> None:
        super()._shut_gates(record, at)
        if record.held:
            record.held = False
            record.gates -= 1


class LetsOneFollowTwice(Scheduler):
    """Opens two gates of a task where one task before it has ended."""

    def _open_gate(self, record: TaskRecord) -> None:
        record.gates = max(1, record.gates - 1)
        super()._open_gate(record)


class BelievesInWhatIsLost(Scheduler):
    """Goes on to believe that a process holds what it says that it lacks."""

    def _hold_no_more(self, chunk_id: int, worker: WorkerId) -> None:
        pass


class IgnoresCopies(Scheduler):
    """Takes no note of copies, so that nobody has them dropped."""

    def _on_arrived(self, event: ev.ChunksArrived) -> None:
        pass


class IgnoresNewHandles(Scheduler):
    """Counts no handle that is made of another one."""

    def _on_handles_added(self, event: ev.HandlesAdded) -> None:
        pass


class BelievesInPlans(Scheduler):
    """Takes for planned what has no processor any more."""

    def _unplan(self, record: TaskRecord) -> None:
        pass


class _NeverDropping(Chunks):
    def release_if_unwanted(self, chunk: ChunkRecord) -> None:
        if chunk.state != "held":
            super().release_if_unwanted(chunk)


class NeverDrops(Scheduler):
    """Keeps every value."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.table.__class__ = _NeverDropping


class _DroppingEarly(Chunks):
    def release_if_unwanted(self, chunk: ChunkRecord) -> None:
        users, chunk.users = chunk.users, 0
        super().release_if_unwanted(chunk)
        chunk.users = users


class DropsTooEarly(Scheduler):
    """Drops a value with its last handle, whoever needs it."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.table.__class__ = _DroppingEarly


class _KeepingTheDead(Chunks):
    def forget_worker(self, worker: WorkerId) -> list[ChunkRecord]:
        held = {chunk: chunk.holders for chunk in self.records.values() if len(chunk.holders) > 1}
        lost = super().forget_worker(worker)
        for chunk, holders in held.items():
            chunk.holders = holders
        return lost


class BelievesTheDeadHold(Scheduler):
    """Goes on counting on copies in a process that is gone."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.table.__class__ = _KeepingTheDead


class _SendingOnce(Chunks):
    def _aim_anew(self, chunk: ChunkRecord, gone: WorkerId) -> None:
        pass


class CountsOnDeadSenders(Scheduler):
    """Waits for what a dead process was to send."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.table.__class__ = _SendingOnce


class _HoldingStrangers(Chunks):
    def hold(
        self, stored: StoredChunk, worker: WorkerId, at: float, topology: Topology
    ) -> list[int]:
        return super().hold(stored, worker, at, topology) if stored.id in self.records else []


class LeavesWhatNobodyWants(Scheduler):
    """Forgets to have a value dropped that was let go of before it was made."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.table.__class__ = _HoldingStrangers


SABOTAGES: tuple[type[Scheduler], ...] = tuple(
    kind
    for kind in [*globals().values(), *vars(stop_sabotage).values()]
    if isinstance(kind, type) and issubclass(kind, Scheduler) and kind is not Scheduler
)
"""Each planted bug: a scheduler whose docstring says what is wrong with it."""
