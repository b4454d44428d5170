"""What a process reports, by itself: in which order it leaves, and when."""

import threading
import time

import pytest

from scopekit.engine import reporter as reporters
from scopekit.engine.reporter import Reporter
from scopekit.wire import messages as msg

LIMIT = 20.0


class Owner:
    """Counts how often it is looked after; tells in which order things leave."""

    def __init__(self, left):
        self.is_busy = False
        self.most_idle_seconds = None
        self.tended = 0
        self._left = left

    def tend(self):
        self.tended += 1

    def send_first(self):
        self._left.append("first")


class Lane:
    def __init__(self, *, idle):
        self._idle = idle

    def idle(self):
        return self._idle


@pytest.fixture
def left():
    return []


@pytest.fixture
def owner(left):
    return Owner(left)


@pytest.fixture
def reporter(owner, left):
    reporter = Reporter("scopekit-publisher-test", left.append, owner, background=True)
    yield reporter
    reporter.close()


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def started(task):
    return msg.Started(task, 0.0)


def test_what_nobody_waits_for_goes_with_what_somebody_does(reporter, left):
    reporter.add(started(1))
    assert left == []
    reporter.report(started(2))

    assert left == [[started(1), started(2)]]


def test_what_a_task_writes_bit_by_bit_is_one_report(reporter, left):
    for word in ("one ", "two"):
        reporter.report_output(1, "stdout", word)
    reporter.report_output(1, "stderr", "three")
    reporter.report_output(2, "stderr", "four")
    reporter.flush()

    words = [(1, "stdout", "one two"), (1, "stderr", "three"), (2, "stderr", "four")]
    assert left == [[msg.Output(*word) for word in words]]


def test_the_end_of_a_run_waits_a_moment_for_those_that_follow(reporter, left, monkeypatch):
    monkeypatch.setattr(reporters, "_GATHER_SECONDS", LIMIT)
    reporter.report_end(started(0), Lane(idle=True))
    left.clear()
    reporter.report_end(started(1), Lane(idle=False))
    reporter.report_end(started(2), None)
    assert left == []
    reporter.report_end(started(3), Lane(idle=True))

    assert left == ["first", [started(1), started(2), started(3)]]


def test_the_end_of_a_run_does_not_wait_for_long(reporter, left, monkeypatch):
    monkeypatch.setattr(reporters, "_GATHER_SECONDS", 0.0)
    reporter.report_end(started(1), Lane(idle=False))

    assert left == ["first", [started(1)]]


def test_what_gathers_leaves_by_itself(reporter, owner, left):
    reporter.start()
    reporter.start()
    reporter.report_soon(started(1))
    until(lambda: [started(1)] in left)
    names = [thread.name for thread in threading.enumerate()]

    assert names.count("scopekit-publisher-test") == 1
    assert owner.tended
    reporter.close()
    assert "scopekit-publisher-test" not in [thread.name for thread in threading.enumerate()]


def test_without_a_thread_everything_leaves_at_once(owner, left):
    reporter = Reporter("none", left.append, owner, background=False)
    reporter.start()
    reporter.report_soon(started(1))
    reporter.report_output(1, "stdout", "word")

    assert left == [[started(1)], [msg.Output(1, "stdout", "word")]]
    assert "none" not in [thread.name for thread in threading.enumerate()]
