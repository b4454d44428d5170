"""A scope taken apart into a short union that people can read.

A conjunct has a value for some variables, and lacks some combinations of
values: "node a, but not worker 3". The parts of a scope may overlap where that
makes them shorter: "worker 0 or node b" rather than "worker 0, or any other
worker of node b".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from scopekit.scopes.form import (
    DEFAULT,
    INDEX,
    KIND,
    WORKER,
    Form,
    Literal,
    Split,
    Value,
    all_of,
    any_of,
    chain,
    cofactor,
    conjunction,
    covers,
    negate,
)
from scopekit.scopes.processors import CLIENT, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

Literals: TypeAlias = tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Conjunct:
    """One part of a scope.

    Attributes:
        has: the values that its processors have.
        lacks: combinations of values that its processors do not have.
    """

    has: Literals = ()
    lacks: tuple[Literals, ...] = ()

    def form(self) -> Form:
        """Return the canonical form of the part."""
        excluded = (negate(conjunction(literals)) for literals in self.lacks)
        return all_of((conjunction(self.has), *excluded))

    def with_value(self, variable: object, value: Value) -> Conjunct:
        """Return the same part within one case of a decision."""
        return Conjunct(((variable, value), *self.has), self.lacks)  # type: ignore[arg-type]


def conjuncts(form: Form) -> Iterator[Conjunct]:
    """Return the parts of a scope, in an order that depends on its meaning alone."""
    return map(_with_default_named, _parts(form, None))


def _with_default_named(part: Conjunct) -> Conjunct:
    # "default threads" is what people wrote; the form says "threads but the
    # client's", as the kind settles the rest.
    kind = dict(part.has).get(KIND)
    client: Literals = ((WORKER, CLIENT),)
    if isinstance(kind, Kind) and kind.default_enabled and client in part.lacks:
        lacks = tuple(literals for literals in part.lacks if literals != client)
        return Conjunct((*part.has, (DEFAULT, True)), lacks)
    return part


def _parts(form: Form, kind: Kind | None) -> Iterator[Conjunct]:
    if isinstance(form, bool):
        if form:
            yield Conjunct()
        return
    covered: dict[Value, list[Form]] = {}
    general = [_outside_cases(part, form, kind, covered) for part in _parts(form.other, kind)]
    for value, case in form.cases:
        inner = value if isinstance(value, Kind) else kind
        already = any_of(covered.get(value, ()))
        for part in _parts(case, inner):
            if already is False or not covers(already, _beneath(part, inner)):
                yield part.with_value(form.variable, value)
    yield from general


def _beneath(part: Conjunct, kind: Kind | None) -> Form:
    # The form of a part as it stands within the decisions made so far.
    excluded = (negate(chain(literals)) for literals in part.lacks)
    form = all_of((chain(part.has), *excluded))
    return form if kind is None else cofactor(form, KIND, kind)


def _outside_cases(
    part: Conjunct, form: Split, kind: Kind | None, covered: dict[Value, list[Form]]
) -> Conjunct:
    # The part holds for `other` values. Say what it leaves out of each case,
    # as little as possible, and note in `covered` what it holds of the case.
    whole = _beneath(part, kind)
    lacks = list(part.lacks)
    for value, case in form.cases:
        here = cofactor(whole, form.variable, value)
        kept = all_of((here, case))
        prefix = _prefix(form.variable, value, kind)
        if kept == here:
            covered.setdefault(value, []).append(here)
            continue
        gap = None if kept is False else _only_gap(here, case, value, kind)
        if gap is None:
            lacks.append(prefix)
        else:
            lacks.append((*prefix, *gap))
            covered.setdefault(value, []).append(kept)
    return Conjunct(part.has, tuple(lacks))


def _prefix(variable: object, value: Value, kind: Kind | None) -> Literals:
    literal: Literal = (variable, value)  # type: ignore[assignment]
    if variable == INDEX and kind is not None:
        return ((KIND, kind), literal)
    return (literal,)


def _only_gap(here: Form, case: Form, value: Value, kind: Kind | None) -> Literals | None:
    # What the case lacks of the part, where one combination of values says it.
    inner = value if isinstance(value, Kind) else kind
    gaps = [
        gap
        for gap in _parts(negate(case), inner)
        if all_of((_beneath(gap, inner), here)) is not False
    ]
    if len(gaps) == 1 and not gaps[0].lacks:
        return gaps[0].has
    return None
