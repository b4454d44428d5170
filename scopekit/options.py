"""Options of tasks: given at a spawn, or for all spawns of a block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from scopekit.engine.context import around
from scopekit.engine.filestore import FileStore
from scopekit.errors import ScopeError
from scopekit.explanation import DEFAULT
from scopekit.graph import Wish
from scopekit.scopes import (
    AnyScope,
    DefaultScope,
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    ThreadProc,
    ambient,
    as_scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = (
    "DEFAULT_OPERANDS",
    "NOT_GIVEN",
    "NO_OPTIONS",
    "Around",
    "Options",
    "block_options",
    "default_options",
    "function_options",
    "get_options",
    "handed_down",
    "operands",
    "option_names",
    "perimeter",
    "perimeter_scope",
    "prefer",
    "with_options",
)

_F = TypeVar("_F", bound="Callable[..., Any]")
_ATTRIBUTE = "__scopekit_options__"
# What says where a task runs: who gives one of them says all that there is to say of it.
_WHERE = ("scope", "compute_scope", "single")

_RESULTS = "result_scope"
NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda _: "NOT_GIVEN"})()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a spawn may say besides the call.

    Attributes:
        scope: where the task may run; ``compute_scope`` wins over it.
        compute_scope: where the task may run.
        result_scope: where its result is valid; it runs inside of that, too.
        single: the one worker on which to run.
        name: what graphs and messages call it.
        wait_for: seconds to wait for a processor that does not exist yet.
        idempotent: False if it may not be started again after its worker died.
        retries: how often to try again after an error that the function raised.
        outputs: names of several results, of which the function returns a tuple; then
            ``result_scope`` may be a tuple, too, with a scope or None for each of them.
        prefer: where it would rather run, in order; never where it may not.
        priority: the higher, the sooner it is sent if it has to wait for a processor.
        meta: True if the function gets handles in place of the values of its inputs.
        get_result: True if the value is to be here when the task is done.
        propagates: which of these the tasks get, too, that the task spawns.
        given: the names of those that were said, also where they say the default.
        checkpoint: keeps the result once it has run: a FileStore, the path of one, or a
            function that is given the running task and the result.
        restore: is asked for the result before it runs: a FileStore, the path of one, or
            a function that is given the running task and returns the result, None if
            it has none.
        timeout: seconds that it may take from its start on its processor, any time if None.
    """

    scope: Any = None
    compute_scope: Any = None
    result_scope: Any = None
    single: Any = None
    name: str | None = None
    wait_for: float = 0.0
    idempotent: bool = True
    retries: int = 0
    outputs: tuple[str, ...] = ()
    prefer: tuple[Wish, ...] = ()
    priority: int = 0
    meta: bool = False
    get_result: bool = False
    propagates: tuple[str, ...] = ()
    given: tuple[str, ...] = field(default=(), repr=False, compare=False)
    checkpoint: Any = None
    restore: Any = None
    timeout: float | None = None

    @classmethod
    def checked(cls, given: dict[str, Any], where: str) -> Options:
        """Reads options as a user wrote them.

        Raises:
            ScopeError: an option is unknown or makes no sense.
        """
        known = option_names()
        for name in given:
            if name not in known:
                import difflib  # noqa: PLC0415  # for this message alone

                near = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean {near[0]}=?" if near else ""
                raise ScopeError(
                    f"{where} has no option {name!r}.{hint} The options are {', '.join(known)}."
                )
        checked = {name: _checked(name, value) for name, value in given.items() if name != _RESULTS}
        if _RESULTS in given:
            outputs = checked.get("outputs") or block_options().outputs
            checked[_RESULTS] = _result_scope(given[_RESULTS], outputs)
        # None says nothing, so that what passes options on may pass all of them on.
        said = tuple(name for name, value in checked.items() if value is not None)
        return cls(**checked, given=said) if said else NO_OPTIONS

    def only(self, names: Iterable[str]) -> Options:
        """Returns what these options say of some names."""
        kept = tuple(name for name in dict.fromkeys(names) if name in self.given)
        return Options(**{name: getattr(self, name) for name in kept}, given=kept)

    def declared(self, name: str, outputs: int) -> tuple[Scope | None, tuple[Scope | None, ...]]:
        """Returns the scope declared for all results of a task, with those for each of them.

        Args:
            name: the name of the task.
            outputs: how many results it has by name.

        Raises:
            ScopeError: there are more scopes than results, or fewer.
        """
        if not isinstance(self.result_scope, tuple):
            return self.result_scope, ()
        if len(self.result_scope) != outputs:
            raise ScopeError(
                f"{name}: result_scope= has {len(self.result_scope)} scopes, one for each output,"
                f" and the task has {outputs or 'no'} outputs of its own"
            )
        return None, self.result_scope

    def merged_over(self, outer: Options) -> Options:
        """Returns these options with the outer ones where these say nothing.

        The innermost wins: a scope given here hides an outer compute_scope as well.
        """
        if not self.given:
            return outer
        changes: dict[str, Any] = {name: getattr(self, name) for name in self.given}
        hidden = _WHERE if any(name in changes for name in _WHERE) else ()
        left = [name for name in outer.given if name not in hidden]
        changes |= {name: None for name in hidden if name not in changes}
        return replace(outer, **changes, given=tuple(dict.fromkeys((*left, *self.given))))


