"""The laws of the scope algebra, and that a scope means what it was built to mean."""

import pickle

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import RICH_FAMILY, Built, built_scopes, places_of, scopes, topologies

from scopekit import scopes as namespace
from scopekit.scopes import AnyScope, InvalidScope, Scope, UnionScope, constrain, is_sealed

many = settings(max_examples=100, deadline=None)
ANY = AnyScope()
NOTHING = InvalidScope()


@many
@given(scopes, scopes)
def test_meet_and_join_commute(a, b):
    assert a & b == b & a
    assert a | b == b | a


@many
@given(scopes, scopes, scopes)
def test_meet_and_join_associate(a, b, c):
    assert (a & b) & c == a & (b & c) == constrain(a, b, c)
    assert (a | b) | c == a | (b | c) == UnionScope(a, b, c)


@many
@given(scopes)
def test_meet_and_join_are_idempotent(a):
    assert a & a == a
    assert a | a == a


@many
@given(scopes)
def test_any_and_invalid_are_the_bounds(a):
    assert a & ANY == a
    assert a | NOTHING == a
    assert a & NOTHING == NOTHING
    assert a | ANY == ANY


@many
@given(scopes, scopes)
def test_each_absorbs_the_other(a, b):
    assert a & (a | b) == a
    assert a | (a & b) == a


@many
@given(scopes, scopes, scopes)
def test_each_distributes_over_the_other(a, b, c):
    assert a & (b | c) == (a & b) | (a & c)
    assert a | (b & c) == (a | b) & (a | c)


@many
@given(scopes, scopes)
def test_de_morgan(a, b):
    assert ~(a & b) == ~a | ~b
    assert ~(a | b) == ~a & ~b


@many
@given(scopes)
def test_the_complement_is_what_is_left(a):
    assert ~~a == a
    assert a & ~a == NOTHING
    assert a | ~a == ANY


@many
@given(scopes, scopes)
def test_the_difference_is_the_meet_with_the_complement(a, b):
    assert a - b == a & ~b
    assert (a - b) | (a & b) == a


@many
@given(scopes, scopes)
def test_a_scope_lies_within_another_where_nothing_is_left(a, b):
    assert (a <= b) == (a - b == NOTHING)
    assert (a <= b <= a) == (a == b)
    assert a & b <= a <= a | b


@many
@given(built_scopes, topologies())
def test_a_scope_holds_what_it_was_built_to_hold(built, topology):
    expected = [built.admits(place) for place in places_of(topology)]

    mask = topology.mask(built.scope)
    assert [bool(mask >> bit & 1) for bit in range(len(expected))] == expected
    assert [topology.contains(built.scope, p) for p in topology.processors] == expected


@many
@given(scopes, scopes, topologies())
def test_masks_combine_as_scopes_do(a, b, topology):
    mask = topology.mask
    assert mask(a & b) == mask(a) & mask(b)
    assert mask(a | b) == mask(a) | mask(b)
    assert mask(a - b) == mask(a) & ~mask(b)
    assert mask(~a) == topology.everything & ~mask(a)


def told_apart(a, b):
    return any(topology.mask(a) != topology.mask(b) for topology in RICH_FAMILY)


@settings(max_examples=300, deadline=None)
@given(scopes, scopes)
def test_scopes_are_equal_just_when_no_topology_tells_them_apart(a, b):
    # That a scope is sealed says something of what is computed, and leaves no processor out.
    assume(not is_sealed(a) and not is_sealed(b))
    assert (a == b) == (not told_apart(a, b))


@settings(max_examples=300, deadline=None)
@given(built_scopes)
def test_scopes_with_the_same_meaning_are_equal_however_built(built):
    """Rebuilt from its meaning alone, point by point, a scope comes out equal."""
    again = UnionScope([NOTHING, *_parts_by_shannon(built.scope)])

    assert again == built.scope
    assert hash(again) == hash(built.scope)
    assert type(again) is type(built.scope)


def _parts_by_shannon(scope):
    sides = [namespace.NodeScope("a"), namespace.ProcessScope(1), namespace.LabelScope("camera")]
    parts = [scope]
    for side in sides:
        parts = [part & half for part in parts for half in (side, ~side)]
    return parts


@many
@given(scopes)
def test_a_scope_is_the_union_of_its_parts(a):
    assert UnionScope([NOTHING, *a.scopes]) == a
    for part in a.scopes:
        assert len(part.scopes) == 1
        assert not isinstance(part, UnionScope)


@many
@given(scopes)
def test_no_part_of_a_scope_lies_within_another(a):
    parts = a.scopes
    assert not any(one <= other for one in parts for other in parts if one is not other)


@many
@given(scopes)
def test_a_scope_survives_pickle(a):
    copied = pickle.loads(pickle.dumps(a))

    assert copied == a
    assert hash(copied) == hash(a)
    assert type(copied) is type(a)


@many
@given(scopes)
def test_the_repr_of_a_scope_makes_it_again(a):
    text = repr(a)
    if "…" in text:
        return

    names = {name: getattr(namespace, name) for name in namespace.__all__}
    assert eval(text, names) == a


@many
@given(scopes)
def test_a_tainted_scope_is_its_inner_scope_with_its_taints(a):
    for part in a.scopes:
        if isinstance(part, namespace.TaintScope):
            assert namespace.TaintScope(part.inner, part.taints) == part


@many
@given(scopes)
def test_words_and_html_tell_scopes_apart_from_nothing(a):
    assert (a.describe() == "nothing") == (a == NOTHING)
    assert a._repr_html_().startswith('<div class="scopekit-scope">')


@many
@given(built_scopes, st.data())
def test_membership_agrees_with_a_topology(built, data):
    topology = data.draw(topologies().filter(lambda found: found.processors))
    place = data.draw(st.sampled_from(places_of(topology)))

    assert topology.contains(built.scope, place.processor) == built.admits(place)


@many
@given(st.lists(built_scopes, min_size=2, max_size=4))
def test_a_conflict_is_the_fewest_operands_that_never_meet(operands: list[Built]):
    met = constrain(*(built.scope for built in operands))
    if not isinstance(met, InvalidScope):
        return

    clash = [found for found, _ in met.conflict]
    assert clash
    assert _meet(clash) == NOTHING
    for left_out in range(len(clash)):
        assert _meet(clash[:left_out] + clash[left_out + 1 :]) != NOTHING


def _meet(found: list[Scope]):
    met = ANY
    for one in found:
        met = met & one
    return met
