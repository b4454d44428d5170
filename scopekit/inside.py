"""What tasks can do that sessions can: spawn, wait, fetch.

A task that spawns keeps the new task where it runs itself, if that may run there: an idle
processor elsewhere will ask for it. While it waits, its processor runs others.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from scopekit.engine.context import RunningTask, running_task
from scopekit.errors import (
    NoProcessorError,
    ScopekitError,
    ScopeViolationError,
    TaskCancelledError,
)
from scopekit.gather import gather, wait_for
from scopekit.graph import Input
from scopekit.handles import CANCEL_SECONDS, Chunk, Task
from scopekit.options import NO_OPTIONS, operands
from scopekit.pinning.place import Place
from scopekit.scheduler.placement import allowed_mask, never_meet, refusal
from scopekit.scopes import AnyScope, Scope, as_scope
from scopekit.several import labelled
from scopekit.spawning import Spawner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from scopekit.blocks import Block
    from scopekit.engine.agent import Agent
    from scopekit.explanation import Explanation
    from scopekit.graph import TaskSpec
    from scopekit.options import Options
    from scopekit.scheduler.placement import Operands
    from scopekit.scopes import Processor, Scope
    from scopekit.wire.codec import Call

__all__ = ("Inside", "inside")

_insides: WeakKeyDictionary[Agent, Inside] = WeakKeyDictionary()


def inside() -> Inside | None:
    """Returns what spawns for the task that the current code runs in, None outside of tasks."""
    task = running_task.get()
    if task is None:
        return None
    found = _insides.get(task.agent)
    if found is None:
        found = _insides.setdefault(task.agent, Inside(task.agent))
    return found


class Inside(Spawner):
    """Spawns for the tasks of one process.

    Args:
        agent: what runs them.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent.children.ids())
        self._agent = agent
        # What is held for the end of a block, with the tasks that are to end before it.
        self._held: dict[int, _Held] = {}

    # -- spawning ---------------------------------------------------------------------

    def _check_may_spawn(self) -> None:
        here = _running()
        stops = self._agent.stops
        if here.id in stops.marks:
            stops.check(here.id)
            raise TaskCancelledError(f"{here.name} is to stop, and spawns nothing more")
        self._agent.seals.check_may_spawn(here.id, here.name)

    def _owns(self, handle: Task | Chunk) -> bool:
        home = handle._session if isinstance(handle, Task) else handle._home
        return home is self or home is self._agent.chunks

    def pin_place(self) -> Place:
        """Returns where the task runs that spawns."""
        return Place(_running().processor, self._agent.topology)

    def keep_pinned(self, value: Any, scope: Scope, why: str) -> Chunk:
        """Makes a chunk of what stays in this process."""
        return self._agent.chunks.new_chunk(value, None, scope, why)

    def _can_wait_for_processors(self) -> bool:
        # Where the session is in this thread, nobody looks at the clock.
        return self._agent.reporter.background

    def _parent(self) -> int | None:
        return _running().id

    def _take(
        self, spec: TaskSpec, call: Call, task: Task, sink: Callable[[str, str], None] | None
    ) -> None:
        del sink
        self._spawn(spec, call, task, ())

    def _take_in_block(
        self,
        block: Block,
        spec: TaskSpec,
        call: Call,
        task: Task,
        sink: Callable[[str, str], None] | None,
    ) -> None:
        del sink
        before = tuple(each for each in block.before() if each._session is self)
        if not block.holds:
            self._spawn(spec, call, task, before)
            return
        # Refused here, if it is to be, and not where the block ends.
        self._keep(spec, _scopes_of(spec, call))
        self._held[spec.id] = _Held(spec, call, task, before)

    def cancel_soon(self, tasks: Sequence[Task]) -> None:
        """Has tasks cancelled that nobody wants; may run whenever Python collects something."""
        self._agent.children.cancel_soon(tasks)

    def release_held(self, tasks: Sequence[Task]) -> None:
        """Lets tasks go that were held for the end of a block."""
        for task in tasks:
            held = self._held.pop(task.id, None)
            if held is not None:
                self._spawn(*held)

    def _spawn(self, spec: TaskSpec, call: Call, task: Task, before: tuple[Task, ...]) -> None:
        """Has a task run here, or sends it to the client for some other place.

        Args:
            spec: what was asked for.
            call: its call.
            task: the handle.
            before: tasks that are to end well before it begins.
        """
        scopes = _scopes_of(spec, call)
        keep = self._keep(spec, scopes)
        if before:
            failed = next((each for each in before if _has_failed(each)), None)
            if failed is not None and not self._agent.reachable:
                _fail_after(task, failed)
                return
            spec, keep = self._after(spec, keep, before, wait=failed is None)
        if keep is None or spec.retries:
            self._check_reaches(spec)
        chunks = [handle for _, handle in call.handles if isinstance(handle, Chunk)]
        given = tuple(self._agent.chunks.lend(chunk) for chunk in chunks)
        self._agent.children.spawn(spec, call._replace(handles=()), task, keep, given)

    def _after(
        self, spec: TaskSpec, keep: Processor | None, before: tuple[Task, ...], *, wait: bool
    ) -> tuple[TaskSpec, Processor | None]:
        """Has a task wait for others: here, if all are here; else where the client sees it."""
        late = [each for each in before if not each.done()]
        if wait and not late:
            return spec, keep
        if wait and keep is not None and all(self._agent.makes(each.chunk_id) for each in late):
            # As for an input, of which nothing is used: whoever runs here may have it.
            needs = [Input("the task before it", each.chunk_id, handle=False) for each in late]
            return spec._replace(inputs=(*spec.inputs, *needs)), keep
        return spec._replace(after=tuple(each.id for each in before)), None

    def _keep(self, spec: TaskSpec, scopes: Operands) -> Processor | None:
        """Chooses the processor of the task that spawns, if the new one may run there.

        Raises:
            SchedulingError: no processor may run it.
        """
        topology = self._agent.topology
        mask = allowed_mask(scopes, topology)
        if not mask and (not spec.wait_for or never_meet(scopes, topology)):
            raise refusal(spec.name, scopes, topology)
        here = _running().processor
        if here not in topology.select(mask):
            return None
        wishes = (topology.mask(wish.scope) & mask for wish in spec.prefer)
        preferred = next((found for found in wishes if found), mask)
        if here not in topology.select(preferred) and self._agent.reachable:
            return None
        if all(self._agent.makes(need.chunk) for need in spec.inputs):
            return here
        return None

    def _check_reaches(self, spec: TaskSpec) -> None:
        if not self._agent.reachable:
            raise NoProcessorError(
                f"{spec.name} is to run elsewhere than {_running().name}, which spawns it, or to"
                " be tried again: over ipyparallel's own messages a task cannot wait for that."
                ' Leave the option out, or start the session without wire="views".',
                None,
            )

    def plan_call(
        self, given: Options, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Explanation:
        """Refuses: only the notebook knows how busy all are."""
        del given, f, args, kwargs
        raise ScopekitError("a task cannot plan; call plan() in the notebook")

    # -- what a task asks -----------------------------------------------------------------

    def fetch(self, x: Any, raw: bool = False, timeout: float | None = None) -> Any:
        """Brings values to the task; see :meth:`scopekit.Session.fetch`."""
        if raw:
            raise ScopekitError("raw=True gives chunks, and a task gets values: leave it out")
        return gather(x, self._values_of, timeout)

    def wait(self, x: Any, timeout: float | None = None) -> Any:
        """Waits until every task in ``x`` has ended, in whatever way; returns ``x``."""
        wait_for(x, timeout)
        return x

    def as_completed(self, tasks: Iterable[Task], timeout: float | None = None) -> Iterator[Task]:
        """Yields tasks in the order in which they end.

        Raises:
            TimeoutError: not all had ended in time.
        """
        until = None if timeout is None else time.monotonic() + timeout
        left = dict.fromkeys(tasks)
        while left:
            ended = [task for task in left if task.done()]
            for task in ended:
                del left[task]
                yield task
            for task in left:
                task.check_sent()
            if ended:
                continue
            self._help(lambda: any(task.done() for task in left), until)
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{len(left)} tasks had not ended within {timeout:.3g} s")

    def processors(self, scope: Any = None) -> tuple[Processor, ...]:
        """Returns the processors of a scope; of where a task spawned here would run if None."""
        topology = self._agent.topology
        wanted = operands(NO_OPTIONS) if scope is None else (("scope=", as_scope(scope)),)
        return topology.select(allowed_mask(wanted, topology))

    def num_processors(self, scope: Any = None, all: bool = False) -> int:  # noqa: A002
        """Counts the processors of a scope, or all there are."""
        return len(self._agent.topology.processors if all else self.processors(scope))

    def satisfiable(self, scope: Any) -> bool:
        """Tells whether a processor of the scope exists now."""
        return bool(self.processors(scope))

    # -- what handles ask ---------------------------------------------------------------------

    def wait_for_task(self, task: Task, timeout: float | None) -> None:
        """Gives the processor of the caller to others until a task has ended."""
        until = None if timeout is None else time.monotonic() + timeout
        self._help(task.done, until, task.id)

    async def wait_in_loop(self, task: Task) -> None:
        """Does the same for a coroutine; others of its loop go on meanwhile."""
        here = self._here()
        await self._agent.children.help_in_loop(here.id, here.processor, task)

    def _help(
        self, holds: Callable[[], bool], until: float | None, wanted: int | None = None
    ) -> None:
        here = self._here()
        self._agent.children.help(here.id, here.processor, holds, until, wanted)

    def _here(self) -> RunningTask:
        here = running_task.get()
        if here is None:
            raise ScopekitError(
                "a handle that a task made can be waited for in that task alone, and no task"
                " runs here"
            )
        return here

    def _values_of(self, found: Sequence[Task | Chunk], timeout: float | None) -> list[Any]:
        return [
            handle.fetch(timeout) if isinstance(handle, Chunk) else self._value(handle)
            for handle in found
        ]

    def fetch_result(self, task: Task, timeout: float | None) -> Any:
        """Brings the result of a task that is done."""
        del timeout
        return self._value(task)

    def _value(self, task: Task) -> Any:
        if task.plain_value is not None:
            return task.plain_value[0]
        if task.parts:
            return tuple(self._value(part) for part in task.parts)
        if task.stored is not None:
            self._refuse_outside(task, task.stored.scope)
        try:
            value, scope = self._agent.chunks.value_of(task.chunk_id, task.stored)
        except ScopeViolationError as error:
            raise labelled(error, (task,)) from None
        self._refuse_outside(task, scope)
        return value

    def _refuse_outside(self, task: Task, scope: Scope) -> None:
        here = _running()
        if not self._agent.topology.contains(scope, here.processor):
            what = task.label or f"the result of {task.name}"
            raise ScopeViolationError(
                f"{what} is valid only on {scope.describe()}, and {here.name} runs"
                f" on {here.processor.describe()}. Spawn a task on it there.",
                task.chunk_id,
                scope,
            )

    def fetch_refusal(self, task: Task) -> ScopekitError | None:
        """Returns why a result may not be had here, None if it may."""
        try:
            self._value(task)
        except ScopekitError as error:
            return error
        return None

    def release_chunk(self, chunk_id: int) -> None:
        """Takes note that a handle is gone."""
        self._agent.children.give_back_handle(chunk_id)

    def cancel_unsent(self, task: Task) -> bool:
        """Cancels a task that has not begun, if it is here."""
        begun = task.id not in self._held and not self._agent.is_ordered(task.id)
        return False if begun else self.cancel_task(task)

    def cancel_task(self, task: Task, grace: float | None = None) -> bool:
        """Cancels a task that a task of this process spawned."""
        held = self._held.pop(task.id, None)
        if held is not None:
            task.unsent = False
            task.mark_cancelled()
            self._cancel_dependants(task)
            return True
        if not task.done() or task.cancelled():
            self._agent.cancel_child(task, grace)
        here = running_task.get()
        if here is not None and not task.done() and self._agent.reachable:
            self._help(task.done, time.monotonic() + CANCEL_SECONDS)
        return task.cancelled()

    def _cancel_dependants(self, task: Task) -> None:
        """Cancels what is held and needs a task that is cancelled, or was to run after it."""
        for held in list(self._held.values()):
            needs = any(need.chunk == task.chunk_id for need in held.spec.inputs)
            if needs or task in held.before:
                self.cancel_task(held.task)

    def call_back(self, callback: Callable[[], None]) -> None:
        """Runs the callbacks of a future."""
        callback()

    def task_facts(self, task: int) -> Mapping[str, Any]:
        """Tells the little that is known here of a task."""
        ended = task not in self._agent.children.waited_for and task not in self._held
        return {
            "state": "done" if ended else "waiting",
            "processor": None,
            "node": None,
            "scope": AnyScope(),
        }

    def explain(self, task: Task) -> Explanation:
        """Refuses: only the notebook knows."""
        raise ScopekitError(
            f"a task cannot explain where {task.name} runs; look at it in the notebook, with"
            " the session's graph"
        )


class _Held(NamedTuple):
    """A task that is held for the end of a block."""

    spec: TaskSpec
    call: Call
    task: Task
    before: tuple[Task, ...]


def _scopes_of(spec: TaskSpec, call: Call) -> Operands:
    return spec.operands + tuple(
        (origin, handle.scope) for origin, handle in call.handles if isinstance(handle, Chunk)
    )


def _has_failed(task: Task) -> bool:
    return task.done() and (task.cancelled() or task._exception is not None)


def _fail_after(task: Task, failed: Task) -> None:
    """Ends a task that was to run after one that failed, where nobody else would."""
    if failed.cancelled():
        task.mark_cancelled()
        return
    error: Any = copy.copy(failed._exception)
    error.add_note(f"this is what ended task {failed.name}; task {task.name} was to run after it")
    task.set_exception(error)


def _running() -> RunningTask:
    task = running_task.get()
    if task is None:
        raise TaskCancelledError("the task that spawned this has ended")
    return task
