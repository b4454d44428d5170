"""Large values: once in the memory of a node, never through the client."""

import gc
import os
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import scopekit as sk
from scopekit import NodeScope, ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SIZE = 8_000_000


def make(value=1.0):
    return np.full(SIZE // 8, value)


def on(worker):
    return ProcessScope(worker)


def total(array):
    return float(array.sum())


def maps(_=None):
    """How many pieces of lent memory this process has mapped."""
    return sum("memfd:scopekit" in line for line in Path("/proc/self/maps").read_text().split("\n"))


def change(array):
    array[0] = 7


def lent():
    """How many pieces of memory this process lends, its card among them."""
    from scopekit.engine import entry

    (home,) = entry._homes.values()
    return len(home.agent._lender._lent)


# -- within a node ---------------------------------------------------------------------


def test_a_large_value_is_read_where_it_lies(plain):
    source = plain.spawn(make, scope=on(0))
    assert plain.spawn(total, source, scope=on(1)).result(30) == SIZE / 8

    assert plain.spawn(maps, source, scope=on(1)).result(30) == 1
    assert plain.options(single=0).spawn(lent).result(30) == 2


def test_it_is_free_everywhere_once_nobody_wants_it(plain, until):
    source = plain.spawn(make, scope=on(0))
    plain.spawn(total, source, scope=on(1)).result(30)
    source.result(30)
    del source
    gc.collect()

    until(lambda: plain.options(single=1).spawn(maps).result(30) == 0, "worker 1 lets it go")
    until(lambda: plain.options(single=0).spawn(lent).result(30) == 1, "worker 0 lends no more")
    assert maps() == 0


def test_a_shared_input_is_read_only_and_says_so(plain):
    source = plain.spawn(make, scope=on(0))

    with pytest.raises(ValueError, match="read-only") as caught:
        plain.spawn(change, source, scope=on(1)).result(30)
    assert "work on a copy" in "\n".join(caught.value.__notes__)


def test_what_is_fetched_is_one_s_own(plain):
    source = plain.spawn(make)
    mine = source.result(30)
    mine[0] = 7

    assert source.result(30)[0] == 1.0


def test_a_value_that_was_changed_where_it_lives_is_fetched_as_it_is_now(plain):
    source = plain.spawn(make, scope=on(0))
    assert source.result(30)[0] == 1.0
    plain.spawn(change, source, scope=on(0)).result(30)

    assert source.result(30)[0] == 7.0


def test_a_piece_of_a_shared_value_outlives_it(plain, until):
    def keep(array):
        import builtins

        builtins.kept = array[10:20]

    def look():
        import builtins

        return builtins.__dict__.pop("kept").tolist()

    source = plain.spawn(make, 3.0, scope=on(0))
    plain.spawn(keep, source, scope=on(1)).result(30)
    del source
    until(lambda: plain.options(single=0).spawn(lent).result(30) == 1, "worker 0 lends no more")
    others = [plain.spawn(make, 5.0, scope=on(0)) for _ in range(3)]
    for other in others:
        plain.spawn(total, other, scope=on(1)).result(30)

    assert plain.options(single=1).spawn(look).result(30) == [3.0] * 10


def test_what_is_valid_in_some_processes_alone_touches_no_shared_memory(plain):
    both = sk.UnionScope(on(0), on(1))
    source = plain.spawn(make, scope=on(0), result_scope=both)
    assert plain.spawn(total, source, scope=on(1)).result(30) == SIZE / 8

    assert plain.spawn(maps, source, scope=on(1)).result(30) == 0
    assert plain.options(single=0).spawn(lent).result(30) == 1


def test_large_bytes_texts_and_structures_arrive_whole(plain):
    def records():
        return np.zeros(50_000, [("x", "f8"), ("y", "i4")])

    for maker in (lambda: b"b" * SIZE, lambda: "t" * SIZE, lambda: [b"x" * 70_000] * 30, records):
        source = plain.spawn(maker, scope=on(0))
        size = plain.spawn(len, source, scope=on(1)).result(30)
        assert size == len(source.result(30))


# -- arguments ---------------------------------------------------------------------------


@pytest.fixture
def put(plain, monkeypatch):
    """Counts the bytes that go to engines as values, and how many are lent."""
    orders = []
    send = plain._driver._order

    def order(worker, order):
        if type(order).__name__ == "Put":
            orders.append((order.parcel.nbytes, order.parcel.loan is not None))
        send(worker, order)

    monkeypatch.setattr(plain._driver, "_order", order)
    return orders


def scaled(array, factor):
    return float(array.sum()) * factor


def test_a_large_argument_goes_to_each_engine_once(plain, put):
    data = make()
    tasks = [plain.spawn(scaled, data, n) for n in range(40)]

    assert plain.fetch(tasks, timeout=30) == [n * SIZE / 8 for n in range(40)]
    assert 1 <= len(put) <= 2
    assert all(is_lent for _, is_lent in put)


def test_an_argument_is_what_it_was_when_the_task_was_spawned(plain):
    data = make()
    before = plain.spawn(total, data)
    data[:] = 2.0
    after = plain.spawn(total, data)

    assert plain.fetch([before, after], timeout=30) == [SIZE / 8, SIZE / 4]


def test_what_a_task_does_to_its_argument_no_other_sees(plain):
    data = make()

    def first_after_change(array):
        array[0] += 1
        return float(array[0])

    tasks = [plain.spawn(first_after_change, data) for _ in range(10)]
    assert plain.fetch(tasks, timeout=30) == [2.0] * 10
    assert data[0] == 1.0


def test_large_buffers_are_found_wherever_they_lie_in_arguments(plain, put):
    def add(*groups, **named):
        return sum(float(a.sum()) for g in (*groups, *named.values()) for a in g)

    one, two = make(), make(2.0)
    task = plain.spawn(add, [one], {}, x=(one, two))

    assert task.result(30) == 4 * SIZE / 8
    assert {nbytes // SIZE for nbytes, _ in put} == {1}


def test_large_arguments_and_results_of_tasks_come_together(plain):
    def both(data, result):
        return float(data.sum() + result.sum())

    result = plain.spawn(make, scope=on(0))
    data = make(2.0)
    tasks = [plain.spawn(both, data, result, scope=on(n)) for n in (0, 1)]
    assert plain.fetch(tasks, timeout=30) == [3 * SIZE / 8] * 2


def test_large_arguments_are_let_go_of_with_their_tasks(plain, until):
    data = make()
    task = plain.spawn(total, data)
    assert task.result(30) == SIZE / 8
    (chunk,) = [chunk.id for _, chunk in plain._large._kept.values()]
    del data, task
    gc.collect()

    until(lambda: len(plain._lender._lent) == 1, "the client lends no more")
    until(lambda: chunk not in plain._driver.scheduler.chunks, "its record is gone")


def test_a_task_runs_again_with_its_large_argument(until):
    with sk.start(2) as session:
        data = make()
        held = session.spawn(total, data, scope=on(0) | on(1))
        held.wait(30)
        holder = held.worker
        listed = session.spawn(lambda x: [x], held, scope=on(holder))
        listed.wait(30)
        del data
        gc.collect()
        os.kill(session.topology.process(holder).pid, 9)
        until(lambda: holder not in session.workers, "the death is noticed")

        assert session.spawn(lambda x: x + 1, held).result(30) == SIZE / 8 + 1


# -- between nodes -----------------------------------------------------------------------


def test_pretended_nodes_share_no_memory(session):
    source = session.spawn(make, scope=on(0))
    assert session.spawn(total, source, scope=NodeScope("b")).result(30) == SIZE / 8

    there = session.spawn(maps, source, scope=on(2)).result(30)
    assert there == 0
    assert session.spawn(maps, source, scope=on(1)).result(30) == 1


# -- crashes -------------------------------------------------------------------------------


def test_nothing_is_left_of_what_a_dead_engine_lent(until):
    with sk.start(2) as session:
        source = session.spawn(make, scope=on(0))
        mine = source.result(30)
        assert maps() == 1
        os.kill(session.topology.process(0).pid, 9)
        until(lambda: 0 not in session.workers, "the death is noticed")
        again = session.spawn(total, source)
        with pytest.raises(sk.ChunkLostError):
            again.result(30)

        assert mine.sum() == SIZE / 8
        del mine
        gc.collect()
        assert maps() == 0
    assert not list(Path("/dev/shm").glob("scopekit*"))


def test_large_arguments_reach_other_nodes(session):
    data = make(2.0)
    tasks = [session.spawn(total, data, scope=on(worker)) for worker in (0, 1, 2, 3)]

    assert session.fetch(tasks, timeout=60) == [SIZE / 4] * 4
