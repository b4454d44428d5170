"""The kinds of scope, each the face of one shape of the canonical form.

A constructor returns the kind that its meaning has: a union of one process
with itself is a ProcessScope.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

from scopekit.errors import ScopeError
from scopekit.scopes import ambient, text
from scopekit.scopes.conjuncts import Conjunct, conjuncts, only_conjunct
from scopekit.scopes.form import (
    DEFAULT,
    INDEX,
    KIND,
    NODE,
    SEALED,
    UNKNOWN,
    WORKER,
    Form,
    Literal,
    Value,
    Variable,
    all_of,
    any_of,
    chain,
    conjunction,
    covers,
    decide,
    flatten,
    is_label,
    label_variable,
    negate,
    unflatten,
)
from scopekit.scopes.markup import scope_html
from scopekit.scopes.processors import Kind, OSProc, Processor, Worker, check_worker, type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scopekit.scopes.ambient import Surroundings, TopologyView

__all__ = (
    "AnyScope",
    "DefaultScope",
    "ExactScope",
    "InvalidScope",
    "LabelScope",
    "NodeScope",
    "ProcessScope",
    "ProcessorTypeScope",
    "Scope",
    "TaintScope",
    "UnionScope",
    "constrain",
    "from_form",
    "index_scope",
    "own_value",
)

Operand: TypeAlias = "tuple[Scope, str | None]"


class Scope:
    """Where a value is valid: a set of processors that needs no session to mean something.

    Scopes are immutable values: equal meaning is equal scope. They combine
    with ``&``, ``|``, ``-`` and ``~``; ``processor in scope`` asks for one
    processor, ``a <= b`` whether one scope lies within another.

    Example:
        >>> ProcessScope(0) | ProcessScope(1) == UnionScope(ProcessScope(1), ProcessScope(0))
        True
    """

    __slots__ = ("_form",)

    _form: Form

    def __new__(cls, *_arguments: object, **_keywords: object) -> Scope:  # noqa: PYI034
        """Refuse: only the kinds can be made."""
        msg = "Scope is the base of the kinds; make an AnyScope, a ProcessScope, ... or use scope()"
        raise TypeError(msg)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The parts of which this scope is the union; one, unless it is a UnionScope."""
        return tuple(_from_conjunct(part) for part in conjuncts(self._form))

    def processors(self, topology: TopologyView | None = None) -> tuple[Processor, ...]:
        """Return the processors in the scope.

        Args:
            topology: where to look; the current session's topology if None.

        Returns:
            The processors, in the topology's order.

        Raises:
            ScopeError: there is neither a topology nor a session.
        """
        view = _topology() if topology is None else topology
        if view is None:
            msg = (
                f"which processors are in {self!r} depends on the session, and there is none; "
                "start one with scopekit.start(), or pass a topology"
            )
            raise ScopeError(msg)
        return view.select(view.mask(self))

    def describe(self) -> str:
        """Return the words for the scope.

        Returns:
            Such as ``"worker 1 or worker 3"``.

        Example:
            >>> (ProcessScope(1) | ProcessScope(3)).describe()
            'worker 1 or worker 3'
        """
        return text.words(self._form)

    def __and__(self, other: object) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        return _meet(((self, None), (other, None)))

    def __or__(self, other: object) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        return _join((self, other))

    def __sub__(self, other: object) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        return _meet(((self, None), (~other, None)))

    def __invert__(self) -> Scope:
        return from_form(negate(self._form))

    def __contains__(self, processor: object) -> bool:
        if not isinstance(processor, Processor):
            msg = f"a scope holds processors; {processor!r} ({_type_name(processor)}) is none"
            raise TypeError(msg)
        return _holds(self, processor)

    def __le__(self, other: object) -> bool:
        if not isinstance(other, Scope):
            return NotImplemented
        topology = _topology()
        if topology is None:
            return covers(other._form, self._form)
        return topology.mask(self) & ~topology.mask(other) == 0

    def __ge__(self, other: object) -> bool:
        return other <= self if isinstance(other, Scope) else NotImplemented

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Scope):
            return NotImplemented
        return self <= other and not other <= self

    def __gt__(self, other: object) -> bool:
        return other < self if isinstance(other, Scope) else NotImplemented

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Scope):
            return NotImplemented
        return self._form == other._form

    def __hash__(self) -> int:
        return hash(self._form)

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"a scope cannot be changed: {name!r} cannot be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"a scope cannot be changed: {name!r} cannot be deleted"
        raise AttributeError(msg)

    def __copy__(self) -> Scope:
        return self

    def __deepcopy__(self, _memo: object) -> Scope:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (flatten(self._form),))

    def __repr__(self) -> str:
        return text.expression(self._form)

    def _repr_html_(self) -> str:
        topology = _topology()
        found = None if topology is None else topology.select(topology.mask(self))
        return scope_html(self.describe(), repr(self), _SHAPES[type(self)], found)


