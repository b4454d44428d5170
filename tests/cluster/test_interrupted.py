"""Ctrl-C in a cell that spawns or waits: the cell stops, the work goes on, nothing is lost."""

import random
import signal
import sys
import threading
import time

import cloudpickle
import pytest

import scopekit as sk

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEED = 20_261_128
ROUNDS = 40
TASKS = 400


def same(x):
    return x


class Interrupter:
    """Interrupts the main thread once, after a while."""

    def __init__(self, seconds):
        main = threading.main_thread().ident
        self._timer = threading.Timer(seconds, signal.pthread_kill, [main, signal.SIGINT])

    def __enter__(self):
        self._timer.start()

    def __exit__(self, *_):
        self._timer.join()


def interrupted(seconds, work):
    """Whether some work was interrupted, or what it returned after it had ended already."""
    try:
        with Interrupter(seconds):
            return work(), False
    except KeyboardInterrupt:
        return None, True


def test_interrupted_waits_lose_no_result(plain):
    chance = random.Random(SEED)
    print("seed", SEED)
    hits = 0
    for _ in range(ROUNDS):
        tasks = [plain.spawn(same, number) for number in range(TASKS)]
        hits += interrupted(0.02 * chance.random(), lambda: plain.wait(tasks, timeout=30))[1]  # noqa: B023
        assert plain.fetch(tasks, timeout=30) == list(range(TASKS))
    assert hits == ROUNDS


def test_interrupted_spawns_lose_no_task_that_was_returned(plain):
    chance = random.Random(SEED)
    for _ in range(ROUNDS):
        tasks = []

        def spawn_all():
            for number in range(TASKS):
                tasks.append(plain.spawn(same, number))  # noqa: B023, PERF401

        interrupted(0.01 * chance.random(), spawn_all)
        assert plain.fetch(tasks, timeout=30) == list(range(len(tasks)))


def test_a_task_that_runs_in_this_process_is_what_is_interrupted():
    with sk.start(0) as session:
        began = time.monotonic()
        task, _ = interrupted(0.2, lambda: session.spawn(time.sleep, 30))
        with pytest.raises(sk.RemoteError, match="KeyboardInterrupt"):
            task.result(1)
        assert time.monotonic() - began < 10
        assert session.spawn(same, 1).result(10) == 1
