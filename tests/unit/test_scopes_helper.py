"""The scope() helper beyond its conformance cases."""

import pytest
from test_scopes_ambient import StandIn

from scopekit.errors import ScopeError
from scopekit.places import Node, Process, Topology
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    LabelScope,
    NodeScope,
    OSProc,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
    UnionScope,
    ambient,
    as_scope,
    scope,
    scope_key,
)
from scopekit.scopes.helper import Record


@pytest.fixture
def session():
    topology = Topology(
        [
            Process.with_threads(0, "alpha", 2),
            Process.with_threads(1, "beta"),
            Process.with_threads("client", "alpha"),
        ],
        departed=[2],
    )
    before = ambient.set_provider(lambda: StandIn(topology))
    yield
    ambient.set_provider(before)


@pytest.fixture
def keys(monkeypatch):
    registered = {}
    monkeypatch.setattr("scopekit.scopes.helper._custom", registered)
    return registered


SAME = [
    (scope(worker=1), ProcessorTypeScope(ThreadProc, ProcessScope(1))),
    (scope(engine=1), scope(worker=1)),
    (scope(engines=[1, 2]), scope(workers=(2, 1))),
    (scope(workers=range(3)), scope(workers=[0, 1, 2])),
    (scope(workers={2, 0}), scope(workers=[0, 2])),
    (scope(worker=OSProc(1)), scope(worker=1)),
    (scope(worker="client", thread=0), ExactScope(ThreadProc("client", 0))),
    (
        scope(workers=[0, 1], threads=[0, 1]),
        UnionScope(ExactScope(ThreadProc(w, t)) for w in (0, 1) for t in (0, 1)),
    ),
    (scope(worker=1, type=CudaProc), ProcessorTypeScope(CudaProc, ProcessScope(1))),
    (scope(type="cuda"), ProcessorTypeScope(CudaProc)),
    (scope(type=CudaProc.kind), ProcessorTypeScope(CudaProc)),
    (
        scope(type=[CudaProc, ThreadProc]),
        UnionScope(ProcessorTypeScope(CudaProc), ProcessorTypeScope(ThreadProc)),
    ),
    (scope(workers="all"), ProcessorTypeScope(ThreadProc)),
    (scope(workers="all", type="cuda"), ProcessorTypeScope(CudaProc)),
    (scope(workers="all", thread=1), scope(thread=1)),
    (scope(node="a"), NodeScope("a")),
    (scope(node=Node("a")), NodeScope("a")),
    (scope(nodes="all"), AnyScope()),
    (scope(node="a", thread=1), NodeScope("a") & scope(thread=1)),
    (scope(label="x"), LabelScope("x")),
    (scope(labels=["x", "y"]), LabelScope("x") | LabelScope("y")),
    (scope(worker=1, label="x"), scope(worker=1) & LabelScope("x")),
    (scope("any"), AnyScope()),
    (scope("default", {"worker": 1}), DefaultScope() | scope(worker=1)),
    (scope((({"worker": 1},),), "default"), DefaultScope() | scope(worker=1)),
]


@pytest.mark.parametrize(("made", "expected"), SAME)
def test_what_the_keys_mean(made, expected):
    assert made == expected


REFUSED = [
    ({"worker": 1, "workers": [1]}, "worker= and workers= say the same thing twice"),
    ({"engine": 1, "worker": 1}, "engine= and worker= say the same thing twice"),
    ({"worker": {"worker": 1}}, "is a record"),
    ({"worker": "one"}, "names no worker"),
    ({"thread": -1}, "numbers no thread"),
    ({"thread": "0"}, "numbers no thread"),
    ({"node": 3}, "names no node"),
    ({"label": 3}, "no label"),
    ({"labels": "all"}, "says no labels"),
    ({"type": "all"}, "every processor"),
    ({"type": int}, "no processor type"),
    ({"type": "cdua"}, "did you mean 'cuda'"),
    ({"wroker": 1}, "did you mean 'worker'"),
    ({"worker": 1, "thread": 0, "type": "cuda"}, "no processor is in"),
    ({}, "needs something"),
]


