"""The whole protocol over ipyparallel's views: it needs no port but the controller's.

One ipyparallel message costs milliseconds however little it carries, so orders go
out in batches: while one message to an engine is on its way, further orders gather
for the next. Reports come back on the engines' publishing channel, under the header
of a message that is never answered and so stays open for as long as the wire.

ZeroMQ loses what is on its way when a connection breaks, and nobody is told. So batches
of both ways have numbers, and each end keeps its last ones until the other has them.
Where an answer is late, or there is work and no word of it, the engine is asked how far it
came: on the way of the batch, behind it. What its answer shows to be lost goes again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scopekit.errors import ChunkLostError, ProtocolError, ScopekitError
from scopekit.wire import messages as msg
from scopekit.wire.codec import KnownFunctions, dump_value, load_value
from scopekit.wire.knocks import stop_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scopekit.graph import WorkerId
    from scopekit.wire.cluster import ClusterLink
    from scopekit.wire.peers import Given

__all__ = ("ViewWire",)

_OPEN_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_CLOSE_SECONDS = 2.0
# After so long without a word an engine is asked how far it came, then twice as long after.
_ASK_SECONDS = 3.0
_ASK_SECONDS_MOST = 60.0
_GAP_SECONDS = 0.5
# So many batches of reports are taken in before the engine is told that it need keep none.
_MOST_UNTOLD = 64


def _entry(name: str) -> Any:
    """Names a function of the engine's door; no code of ours travels."""
    import ipyparallel  # noqa: PLC0415  # loaded with the first session

    return ipyparallel.Reference(
        f"__import__('importlib').import_module('scopekit.engine.entry').{name}"
    )


