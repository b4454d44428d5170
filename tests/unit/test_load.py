from itertools import pairwise

import pytest

from scopekit.places import Process, Topology
from scopekit.scheduler import load
from scopekit.scheduler.load import Durations, Load, Loads
from scopekit.scopes import CLIENT, ThreadProc

BUDGET = 0.05
EVERYTHING = 0b1111


@pytest.fixture
def durations():
    return Durations()


@pytest.fixture
def one(durations):
    return Load(ThreadProc(0, 0), 1, durations)


@pytest.fixture
def loads(durations):
    """Workers 0 and 1 with two threads each: bits 0 to 3."""
    topology = Topology(Process.with_threads(worker, "a", 2) for worker in (0, 1))
    return Loads(topology, durations, BUDGET)


def give(loads, number, *tasks, function="f"):
    for task in tasks:
        loads.add(loads.all[number], task, function)


# -- one processor ----------------------------------------------------------------


def test_a_function_that_never_ran_counts_as_long(one):
    one.add(1, "f")

    assert one.seconds == pytest.approx(0.05)


def test_what_was_sent_weighs_by_what_is_known_since(one, durations):
    one.add(1, "f")
    durations.learn("f", 0.001)
    one.weigh()

    assert one.seconds == pytest.approx(0.001)


def test_what_ends_weighs_no_more(one):
    one.add(1, "f")
    one.add(2, "g")
    one.add(3, "f")
    one.remove(1)
    assert (list(one.tasks), one.by_function) == ([2, 3], {"g": 1, "f": 1})
    one.remove(2)
    one.remove(3)

    assert (one.tasks, one.by_function, one.seconds) == ({}, {}, 0.0)


def test_a_task_that_waits_for_others_weighs_nothing_as_long_as_it_does(one):
    one.add(1, "f")
    one.pause(1)
    assert (one.is_idle, one.seconds, list(one.tasks)) == (True, 0.0, [1])
    one.resume(1)

    assert not one.is_idle
    assert one.seconds == pytest.approx(0.05)


def test_that_a_task_waits_or_goes_on_counts_once_however_often_it_is_said(one):
    one.add(1, "f")
    one.add(2, "f")
    for _ in range(2):
        one.pause(1)
    assert one.by_function == {"f": 1}
    for _ in range(2):
        one.resume(1)

    assert one.by_function == {"f": 2}


def test_what_is_not_there_neither_waits_nor_goes_on(one):
    one.pause(9)
    one.resume(9)

    assert (one.paused, one.by_function) == (set(), {})


def test_a_task_that_ends_while_it_waits_leaves_nothing(one):
    one.add(1, "f")
    one.pause(1)
    one.remove(1)

    assert (one.tasks, one.paused, one.by_function, one.seconds) == ({}, set(), {}, 0.0)


def test_a_task_that_has_run_for_a_while_weighs_at_least_as_an_unknown_one(one, durations):
    durations.learn("quick", 0.0001)
    durations.learn("long", 0.2)
    one.add(1, "quick")
    one.begin(1)
    assert one.seconds == pytest.approx(0.05)
    one.add(2, "quick")
    assert one.seconds == pytest.approx(0.0501)
    one.remove(1)
    one.add(3, "long")
    one.begin(3)

    assert one.seconds == pytest.approx(0.2001)


def test_a_task_that_has_run_for_a_while_weighs_nothing_as_long_as_it_waits(one, durations):
    durations.learn("quick", 0.0001)
    one.add(1, "quick")
    one.begin(1)
    one.pause(1)
    assert (one.seconds, one.keeps_waiting) == (0.0, False)
    one.resume(1)

    assert one.seconds == pytest.approx(0.05)
    assert one.keeps_waiting


def test_a_task_that_ran_for_a_while_leaves_nothing(one):
    for paused in (False, True):
        one.add(1, "f")
        one.begin(1)
        one.begin(1)
        if paused:
            one.pause(1)
        one.remove(1)
        one.begin(1)

        assert (one.tasks, one.running, one.paused, one.by_function) == ({}, set(), set(), {})
        assert (one.seconds, one.keeps_waiting) == (0.0, False)


# -- all of them --------------------------------------------------------------------


def test_all_are_idle_and_have_room_at_first(loads):
    assert loads.idle == loads.room == EVERYTHING


