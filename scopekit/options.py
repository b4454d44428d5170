"""Options of tasks: given at a spawn, or for all spawns of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Iterator

__all__ = (
    "DEFAULT_OPERANDS",
    "NOT_GIVEN",
    "NO_OPTIONS",
    "Options",
    "block_options",
    "get_options",
    "operands",
    "perimeter",
    "perimeter_scope",
    "prefer",
    "with_options",
)

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

    @classmethod
    def checked(cls, given: dict[str, Any], where: str) -> Options:
        """Reads options as a user wrote them.

        Raises:
            ScopeError: an option is unknown or makes no sense.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                import difflib  # noqa: PLC0415  # for this message alone

                near = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean {near[0]}=?" if near else ""
                raise ScopeError(
                    f"{where} has no option {name!r}.{hint} The options are {', '.join(known)}."
                )
        read = {name: _checked(name, value) for name, value in given.items() if name != _RESULTS}
        if _RESULTS in given:
            outputs = read.get("outputs") or block_options().outputs
            read[_RESULTS] = _result_scope(given[_RESULTS], outputs)
        return cls(**read)

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
        changes = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        if self.scope is not None and self.compute_scope is None:
            changes["compute_scope"] = None
        return replace(outer, **changes)


def operands(given: Options) -> tuple[tuple[str, Scope], ...]:
    """Returns the scopes that bear on a task before its inputs, each with its origin.

    Args:
        given: the options of the spawn itself; those of the blocks around it, and
            the perimeter, are added here.
    """
    block = block_options()
    if given is NO_OPTIONS and block is NO_OPTIONS and _perimeter.get() is None:
        return DEFAULT_OPERANDS
    found = _compute_operands(given, "") or _compute_operands(block, "with_options ")
    result = _result_operands(given, block, "") or _result_operands(block, block, "with_options ")
    fence = _perimeter.get()
    fences = [("perimeter", fence)] if fence is not None else []
    return tuple((found or [(DEFAULT, DefaultScope())]) + result + fences)


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
    if name in ("scope", "compute_scope"):
        return _scope_or_none(value)
    if name == "prefer":
        return () if value is None else _wishes(value)
    if name == "outputs":
        return () if value is None else _output_names(value)
    if name == "single" and value is not None:
        return _known_worker(value)
    if name == "wait_for" and not _is_seconds(value):
        raise ScopeError(f"wait_for={value!r} is no number of seconds; give 0 or more")
    if name == "priority" and (isinstance(value, bool) or not isinstance(value, int)):
        raise ScopeError(f"priority={value!r} is no whole number; the higher, the sooner")
    if name == "name" and not (value is None or isinstance(value, str)):
        raise ScopeError(f"name={value!r} is no text")
    if name == "retries" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ScopeError(f"retries={value!r} is no number of retries; give 0 or more")
    if name in ("idempotent", "meta", "get_result") and not isinstance(value, bool):
        raise ScopeError(f"{name}={value!r} is neither True nor False")
    return value


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _known_worker(worker: Any) -> Any:
    surroundings = ambient.current()
    ProcessScope(worker)
    if surroundings is not None and not surroundings.knows(worker):
        known = ", ".join(map(str, surroundings.workers)) or "none"
        raise ScopeError(f"single={worker!r}: there is no such worker; the workers are {known}")
    return worker


_block: ContextVar[Options] = ContextVar("scopekit_options")
_perimeter: ContextVar[Scope | None] = ContextVar("scopekit_perimeter", default=None)
NO_OPTIONS = Options()
"""What a spawn says that has no options, within no block that has any."""
DEFAULT_OPERANDS = ((DEFAULT, DefaultScope()),)
"""The scopes of such a spawn: the one object, by which it is known again."""


def block_options() -> Options:
    """Returns the options of the blocks around the current code."""
    return _block.get(NO_OPTIONS)


@contextlib.contextmanager
def with_options(**options: Any) -> Iterator[None]:
    """Gives options to every task spawned inside of the block.

    They are defaults: a spawn's own options, or an inner block's, win over them.

    Args:
        options: any of the options of ``options(...)``.

    Raises:
        ScopeError: an option is unknown or makes no sense.

    Example:
        >>> with with_options(scope=ProcessScope(1)):
        ...     get_options("scope")
        ProcessScope(1)
    """
    inner = Options.checked(options, "with_options")
    token = _block.set(inner.merged_over(block_options()))
    try:
        yield
    finally:
        _block.reset(token)


def get_options(key: str, default: Any = NOT_GIVEN) -> Any:
    """Returns an option of the blocks around the current code.

    Args:
        key: the name of the option.
        default: what to return where it is not set.

    Raises:
        KeyError: it is not set, and there is no default.
        ScopeError: there is no such option.
    """
    known = {field.name: field.default for field in fields(Options)}
    if key not in known:
        raise ScopeError(f"there is no option {key!r}; the options are {', '.join(known)}")
    value = getattr(block_options(), key)
    if value != known[key]:
        return value
    if default is NOT_GIVEN:
        raise KeyError(f"option {key!r} is not set here")
    return default


def perimeter_scope() -> Scope:
    """Returns what the perimeters around the current code leave; anywhere outside of any."""
    fence = _perimeter.get()
    return AnyScope() if fence is None else fence


@contextlib.contextmanager
def perimeter(scope: Any) -> Iterator[None]:
    """Keeps every task spawned inside of the block within a scope.

    Unlike ``with_options`` it is no default: what is given inside narrows it and
    never widens it.

    Args:
        scope: the scope, or what ``scope()`` makes one of.

    Raises:
        ScopeError: it is no scope.
    """
    outer = _perimeter.get()
    inner = as_scope(scope)
    token = _perimeter.set(inner & (outer if outer is not None else AnyScope()))
    try:
        yield
    finally:
        _perimeter.reset(token)
