"""The conformance cases C001 to C088, each under its number.

The driver, w1 and w2 are on three nodes. Each has two threads and an opt-in
device. What needs engines that run is tested with engines.
"""

import pickle
from itertools import permutations, product

import pytest
from test_scopes_ambient import StandIn

from scopekit.errors import ScopeError
from scopekit.places import Process, Topology
from scopekit.scopes import (
    AnyScope,
    DefaultScope,
    ExactScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    OSProc,
    ProcessorTypeScope,
    ProcessScope,
    TaintScope,
    ThreadProc,
    UnionScope,
    ambient,
    constrain,
    processor_type,
    scope,
    scope_key,
)

D, W1, W2 = "client", 1, 2
Device = processor_type("conformance_device")


def process(worker, node):
    threads = (ThreadProc(worker, 1), ThreadProc(worker, 2))
    return Process(worker, node, (*threads, Device(worker, 1)))


TOPOLOGY = Topology([process(D, "n0"), process(W1, "n1"), process(W2, "n2")])


@pytest.fixture(autouse=True)
def session():
    before = ambient.set_provider(lambda: StandIn(TOPOLOGY))
    yield
    ambient.set_provider(before)


def T(worker, index):  # noqa: N802 - the cases' own notation
    return ThreadProc(worker, index)


def e1():
    return ExactScope(T(W1, 1))


def e12():
    return ExactScope(T(W1, 2))


def e2():
    return ExactScope(T(W2, 2))


def eos():
    return ExactScope(OSProc(D))


def threads_of(*workers):
    return {T(worker, index) for worker in workers for index in (1, 2)}


def admitted(a_scope):
    return set(a_scope.processors())


def every_kind():
    return [
        AnyScope(),
        DefaultScope(),
        NodeScope("n1"),
        ProcessScope(W1),
        e1(),
        eos(),
        UnionScope(e1(), e2()),
        UnionScope(ProcessScope(W1), NodeScope("n2")),
        ProcessorTypeScope(ThreadProc),
        ProcessorTypeScope(Device, ProcessScope(W2)),
        TaintScope(UnionScope(ProcessScope(W1), ProcessScope(W2)), ["default", ThreadProc]),
        LabelScope("camera"),
        ~ProcessScope(W1),
        NodeScope("n1") - e12(),
        InvalidScope(),
    ]


def both_ways(a, b):
    one, other = constrain(a, b), constrain(b, a)
    assert one == other
    return one


# 5a. Constructors, equality, display


def test_c001_an_empty_union_is_refused():
    for empty in ([], [[]], [()]):
        with pytest.raises(ScopeError, match="at least one scope"):
            UnionScope(*empty)


def test_c002_a_process_scope_knows_its_node():
    assert ProcessScope(W1).parent == NodeScope("n1")
    assert ProcessScope(W1).parent.node == "n1"


def test_c003_an_exact_scope_knows_its_process_and_node():
    assert e2().parent == ProcessScope(W2)
    assert e2().parent.worker == W2
    assert e2().parent.parent.node == "n2"


def test_c004_duplicates_in_a_union_are_harmless():
    """The scope's half; with engines the task runs there."""
    assert UnionScope(e1(), e1()) == e1()
    assert isinstance(UnionScope(e1(), e1()), ExactScope)


def test_c005_nested_unions_are_flat():
    union = UnionScope(e1(), UnionScope(e2(), e12()))

    assert len(union.scopes) == 3
    assert set(union.scopes) == {e1(), e2(), e12()}


def test_c006_the_order_of_a_union_does_not_matter():
    """C007 as well: unions of other members differ."""
    p1, p2 = ProcessScope(W1), ProcessScope(W2)

    assert UnionScope(p1, p2) == UnionScope(p2, p1)
    assert UnionScope(p1, p2) != UnionScope(p1, ProcessScope(D))
    assert UnionScope(e1(), e2()) != UnionScope(e1(), e12())


