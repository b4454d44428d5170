"""The whole protocol over ipyparallel's views: it needs no port but the controller's.

One ipyparallel message costs milliseconds however little it carries, so orders go
out in batches: while one message to an engine is on its way, further orders gather
for the next. Reports come back on the engines' publishing channel, under the header
of a message that is never answered and so stays open for as long as the wire.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, ProtocolError, ScopekitError
from scopekit.wire.codec import KnownFunctions, dump_value, load_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scopekit.graph import WorkerId
    from scopekit.wire import messages as msg
    from scopekit.wire.cluster import ClusterLink
    from scopekit.wire.peers import Given

__all__ = ("ViewWire",)

_OPEN_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_CLOSE_SECONDS = 2.0


def _entry(name: str) -> Any:
    """Names a function of the engine's door; no code of ours travels."""
    import ipyparallel  # noqa: PLC0415  # loaded with the first session

    return ipyparallel.Reference(
        f"__import__('importlib').import_module('scopekit.engine.entry').{name}"
    )


class ViewWire:
    """Carries orders to the agents of one session, and their reports back.

    All methods but ``ask`` and those that open or close are called from one thread:
    a view is not safe to use from two.

    Args:
        link: the engines.
        session: the id of the session.
        on_reports: takes the id of an engine and a batch of its reports; called from
            ipyparallel's thread, it must not wait.
        on_room: is called when an engine may be sent to again.
    """

    any_thread = False

    def __init__(
        self,
        link: ClusterLink,
        session: str,
        on_reports: Callable[[WorkerId, list[msg.Report]], None],
        on_room: Callable[[], None],
    ) -> None:
        self._link = link
        self._session = session
        self._on_reports = on_reports
        self._on_room = on_room
        self._waiting: dict[WorkerId, list[msg.Order]] = {}
        self._known: dict[WorkerId, KnownFunctions] = {}
        self._under_way: dict[WorkerId, Any] = {}
        self._lock = threading.RLock()
        self._sink = self._open_sink()

    # -- opening and closing ----------------------------------------------------

    def _open_sink(self) -> dict[str, Any]:
        session = self._link.client.session
        header: dict[str, Any] = session.msg_header("scopekit_reports")
        header = {key: str(value) for key, value in header.items()}
        futures = self._link.client.create_message_futures(
            header["msg_id"], header, async_result=True
        )
        first = futures[0] if isinstance(futures, (list, tuple)) else futures
        first.iopub_callbacks.append(self._take_reports)
        return header

    @property
    def report_header(self) -> dict[str, Any]:
        """The message header under which agents publish."""
        return self._sink

    def open_agents(self, configs: Iterable[msg.AgentConfig]) -> list[msg.AgentCard]:
        """Installs agents, all at once.

        Raises:
            ScopekitError: an engine did not install its agent in time.
        """
        with self._lock:
            asked = [
                (
                    config.worker,
                    self._call(config.worker, "open_agent", dump_value(config)),
                )
                for config in configs
            ]
        cards: list[msg.AgentCard] = []
        for worker, reply in asked:
            try:
                card: msg.AgentCard = load_value(self._answer(worker, reply))
            except Exception as error:
                raise ScopekitError(
                    f"worker {worker} could not be made ready: {type(error).__name__}: {error}"
                ) from error
            self._waiting[worker] = []
            self._known[worker] = KnownFunctions()
            cards.append(card)
        return cards

    def dial(self, workers: Iterable[WorkerId], client: msg.PeerAddress) -> dict[WorkerId, bool]:
        """Has agents connect to the client's own socket.

        Returns:
            For each worker, whether it got through.
        """
        asked: dict[WorkerId, Any] = {}
        reached: dict[WorkerId, bool] = {}
        with self._lock:
            for worker in workers:
                reached[worker] = False
                with contextlib.suppress(ScopekitError):
                    asked[worker] = self._call(worker, "dial", self._session, dump_value(client))
        for worker, reply in asked.items():
            # Whatever keeps it from dialling, its view still works.
            with contextlib.suppress(Exception):
                reached[worker] = bool(self._answer(worker, reply))
        return reached

    def _answer(self, worker: WorkerId, reply: Any) -> Any:
        """Waits for an engine's answer for as long as the engine lives, up to a limit.

        Raises:
            ScopekitError: the engine died.
            Exception: whatever it raised, or no answer came in time.
        """
        until = time.monotonic() + _OPEN_SECONDS
        while not reply.ready() and time.monotonic() < until:
            reply.wait(_LOOK_SECONDS)
            if not reply.ready() and worker not in self._link.engine_ids():
                raise ScopekitError(f"worker {worker} is gone")
        return reply.get(0)

    def close(self) -> None:
        """Takes the agents out of engines that live on, within two seconds."""
        self.close_agents(list(self._waiting))

    def close_agents(self, workers: Iterable[WorkerId]) -> None:
        """Takes the agents out of some engines that live on, within two seconds."""
        asked = []
        with self._lock:
            for worker in workers:
                with contextlib.suppress(ScopekitError):  # it left, with its agent
                    asked.append(self._call(worker, "close_agent", self._session))
        for reply in asked:
            reply.wait(_CLOSE_SECONDS)

    def _call(self, worker: Any, entry: str, *arguments: Any) -> Any:
        """Calls a function of an engine's door.

        Raises:
            ScopekitError: the engine is gone.
        """
        try:
            return self._link.view(int(worker)).apply_async(_entry(entry), *arguments)
        except IndexError:
            raise ScopekitError(f"worker {worker} is gone") from None

    # -- orders -----------------------------------------------------------------

    def send(self, worker: WorkerId, order: msg.Order) -> None:
        """Takes an order, to leave with the next flush."""
        with self._lock:
            if worker in self._waiting:
                self._waiting[worker].append(order)

    def functions(self, worker: WorkerId) -> KnownFunctions:
        """Returns which functions an engine was sent."""
        return self._known[worker]

    def flush(self) -> None:
        """Sends what has gathered, to each engine that no message is on its way to."""
        with self._lock:
            for worker, orders in self._waiting.items():
                if orders and worker not in self._under_way:
                    self._waiting[worker] = []
                    self._send_batch(worker, orders)

    def _send_batch(self, worker: WorkerId, orders: list[msg.Order]) -> None:
        try:
            reply = self._call(worker, "receive", self._session, dump_value(orders))
        except ScopekitError:
            # The engine is gone: that is told by whoever watches the engines.
            return
        self._under_way[worker] = reply
        reply.add_done_callback(lambda _: self._arrived(worker, reply))

    def _arrived(self, worker: WorkerId, reply: Any) -> None:
        with self._lock:
            if self._under_way.get(worker) is reply:
                del self._under_way[worker]
        self._on_room()

    def forget(self, worker: WorkerId) -> None:
        """Drops what was to go to an engine that is gone."""
        with self._lock:
            self._waiting.pop(worker, None)
            self._known.pop(worker, None)
            self._under_way.pop(worker, None)

    # -- chunks -----------------------------------------------------------------

    def ask(self, worker: WorkerId, chunks: Sequence[int], timeout: float | None) -> list[Given]:
        """Asks an engine for chunks, as the client.

        Raises:
            ScopeViolationError: the client lies outside a chunk's scope.
            ChunkLostError: the engine does not hold a chunk, or is gone.
            TimeoutError: no answer came in time.
        """
        import ipyparallel  # noqa: PLC0415

        try:
            with self._lock:
                reply = self._call(worker, "give_chunks", self._session, tuple(chunks))
        except ScopekitError as error:
            raise ChunkLostError(f"worker {worker}, which held the value, is gone") from error
        try:
            given: list[Given] = reply.get(-1 if timeout is None else timeout)
        except ipyparallel.TimeoutError:
            raise TimeoutError(f"worker {worker} gave no answer within {timeout:.3g} s") from None
        except ipyparallel.EngineError as error:
            raise ChunkLostError(f"worker {worker}, which held the value, is gone") from error
        except ipyparallel.RemoteError as error:
            raise _same_error(error, worker) from None
        return given

    # -- reports ----------------------------------------------------------------

    def _take_reports(self, message: Any) -> None:
        buffers = message["buffers"]
        if message["header"]["msg_type"] != "status" or not buffers:
            return
        worker, reports = load_value(buffers[0])
        self._on_reports(worker, reports)


def _same_error(error: Any, worker: WorkerId) -> Exception:
    """Rebuilds the guard's own errors, which ipyparallel brings as text."""
    from scopekit import errors  # noqa: PLC0415

    kind = getattr(errors, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, errors.ScopekitError):
        rebuilt: Exception = kind(error.evalue)
        return rebuilt
    return ProtocolError(f"worker {worker} could not give a chunk: {error.ename}")
