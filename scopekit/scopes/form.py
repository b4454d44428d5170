"""The one canonical representation of every scope.

A scope is a set of processors, decided by a processor's attributes, that means
the same whatever the topology. It is kept as a reduced, ordered, multi-valued
decision diagram: a `Split` asks for one attribute and holds a case for each
value that matters, beside what holds for all `other` values. Attributes are
asked for in one fixed order, and a case that says what `other` says anyway is
left out. So equal meaning is equal structure, and every law of the algebra
holds with plain ``==``.

Two attributes follow from others, and the order makes use of it:

- an index has a meaning only among processors of one kind, so INDEX is asked
  for only beneath a case of KIND;
- whether a processor is in DefaultScope follows from its kind once the kind is
  known, and is false on the client. DEFAULT therefore never appears beneath a
  case of KIND nor beneath the client's case, and wherever `other` workers ask
  for it, the client has a case of its own.

Values of WORKER, KIND, INDEX and NODE never run out, so `other` always stands
for something.

SEALED is true of every processor, so that it leaves none out. It is in the form to
stay there: whatever is met with a sealed scope is sealed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

from scopekit.scopes.processors import CLIENT, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = (
    "DEFAULT",
    "INDEX",
    "KIND",
    "NODE",
    "SEALED",
    "UNKNOWN",
    "WORKER",
    "Form",
    "Literal",
    "Row",
    "Split",
    "Value",
    "Variable",
    "all_of",
    "any_of",
    "chain",
    "cofactor",
    "conjunction",
    "covers",
    "decide",
    "flatten",
    "is_label",
    "label_variable",
    "negate",
    "settle",
    "split",
    "unflatten",
)

Variable: TypeAlias = tuple[int, str]
Value: TypeAlias = int | str | bool | Kind
Literal: TypeAlias = tuple[Variable, Value]
Form: TypeAlias = Union[bool, "Split"]

WORKER: Final[Variable] = (0, "")
KIND: Final[Variable] = (1, "")
INDEX: Final[Variable] = (2, "")
NODE: Final[Variable] = (3, "")
DEFAULT: Final[Variable] = (4, "")
_LABEL: Final = 5
SEALED: Final[Variable] = (6, "")

UNKNOWN: Final = object()


def label_variable(text: str) -> Variable:
    """Return the variable that says whether a process carries a label."""
    return (_LABEL, text)


def is_label(variable: Variable) -> bool:
    """Whether the variable is a label's."""
    return variable[0] == _LABEL


class Split:
    """A decision on one variable."""

    __slots__ = ("_hash", "asks_default", "cases", "other", "table", "variable")

    asks_default: bool

    def __init__(
        self, variable: Variable, cases: tuple[tuple[Value, Form], ...], other: Form
    ) -> None:
        self.variable = variable
        self.cases = cases
        self.other = other
        self.table = dict(cases)
        self.asks_default = variable == DEFAULT or any(
            form.asks_default for form in (*self.table.values(), other) if isinstance(form, Split)
        )
        self._hash = hash((variable, cases, other))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Split):
            return NotImplemented
        return (
            self._hash == other._hash
            and self.variable == other.variable
            and self.other == other.other
            and self.cases == other.cases
        )

    def __repr__(self) -> str:
        return f"Split({self.variable}, {self.cases}, {self.other})"


def _order(case: tuple[Value, Form]) -> tuple[int, Any]:
    value = case[0]
    if isinstance(value, Kind):
        return (2, value)
    return (int(isinstance(value, str)), value)


def split(variable: Variable, cases: Iterable[tuple[Value, Form]], other: Form) -> Form:
    """Return the reduced decision: cases that say what `other` says are left out."""
    kept = [(value, form) for value, form in cases if form != _inherit(other, variable, value)]
    if not kept:
        return other
    kept.sort(key=_order)
    return Split(variable, tuple(kept), other)


def _inherit(other: Form, variable: Variable, value: Value) -> Form:
    if variable == KIND and isinstance(value, Kind):
        return settle(other, value.default_enabled)
    return other


def settle(form: Form, default: bool) -> Form:
    """Return the form with the DEFAULT flag known."""
    if isinstance(form, bool) or not form.asks_default:
        return form
    if form.variable == DEFAULT:
        return form.table[True] if default else form.other
    cases = [(value, settle(case, default)) for value, case in form.cases]
    return split(form.variable, cases, settle(form.other, default))


def cofactor(form: Form, variable: Variable, value: Value) -> Form:
    """Return what the form says of processors with that value, flags that follow settled."""
    if isinstance(form, Split) and form.variable == variable:
        found = form.table.get(value)
        if found is not None:
            return found
        form = form.other
    if variable == WORKER and value == CLIENT:
        return settle(form, False)
    return _inherit(form, variable, value)


def all_of(forms: Iterable[Form]) -> Form:
    """Return the intersection."""
    return _combine(forms, False, {})


def any_of(forms: Iterable[Form]) -> Form:
    """Return the union."""
    return _combine(forms, True, {})


