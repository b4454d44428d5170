import pytest

from scopekit.errors import NoProcessorError, ScopeConflictError
from scopekit.places import Process, Topology
from scopekit.scheduler.placement import allowed_mask, explain, never_meet, refusal
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
)

TOPOLOGY = Topology(
    [
        Process.with_threads(0, "a", 2),
        Process.with_threads(1, "a", 2),
        Process(2, "b", (ThreadProc(2, 0), CudaProc(2, 0))),
    ]
)
MEET = (("scope=", NodeScope("a")), ("argument 'cam'", ProcessScope(1)))
CLASH = (("scope=", NodeScope("b")), ("perimeter", DefaultScope()), ("argument 1", ProcessScope(1)))


def test_the_mask_is_what_every_operand_allows():
    assert TOPOLOGY.select(allowed_mask(MEET, TOPOLOGY)) == (ThreadProc(1, 0), ThreadProc(1, 1))
    assert allowed_mask((), TOPOLOGY) == TOPOLOGY.everything
    assert allowed_mask(CLASH, TOPOLOGY) == 0


@pytest.mark.parametrize(
    ("scopes", "never"),
    [
        ((ProcessScope(0), ProcessScope(1)), True),
        ((NodeScope("b"), ProcessScope(0)), True),
        ((NodeScope("c"), ProcessScope(9)), False),
        ((NodeScope("c"),), False),
        ((ProcessorTypeScope(CudaProc), DefaultScope()), True),
        ((ProcessorTypeScope(CudaProc), NodeScope("a")), False),
        ((AnyScope(),), False),
        ((), False),
    ],
)
def test_scopes_never_meet_if_no_worker_to_come_could_satisfy_them(scopes, never):
    assert never_meet([("scope=", scope) for scope in scopes], TOPOLOGY) is never


def test_a_conflict_names_the_smallest_pair_that_clashes():
    error = refusal("t", CLASH, TOPOLOGY)

    assert isinstance(error, ScopeConflictError)
    assert "scope= allows" in str(error)
    assert "argument 1 allows" in str(error)
    assert "perimeter" not in str(error)


def test_one_scope_that_is_impossible_alone_is_named_alone():
    operands = (("scope=", AnyScope()), ("perimeter", ProcessScope(0) & ProcessScope(1)))
    text = str(refusal("t", operands, TOPOLOGY))

    assert "perimeter allows" in text
    assert "scope= allows" not in text


def test_a_missing_processor_is_said_with_what_there_is():
    gone = TOPOLOGY.without(1)
    error = refusal("t", (("scope=", ProcessScope(1)),), gone)

    assert isinstance(error, NoProcessorError)
    assert "Gone for good: worker 1" in str(error)
    assert "workers 0, 2 on the nodes a, b" in str(error)
    assert "0 of 4 processors" in str(error)


def test_the_counts_of_an_explanation_add_up():
    for operands in (MEET, CLASH, ()):
        told = explain("t", operands, TOPOLOGY, outcome="placed")

        assert told.candidates == sum(op.removed for op in told.operands) + len(told.left)


def test_an_explanation_tells_what_each_operand_would_allow_alone():
    told = explain("t", CLASH, TOPOLOGY, outcome="conflict")

    assert [op.allowed for op in told.operands] == [2, 5, 2]
    assert [op.removed for op in told.operands] == [4, 1, 1]
    assert dict(told.widening()) == {"scope=": 2, "argument 1": 1}


def test_without_a_word_of_where_the_default_would_count():
    apart = (("scope=", ProcessScope(0)), ("argument 1", NodeScope("b")))
    told = explain("t", apart, TOPOLOGY, outcome="conflict")
    both = explain("t", (("single=", ProcessScope(0)), *apart), TOPOLOGY, outcome="conflict")

    # Not the GPU, which nobody asked for.
    assert dict(told.widening()) == {"scope=": 1, "argument 1": 2}
    assert dict(both.widening()) == {"argument 1": 2}
