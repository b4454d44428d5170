"""The kinds of scope: their attributes, their errors, what they know of a session."""

import copy
from dataclasses import dataclass

import pytest
from test_scopes_ambient import StandIn

from scopekit.errors import ScopeError
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
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    TaintScope,
    ThreadProc,
    UnionScope,
    ambient,
    constrain,
)

TOPOLOGY = Topology(
    [
        Process.with_threads(0, "a", 2, labels=["camera"]),
        Process.with_threads(1, "b", 2),
        Process.with_threads("client", "a"),
    ]
)


@pytest.fixture
def session():
    before = ambient.set_provider(lambda: StandIn(TOPOLOGY))
    yield
    ambient.set_provider(before)


KINDS = [
    (AnyScope(), AnyScope),
    (InvalidScope(), InvalidScope),
    (NodeScope("a"), NodeScope),
    (ProcessScope(0), ProcessScope),
    (ProcessScope(0, node="a"), ProcessScope),
    (ProcessScope(0) & NodeScope("a"), ProcessScope),
    (ExactScope(ThreadProc(0, 1)), ExactScope),
    (ExactScope(ThreadProc(0, 1)) & NodeScope("a"), ExactScope),
    (ExactScope(OSProc(0)), ExactScope),
    (ProcessorTypeScope(OSProc, ProcessScope(0)), ExactScope),
    (DefaultScope(), TaintScope),
    (DefaultScope() & ExactScope(ThreadProc(0, 1)), ExactScope),
    (LabelScope("x"), TaintScope),
    (~ProcessScope(0), TaintScope),
    (UnionScope(ProcessScope(0), ProcessScope(1)), UnionScope),
    (UnionScope(ProcessScope(0), AnyScope()), AnyScope),
    (UnionScope([ProcessScope(0), ExactScope(ThreadProc(0, 0))]), ProcessScope),
    (ProcessScope(0) & ProcessScope(1), InvalidScope),
    (~InvalidScope(), AnyScope),
    (TaintScope(ProcessScope(0), []), ProcessScope),
]


@pytest.mark.parametrize(("a_scope", "kind"), KINDS)
def test_the_kind_follows_the_meaning(a_scope, kind):
    assert type(a_scope) is kind
    assert isinstance(a_scope, Scope)


def test_attributes():
    exact = ExactScope(ThreadProc(0, 1), node="a")

    assert NodeScope("a").node == "a"
    assert (ProcessScope(0).worker, ProcessScope(0).node) == (0, None)
    assert (exact.processor, exact.worker, exact.node) == (ThreadProc(0, 1), 0, "a")
    assert exact.parent == ProcessScope(0, node="a")
    assert exact.parent.parent == NodeScope("a")
    assert ProcessScope(0).parent == AnyScope()
    assert ProcessScope(OSProc(3)) == ProcessScope(3)


def test_the_parts_of_a_scope():
    p0, p1 = ProcessScope(0), ProcessScope(1)

    assert (p1 | p0).scopes == (p0, p1)
    assert p0.scopes == (p0,)
    assert AnyScope().scopes == (AnyScope(),)
    assert InvalidScope().scopes == ()
    assert (p0 | ExactScope(ThreadProc(1, 0)) | NodeScope("b")).scopes == (
        p0,
        ExactScope(ThreadProc(1, 0)),
        NodeScope("b"),
    )


def test_a_tainted_scope_names_its_taints():
    tainted = TaintScope(ProcessScope(0), ["default", ThreadProc, ("label", "x")])
    assert tainted.inner == ProcessScope(0)
    assert tainted.taints == (ThreadProc, ("label", "x"))

    exact = TaintScope(ExactScope(ThreadProc(0, 1)), [("label", "x")])
    assert exact.inner == ExactScope(ThreadProc(0, 1))
    assert exact.taints == (("label", "x"),)

    but = NodeScope("a") - ProcessScope(0)
    assert but.inner == NodeScope("a")
    assert but.taints == (~ProcessScope(0),)


def test_one_taint_needs_no_list():
    assert TaintScope(AnyScope(), "default") == DefaultScope()
    assert TaintScope(AnyScope(), ("label", "x")) == LabelScope("x")
    assert TaintScope(AnyScope(), [ThreadProc.kind]) == ProcessorTypeScope(ThreadProc)


