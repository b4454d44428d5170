"""Several results of one task, each where it is valid, on real engines."""

import sys
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE, TWO = ProcessScope(1), ProcessScope(2)


def parts(*values):
    return values


def where(*_inputs):
    return sk.myid()


def test_q_and_r_are_tasks_of_their_own(session):
    q, r = task = session.options(outputs=2).spawn(divmod, 7, 2)

    assert task.result(30) == (3, 1)
    assert (q.result(30), r.result(30)) == (3, 1)


def test_large_results_go_each_where_they_are_needed(session):
    task = session.options(outputs=["text", "numbers"], scope=ONE).spawn(
        parts, "x" * 100_000, list(range(1000))
    )
    lengths = [session.spawn(len, each, scope=TWO) for each in task]
    both = session.spawn(lambda both: [len(each) for each in both], task, scope=TWO)

    assert session.fetch(lengths) == both.result(30) == [100_000, 1000]
    assert [len(each) for each in task.result(30)] == [100_000, 1000]


def test_an_output_stays_where_it_is_valid_and_the_others_come(session):
    free, pinned = task = session.options(
        outputs=["free", "pinned"], result_scope={"pinned": TWO}, name="make"
    ).spawn(parts, [1], [2])

    assert free.result(30) == [1]
    assert task.worker == 2
    for ask in (task.result, pinned.result, lambda: session.fetch([task])):
        with pytest.raises(sk.ScopeViolationError, match=r"output 'pinned' of make: chunk \d+"):
            ask()
    assert isinstance(task.exception(), sk.ScopeViolationError)
    assert free.exception() is None


def test_a_task_that_takes_one_output_follows_that_one_alone(session):
    free, pinned = session.options(outputs=2, result_scope=[None, TWO]).spawn(parts, [1], [2])

    assert session.spawn(where, free, scope=ONE).result(30) == 1
    assert session.spawn(where, pinned).result(30) == 2
    with pytest.raises(sk.ScopeConflictError, match=r"argument 1 .*allows worker 2"):
        session.spawn(where, pinned, scope=ONE).result(30)


def test_a_declared_scope_of_one_output_is_known_at_the_spawn(session):
    free, pinned = session.options(outputs=2, result_scope=[None, TWO]).spawn(time.sleep, 0.2)

    with pytest.raises(sk.ScopeConflictError):
        session.spawn(where, pinned, scope=ONE)
    session.spawn(where, free, scope=ONE)


def test_a_chunk_made_there_keeps_its_scope_among_the_results(session):
    def work():
        return sk.tochunk([1], scope=ProcessScope()), [2]

    pinned, free = session.options(outputs=2, scope=TWO).spawn(work)

    assert free.result(30) == [2]
    assert session.fetch(pinned, raw=True).scope.describe() == "worker 2"
    with pytest.raises(sk.ScopeViolationError, match="output '0' of work"):
        pinned.result(30)


def test_what_cannot_leave_its_process_is_named(session):
    def work():
        return (n for n in range(3)), [2]

    generator, free = session.options(outputs=["generator", "free"]).spawn(work)

    assert free.result(30) == [2]
    with pytest.raises(sk.ScopeViolationError, match="output 'generator' of work"):
        generator.result(30)
    assert session.spawn(list, generator).result(30) == [0, 1, 2]


def test_an_output_that_nobody_holds_is_freed_on_its_engine(plain, until):
    def chunks():
        return plain.statistics()["chunks"]

    until(lambda: chunks() == 0, "nothing is left of what was before")
    kept, dropped = plain.options(outputs=2).spawn(parts, [1], [2])
    assert dropped.result(30) == [2]
    assert chunks() == 2

    del dropped

    until(lambda: chunks() == 1, "the output that nobody holds is freed")
    assert kept.result(30) == [1]


def test_a_task_spawns_one_of_several_results_elsewhere(session, orders_reach_busy_engines):
    def outer():
        scopes = [None, ProcessScope(2)]
        free, pinned = task = sk.options(
            outputs=2, scope=ProcessScope(2), result_scope=scopes
        ).spawn(parts, [1] * 1000, [2])
        try:
            task.result()
        except sk.ScopeViolationError as error:
            return len(free.result()), sk.spawn(where, pinned).result(), str(error)

    count, there, text = session.spawn(outer, scope=ONE).result(30)

    assert (count, there) == (1000, 2)
    assert "output '1' of parts-" in text


def test_to_cancel_one_output_is_to_cancel_the_task(session):
    slow = session.spawn(time.sleep, 0.5)
    q, r = task = session.options(outputs=2).spawn(parts, slow, 1)

    assert q.cancel()

    for each in (task, q, r):
        assert each.cancelled()
        with pytest.raises(sk.TaskCancelledError):
            each.result(30)


def test_a_cell_s_names_are_its_outputs_whatever_a_block_says(session):
    """What magics use gives the result and named ones beside, and splits no tuple."""
    with sk.with_options(outputs=3):
        task = session.submit(sk.options()._given, parts, (1, 2), {}, outputs=("x",))

    assert task.result(30) == 1
    assert task.outputs["x"].result(30) == 2
