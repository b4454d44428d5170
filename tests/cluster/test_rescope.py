"""The scope of a chunk is changed: it narrows freely, and widens only where that is said."""

import getpass

import numpy as np
import pytest

import scopekit as sk


def on(worker):
    return sk.ProcessScope(worker)


def test_a_chunk_that_is_narrowed_is_valid_there_alone(session):
    chunk = session.tochunk("x", scope=sk.NodeScope("a"))
    same = session.rescope(chunk, on(1))

    assert same is chunk
    assert chunk.scope == on(1)
    assert session.spawn(sk.myid).result(20) in session.workers
    assert session.spawn(lambda _: sk.myid(), chunk).result(20) == 1
    with pytest.raises(sk.ScopeConflictError, match="argument"):
        session.spawn(str, chunk, scope=on(0))


def test_what_leaves_this_process_out_moves_away_from_here(session):
    chunk = session.tochunk("x")
    session.rescope(chunk, on(2))

    assert chunk.fetch is not None
    with pytest.raises(sk.ScopeViolationError, match="worker 2"):
        chunk.fetch(timeout=20)
    assert session.spawn(lambda x: (x, sk.myid()), chunk).result(20) == ("x", 2)
    assert session.run(lambda: None, scope=on(2)) == {2: None}


def test_copies_outside_of_the_new_scope_are_dropped(session, until):
    chunk = session.tochunk("x" * 10, scope=sk.NodeScope("a"))
    for worker in (0, 1):
        assert session.spawn(len, chunk, scope=on(worker)).result(20) == 10
    session.rescope(chunk, on(0))

    def holders():
        return session._driver.scheduler.chunks[chunk.id].holders

    assert holders() == (0,)
    assert session.spawn(len, chunk).result(20) == 10


def test_large_values_that_were_lent_to_the_node_are_lent_no_more(session):
    made = session.spawn(np.ones, 1_000_000, scope=on(0))
    assert session.spawn(np.sum, made, scope=on(1)).result(20) == 1_000_000
    session.rescope(made, on(0))

    total = session.spawn(np.sum, made)
    assert total.result(20) == 1_000_000
    assert total.worker == 0


def test_a_wider_scope_must_be_said(session):
    chunk = session.tochunk("x", scope=on(1))

    with pytest.raises(sk.ScopeError, match="declassify=True"):
        session.rescope(chunk, sk.NodeScope("a"))
    assert chunk.scope == on(1)
    with pytest.raises(sk.ScopeViolationError):
        chunk.fetch(timeout=20)

    session.rescope(chunk, sk.AnyScope(), declassify=True)
    assert chunk.fetch(timeout=20) == "x"


def test_a_value_can_be_declassified_for_somewhere_else_entirely(session):
    chunk = session.tochunk("x", scope=on(1))
    session.rescope(chunk, on(3), declassify=True)

    assert chunk.scope == on(3)
    assert session.spawn(lambda _: sk.myid(), chunk).result(20) == 3


def test_to_unseal_must_be_said(session):
    chunk = session.tochunk("x", scope=on(1), sealed=True)
    with pytest.raises(sk.ScopeError, match="not sealed any more"):
        session.rescope(chunk, on(1))

    session.rescope(chunk, on(1), declassify=True)
    assert session.fetch(session.spawn(str.upper, chunk, result_scope=sk.AnyScope())) == "X"


def test_each_change_is_recorded_with_who_and_when(session):
    chunk = session.tochunk("x", scope=sk.NodeScope("a"))
    session.rescope(chunk, on(0))
    session.rescope(chunk, sk.AnyScope(), declassify=True)
    narrowed, widened = [r for r in session.rescopings if r.chunk == chunk.id]

    assert (narrowed.before, narrowed.after, narrowed.declassified) == (
        sk.NodeScope("a"),
        on(0),
        False,
    )
    assert (widened.before, widened.after, widened.declassified) == (on(0), sk.AnyScope(), True)
    assert getpass.getuser() in widened.by
    assert narrowed.at <= widened.at
    assert "ChunkRescoped" in {event["kind"] for event in session.events()}


def test_a_task_declassifies_what_it_made(session):
    patients = session.tochunk([3, 5, 4], scope=on(1), sealed=True)

    def mean(values):
        found = sk.tochunk(sum(values) / len(values))
        return sk.rescope(found, sk.AnyScope(), declassify=True)

    task = session.spawn(mean, patients)

    assert task.result(20) == 4
    assert session.spawn(lambda x: x + 1, task, scope=on(2)).result(20) == 5
    change = session.rescopings[-1]
    assert change.declassified
    assert "task mean" in change.by
    assert "worker 1" in change.by


def test_a_task_that_widens_unsaid_is_refused(session):
    def widen():
        return sk.rescope(sk.tochunk("x", scope=sk.ProcessScope()), sk.AnyScope())

    assert "declassify=True" in str(session.spawn(widen).exception(20))


def test_the_result_of_a_task_can_be_narrowed_and_is_not_made_again(session):
    task = session.spawn(list, "ab", scope=on(1))
    chunk = session.rescope(task, on(1))

    assert chunk.scope == on(1)
    with pytest.raises(sk.ScopeViolationError):
        task.result(20)


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (sk.ProcessScope(0) & sk.ProcessScope(1), sk.ScopeError),
        (sk.ProcessScope(77), sk.NoProcessorError),
        ("nonsense", sk.ScopeError),
    ],
)
def test_a_scope_that_cannot_be_is_refused_and_nothing_changes(session, scope, error):
    chunk = session.tochunk("x")

    with pytest.raises(error):
        session.rescope(chunk, scope)
    assert chunk.scope == sk.AnyScope()
    assert chunk.fetch(timeout=20) == "x"


def test_only_handles_are_rescoped(session):
    with pytest.raises(TypeError, match="rescope changes the scope of a task or chunk"):
        session.rescope("x", on(1))


def test_a_failed_task_has_no_value_to_rescope(session):
    failing = session.spawn(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        session.rescope(failing, on(1))
