"""What the laws are tried on: scopes of every kind, and topologies of every sort.

A `Built` scope keeps what it should mean beside the scope itself: a test of
one processor that follows how it was built, and knows nothing of forms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

from hypothesis import strategies as st

from scopekit.places import Process, Topology
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    OSProc,
    Processor,
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    TaintScope,
    ThreadProc,
    UnionScope,
    constrain,
    processor_type,
    scope,
    sealed,
)

WORKERS = (0, 1, 2, "client")
NODES = ("a", "b")
LABELS = ("camera", "licence")
INDEXES = (0, 1)
OptIn = processor_type("laws_opt_in")
Enabled = processor_type("laws_enabled", default_enabled=True)
TYPES = (ThreadProc, CudaProc, OSProc, OptIn, Enabled)

# Names that no scope mentions: what holds for all others must hold for these.
FRESH_WORKER, FRESH_NODE, FRESH_INDEX = 9, "fresh", 9
FreshOptIn = processor_type("laws_fresh_opt_in")
FreshEnabled = processor_type("laws_fresh_enabled", default_enabled=True)


@dataclass(frozen=True)
class Place:
    """A processor with all that a scope may ask of it."""

    processor: Processor
    node: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """A scope beside what it should mean."""

    scope: Scope
    admits: Callable[[Place], bool]
    how: str

    def __repr__(self):
        return self.how


def make(kind, worker, index):
    return kind(worker) if kind is OSProc else kind(worker, index)


def is_default(place):
    return type(place.processor) in (ThreadProc, Enabled, FreshEnabled) and (
        place.processor.worker != "client"
    )


workers = st.sampled_from(WORKERS)
nodes = st.sampled_from(NODES)
kinds = st.sampled_from(TYPES)
processors = st.builds(make, kinds, workers, st.sampled_from(INDEXES))


@st.composite
def leaves(draw):
    shape = draw(st.sampled_from(sorted(_LEAVES)))
    return _LEAVES[shape](draw)


def _any(draw):
    return Built(AnyScope(), lambda place: True, "any")


def _nothing(draw):
    return Built(InvalidScope(), lambda place: False, "nothing")


def _default(draw):
    return Built(DefaultScope(), is_default, "default")


def _node(draw):
    node = draw(nodes)
    return Built(NodeScope(node), lambda place: place.node == node, f"node({node})")


def _process(draw):
    worker = draw(workers)
    return Built(
        ProcessScope(worker), lambda place: place.processor.worker == worker, f"process({worker})"
    )


def _located_process(draw):
    worker, node = draw(workers), draw(nodes)
    return Built(
        ProcessScope(worker, node=node),
        lambda place: place.processor.worker == worker and place.node == node,
        f"process({worker}@{node})",
    )


def _exact(draw):
    processor = draw(processors)
    return Built(
        ExactScope(processor), lambda place: place.processor == processor, f"exact({processor})"
    )


def _located_exact(draw):
    processor, node = draw(processors), draw(nodes)
    return Built(
        ExactScope(processor, node=node),
        lambda place: place.processor == processor and place.node == node,
        f"exact({processor}@{node})",
    )


def _type(draw):
    kind = draw(kinds)
    return Built(
        ProcessorTypeScope(kind),
        lambda place: isinstance(place.processor, kind),
        f"type({kind.__name__})",
    )


def _label(draw):
    label = draw(st.sampled_from(LABELS))
    return Built(LabelScope(label), lambda place: label in place.labels, f"label({label})")


def _thread(draw):
    index = draw(st.sampled_from(INDEXES))
    return Built(
        scope(thread=index),
        lambda place: isinstance(place.processor, ThreadProc) and place.processor.index == index,
        f"thread({index})",
    )


def _worker_record(draw):
    chosen = draw(st.lists(workers, min_size=1, max_size=3))
    return Built(
        scope(workers=chosen),
        lambda place: isinstance(place.processor, ThreadProc) and place.processor.worker in chosen,
        f"workers({chosen})",
    )


def _sealed(draw):
    inner = draw(st.sampled_from([_any, _process, _node]))(draw)
    return Built(sealed(inner.scope), inner.admits, f"sealed({inner})")


_LEAVES = {
    "any": _any,
    "default": _default,
    "exact": _exact,
    "label": _label,
    "located exact": _located_exact,
    "located process": _located_process,
    "node": _node,
    "nothing": _nothing,
    "process": _process,
    "sealed": _sealed,
    "thread": _thread,
    "type": _type,
    "worker record": _worker_record,
}


def _both(a, b):
    return Built(a.scope & b.scope, lambda p: a.admits(p) and b.admits(p), f"({a} & {b})")


def _either(a, b):
    return Built(a.scope | b.scope, lambda p: a.admits(p) or b.admits(p), f"({a} | {b})")


def _but(a, b):
    return Built(a.scope - b.scope, lambda p: a.admits(p) and not b.admits(p), f"({a} - {b})")


def _not(a):
    return Built(~a.scope, lambda p: not a.admits(p), f"~{a}")


def _union(members):
    return Built(
        UnionScope(member.scope for member in members),
        lambda p: any(member.admits(p) for member in members),
        f"union{members}",
    )


def _constrained(members):
    return Built(
        constrain(*(member.scope for member in members)),
        lambda p: all(member.admits(p) for member in members),
        f"constrain{members}",
    )


def _tainted(inner, kind, label):
    return Built(
        TaintScope(inner.scope, ("default", kind, ("label", label))),
        lambda p: (
            inner.admits(p)
            and is_default(p)
            and isinstance(p.processor, kind)
            and label in p.labels
        ),
        f"taint({inner}, default, {kind.__name__}, {label})",
    )


def _grown(smaller):
    # Unions come first and twice: intersections of intersections hold nothing.
    return st.one_of(
        st.builds(_either, smaller, smaller),
        st.builds(_both, smaller, smaller),
        st.builds(_either, smaller, smaller),
        st.builds(_but, smaller, smaller),
        st.builds(_not, smaller),
        st.builds(_union, st.lists(smaller, min_size=1, max_size=3)),
        st.builds(_constrained, st.lists(smaller, min_size=2, max_size=3)),
        st.builds(_tainted, smaller, kinds, st.sampled_from(LABELS)),
    )


def _nested(depth):
    # By hand, as st.recursive throws away most of what it draws here.
    if not depth:
        return leaves()
    smaller = _nested(depth - 1)
    return st.one_of(leaves(), smaller, _grown(smaller))


built_scopes = _nested(3)
scopes = built_scopes.map(lambda built: built.scope)


@st.composite
def topologies(draw):
    """Some of the workers alive, each on a node, with processors and labels."""
    alive = draw(st.lists(st.sampled_from((*WORKERS, FRESH_WORKER)), unique=True))
    return Topology(
        Process(
            worker,
            draw(st.sampled_from((*NODES, FRESH_NODE))),
            tuple(make(*found) for found in draw(_processors_of(worker))),
            tuple(draw(st.lists(st.sampled_from(LABELS), unique=True))),
        )
        for worker in alive
    )


def _processors_of(worker):
    every = [
        (kind, worker, index)
        for kind in (*TYPES, FreshOptIn, FreshEnabled)
        for index in (INDEXES if kind is not OSProc else (0,))
    ]
    return st.lists(st.sampled_from(every), unique=True, max_size=6)


def places_of(topology):
    """Every processor of the topology, in its order, with all that a scope may ask of it."""
    return [
        Place(processor, process.node, process.labels)
        for process in topology.processes
        for processor in process.processors
    ]


def _rich_topology(node, labels):
    return Topology(
        Process(
            worker,
            node,
            tuple(
                make(kind, worker, index)
                for kind in (*TYPES, FreshOptIn, FreshEnabled)
                for index in ((*INDEXES, FRESH_INDEX) if kind is not OSProc else (0,))
            ),
            labels,
        )
        for worker in (*WORKERS, FRESH_WORKER)
    )


RICH_FAMILY = tuple(
    _rich_topology(node, labels)
    for node in (*NODES, FRESH_NODE)
    for size in range(len(LABELS) + 1)
    for labels in combinations(LABELS, size)
)
"""Topologies that hold, together, a processor of every sort that the scopes can tell apart."""
