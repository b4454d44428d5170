"""A scope taken apart into a short union that people can read.

A conjunct has a value for some variables, and lacks some combinations of
values: "node a, but not worker 3". The parts of a scope may overlap where that
makes them shorter: "worker 0 or node b" rather than "worker 0, or any other
worker of node b".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from scopekit.scopes.form import (
    DEFAULT,
    INDEX,
    KIND,
    WORKER,
    Form,
    Literal,
    Split,
    Value,
    Variable,
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

__all__ = (
    "Conjunct",
    "Literals",
    "conjuncts",
    "only_conjunct",
)

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

    def with_value(self, variable: Variable, value: Value) -> Conjunct:
        """Return the same part within one case of a decision."""
        return Conjunct(((variable, value), *self.has), self.lacks)


def conjuncts(form: Form) -> Iterator[Conjunct]:
    """Return the parts of a scope, in an order that depends on its meaning alone."""
    return map(_with_default_named, _parts(form, None, None))


def only_conjunct(form: Form) -> Conjunct | None:
    """Return the one part of a scope, or None if it has none or several."""
    parts = list(islice(_parts(form, None, _SEVERAL), _SEVERAL))
    return _with_default_named(parts[0]) if len(parts) == 1 else None


_SEVERAL: Final = 2


def _with_default_named(part: Conjunct) -> Conjunct:
    # "default threads" is what people wrote; the form says "threads but the
    # client's", as the kind settles the rest.
    kind = dict(part.has).get(KIND)
    client: Literals = ((WORKER, CLIENT),)
    if isinstance(kind, Kind) and kind.default_enabled and client in part.lacks:
        lacks = tuple(literals for literals in part.lacks if literals != client)
        return Conjunct((*part.has, (DEFAULT, True)), lacks)
    return part


def _parts(form: Form, kind: Kind | None, limit: int | None) -> Iterator[Conjunct]:
    # Given a limit, the parts are right only if they are fewer; whoever asks
    # only whether there is one part need not pay for a thousand.
    if isinstance(form, bool):
        if form:
            yield Conjunct()
        return
    general = list(islice(_parts(form.other, kind, limit), limit))
    if len(general) == limit:
        yield from general
        return
    covered: dict[Value, list[Form]] = {}
    general = [_outside_cases(part, form, kind, covered) for part in general]
    for value, case in form.cases:
        inner = value if isinstance(value, Kind) else kind
        already = any_of(covered.get(value, ()))
        for part in _parts(case, inner, limit):
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
        gaps = _gaps(here, case)
        if gaps is None:
            lacks.append(_prefix(form.variable, value, kind))
        else:
            prefix = _prefix(form.variable, value, kind)
            lacks.extend((*prefix, *gap) for gap in gaps)
            covered.setdefault(value, []).append(all_of((here, case)))
    return Conjunct(part.has, tuple(lacks))


def _prefix(variable: Variable, value: Value, kind: Kind | None) -> Literals:
    literal: Literal = (variable, value)
    if variable == INDEX and kind is not None:
        return ((KIND, kind), literal)
    return (literal,)


def _gaps(here: Form, case: Form) -> list[Literals] | None:
    # What the case lacks of the part, where a few combinations of values say
    # it. None where they do not, or where it lacks all.
    missing = all_of((here, negate(case)))
    if missing is False:
        return []
    if missing == here:
        return None
    chains = list(islice(_chains(missing), _FEW + 1))
    if len(chains) > _FEW:
        return None
    gaps = [_shortest(gap, here, missing) for gap in chains]
    said = any_of(chain(gap) for gap in gaps)
    return gaps if gaps and all_of((here, said)) == missing else None


_FEW: Final = 4


def _chains(form: Form) -> Iterator[Literals]:
    # Combinations of values that may make up the form. Where it holds for
    # `other` values its cases are taken for what `here` leaves out anyway; the
    # caller looks whether that was so.
    if isinstance(form, bool):
        if form:
            yield ()
    elif form.other is not False:
        yield from _chains(form.other)
    else:
        for value, case in form.cases:
            for rest in _chains(case):
                yield ((form.variable, value), *rest)


def _shortest(gap: Literals, here: Form, missing: Form) -> Literals:
    for literal in reversed(gap):
        if literal[0] == KIND and any(variable == INDEX for variable, _ in gap):
            continue  # an index says nothing without the kind that it counts
        rest = tuple(kept for kept in gap if kept != literal)
        if covers(missing, all_of((here, chain(rest)))):
            gap = rest
    return gap