def test_c008_equal_scopes_have_equal_hashes():
    for one, other in zip(every_kind(), every_kind(), strict=True):
        assert hash(one) == hash(other)
        assert {one: 1}[other] == 1
    assert len(set(every_kind() + every_kind())) == len(every_kind())


def test_c009_the_order_of_taints_does_not_matter():
    one = TaintScope(AnyScope(), ["default", ThreadProc])
    other = TaintScope(AnyScope(), {ThreadProc: 1, "default": 2})

    assert one == other
    assert one != TaintScope(AnyScope(), ["default"])


def test_c010_a_union_of_equal_members_is_the_member():
    assert UnionScope(DefaultScope(), DefaultScope()) == DefaultScope()


def test_c012_default_has_a_word():
    assert scope(":default") == DefaultScope()
    assert scope("default") == DefaultScope()


def test_c013_every_kind_pickles():
    for original in every_kind():
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copied = pickle.loads(pickle.dumps(original, protocol))
            assert copied == original
            assert type(copied) is type(original)
            assert hash(copied) == hash(original)


def test_c014_no_argument_means_here():
    """The scope's half: the surroundings say which worker this process is."""
    ambient.set_provider(lambda: StandIn(TOPOLOGY, here=W1))

    assert ProcessScope() == ProcessScope(W1)
    assert NodeScope() == NodeScope("n1")


def test_c015_a_scope_of_no_such_thread_builds():
    """To explain that no processor matches is the session's part."""
    missing = ExactScope(T(W1, 99))

    assert admitted(missing) == set()
    assert missing != InvalidScope()


# 5b. Intersection


@pytest.mark.parametrize("number", range(len(every_kind())))
def test_c016_any_is_the_identity(number):
    a_scope = every_kind()[number]

    assert both_ways(AnyScope(), a_scope) == a_scope


def test_c017_default_meets_a_thread():
    assert both_ways(DefaultScope(), e1()) == e1()


def test_c018_default_never_meets_a_process_as_a_place():
    assert isinstance(both_ways(DefaultScope(), eos()), InvalidScope)


def test_c019_nodes():
    assert both_ways(NodeScope("n1"), NodeScope("n1")) == NodeScope("n1")
    assert both_ways(NodeScope("n1"), NodeScope("n2")) == InvalidScope()


def test_c020_a_node_and_a_process():
    assert both_ways(NodeScope("n1"), ProcessScope(W1)) == ProcessScope(W1)
    assert both_ways(NodeScope("n2"), ProcessScope(W1)) == InvalidScope()


def test_c021_a_node_and_a_processor():
    assert both_ways(NodeScope("n1"), e1()) == e1()
    assert both_ways(NodeScope("n2"), e1()) == InvalidScope()


def test_c022_processes():
    assert both_ways(ProcessScope(W1), ProcessScope(W1)) == ProcessScope(W1)
    assert both_ways(ProcessScope(W1), ProcessScope(W2)) == InvalidScope()


def test_c023_a_process_and_a_processor():
    assert both_ways(ProcessScope(W1), e1()) == e1()
    assert both_ways(ProcessScope(W2), e1()) == InvalidScope()


def test_c024_processors():
    assert both_ways(e1(), e1()) == e1()
    assert both_ways(e1(), e12()) == InvalidScope()


def test_c025_threads():
    assert both_ways(ProcessorTypeScope(ThreadProc), e1()) == e1()
    assert both_ways(ProcessorTypeScope(ThreadProc), eos()) == InvalidScope()


def test_c026_processes_as_places():
    assert both_ways(ProcessorTypeScope(OSProc), eos()) == eos()
    assert both_ways(ProcessorTypeScope(OSProc), e1()) == InvalidScope()


def test_c027_the_same_type_twice():
    twice = constrain(ProcessorTypeScope(ThreadProc), ProcessorTypeScope(ThreadProc))

    assert both_ways(twice, e1()) == e1()
    assert both_ways(twice, eos()) == InvalidScope()


