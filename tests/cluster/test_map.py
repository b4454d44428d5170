"""Maps on real engines, from the client and from tasks."""

import itertools
import os
import sys
import time

import cloudpickle
import pytest

import scopekit as sk

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMIT = 30


class OnPurposeError(Exception):
    pass


def double(x):
    return 2 * x


def where(_):
    import scopekit

    return scopekit.myid()


def fail_at(x, bad):
    if x == bad:
        raise OnPurposeError(x)
    return x


def hold(path, started=None):
    """Run until a file appears; make another one first."""
    import pathlib
    import time

    if started is not None:
        pathlib.Path(started).touch()
    limit = time.monotonic() + 60
    while not pathlib.Path(path).exists() and time.monotonic() < limit:
        time.sleep(0.005)
    return "let go"


@pytest.mark.parametrize("given", [{}, {"chunksize": 1}, {"batch": 33}, {"buffersize": 7}])
def test_values_come_in_order(session, given):
    assert list(session.map(double, range(500), **given)) == list(range(0, 1000, 2))


def test_short_calls_share_tasks(session):
    before = session.statistics()["tasks"].get("done", 0)
    assert list(session.map(double, range(20_000))) == list(range(0, 40_000, 2))

    assert session.statistics()["tasks"]["done"] - before < 2000


def test_long_calls_go_to_all_processors(plain):
    def slow(_):
        time.sleep(0.05)
        return sk.myid()

    assert set(plain.map(slow, range(8))) == set(plain.workers)


def test_calls_run_where_the_options_say(session):
    assert set(session.map(where, range(40), scope=sk.ProcessScope(3))) == {3}
    with sk.with_options(scope=sk.NodeScope("a")):
        got = session.map(where, range(300))
    # also those that are sent after the block
    assert set(got) <= {0, 1}


def test_a_perimeter_bounds_calls_that_are_sent_after_its_block(session):
    with sk.perimeter(sk.NodeScope("b")):
        got = session.map(where, range(300))
    assert set(got) <= {2, 3}


@pytest.mark.parametrize("chunksize", [None, 1, 40])
def test_an_error_comes_at_its_turn_with_its_index(session, chunksize):
    got = session.map(fail_at, range(100), itertools.repeat(70), chunksize=chunksize)

    assert list(itertools.islice(got, 70)) == list(range(70))
    with pytest.raises(OnPurposeError) as caught:
        next(got)
    notes = "\n".join(caught.value.__notes__)
    assert "this is element 70 of the map" in notes
    assert "in fail_at" in notes


def test_each_chunk_among_the_inputs_is_used_where_it_is(session):
    chunks = [session.tochunk(i, scope=sk.ProcessScope(i)) for i in (3, 0, 2, 1)]

    assert list(session.map(lambda x: (x, sk.myid()), chunks)) == [(i, i) for i in (3, 0, 2, 1)]


def test_values_outside_their_scope_are_refused_at_their_turn(session):
    got = session.map(double, range(3), result_scope=sk.ProcessScope(1))

    with pytest.raises(sk.ScopeViolationError) as caught:
        next(got)
    assert "of the map" in caught.value.__notes__[-1]


def test_an_error_cancels_what_has_not_begun(session, tmp_path, until):
    gate = tmp_path / "open"
    begun = tmp_path / "begun"
    begun.mkdir()

    def work(i):
        if i == 0:
            raise OnPurposeError
        hold(str(gate), str(begun / str(i)))

    scope = sk.ExactScope(sk.ThreadProc(0, 1))
    got = session.map(work, range(20), scope=scope, buffersize=20, chunksize=1)
    with pytest.raises(OnPurposeError):
        next(got)
    gate.touch()
    until(lambda: not session.statistics()["busy"][0], "worker 0 has nothing to do")

    assert len(list(begun.iterdir())) < 19


def test_a_map_that_nobody_holds_is_cancelled(session, tmp_path, until):
    gate = tmp_path / "open"
    scope = sk.ExactScope(sk.ThreadProc(0, 1))
    got = session.map(hold, [str(gate)] * 20, scope=scope, buffersize=20, chunksize=1)
    before = session.statistics()["tasks"].get("cancelled", 0)

    del got
    until(lambda: session.statistics()["tasks"].get("cancelled", 0) > before, "it is cancelled")
    gate.touch()
    until(lambda: not session.statistics()["busy"][0], "worker 0 has nothing to do")


def test_a_task_can_map(session):
    def total(n):
        return sum(sk.map(double, range(n)))

    assert session.spawn(total, 300).result(LIMIT) == 300 * 299


def test_a_map_in_a_task_raises_at_the_element(session):
    def total():
        try:
            return list(sk.map(fail_at, range(10), itertools.repeat(4)))
        except OnPurposeError as error:
            return error.args, error.__notes__[-1]

    assert session.spawn(total).result(LIMIT) == ((4,), "this is element 4 of the map")


def test_a_map_in_a_task_in_a_map(session):
    def row(n):
        return list(sk.map(double, range(n)))

    got = list(session.map(row, range(20)))

    assert got == [[2 * i for i in range(n)] for n in range(20)]


def test_a_worker_that_dies_costs_no_value(tmp_path):
    def die_once(x, path):
        if x == 30 and not os.path.exists(path):  # noqa: PTH110
            os.mkdir(path)  # noqa: PTH102
            os._exit(1)
        return x

    with sk.start(2) as session:
        got = session.map(die_once, range(100), itertools.repeat(str(tmp_path / "died")))
        assert list(got) == list(range(100))
