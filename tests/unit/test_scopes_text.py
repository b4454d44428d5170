"""How scopes read: expressions, words, HTML."""

import pytest
from test_scopes_ambient import StandIn

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
    ThreadProc,
    UnionScope,
    ambient,
    scope,
)

READINGS = [
    (AnyScope(), "AnyScope()", "any"),
    (InvalidScope(), "InvalidScope()", "nothing"),
    (DefaultScope(), "DefaultScope()", "default"),
    (NodeScope("a"), "NodeScope('a')", "node a"),
    (ProcessScope(0), "ProcessScope(0)", "worker 0"),
    (ProcessScope("client"), "ProcessScope('client')", "client"),
    (ProcessScope(0, node="a"), "ProcessScope(0, node='a')", "worker 0, node a"),
    (ExactScope(ThreadProc(0, 1)), "ExactScope(ThreadProc(0, 1))", "worker 0, thread 1"),
    (ExactScope(OSProc(0)), "ExactScope(OSProc(0))", "worker 0, os"),
    (ProcessorTypeScope(ThreadProc), "ProcessorTypeScope(ThreadProc)", "threads"),
    (
        ProcessorTypeScope(CudaProc, ProcessScope(0)),
        "ProcessorTypeScope(CudaProc, ProcessScope(0))",
        "the cuda processors of worker 0",
    ),
    (scope(thread=1), "scope(thread=1)", "thread 1"),
    (
        scope(thread=1) & NodeScope("a"),
        "TaintScope(NodeScope('a'), (ThreadProc, ('index', 1)))",
        "node a, thread 1",
    ),
    (LabelScope("x"), "LabelScope('x')", "label x"),
    (
        LabelScope("x") & ProcessScope(0),
        "TaintScope(ProcessScope(0), (('label', 'x'),))",
        "worker 0, label x",
    ),
    (
        DefaultScope() & ProcessorTypeScope(ThreadProc),
        "TaintScope(AnyScope(), ('default', ThreadProc))",
        "default, threads",
    ),
    (
        ProcessorTypeScope(CudaProc) - ProcessScope("client"),
        "ProcessorTypeScope(CudaProc) - ProcessScope('client')",
        "cuda processors but not client",
    ),
    (
        ProcessScope(1) | ProcessScope(0),
        "UnionScope(ProcessScope(0), ProcessScope(1))",
        "worker 0 or worker 1",
    ),
    (
        ProcessScope(0) | NodeScope("b"),
        "UnionScope(ProcessScope(0), NodeScope('b'))",
        "worker 0 or node b",
    ),
    (
        ExactScope(ThreadProc(0, 1)) | NodeScope("b"),
        "UnionScope(ExactScope(ThreadProc(0, 1)), NodeScope('b'))",
        "worker 0, thread 1 or node b",
    ),
    (~ProcessScope(0), "~ProcessScope(0)", "any but not worker 0"),
    (~ProcessScope(0, node="a"), "~ProcessScope(0, node='a')", "any but not (worker 0, node a)"),
    (
        NodeScope("a") - ProcessScope(0) - ProcessScope(1),
        "NodeScope('a') - ProcessScope(0) - ProcessScope(1)",
        "node a but not worker 0 nor worker 1",
    ),
    (
        DefaultScope() - ExactScope(ThreadProc(0, 1)),
        "DefaultScope() - ExactScope(ThreadProc(0, 1))",
        "default but not (worker 0, thread 1)",
    ),
    (
        ProcessorTypeScope(ThreadProc) - ExactScope(ThreadProc(0, 0)),
        "ProcessorTypeScope(ThreadProc) - ExactScope(ThreadProc(0, 0))",
        "threads but not (worker 0, thread 0)",
    ),
    (~DefaultScope(), "~DefaultScope()", "any but not default"),
    (
        DefaultScope() | ProcessScope("client"),
        "UnionScope(ProcessScope('client'), DefaultScope())",
        "client or default",
    ),
]


@pytest.mark.parametrize(("a_scope", "expression", "words"), READINGS)
def test_expression_and_words(a_scope, expression, words):
    assert repr(a_scope) == expression
    assert a_scope.describe() == words


def test_long_unions_are_abbreviated():
    union = UnionScope(ProcessScope(worker) for worker in range(1000))

    assert repr(union).startswith("UnionScope(ProcessScope(0), ProcessScope(1), ")
    assert repr(union).endswith("ProcessScope(7), … 992 more)")
    assert union.describe().endswith("worker 7 or 992 more")
    assert repr(~union).endswith(" - ProcessScope(7) - … 992 more")
    assert (~union).describe().endswith(" nor worker 7 nor 992 more")


@pytest.fixture
def session():
    topology = Topology(
        [
            Process.with_threads(0, "a", 2),
            Process.with_threads(1, "b"),
            Process.with_threads(2, "b"),
        ]
    )
    before = ambient.set_provider(lambda: StandIn(topology))
    yield
    ambient.set_provider(before)


def test_a_node_that_the_session_knows_is_not_repeated(session):
    assert repr(ProcessScope(0)) == "ProcessScope(0)"
    assert repr(ProcessScope(0, node="b")) == "ProcessScope(0, node='b')"
    assert ProcessScope(0).describe() == "worker 0"
    assert repr(~ExactScope(ThreadProc(0, 1))) == "~ExactScope(ThreadProc(0, 1))"
    assert repr(DefaultScope() - ProcessScope(0)) == "DefaultScope() - ProcessScope(0)"


def test_html_outside_a_session_shows_the_words():
    html = ProcessScope(0)._repr_html_()

    assert "process scope" in html
    assert ">worker 0</span>" in html
    assert "now" not in html


def test_html_in_a_session_counts_the_processors(session):
    html = (ProcessScope(0) | ProcessScope(1))._repr_html_()

    assert "union scope" in html
    assert "3 processors now" in html
    assert "<tr><td>worker 0, thread</td><td>2</td></tr>" in html
    assert "<tr><td>worker 1, thread</td><td>1</td></tr>" in html
    assert "1 processor now" in ProcessScope(1)._repr_html_()
    assert "0 processors now" in ProcessScope(7)._repr_html_()


def test_html_escapes_what_users_name():
    html = (NodeScope("<b>&") & LabelScope('"><script>'))._repr_html_()

    assert "<b>" not in html
    assert "<script>" not in html
    assert "node &lt;b&gt;&amp;" in html
