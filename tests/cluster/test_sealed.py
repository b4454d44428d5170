"""Sealed values: what is computed from them, printed or raised stays where they are valid."""

import secrets
import traceback

import pytest

import scopekit as sk

INSIDE = sk.ProcessScope(1)


def on(worker):
    return sk.ProcessScope(worker)


@pytest.fixture
def secret(session):
    marker = secrets.token_hex(12)
    return marker, session.tochunk({"key": marker}, scope=INSIDE, sealed=True)


def test_the_result_of_a_task_with_a_sealed_input_is_sealed(session, secret):
    _, chunk = secret
    copied = session.spawn(lambda d: d["key"], chunk)
    again = session.spawn(str.upper, copied)

    assert chunk.scope == sk.sealed(INSIDE)
    with pytest.raises(sk.ScopeViolationError):
        copied.result(20)
    with pytest.raises(sk.ScopeViolationError):
        again.result(20)
    assert again.worker == 1
    handle = session.fetch(again, raw=True)
    assert handle.scope == sk.sealed(INSIDE)
    assert session.spawn(len, chunk, scope=on(1)).exception(20) is not None


def test_a_result_scope_does_not_widen_what_is_sealed(session, secret):
    _, chunk = secret
    task = session.spawn(len, chunk, result_scope=sk.AnyScope())
    task.wait(20)

    assert session.fetch(task, raw=True).scope == sk.sealed(INSIDE)


def test_sealed_values_meet_where_all_of_them_are_valid(session):
    node = session.tochunk(1, scope=sk.NodeScope("a"), sealed=True)
    process = session.tochunk(2, scope=sk.sealed(on(0) | on(2)))
    total = session.spawn(lambda a, b: a + b, node, process)
    total.wait(20)

    assert total.worker == 0
    assert session.fetch(total, raw=True).scope == sk.sealed(sk.NodeScope("a") & (on(0) | on(2)))


def test_a_chunk_that_a_sealed_task_makes_is_sealed(session, secret):
    _, chunk = secret
    task = session.spawn(lambda d: sk.tochunk(d["key"]), chunk)
    task.wait(20)

    assert session.fetch(task, raw=True).scope == sk.sealed(INSIDE)


def test_what_a_sealed_task_prints_stays_where_it_ran(session, secret, capfd):
    marker, chunk = secret

    def tell(d):
        import sys
        import threading

        print(d["key"])
        print(d["key"], file=sys.stderr)
        thread = threading.Thread(target=print, args=(d["key"],))
        thread.start()
        thread.join()

    task = session.spawn(tell, chunk)
    task.wait(20)
    session.spawn(print, "after", scope=on(1)).wait(20)

    told = "".join(capfd.readouterr())
    assert marker not in told + task.stdout + task.stderr
    assert "stays on" in task.stderr
    assert "worker 1" in task.stderr


def test_the_text_of_an_error_of_a_sealed_task_stays_where_it_was_raised(session, secret):
    marker, chunk = secret

    def fail(d):
        raise ValueError(d["key"])

    task = session.spawn(fail, chunk)
    follower = session.spawn(str, task)
    with pytest.raises(sk.RemoteError, match="ValueError") as caught:
        task.result(20)

    assert marker not in "".join(traceback.format_exception(caught.value))
    assert marker not in "".join(traceback.format_exception(follower.exception(20)))
    assert "sealed" in str(caught.value)


def test_a_sealed_value_that_cannot_be_read_says_nothing_of_itself(session):
    marker = secrets.token_hex(12)

    class Unreadable:
        def __reduce__(self):
            return (int, (marker,))

    chunk = session.tochunk(Unreadable(), scope=INSIDE, sealed=True)
    error = session.spawn(str, chunk).exception(20)

    assert error is not None
    assert marker not in "".join(traceback.format_exception(error))


def test_a_sealed_task_cannot_spawn(session, secret):
    marker, chunk = secret

    def spread(d):
        try:
            sk.spawn(str, d["key"])
        except sk.ScopeViolationError as error:
            return sk.rescope(sk.tochunk(str(error)), sk.AnyScope(), declassify=True)

    task = session.spawn(spread, chunk)

    assert "sealed input and cannot spawn" in task.result(20)
    assert marker not in task.result(20)


def test_tasks_without_sealed_inputs_print_and_raise_as_ever(session, secret):
    _, chunk = secret
    session.spawn(len, chunk).wait(20)
    task = session.spawn(print, "seen", scope=on(1))
    task.wait(20)

    assert task.stdout == "seen\n"
