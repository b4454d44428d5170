import pytest

from scopekit.errors import ScopeViolationError
from scopekit.guard import guard
from scopekit.places import Process, Topology
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    ExactScope,
    NodeScope,
    OSProc,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
)

TOPOLOGY = Topology(
    [
        Process.with_threads("client", "a"),
        Process.with_threads(0, "a"),
        Process.with_threads(1, "b"),
    ]
)


@pytest.mark.parametrize(
    ("scope", "asker"),
    [
        (AnyScope(), "client"),
        (NodeScope("a"), 0),
        (NodeScope("a"), "client"),
        (ProcessScope(1), 1),
        (ExactScope(ThreadProc(1, 0)), 1),
        (ExactScope(OSProc(1)), 1),
    ],
)
def test_whoever_lies_in_the_scope_may_have_the_chunk(scope, asker):
    guard(7, scope, asker, TOPOLOGY)


@pytest.mark.parametrize(
    ("scope", "asker"),
    [
        (NodeScope("a"), 1),
        (ProcessScope(1), "client"),
        (ProcessScope(1), 0),
        (ExactScope(ThreadProc(1, 3)), 1),
        (ProcessorTypeScope(CudaProc), 0),
        (ProcessScope(0) & ProcessScope(1), 0),
        (AnyScope(), 99),
    ],
)
def test_all_others_are_refused(scope, asker):
    with pytest.raises(ScopeViolationError, match="chunk 7 is valid only on"):
        guard(7, scope, asker, TOPOLOGY)


def test_a_worker_that_is_gone_may_have_nothing():
    with pytest.raises(ScopeViolationError):
        guard(7, ProcessScope(1), 1, TOPOLOGY.without(1))


def test_the_client_is_told_that_it_is_meant():
    with pytest.raises(ScopeViolationError, match="the client"):
        guard(7, ProcessScope(1), "client", TOPOLOGY)
