"""How long until engines answer: this package beside ipyparallel, in one run.

python tests/benchmarks/bench_start.py [engines …]
"""

import statistics
import sys
import time

import ipyparallel  # its import is not what is compared
from traitlets.config import Config

from scopekit.wire.cluster import launch

ROUNDS = 3


def defaults(n):
    cluster = ipyparallel.Cluster(n=n, log_level=40)
    client = cluster.start_and_connect_sync()
    yield
    client.close()
    cluster.stop_cluster_sync()


def tuned(n):
    """Start as one can with ipyparallel's own settings."""
    cluster = ipyparallel.Cluster(
        n=n,
        delay=0,
        log_level=40,
        config=Config({"LocalEngineSetLauncher": {"delay": 0}}),
        controller_args=[
            "--HeartMonitor.period=200",
            "--IPController.db_class=nodb",
            "--IPController.use_threads=True",
        ],
    )
    client = cluster.start_and_connect_sync()
    yield
    client.close()
    cluster.stop_cluster_sync()


def ours(n):
    link = launch(n)
    yield
    link.close()


def seconds(way, n):
    """Return how long the start and the stop took."""
    steps = way(n)
    begun = time.perf_counter()
    next(steps)
    started = time.perf_counter()
    next(steps, None)
    return started - begun, time.perf_counter() - started


def main():
    print(f"{'engines':>7} {'way':<9} {'start s':>8} {'stop s':>7} {'start, ratio to ours':>21}")
    for n in map(int, sys.argv[1:] or ["2", "4"]):
        rounds = [{way: seconds(way, n) for way in (ours, tuned, defaults)} for _ in range(ROUNDS)]
        typical = {
            way: [statistics.median(r[way][i] for r in rounds) for i in (0, 1)] for way in rounds[0]
        }
        for way, (start, stop) in typical.items():
            ratio = start / typical[ours][0]
            print(f"{n:>7} {way.__name__:<9} {start:>8.2f} {stop:>7.2f} {ratio:>21.1f}")


if __name__ == "__main__":
    main()
