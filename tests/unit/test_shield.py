"""Interrupts of the main thread, put off until what they would tear apart is whole."""

import signal
import threading

import pytest

from scopekit.shield import Shield

INTERRUPT = signal.SIGINT


@pytest.fixture
def shield():
    before = signal.getsignal(INTERRUPT)
    shield = Shield()
    yield shield
    shield.remove()
    assert signal.getsignal(INTERRUPT) is before


def test_what_comes_inside_is_raised_where_the_shield_is_left(shield):
    done = []

    def work():
        with shield:
            with shield:
                signal.raise_signal(INTERRUPT)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    with shield:
        done.append("again")

    assert done == ["inner", "outer", "again"]


def test_what_comes_outside_is_raised_at_once(shield):
    with shield:
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(INTERRUPT)


def test_two_interrupts_are_raised_as_one(shield):
    def work():
        with shield:
            signal.raise_signal(INTERRUPT)
            signal.raise_signal(INTERRUPT)

    with pytest.raises(KeyboardInterrupt):
        work()
    with shield:
        pass


def test_who_insists_is_heard_at_once(shield):
    done = []

    def work():
        with shield:
            for number in range(3):
                done.append(number)
                signal.raise_signal(INTERRUPT)
            done.append("not torn")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == [0, 1, 2]


def test_an_error_goes_on_where_nothing_came(shield):
    def work():
        with shield:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_a_part_may_be_interrupted(shield):
    done = []

    def work():
        with shield, shield.lifted():
            signal.raise_signal(INTERRUPT)
            done.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == []


def test_what_came_before_such_a_part_is_raised_as_it_begins(shield):
    done = []

    def work():
        with shield:
            signal.raise_signal(INTERRUPT)
            done.append("whole")
            with shield.lifted():
                done.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == ["whole"]


def test_after_such_a_part_interrupts_are_held_off_again(shield):
    done = []

    def work():
        with shield:
            with shield.lifted():
                pass
            signal.raise_signal(INTERRUPT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == ["whole"]


def test_a_handler_that_others_set_is_what_hears_of_it(shield):
    heard = []
    before = signal.getsignal(INTERRUPT)
    with shield:
        pass
    signal.signal(INTERRUPT, lambda number, _: heard.append(number))
    with shield:
        signal.raise_signal(INTERRUPT)
        assert heard == []
    assert heard == [INTERRUPT]
    signal.raise_signal(INTERRUPT)
    assert heard == [INTERRUPT, INTERRUPT]
    signal.signal(INTERRUPT, before)


def test_interrupts_that_are_ignored_stay_ignored(shield):
    before = signal.signal(INTERRUPT, signal.SIG_IGN)
    with shield:
        signal.raise_signal(INTERRUPT)
    assert signal.getsignal(INTERRUPT) is signal.SIG_IGN
    signal.signal(INTERRUPT, before)


def test_other_threads_enter_it_and_hold_nothing_off(shield):
    inside, go = threading.Event(), threading.Event()

    def stay():
        with shield, shield.lifted():
            inside.set()
            go.wait(20)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(20)
    with shield:
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(INTERRUPT)
    go.set()
    thread.join()