def test_c028_two_types_never_meet():
    none = both_ways(ProcessorTypeScope(ThreadProc), ProcessorTypeScope(OSProc))

    assert none == InvalidScope()
    assert both_ways(none, e1()) == InvalidScope()
    assert both_ways(none, eos()) == InvalidScope()


def test_c030_both_taints_must_hold():
    both = both_ways(DefaultScope(), ProcessorTypeScope(Device))

    assert both_ways(both, ExactScope(Device(W1, 1))) == InvalidScope()


def test_c031_default_on_a_node():
    found = both_ways(DefaultScope(), NodeScope("n1"))

    assert admitted(found) == threads_of(W1)
    assert T(W1, 1) in found
    assert Device(W1, 1) not in found


def test_c032_the_inner_scope_conflicts():
    inner = ProcessorTypeScope(ThreadProc, ProcessScope(W1))

    assert both_ways(inner, ProcessScope(W2)) == InvalidScope()


def test_c033_unions_meet_in_what_they_share():
    found = both_ways(UnionScope(e1(), e2()), UnionScope(e1()))

    assert T(W1, 1) in found
    assert T(W2, 2) not in found


def test_c034_unions_that_share_nothing():
    assert both_ways(UnionScope(e1(), e12()), UnionScope(e2())) == InvalidScope()


def test_c035_a_union_of_processes_and_a_processor():
    union = UnionScope(ProcessScope(W1), ProcessScope(W2))

    assert admitted(both_ways(union, e2())) == {T(W2, 2)}


def test_c036_a_union_of_processes_and_a_node():
    union = UnionScope(ProcessScope(W1), ProcessScope(W2))
    found = both_ways(union, NodeScope("n2"))

    assert found == ProcessScope(W2)
    assert admitted(found) == {*threads_of(W2), Device(W2, 1)}


def test_c038_constrain_commutes():
    for a, b in product(every_kind(), repeat=2):
        assert constrain(a, b) == constrain(b, a)


def test_c039_constrain_associates():
    for a, b, c in product(every_kind(), repeat=3):
        left = constrain(constrain(a, b), c)
        assert left == constrain(a, constrain(b, c))
        assert left == constrain(a, b, c)


def test_c040_constrain_is_idempotent():
    for a in every_kind():
        assert constrain(a, a) == a


def test_c041_invalid_absorbs():
    for a in every_kind():
        assert both_ways(InvalidScope(), a) == InvalidScope()
        assert both_ways(constrain(e1(), e2()), a) == InvalidScope()


def test_c042_a_conflict_names_its_operands():
    found = constrain(NodeScope("n1"), NodeScope("n2"), ProcessScope(W1))

    assert isinstance(found, InvalidScope)
    assert found.operands == (
        (NodeScope("n1"), None),
        (NodeScope("n2"), None),
        (ProcessScope(W1), None),
    )
    assert found.conflict == ((NodeScope("n1"), None), (NodeScope("n2"), None))


def test_c043_the_intersection_admits_what_both_admit():
    for a, b in product(every_kind(), repeat=2):
        assert admitted(constrain(a, b)) == admitted(a) & admitted(b)


def test_c045_membership():
    assert T(W1, 1) in AnyScope()
    assert T(W1, 1) not in InvalidScope()
    assert T(W1, 1) in UnionScope(e1(), e2())
    assert T(W1, 1) not in ProcessScope(W2)


# 5c. The scope() helper


def test_c046_any_has_a_word():
    assert scope(":any") == AnyScope()


def test_c047_other_words_are_refused():
    with pytest.raises(ScopeError, match="':blah'"):
        scope(":blah")


def test_c048_nothing_is_refused():
    for nothing in ((), ((),), ({},)):
        with pytest.raises(ScopeError):
            scope(*nothing)


def test_c049_singular_and_plural():
    assert scope(worker=W1) == scope(workers=[W1])


