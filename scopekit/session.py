"""The session: what users hold of the engines, with all that they can ask of them."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Self, cast

from scopekit import planning
from scopekit.arguments import LargeArguments
from scopekit.bringing import Bringer
from scopekit.calls import end_executors
from scopekit.clientagent import describe_process, open_agent
from scopekit.clientchunks import ClientChunks
from scopekit.driver import Driver
from scopekit.engine.output import route_output
from scopekit.errors import ScopeError, ScopekitError, TaskCancelledError
from scopekit.executor import SessionExecutor, open_executor
from scopekit.fetching import Fetcher
from scopekit.gather import gather, gather_chunks, wait_for
from scopekit.handlehome import HandleHome, home_of, values_of
from scopekit.handles import Chunk, Task
from scopekit.labels import Labels, read_labels
from scopekit.opensessions import add_session, innermost_session, open_sessions, remove_session
from scopekit.options import Options
from scopekit.overview import Overview
from scopekit.placechanges import PlaceChanges
from scopekit.places import Topology
from scopekit.roster import NodeNames, Roster
from scopekit.running import run_everywhere
from scopekit.scheduler import events as ev
from scopekit.scheduler.placement import allowed_mask
from scopekit.scopechanges import change_scope
from scopekit.scopes import CLIENT, ExactScope, ThreadProc, as_scope
from scopekit.scopes.located import relocated
from scopekit.shield import shield
from scopekit.spawning import SCOPE_OPTIONS, Spawner
from scopekit.wire import messages as msg
from scopekit.wire.codec import type_name
from scopekit.wire.lending import open_lender
from scopekit.wire.local import LocalWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from scopekit.engine.agent import Agent
    from scopekit.explanation import Explanation
    from scopekit.graph import TaskSpec, WorkerId
    from scopekit.options import Around
    from scopekit.pinning.place import Place
    from scopekit.scopes import Processor, Scope
    from scopekit.shards import Shard
    from scopekit.wire.cluster import ClusterLink
    from scopekit.wire.codec import Call
    from scopekit.wire.peers import Given, PeerClient, Pushed

__all__ = ("Session",)


class Session(Overview, PlaceChanges, HandleHome, Spawner):
    """Engines, what they hold, the tasks that they were given.

    Made by ``scopekit.start`` and ``scopekit.connect``.

    Args:
        link: the engines, or None to run everything in this process.
        threads: how many threads of each engine run tasks, the main thread among them.
        wire: "direct" or "views" to speak with engines that way alone.
        labels: what each worker or node is labelled with.

    Raises:
        ScopeError: what is labelled is not there.
    """

    def __init__(
        self,
        link: ClusterLink | None,
        *,
        threads: int = 1,
        wire: str | None = None,
        labels: Mapping[Any, Any] | None = None,
    ) -> None:
        self._labels = Labels(read_labels(labels))
        self.id = f"scopekit-{os.urandom(6).hex()}"
        self.name = link.session_id if link is not None else "in this process"
        self._threads = threads
        self._wire = wire
        self._link = link
        super().__init__(itertools.count(1))
        self._closed = False
        self._has_shards = False
        self._closing = threading.Lock()
        self._here: WorkerId = 0 if link is None else CLIENT
        self._lender = None if link is None else open_lender()
        self._roster: Roster | None = None
        self._restore_output: Callable[[], None] = lambda: None
        if link is None:
            self._restore_output = route_output()
        self._agent = self._open_agent()
        names = NodeNames()
        topology = Topology([describe_process(self._agent, names, self._labels, self.id)])
        self._driver = Driver(topology, threaded=link is not None)
        self._driver.wires[self._here] = LocalWire(self._agent)
        self._chunks = ClientChunks(
            self, ThreadProc(self._here, 0), self._driver, self._agent.store, self._ids
        )
        self._large = LargeArguments(self._chunks.keep_buffer, self._chunks.buffer_of)
        if link is not None:
            self._keep_buffer = self._large.chunk_of
        self._agent.receive([msg.TopologyChanged(topology, {})])
        self._asker, self._roster = self._open_engines(link, names)
        try:
            self._labels.check_places(self.topology)
        except ScopeError:
            self._close_engines()
            raise
        self._fetcher = Fetcher(
            self._driver,
            self._here,
            self._agent.store.value,
            self._asker,
            self._roster.addresses if self._roster is not None else {},
            revive=self.revive_chunk,
        )
        self._bringer = Bringer(
            lambda tasks: self._fetcher.values([task.chunk_id for task in tasks], None),
            self._note_brought,
            self._driver.nudge,
        )
        self._driver.on_offered = self._agent.exchange.fetch_soon
        if link is not None:
            self._driver.bring = self._bringer.bring
        add_session(self)
        self._driver.start()
        if self._roster is not None:
            self._roster.watch()

    # -- opening ----------------------------------------------------------------

    def _open_agent(self) -> Agent:
        # By way of methods: it is there before the fetcher, the driver or the roster is.
        return open_agent(
            self._here,
            self._threads if self._link is None else 1,
            lambda reports: self._driver.take_reports(self._here, reports),
            inline=self._link is None,
            fetch=self._ask,
            push=self._push,
            lender=self._lender,
            lends_to=self._lends_to,
        )

    def _ask(self, worker: WorkerId, chunks: Sequence[int]) -> list[Given]:
        return self._fetcher.ask(worker, chunks)

    def _push(self, worker: WorkerId, items: list[Pushed]) -> None:
        self._driver.give_to(worker, items)

    def _lends_to(self, worker: WorkerId) -> bool:
        return self._roster is not None and self._roster.borrowers.get(worker, False)

    def _open_engines(
        self, link: ClusterLink | None, names: NodeNames
    ) -> tuple[PeerClient | None, Roster | None]:
        if link is None:
            return None, None
        from scopekit.wire.peers import PeerClient, key_pair  # noqa: PLC0415  # loads zmq

        keys = key_pair()
        card = None if self._lender is None else self._lender.card
        asker = PeerClient(keys, card)
        roster = Roster(
            link,
            self._driver,
            self.id,
            threads=self._threads,
            keys=keys,
            memory=card,
            names=names,
            labels=self._labels,
            wire=self._wire,
        )
        try:
            roster.open()
        except BaseException:
            asker.close()
            raise
        return asker, roster

    # -- spawning -------------------------------------------------------------------

    def _check_may_spawn(self) -> None:
        if self._closed:
            self._check_open()

    def _can_wait_for_processors(self) -> bool:
        # Without engines no worker can ever join.
        return self._link is not None

    def _owns(self, handle: Task | Chunk) -> bool:
        return home_of(handle) is self

    def _take(
        self, spec: TaskSpec, call: Call, task: Task, sink: Callable[[str, str], None] | None
    ) -> None:
        self._driver.spawn(spec, call, task, sink)

    def release_held(self, tasks: Sequence[Task]) -> None:
        """Lets tasks go that were held for the end of a block."""
        self._driver.handle(ev.BlockEnded(tuple(task.id for task in tasks), time.time()))
        self._driver.send_now()

    def pin_place(self) -> Place:
        """Returns where values of this process are."""
        return self._chunks.place()

    def keep_pinned(self, value: Any, scope: Scope, why: str) -> Chunk:
        """Makes a chunk of what stays in this process."""
        return self._chunks.keep(value, scope, why)

    def _lacks_thread(self, spec: TaskSpec, call: Call) -> bool:
        """Tells whether a task would run here, on the thread of the client's tasks."""
        if self._link is None:
            return False
        threads = [c.pin.scope for c in call.pinned if c.stays and type(c.pin.scope) is ExactScope]
        scopes = spec.operands + tuple(("argument", scope) for scope in threads)
        return bool(threads and allowed_mask(scopes, self.topology))

    def plan(self, f: Any, /, *args: Any, **kwargs: Any) -> Explanation:
        """Tells where ``spawn`` with the same arguments would run, without running it."""
        given = {key: kwargs.pop(key) for key in SCOPE_OPTIONS if key in kwargs}
        return self.plan_call(Options.checked(given, "plan"), f, args, kwargs)

    def plan_call(
        self, given: Options, f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Explanation:
        """Tells where a call with these options would run, without running it."""
        self._check_open()
        return planning.plan_call(self, given, f, args, kwargs)

    def _meant(self, scope: Scope) -> Scope:
        """Reads a scope as one of this session, where another one is the current."""
        current = innermost_session()
        if current is None or current is self:
            return scope
        return relocated(scope, current.topology.node_of, self.topology.node_of)

    def _meant_around(self, around: Around) -> Around:
        return around if innermost_session() in (None, self) else around.moved(self._meant)

    def _read(self, scope: Any) -> Scope:
        return self._meant(as_scope(scope))

    def run(self, f: Callable[..., Any], *args: Any, scope: Any = None) -> dict[WorkerId, Any]:
        """Calls a function once in every process of a scope, each on one of its processors there.

        Args:
            f: the function.
            args: its arguments.
            scope: which processes; every engine if None.

        Returns:
            What it returned, by worker.

        Raises:
            NoProcessorError: no process lies in the scope.
            BaseException: what it raised, in the first process where it did.

        Example:
            >>> from scopekit import myid, start
            >>> with start(0) as session:
            ...     session.run(myid)
            {0: 0}
        """
        self._check_open()
        return run_everywhere(self, f, args, None if scope is None else self._read(scope))

    def executor(
        self,
        scope: Any = None,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        **options: Any,
    ) -> SessionExecutor:
        """Makes an executor whose calls are tasks, for code that knows only executors.

        Args:
            scope: where its tasks may run.
            max_workers: how many of its tasks may be sent and unfinished at once; any
                number if None.
            initializer: is called in each process that runs its tasks, before the first.
            initargs: the arguments of the initializer.
            options: further options of its tasks, as for ``options``.

        Returns:
            A ``concurrent.futures.Executor``. The futures that it gives hold the values.

        Raises:
            ScopeError: an option is unknown or makes no sense.

        Example:
            >>> from scopekit import start
            >>> with start(0) as session, session.executor() as pool:
            ...     list(pool.map(abs, [-1, 2]))
            [1, 2]
        """
        self._check_open()
        return open_executor(
            self,
            max_workers,
            initializer,
            initargs,
            {"scope": scope, **options},
            threaded=self._link is not None,
        )

    # -- chunks -----------------------------------------------------------------------

    def tochunk(
        self,
        value: Any,
        processor: Processor | None = None,
        scope: Any = None,
        *,
        sealed: bool = False,
    ) -> Chunk:
        """Makes a chunk of a value.

        A scope that leaves this process out hands the value over: it moves to a
        processor in the scope, and only the handle stays.

        Args:
            value: the value.
            processor: its home; must lie in the scope.
            scope: where it is valid; where its type says if None, anywhere as a rule.
            sealed: True to have what is computed from it be valid no further.

        Raises:
            ScopeError: the home lies outside the scope.
            SchedulingError: no processor lies in the scope.
            ScopekitError: the value is to move and does not pickle.
        """
        self._check_open()
        if isinstance(value, (Task, Chunk)):
            raise TypeError(f"a {type(value).__name__} is a handle already, not a value")
        where = None if scope is None else self._read(scope)
        return self._chunks.make(value, processor, where, sealed=sealed)

    def rescope(self, x: Task | Chunk, scope: Any, declassify: bool = False) -> Chunk:
        """Changes where a chunk is valid.

        It narrows freely: where it is held and not valid any more it is dropped, and where
        nobody holds it in the new scope it moves there first. To widen it, or to unseal it,
        must be said, and is recorded: see ``rescopings``. What runs on it already goes on.

        Args:
            x: the chunk, or the task whose result it is, which is waited for without a limit.
            scope: where it is valid from now on.
            declassify: True if that may be in more places than before.

        Returns:
            The chunk.

        Raises:
            ScopeError: it would be valid nowhere, or in more places although nobody said so.
            NoProcessorError: there is no such processor now.
            ChunkLostError: its value is gone.
            BaseException: what the task raised.
        """
        self._check_open()
        if not isinstance(x, (Task, Chunk)):
            raise TypeError(
                f"rescope changes the scope of a task or chunk, not of a {type_name(x)}"
            )
        chunk: Chunk = self.fetch(x, raw=True) if isinstance(x, Task) else x
        if not self._owns(chunk):
            raise ScopekitError(f"chunk {chunk.id} belongs to another session; rescope it there")
        change_scope(self._driver, chunk.id, self._meant(as_scope(scope)), declassify=declassify)
        return chunk

    def fetch(self, x: Any, raw: bool = False, timeout: float | None = None) -> Any:
        """Brings values here.

        Args:
            x: a task, a chunk, or lists, tuples, dicts and sets of them; all else is
                returned as it is.
            raw: True for the Chunk of a task instead of its value.
            timeout: seconds to wait at most; None waits without a limit.

        Returns:
            ``x`` with every handle replaced by its value.

        Raises:
            ScopeViolationError: a value's scope leaves this process out.
            TimeoutError: not all values were here in time.
            BaseException: what a task raised.
        """
        if raw:
            return gather_chunks(x, self.chunk_of, timeout)
        return gather(x, values_of, timeout)

    def wait(self, x: Any, timeout: float | None = None) -> Any:
        """Waits until every task in ``x`` has ended, in whatever way; returns ``x``.

        Raises:
            TimeoutError: not all had ended in time.
        """
        wait_for(x, timeout)
        return x

    def as_completed(self, tasks: Iterable[Task], timeout: float | None = None) -> Iterator[Task]:
        """Yields tasks in the order in which they end.

        Raises:
            TimeoutError: not all had ended in time.
        """
        return cast("Iterator[Task]", concurrent.futures.as_completed(tasks, timeout))

    def isready(self, task: Task) -> bool:
        """Tells whether a task has ended, in whatever way."""
        return task.done()

    def mutable(
        self,
        make: Callable[[], Any],
        *,
        worker: WorkerId | None = None,
        processor: Processor | None = None,
        scope: Any = None,
    ) -> Chunk:
        """Has one object made and kept in one place; see :func:`scopekit.mutable`."""
        from scopekit.mutables import make_mutable  # noqa: PLC0415  # it knows the session

        self._check_open()
        return make_mutable(self, make, worker=worker, processor=processor, scope=scope)

    def shard(
        self,
        make: Callable[[], Any],
        *,
        per: Any = "process",
        workers: Iterable[WorkerId] | None = None,
        scope: Any = None,
        close: Callable[[Any], object] | None = None,
        name: str | None = None,
    ) -> Shard:
        """Has one thing made for each place; see :func:`scopekit.shard`."""
        from scopekit.shards import make_shard  # noqa: PLC0415  # it knows the session

        self._check_open()
        self._has_shards = True
        return make_shard(self, make, per=per, workers=workers, scope=scope, close=close, name=name)

    def numbered(self, name: str) -> str:
        """Returns a name for a task that no other one has."""
        return self._number(name)

    def _note_brought(self, tasks: Sequence[Task]) -> None:
        self._driver.handle(ev.ResultsBrought(tuple(task.chunk_id for task in tasks)))

    # -- closing ------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ScopekitError(
                f"session {self.name} is closed; start another with scopekit.start()"
            )

    def close(self) -> None:
        """Ends the session: engines that it started end, all others are left as found.

        What is not done then is cancelled. Closing twice does nothing.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        remove_session(self)
        if self._roster is not None:
            self._roster.stop_watching()
        self._driver.close()
        self._driver.end_all(_closed)
        end_executors(self)
        self._bringer.close()
        self._large.clear()
        self._close_engines()
        if not open_sessions():
            shield.remove()

    def _close_engines(self) -> None:
        if self._roster is not None:
            self._roster.close(gently=self._has_shards)
        self._agent.close()
        if self._asker is not None:
            self._asker.close()
        self._driver.close_callbacks()
        self._restore_output()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closed(task: Task) -> TaskCancelledError:
    return TaskCancelledError(f"{task.name} was not done when its session was closed")
