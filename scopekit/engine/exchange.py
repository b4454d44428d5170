"""The exchange: brings chunks into a process, sends them from it to others."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from scopekit.engine.seals import sealed_error
from scopekit.errors import ChunkLostError, ScopekitError, ScopeViolationError
from scopekit.guard import guard, may_be_labelled
from scopekit.handles import handles_become
from scopekit.scopes import CLIENT, AnyScope, is_sealed
from scopekit.wire import messages as msg
from scopekit.wire.codec import dump_error
from scopekit.wire.lending import LoanOverError
from scopekit.wire.parcels import load_parcel

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from scopekit.engine.backlog import Backlog, Pending
    from scopekit.engine.reporter import Reporter
    from scopekit.engine.store import Store
    from scopekit.graph import StoredChunk, WorkerId
    from scopekit.handles import Chunk
    from scopekit.scopes import Scope
    from scopekit.wire.codec import PickledError
    from scopekit.wire.parcels import Parcel
    from scopekit.wire.peers import Given, Pushed

__all__ = ("Exchange",)

_UNSCOPED = AnyScope()
_REFUSALS_KEPT = 1000


class Exchange:
    """Takes chunks from other processes, gives them chunks of this one.

    Args:
        worker: the id of this process.
        store: the chunks of this process.
        backlog: the tasks that wait for some.
        reporter: reports what came in, what did not, and why.
        lock: guards what waits for chunks, here and in the backlog.
        fetch: asks another process for chunks.
        push: sends chunks to another process, or says which it may not have.
        lends_to: tells which others can read what this process lends.
        revive: makes the handles that lie in values.
        submit: takes a task that has all of its inputs now.
    """

    def __init__(
        self,
        worker: WorkerId,
        store: Store,
        backlog: Backlog,
        reporter: Reporter,
        lock: threading.RLock,
        *,
        fetch: Callable[[WorkerId, Sequence[int]], list[Given]],
        push: Callable[[WorkerId, list[Pushed]], None],
        lends_to: Callable[[WorkerId], bool],
        revive: Callable[[StoredChunk], Chunk],
        submit: Callable[[Pending], None],
    ) -> None:
        self._worker = worker
        self._store = store
        self._backlog = backlog
        self._reporter = reporter
        self._lock = lock
        self._fetch = fetch
        self._push = push
        self._lends_to = lends_to
        self._revive = revive
        self._submit = submit
        # Who is to have what is not here yet.
        self._wanted: dict[int, list[WorkerId]] = {}
        self._overdue: set[int] = set()
        # That a chunk may not come here can be heard before the order that waits for it.
        self._refused: dict[int, Scope] = {}
        self._pushes: dict[WorkerId, list[Pushed]] = {}
        # What was lent and could not be read here: it is asked for in another way.
        self._unread: deque[tuple[WorkerId, int]] = deque()

    # -- what comes in ------------------------------------------------------------

    def put(self, order: msg.Put) -> None:
        """Takes a value that the session sends with its orders."""
        topology = self._store.topology
        outside = not topology.admits(order.scope, self._worker)
        relabelled = outside and may_be_labelled(order.scope, self._worker, topology)
        if relabelled and not order.reports:
            self._miss(order.chunk)
            return
        try:
            if outside and not relabelled:
                guard(order.chunk, order.scope, self._worker, topology)
            loan = order.parcel.loan
            with handles_become(self._revive):
                value = load_parcel(order.parcel.borrowed())
            stored = self._store.put(
                order.chunk, value, order.scope, order.processor, loan, outside=relabelled
            )
        except Exception as error:  # noqa: BLE001  # a user's __setstate__ may raise anything
            self._reporter.report(msg.PutFailed(order.chunk, self._unreadable(error, order.scope)))
            return
        self._reporter.report(
            msg.ChunkPut(stored, topology.version)
            if order.reports
            else msg.Arrived((order.chunk,), time.time(), topology.version)
        )
        self.chunk_is_here(order.chunk)
        self.flush()

    def take(self, sender: WorkerId, items: Iterable[Pushed]) -> None:
        """Takes what another process sends: chunks, or word that they may not be had."""
        arrived = []
        version = 0
        for item in items:
            head, body = item
            if isinstance(body, int):
                version = body
            elif isinstance(head, int):
                self._hand_back_waiting(head, cast("Scope", body))
            elif self._take_value(sender, head, cast("Parcel", body), version):
                arrived.append(head.id)
        if arrived:
            self._reporter.start()
            # Nobody waits for that word.
            self._reporter.add(msg.Arrived(tuple(arrived), time.time(), version))
            self._reporter.stir()
        for chunk in arrived:
            self.chunk_is_here(chunk)
        self.flush()

    def _take_value(
        self, sender: WorkerId, stored: StoredChunk, parcel: Parcel, version: int
    ) -> bool:
        topology = self._store.topology
        try:
            if stored.scope is not _UNSCOPED:
                # Before it is read: reading may run code of the value.
                guard(stored.id, stored.scope, self._worker, topology)
            with handles_become(self._revive):
                value = load_parcel(parcel.borrowed())
            self._store.put(
                stored.id, value, stored.scope, stored.processor, parcel.loan, version=version
            )
        except LoanOverError:
            self._unread.append((sender, stored.id))
            self._reporter.hurry()
            return False
        except Exception as error:  # noqa: BLE001  # a user's __setstate__ may raise anything
            if isinstance(error, ScopeViolationError) and may_be_labelled(
                stored.scope, self._worker, self._store.topology
            ):
                # Labels changed on its way: whoever waits for it here is placed anew.
                self._miss(stored.id)
                return False
            self._reporter.report(msg.PutFailed(stored.id, self._unreadable(error, stored.scope)))
            return False
        return True

    def _miss(self, chunk: int) -> None:
        """Reports that a chunk was refused, unless it is here and waits for a place to go."""
        if chunk not in self._store:
            self._reporter.report(msg.StillWaiting((chunk,)))

    def _unreadable(self, error: Exception, scope: Scope) -> PickledError:
        describe = sealed_error if is_sealed(scope) else dump_error
        return describe(error, self._store.topology.describe_place(self._worker))

    def fetch_soon(self, holder: WorkerId, chunks: Iterable[int]) -> None:
        """Fetches what this process is to have and nobody can send here."""
        self._reporter.start()
        self._unread += [(holder, chunk) for chunk in chunks]
        self._reporter.hurry()

    def ask_for_unread(self) -> None:
        """Fetches what could not be sent here, or was lent and could not be read."""
        while self._unread:
            holder, chunk = self._unread.popleft()
            version: Pushed = (msg.SENT_BY, self._store.topology.version)
            # Where it cannot be had, whoever waits for it asks again.
            with contextlib.suppress(ScopekitError, TimeoutError):
                try:
                    self.take(holder, [version, *self._fetch(holder, [chunk])])
                except ScopeViolationError as error:
                    if error.scope is not None:
                        self._hand_back_waiting(chunk, error.scope)

    def chunk_is_here(self, chunk: int) -> None:
        """Starts what waited for a chunk; sends it to whoever is to have it."""
        with self._lock:
            ready = self._backlog.arrived(chunk)
            wanted = self._wanted.pop(chunk, ())
        for pending in ready:
            self._submit(pending)
        for worker in wanted:
            self._add_push(chunk, worker)

    # -- what may not come --------------------------------------------------------

    def _hand_back_waiting(self, chunk: int, scope: Scope) -> None:
        with self._lock:
            waiting = self._backlog.take_waiting(chunk)
            if waiting is None and len(self._refused) < _REFUSALS_KEPT:
                self._refused[chunk] = scope
        for pending in waiting or ():
            self._reporter.report(msg.HandedBack(pending.order.task, chunk, scope))
        if not waiting:
            self._reporter.report_soon(msg.KeptOut(chunk, scope))

    def hand_back_refused(self, order: msg.Run) -> None:
        """Hands a task back that waits for what was refused before the task came."""
        if not self._refused:
            return
        for chunk in order.inputs:
            if chunk in self._refused:
                self._hand_back_waiting(chunk, self._refused.pop(chunk))

    def admit_again(self, chunks: Iterable[int] | None = None) -> None:
        """Forgets that chunks might not come here, all of them if None: now they may, perhaps."""
        if chunks is None:
            self._refused.clear()
            return
        with self._lock:
            for chunk in chunks:
                self._refused.pop(chunk, None)

    # -- what goes out ------------------------------------------------------------

    def send(self, chunk: int, to: WorkerId) -> None:
        """Sends a chunk to another process, as soon as it is here."""
        with self._lock:
            is_here = chunk in self._store
            if not is_here:
                self._wanted.setdefault(chunk, []).append(to)
        if not is_here:
            self._reporter.start()
            self._reporter.stir()
            return
        self._add_push(chunk, to)
        self.flush()

    def _add_push(self, chunk: int, to: WorkerId) -> None:
        if to == CLIENT:
            self._reporter.report(msg.Offered((chunk,)))
            return
        try:
            item: Pushed = self._store.give(chunk, to, lent=self._can_lend_to(to))
        except ScopeViolationError as error:
            if error.scope is None:
                return
            refusal: Pushed = (chunk, error.scope)
            item = refusal
        except ChunkLostError:
            return  # let go in the meantime: nobody waits for it any more
        with self._lock:
            self._pushes.setdefault(to, []).append(item)

    def _can_lend_to(self, worker: WorkerId) -> bool:
        return self._is_on_our_node(worker) and self._lends_to(worker)

    def _is_on_our_node(self, worker: WorkerId) -> bool:
        topology = self._store.topology
        return topology.node_of(worker) == topology.node_of(self._worker)

    def flush(self) -> None:
        """Sends what has gathered for other processes."""
        if not self._pushes:
            return
        with self._lock:
            pushes, self._pushes = self._pushes, {}
        for worker, items in pushes.items():
            self._push(worker, items)

    def give(self, chunks: Sequence[int], asker: WorkerId, lent: bool = False) -> list[Given]:
        """Gives chunks to another process, as far as their scopes cover it.

        Args:
            chunks: their ids.
            asker: who is to have them.
            lent: True if the asker can read what this process lends.

        Raises:
            ScopeViolationError: the asker lies outside a chunk's scope.
            ChunkLostError: a chunk is not here.
        """
        lent = lent and self._is_on_our_node(asker)
        return [self._store.give(chunk, asker, lent=lent) for chunk in chunks]

    @property
    def is_awaited(self) -> bool:
        """Tells whether others are to have what is not here yet."""
        return bool(self._wanted)

    def want_no_more(self, chunks: Iterable[int]) -> None:
        """Forgets who was to have chunks that are not made."""
        with self._lock:
            for chunk in chunks:
                self._wanted.pop(chunk, None)

    def take_overdue(self, running: Callable[[], Iterable[msg.Run]]) -> list[int]:
        """Gives up on what was to be sent from here, does not come, and is not made here.

        The session believes that it is here, or has thought better of it by now. Whoever
        waits for it asks again.

        Args:
            running: tells what runs here.

        Returns:
            The chunks that were overdue the last time already.
        """
        with self._lock:
            # In this order: whoever begins is among these before it is gone from there.
            orders = [*self._backlog.orders(), *running()]
            made = {output for order in orders for output in order.outputs}
            before, self._overdue = self._overdue, self._wanted.keys() - made
            overdue = [chunk for chunk in self._wanted if chunk in self._overdue & before]
            for chunk in overdue:
                del self._wanted[chunk]
        return overdue