def test_c050_workers_admit_their_threads():
    assert admitted(scope(workers=[W1, W2])) == threads_of(W1, W2)


def test_c051_empty_lists_are_refused():
    for key in ("workers", "threads", "nodes", "labels"):
        with pytest.raises(ScopeError, match=f"{key}=\\[\\] holds nothing"):
            scope(**{key: []})


def test_c052_a_thread_of_every_process():
    assert scope(thread=1) == scope(threads=[1])
    assert admitted(scope(thread=1)) == {T(D, 1), T(W1, 1), T(W2, 1)}


def test_c053_threads_of_every_process():
    assert admitted(scope(threads=[1, 2])) == threads_of(D, W1, W2)


def test_c054_a_worker_and_a_thread():
    variants = [
        scope(worker=W1, thread=1),
        scope(thread=1, worker=W1),
        scope(workers=[W1], thread=1),
        scope(worker=W1, threads=[1]),
        scope(workers=[W1], threads=[1]),
    ]

    for made in variants:
        assert made == e1()
        assert isinstance(made, ExactScope)


def test_c055_unknown_keys_are_refused():
    for keys in ({"blah": 1}, {"thread": 1, "blah": 1}):
        with pytest.raises(ScopeError, match="'blah'"):
            scope(**keys)
        with pytest.raises(ScopeError, match="'blah'"):
            scope(keys)


def test_c056_keywords_record_and_tuple_say_the_same():
    record = {"worker": D, "thread": 1}

    assert scope(worker=D, thread=1) == scope(record) == scope((record,)) == ExactScope(T(D, 1))


def test_c057_several_records_make_a_union():
    r1, r2 = {"worker": D, "thread": 1}, {"worker": W1, "thread": 2}
    expected = UnionScope(ExactScope(T(D, 1)), e12())

    assert scope(r1, r2) == scope((r1, r2)) == scope((r1,), (r2,)) == expected


def test_c058_all_workers():
    """Every process's threads, as for any list of workers."""
    assert admitted(scope(workers="all")) == threads_of(D, W1, W2)


def test_c060_all_threads():
    assert scope(threads="all") == ProcessorTypeScope(ThreadProc)
    assert scope(workers="all", threads="all") == ProcessorTypeScope(ThreadProc)


def test_c061_all_threads_of_a_worker():
    assert scope(worker=D, threads="all") == ProcessorTypeScope(ThreadProc, ProcessScope(D))


def test_c062_a_thread_of_all_workers():
    assert admitted(scope(workers="all", thread=1)) == {T(D, 1), T(W1, 1), T(W2, 1)}


def test_c064_the_singular_takes_several():
    assert scope(worker=[W1, W2]) == scope(workers=[W1, W2])


def test_c065_an_unknown_worker_is_refused_naming_the_known():
    with pytest.raises(ScopeError, match="no worker 7; its workers are 1, 2, 'client'"):
        scope(worker=7)


def test_c067_a_scope_is_returned_as_it_is():
    existing = NodeScope("n1")

    assert scope(existing) is existing


def test_c068_specs_and_keywords_do_not_mix():
    with pytest.raises(TypeError, match="not both"):
        scope({"worker": W1}, worker=W2)


@pytest.mark.parametrize("spec", [[{"worker": 1}, {"worker": 2}], 3, None, "x", {1}, 1.5])
def test_c069_other_specs_are_refused(spec):
    with pytest.raises(ScopeError):
        scope(spec)


def test_c070_nodes():
    assert scope(node="n1") == NodeScope("n1")
    assert scope(nodes=["n1", "n2"]) == UnionScope(NodeScope("n1"), NodeScope("n2"))


# 5d. Custom keys


@pytest.fixture
def custom_keys(monkeypatch):
    monkeypatch.setattr("scopekit.scopes.helper._custom", {})
    scope_key("gpu", precedence=1)(lambda record: ExactScope(T(D, record.device)))
    scope_key("rocm", precedence=2)(lambda record: ExactScope(T(W1, record.gpu)))
    scope_key("cuda", precedence=2)(lambda record: ExactScope(T(W2, record.gpu)))


