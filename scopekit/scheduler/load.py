"""Load: how much work each processor still has, by what such tasks took before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scopekit.scopes import CLIENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.graph import WorkerId
    from scopekit.places import Topology
    from scopekit.scopes import Processor

__all__ = ("Durations", "Load", "Loads")

# A function that never ran counts as long, so that the first of its tasks go out one
# to a processor; once its duration is known, short ones are sent in bulk.
_UNKNOWN = 0.05
_SHORTEST = 5e-6
_WEIGHT = 0.3
_KNOWN_FUNCTIONS = 10_000
# Short tasks go to one processor until it has so many seconds of work more: they travel
# together then, and those that follow on their results find these in one place. No more,
# since what begins at one place goes on there, a chain for one.
_QUANTUM = 0.3e-3
# More than this many unfinished tasks are never sent to one processor, however short.
_MOST_AHEAD = 1000
_LOOKED_AT = 8


class Durations:
    """Learns how long the tasks of each function take.

    Attributes:
        known: the expected duration of each function that ran, in seconds.
    """

    def __init__(self) -> None:
        self.known: dict[str, float] = {}

    def estimate(self, function: str) -> float:
        """Returns the expected duration of a task, in seconds."""
        return self.known.get(function, _UNKNOWN)

    def learn(self, function: str, seconds: float) -> bool:
        """Takes one measured duration into account.

        Returns:
            True if the function was not known before.
        """
        known = self.known.get(function)
        seconds = max(seconds, _SHORTEST)
        if known is not None:
            self.known[function] = known + _WEIGHT * (seconds - known)
            return False
        self.known[function] = seconds
        if len(self.known) > _KNOWN_FUNCTIONS:
            del self.known[next(iter(self.known))]
        return True


@dataclass(slots=True)
class Load:
    """The work that one processor was given and has not finished.

    Attributes:
        bit: the processor's bit in masks.
        durations: what is known of the functions, asked anew at each change: what was
            sent before the first duration came in weighs by what is known since.
        seconds: the work still to do, in seconds.
        tasks: the ids of the tasks, in the order in which they were sent, each with the
            name of its function.
        running: those of them that are known to have run for a while. How long they go on
            nobody can tell, whatever others of their function took.
        paused: those of them that wait for others, and have given the processor up.
        lingering: tasks that were stopped and count no more, whose code has not ended.
        asked_at: when it was last asked to hand some of them back.
    """

    processor: Processor
    bit: int
    durations: Durations
    seconds: float = 0.0
    tasks: dict[int, str] = field(default_factory=dict)
    by_function: dict[str, int] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    paused: set[int] = field(default_factory=set)
    lingering: dict[int, None] = field(default_factory=dict)
    asked_at: float = float("-inf")

    @property
    def is_idle(self) -> bool:
        """Tells whether it has nothing to run."""
        return len(self.tasks) == len(self.paused) and not self.lingering

    @property
    def keeps_waiting(self) -> bool:
        """Tells whether nobody knows when it comes to what it was given last."""
        return bool(self.running - self.paused)

    def weigh(self) -> None:
        """Sums the work anew by what is known now."""
        known = self.durations.known
        total = 0.0
        for function, count in self.by_function.items():
            total += count * known.get(function, _UNKNOWN)
        if self.lingering:
            # Nobody can tell how long what lingers goes on.
            total += len(self.lingering) * _UNKNOWN
        if self.running:
            for task in self.running - self.paused:
                total += max(known.get(self.tasks[task], _UNKNOWN), _UNKNOWN)
        self.seconds = total

    def add(self, task: int, function: str) -> None:
        """Counts a task in."""
        self.tasks[task] = function
        self._count(function)

    def remove(self, task: int) -> None:
        """Counts a task out."""
        function = self.tasks.pop(task)
        if task in self.paused:
            self.paused.remove(task)
            self.running.discard(task)
        elif task in self.running:
            self.running.remove(task)
            self.weigh()
        else:
            self._discount(function)

    def begin(self, task: int) -> None:
        """Takes note that a task has run for a while."""
        if task in self.tasks and task not in self.running:
            self.running.add(task)
            if task not in self.paused:
                self._discount(self.tasks[task])

    def pause(self, task: int) -> None:
        """Takes note that a task waits for others, as long as it does."""
        if task in self.tasks and task not in self.paused:
            self.paused.add(task)
            if task in self.running:
                self.weigh()
            else:
                self._discount(self.tasks[task])

    def resume(self, task: int) -> None:
        """Takes note that a task goes on."""
        if task in self.paused:
            self.paused.remove(task)
            if task in self.running:
                self.weigh()
            else:
                self._count(self.tasks[task])

    def _count(self, function: str) -> None:
        self.by_function[function] = self.by_function.get(function, 0) + 1
        self.weigh()

    def _discount(self, function: str) -> None:
        left = self.by_function[function] - 1
        if left:
            self.by_function[function] = left
        else:
            del self.by_function[function]
        self.weigh()


class Loads:
    """The loads of all processors, with masks of those that are idle or have room.

    To choose among ten thousand processors must not cost more than among ten, so the
    choice is made on masks, by a pointer that goes round.

    Args:
        topology: the processors there are.
        durations: what is known of the functions.
        budget: seconds of work beyond which a processor is given no more; enough to
            bridge the way to the engine and back, little enough to stay movable.
        known: the loads of processors that were there before.
    """

    def __init__(
        self,
        topology: Topology,
        durations: Durations,
        budget: float,
        known: Mapping[Processor, Load] | None = None,
    ) -> None:
        self._topology = topology
        self._durations = durations
        self._budget = budget
        self._next = 0
        self._enough = _QUANTUM
        self._alone: dict[WorkerId, int] = {}
        self.draining: frozenset[WorkerId] = frozenset()
        self.all: list[Load] = []
        self.of_worker: dict[WorkerId, list[Load]] = {}
        for number, processor in enumerate(topology.processors):
            before = known.get(processor) if known else None
            load = before or Load(processor, 0, durations)
            load.bit = 1 << number
            self.all.append(load)
            self.of_worker.setdefault(processor.worker, []).append(load)
        self.by_processor = {load.processor: load for load in self.all}
        self.idle = 0
        self.room = 0
        self.refresh()

    def refresh(self) -> None:
        """Judges all processors anew: what was just learnt may have given them room."""
        self.idle = self.room = 0
        for load in self.all:
            load.weigh()
            self._judge(load)

    def _judge(self, load: Load) -> None:
        bit = load.bit
        if load.is_idle:
            self.idle |= bit
            self.room |= bit
            return
        self.idle &= ~bit
        if load.seconds < self._budget and len(load.tasks) < _MOST_AHEAD:
            self.room |= bit
        else:
            self.room &= ~bit

    def has_room(self, load: Load) -> bool:
        """Tells whether another task may be sent to a processor."""
        return bool(self.room & load.bit) and self.is_open(load.processor.worker)

    def may_wait_at(self, load: Load) -> bool:
        """Tells whether a task may be sent there to wait for what is made there."""
        return len(load.tasks) < _MOST_AHEAD and self.is_open(load.processor.worker)

    def is_open(self, worker: WorkerId) -> bool:
        """Tells whether a process takes tasks: it is not kept for one, and is to stay."""
        return worker not in self._alone and worker not in self.draining

    def wants_more(self, load: Load) -> bool:
        """Tells whether it is time to send more: not for each task that ends, in bulk."""
        return load.is_idle or load.seconds < self._budget / 2

    def add(self, load: Load, task: int, function: str) -> None:
        """Counts a task in."""
        load.add(task, function)
        self._judge(load)

    def remove(self, load: Load, task: int) -> None:
        """Counts a task out."""
        load.remove(task)
        self._judge(load)

    def begin(self, load: Load, task: int) -> None:
        """Takes note that a task has run for a while, and nobody knows for how long it will."""
        load.begin(task)
        self._judge(load)

    def pause(self, load: Load, task: int) -> None:
        """Takes note that a task waits for others, and has given its processor up."""
        load.pause(task)
        self._judge(load)

    def resume(self, load: Load, task: int) -> None:
        """Takes note that a task goes on."""
        load.resume(task)
        self._judge(load)

    def linger(self, load: Load, task: int) -> None:
        """Takes note that the code of a task goes on which counts no more."""
        load.lingering[task] = None
        load.weigh()
        self._judge(load)

    def end_lingering(self, worker: WorkerId, task: int) -> Load | None:
        """Takes note that such code has ended; returns the load of its processor."""
        for load in self.of_worker.get(worker, ()):
            if task in load.lingering:
                del load.lingering[task]
                load.weigh()
                self._judge(load)
                return load
        return None

    def lingers(self, worker: WorkerId, task: int) -> bool:
        """Tells whether such code of a task goes on in a process."""
        return any(task in load.lingering for load in self.of_worker.get(worker, ()))

    def where_lingers(self, task: int) -> WorkerId | None:
        """Returns the process in which such code of a task goes on, None if it does in none."""
        places = (load.processor.worker for load in self.all if task in load.lingering)
        return next(places, None)

    def learn(self, function: str, seconds: float) -> None:
        """Takes one measured duration into account."""
        if self._durations.learn(function, seconds):
            self.refresh()

    def estimate(self, function: str) -> float:
        """Returns the expected duration of a task, in seconds."""
        return self._durations.estimate(function)

    # -- choosing -----------------------------------------------------------------

    def pick(self, mask: int) -> Load | None:
        """Chooses a processor with room for a task that has no inputs to be near to.

        Returns:
            The load of the processor, None if none of the mask has room.
        """
        mask &= self.room
        if self._alone or self.draining:
            mask &= ~self._closed()
        if not mask:
            return None
        number = self._next
        if mask >> number & 1:
            load = self.all[number]
            if load.seconds < self._enough:
                return load
        idle = mask & self.idle
        chosen = self._take(idle) if idle else self._lesser_of_two(mask)
        self._enough = chosen.seconds + _QUANTUM
        return chosen

    def _lesser_of_two(self, mask: int) -> Load:
        first = self._take(mask)
        second = self._take(mask)
        if first.seconds <= second.seconds:
            self._next = first.bit.bit_length() - 1
            return first
        return second

    def _take(self, mask: int) -> Load:
        """Returns the next processor of a mask after the pointer, which moves there."""
        after = mask >> (self._next + 1) << (self._next + 1)
        lowest = (after or mask) & -(after or mask)
        self._next = lowest.bit_length() - 1
        return self.all[self._next]

    def least(self, mask: int, worker: WorkerId) -> Load | None:
        """Returns the least loaded of a worker's processors that lie in a mask."""
        best: Load | None = None
        for load in self.of_worker.get(worker, ()):
            if load.bit & mask and (best is None or load.seconds < best.seconds):
                best = load
        return best

    def seconds_of(self, worker: WorkerId) -> float:
        """Sums the work of all processors of a worker.

        The threads of a process share its interpreter: an idle thread of a busy process
        is not as good as an idle process.
        """
        loads = self.of_worker.get(worker, ())
        if len(loads) == 1:
            return loads[0].seconds
        return sum(load.seconds for load in loads)

    def busiest(self, mask: int, seconds: float) -> Load | None:
        """Returns a processor of a mask with several tasks and much work, None if none has."""
        crowded = [
            load
            for load in self._some(mask & ~self.idle)
            if len(load.tasks) + len(load.lingering) > 1 and load.seconds > seconds
        ]
        return max(crowded, key=lambda load: load.seconds, default=None)

    def some_idle(self) -> list[Load]:
        """Returns a few idle processors."""
        return self._some(self.idle)

    def _some(self, mask: int) -> list[Load]:
        # A few are enough, and others the next time.
        found: list[Load] = []
        rest = mask >> (self._next + 1) << (self._next + 1) or mask
        while rest and len(found) < _LOOKED_AT:
            lowest = rest & -rest
            rest ^= lowest
            found.append(self.all[lowest.bit_length() - 1])
        return found

    # -- processes that are kept for one task -----------------------------------------

    def is_empty(self, worker: WorkerId) -> bool:
        """Tells whether a process has nothing to do at all."""
        return not any(load.tasks or load.lingering for load in self.of_worker.get(worker, ()))

    def may_keep(self) -> bool:
        """Tells whether another process may be kept: half of them go on with the rest."""
        return len(self._alone) < max(1, len(self.of_worker) // 2)

    def keep(self, mask: int, task: int) -> WorkerId | None:
        """Keeps a process for one task: it is given no other.

        Args:
            mask: the processors that may run it.
            task: the task.

        Returns:
            The process with the least to do, None if enough are kept for others.
        """
        if not self.may_keep():
            return None
        among = [
            worker
            for worker, loads in self.of_worker.items()
            if self.is_open(worker) and any(load.bit & mask for load in loads)
        ]
        # What may kill its process comes to the user's own one last.
        best = min(among, key=lambda w: (w == CLIENT, self.seconds_of(w)), default=None)
        if best is not None:
            self._alone[best] = task
        return best

    @property
    def keeps_any(self) -> bool:
        """Tells whether a process is kept for a task."""
        return bool(self._alone)

    def kept_for(self, worker: WorkerId) -> int | None:
        """Returns the task that a process is kept for, None if for none."""
        return self._alone.get(worker)

    def reopen(self, worker: WorkerId) -> None:
        """Lets a process have other tasks again."""
        self._alone.pop(worker, None)

    def kept(self) -> dict[WorkerId, int]:
        """Returns the processes that are kept, each with the task that it is kept for."""
        return dict(self._alone)

    def keep_again(self, kept: Mapping[WorkerId, int]) -> None:
        """Keeps the processes that were kept before, as far as they live."""
        self._alone = {worker: kept[worker] for worker in kept if worker in self.of_worker}

    def _closed(self) -> int:
        closed = 0
        for worker in (*self._alone, *self.draining):
            closed |= self._topology.worker_mask(worker)
        return closed
