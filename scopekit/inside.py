"""What tasks can do that sessions can: spawn, wait, fetch.

A task that spawns keeps the new task where it runs itself, if that may run there: an idle
processor elsewhere will ask for it. While it waits, its processor runs others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from scopekit.engine.context import RunningTask, running_task
from scopekit.errors import (
    NoProcessorError,
    ScopekitError,
    ScopeViolationError,
    TaskCancelledError,
)
from scopekit.gather import gather, wait_for
from scopekit.handles import CANCEL_SECONDS, Chunk, Task
from scopekit.scheduler.placement import allowed_mask, never_meet, refusal
from scopekit.scopes import AnyScope, as_scope
from scopekit.spawning import Spawner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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

    # -- spawning ---------------------------------------------------------------------

    def _check_may_spawn(self) -> None:
        here = _running()
        stops = self._agent.stops
        if here.id in stops.marks:
            stops.check(here.id)
            raise TaskCancelledError(f"{here.name} is to stop, and spawns nothing more")

    def _owns(self, handle: Task | Chunk) -> bool:
        home = handle._session if isinstance(handle, Task) else handle._home
        return home is self or home is self._agent

    def _parent(self) -> int | None:
        return _running().id

    def _take(
        self, spec: TaskSpec, call: Call, task: Task, sink: Callable[[str, str], None] | None
    ) -> None:
        del sink
        scopes = spec.operands + tuple(
            (origin, handle.scope) for origin, handle in call.handles if isinstance(handle, Chunk)
        )
        keep = self._keep(spec, scopes)
        if keep is None or spec.retries:
            self._check_reaches(spec)
        chunks = [handle for _, handle in call.handles if isinstance(handle, Chunk)]
        given = tuple(self._agent.lend(chunk) for chunk in chunks)
        self._agent.children.spawn(spec, call._replace(handles=()), task, keep, given)

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
            if ended:
                continue
            self._help(lambda: any(task.done() for task in left), until)
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{len(left)} tasks had not ended within {timeout:.3g} s")

    def processors(self, scope: Any = None) -> tuple[Processor, ...]:
        """Returns the processors of a scope."""
        topology = self._agent.topology
        where: Scope = AnyScope() if scope is None else as_scope(scope)
        return topology.select(topology.mask(where))

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

    def _help(
        self, holds: Callable[[], bool], until: float | None, wanted: int | None = None
    ) -> None:
        here = running_task.get()
        if here is None:
            raise ScopekitError(
                "a handle that a task made can be waited for in that task alone, and no task"
                " runs here"
            )
        self._agent.children.help(here.id, here.processor, holds, until, wanted)

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
        here = _running()
        value, scope = self._agent.value_of(task.chunk_id, task.stored)
        if not self._agent.topology.contains(scope, here.processor):
            raise ScopeViolationError(
                f"the result of {task.name} is valid on {scope.describe()}, and {here.name} runs"
                f" on {here.processor.describe()}. Spawn a task on it there.",
                task.chunk_id,
                scope,
            )
        return value

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

    def cancel_task(self, task: Task, grace: float | None = None) -> bool:
        """Cancels a task that a task of this process spawned."""
        if not task.done() or task.cancelled():
            self._agent.cancel_child(task, grace)
        here = running_task.get()
        if here is not None and not task.done() and self._agent.reachable:
            self._help(task.done, time.monotonic() + CANCEL_SECONDS)
        return task.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Runs the callbacks of a future."""
        callback()

    def task_facts(self, task: int) -> Mapping[str, Any]:
        """Tells the little that is known here of a task."""
        ended = task not in self._agent.children.waited_for
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


def _running() -> RunningTask:
    task = running_task.get()
    if task is None:
        raise TaskCancelledError("the task that spawned this has ended")
    return task
