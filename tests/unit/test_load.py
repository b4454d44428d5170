import pytest

from scopekit.scheduler import load
from scopekit.scheduler.load import Durations, Load
from scopekit.scopes import ThreadProc


@pytest.fixture
def durations():
    return Durations()


@pytest.fixture
def one(durations):
    return Load(ThreadProc(0, 0), durations)


def test_an_unknown_function_fills_a_processor(one):
    assert one.has_room
    one.add("f", 1)

    assert not one.has_room
    assert one.seconds == pytest.approx(0.05)


def test_short_functions_leave_room_up_to_the_budget(one, durations):
    durations.learn("f", 0.01)
    count = 0
    while one.has_room:
        one.add("f", count)
        count += 1

    assert count == 5


def test_an_idle_processor_takes_even_the_longest(one, durations):
    durations.learn("f", 1000.0)

    assert one.has_room


def test_what_was_sent_weighs_by_what_is_known_since(one, durations):
    one.add("f", 1)
    durations.learn("f", 0.001)

    assert one.seconds == pytest.approx(0.001)
    assert one.has_room


def test_removing_gives_the_room_back(one):
    one.add("f", 1)
    one.add("g", 2)
    one.remove("f")
    one.remove("g")

    assert (one.tasks, one.seconds, one.last_used) == (0, 0, 2)


def test_durations_follow_the_latest(durations):
    durations.learn("f", 1.0)
    assert durations.estimate("f") == 1.0
    for _ in range(30):
        durations.learn("f", 0.1)

    assert durations.estimate("f") == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_stood_or_went_back_does_no_harm(durations, seconds):
    durations.learn("f", seconds)

    assert 0 < durations.estimate("f") < 1e-3


def test_the_oldest_function_is_forgotten(durations, monkeypatch):
    monkeypatch.setattr(load, "_KNOWN_FUNCTIONS", 2)
    for function in ("f", "g", "f", "h"):
        durations.learn(function, 1.0)

    assert durations.estimate("f") == 1.0
    assert durations.estimate("g") == 0.05
