"""What the rules for types cost: run with ``python tests/benchmarks/bench_pins.py``.

Plain data is pickled by cloudpickle alone, and beside it, in turns, with the hook that asks
for a rule of each object; the ratio of the two is what the hook costs. Then what it costs to
look at the result of a task. Nothing here is asserted.
"""

import argparse
import collections
import datetime as dt
import io
import random
import statistics
import time

import cloudpickle

from scopekit.pinning.place import Place
from scopekit.pinning.search import implied_by
from scopekit.places import Process, Topology
from scopekit.scopes import ThreadProc
from scopekit.wire.codec import dump_value


class Point:
    """An object as users make them."""

    def __init__(self, x, y):
        self.x, self.y = x, y


Pair = collections.namedtuple("Pair", "one two")  # noqa: PYI024


def by_cloudpickle(value):
    with io.BytesIO() as file:
        cloudpickle.Pickler(file, protocol=5).dump(value)
        return file.getvalue()


def payloads():
    """Return the plain data to pickle, by name."""
    import numpy as np

    draw = random.Random(7)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return {
        "100,000 ints": list(range(100_000)),
        "100,000 floats": [draw.random() for _ in range(100_000)],
        "20,000 texts": [f"text {n}" for n in range(20_000)],
        "10,000 records": [{"id": n, "name": f"n{n}", "ok": True} for n in range(10_000)],
        "10,000 objects": [Point(n, -n) for n in range(10_000)],
        "10,000 named tuples": [Pair(n, -n) for n in range(10_000)],
        "10,000 dates": [now + dt.timedelta(n) for n in range(10_000)],
        "1,000 arrays of 8": [np.arange(8.0) for _ in range(1000)],
        "an array of 8 MB": np.arange(1e6),
        "a function": Point.__init__,
        "a lambda": lambda x: x + 1,
        "the arguments of a call": (((1, "x", [1.0, 2.0]), {"key": {"a": None}}),),
    }


def ratio(value, rounds, seconds):
    """Return the time of cloudpickle and the ratio to it, medians over rounds in turns."""
    times = {by_cloudpickle: [], dump_value: []}
    for dump in times:
        dump(value)
    for number in range(rounds):
        for dump in list(times)[:: 1 if number % 2 else -1]:
            count, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds:
                dump(value)
                count += 1
            times[dump].append((time.perf_counter() - began) / count)
    ratios = [ours / theirs for theirs, ours in zip(*times.values(), strict=True)]
    return statistics.median(times[by_cloudpickle]), statistics.median(ratios)


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.03)
    options = parser.parse_args()

    print(f"{'pickled':<26} {'cloudpickle':>12} {'with the hook, ratio':>22}")
    for name, value in payloads().items():
        theirs, times = ratio(value, options.rounds, options.seconds)
        print(f"{name:<26} {theirs * 1e6:>9.1f} µs {times:>22.3f}")

    here = Place(ThreadProc(0, 0), Topology([Process.with_threads(0, "a")]))
    print(f"\n{'looked at as a result':<26} {'time':>12}")
    for name, value in payloads().items():
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < options.seconds * options.rounds:
            implied_by(value, here, [])
            count += 1
        print(f"{name:<26} {(time.perf_counter() - began) / count * 1e6:>9.2f} µs")


if __name__ == "__main__":
    main()