@pytest.mark.parametrize(("record", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(record, message):
    with pytest.raises(ScopeError, match=message):
        scope(**record)


def test_an_unknown_word_is_refused_with_the_known_ones():
    with pytest.raises(ScopeError, match=r"'any' or 'default'; did you mean 'default'\?"):
        scope("defalut")


def test_an_impossible_combination_says_which_keys_clash(session):
    with pytest.raises(ScopeError, match=r"worker=0 .*node='beta'"):
        scope(worker=0, node="beta")


def test_in_a_session_unknown_workers_and_nodes_are_refused(session):
    with pytest.raises(ScopeError, match="no worker 5; its workers are 0, 1, 'client'"):
        scope(worker=5)
    with pytest.raises(ScopeError, match=r"no node 'alhpa'; .* did you mean 'alpha'"):
        scope(node="alhpa")


def test_a_dead_worker_still_has_a_scope(session):
    assert scope(worker=2) == ProcessorTypeScope(ThreadProc, ProcessScope(2))


def test_outside_a_session_everything_is_symbolic():
    assert scope(worker=12345).inner == ProcessScope(12345)
    assert scope(node="nowhere") == NodeScope("nowhere")


def test_a_spec_alone():
    existing = NodeScope("a")

    assert as_scope(existing) is existing
    assert as_scope({"worker": 1}) == scope(worker=1)
    assert as_scope(("any",)) == AnyScope()
    with pytest.raises(ScopeError, match=r"from 3 \(int\)"):
        as_scope(3)


# Custom keys


def test_a_record_is_read_by_key_or_attribute(keys):
    record = Record({"gpu": 1, "device": 2})

    assert record.gpu == record["gpu"] == 1
    assert record.unread() == ("device",)
    assert record.get("missing", 5) == 5
    assert dict(record) == {"gpu": 1, "device": 2}
    assert record.unread() == ()
    assert repr(record) == "Record({'gpu': 1, 'device': 2})"
    assert not hasattr(record, "missing")
    with pytest.raises(TypeError):
        record["gpu"] = 3


def test_a_key_that_no_handler_reads_is_refused(keys):
    scope_key("gpu")(lambda record: ProcessScope(record.gpu))
    scope_key("device")(lambda record: ProcessScope(record.device))

    assert scope(gpu=1) == ProcessScope(1)
    with pytest.raises(ScopeError, match=r"'wokrer' together with gpu=.*did you mean 'worker'"):
        scope(gpu=1, wokrer=2)


def test_a_losing_custom_key_must_be_read_too(keys):
    scope_key("gpu", precedence=1)(lambda record: ProcessScope(record.gpu))
    scope_key("device")(lambda record: ProcessScope(record.device))

    with pytest.raises(ScopeError, match="'device' together with gpu="):
        scope(gpu=1, device=2)


def test_a_missing_companion_key_is_named(keys):
    scope_key("gpu")(lambda record: ProcessScope(record.worker))

    with pytest.raises(ScopeError, match="'gpu' also needs worker="):
        scope(gpu=1)


def test_a_handler_returns_a_scope(keys):
    scope_key("gpu")(lambda record: record.gpu)

    with pytest.raises(ScopeError, match=r"must return a scope, not 1 \(int\)"):
        scope(gpu=1)


def test_a_handlers_own_error_is_passed_on(keys):
    @scope_key("gpu")
    def broken(record):
        return {}["nothing"]

    with pytest.raises(KeyError, match="nothing"):
        scope(gpu=1)
    assert broken is keys["gpu"].handler


def test_registering_again_replaces(keys):
    scope_key("gpu")(lambda record: ProcessScope(0))
    scope_key("gpu")(lambda record: ProcessScope(1))

    assert scope(gpu=1) == ProcessScope(1)


@pytest.mark.parametrize("name", ["worker", "threads", "type", "engines"])
def test_built_in_keys_cannot_be_registered(keys, name):
    with pytest.raises(ScopeError, match="built-in"):
        scope_key(name)


def test_a_key_has_a_name(keys):
    for name in ("", 3, None):
        with pytest.raises(ScopeError, match="cannot be a key"):
            scope_key(name)