class AnyScope(Scope):
    """Everywhere, opt-in processors and the client too.

    Example:
        >>> AnyScope() & ProcessScope(0)
        ProcessScope(0)
    """

    __slots__ = ()

    def __new__(cls) -> AnyScope:  # noqa: PYI034 - kinds are final
        """Return the one such scope."""
        return cast("AnyScope", _ANY)


class InvalidScope(Scope):
    """Nowhere: what is left of scopes that never meet.

    Attributes:
        operands: the scopes that do not meet, each with its origin or None.

    Example:
        >>> ProcessScope(0) & ProcessScope(1)
        InvalidScope()
    """

    __slots__ = ("operands",)

    operands: tuple[Operand, ...]

    def __new__(cls) -> InvalidScope:  # noqa: PYI034 - kinds are final
        """Return such a scope that knows no operands."""
        return _invalid(())

    @property
    def conflict(self) -> tuple[Operand, ...]:
        """The fewest operands that already never meet; the first clashing pair if there is one.

        Beyond three the operands are few enough that none can be left out,
        though another choice might be smaller.
        """
        return _smallest_conflict(self.operands)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_invalid, (self.operands,))


class NodeScope(Scope):
    """One node: every process of it.

    Args:
        node: the node's name, or an object with a name; this node if None.

    Raises:
        ScopeError: no node is given, and there is no session to say which is this.

    Example:
        >>> NodeScope("a").node
        'a'
    """

    __slots__ = ()

    def __new__(cls, node: object = None) -> NodeScope:  # noqa: PYI034 - kinds are final
        """Return the scope of the node."""
        name = _this_node() if node is None else _node_name(node)
        return cast("NodeScope", _of_literals(((NODE, name),)))

    @property
    def node(self) -> str:
        """The name of the node."""
        return cast("str", _values(self)[NODE])


class ProcessScope(Scope):
    """One process, every processor of it.

    It names one incarnation of the process: a successor has another id. Made
    inside a session it knows its node.

    Args:
        worker: an engine id or ``"client"``; this process if None.
        node: the name of its node, where that is known better than here.

    Raises:
        ScopeError: the worker can be none, or none is given outside a session.

    Example:
        >>> ProcessScope(0).worker
        0
    """

    __slots__ = ()

    def __new__(  # noqa: PYI034 - kinds are final
        cls, worker: Worker | OSProc | None = None, *, node: object = None
    ) -> ProcessScope:
        """Return the scope of the process."""
        if isinstance(worker, OSProc):
            worker = worker.worker
        place = _here().here if worker is None else check_worker(worker)
        literals: tuple[Literal, ...] = ((WORKER, place), *_location(place, node))
        return cast("ProcessScope", _of_literals(literals))

    @property
    def worker(self) -> Worker:
        """The worker that the process is."""
        return cast("Worker", _values(self)[WORKER])

    @property
    def node(self) -> str | None:
        """The name of its node, None where that is unknown."""
        return cast("str | None", _values(self).get(NODE))

    @property
    def parent(self) -> Scope:
        """The scope of its node; AnyScope where that is unknown."""
        return AnyScope() if self.node is None else NodeScope(self.node)


class ExactScope(Scope):
    """One processor.

    Args:
        processor: the processor; whether it exists is a session's business.
        node: the name of its node, where that is known better than here.

    Raises:
        TypeError: what is given is no processor.

    Example:
        >>> from scopekit.scopes import ThreadProc
        >>> ExactScope(ThreadProc(0, 1)).parent
        ProcessScope(0)
    """

    __slots__ = ()

    def __new__(  # noqa: PYI034 - kinds are final
        cls, processor: Processor, *, node: object = None
    ) -> ExactScope:
        """Return the scope of the processor."""
        _check_processor(processor)
        literals: list[Literal] = [(WORKER, processor.worker), (KIND, processor.kind)]
        if processor.kind.indexed:
            literals.append((INDEX, processor.index))
        literals.extend(_location(processor.worker, node))
        return cast("ExactScope", _of_literals(literals))

    @property
    def processor(self) -> Processor:
        """The processor."""
        return cast("Processor", text.Reading(tuple(_values(self).items())).processor)

    @property
    def worker(self) -> Worker:
        """The worker that the processor belongs to."""
        return self.processor.worker

    @property
    def node(self) -> str | None:
        """The name of its node, None where that is unknown."""
        return cast("str | None", _values(self).get(NODE))

    @property
    def parent(self) -> Scope:
        """The scope of its process."""
        literals = [(v, value) for v, value in _values(self).items() if v in (WORKER, NODE)]
        return _of_literals(literals)