def test_c071_a_handler_reads_other_keys(custom_keys):
    assert scope(gpu=1, device=2) == ExactScope(T(D, 2))
    assert scope(device=2, gpu=1) == ExactScope(T(D, 2))


def test_c073_custom_records_combine_with_others(custom_keys):
    r1, r2 = {"gpu": 1, "device": 2}, {"worker": D, "thread": 1}
    expected = UnionScope(ExactScope(T(D, 2)), ExactScope(T(D, 1)))

    assert scope(r1, r2) == scope(r2, r1) == expected


def test_c074_custom_records_combine(custom_keys):
    found = scope({"gpu": 1, "device": 2}, {"device": 3, "gpu": 1})

    assert found == UnionScope(ExactScope(T(D, 2)), ExactScope(T(D, 3)))


def test_c075_the_higher_precedence_decides(custom_keys):
    assert scope(rocm=1, gpu=2) == scope(gpu=2, rocm=1) == e12()


def test_c076_the_higher_precedence_decides_again(custom_keys):
    assert scope(cuda=1, gpu=2) == scope(gpu=2, cuda=1) == e2()


def test_c077_a_tie_at_the_top_is_refused(custom_keys):
    for order in permutations({"rocm": 1, "cuda": 1, "gpu": 2}.items()):
        with pytest.raises(ScopeError, match="'cuda', 'rocm' compete"):
            scope(**dict(order))
        with pytest.raises(ScopeError, match="'cuda', 'rocm' compete"):
            scope(dict(order))


def test_c078_a_handler_sees_the_built_in_keys(custom_keys):
    seen = []

    @scope_key("camera")
    def camera(record):
        seen.append(dict(record))
        return ProcessScope(record.worker)

    assert scope(camera=1, worker=W1) == ProcessScope(W1)
    assert seen == [{"camera": 1, "worker": W1}]


# 5e. Processor queries


def test_c079_the_processors_of_a_worker():
    assert admitted(scope(worker=W1)) == threads_of(W1)


def test_c080_the_processor_of_a_worker_and_thread():
    assert admitted(scope(worker=W1, thread=2)) == {T(W1, 2)}


def test_c081_the_processors_of_workers():
    assert admitted(scope(workers=[W1, W2])) == threads_of(W1, W2)


def test_c082_counting_agrees_with_listing():
    for a_scope in every_kind():
        assert TOPOLOGY.mask(a_scope).bit_count() == len(a_scope.processors())


def test_c083_any_holds_all_processors():
    assert AnyScope().processors() == TOPOLOGY.processors
    assert len(TOPOLOGY.processors) == 9


def test_c084_subsets():
    assert scope(worker=W1, thread=1) <= scope(worker=W1)
    assert not scope(worker=W1) <= scope(worker=W1, thread=1)


def test_c085_the_same_set():
    a, b = scope(worker=W1), scope(worker=W1, thread=1)

    again = scope(worker=W1)
    assert a <= again
    assert a >= again
    assert not (a <= b <= a)
    assert b < a
    assert a > b
    assert not a < again


def test_c086_narrowed_to_a_worker():
    """The scope's half: what with_options leaves of the default is one worker's."""
    assert admitted(DefaultScope() & scope(worker=W1)) == threads_of(W1)


def test_c087_opting_in():
    assert T(W1, 1).default_enabled
    assert not T(D, 1).default_enabled
    assert not Device(W1, 1).default_enabled


def test_c088_a_device_is_opted_in_to():
    """The scope's half: DefaultScope holds no device, AnyScope all of them."""
    devices = {Device(D, 1), Device(W1, 1), Device(W2, 1)}

    assert admitted(DefaultScope() & ProcessorTypeScope(Device)) == set()
    assert admitted(AnyScope() & ProcessorTypeScope(Device)) == devices
