"""Where tasks would rather run, on real engines: workers 0 and 1 with a thread each."""

import sys
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import NodeScope, ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ZERO, ONE, GONE = ProcessScope(0), ProcessScope(1), NodeScope("nowhere")


def where(*_inputs):
    return sk.myid()


def hold(gate):
    deadline = time.monotonic() + 60
    while not gate.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def mostly_quick(gate=None):
    if gate is not None:
        hold(gate)


@pytest.fixture
def busy_one(plain, tmp_path, until):
    """Worker 1 is busy until the gate is there."""
    gate = tmp_path / "gate"
    holding = plain.spawn(hold, gate, scope=ONE)
    until(lambda: holding.state == "running", "worker 1 is busy")
    yield gate
    gate.touch()
    holding.result(30)


def test_a_task_runs_where_it_prefers_if_it_may(plain):
    with sk.with_options(prefer=ONE):
        assert [plain.spawn(where).result(30) for _ in range(5)] == [1] * 5
        elsewhere = plain.spawn(where, scope=ZERO)
        assert elsewhere.result(30) == 0
    assert elsewhere.explain().rule.endswith("; worker 1 is not allowed")


def test_what_is_missing_is_passed_over_in_order(plain):
    task = plain.options(prefer=[GONE, sk.prefer(ProcessScope(77), busy=60), ONE]).spawn(where)

    assert task.result(30) == 1
    rule = "it prefers worker 1; node nowhere is not there; worker 77 is not there"
    assert task.explain().rule == rule


def test_without_patience_a_busy_worker_is_passed_over(plain, busy_one):
    task = plain.options(prefer=ONE).spawn(where)

    assert task.result(30) == 0
    assert "worker 1 was busy" in str(task.explain())


def test_with_patience_a_task_waits_for_a_busy_worker_and_goes_on(plain, busy_one):
    began = time.monotonic()
    task = plain.options(prefer=sk.prefer(ONE, busy=0.4)).spawn(where)
    assert "it prefers worker 1, which is busy, for up to" in str(task.explain())
    others = [plain.spawn(where) for _ in range(3)]

    assert plain.fetch(others, timeout=30) == [0, 0, 0], "nobody waits behind it"
    assert task.result(4) == 0
    assert time.monotonic() - began >= 0.4
    assert task.explain().rule.endswith("; worker 1 was busy for 0.4 s")


def test_with_patience_a_task_gets_the_worker_that_becomes_free(plain, busy_one):
    task = plain.options(prefer=sk.prefer(ONE, busy=60)).spawn(where)
    assert plain.spawn(where).result(30) == 0

    busy_one.touch()

    assert task.result(30) == 1


def test_patience_begins_with_the_word_that_the_last_input_is_made(plain, busy_one):
    made = plain.spawn(time.sleep, 0.3, scope=ZERO)
    task = plain.options(prefer=sk.prefer(ONE, busy=0.3)).spawn(where, made)

    assert task.result(4) == 0


def test_what_was_sent_behind_a_task_that_takes_too_long_goes_elsewhere(
    plain, tmp_path, orders_reach_busy_engines
):
    gate = tmp_path / "gate"
    for _ in range(3):
        plain.spawn(mostly_quick, scope=ONE).result(30)
    plain.spawn(where, scope=ONE).result(30)
    slow = plain.spawn(mostly_quick, gate, scope=ONE)
    try:
        task = plain.options(prefer=sk.prefer(ONE, busy=0.3)).spawn(where)
        assert task.worker == 1

        assert task.result(4) == 0
    finally:
        gate.touch()
        slow.result(30)


def test_nobody_waits_behind_a_quick_function_that_takes_long_once(
    plain, tmp_path, orders_reach_busy_engines
):
    gate = tmp_path / "gate"
    for worker in (ZERO, ONE):
        for function in (mostly_quick, where):
            for _ in range(3):
                plain.spawn(function, scope=worker).result(30)
    slow = plain.spawn(mostly_quick, gate)
    try:
        at_once = [plain.spawn(where) for _ in range(20)]
        assert plain.fetch(at_once, timeout=10) == [1 - slow.worker] * 20
        later = [plain.spawn(where) for _ in range(20)]
        assert plain.fetch(later, timeout=10) == [1 - slow.worker] * 20
    finally:
        gate.touch()
        slow.result(30)


def test_a_task_of_a_task_runs_where_it_prefers(plain, orders_reach_busy_engines):
    def outer():
        return sk.options(prefer=sk.ProcessScope(1)).spawn(where).result()

    assert plain.spawn(outer, scope=ZERO).result(30) == 1
    assert plain.spawn(outer, scope=ONE).result(30) == 1


def test_a_plan_says_what_would_be_preferred(plain):
    plan = plain.options(prefer=[GONE, ONE]).plan(where)

    assert plan.chosen.worker == 1
    assert plan.rule == "it prefers worker 1; node nowhere is not there"
