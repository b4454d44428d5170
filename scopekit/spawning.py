"""Spawning: what becomes of a call that a user writes."""

from __future__ import annotations

import inspect
import itertools
from types import FunctionType
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopeError, ScopekitError
from scopekit.graph import Input, TaskSpec
from scopekit.handles import Chunk, Task
from scopekit.options import DEFAULT_OPERANDS, NO_OPTIONS, Options, block_options, operands
from scopekit.wire.codec import pack_call, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scopekit.explanation import Explanation
    from scopekit.scopes import Scope
    from scopekit.wire.codec import Call

__all__ = ("SCOPE_OPTIONS", "OptionSet", "Spawner", "chunk_id_of", "function_name")

SCOPE_OPTIONS = ("scope", "compute_scope", "result_scope")


class OptionSet:
    """Options that wait for the call they are meant for."""

    def __init__(self, session: Callable[[], Spawner], given: Options) -> None:
        self._session = session
        self._given = given

    def spawn(self, f: Any, /, *args: Any, **kwargs: Any) -> Task:
        """Spawns a task with these options; every keyword goes to the function.

        Raises:
            ScopeError: a scope was given here, to a function that takes none.
        """
        _refuse_stray_scopes(f, kwargs)
        return self._session().submit(self._given, f, args, kwargs)

    def plan(self, f: Any, /, *args: Any, **kwargs: Any) -> Explanation:
        """Tells where such a task would go, without running it."""
        return self._session().plan_call(self._given, f, args, kwargs)