class TaintScope(Scope):
    """The processors of an inner scope that pass some tests.

    Args:
        inner: where to look.
        taints: the tests, in any order: ``"default"``, ``"sealed"``, a processor type,
            ``("label", text)``, ``("index", i)`` beside a type, or a scope.

    Raises:
        ScopeError: a taint is none of these.

    Example:
        >>> TaintScope(NodeScope("a"), ["default"]).describe()
        'node a, default'
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]
        cls, inner: Scope, taints: Iterable[object]
    ) -> Scope:
        """Return what is left of the inner scope."""
        _check_scope(inner, "the inner scope of TaintScope")
        if isinstance(taints, str) or _is_pair(taints):
            taints = (taints,)
        return _meet(((inner, None), *((taint, None) for taint in _taint_scopes(taints))))

    @property
    def inner(self) -> Scope:
        """The node, process or processor that is tainted; AnyScope if none."""
        places = (WORKER, NODE)
        values = _values(self)
        reading = text.Reading(tuple(values.items()))
        if reading.processor is not None:
            places = (WORKER, KIND, INDEX, NODE)  # type: ignore[assignment]
        return _of_literals([(v, value) for v, value in values.items() if v in places])

    @property
    def taints(self) -> tuple[object, ...]:
        """The tests: ``"default"``, types, labels, and the complement of each part left out."""
        part = _only_conjunct(self)
        tests: list[object] = [
            type_of(taint) if isinstance(taint, Kind) else taint
            for taint in text.Reading(part.has).taints
        ]
        tests.extend(~_of_literals(literals) for literals in part.lacks)
        return tuple(tests)


class UnionScope(Scope):
    """Wherever one of its members is.

    Args:
        scopes: the members, or one iterable of them.

    Raises:
        ScopeError: there is no member.
        TypeError: a member is no scope.

    Example:
        >>> UnionScope(ProcessScope(1), ProcessScope(0), ProcessScope(1))
        UnionScope(ProcessScope(0), ProcessScope(1))
    """

    __slots__ = ()

    def __new__(cls, *scopes: Scope | Iterable[Scope]) -> Scope:  # type: ignore[misc]
        """Return the union, of whichever kind it is."""
        members: tuple[object, ...] = scopes
        if len(scopes) == 1 and not isinstance(scopes[0], Scope):
            members = _members(scopes[0])
        for number, member in enumerate(members, 1):
            _check_scope(member, f"member {number} of UnionScope")
        if not members:
            msg = "a union needs at least one scope; a scope that holds nothing is InvalidScope()"
            raise ScopeError(msg)
        return _join(cast("tuple[Scope, ...]", members))


_SHAPES: Final = {
    AnyScope: "any",
    InvalidScope: "invalid",
    NodeScope: "node",
    ProcessScope: "process",
    ExactScope: "exact",
    TaintScope: "taint",
    UnionScope: "union",
}


def DefaultScope() -> Scope:  # noqa: N802 - reads like the kinds beside it
    """Return the scope of the processors that run tasks unless told otherwise.

    Returns:
        Every engine's processors that are not opt-in.

    Example:
        >>> from scopekit.scopes import CudaProc, ThreadProc
        >>> ThreadProc(0, 0) in DefaultScope(), CudaProc(0, 0) in DefaultScope()
        (True, False)
    """
    return _DEFAULT


def ProcessorTypeScope(type: object, inner: Scope | None = None) -> Scope:  # noqa: A002, N802
    """Return the scope of the processors of one kind; it opts in to them.

    Args:
        type: a processor type such as CudaProc.
        inner: where to look; everywhere if None.

    Returns:
        The scope.

    Raises:
        ScopeError: the type is none.

    Example:
        >>> from scopekit.scopes import CudaProc
        >>> ProcessorTypeScope(CudaProc, ProcessScope(0)).describe()
        'the cuda processors of worker 0'
    """
    if not (isinstance(type, Kind) or _is_processor_type(type)):
        msg = f"{type!r} is no processor type; name one such as ThreadProc or CudaProc"
        raise ScopeError(msg)
    return TaintScope(AnyScope() if inner is None else inner, (type,))


def LabelScope(label: str) -> Scope:  # noqa: N802 - reads like the kinds beside it
    """Return the scope of the processes that carry a label.

    Args:
        label: the label's text.

    Returns:
        The scope.

    Raises:
        ScopeError: the label is no text.

    Example:
        >>> LabelScope("camera").describe()
        'label camera'
    """
    if not isinstance(label, str) or not label:
        msg = f"{label!r} is no label; a label is a text such as 'camera'"
        raise ScopeError(msg)
    return _of_literals(((label_variable(label), True),))


def constrain(
    first: Scope,
    second: Scope,
    /,
    *more: Scope,
    origins: Sequence[str | None] | None = None,
) -> Scope:
    """Return where all of the scopes hold.

    Args:
        first: a scope.
        second: a scope.
        more: further scopes.
        origins: where each scope comes from, for explanations.

    Returns:
        The intersection. If it is an InvalidScope, that keeps every scope with
        its origin, in order, and says in `conflict` which ones clash.

    Raises:
        TypeError: one of them is no scope.

    Example:
        >>> constrain(NodeScope("a"), ProcessScope(0), NodeScope("b")).conflict
        ((NodeScope('a'), None), (NodeScope('b'), None))
    """
    scopes = (first, second, *more)
    for number, operand in enumerate(scopes, 1):
        _check_scope(operand, f"operand {number} of constrain")
    names = (None,) * len(scopes) if origins is None else tuple(origins)
    return _meet(tuple(zip(scopes, names, strict=True)))


# Making a scope from a form


def from_form(form: Form) -> Scope:
    """Return the scope of a canonical form, of the kind that its shape has."""
    if form is False:
        return _invalid(())
    made = object.__new__(_kind_of(form))
    object.__setattr__(made, "_form", form)
    return made


def _kind_of(form: Form) -> type[Scope]:
    part = only_conjunct(form)
    if part is None:
        return UnionScope
    reading = text.Reading(part.has)
    if part.lacks or reading.taints:
        return TaintScope
    if reading.processor is not None:
        return ExactScope
    if reading.worker is not None:
        return ProcessScope
    return AnyScope if reading.node is None else NodeScope


def _invalid(operands: tuple[Operand, ...]) -> InvalidScope:
    made = object.__new__(InvalidScope)
    object.__setattr__(made, "_form", False)
    object.__setattr__(made, "operands", operands)
    return made


def _restore(rows: Any) -> Scope:
    form = unflatten(rows)
    return _ANY if form is True else from_form(form)


def _of_literals(literals: Iterable[Literal]) -> Scope:
    return from_form(conjunction(literals))


def _from_conjunct(part: Conjunct) -> Scope:
    return from_form(part.form())


def _only_conjunct(scope: Scope) -> Conjunct:
    return next(conjuncts(scope._form))


def _values(scope: Scope) -> dict[Variable, Value]:
    return dict(_only_conjunct(scope).has)


_ANY: Final = from_form(True)
_DEFAULT: Final = from_form(conjunction(((DEFAULT, True),)))
_SEALED: Final = from_form(conjunction(((SEALED, True),)))


# The algebra


def _meet(operands: Sequence[Operand]) -> Scope:
    form = all_of(scope._form for scope, _ in operands)
    if form is not False:
        return from_form(form)
    known: list[Operand] = []
    for scope, origin in operands:
        inner = scope.operands if isinstance(scope, InvalidScope) else ()
        known.extend(inner or ((scope, origin),))
    return _invalid(tuple(known))


def _join(scopes: Sequence[Scope]) -> Scope:
    form = any_of(scope._form for scope in scopes)
    if form is not False:
        return from_form(form)
    return _invalid(
        tuple(
            operand
            for scope in scopes
            if isinstance(scope, InvalidScope)
            for operand in scope.operands
        )
    )


_SEARCHED: Final = 3


def _smallest_conflict(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
    for size in range(1, min(len(operands), _SEARCHED) + 1):
        for some in combinations(operands, size):
            if _clash(some):
                return some
    return _irreducible(operands)


def _irreducible(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
    needed = list(operands)
    for operand in operands:
        without = [kept for kept in needed if kept is not operand]
        if _clash(without):
            needed = without
    return tuple(needed)


def _clash(operands: Iterable[Operand]) -> bool:
    return all_of(scope._form for scope, _ in operands) is False


# What the surroundings know


def _topology() -> TopologyView | None:
    surroundings = ambient.current()
    return None if surroundings is None else surroundings.topology


def _here() -> Surroundings:
    surroundings = ambient.current()
    if surroundings is None:
        msg = (
            "there is no session that could say which process or node this is; "
            "start one with scopekit.start(), or name it: ProcessScope(0), NodeScope('a')"
        )
        raise ScopeError(msg)
    return surroundings


def _this_node() -> str:
    surroundings = _here()
    name = surroundings.node_of(surroundings.here)
    if name is None:
        msg = "the session does not know this process's node; name the node: NodeScope('a')"
        raise ScopeError(msg)
    return name


def _location(worker: Worker, node: object) -> tuple[Literal, ...]:
    name = ambient.node_of(worker) if node is None else _node_name(node)
    return () if name is None else ((NODE, name),)


def _node_name(node: object) -> str:
    name = node if isinstance(node, str) else getattr(node, "name", None)
    if not isinstance(name, str) or not name:
        msg = f"{node!r} names no node; a node is known by its name, such as NodeScope('a')"
        raise ScopeError(msg)
    return name


def _holds(scope: Scope, processor: Processor) -> bool:
    topology = _topology()

    def look_up(variable: Variable) -> object:
        if variable == NODE:
            found: object = None if topology is None else topology.node_of(processor.worker)
            return UNKNOWN if found is None else found
        if is_label(variable):
            labels = None if topology is None else topology.labels_of(processor.worker)
            return UNKNOWN if labels is None else variable[1] in labels
        return own_value(processor, variable)

    outcome = decide(scope._form, look_up)
    if isinstance(outcome, bool):
        return outcome
    what = "labels" if is_label(outcome) else "node"
    msg = (
        f"whether {processor!r} is in {scope!r} depends on the {what} of worker "
        f"{processor.worker!r}, which is not known here; start a session with scopekit.start()"
    )
    raise ScopeError(msg)


def own_value(processor: Processor, variable: Variable) -> object:
    """Return a processor's value for a variable that needs no topology."""
    if variable == WORKER:
        return processor.worker
    if variable == KIND:
        return processor.kind
    if variable == SEALED:
        return True
    return processor.index if variable == INDEX else processor.default_enabled


