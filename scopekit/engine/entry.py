"""The door of an engine: what ipyparallel's messages call."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from scopekit.engine.accelerators import find_processors
from scopekit.engine.agent import Agent
from scopekit.engine.interrupts import listen
from scopekit.engine.lanes import LoopLane, ThreadLane
from scopekit.engine.output import route_output
from scopekit.engine.surroundings import Here, task_surroundings
from scopekit.errors import ChunkLostError
from scopekit.places import Topology
from scopekit.scopes import ThreadProc, ambient
from scopekit.wire import messages as msg
from scopekit.wire.codec import dump_value, load_value
from scopekit.wire.direct import DirectLine
from scopekit.wire.identity import identity_card, local_address
from scopekit.wire.knocks import listen_for_knocks
from scopekit.wire.lending import can_borrow, open_lender
from scopekit.wire.peers import PeerClient, PeerServer, key_pair, sayable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scopekit.engine.lanes import Lane
    from scopekit.graph import WorkerId
    from scopekit.scopes import Processor
    from scopekit.wire.peers import Given, Pushed

__all__ = ("close_agent", "dial", "give_chunks", "how_far", "open_agent", "receive")

_DIAL_SECONDS = 2.0
# What was published so short a time ago may still arrive.
_REPEAT_SECONDS = 1.0
_homes: dict[str, _Home] = {}


class _Home:
    """One session's agent in this engine, with all that it needs."""

    def __init__(self, config: msg.AgentConfig) -> None:
        self._keys = key_pair()
        self._line: DirectLine | None = None
        self._publish = _Publisher(config)
        self._orders_came = 0
        self._client_key = config.client_key
        lender = open_lender()
        card = None if lender is None else lender.card
        self._asker = PeerClient(self._keys, card)
        self.borrows = can_borrow(config.client_memory)
        self._main = LoopLane(asyncio.get_running_loop())
        further, self.troubles = find_processors(config.worker, config.kinds)
        self.agent = Agent(
            config.worker,
            Topology(),
            _lanes(config, self._main),
            self._report,
            fetch=self._fetch,
            push=self._push,
            lender=lender,
            lends_to=self._lends_to,
        )
        self.agent.add_processors(further)
        interface = local_address(config.controller)
        self.server = PeerServer(
            self._keys, interface, self.agent.exchange.give, self.agent.exchange.take, card
        )
        self._restore_output = route_output()
        self._deafen = listen_for_knocks(
            self._publish.kernel, config.session, self.agent.stop_early
        )
        self._listen_no_more = listen()
        if self._listen_no_more is not None:
            self.agent.stops.interrupted = ThreadProc(config.worker, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._session = config.session
        self._lease = config.lease
        self._heard = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._watch_lease()

    def _watch_lease(self) -> None:
        """Ends the agent of a client that is gone: its engine may serve others for long."""
        if self._lease is None:
            return
        if time.monotonic() - self._heard > self._lease:
            close_agent(self._session)
        else:
            self._timer = self._loop.call_later(self._lease / 4, self._watch_lease)

    def receive(self, orders: Sequence[msg.Order]) -> None:
        self._heard = time.monotonic()
        # Before they are carried out: the others may have heard of this one already, and
        # send it chunks.
        for order in orders:
            if isinstance(order, msg.TopologyChanged):
                self.server.allow(self._allowed(order.addresses))
        self.agent.receive(orders)

    def receive_in_order(self, number: int, read: Callable[[], Sequence[msg.Order]]) -> None:
        """Takes a batch, unless it came before: its sender repeats what may have been lost."""
        if number == self._orders_came + 1:
            self._orders_came = number
            self.receive(read())

    def how_far(self, confirmed: int, *, again: bool) -> tuple[int, int]:
        """Tells up to which number batches of orders came, and reports were published.

        Args:
            confirmed: up to which number the client has batches of reports.
            again: True to send it those that it does not have once more.
        """
        self._heard = time.monotonic()
        self._publish.confirm(confirmed)
        if again:
            self._publish.repeat()
        return self._orders_came, self._publish.number

    def _allowed(self, addresses: Mapping[WorkerId, msg.PeerAddress]) -> dict[bytes, WorkerId]:
        peers: dict[bytes, WorkerId] = {
            address.public_key: worker for worker, address in addresses.items()
        }
        return peers | {self._client_key: "client"}

    def _fetch(self, worker: WorkerId, chunks: Sequence[int]) -> list[Given]:
        address = self.agent.addresses.get(worker)
        if address is None:
            raise ChunkLostError(f"worker {worker}, which held an input, is gone")
        try:
            return self._asker.ask(address, chunks)
        except ConnectionError:
            raise ChunkLostError(
                f"worker {worker}, which holds an input, is gone or cannot be reached from"
                f" worker {self.agent.worker}"
            ) from None

    def _lends_to(self, worker: WorkerId) -> bool:
        address = self.agent.addresses.get(worker)
        return address is not None and can_borrow(address.memory)

    def _push(self, worker: WorkerId, items: list[Pushed]) -> None:
        address = self.agent.addresses.get(worker)
        # Without one the worker is gone, or its tasks will ask again.
        if address is not None:
            version: Pushed = (msg.SENT_BY, self.agent.topology.version)
            self._asker.push(address, [version, *items])

    def dial(self, client: msg.PeerAddress) -> bool:
        """Connects to the client's own socket, if that can be reached from here."""
        line = DirectLine(self._keys, client, self.receive)
        if line.wait_connected(_DIAL_SECONDS):
            self._line = line
            line.attach(self._loop, self._main.run_waiting)
            self.agent.children.line = line
            return True
        line.close()
        return False

    def _report(self, reports: list[msg.Report]) -> None:
        if self._line is not None:
            self._line.send(reports)
        else:
            self._publish(reports)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._restore_output()
        self._deafen()
        if self._listen_no_more is not None:
            self._listen_no_more()
        self.agent.close()
        if self._line is not None:
            self._line.close()
        self.server.close()
        self._asker.close()


def _lanes(config: msg.AgentConfig, main: LoopLane) -> dict[Processor, Lane]:
    lanes: dict[Processor, Lane] = {ThreadProc(config.worker, 0): main}
    for thread in range(1, config.threads):
        name = f"scopekit-{config.worker}-{thread}"
        lanes[ThreadProc(config.worker, thread)] = ThreadLane(name)
    return lanes


class _Publisher:
    """Publishes batches of reports, and keeps them until the client has them.

    Nobody tells a publisher what was lost on the way.
    """

    def __init__(self, config: msg.AgentConfig) -> None:
        from IPython import get_ipython  # noqa: PLC0415  # there is one in every engine

        self.kernel: Any = get_ipython().kernel
        self._config = config
        self.number = 0
        self._kept: dict[int, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def __call__(self, reports: list[msg.Report]) -> None:
        with self._lock:
            self.number += 1
            batch = dump_value((self._config.worker, self.number, reports))
            self._kept[self.number] = batch, time.monotonic()
            self._send(batch)

    def confirm(self, number: int) -> None:
        """Forgets the batches that came, up to a number."""
        with self._lock:
            while self._kept and (first := next(iter(self._kept))) <= number:
                del self._kept[first]

    def repeat(self) -> None:
        """Sends those again that may not have come."""
        with self._lock:
            now = time.monotonic()
            for number, (batch, sent) in self._kept.items():
                if now - sent > _REPEAT_SECONDS:
                    self._kept[number] = batch, now
                    self._send(batch)

    def _send(self, batch: bytes) -> None:
        # The hub ignores messages of this type; one that it does not know it would log.
        self.kernel.session.send(
            self.kernel.iopub_socket,
            "status",
            content={"execution_state": "busy"},
            parent=dict(self._config.report_header),
            ident=b"scopekit",
            buffers=[batch],
        )


def _surroundings() -> Here | None:
    """Returns what code sees that runs here: a task, or a cell of ``%px``."""
    if (of_task := task_surroundings()) is not None:
        return of_task
    agent = next((home.agent for home in reversed(_homes.values())), None)
    return None if agent is None else Here(agent.topology, agent.worker)


def open_agent(config_pickle: bytes) -> bytes:
    """Installs the agent of a session; a second call for the same session replaces it.

    Returns:
        The pickled card of the agent.
    """
    config: msg.AgentConfig = load_value(config_pickle)
    close_agent(config.session)
    _share_modules(config)
    home = _homes[config.session] = _Home(config)
    ambient.set_provider(_surroundings)
    card = identity_card()
    return dump_value(
        msg.AgentCard(
            worker=config.worker,
            pid=os.getpid(),
            node_id=card["node"],
            node_name=card["node_name"],
            incarnation=f"{card['node']}:{os.getpid()}:{card['started']}",
            address=home.server.address,
            borrows=home.borrows,
            processors=home.agent.processors,
            troubles=home.troubles,
        )
    )


def _share_modules(config: msg.AgentConfig) -> None:
    if config.directory is not None and os.path.isdir(config.directory):  # noqa: PTH112
        os.chdir(config.directory)
    sys.path += [entry for entry in config.path if entry not in sys.path]


def dial(session: str, client: bytes) -> bool:
    """Connects a session's agent to its client directly.

    Returns:
        False if the client cannot be reached from here.
    """
    return _homes[session].dial(load_value(client))


def receive(session: str, orders: bytes, number: int, confirmed: int) -> tuple[int, int]:
    """Takes a batch of orders for a session's agent.

    Args:
        session: the id of the session.
        orders: the batch.
        number: its number, one more than that of the batch before.
        confirmed: up to which number the client has batches of reports.

    Returns:
        Up to which number batches came, and reports were published.
    """
    home = _homes[session]
    home.receive_in_order(number, lambda: load_value(orders))
    return home.how_far(confirmed, again=False)


def how_far(session: str, confirmed: int, again: bool) -> tuple[int, int]:
    """Tells the same, and may send again what the client does not have."""
    return _homes[session].how_far(confirmed, again=again)


def give_chunks(session: str, chunks: tuple[int, ...]) -> list[Given] | Exception:
    """Gives chunks to the client, as far as their scopes cover it.

    Returns:
        The chunks; or why not, as a value: of an error that is raised only its text arrives.
    """
    try:
        return _homes[session].agent.exchange.give(chunks, "client")
    except Exception as error:  # noqa: BLE001  # a user's __reduce__ may raise anything
        return sayable(error)


def statistics(session: str) -> dict[str, int]:
    """Counts what the session's agent holds."""
    return _homes[session].agent.statistics()


def close_agent(session: str) -> None:
    """Ends a session's agent, if there is one, and all that it holds."""
    home = _homes.pop(session, None)
    if home is not None:
        home.close()