class Spawner:
    """Makes tasks of calls, for whoever takes them in.

    Args:
        ids: gives numbers to tasks and to their results.
    """

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._numbers: dict[str, Iterator[int]] = {}

    # -- what whoever takes them in decides --------------------------------------------

    def _check_may_spawn(self) -> None:
        """Raises if no task can be taken in any more."""

    def _can_wait_for_processors(self) -> bool:
        """Tells whether a processor may come that is not there."""
        return True

    def _owns(self, handle: Task | Chunk) -> bool:
        """Tells whether a handle may be an argument here."""
        raise NotImplementedError

    def _meant(self, scope: Scope) -> Scope:
        """Reads a scope that the user wrote."""
        return scope

    # Makes chunks of the large buffers of arguments, where they are not to travel with each call.
    _keep_buffer: Callable[[memoryview], Chunk] | None = None

    def _parent(self) -> int | None:
        """Returns the task that spawns, if one does."""
        return None

    def _take(
        self, spec: TaskSpec, call: Call, task: Task, sink: Callable[[str, str], None] | None
    ) -> None:
        """Takes a task in."""
        raise NotImplementedError

    def plan_call(
        self, given: Options, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Explanation:
        """Tells where a call with these options would run, without running it."""
        raise NotImplementedError

    # -- spawning -------------------------------------------------------------------

    def spawn(
        self,
        f: Any,
        /,
        *args: Any,
        scope: Any = None,
        compute_scope: Any = None,
        result_scope: Any = None,
        **kwargs: Any,
    ) -> Task:
        """Makes a task of a call.

        Args:
            f: what to call: a function, or a handle to one that lives somewhere.
            args: its positional arguments; the value of a task or chunk takes its
                place, in lists, tuples, dicts and sets too.
            scope: where the task may run.
            compute_scope: the same, and wins over ``scope``.
            result_scope: where the result is valid; the task runs inside of that, too.
            kwargs: the function's keyword arguments.

        Returns:
            The task; its value stays where it was made until it is fetched.

        Raises:
            ScopeError: a scope makes no sense.
            SchedulingError: the task can be placed nowhere.
            ScopekitError: the function or an argument does not pickle.
        """
        if scope is None and compute_scope is None and result_scope is None:
            return self.submit(NO_OPTIONS, f, args, kwargs)
        given: dict[str, Any] = {"scope": scope, "compute_scope": compute_scope}
        given["result_scope"] = result_scope
        return self.submit(Options.checked(given, "spawn"), f, args, kwargs)

    def options(self, **options: Any) -> OptionSet:
        """Gives options to the spawn that follows: ``session.options(name="fit").spawn(f)``.

        Raises:
            ScopeError: an option is unknown or makes no sense.
        """
        return OptionSet(lambda: self, Options.checked(options, "options"))

    def submit(
        self,
        given: Options,
        f: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        outputs: Sequence[str] = (),
        cell: int | None = None,
        sink: Callable[[str, str], None] | None = None,
    ) -> Task:
        """Makes a task of a call; the form of ``spawn`` that magics use.

        Args:
            given: its options.
            f: what to call.
            args: its positional arguments.
            kwargs: its keyword arguments.
            outputs: names of further results; the function returns a tuple, the
                result first, and ``task.outputs`` has a task for each name.
            cell: the number of the cell that spawns it.
            sink: takes stream name and text of what it prints.
        """
        self._check_may_spawn()
        function = function_name(f)
        block = block_options()
        merged = given if block is NO_OPTIONS else given.merged_over(block)
        name = merged.name or self._number(function)
        call = pack_call(f, args, kwargs, name=name, keep=self._keep_buffer)
        result_scope = merged.result_scope
        scopes = operands(given)
        if scopes is not DEFAULT_OPERANDS:
            scopes = tuple((origin, self._meant(s)) for origin, s in scopes)
            result_scope = None if result_scope is None else self._meant(result_scope)
        ids = self._ids
        task_id = next(ids)
        chunks = (next(ids),) if not outputs else tuple(next(ids) for _ in range(1 + len(outputs)))
        spec = TaskSpec(
            task_id,
            name,
            function,
            scopes,
            self._inputs(call.handles, name) if call.handles else (),
            chunks,
            result_scope,
            merged.wait_for if self._can_wait_for_processors() else 0.0,
            merged.idempotent,
            merged.retries,
            cell,
            self._parent(),
            merged.timeout,
        )
        task = Task(self, task_id, name, chunks[0])
        if outputs:
            task.outputs = {
                key: Task(self, task_id, key, chunk)
                for key, chunk in zip(outputs, chunks[1:], strict=True)
            }
        self._take(spec, call, task, sink)
        return task

    def _number(self, function: str) -> str:
        numbers = self._numbers.get(function)
        if numbers is None:
            numbers = self._numbers.setdefault(function, itertools.count(1))
        return f"{function}-{next(numbers)}"

    def _inputs(self, found: tuple[tuple[str, Task | Chunk], ...], name: str) -> tuple[Input, ...]:
        for origin, handle in found:
            if not self._owns(handle):
                raise ScopekitError(
                    f"{name}: {origin} belongs to another session. Fetch its value there and"
                    " pass that."
                )
        return tuple(
            [
                Input(origin, chunk_id_of(handle), isinstance(handle, Chunk))
                for origin, handle in found
            ]
        )


def _refuse_stray_scopes(f: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuses what would be lost: a scope meant for the task, given to its function."""
    given = [name for name in SCOPE_OPTIONS if name in kwargs]
    if not given or not callable(f):
        return
    try:
        parameters = inspect.signature(f).parameters
    except (TypeError, ValueError):
        return  # nobody can tell what it takes
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            raise ScopeError(
                f"{name}= would go to {function_name(f)}, which takes no such argument."
                f" Write options({name}=...).spawn(...)."
            )


def chunk_id_of(handle: Task | Chunk) -> int:
    """Returns the id of the chunk that a handle stands for."""
    return handle.chunk_id if isinstance(handle, Task) else handle.id


def function_name(f: Any) -> str:
    """Returns what users call a function.

    Raises:
        TypeError: it cannot be called.
    """
    if type(f) is FunctionType:
        return f.__name__ if f.__name__ != "<lambda>" else "lambda"
    if isinstance(f, Task):
        return f.name
    if isinstance(f, Chunk):
        return f"chunk {f.id}"
    if not callable(f):
        raise TypeError(
            f"a task calls something, and an object of type {type_name(f)} cannot be called"
        )
    inner = getattr(f, "func", f)  # of a functools.partial
    name = getattr(inner, "__name__", None) or type(inner).__name__
    return "lambda" if name == "<lambda>" else str(name)
