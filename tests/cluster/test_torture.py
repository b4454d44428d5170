"""Engines are killed and added at random for a minute, while work goes on."""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

import scopekit as sk

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEED = 20_261_124
SECONDS = 60.0
PURE = 100_000
ONCE = 100
BATCH = 500
ENGINES = 3


def pure(n):
    return (n * 2_654_435_761) % 1_000_003


def add(*parts):
    return sum(parts)


def once(folder, n):
    """Leaves a mark for each time that it began."""
    fd = os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    time.sleep(0.002)
    return n


class Trouble(threading.Thread):
    """Kills an engine from time to time, and starts another."""

    def __init__(self, session, draw):
        super().__init__(name="trouble")
        self.session = session
        self.draw = draw
        self.over = threading.Event()
        self.killed = 0

    def run(self):
        while not self.over.wait(self.draw.uniform(1.0, 5.0)):
            workers = self.session.workers
            if len(workers) > 1:
                worker = self.draw.choice(workers)
                os.kill(self.session.topology.process(worker).pid, signal.SIGKILL)
                self.killed += 1
            self.session.add_workers(1, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_minute_of_deaths_loses_nothing_and_starts_nothing_twice(tmp_path):
    print(f"seed {SEED}")
    draw = random.Random(SEED)
    folder = str(tmp_path)
    with sk.start(ENGINES) as session:
        trouble = Trouble(session, draw)
        trouble.start()
        began = time.monotonic()
        try:
            sums, marks, told = work(session, folder, began)
        finally:
            trouble.over.set()
            trouble.join(120)
        assert not trouble.is_alive()
        print(f"{trouble.killed} engines killed")
        assert trouble.killed >= SECONDS / 15

        expected = [
            sum(pure(n) for n in range(first, first + BATCH)) for first in range(0, PURE, BATCH)
        ]
        assert sums == expected
        check_marks(folder, marks, told)


def work(session, folder, began):
    """Spawns all of it over the minute; returns the sums, and how those ended that run once."""
    sums, marks = [], []
    rounds = PURE // BATCH
    for number in range(rounds):
        # Each round in its share of the minute, unless the engines are behind.
        time.sleep(max(0.0, began + SECONDS * number / rounds - time.monotonic()))
        first = number * BATCH
        parts = [session.spawn(pure, n) for n in range(first, first + BATCH)]
        halves = [
            session.spawn(add, *parts[: BATCH // 2]),
            session.spawn(add, *parts[BATCH // 2 :]),
        ]
        sums.append(session.spawn(add, *halves))
        if number % (rounds // ONCE) == 0:
            marks.append(session.options(idempotent=False).spawn(once, folder, len(marks)))
    values = session.fetch(sums, timeout=240)
    told = [mark.exception(timeout=60) for mark in marks]
    return values, marks, told


def check_marks(folder, marks, told):
    assert len(marks) == ONCE
    lost = 0
    for number, error in enumerate(told):
        path = Path(folder, str(number))
        begun = path.stat().st_size if path.exists() else 0
        assert begun <= 1, f"task {number} began {begun} times"
        if error is None:
            assert begun == 1
        else:
            assert isinstance(error, sk.WorkerLostError)
            lost += 1
    print(f"{lost} of {ONCE} had begun when their engine died, and were not started again")