def option_names() -> list[str]:
    """Returns the names of all options."""
    return [each.name for each in fields(Options) if each.name != "given"]


class Around(NamedTuple):
    """What blocks around the code of a task say, or around the spawn of it.

    Attributes:
        options: what ``with_options`` gives, of all blocks together.
        perimeter: what perimeters leave, None outside of any.
    """

    options: Options
    perimeter: Scope | None

    def moved(self, meant: Callable[[Scope], Scope]) -> Around:
        """Returns the same with each scope read as another session does."""
        scopes: dict[str, Any] = {
            name: meant(value)
            for name in self.options.given
            if isinstance(value := getattr(self.options, name), Scope)
        }
        fence = None if self.perimeter is None else meant(self.perimeter)
        return Around(replace(self.options, **scopes), fence)


def handed_down(given: Options) -> Around | None:
    """Returns what a task that is spawned here hands down to those that it spawns.

    What blocks around the spawn say reaches them, with the values that the task itself
    has; what is said at the spawn alone does not, unless it is to propagate.

    Args:
        given: the options of the spawn itself, with those of its function.
    """
    here: Around | None = around.get()
    names = given.propagates
    if here is None:
        return Around(given.only(_alike(names)), None) if names else None
    passed = _alike((*here.options.given, *here.options.propagates, *names))
    if not any(name in passed for name in given.given):
        return here
    return here._replace(options=given.merged_over(here.options).only(passed))


def _alike(names: Iterable[str]) -> tuple[str, ...]:
    """Adds what hides or is hidden by the names."""
    return (*names, *_WHERE) if any(name in _WHERE for name in names) else tuple(names)


def operands(
    given: Options, function: Options | None = None, name: str = ""
) -> tuple[tuple[str, Scope], ...]:
    """Returns the scopes that bear on a task before its inputs, each with its origin.

    Args:
        given: the options of the spawn itself; those of the blocks around it, and
            the perimeter, are added here.
        function: the default options of its function, if it has any.
        name: the name of the function.
    """
    here: Around | None = around.get()
    if here is None:
        if given is NO_OPTIONS and function is None:
            return DEFAULT_OPERANDS
        here = _NOTHING
    levels = [("", given), ("with_options ", here.options)]
    if function is not None:
        levels.append((f"default_options of {name} ", function))
    found = (_compute_operands(options, where) for where, options in levels)
    results = (_result_operands(options, here.options, where) for where, options in levels)
    result = next((each for each in results if each), [])
    fences = [("perimeter", here.perimeter)] if here.perimeter is not None else []
    where_to = next((each for each in found if each), [(DEFAULT, DefaultScope())])
    return tuple(where_to + result + fences)


def _result_operands(options: Options, block: Options, where: str) -> list[tuple[str, Scope]]:
    if options.result_scope is None:
        return []
    if not isinstance(options.result_scope, tuple):
        return [(f"{where}result_scope=", options.result_scope)]
    # More scopes than names are refused by whoever makes the task.
    named = zip(options.outputs or block.outputs, options.result_scope, strict=False)
    return [
        (f"{where}result_scope= of {key!r}", scope) for key, scope in named if scope is not None
    ]


def _compute_operands(options: Options, where: str) -> list[tuple[str, Scope]]:
    found: list[tuple[str, Scope]] = []
    if options.compute_scope is not None:
        found.append((f"{where}compute_scope=", options.compute_scope))
    elif options.scope is not None:
        found.append((f"{where}scope=", options.scope))
    if options.single is not None:
        found.append((f"{where}single=", _single_scope(options.single)))
    return found


