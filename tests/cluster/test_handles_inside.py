"""Functions that get handles in place of values, on real engines."""

import gc
import sys

import cloudpickle
import numpy as np
import pytest

import scopekit as sk
from scopekit import ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE, TWO = ProcessScope(1), ProcessScope(2)


def kinds(*handles):
    return [type(each).__name__ for each in handles]


def same(x):
    return x


def first(x):
    return x[0].fetch()


def test_handles_come_in_place_of_values_made_anywhere(session):
    """C122."""
    here, there = session.tochunk([1]), session.spawn(list, "ab", scope=ONE)

    task = session.options(meta=True, scope=TWO).spawn(kinds, here, there, 7)

    assert task.result(30) == ["Chunk", "Chunk", "int"]


def test_scopes_of_inputs_count_as_ever(session):
    """C123."""
    pinned = session.spawn(list, "ab", result_scope=ONE)
    task = session.options(meta=True).spawn(
        lambda x: (sk.myid(), x.scope.describe(), x.type), pinned
    )

    assert task.result(30) == (1, "worker 1", "list")
    with pytest.raises(sk.SchedulingError):
        session.options(meta=True, scope=TWO).spawn(kinds, pinned)


def test_a_handle_that_is_returned_is_passed_on(session):
    pinned = session.spawn(list, "ab", result_scope=ONE)
    passed = session.options(meta=True).spawn(same, pinned)

    assert session.fetch(passed, raw=True).scope == session.fetch(pinned, raw=True).scope
    with pytest.raises(sk.ScopeViolationError):
        passed.result(30)
    assert session.spawn(len, passed).result(30) == 2


def test_what_is_passed_on_by_another_engine_is_at_home_there(session, orders_reach_busy_engines):
    made = session.spawn(list, "ab", scope=ONE)
    passed = session.options(meta=True, scope=TWO).spawn(same, made)

    assert session.fetch(passed, raw=True).worker == 2
    assert passed.result(30) == ["a", "b"]

    def outer(x):
        return sk.options(meta=True, scope=ProcessScope(2)).spawn(same, x).result()

    nested = session.options(meta=True, scope=ONE).spawn(outer, made)
    assert nested.result(30) == ["a", "b"]


def test_a_large_argument_is_a_value_and_a_large_input_a_handle(session):
    large = np.ones(100_000)
    made = session.spawn(np.ones, 100_000)

    def look(argument, handle):
        return float(argument.sum()), type(handle).__name__, float(handle.fetch().sum())

    task = session.options(meta=True).spawn(look, large, made)

    assert task.result(30) == (100_000.0, "Chunk", 100_000.0)


def test_a_handle_that_a_result_keeps_keeps_the_value(plain, until):
    def chunks():
        gc.collect()
        return plain.statistics()["chunks"]

    until(lambda: chunks() == 0, "nothing is left of what was before")
    made = plain.spawn(list, "ab", scope=ProcessScope(0))
    kept = plain.options(meta=True, scope=ProcessScope(1)).spawn(lambda x: [x], made)
    kept.wait(30)
    del made
    for worker in (0, 1):
        assert plain.spawn(first, kept, scope=ProcessScope(worker)).result(30) == ["a", "b"]

    del kept

    until(lambda: chunks() == 0, "nothing is kept for handles that are gone")
    engines = [plain.options(single=worker).spawn(int) for worker in (0, 1)]
    assert plain.fetch(engines) == [0, 0]


def test_options_that_nobody_gave_have_the_default_that_is_asked_for(session):
    """C135."""

    def ask():
        asked = ("scope", sk.AnyScope()), ("single", 0), ("meta", False), ("priority", None)
        return [sk.get_options(name, default) for name, default in asked]

    assert ask() == session.spawn(ask, scope=ONE).result(30) == [sk.AnyScope(), 0, False, None]