def _combine(forms: Iterable[Form], zero: bool, memo: dict[frozenset[Split], Form]) -> Form:
    # `zero` absorbs and `not zero` is neutral, so this is any_of and all_of in
    # one. It takes all operands at once: a union of n members costs one pass
    # over their cases, not n growing unions.
    operands: dict[Split, None] = {}
    for form in forms:
        if isinstance(form, Split):
            operands[form] = None
        elif form is zero:
            return zero
    if not operands:
        return not zero
    if len(operands) == 1:
        return next(iter(operands))
    key = frozenset(operands)
    found = memo.get(key)
    if found is None:
        found = memo[key] = _combine_splits(list(operands), zero, memo)
    return found


def _combine_splits(
    operands: Sequence[Split], zero: bool, memo: dict[frozenset[Split], Form]
) -> Form:
    variable = min(form.variable for form in operands)
    top = [form for form in operands if form.variable == variable]
    below: list[Form] = [form for form in operands if form.variable != variable]
    # Operands are grouped by their `other`, so that a value that only a few of
    # them mention need not visit all the rest.
    groups: dict[Form, int] = {}
    mentions: dict[Value, list[tuple[Form, Form]]] = {}
    for form in top:
        groups[form.other] = groups.get(form.other, 0) + 1
        for value, case in form.cases:
            mentions.setdefault(value, []).append((form.other, case))
    groups.pop(not zero, None)
    other = _combine([*groups, *below], zero, memo)
    cases: list[tuple[Value, Form]] = []
    for value, mentioned in mentions.items():
        parts = [case for _, case in mentioned]
        seen: dict[Form, int] = {}
        for rest, _ in mentioned:
            seen[rest] = seen.get(rest, 0) + 1
        parts += [
            _inherit(rest, variable, value)
            for rest, count in groups.items()
            if seen.get(rest, 0) < count
        ]
        parts += [_inherit(form, variable, value) for form in below]
        cases.append((value, _combine(parts, zero, memo)))
    return split(variable, cases, other)


def negate(form: Form) -> Form:
    """Return the complement."""
    return _negate(form, {})


def _negate(form: Form, memo: dict[Split, Form]) -> Form:
    if isinstance(form, bool):
        return not form
    found = memo.get(form)
    if found is None:
        # A reduced form stays reduced, as both sides of every case are negated.
        cases = tuple((value, _negate(case, memo)) for value, case in form.cases)
        found = memo[form] = Split(form.variable, cases, _negate(form.other, memo))
    return found


def covers(wide: Form, narrow: Form) -> bool:
    """Whether every processor of `narrow` is in `wide`, under every topology."""
    return wide is True or narrow is False or all_of((narrow, negate(wide))) is False


_DEFAULT_FORM: Final = Split(WORKER, ((CLIENT, False),), Split(DEFAULT, ((True, True),), False))


def conjunction(literals: Iterable[Literal]) -> Form:
    """Return the form of processors that have all of these values."""
    chosen = dict(literals)
    default = chosen.pop(DEFAULT, None)
    form = chain(chosen.items())
    return all_of((_DEFAULT_FORM, form)) if default else form


def chain(literals: Iterable[Literal]) -> Form:
    """Return the bare nest of decisions, for use beneath the first variables."""
    form: Form = True
    for variable, value in sorted(literals, key=_variable_of, reverse=True):
        form = Split(variable, ((value, form),), False)
    return form


def _variable_of(literal: Literal) -> Variable:
    return literal[0]


def decide(form: Form, look_up: Callable[[Variable], object]) -> bool | Variable:
    """Return whether a processor is in the form, or a variable that this hangs on.

    `look_up` gives the processor's value for a variable, or UNKNOWN.
    """
    if isinstance(form, bool):
        return form
    value = look_up(form.variable)
    if value is not UNKNOWN:
        return decide(form.table.get(value, form.other), look_up)  # type: ignore[call-overload]
    outcomes = [decide(branch, look_up) for branch in (*form.table.values(), form.other)]
    first = outcomes[0]
    return first if all(outcome == first for outcome in outcomes) else form.variable


Row: TypeAlias = tuple[Variable, tuple[tuple[Value, int], ...], int]


def flatten(form: Form) -> tuple[Row, ...] | bool:
    """Return the form as rows that refer to earlier rows, shared parts once.

    Pickle goes down a nest recursively; rows keep a form with many labels flat.
    """
    if isinstance(form, bool):
        return form
    numbers: dict[Form, int] = {False: 0, True: 1}
    rows: list[Row] = []
    pending = [form]
    while pending:
        top = pending[-1]
        branches = (*top.table.values(), top.other)
        missing = [part for part in branches if isinstance(part, Split) and part not in numbers]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        if top not in numbers:
            cases = tuple((value, numbers[case]) for value, case in top.cases)
            rows.append((top.variable, cases, numbers[top.other]))
            numbers[top] = len(rows) + 1
    return tuple(rows)


def unflatten(rows: tuple[Row, ...] | bool) -> Form:
    """Return the form that was flattened."""
    if isinstance(rows, bool):
        return rows
    forms: list[Form] = [False, True]
    for variable, cases, other in rows:
        decided = tuple((value, forms[case]) for value, case in cases)
        forms.append(Split(variable, decided, forms[other]))
    return forms[-1]