def _single_scope(worker: Any) -> Scope:
    return ProcessorTypeScope(ThreadProc, ProcessScope(worker))


def _result_scope(value: Any, outputs: tuple[str, ...]) -> Any:
    """Reads the scope of the results: one for all, or one for each of several outputs."""
    if outputs and isinstance(value, (list, tuple)):
        if len(value) != len(outputs):
            raise ScopeError(
                f"result_scope= has {len(value)} scopes for the {len(outputs)} outputs"
                f" {', '.join(outputs)}; give one for each (None: anywhere), or one scope for all"
            )
        return tuple(map(_scope_or_none, value))
    if outputs and isinstance(value, Mapping) and any(key in outputs for key in value):
        for key in value:
            if key not in outputs:
                raise ScopeError(
                    f"result_scope= names the output {key!r}; the outputs are {', '.join(outputs)}"
                )
        return tuple(_scope_or_none(value.get(key)) for key in outputs)
    return _scope_or_none(value)


def _scope_or_none(value: Any) -> Scope | None:
    return None if value is None else as_scope(value)


def _wishes(value: Any) -> tuple[Wish, ...]:
    """Reads where a task would rather run: a scope, or several in order."""
    if isinstance(value, Wish):
        return (value,)
    if not isinstance(value, (list, tuple)):
        return (prefer(value),)
    if not value:
        raise ScopeError("prefer= holds nothing; leave it out")
    return tuple(each if isinstance(each, Wish) else prefer(each) for each in value)


def prefer(scope: Any, busy: float = 0.0) -> Wish:
    """Says where a task would rather run, and how long it waits for that: ``prefer=prefer(...)``.

    Args:
        scope: the scope, or what ``scope()`` makes one of.
        busy: for how many seconds the task waits while all of it is busy.

    Returns:
        What the option ``prefer=`` takes, alone or in a list.

    Raises:
        ScopeError: it is no scope, or no number of seconds.

    Example:
        >>> prefer(ProcessScope(1), busy=2)
        Wish(scope=ProcessScope(1), busy=2)
    """
    if not _is_seconds(busy):
        raise ScopeError(f"busy={busy!r} is no number of seconds; give 0 or more")
    return Wish(as_scope(scope), busy)


def _output_names(value: Any) -> tuple[str, ...]:
    """Reads how many results there are, or what they are called."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(map(str, range(value)))
    if isinstance(value, (list, tuple)) and value:
        known = all(isinstance(name, str) and name for name in value)
        if known and len(set(value)) == len(value):
            return tuple(value)
    raise ScopeError(
        f"outputs={value!r}: give a number of results, 1 or more, or a list of their names, none"
        " of them twice"
    )


def _checked(name: str, value: Any) -> Any:
    if value is None and name in _MAY_BE_LEFT:
        return () if name in ("prefer", "outputs") else None
    return _READERS[name](name, value)


def _seconds(name: str, value: Any) -> float:
    if not _is_seconds(value):
        raise ScopeError(f"{name}={value!r} is no number of seconds; give 0 or more")
    return float(value)


def _limit(name: str, value: Any) -> float:
    if not _is_limit(value):
        raise ScopeError(f"{name}={value!r} is no number of seconds; give more than 0, or None")
    return float(value)


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ScopeError(f"{name}={value!r} is no whole number; the higher, the sooner")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ScopeError(f"{name}={value!r} is no text")
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ScopeError(f"{name}={value!r} is no number of {name}; give 0 or more")
    return value


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ScopeError(f"{name}={value!r} is neither True nor False")
    return value


def _checked_names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    wrong = [name for name in names if name not in option_names()]
    if wrong:
        raise ScopeError(
            f"propagates={value!r}: there is no option {wrong[0]!r}; the options are"
            f" {', '.join(option_names())}"
        )
    return names


def _keeper(name: str, value: Any) -> Any:
    if isinstance(value, (str, os.PathLike)):
        return FileStore(value)
    if not isinstance(value, FileStore) and not callable(value):
        raise ScopeError(f"{name}={value!r} is no FileStore, no path and no function")
    return value


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _is_limit(value: Any) -> bool:
    return _is_seconds(value) and 0 < value < float("inf")


def _known_worker(worker: Any) -> Any:
    surroundings = ambient.current()
    ProcessScope(worker)
    if surroundings is not None and not surroundings.knows(worker):
        known = ", ".join(map(str, surroundings.workers)) or "none"
        raise ScopeError(f"single={worker!r}: there is no such worker; the workers are {known}")
    return worker


NO_OPTIONS = Options()
"""What a spawn says that has no options, within no block that has any."""
DEFAULT_OPERANDS = ((DEFAULT, DefaultScope()),)
"""The scopes of such a spawn: the one object, by which it is known again."""
_NOTHING = Around(NO_OPTIONS, None)


def block_options() -> Options:
    """Returns the options of the blocks around the current code."""
    here: Around | None = around.get()
    return NO_OPTIONS if here is None else here.options


@contextlib.contextmanager
def _inside_of(inner: Around) -> Iterator[None]:
    token = around.set(inner)
    try:
        yield
    finally:
        around.reset(token)


@contextlib.contextmanager
def with_options(**options: Any) -> Iterator[None]:
    """Gives options to every task spawned inside of the block, and to those that these spawn.

    They are defaults: a spawn's own options, or an inner block's, win over them.
    Coroutines started inside have them as well; a thread has them if its function runs
    by ``contextvars.copy_context().run``.

    Args:
        options: any of the options of ``options(...)``.

    Raises:
        ScopeError: an option is unknown or makes no sense.

    Example:
        >>> with with_options(scope=ProcessScope(1)):
        ...     get_options("scope")
        ProcessScope(1)
    """
    here: Around = around.get() or _NOTHING
    inner = Options.checked(options, "with_options").merged_over(here.options)
    with _inside_of(here._replace(options=inner)):
        yield


def default_options(**options: Any) -> Callable[[_F], _F]:
    """Gives options to every task that calls a function, wherever it is spawned.

    They are the weakest: a spawn's own options and those of blocks win over them. What
    must always hold is better said with a chunk: ``tochunk(function, scope=...)``.

    Args:
        options: any of the options of ``options(...)``.

    Returns:
        The decorator of the function, which returns it as it is.

    Raises:
        ScopeError: an option is unknown or makes no sense.

    Example:
        >>> @default_options(name="fit", retries=2)
        ... def fit(data):
        ...     return sum(data)
        >>> fit([1, 2])
        3
    """
    given = Options.checked(options, "default_options")

    def decorate(function: _F) -> _F:
        setattr(function, _ATTRIBUTE, given.merged_over(function_options(function) or NO_OPTIONS))
        return function

    return decorate


def function_options(function: Any) -> Options | None:
    """Returns the default options of a function, None if it has none."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Options) else None


