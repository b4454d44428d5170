"""Options of tasks: given at a spawn, or for all spawns of a block."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopeError
from scopekit.explanation import DEFAULT
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
    "with_options",
)

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
    timeout: float | None = None

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
        return cls(**{name: _checked(name, value) for name, value in given.items()})

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
    result = [
        (f"{where}result_scope=", options.result_scope)
        for where, options in (("", given), ("with_options ", block))
        if options.result_scope is not None
    ]
    fence = _perimeter.get()
    fences = [("perimeter", fence)] if fence is not None else []
    return tuple((found or [(DEFAULT, DefaultScope())]) + result[:1] + fences)


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


def _checked(name: str, value: Any) -> Any:
    if name in ("scope", "compute_scope", "result_scope"):
        return None if value is None else as_scope(value)
    if name == "single" and value is not None:
        return _known_worker(value)
    if name == "wait_for" and not _is_seconds(value):
        raise ScopeError(f"wait_for={value!r} is no number of seconds; give 0 or more")
    if name == "timeout" and value is not None and not _is_limit(value):
        raise ScopeError(f"timeout={value!r} is no number of seconds; give more than 0, or None")
    if name == "name" and not (value is None or isinstance(value, str)):
        raise ScopeError(f"name={value!r} is no text")
    if name == "retries" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ScopeError(f"retries={value!r} is no number of retries; give 0 or more")
    if name == "idempotent" and not isinstance(value, bool):
        raise ScopeError(f"idempotent={value!r} is neither True nor False")
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