@pytest.mark.parametrize(
    "taint", ["blah", 3, None, ("index", 1), ("index", -1), ("index", True), ("label", 3), int]
)
def test_other_taints_are_refused(taint):
    with pytest.raises(ScopeError, match=r"no taint|no label"):
        TaintScope(AnyScope(), [taint])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProcessScope("0"),
        lambda: ProcessScope(-1),
        lambda: ProcessScope(0, node=3),
        lambda: NodeScope(""),
        lambda: NodeScope(3),
        lambda: LabelScope(""),
        lambda: LabelScope(3),
        lambda: ProcessorTypeScope(int),
        lambda: ProcessorTypeScope("thread"),
        UnionScope,
    ],
)
def test_what_makes_no_sense_is_a_scope_error(make):
    with pytest.raises(ScopeError):
        make()
    with pytest.raises(ValueError, match=r".+"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        Scope,
        lambda: ExactScope(0),
        lambda: UnionScope(3),
        lambda: UnionScope(AnyScope(), "any"),
        lambda: TaintScope("any", []),
        lambda: constrain(AnyScope(), 3),
        lambda: constrain("any", AnyScope()),
        lambda: AnyScope() & 3,
        lambda: AnyScope() | "any",
        lambda: AnyScope() - None,
        lambda: AnyScope() <= 3,
        lambda: 3 in AnyScope(),
    ],
)
def test_what_is_no_scope_is_a_type_error(make):
    with pytest.raises(TypeError):
        make()


def test_the_error_names_the_operand():
    with pytest.raises(TypeError, match=r"operand 3 of constrain .* not 3 \(int\)"):
        constrain(AnyScope(), AnyScope(), 3)


def test_a_scope_cannot_be_changed():
    a_scope = ProcessScope(0)

    with pytest.raises(AttributeError, match="cannot be set"):
        a_scope.worker = 1
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del a_scope._form
    with pytest.raises(AttributeError):
        InvalidScope().operands = ()
    assert a_scope == ProcessScope(0)


def test_copies_are_the_scope_itself():
    a_scope = NodeScope("a") - ProcessScope(0)

    assert copy.copy(a_scope) is a_scope
    assert copy.deepcopy([a_scope])[0] is a_scope


def test_a_scope_equals_nothing_else():
    assert ProcessScope(0) != 0
    assert ProcessScope(0) != OSProc(0)
    assert ProcessScope(0) != ProcessScope(0, node="a")


# Invalid scopes


def test_an_invalid_scope_keeps_every_operand_with_its_origin():
    operands = [ProcessScope(0), AnyScope(), ProcessScope(1)]
    found = constrain(*operands, origins=["scope=", None, "argument x"])

    assert found.operands == tuple(zip(operands, ["scope=", None, "argument x"], strict=True))
    assert found.conflict == ((ProcessScope(0), "scope="), (ProcessScope(1), "argument x"))


def test_meeting_an_invalid_scope_joins_the_operands():
    none = ProcessScope(0) & ProcessScope(1)
    again = NodeScope("a") & none

    assert again.operands == (
        (NodeScope("a"), None),
        (ProcessScope(0), None),
        (ProcessScope(1), None),
    )


def test_an_invalid_scope_alone_is_the_conflict():
    found = constrain(AnyScope(), InvalidScope(), ProcessScope(0))

    assert found.conflict == ((InvalidScope(), None),)
    assert InvalidScope().conflict == ()


def test_three_scopes_can_clash_where_no_two_do():
    x, y = LabelScope("x"), LabelScope("y")
    found = constrain(ProcessScope(0), x | y, ~x, ~y)

    assert [scope for scope, _ in found.conflict] == [x | y, ~x, ~y]


def test_a_conflict_of_many_is_irreducible():
    labels = [LabelScope(text) for text in "uvwxy"]
    found = constrain(AnyScope(), UnionScope(labels), *(~label for label in labels))

    assert [scope for scope, _ in found.conflict] == [
        UnionScope(labels),
        *(~label for label in labels),
    ]


def test_invalid_scopes_are_equal_whatever_their_operands():
    one, other = ProcessScope(0) & ProcessScope(1), NodeScope("a") & NodeScope("b")

    assert one == other == InvalidScope()
    assert hash(one) == hash(other)
    assert one.operands != other.operands


def test_invalid_is_the_zero_of_union():
    none = ProcessScope(0) & ProcessScope(1)

    assert none | NodeScope("a") == NodeScope("a")
    assert (none | InvalidScope()).operands == none.operands


# Membership


