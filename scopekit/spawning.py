"""Spawning: what becomes of a call that a user writes."""

from __future__ import annotations

import inspect
import itertools
from abc import ABC, abstractmethod
from types import FunctionType
from typing import TYPE_CHECKING, Any

from scopekit.blocks import OPEN_BLOCKS, current_block
from scopekit.engine.checkpoints import Keeping, kept
from scopekit.errors import SchedulingError, ScopeConflictError, ScopeError, ScopekitError
from scopekit.graph import How, Input, TaskSpec, Wish
from scopekit.handles import Chunk, Task
from scopekit.options import (
    DEFAULT_OPERANDS,
    NO_OPTIONS,
    Options,
    block_options,
    function_options,
    handed_down,
    operands,
    option_names,
)
from scopekit.pinning.telling import note_text, refused, warn_user
from scopekit.pinning.told import Told
from scopekit.several import SeveralTask
from scopekit.wire.around import Around
from scopekit.wire.codec import dump_value, pack_call, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from scopekit.blocks import Block
    from scopekit.explanation import Explanation
    from scopekit.mapping import Mapped
    from scopekit.options import Around as BlocksAround
    from scopekit.pinning.packing import Noted
    from scopekit.pinning.place import Place
    from scopekit.scopes import Scope
    from scopekit.wire.codec import Call

__all__ = (
    "SCOPE_OPTIONS",
    "OptionSet",
    "Spawner",
    "around",
    "chunk_id_of",
    "function_name",
    "pinned_operands",
    "placements",
)

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


