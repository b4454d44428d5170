"""What scopes cost: run with ``python tests/benchmarks/bench_scopes.py``.

Placing a task intersects the masks of its scopes. That is timed on 10,000
processors, beside intersecting sets of processors, which is what the masks
stand in for. Nothing here is asserted.
"""

import argparse
import time

from scopekit.places import Process, Topology
from scopekit.scopes import (
    AnyScope,
    DefaultScope,
    ExactScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
    UnionScope,
    constrain,
)


def timed(what, repeats=5):
    """Return the best time of a call, with what it returned last."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        found = what()
        best = min(best, time.perf_counter() - began)
    return best, found


def report(label, seconds, note=""):
    """Print one figure."""
    amount = f"{seconds * 1e6:10.2f} µs" if seconds < 1e-3 else f"{seconds * 1e3:10.2f} ms"
    print(f"{label:<58} {amount}  {note}".rstrip())


def make_topology(processors, per_process=4, per_node=40):
    """Return a topology of that many threads."""
    return Topology(
        Process.with_threads(worker, f"node{worker * per_process // per_node}", per_process)
        for worker in range(processors // per_process)
    )


def intersect_masks(topology, scopes):
    """Return the processors in all the scopes, as placing a task does it."""
    mask = topology.everything
    for scope in scopes:
        mask &= topology.mask(scope)
    return mask


def bench_tasks(topology, label, scopes, tasks):
    """Time the intersection of a task's scopes, masks beside sets."""
    compiled, _ = timed(lambda: Topology.mask(_without_cache(topology), scopes[0]), 1)
    report(f"{label}: compile the first scope", compiled)
    intersect_masks(topology, scopes)

    def all_tasks():
        for _ in range(tasks):
            intersect_masks(topology, scopes)

    masks, _ = timed(all_tasks)
    members = [frozenset(topology.select(topology.mask(scope))) for scope in scopes]
    sets, _ = timed(lambda: frozenset.intersection(*members))
    ratio = sets / (masks / tasks)
    report(f"{label}: intersect {len(scopes)} scopes, per task", masks / tasks)
    report(f"{label}: the same with sets of processors", sets, f"{ratio:.0f} times as long")


def _without_cache(topology):
    return Topology(topology.processes)


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processors", type=int, default=10_000)
    parser.add_argument("--members", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()

    built, topology = timed(lambda: make_topology(options.processors), 3)
    report(f"make a topology of {len(topology.processors):,} processors", built)
    exact = [ExactScope(ThreadProc(worker, 0)) for worker in range(options.members)]
    seconds, union = timed(lambda: UnionScope(exact))
    report(f"union of {options.members:,} processors", seconds)
    processes = [ProcessScope(worker) for worker in range(options.members)]
    seconds, wide = timed(lambda: UnionScope(processes))
    report(f"union of {options.members:,} processes", seconds)
    seconds, rest = timed(lambda: ~union)
    report("its complement", seconds)
    seconds, _ = timed(lambda: constrain(union, wide, DefaultScope()))
    report("constrain two such unions with DefaultScope", seconds)
    seconds, _ = timed(lambda: constrain(DefaultScope(), ProcessScope(1), NodeScope("node0")))
    report("constrain DefaultScope, a process, a node", seconds)

    few = [
        DefaultScope(),
        AnyScope(),
        NodeScope("node0"),
        ProcessorTypeScope(ThreadProc),
        ProcessScope(1),
    ]
    bench_tasks(topology, "plain scopes", few, options.tasks)
    unions = [union, wide, rest, union | NodeScope("node0"), wide & DefaultScope()]
    bench_tasks(topology, "large unions", unions, options.tasks)


if __name__ == "__main__":
    main()
