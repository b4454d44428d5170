import threading
import weakref

import pytest

from scopekit.engine.store import Store
from scopekit.errors import ChunkLostError, ScopeViolationError
from scopekit.places import Process, Topology
from scopekit.scopes import AnyScope, ExactScope, NodeScope, ProcessScope, ThreadProc
from scopekit.wire.lending import Lender
from scopekit.wire.parcels import load_parcel

TOPOLOGY = Topology([Process.with_threads(0, "a"), Process.with_threads(1, "b")])
HERE = ThreadProc(0, 0)


@pytest.fixture
def store():
    return Store(0, TOPOLOGY)


class Thing:
    pass


def test_a_value_is_kept_as_it_is(store):
    thing = Thing()
    stored = store.put(1, thing, AnyScope(), HERE)

    assert store.value(1) is thing
    assert (stored.id, stored.scope, stored.processor) == (1, AnyScope(), HERE)
    assert stored.type.endswith("Thing")
    assert 1 in store
    assert len(store) == 1


def test_nothing_is_kept_outside_its_scope(store):
    with pytest.raises(ScopeViolationError):
        store.put(1, "secret", ProcessScope(1), HERE)

    assert 1 not in store


def test_a_value_is_given_to_those_in_its_scope_alone(store):
    store.put(1, [1, 2], AnyScope(), HERE)
    store.put(2, "secret", NodeScope("a"), HERE)
    stored, parcel = store.give(1, 1)

    assert load_parcel(parcel) == [1, 2]
    assert stored.id == 1
    with pytest.raises(ScopeViolationError) as caught:
        store.give(2, 1)
    assert "secret" not in str(caught.value)


def test_the_scope_is_asked_by_the_topology_of_now(store):
    store.put(1, "x", NodeScope("a"), HERE)
    with pytest.raises(ScopeViolationError):
        store.give(1, 2)
    store.topology = TOPOLOGY.with_process(Process.with_threads(2, "a"))

    assert store.give(1, 2)[0].id == 1


def test_a_value_that_does_not_pickle_stays_and_the_error_shows_no_value(store):
    store.put(1, {"secret": threading.Lock()}, AnyScope(), HERE)
    with pytest.raises(ScopeViolationError) as caught:
        store.give(1, 1)

    assert "does not pickle" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_is_not_there_is_said_to_be_lost(store):
    for ask in (store.value, store.describe, lambda chunk: store.give(chunk, 1)):
        with pytest.raises(ChunkLostError, match="chunk 9"):
            ask(9)


def test_dropping_lets_the_value_die(store):
    thing = Thing()
    gone = weakref.ref(thing)
    store.put(1, thing, AnyScope(), HERE)
    del thing
    store.drop([1, 999])

    assert gone() is None
    assert len(store) == 0


def test_a_finalizer_may_come_back(store):
    store.put(2, "other", AnyScope(), HERE)
    thing = Thing()
    weakref.finalize(thing, store.drop, [2])
    store.put(1, thing, AnyScope(), HERE)
    del thing
    store.clear()

    assert len(store) == 0


def test_a_second_id_for_a_value_keeps_it(store):
    thing = Thing()
    store.put(1, thing, ProcessScope(0), HERE)
    stored = store.alias(2, 1, HERE)
    store.drop([1])

    assert store.value(2) is thing
    assert stored.scope == ProcessScope(0)


# -- lending -----------------------------------------------------------------------

LARGE = b"x" * (1 << 20)


@pytest.fixture
def lending_store():
    lender = Lender()
    topology = Topology(
        [*(Process.with_threads(n, "a") for n in (0, 1, 2)), Process.with_threads(3, "b")]
    )
    yield Store(0, topology, lender), lender
    lender.close()


def test_a_large_value_lies_once_in_memory_for_all_of_a_node(lending_store):
    store, _ = lending_store
    store.put(1, LARGE, AnyScope(), HERE)
    first, second = (store.give(1, worker, lent=True)[1] for worker in (1, 2))

    assert first.loan == second.loan
    assert load_parcel(first.borrowed()) == LARGE


def test_a_small_value_goes_as_it_is(lending_store):
    store, _ = lending_store
    store.put(1, [1], AnyScope(), HERE)

    assert store.give(1, 1, lent=True)[1].loan is None


def test_who_cannot_read_what_is_lent_gets_the_bytes(lending_store):
    store, _ = lending_store
    store.put(1, LARGE, AnyScope(), HERE)
    parcel = store.give(1, 1)[1]

    assert parcel.loan is None
    assert load_parcel(parcel) == LARGE


@pytest.mark.parametrize(
    ("scope", "lent"),
    [
        (NodeScope("a"), True),
        (ProcessScope(0) | ProcessScope(1), False),
        (ExactScope(ThreadProc(0, 0)) | ExactScope(ThreadProc(1, 0)), False),
    ],
    ids=str,
)
def test_only_what_is_valid_in_every_process_of_the_node_lies_in_shared_memory(
    lending_store, scope, lent
):
    store, _ = lending_store
    store.put(1, LARGE, scope, HERE)

    assert (store.give(1, 1, lent=True)[1].loan is not None) == lent


def test_memory_is_free_again_once_the_last_name_of_a_value_is_dropped(lending_store):
    store, lender = lending_store
    store.put(1, LARGE, AnyScope(), HERE)
    store.alias(2, 1, HERE)
    loan = store.give(1, 1, lent=True)[1].loan
    store.drop([1])
    assert loan.stamp in lender._lent
    store.drop([2])

    assert loan.stamp not in lender._lent


def test_a_value_that_was_changed_in_place_is_lent_anew(lending_store):
    store, lender = lending_store
    value = bytearray(LARGE)
    store.put(1, value, AnyScope(), HERE)
    before = store.give(1, 1, lent=True)[1].loan
    value[0] = 0
    after = store.give(1, 2, lent=True)[1]

    assert load_parcel(after.borrowed()) == value
    assert before.stamp not in lender._lent


def test_what_was_borrowed_is_passed_on_where_it_lies(lending_store):
    store, lender = lending_store
    loan = lender.lend([b"pickle", LARGE])
    store.put(1, "value", AnyScope(), HERE, loan)

    assert store.give(1, 2, lent=True)[1].loan == loan
    assert load_parcel(store.give(1, 3)[1]) == "value"
    store.drop([1])
    assert loan.stamp in lender._lent


def test_where_nothing_more_can_be_lent_the_bytes_go(lending_store):
    store, lender = lending_store
    store.put(1, LARGE, AnyScope(), HERE)
    lender.close()

    assert load_parcel(store.give(1, 1, lent=True)[1]) == LARGE


def test_a_second_name_of_a_copy_has_its_home_here(store):
    """Nobody else has anything of that name."""
    store.put(1, [1], NodeScope("a"), ThreadProc(1, 0))

    stored = store.alias(2, 1, HERE)

    assert (stored.processor, stored.scope) == (HERE, NodeScope("a"))
    assert store.describe(1).processor == ThreadProc(1, 0)
    assert store.value(2) is store.value(1)