class Spawner(ABC):
    """Makes tasks of calls, for whoever takes them in.

    Args:
        ids: gives numbers to tasks and to their results.
    """

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._numbers: dict[str, Iterator[int]] = {}
        self._told = Told()

    # -- what whoever takes them in decides --------------------------------------------

    @abstractmethod
    def _check_may_spawn(self) -> None:
        """Raises if no task can be taken in any more."""

    def _can_wait_for_processors(self) -> bool:
        """Tells whether a processor may come that is not there, or is busy."""
        return True

    @abstractmethod
    def _owns(self, handle: Task | Chunk) -> bool:
        """Tells whether a handle may be an argument here."""

    def _meant(self, scope: Scope) -> Scope:
        """Reads a scope that the user wrote."""
        return scope

    def _meant_around(self, around: BlocksAround) -> BlocksAround:
        """Reads scopes that the user wrote in blocks."""
        return around

    @abstractmethod
    def pin_place(self) -> Place:
        """Returns where what it is given was made."""

    @abstractmethod
    def keep_pinned(self, value: Any, scope: Scope, why: str) -> Chunk:
        """Makes a chunk of an argument, or a part of one, that stays in this process.

        Args:
            value: what stays.
            scope: where it is valid.
            why: what says so.
        """

    def _lacks_thread(self, spec: TaskSpec, call: Call) -> bool:
        """Tells whether a task would run here, and on another thread than what it is given."""
        del spec, call
        return False

    # Makes chunks of the large buffers of arguments, where they are not to travel with each call.
    _keep_buffer: Callable[[memoryview], Chunk] | None = None

    def _parent(self) -> int | None:
        """Returns the task that spawns, if one does."""
        return None

    @abstractmethod
    def _take(
        self, spec: TaskSpec, call: Call, task: Task, sink: Callable[[str, str], None] | None
    ) -> None:
        """Takes a task in."""

    def _take_in_block(
        self,
        block: Block,
        spec: TaskSpec,
        call: Call,
        task: Task,
        sink: Callable[[str, str], None] | None,
    ) -> None:
        """Takes a task in that is spawned in a block."""
        after = tuple(before.id for before in block.before() if before._session is self)
        self._take(spec._replace(after=after, held=block.holds), call, task, sink)

    @abstractmethod
    def release_held(self, tasks: Sequence[Task]) -> None:
        """Lets tasks go that were held for the end of a block."""

    @abstractmethod
    def plan_call(
        self, given: Options, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Explanation:
        """Tells where a call with these options would run, without running it."""

    @abstractmethod
    def num_processors(self, scope: Any = None) -> int:
        """Counts the processors of a scope."""

    @abstractmethod
    def cancel_soon(self, tasks: Sequence[Task]) -> None:
        """Has tasks cancelled that nobody wants; may run whenever Python collects something."""

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
            TypeError: ``f`` cannot be called, or has no argument of that name.
        """
        if kwargs:
            _refuse_unknown_keywords(f, kwargs)
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

    def map(
        self,
        f: Any,
        /,
        *iterables: Iterable[Any],
        chunksize: int | None = None,
        batch: int | None = None,
        buffersize: int | None = None,
        progress: bool | str = False,
        **options: Any,
    ) -> Mapped:
        """Maps a function over iterables, with several calls in one task where they are short.

        Args:
            f: the function, or a handle to it.
            iterables: its positional arguments, one iterable for each; the shortest ends it.
                They are read as values are taken, some ahead.
            chunksize: how many calls go in one task; None to find out what suits them.
            batch: the same.
            buffersize: how many calls may be made ahead of the values that were taken; None
                for as many as keep the processors busy.
            progress: True for a progress bar, or what to write beside it.
            options: where and how the calls run, as for ``options``.

        Returns:
            An iterator over the values, in order. It raises the error of a call at its turn,
            with its index as a note. Closing it, or an error, cancels what has not begun.

        Raises:
            ScopeError: an option is unknown or makes no sense.
            ScopekitError: the first call cannot be a task.

        Example:
            >>> from scopekit import start
            >>> with start(0) as session:
            ...     list(session.map(pow, [1, 2, 3], [2, 2, 2]))
            [1, 4, 9]
        """
        from scopekit.mapping import map_calls  # noqa: PLC0415  # it spawns by this class

        return map_calls(
            self,
            f,
            iterables,
            chunksize=chunksize,
            batch=batch,
            buffersize=buffersize,
            progress=progress,
            options=options,
        )

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
        apart: bool = False,
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
            apart: True if the blocks around the current code are no affair of it.
        """
        self._check_may_spawn()
        function = function_name(f)
        block = block_options()
        defaults = function_options(f)
        merged = given if block is NO_OPTIONS else given.merged_over(block)
        if defaults is not None:
            merged = merged.merged_over(defaults)
        name = merged.name or self._number(function)
        if merged.checkpoint is not None or merged.restore is not None:
            f, args = self._kept(merged, function, f, args, name)
        call = pack_call(f, args, kwargs, name=name, keep=self._keep_buffer, desk=self)
        result_scope = merged.result_scope
        split = () if outputs else merged.outputs
        how: How | None = None
        scopes = operands(given, defaults, function)
        passed = handed_down(merged)
        if scopes is not DEFAULT_OPERANDS:
            scopes = tuple((origin, self._meant(s)) for origin, s in scopes)
        if result_scope is not None or split or merged.meta:
            result_scope, how = self._declared(merged, name, split)
        if call.handles and isinstance(call.arguments, bytes):
            # Among plain arguments there are plain handles alone.
            scopes += placements(call.handles)
        if passed is not None:
            passed = self._meant_around(passed)
        if call.pinned:
            scopes += pinned_operands(call)
        ids = self._ids
        task_id = next(ids)
        count = len(split) or 1 + len(outputs)
        chunks = (next(ids),) if count == 1 else tuple([next(ids) for _ in range(count)])
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
            passed,
            how,
            merged.priority,
            self._wishes(merged.prefer) if merged.prefer else (),
            timeout=merged.timeout,
        )
        if split or outputs or merged.get_result:
            task = self._handle(task_id, name, chunks, split, outputs)
            task.brings = merged.get_result
        else:
            task = Task(self, task_id, name, chunks[0])
        around_it = current_block() if OPEN_BLOCKS and not apart else None
        if around_it is None and not call.pinned and not call.notes:
            self._take(spec, call, task, sink)
        else:
            self._take_with_care(around_it, spec, call, task, sink)
        return task

    def _handle(
        self,
        task_id: int,
        name: str,
        chunks: tuple[int, ...],
        split: Sequence[str],
        outputs: Sequence[str],
    ) -> Task:
        """Makes the handle to a task of several results, or of one with further ones."""
        if split:
            return SeveralTask(self, task_id, name, zip(split, chunks, strict=True))
        task = Task(self, task_id, name, chunks[0])
        if outputs:
            task.outputs = {
                key: Task(self, task_id, key, chunk)
                for key, chunk in zip(outputs, chunks[1:], strict=True)
            }
        return task

    def _kept(
        self, given: Options, function: str, f: Any, args: tuple[Any, ...], name: str
    ) -> tuple[Around, tuple[Any, ...]]:
        """Puts around a call what asks for its result before, and gives it away after."""
        scope = None if given.result_scope is None else self._meant(given.result_scope)
        try:
            pickled = dump_value(Keeping(function, given.checkpoint, given.restore, scope))
        except Exception as error:
            raise ScopekitError(
                f"{name}: its checkpoint= or restore= cannot be sent to an engine: {error}"
            ) from error
        return around(kept, (pickled,), f, args)

    def _take_with_care(
        self,
        block: Block | None,
        spec: TaskSpec,
        call: Call,
        task: Task,
        sink: Callable[[str, str], None] | None,
    ) -> None:
        """Takes in what is spawned in a block, or is given what is pinned or to be told of."""
        try:
            if call.pinned and self._lacks_thread(spec, call):
                raise ScopeConflictError("No task runs on the thread that it belongs to.")
            # The call may be kept for long, and would keep what it was given alive.
            plain = call._replace(pinned=(), notes=())
            if block is None:
                self._take(spec, plain, task, sink)
            else:
                with block.lock:
                    self._take_in_block(block, spec, plain, task, sink)
                    block.add(task)
        except SchedulingError as error:
            if not call.pinned:
                raise
            raise refused(spec.name, call.pinned, error) from None
        for noted in call.notes:
            self._tell(spec.name, noted)

    def _tell(self, name: str, noted: Noted) -> None:
        """Warns of what a task is given, once for each thing."""
        if self._told.is_new(noted):
            warn_user(note_text(name, noted))

    def _declared(
        self, merged: Options, name: str, split: Sequence[str]
    ) -> tuple[Scope | None, How | None]:
        """Reads what a task asks of its run: the scope of its results, or more than that."""
        for_all, each = merged.declared(name, len(split))
        if for_all is not None:
            for_all = self._meant(for_all)
        if not split and not merged.meta:
            return for_all, None
        scopes = tuple(None if scope is None else self._meant(scope) for scope in each)
        return for_all, How(bool(split), scopes, merged.meta)

    def _wishes(self, prefer: tuple[Wish, ...]) -> tuple[Wish, ...]:
        """Reads where a task would rather run."""
        waits = self._can_wait_for_processors()
        return tuple(Wish(self._meant(scope), busy if waits else 0.0) for scope, busy in prefer)

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