@dataclass(slots=True)
class _Line:
    """How far one engine and this process came.

    Attributes:
        known: the functions that it was sent.
        waiting: orders that no batch has yet.
        urgent: tasks that are to stop, which is to be said to a busy main thread's engine, too.
        number: of the last batch that was sent.
        batch: that batch, until it is known to have come.
        reply: what ipyparallel makes of its answer.
        lost: True if the batch is to go again.
        came: the number of the last batch of reports, up to which all came.
        early: batches of reports that came before one that is missing.
        published: the number of the last one, as far as the engine said.
        told: up to which of them the engine was told that they came.
        question: what ipyparallel makes of the answer to the last question.
        heard: when it last said anything, by the monotonic clock.
        asked: when it was last asked, likewise.
        wait: the seconds to wait for a word before it is asked again.
    """

    known: KnownFunctions = field(default_factory=KnownFunctions)
    waiting: list[msg.Order] = field(default_factory=list)
    urgent: list[int] = field(default_factory=list)
    number: int = 0
    batch: bytes | None = None
    reply: Any = None
    lost: bool = False
    came: int = 0
    early: dict[int, list[msg.Report]] = field(default_factory=dict)
    published: int = 0
    told: int = 0
    question: Any = None
    heard: float = field(default_factory=time.monotonic)
    asked: float = 0.0
    wait: float = _ASK_SECONDS

    def take(self, number: int, reports: list[msg.Report]) -> list[list[msg.Report]]:
        """Takes a batch of reports in; returns those that are next in order."""
        self.hear()
        if number > self.came:
            self.early[number] = reports
        ready = []
        while self.came + 1 in self.early:
            self.came += 1
            ready.append(self.early.pop(self.came))
        return ready

    def hear(self) -> None:
        self.heard = time.monotonic()
        self.wait = _ASK_SECONDS

    @property
    def lacks_some(self) -> bool:
        """Tells whether batches of reports are missing, or late."""
        return bool(self.early) or self.published > self.came

    def is_silent(self, now: float) -> bool:
        """Tells whether there was no word for long."""
        return now - max(self.heard, self.asked) > self.wait

    def is_due(self, now: float) -> bool:
        """Tells whether the engine is to be asked how far it came, busy or not."""
        if self.lacks_some:
            wait = _GAP_SECONDS if self.asked < self.heard else self.wait
            return now - self.asked > wait
        # The answer to the last question may be lost, too.
        asked = self.question is not None and now - self.asked < _ASK_SECONDS_MOST
        if self.came - self.told > _MOST_UNTOLD and not asked:
            return True
        return self.batch is not None and self.is_silent(now)


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
        self._lines: dict[WorkerId, _Line] = {}
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
            with self._lock:
                self._lines[worker] = _Line()
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
        self.close_agents(list(self._lines))

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
            line = self._lines.get(worker)
            if line is None:
                return
            line.waiting.append(order)
            if type(order) is msg.Stop:
                line.urgent += order.tasks

    def functions(self, worker: WorkerId) -> KnownFunctions:
        """Returns which functions an engine was sent."""
        return self._lines[worker].known

    def flush(self) -> None:
        """Sends what has gathered, to each engine that no message is on its way to."""
        with self._lock:
            for worker, line in self._lines.items():
                if line.batch is None and line.waiting:
                    orders, line.waiting = line.waiting, []
                    line.number += 1
                    line.batch = dump_value(orders)
                    self._send_batch(worker, line)
                elif line.lost:
                    self._send_batch(worker, line)
                if line.urgent:
                    words = [stop_word(self._session, task) for task in line.urgent]
                    line.urgent = []
                    with contextlib.suppress(ScopekitError):  # it is gone
                        self._link.knock(int(worker), words)

    def _send_batch(self, worker: WorkerId, line: _Line) -> None:
        line.lost = False
        line.told = line.came
        # The engine may be gone: that is told by whoever watches the engines.
        with contextlib.suppress(ScopekitError):
            reply = line.reply = self._call(
                worker, "receive", self._session, line.batch, line.number, line.came
            )
            reply.add_done_callback(lambda _: self._answered(worker, reply))

    def look(self, busy: Callable[[WorkerId], bool]) -> None:
        """Asks the engines of which there was no word for long how far they came.

        Args:
            busy: tells whether an engine has tasks over this wire that have not ended.
        """
        now = time.monotonic()
        with self._lock:
            silent = [worker for worker, line in self._lines.items() if line.is_silent(now)]
        # Not under the lock: whoever asks the driver for its own may hold it, and wait for ours.
        expected = [worker for worker in silent if busy(worker)]
        with self._lock:
            for worker, line in self._lines.items():
                if line.is_due(now) or worker in expected:
                    line.asked = now
                    line.wait = min(2 * line.wait, _ASK_SECONDS_MOST)
                    self._ask_how_far(worker, line)

    def _ask_how_far(self, worker: WorkerId, line: _Line) -> None:
        line.told = line.came
        with contextlib.suppress(ScopekitError):
            question = line.question = self._call(
                worker, "how_far", self._session, line.came, line.lacks_some
            )
            question.add_done_callback(lambda _: self._answered(worker, question))

    def _answered(self, worker: WorkerId, reply: Any) -> None:
        """Takes an engine's answer: up to which number it has orders, and has published."""
        came, published = None, 0
        with contextlib.suppress(Exception):  # the engine died, or its agent
            came, published = reply.get(0)
        with self._lock:
            line = self._lines.get(worker)
            if line is None or (reply is not line.reply and reply is not line.question):
                return
            if reply is line.question:
                line.question = None
            if came is not None:
                line.hear()
                line.published = max(line.published, published)
            if line.batch is not None:
                if reply is line.reply or (came is not None and came >= line.number):
                    line.batch = line.reply = None
                elif came is not None:
                    line.lost = True
        self._on_room()

    def forget(self, worker: WorkerId) -> None:
        """Drops what was to go to an engine that is gone."""
        with self._lock:
            self._lines.pop(worker, None)

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
            reply = self._answer_to_ask(worker, chunks, reply, timeout)
            given: list[Given] | Exception = reply.get(0)
        except ipyparallel.TimeoutError:
            raise TimeoutError(f"worker {worker} gave no answer within {timeout:.3g} s") from None
        except ipyparallel.EngineError as error:
            raise ChunkLostError(f"worker {worker}, which held the value, is gone") from error
        except ipyparallel.RemoteError as error:
            raise ProtocolError(f"worker {worker} gave no chunk: {error.ename}") from None
        if isinstance(given, Exception):
            raise given
        return given

    def _answer_to_ask(
        self, worker: WorkerId, chunks: Sequence[int], reply: Any, timeout: float | None
    ) -> Any:
        """Waits for an answer, asks again where it turns out to be lost."""
        until = None if timeout is None else time.monotonic() + timeout
        behind = None
        wait = _ASK_SECONDS
        while not reply.ready():
            left = wait if until is None else min(wait, until - time.monotonic())
            if left <= 0:
                break
            reply.wait(left)
            if left < wait or reply.ready():
                continue
            wait = min(2 * wait, _ASK_SECONDS_MOST)
            with contextlib.suppress(ScopekitError), self._lock:
                if behind is not None and behind.ready():
                    reply = self._call(worker, "give_chunks", self._session, tuple(chunks))
                # What is sent behind it is answered after it, if that was not lost.
                behind = self._call(worker, "statistics", self._session)
        return reply

    # -- reports ----------------------------------------------------------------

    def _take_reports(self, message: Any) -> None:
        buffers = message["buffers"]
        if message["header"]["msg_type"] != "status" or not buffers:
            return
        worker, number, reports = load_value(buffers[0])
        with self._lock:
            line = self._lines.get(worker)
            if line is None:
                return  # the late words of an engine that is gone
            # Under the lock, since they must not overtake each other.
            for batch in line.take(number, reports):
                self._on_reports(worker, batch)
            gap = bool(line.early)
        if gap:
            self._on_room()
