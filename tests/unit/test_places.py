"""Topologies are immutable snapshots, and scopes are bits over them."""

import pickle

import pytest

from scopekit.errors import ScopeError
from scopekit.places import Node, Process, Topology
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    OSProc,
    ProcessScope,
    ThreadProc,
    UnionScope,
)

CLIENT = Process.with_threads("client", "a")
ZERO = Process(0, "a", (ThreadProc(0, 0), ThreadProc(0, 1), CudaProc(0, 0)), ("camera",))
ONE = Process.with_threads(1, "b", 2)


@pytest.fixture
def topology():
    return Topology([CLIENT, ZERO, ONE])


def test_what_a_topology_holds(topology):
    assert topology.workers == (0, 1)
    assert topology.nodes == ("a", "b")
    assert topology.processors == (*CLIENT.processors, *ZERO.processors, *ONE.processors)
    assert topology.everything == 0b111111
    assert topology.process(1) is ONE
    assert topology.process(7) is None
    assert [topology.node_of(worker) for worker in ("client", 0, 1, 7)] == ["a", "a", "b", None]
    assert topology.labels_of(0) == ("camera",)
    assert topology.labels_of(1) == ()
    assert topology.labels_of(7) is None
    assert repr(topology) == "<Topology 0: 6 processors of 3 processes on 2 nodes>"


def test_bits_follow_the_order_of_processors(topology):
    for number, processor in enumerate(topology.processors):
        assert topology.bit(processor) == number
        assert topology.mask(ExactScope(processor)) == 1 << number
        assert topology.select(1 << number) == (processor,)
    assert topology.bit(ThreadProc(7, 0)) is None
    assert topology.select(0) == ()
    assert topology.select(topology.everything) == topology.processors


MASKS = [
    (AnyScope(), 0b111111),
    (InvalidScope(), 0),
    (DefaultScope(), 0b110110),
    (NodeScope("a"), 0b001111),
    (NodeScope("c"), 0),
    (ProcessScope(0), 0b001110),
    (ProcessScope(0, node="b"), 0),
    (LabelScope("camera"), 0b001110),
    (LabelScope("other"), 0),
    (~ProcessScope(0), 0b110001),
    (ProcessScope(1) | NodeScope("a"), 0b111111),
    (ExactScope(ThreadProc(1, 9)), 0),
    (ExactScope(OSProc(0)), 0),
]


@pytest.mark.parametrize(("scope", "mask"), MASKS)
def test_the_mask_of_a_scope(topology, scope, mask):
    assert topology.mask(scope) == mask
    assert topology.mask(scope) == mask


def test_a_worker_mask(topology):
    assert topology.worker_mask("client") == 0b000001
    assert topology.worker_mask(0) == 0b001110
    assert topology.worker_mask(7) == 0


def test_a_full_cache_is_emptied(topology, monkeypatch):
    monkeypatch.setattr("scopekit.places._CACHED", 2)

    for worker in range(5):
        assert topology.mask(ProcessScope(worker)) == topology.worker_mask(worker)
        assert len(topology._compiled) <= 2


def test_a_process_admits_what_any_of_its_processors_may_see(topology):
    assert topology.admits(ExactScope(ThreadProc(0, 1)), 0)
    assert not topology.admits(ExactScope(ThreadProc(0, 1)), 1)
    assert not topology.admits(InvalidScope(), 0)
    assert topology.admits(NodeScope("a"), "client")
    assert not topology.admits(DefaultScope(), "client")
    assert not topology.admits(AnyScope(), 7)


def test_a_process_admits_what_is_on_it_as_a_place(topology):
    assert topology.admits(ExactScope(OSProc(0)), 0)
    assert not topology.admits(ExactScope(OSProc(0)), 1)
    assert not topology.admits(ExactScope(OSProc(7)), 7)
    assert Topology([Process(0, "a")]).admits(NodeScope("a"), 0)


def test_membership_of_processors_that_run_no_tasks(topology):
    assert topology.contains(NodeScope("a"), OSProc(0))
    assert topology.contains(LabelScope("camera"), OSProc(0))
    assert not topology.contains(LabelScope("camera"), OSProc(1))
    assert not topology.contains(NodeScope("b"), OSProc(0))
    assert not topology.contains(AnyScope(), OSProc(7))


def test_a_change_makes_another_topology(topology):
    two = Process.with_threads(2, "c")
    grown = topology.with_process(two)

    assert grown.workers == (0, 1, 2)
    assert grown.nodes == ("a", "b", "c")
    assert (topology.version, grown.version) == (0, 1)
    assert topology.workers == (0, 1)
    assert grown.mask(ProcessScope(2)) == 0b1000000
    assert topology.mask(ProcessScope(2)) == 0


def test_the_dead_are_remembered(topology):
    shrunk = topology.without(0)

    assert shrunk.workers == (1,)
    assert shrunk.departed == (0,)
    assert shrunk.knows(0)
    assert shrunk.knows("client")
    assert not shrunk.knows(7)
    assert shrunk.node_of(0) is None
    assert shrunk.processors == (*CLIENT.processors, *ONE.processors)
    assert shrunk.mask(ProcessScope(0)) == 0
    assert shrunk.mask(ProcessScope(1)) == 0b110
    assert shrunk.version == 1
    assert shrunk.without(0) is shrunk


def test_a_process_is_replaced_in_its_place(topology):
    replaced = topology.with_process(Process.with_threads(0, "c"))

    assert replaced.workers == (0, 1)
    assert replaced.node_of(0) == "c"
    assert topology.without(0).with_process(ZERO).departed == ()


def test_labels_change(topology):
    labelled = topology.with_labels(1, ["z", "x", "z"])

    assert labelled.labels_of(1) == ("x", "z")
    assert labelled.mask(LabelScope("x")) == labelled.worker_mask(1)
    with pytest.raises(ScopeError, match="no worker 7 to label"):
        topology.with_labels(7, [])


def test_a_topology_pickles_without_its_cache(topology):
    topology.mask(UnionScope(ProcessScope(0), ProcessScope(1)))
    small = len(pickle.dumps(Topology([CLIENT, ZERO, ONE])))
    copied = pickle.loads(pickle.dumps(topology))

    assert len(pickle.dumps(topology)) == small
    assert copied == topology
    assert hash(copied) == hash(topology)
    assert copied.mask(ProcessScope(1)) == topology.mask(ProcessScope(1))
    assert copied != topology.without(0)
    assert copied != "topology"


def test_a_process_holds_its_own_processors_once():
    with pytest.raises(ScopeError, match="cannot be a processor of worker 0"):
        Process(0, "a", (ThreadProc(1, 0),))
    with pytest.raises(ScopeError, match="listed twice"):
        Process(0, "a", (ThreadProc(0, 0), ThreadProc(0, 0)))
    with pytest.raises(ScopeError, match="names no worker"):
        Process("zero", "a")


def test_a_worker_is_listed_once():
    with pytest.raises(ScopeError, match="listed twice"):
        Topology([ONE, ONE])


def test_an_empty_topology():
    empty = Topology()

    assert empty.everything == 0
    assert empty.mask(AnyScope()) == 0
    assert empty.select(0) == ()
    assert empty.worker_mask(0) == 0
    assert empty.workers == empty.nodes == ()


def test_a_node_is_a_value():
    assert Node("a", "1") == Node("a", "1") != Node("a", "2")
    assert NodeScope(Node("a", "1")) == NodeScope("a")