def test_membership_that_needs_no_session():
    assert ThreadProc(0, 1) in ProcessScope(0)
    assert ThreadProc(0, 1) not in ProcessScope(1)
    assert ThreadProc(0, 1) in DefaultScope()
    assert ThreadProc("client", 1) not in DefaultScope()
    assert CudaProc(0, 0) not in DefaultScope()
    assert CudaProc(0, 0) in AnyScope()
    assert ThreadProc(0, 1) in ProcessScope(0) | NodeScope("a")
    assert ThreadProc(1, 1) not in ProcessScope(0) & NodeScope("a")


def test_membership_that_hangs_on_the_node_needs_a_session():
    with pytest.raises(ScopeError, match=r"depends on the node of worker 1.*start a session"):
        ThreadProc(1, 1) in ProcessScope(0) | NodeScope("a")  # noqa: B015 - this raises
    with pytest.raises(ScopeError, match=r"depends on the labels of worker 1"):
        ThreadProc(1, 1) in LabelScope("camera")  # noqa: B015 - this raises


def test_membership_in_a_session(session):
    assert ThreadProc(0, 1) in NodeScope("a")
    assert ThreadProc(1, 1) not in NodeScope("a")
    assert ThreadProc(0, 99) in NodeScope("a")
    assert ThreadProc(0, 0) in LabelScope("camera")
    assert ThreadProc(1, 0) not in LabelScope("camera")
    with pytest.raises(ScopeError, match="worker 7"):
        ThreadProc(7, 0) in NodeScope("a")  # noqa: B015 - this raises


# Order


def test_outside_a_session_a_subset_holds_under_every_topology():
    assert ProcessScope(0) <= ProcessScope(0) | NodeScope("a")
    assert ProcessScope(0) & NodeScope("a") < ProcessScope(0)
    assert not ProcessScope(0) <= NodeScope("a")
    assert not ProcessScope(0, node="b") <= NodeScope("a")
    assert NodeScope("a") > ProcessScope(0, node="a")
    assert AnyScope() >= DefaultScope()


def test_in_a_session_a_subset_holds_under_its_topology(session):
    assert AnyScope() <= NodeScope("a") | NodeScope("b")
    assert NodeScope("b") <= ProcessScope(1)
    assert not NodeScope("a") <= ProcessScope(0)


# Sessions


def test_in_a_session_a_process_knows_its_node(session):
    assert ProcessScope(0).node == "a"
    assert ProcessScope("client").node == "a"
    assert ExactScope(ThreadProc(1, 0)).node == "b"
    assert NodeScope("a") & ProcessScope(0) == ProcessScope(0)
    assert NodeScope("b") & ProcessScope(0) == InvalidScope()
    assert ProcessScope(7).node is None
    assert ProcessScope(0, node="b").node == "b"


def test_outside_a_session_a_topology_decides():
    both = NodeScope("b") & ProcessScope(0)

    assert both != InvalidScope()
    assert both.processors(TOPOLOGY) == ()
    assert (NodeScope("a") & ProcessScope(0)).processors(TOPOLOGY) == (
        ThreadProc(0, 0),
        ThreadProc(0, 1),
    )


def test_no_argument_means_here(session):
    assert ProcessScope() == ProcessScope("client")
    assert NodeScope() == NodeScope("a")


def test_here_means_nothing_outside_a_session():
    with pytest.raises(ScopeError, match="no session"):
        ProcessScope()
    with pytest.raises(ScopeError, match="no session"):
        NodeScope()


def test_here_may_be_on_an_unknown_node():
    before = ambient.set_provider(lambda: StandIn(TOPOLOGY, here=7))
    try:
        with pytest.raises(ScopeError, match="does not know this process's node"):
            NodeScope()
    finally:
        ambient.set_provider(before)


def test_processors_need_a_topology(session):
    assert ProcessScope(1).processors() == (ThreadProc(1, 0), ThreadProc(1, 1))

    ambient.set_provider(None)
    with pytest.raises(ScopeError, match="start one with"):
        ProcessScope(1).processors()


def test_a_node_can_be_given_by_an_object_with_a_name():
    @dataclass
    class Machine:
        name: str

    assert NodeScope(Machine("a")) == NodeScope("a")
    assert ProcessScope(0, node=Machine("a")) == ProcessScope(0, node="a")


def test_many_labels_make_no_deep_pickle():
    import pickle

    union = UnionScope(LabelScope(f"label {number}") for number in range(150))

    assert pickle.loads(pickle.dumps(union)) == union
    assert len(union.scopes) == 150