def get_options(key: str, default: Any = NOT_GIVEN) -> Any:
    """Returns an option of the blocks around the current code.

    Args:
        key: the name of the option.
        default: what to return where it is not set.

    Raises:
        KeyError: it is not set, and there is no default.
        ScopeError: there is no such option.
    """
    known = option_names()
    if key not in known:
        raise ScopeError(f"there is no option {key!r}; the options are {', '.join(known)}")
    block = block_options()
    if key in block.given:
        return getattr(block, key)
    if default is NOT_GIVEN:
        raise KeyError(f"option {key!r} is not set here")
    return default


def perimeter_scope() -> Scope:
    """Returns what the perimeters around the current code leave; anywhere outside of any."""
    here: Around | None = around.get()
    return AnyScope() if here is None or here.perimeter is None else here.perimeter


@contextlib.contextmanager
def perimeter(scope: Any) -> Iterator[None]:
    """Keeps every task spawned inside of the block within a scope, and those that these spawn.

    Unlike ``with_options`` it is no default: what is given inside narrows it and
    never widens it.

    Args:
        scope: the scope, or what ``scope()`` makes one of.

    Raises:
        ScopeError: it is no scope.
    """
    here: Around = around.get() or _NOTHING
    with _inside_of(here._replace(perimeter=as_scope(scope) & perimeter_scope())):
        yield


_MAY_BE_LEFT = (
    *("scope", "compute_scope", "single", "name"),
    *("prefer", "outputs", "checkpoint", "restore", "timeout"),
)
_READERS: dict[str, Callable[[str, Any], Any]] = {
    "scope": lambda _, value: as_scope(value),
    "compute_scope": lambda _, value: as_scope(value),
    "single": lambda _, value: _known_worker(value),
    "name": _text,
    "wait_for": _seconds,
    "idempotent": _switch,
    "retries": _count,
    "propagates": lambda _, value: _checked_names(value),
    "outputs": lambda _, value: _output_names(value),
    "priority": _whole_number,
    "meta": _switch,
    "get_result": _switch,
    "checkpoint": _keeper,
    "restore": _keeper,
    "prefer": lambda _, value: _wishes(value),
    "timeout": _limit,
}