def test_a_function_that_never_ran_fills_a_processor(loads):
    give(loads, 1, 10)

    assert loads.idle == loads.room == 0b1101


def test_short_functions_leave_room_up_to_the_budget(loads):
    loads.learn("f", 0.01)
    count = 0
    while loads.has_room(loads.all[0]):
        give(loads, 0, count)
        count += 1

    assert count == 5


@pytest.mark.parametrize("known", [1e-5, 0.003, 0.01, 0.0499, 0.2])
def test_nothing_is_sent_behind_a_task_that_has_run_for_a_while(loads, known):
    loads.learn("f", known)
    give(loads, 0, 1)
    loads.begin(loads.all[0], 1)
    assert not loads.has_room(loads.all[0])
    loads.remove(loads.all[0], 1)

    assert loads.has_room(loads.all[0])


def test_an_idle_processor_takes_even_the_longest(loads):
    loads.learn("f", 1000.0)

    assert loads.room == EVERYTHING


def test_what_is_learnt_gives_room_to_those_that_were_full(loads):
    give(loads, 0, 1)
    loads.learn("f", 0.001)

    assert loads.has_room(loads.all[0])


def test_however_short_the_tasks_no_processor_has_more_than_a_thousand(loads):
    loads.learn("f", 1e-9)
    give(loads, 0, *range(1000))

    assert not loads.has_room(loads.all[0])
    assert not loads.may_wait_at(loads.all[0])


def test_what_ends_gives_the_room_back(loads):
    give(loads, 2, 1)
    loads.remove(loads.all[2], 1)

    assert loads.idle == loads.room == EVERYTHING


def test_a_task_that_waits_leaves_its_processor_to_others(loads):
    give(loads, 1, 10)
    loads.pause(loads.all[1], 10)
    assert loads.idle == loads.room == EVERYTHING
    give(loads, 1, 11)
    assert loads.idle == 0b1101
    loads.remove(loads.all[1], 11)
    loads.resume(loads.all[1], 10)

    assert loads.idle == loads.room == 0b1101


def test_more_is_wanted_by_what_is_idle_or_has_done_half_of_its_budget(loads):
    loads.learn("f", 0.01)
    wants = []
    for task in range(5):
        wants.append(loads.wants_more(loads.all[0]))
        give(loads, 0, task)

    assert wants == [True, True, True, False, False]


def test_processors_that_stay_keep_their_work_when_others_come(loads, durations):
    give(loads, 2, 1)
    topology = Topology(Process.with_threads(worker, "a", 2) for worker in (1, 7))
    after = Loads(topology, durations, BUDGET, loads.by_processor)

    assert [list(load.tasks) for load in after.all] == [[1], [], [], []]
    assert [load.bit for load in after.all] == [1, 2, 4, 8]
    assert after.idle == 0b1110


def test_a_few_of_the_idle_are_found_and_others_the_next_time(durations):
    loads = Loads(Topology([Process.with_threads(0, "a", 20)]), durations, BUDGET)
    first = loads.some_idle()
    for task in range(len(first)):
        loads.add(loads.pick((1 << 20) - 1), task, "f")
    then = loads.some_idle()

    assert 0 < len(first) < 20
    assert all(load.is_idle for load in then)
    assert {load.bit for load in then} - {load.bit for load in first}


def test_a_process_is_empty_while_no_thread_of_it_has_a_task(loads):
    give(loads, 3, 1)

    assert loads.is_empty(0)
    assert not loads.is_empty(1)


def test_the_less_loaded_of_two_with_room_is_chosen(loads):
    loads.learn("f", 0.01)
    loads.learn("g", 0.03)
    give(loads, 0, 1, function="f")
    give(loads, 1, 2, function="g")

    assert loads.idle & 0b0011 == 0
    assert {loads.pick(0b0011).bit for _ in range(4)} == {1}


def test_an_idle_processor_comes_before_one_with_room(loads):
    loads.learn("f", 0.01)
    give(loads, 0, 1)
    give(loads, 1, 2)
    give(loads, 2, 3)

    assert loads.pick(EVERYTHING) is loads.all[3]


