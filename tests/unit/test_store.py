import threading
import weakref

import pytest

from scopekit.engine.store import Store
from scopekit.errors import ChunkLostError, ScopeViolationError
from scopekit.places import Process, Topology
from scopekit.scopes import AnyScope, NodeScope, ProcessScope, ThreadProc
from scopekit.wire.codec import load_value

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
    stored, pickled = store.give(1, 1)

    assert load_value(pickled) == [1, 2]
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
    stored = store.alias(2, 1)
    store.drop([1])

    assert store.value(2) is thing
    assert stored.scope == ProcessScope(0)
