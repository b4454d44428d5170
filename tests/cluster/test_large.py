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