# Reading arguments


def _type_name(value: object) -> str:
    return type(value).__name__


def _check_processor(value: object) -> None:
    if not isinstance(value, Processor):
        msg = (
            "ExactScope takes a processor such as ThreadProc(0, 1), "
            f"not {value!r} ({_type_name(value)})"
        )
        raise TypeError(msg)


def _check_scope(value: object, place: str) -> None:
    if not isinstance(value, Scope):
        msg = (
            f"{place} must be a scope, not {value!r} ({_type_name(value)}); "
            "make one with ProcessScope(0), NodeScope('a'), scope(worker=0), ..."
        )
        raise TypeError(msg)


def _members(scopes: object) -> tuple[object, ...]:
    try:
        return tuple(cast("Iterable[object]", scopes))
    except TypeError:
        return (scopes,)


def _is_processor_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Processor) and value is not Processor


def _is_pair(taint: object) -> bool:
    return isinstance(taint, tuple) and bool(taint) and taint[0] in ("label", "index")


def _taint_scopes(taints: Iterable[object]) -> list[Scope]:
    # An index says nothing without the kind that it counts, so the two go together.
    plain: list[Scope] = []
    kinds: list[Kind] = []
    indexes: list[int] = []
    for taint in taints:
        match taint:
            case Scope():
                plain.append(taint)
            case "default":
                plain.append(_DEFAULT)
            case "sealed":
                plain.append(_SEALED)
            case Kind():
                kinds.append(taint)
            case ("label", label):
                plain.append(LabelScope(cast("str", label)))
            case ("index", int() as index) if index >= 0 and index is not True:
                indexes.append(index)
            case _ if _is_processor_type(taint):
                kinds.append(cast("type[Processor]", taint).kind)
            case _:
                _refuse_taint(taint)
    if indexes and not kinds:
        _refuse_taint(("index", indexes[0]))
    plain.extend(_of_literals(((KIND, kind),)) for kind in kinds)
    plain.extend(index_scope(kind, index) for kind in kinds for index in indexes)
    return plain


def _refuse_taint(taint: object) -> NoReturn:
    msg = (
        f"{taint!r} is no taint; the taints are 'default', 'sealed', a processor type such as "
        "ThreadProc, ('label', text), ('index', i) beside a processor type, and any scope"
    )
    raise ScopeError(msg)


def index_scope(kind: Kind, index: int) -> Scope:
    """Return the scope of every worker's processor of that kind and index."""
    if not kind.indexed:
        return from_form(chain(((KIND, kind),)) if index == 0 else False)
    return from_form(chain(((KIND, kind), (INDEX, index))))
