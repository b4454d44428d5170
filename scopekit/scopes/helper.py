"""The `scope` helper: scopes from records, words and custom keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar, cast

from scopekit.errors import ScopeError
from scopekit.scopes import ambient
from scopekit.scopes.processors import (
    CLIENT,
    THREAD,
    Kind,
    OSProc,
    ThreadProc,
    Worker,
    check_worker,
    kind_names,
    order_of_worker,
    type_named,
)
from scopekit.scopes.scope import (
    AnyScope,
    DefaultScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    UnionScope,
    constrain,
    index_scope,
)

if TYPE_CHECKING:
    from scopekit.scopes.ambient import Surroundings

__all__ = ("Record", "as_scope", "scope", "scope_key")

ALL: Final = "all"

_ALIASES: Final = {
    "worker": "worker",
    "workers": "worker",
    "engine": "worker",
    "engines": "worker",
    "thread": "thread",
    "threads": "thread",
    "node": "node",
    "nodes": "node",
    "label": "label",
    "labels": "label",
    "type": "type",
}

Choice: TypeAlias = "tuple[object, ...] | None"
"""The values given for a key; None for "all"."""

Operand: TypeAlias = tuple[Scope, str]
"""What one key says, beside how it was written."""


def scope(*specs: object, **keys: object) -> Scope:
    """Return the scope that the arguments say.

    Args:
        specs: a scope, ``"any"``, ``"default"``, a record (a mapping of keys),
            or a tuple of these; several make a union.
        keys: a record: ``worker``, ``thread``, ``node``, ``label``, ``type``,
            their plurals, or custom keys. A key takes one value, several, or
            ``"all"``. Different keys narrow each other.

    Returns:
        The scope.

    Raises:
        ScopeError: it makes no sense; in a session also if a worker or node is
            unknown to it.
        TypeError: positional and keyword arguments are mixed.

    Example:
        >>> scope(worker=1, thread=0)
        ExactScope(ThreadProc(1, 0))
        >>> scope({"worker": 1, "thread": 0}, {"node": "a"}).describe()
        'worker 1, thread 0 or node a'
    """
    if specs and keys:
        msg = (
            "scope() takes specs or keywords, not both; "
            "write scope(spec, {'worker': 1}) for a union, or spec & scope(worker=1)"
        )
        raise TypeError(msg)
    if keys:
        return _from_record(keys)
    if not specs:
        msg = "scope() needs something to make a scope of; everything is scope('any')"
        raise ScopeError(msg)
    return _union([as_scope(spec) for spec in specs])


def as_scope(spec: object) -> Scope:
    """Return the scope that one spec says.

    Args:
        spec: a scope, ``"any"``, ``"default"``, a record, or a tuple of these.

    Returns:
        The scope; a scope is returned as it is.

    Raises:
        ScopeError: the spec says no scope.

    Example:
        >>> as_scope("any")
        AnyScope()
    """
    match spec:
        case Scope():
            return spec
        case str():
            return _from_word(spec)
        case Mapping():
            return _from_record(spec)
        case tuple() if spec:
            return _union([as_scope(member) for member in spec])
    msg = (
        f"no scope can be made from {spec!r} ({type(spec).__name__}); give a scope, 'any', "
        "'default', a record such as {'worker': 1}, or a non-empty tuple of these"
    )
    raise ScopeError(msg)


def _union(scopes: list[Scope]) -> Scope:
    return scopes[0] if len(scopes) == 1 else UnionScope(scopes)


def _from_word(word: str) -> Scope:
    match word.removeprefix(":"):
        case "any":
            return AnyScope()
        case "default":
            return DefaultScope()
    near = _did_you_mean(word, ("any", "default"))
    msg = f"no scope is called {word!r}; the words are 'any' or 'default'{near}"
    raise ScopeError(msg)


def _from_record(record: Mapping[Any, object]) -> Scope:
    if not record:
        msg = "an empty record says no scope; everything is scope('any')"
        raise ScopeError(msg)
    custom = [key for key in record if key not in _ALIASES]
    return _from_custom_keys(record, custom) if custom else _from_known_keys(record)


# The built-in keys


def _from_known_keys(record: Mapping[str, object]) -> Scope:
    chosen: dict[str, Choice] = {}
    given: dict[str, str] = {}
    for key, value in record.items():
        name = _ALIASES[key]
        if name in given:
            msg = f"{given[name]}= and {key}= say the same thing twice; give one of them"
            raise ScopeError(msg)
        given[name] = key
        chosen[name] = _choice(key, value)
    return _meet_all([*_processor_operands(chosen, given), *_place_operands(chosen)])


def _choice(key: str, value: object) -> Choice:
    if isinstance(value, str) and value == ALL:
        return None
    if isinstance(value, Mapping):
        msg = f"{key}={value!r} is a record; give one value, several, or 'all'"
        raise ScopeError(msg)
    if isinstance(value, str | type) or not isinstance(value, Iterable):
        return (value,)
    values = tuple(value)
    if not values:
        msg = f"{key}={value!r} holds nothing; give at least one, or leave {key}= out for any"
        raise ScopeError(msg)
    if isinstance(value, set | frozenset):
        return tuple(sorted(values, key=repr))
    return values


def _processor_operands(
    chosen: Mapping[str, Choice], given: Mapping[str, str]
) -> Iterator[Operand]:
    workers, threads = chosen.get("worker"), chosen.get("thread")
    if workers is not None:
        known = [_known_worker(worker) for worker in workers]
        places = _union([ProcessScope(worker) for worker in known])
        yield places, _said(given["worker"], known)
    if threads is not None:
        numbers = [_thread_number(thread) for thread in threads]
        indexed = _union([index_scope(THREAD, number) for number in numbers])
        yield indexed, _said(given["thread"], numbers)
    elif "thread" in chosen:
        yield ProcessorTypeScope(THREAD), f"{given['thread']}='all'"
    elif "worker" in chosen and "type" not in chosen:
        yield ProcessorTypeScope(THREAD), f"the threads that {given['worker']}= implies"


def _place_operands(chosen: Mapping[str, Choice]) -> Iterator[Operand]:
    types = chosen.get("type", ())
    if types is None:
        msg = "type='all' is every processor: leave type= out, or write scope('any')"
        raise ScopeError(msg)
    if types:
        yield _union([ProcessorTypeScope(_processor_type(t)) for t in types]), _said("type", types)
    nodes = chosen.get("node", ())
    if nodes is None:
        yield AnyScope(), "nodes='all'"
    elif nodes:
        yield _union([_known_node(node) for node in nodes]), _said("node", nodes)
    labels = chosen.get("label", ())
    if labels is None:
        msg = "labels='all' says no labels; name them, or leave labels= out"
        raise ScopeError(msg)
    if labels:
        yield _union([LabelScope(cast("str", label)) for label in labels]), _said("label", labels)


def _said(key: str, values: Iterable[object]) -> str:
    listed = list(values)
    return f"{key}={listed[0]!r}" if len(listed) == 1 else f"{key}={listed!r}"


def _meet_all(operands: list[Operand]) -> Scope:
    if len(operands) == 1:
        return operands[0][0]
    scopes = [operand for operand, _ in operands]
    made = constrain(*scopes, origins=[origin for _, origin in operands])
    if not isinstance(made, InvalidScope):
        return made
    clash = [f"{origin} ({found!r})" for found, origin in made.conflict]
    msg = f"no processor is in {' and '.join(clash)} at once; drop or change one of them"
    raise ScopeError(msg)


def _known_worker(value: object) -> Worker:
    worker = check_worker(value.worker if isinstance(value, OSProc) else value)
    surroundings = ambient.current()
    if surroundings is not None and not surroundings.knows(worker):
        _refuse_worker(worker, surroundings)
    return worker


def _refuse_worker(worker: Worker, surroundings: Surroundings) -> NoReturn:
    known = sorted(surroundings.workers, key=order_of_worker)
    listed = _listed([*known, *([CLIENT] if surroundings.knows(CLIENT) else [])])
    msg = (
        f"the session has no worker {worker!r}; its workers are {listed}. "
        "Add some with session.add_workers(n)"
    )
    raise ScopeError(msg)


def _known_node(value: object) -> Scope:
    made = NodeScope(value)
    surroundings = ambient.current()
    if surroundings is not None and made.node not in surroundings.nodes:
        nodes = tuple(surroundings.nodes)
        near = _did_you_mean(made.node, nodes)
        msg = f"the session has no node {made.node!r}; its nodes are {_listed(nodes)}{near}"
        raise ScopeError(msg)
    return made


def _thread_number(value: object) -> int:
    return ThreadProc(CLIENT, cast("int", value)).thread


def _processor_type(value: object) -> object:
    if isinstance(value, Kind) or not isinstance(value, str):
        return value
    found = type_named(value)
    if found is None:
        known = kind_names()
        near = _did_you_mean(value, known)
        msg = f"no processor type is called {value!r}; there are {_listed(known)}{near}"
        raise ScopeError(msg)
    return found


# Custom keys

Handler: TypeAlias = "Callable[[Record], Scope]"
_HandlerT = TypeVar("_HandlerT", bound="Callable[[Record], Scope]")


@dataclass(frozen=True, slots=True)
class _Custom:
    precedence: int
    handler: Handler


_custom: dict[str, _Custom] = {}


def scope_key(name: str, precedence: int = 0) -> Callable[[_HandlerT], _HandlerT]:
    """Register a key of your own for `scope`.

    Args:
        name: the key.
        precedence: of several custom keys in one record, the highest decides.

    Returns:
        A decorator for the handler. That is given the whole record, to be read
        by key or by attribute, and returns a scope. A key that it never reads
        is an error, so that a slip of the pen does not go unseen.

    Raises:
        ScopeError: the name is a built-in key.

    Example:
        >>> @scope_key("gpu", precedence=1)
        ... def gpu_scope(record):
        ...     return scope(worker=record.gpu, type="cuda")
        >>> scope(gpu=2)
        ProcessorTypeScope(CudaProc, ProcessScope(2))
    """
    if not isinstance(name, str) or not name:
        msg = f"{name!r} cannot be a key of scope(); use a name such as 'gpu'"
        raise ScopeError(msg)
    if name in _ALIASES:
        msg = f"{name!r} is a built-in key of scope(); choose another name"
        raise ScopeError(msg)

    def register(handler: _HandlerT) -> _HandlerT:
        _custom[name] = _Custom(precedence, handler)
        return handler

    return register


class Record(Mapping[str, Any]):
    """The keys given to `scope`, read-only, by key or by attribute.

    Args:
        values: the keys with their values.
    """

    __slots__ = ("_read", "_values")

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = dict(values)
        self._read: dict[str, None] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise _MissingKeyError(key)
        self._read[key] = None
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Record({self._values!r})"

    def unread(self) -> tuple[str, ...]:
        """Return the keys that nobody asked for.

        Returns:
            The keys, in the order in which they were given.

        Example:
            >>> Record({"gpu": 1}).unread()
            ('gpu',)
        """
        return tuple(key for key in self._values if key not in self._read)


class _MissingKeyError(KeyError, AttributeError):
    """A handler asked for a key that the record lacks."""


def _from_custom_keys(record: Mapping[str, object], custom: list[str]) -> Scope:
    registered = sorted((key for key in custom if key in _custom), key=str)
    if not registered:
        _refuse_keys(custom)
    highest = max(_custom[key].precedence for key in registered)
    winners = [key for key in registered if _custom[key].precedence == highest]
    if len(winners) > 1:
        msg = (
            f"the keys {_listed(winners)} compete, all with precedence {highest}; "
            "give one of them, or register them with different precedences"
        )
        raise ScopeError(msg)
    return _run_handler(winners[0], Record(record))


def _run_handler(key: str, record: Record) -> Scope:
    try:
        made: object = _custom[key].handler(record)
    except _MissingKeyError as error:
        msg = f"the scope key {key!r} also needs {error.args[0]}=, which was not given"
        raise ScopeError(msg) from error
    if not isinstance(made, Scope):
        msg = (
            f"the handler of the scope key {key!r} must return a scope, "
            f"not {made!r} ({type(made).__name__})"
        )
        raise ScopeError(msg)
    unread = [name for name in record.unread() if name != key]
    if unread:
        _refuse_keys(unread, f" together with {key}=, whose handler never reads it")
    return made


def _refuse_keys(keys: list[str], why: str = "") -> NoReturn:
    known = (*_ALIASES, *sorted(_custom))
    near = _did_you_mean(str(keys[0]), known)
    listed = " and ".join(repr(key) for key in keys)
    msg = f"scope() knows no key {listed}{why}; the keys are {', '.join(known)}{near}"
    raise ScopeError(msg)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - needed for errors alone

    near = difflib.get_close_matches(word.removeprefix(":"), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _listed(values: Iterable[object]) -> str:
    shown = [repr(value) for value in values]
    return ", ".join(shown) if shown else "none"
