"""What a task costs the scheduler, however many tasks and processors there are."""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from scopekit.graph import Input, StoredChunk, TaskSpec
from scopekit.places import Process, Topology
from scopekit.scheduler import Scheduler
from scopekit.scheduler import events as ev
from scopekit.scopes import (
    AnyScope,
    DefaultScope,
    ExactScope,
    LabelScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopekit.scopes import Processor, Scope

__all__ = ("Cost", "cluster", "measure", "scopes")

_UNSCOPED = AnyScope()
_THREADS = 5
_PER_NODE = 4
# So many tasks are spawned before the engines say anything, as a user's loop would.
_BURST = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured.

    Attributes:
        tasks: how many tasks ran.
        processors: on how many processors.
        microseconds: the scheduler's time for each of them, at its best over parts of the run.
        records: how many records of tasks and chunks were left.
        events: how many events each took.
    """

    tasks: int
    processors: int
    microseconds: float
    records: int
    events: float

    def __str__(self) -> str:
        return (
            f"{self.tasks:8} tasks on {self.processors:6} processors:"
            f" {self.microseconds:6.2f} µs a task, {self.records} records left"
        )


def cluster(processors: int) -> Topology:
    """Makes a topology of processes with five threads each, four to a node."""
    count = max(1, processors // _THREADS)
    return Topology(
        Process.with_threads(
            worker,
            f"n{worker // _PER_NODE}",
            min(_THREADS, processors),
            ("camera",) if worker % 10 == 0 else (),
        )
        for worker in range(count)
    )


def scopes(topology: Topology) -> list[Scope]:
    """Lists scopes of every kind that such a topology knows."""
    workers = topology.workers
    nodes = topology.nodes
    some = [workers[len(workers) * part // 8] for part in range(8)]
    where = [nodes[len(nodes) * part // 8] for part in range(8)]
    found: list[Scope] = [DefaultScope()] * 8
    for worker, node in zip(some, where, strict=True):
        found += [
            NodeScope(node),
            ProcessScope(worker),
            ExactScope(ThreadProc(worker, 1)),
            NodeScope(node) | ProcessScope(some[0]),
            ProcessorTypeScope(ThreadProc, NodeScope(node)),
            LabelScope("camera") | NodeScope(node),
            DefaultScope() - ProcessScope(worker) if len(workers) > 1 else DefaultScope(),
            AnyScope(),
        ]
    return found


class _Feed:
    """Spawns tasks, and lets engines finish at once what they are sent."""

    def __init__(self, processors: int) -> None:
        self.topology = cluster(processors)
        self.scheduler = Scheduler(self.topology)
        self.now = 0.0
        self.events = 0
        self._sent: deque[tuple[int, Processor]] = deque()
        self._number = 1
        self._scopes = cycle([(("scope=", scope),) for scope in scopes(self.topology)])

    def specs(self, count: int) -> Iterator[TaskSpec]:
        """Yields tasks: of four, one begins a chain of three, and one stands alone."""
        before = 0
        for place in range(count):
            number = self._number
            self._number += 2
            follows = place % 4 in (1, 2)
            inputs = (Input("argument 1", before, handle=False),) if follows else ()
            function = f"f{place % 7}"
            yield TaskSpec(
                number, f"t{number}", function, next(self._scopes), inputs, (number + 1,)
            )
            before = number + 1

    def handle(self, event: ev.Event) -> None:
        self.events += 1
        for command in self.scheduler.handle(event):
            if type(command) is ev.StartRun:
                self._sent.append((command.task, command.processor))

    def take_in(self, events: list[ev.Event]) -> None:
        """Takes in what users do."""
        handle = self.handle
        for event in events:
            handle(event)

    def spawns(self, specs: list[TaskSpec]) -> list[ev.Event]:
        """Returns the events by which users ask for tasks."""
        return [ev.TaskSpawned(spec, self.now) for spec in specs]

    def drops(self, specs: list[TaskSpec]) -> list[ev.Event]:
        """Returns the events by which users let go of their results."""
        return [ev.HandlesDropped(spec.outputs) for spec in specs]

    def finish(self) -> None:
        """Finishes all that was sent, in the order in which it was."""
        sent, handle = self._sent, self.handle
        while sent:
            task, processor = sent.popleft()
            self.now += 1e-6
            stored = StoredChunk(task + 1, _UNSCOPED, processor, "int", 8)
            now = self.now
            handle(ev.RunFinished(task, processor.worker, (stored,), now - 1e-4, now))


def measure(tasks: int, processors: int, clock: Callable[[], float]) -> Cost:
    """Measures what tasks cost that finish at once, of which a user keeps no handle for long.

    Args:
        tasks: how many.
        processors: on how many processors.
        clock: tells the time, in seconds.

    Returns:
        The cost; its time is the middle one of equal parts of the run, so that what else
        the machine does counts little.
    """
    feed = _Feed(processors)
    # Outside of what is measured: that each scope is read once.
    warm = list(feed.specs(200))
    feed.take_in(feed.spawns(warm))
    feed.finish()
    feed.take_in(feed.drops(warm))
    feed.events = 0
    source = feed.specs(tasks)
    costs = []
    gc.collect()
    while specs := list(islice(source, _BURST)):
        spawns, drops = feed.spawns(specs), feed.drops(specs)
        began = clock()
        feed.take_in(spawns)
        feed.finish()
        feed.take_in(drops)
        costs.append((clock() - began) / len(specs))
    records = len(feed.scheduler.tasks) + len(feed.scheduler.chunks)
    middle = sorted(costs)[len(costs) // 2]
    return Cost(tasks, processors, 1e6 * middle, records, feed.events / tasks)