def placements(
    handles: Sequence[tuple[str, Task | Chunk]],
) -> tuple[tuple[str, Scope], ...]:
    """Returns what handles say of where a task can run, beyond the scopes of their values."""
    said = [
        (origin, handle.placement)
        for origin, handle in handles
        if type(handle) is not Task and isinstance(handle, Chunk)
    ]
    return tuple([(origin, scope) for origin, scope in said if scope is not None])


def _refuse_unknown_keywords(f: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuses a keyword that a function has no argument for: a slip, or an option perhaps.

    Raises:
        TypeError: there is one.
    """
    function = getattr(f, "__func__", f)  # of a method
    if type(function) is not FunctionType or function.__code__.co_flags & inspect.CO_VARKEYWORDS:
        return
    code = function.__code__
    named = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    for name in kwargs:
        if name not in named:
            option = name in option_names()
            hint = f" It is an option: write options({name}=...).spawn(...)." if option else ""
            raise TypeError(f"{function_name(f)}() has no argument {name!r}.{hint}")


def pinned_operands(call: Call) -> tuple[tuple[str, Scope], ...]:
    """Returns where what is pinned in a call may go, each with what it is."""
    return tuple(
        (f"{culprit.origin} ({culprit.pin.told()})", culprit.pin.scope)
        for culprit in call.pinned
        if not culprit.stays and culprit.pin.scope is not None
    )


def chunk_id_of(handle: Task | Chunk) -> int:
    """Returns the id of the chunk that a handle stands for."""
    return handle.chunk_id if isinstance(handle, Task) else handle.id


def around(
    outer: Callable[..., Any], head: tuple[Any, ...], f: Any, args: tuple[Any, ...]
) -> tuple[Around, tuple[Any, ...]]:
    """Puts a function around the one of a call.

    Args:
        outer: the function; gets ``head``, the function of the call, and its arguments.
        head: plain values.
        f: the function of the call, or a handle to it.
        args: the positional arguments of the call.

    Returns:
        What to call instead, with which positional arguments.
    """
    if isinstance(f, (Task, Chunk)):
        # A handle is found among the arguments, and not inside of anything else.
        return Around(outer, head, None, function_name(f)), (f, *args)
    return Around(outer, head, f), args


def function_name(f: Any) -> str:
    """Returns what users call a function.

    Raises:
        TypeError: it cannot be called.
    """
    if type(f) is FunctionType:
        return f.__name__ if f.__name__ != "<lambda>" else "lambda"
    if type(f) is Around:
        return f.name or function_name(f.inner)
    if isinstance(f, Task):
        if f.parts:
            raise TypeError(
                f"{f.name} gives several results, and a tuple of them cannot be called; give one"
                f" of them, such as its .outputs[{next(iter(f.outputs))!r}]"
            )
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
