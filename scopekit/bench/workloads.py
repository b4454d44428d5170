"""The workloads: what each is called, how large it is, how its figure is taken."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("ALL", "OFTEN", "OURS", "WORKLOADS", "Workload")

ALL = ("direct", "views", "processes", "ipyparallel", "dask", "ray", "parsl")
OURS = ("direct", "views")
# Task Bench's patterns of every round; all are in the last.
OFTEN = ("no_comm", "stencil_1d")


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    Attributes:
        name: what the command line calls it.
        title: what tables call it.
        unit: the unit of its figures.
        size: how large it is.
        quick: how large it is where only the benchmark itself is tried.
        how: how its figure is taken, in a sentence.
        systems: which systems it is measured on.
        alone: True if it needs a session of its own making, in a process of its own.
        once: True if it takes too long for every round.
    """

    name: str
    title: str
    unit: str
    size: int
    quick: int
    how: str
    systems: tuple[str, ...] = ALL
    alone: bool = False
    once: bool = False


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            *("start", "Start, to the first answer", "s", 1, 1),
            how="From the call that starts the workers to the answer of a first no-op; imports"
            " are not counted.",
        ),
        Workload(
            *("noops", "Independent no-ops", "µs", 3000, 100),
            how="Submitted one by one, then all results are waited for; per task.",
        ),
        Workload(
            *("spawn", "Spawn, in the caller", "µs", 3000, 100),
            how="What submitting a no-op takes in the caller, without waiting for any; per task.",
        ),
        Workload(
            *("roundtrip", "One no-op, there and back", "µs", 100, 10),
            how="Submitted and waited for before the next is; the middle of 100.",
        ),
        Workload(
            *("chain", "Chain of 500", "µs", 500, 20),
            how="Each task adds one to the result of the one before; per link.",
        ),
        Workload(
            *("tree", "Binary tree over 512", "µs", 512, 16),
            how="512 tasks that return a number each, then sums of pairs up to one; per task,"
            " of which there are 1023.",
        ),
        Workload(
            *("stencil", "16 x 40 stencil", "µs", 40, 4),
            how="40 rows of 16 tasks, each of which adds up its three neighbours of the row"
            " before; per task.",
        ),
        Workload(
            *("transfer", "100 MB from worker to worker", "ms", 100, 1),
            how="An array made on one worker is summed on another, the sum comes back;"
            " ProcessPoolExecutor, ipyparallel and Parsl pass it through the caller.",
        ),
        Workload(
            *("patterns", "Task Bench, empty tasks", "µs", 20, 4),
            how="Each pattern with 20 rows of up to 8 points; per task. Before, the same graph ran"
            " with each task looking at each of its inputs. All patterns but no_comm and stencil_1d"
            " are in the last round only, here and below.",
        ),
        Workload(
            *("metg", "METG(50 %)", "ms", 60, 8),
            how="The granularity at which half of the cores' time is work: each pattern with one"
            " column for each worker and 60 rows (the paper has 1,000), the better of two runs"
            " for each size. Before, the same graph ran with each task looking at each of its"
            " inputs.",
        ),
        Workload(
            *("unions", "Scoped no-ops", "µs", 1000, 50),
            how="1,000 tasks, each valid in one of eight unions of two of eight pretend nodes of"
            " one engine each, beside as many tasks without a scope; per task.",
            systems=OURS,
            alone=True,
        ),
        Workload(
            *("placement", "Stencil on two nodes", "µs", 40, 5),
            how="Column j of a stencil of 40 rows of 8 is pinned to pretend node j mod 2: how many"
            " edges led from node to node, and how many must.",
            systems=OURS,
            alone=True,
            once=True,
        ),
        Workload(
            *("memory", "Memory", "MB", 1_000_000, 10_000),
            how="What is resident of the client and of the largest engine after a tenth and after"
            " all of 1,000,000 no-ops, spawned in a loop that keeps no handles.",
            systems=("direct",),
            alone=True,
            once=True,
        ),
    )
}