@pytest.mark.parametrize("mask", range(1, 16), ids=bin)
def test_what_is_chosen_lies_in_the_mask(loads, mask):
    loads.learn("f", 0.004)
    for task in range(60):
        chosen = loads.pick(mask)
        if chosen is None:
            break
        assert chosen.bit & mask
        loads.add(chosen, task, "f")

    assert not loads.room & mask


def test_idle_processors_are_taken_in_turn(loads):
    picked = []
    for task in range(4):
        chosen = loads.pick(EVERYTHING)
        loads.add(chosen, task, "f")
        picked.append(chosen.bit)

    assert sorted(picked) == [1, 2, 4, 8]


def test_short_tasks_keep_together_until_there_is_work_for_a_while(loads):
    loads.learn("f", 2e-5)
    bits = []
    for task in range(200):
        chosen = loads.pick(EVERYTHING)
        loads.add(chosen, task, "f")
        bits.append(chosen.bit)

    changes = sum(a != b for a, b in pairwise(bits))
    assert 200 / 20 <= changes <= 200 / 10


def test_none_is_chosen_where_none_of_the_mask_has_room(loads):
    give(loads, 0, 1)

    assert loads.pick(0b0001) is None


def test_the_least_loaded_thread_of_a_worker_is_found_within_the_mask(loads):
    give(loads, 2, 1)

    assert loads.least(EVERYTHING, 1) is loads.all[3]
    assert loads.least(0b0100, 1) is loads.all[2]
    assert loads.least(0b0011, 1) is None
    assert loads.least(EVERYTHING, 99) is None


def test_the_threads_of_a_process_share_its_work(loads):
    give(loads, 0, 1)
    give(loads, 1, 2)

    assert loads.seconds_of(0) == pytest.approx(0.1)
    assert loads.seconds_of(1) == loads.seconds_of(99) == 0


def test_the_busiest_has_several_tasks_and_much_to_do(loads):
    give(loads, 0, 1)
    assert loads.busiest(EVERYTHING, 0.0) is None
    give(loads, 0, 2)
    give(loads, 2, 3, 4, 5)

    assert loads.busiest(EVERYTHING, 0.0) is loads.all[2]
    assert loads.busiest(0b0011, 0.0) is loads.all[0]
    assert loads.busiest(EVERYTHING, 1.0) is None


def test_a_process_that_is_kept_for_one_task_is_given_no_other(loads):
    assert loads.keep(EVERYTHING, 7) == 0

    assert loads.kept_for(0) == 7
    assert loads.pick(0b0011) is None
    assert not loads.has_room(loads.all[1])
    loads.reopen(0)
    assert loads.pick(0b0011) is not None


def test_the_process_with_the_least_to_do_is_kept(loads):
    give(loads, 0, 1)

    assert loads.keep(EVERYTHING, 7) == 1


def test_half_of_the_processes_go_on_with_the_rest(loads):
    loads.keep(EVERYTHING, 7)

    assert not loads.may_keep()
    assert loads.keep(EVERYTHING, 8) is None


def test_only_a_process_that_the_mask_reaches_is_kept(loads):
    assert loads.keep(0b1000, 7) == 1
    assert loads.keep(0b1000, 8) is None


def test_the_user_s_own_process_is_kept_last(durations):
    topology = Topology([Process.with_threads(CLIENT, "a"), Process.with_threads(0, "a")])
    loads = Loads(topology, durations, BUDGET)
    give(loads, loads.all.index(loads.of_worker[0][0]), 1)

    assert loads.keep(0b11, 7) == 0
    loads.reopen(0)
    assert loads.keep(0b01, 8) == CLIENT


def test_a_process_that_is_to_leave_takes_nothing_more(loads):
    loads.draining = frozenset((0,))

    assert not loads.is_open(0)
    assert loads.is_open(1)
    assert loads.pick(0b0011) is None
    assert loads.pick(EVERYTHING).processor.worker == 1
    assert not loads.has_room(loads.all[0])
    assert not loads.may_wait_at(loads.all[0])


def test_those_that_live_are_kept_again(loads):
    loads.keep_again({1: 7, 5: 8})

    assert loads.kept() == {1: 7}


# -- durations ------------------------------------------------------------------------


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

    assert durations.estimate("f") == 0.05
    assert durations.estimate("g") == durations.estimate("h") == 1.0
