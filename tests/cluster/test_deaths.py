"""Engines that are killed at the worst time: what ends well, what in words, what never again."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEED = 20_261_126


def mark(folder, name):
    """Leaves a mark for each time that it is called."""
    fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)


def marks(folder, name):
    path = Path(folder, str(name))
    return path.stat().st_size if path.exists() else 0


def marked(folder, name, seconds=0.0):
    mark(folder, name)
    time.sleep(seconds)
    return name


def hold(folder, name):
    """Runs until a gate is opened."""
    mark(folder, name)
    limit = time.monotonic() + 60
    while not os.path.exists(f"{folder}/gate") and time.monotonic() < limit:  # noqa: PTH110
        time.sleep(0.005)
    return name


def step(values, n):
    time.sleep(0.002)
    return [*values, n]


def deadly(folder):
    mark(folder, "deadly")
    os.kill(os.getpid(), signal.SIGKILL)


def inc(x):
    return x + 1


def flaky(folder, name, bad):
    mark(folder, name)
    if os.path.getsize(f"{folder}/{name}") <= bad:  # noqa: PTH202  # the module travels by value
        raise OSError(f"{name} is not ready")
    return name


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_chains_whose_inputs_are_lost_while_they_run_end_in_the_right_values(until):
    """Each link was made on another engine than the last; two engines die in between."""
    print(f"seed {SEED}")
    draw = random.Random(SEED)
    with sk.start(4) as session:
        pids = session.run(os.getpid)
        chains = [session.spawn(list, ()) for _ in range(10)]
        kept = [list(chains)]
        for n in range(30):
            scopes = [ProcessScope(draw.choice((0, 1, 2))) | ProcessScope(3) for _ in chains]
            chains = [
                session.spawn(step, chain, n, scope=scope)
                for chain, scope in zip(chains, scopes, strict=True)
            ]
            kept.append(list(chains))
        for part, worker in ((5, 1), (15, 0)):
            session.wait(kept[part], timeout=60)
            os.kill(pids[worker], signal.SIGKILL)
            until(lambda worker=worker: worker not in session.workers, "it has left")

        assert session.fetch(chains, timeout=90) == [list(range(30))] * 10
        # What was made on the way is there, or is made again.
        assert session.fetch(kept[10], timeout=90) == [list(range(10))] * 10
        assert session.workers == [2, 3]


def test_a_task_that_kills_three_processes_is_stopped_and_all_others_end_well(folder):
    with sk.start(5) as session:
        innocent = [session.spawn(marked, folder, n, 0.005) for n in range(100)]
        task = session.options(name="deadly").spawn(deadly, folder)
        innocent += [session.spawn(marked, folder, n, 0.005) for n in range(100, 200)]
        after = session.spawn(len, [task])

        error = task.exception(60)
        assert isinstance(error, sk.WorkerLostError)
        assert "deadly" in str(error)
        assert marks(folder, "deadly") == 3
        assert session.fetch(innocent, timeout=60) == list(range(200))
        with pytest.raises(sk.WorkerLostError, match="deadly"):
            after.result(20)
        assert len(session.workers) == 2


def test_two_that_kill_are_both_stopped_and_blame_nobody_else(folder, until):
    """Engines come to take the place of the dead, as long as any is needed."""
    with sk.start(3) as session:
        patient = session.options(wait_for=60)
        bad = [session.options(name="deadly", wait_for=60).spawn(deadly, folder) for _ in "ab"]
        good = [patient.spawn(marked, folder, n, 0.002) for n in range(60)]

        def all_ended():
            if len(session.workers) < 2:
                session.add_workers(2, timeout=60)
            return all(task.done() for task in (*bad, *good))

        until(all_ended, "all have ended", 90)
        assert [type(task.exception()) for task in bad] == [sk.WorkerLostError] * 2
        assert session.fetch(good, timeout=60) == list(range(60))
        assert marks(folder, "deadly") <= 6


def test_what_is_to_be_tried_again_is_tried_as_often_as_was_said(folder):
    with sk.start(2) as session:
        for retries, bad in ((0, 0), (2, 2), (5, 3)):
            name = f"right {retries} {bad}"
            task = session.options(retries=retries).spawn(flaky, folder, name, bad)
            assert task.result(20) == name
            assert marks(folder, name) == bad + 1
        for retries in (0, 1, 4):
            name = f"wrong {retries}"
            task = session.options(retries=retries).spawn(flaky, folder, name, 99)
            with pytest.raises(OSError, match=f"{name} is not ready"):
                task.result(20)
            assert marks(folder, name) == retries + 1


def test_a_death_is_no_failure_of_the_task_that_is_tried_again(folder, until):
    """It has a try left for an error of its own."""
    with sk.start(2) as session:
        task = session.options(retries=1).spawn(hold_or_fail, folder)
        until(lambda: marks(folder, "first"), "it runs")
        os.kill(int(Path(folder, "pid").read_text()), signal.SIGKILL)

        assert task.result(60) == "right"
        assert marks(folder, "first") == 3


def hold_or_fail(folder):
    """Is killed at first, fails then, and comes right."""
    mark(folder, "first")
    tries = os.path.getsize(f"{folder}/first")  # noqa: PTH202  # the module travels by value
    if tries == 1:
        with open(f"{folder}/pid", "w") as file:  # noqa: PTH123  # likewise
            file.write(str(os.getpid()))
        time.sleep(60)
    if tries == 2:
        raise OSError("not yet")
    return "right"


def test_what_must_not_run_twice_starts_once_or_never_when_its_engine_dies(folder, until):
    with sk.start(2) as session:
        pids = session.run(os.getpid)
        # Known by now to take a moment, so that many are sent ahead.
        session.fetch([session.spawn(marked, folder, "known", 0.001) for _ in range(20)])
        once = session.options(idempotent=False)
        running = once.spawn(hold, folder, "running")
        until(lambda: marks(folder, "running"), "it has begun")
        victim = running.worker
        behind = [
            session.options(idempotent=False, scope=ProcessScope(victim)).spawn(
                marked, folder, f"behind {n}"
            )
            for n in range(20)
        ]
        pure = [session.spawn(marked, folder, n) for n in range(50)]
        slow = session.spawn(marked, folder, "slow", 0.3, scope=ProcessScope(1 - victim))
        waiting = once.spawn(marked_after, folder, "waiting", slow)
        os.kill(pids[victim], signal.SIGKILL)
        until(lambda: victim not in session.workers, "it has left")
        Path(folder, "gate").touch()

        # It lacked an input, and so had not begun: it runs, where there is somebody.
        assert waiting.result(60) == "waiting"
        assert session.fetch(pure, timeout=60) == list(range(50))
        with pytest.raises(sk.WorkerLostError, match="not started again"):
            running.result(20)
        assert {type(task.exception(20)) for task in behind} <= {
            sk.WorkerLostError,
            sk.NoProcessorError,
        }
        assert marks(folder, "running") == marks(folder, "waiting") == 1
        assert [marks(folder, f"behind {n}") for n in range(20)] == [0] * 20


def marked_after(folder, name, _):
    mark(folder, name)
    return name


def test_a_number_that_came_with_the_word_that_it_was_made_outlives_its_engine(until):
    with sk.start(2) as session:
        pids = session.run(os.getpid)
        here = session.options(idempotent=False, scope=ProcessScope(1))
        number, text = here.spawn(len, "abc"), here.spawn(str, "abc")
        both = ProcessScope(0) | ProcessScope(1)
        pure = [session.spawn(inc, n, scope=both) for n in range(20)]
        session.wait([number, text, *pure], timeout=20)
        os.kill(pids[1], signal.SIGKILL)
        until(lambda: 1 not in session.workers, "it has left")

        assert number.exception(20) is None
        assert number.result(20) == session.fetch(number, timeout=20) == 3
        assert isinstance(text.exception(20), sk.ChunkLostError)
        with pytest.raises(sk.ChunkLostError):
            text.result(20)
        # Only for others than this process it is made again.
        assert session.fetch(pure, timeout=20) == list(range(1, 21))
        chunks = session.fetch(pure, raw=True, timeout=20)
        assert [chunk.fetch(20) for chunk in chunks] == list(range(1, 21))
        assert session.fetch([session.spawn(inc, task) for task in pure], timeout=20)[19] == 21


def test_late_words_of_an_engine_that_was_given_up_change_nothing(folder, until):
    """It is frozen for so long that it counts as dead, then goes on and says what it did."""
    soon = ["--HeartMonitor.period=100", "--HeartMonitor.max_heartmonitor_misses=30"]
    with sk.start(2, controller_args=soon) as session:
        pids = session.run(os.getpid)
        session.fetch([session.spawn(marked, folder, "known", 0.001) for _ in range(20)])
        chunk = session.spawn(list, range(3), scope=ProcessScope(1))
        chunk.wait(20)
        os.kill(pids[1], signal.SIGSTOP)
        try:
            anywhere = ProcessScope(0) | ProcessScope(1)
            pure = [session.spawn(marked, folder, f"pure {n}", scope=anywhere) for n in range(40)]
            once = session.options(idempotent=False, scope=ProcessScope(1))
            alone = [once.spawn(marked, folder, f"once {n}") for n in range(5)]
            until(lambda: 1 not in session.workers, "it is given up", 30)
            assert session.fetch(pure, timeout=30) == [f"pure {n}" for n in range(40)]
            errors = [task.exception(20) for task in alone]
            before = session.statistics()
        finally:
            os.kill(pids[1], signal.SIGCONT)
        # It runs what it was sent, and says so to nobody who listens.
        until(lambda: all(marks(folder, f"once {n}") for n in range(5)), "it has gone on")
        assert session.spawn(marked, folder, "after").result(20) == "after"

        assert session.workers == [0]
        assert {type(error) for error in errors} <= {sk.WorkerLostError, sk.NoProcessorError}
        assert [task.exception(20) for task in alone] == errors
        assert [marks(folder, f"once {n}") for n in range(5)] == [1] * 5
        assert session.fetch(pure, timeout=30) == [f"pure {n}" for n in range(40)]
        with pytest.raises(sk.ScopekitError):
            chunk.result(20)
        told = session.statistics()
        assert told["tasks"]["done"] == before["tasks"]["done"] + 1
        assert told["busy"][0] == 0
