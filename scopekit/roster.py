"""The roster: which engines belong to a session, from their joining to their leaving."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scopekit.errors import ScopekitError
from scopekit.pinning.registry import registry
from scopekit.places import Process
from scopekit.removal import drain
from scopekit.scheduler import events as ev
from scopekit.scopes import CLIENT
from scopekit.scopes.processors import probed_kinds
from scopekit.wire import messages as msg
from scopekit.wire.codec import dump_value
from scopekit.wire.direct import DirectWire
from scopekit.wire.identity import local_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scopekit.driver import Driver, Wire
    from scopekit.graph import WorkerId
    from scopekit.labels import Labels
    from scopekit.pinning.rule import Rule
    from scopekit.scopes import Kind
    from scopekit.wire.cluster import ClusterLink
    from scopekit.wire.direct import DirectHub
    from scopekit.wire.lending import Loan
    from scopekit.wire.peers import KeyPair

__all__ = ("NodeNames", "Roster", "check_card", "dump_probe")

# An engine that is not ours lives on when this process dies: after so many seconds
# without a word it frees what it held for us.
_LEASE = 600.0
_BEATS = 10


class NodeNames:
    """Names machines; those that share a host name and are not the same get a number."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def name(self, wanted: str, node_id: str) -> str:
        """Returns the name of a machine, the same one each time."""
        names = (wanted if n == 1 else f"{wanted}#{n}" for n in itertools.count(1))
        return next(name for name in names if self._ids.setdefault(name, node_id) == node_id)


class Roster:
    """Makes engines part of a session, and takes note of those that leave.

    Attributes:
        addresses: where engines serve their chunks.
        borrowers: which engines can read what the client lends.

    Args:
        link: the engines.
        driver: what learns of them.
        session: the id of the session.
        threads: how many threads of each engine run tasks.
        keys: the key pair of the client, whose public half the engines are told.
        memory: a card that shows whether an engine can read what the client lends.
        names: names the nodes.
        labels: knows the labels of each worker.
        wire: "direct" or "views" to use that wire alone; None to use direct sockets where
            an engine can dial this process.
    """

    def __init__(
        self,
        link: ClusterLink,
        driver: Driver,
        session: str,
        *,
        threads: int,
        keys: KeyPair,
        memory: Loan | None,
        names: NodeNames,
        labels: Labels,
        wire: str | None,
    ) -> None:
        from scopekit.wire.direct import DirectHub  # noqa: PLC0415  # loads zmq
        from scopekit.wire.views import ViewWire  # noqa: PLC0415  # loads ipyparallel

        self.addresses: dict[WorkerId, msg.PeerAddress] = {}
        self.borrowers: dict[WorkerId, bool] = {}
        self._link = link
        self._driver = driver
        self._session = session
        self._threads = threads
        self._keys = keys
        self._memory = memory
        self._names = names
        self._labels = labels
        self._asked: dict[Kind, dict[WorkerId, None]] = {}
        driver.on_kind = self._on_kind
        self._changes: deque[tuple[int, ...]] = deque()
        self._views = ViewWire(link, session, driver.take_reports, driver.wake)
        self._must_be_direct = wire == "direct"
        self._broken: deque[WorkerId] = deque()
        # Those that were asked to leave; of these, engines that are not ours stay registered.
        self._dismissed: set[WorkerId] = set()
        self._killed: set[WorkerId] = set()
        self._hub: DirectHub | None = None
        if wire != "views":
            here = local_address(link.controller_host)
            self._hub = driver.receiver = DirectHub(keys, here, driver.read_now, self._on_broken)
        self._beat = time.monotonic()
        self._stop_watching: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Makes the engines there are now part of the session.

        Raises:
            ScopekitError: one of them cannot be used; says which and why.
        """
        registry.listeners.append(self._tell_rule)
        try:
            self._join(self._link.engine_ids())
        except BaseException:
            registry.listeners.remove(self._tell_rule)
            self._views.close()
            self._close_hub()
            raise
        self.tell_topology()

    def watch(self) -> None:
        """Follows the engines from now on."""
        self._driver.each_turn = self._follow
        self._driver.kill = self._kill
        self._stop_watching = self._link.watch(self._on_change)

    def _on_change(self, workers: tuple[int, ...]) -> None:
        self._changes.append(workers)
        self._driver.wake()

    def _follow(self) -> None:
        if time.monotonic() - self._beat > _LEASE / _BEATS:
            self._beat = time.monotonic()
            for worker, wire in list(self._driver.wires.items()):
                wire.send(worker, msg.Beat())
        self._views.look(self._is_busy_over_views)
        while self._broken:
            self._leave(self._broken.popleft())
            self.tell_topology()
        while self._changes:
            self._compare(self._changes.popleft())

    def _is_busy_over_views(self, worker: WorkerId) -> bool:
        with self._driver.lock:
            over_views = self._driver.wires.get(worker) is self._views
            return over_views and self._driver.scheduler.busy().get(worker, 0) > 0

    def add(self, n: int, *, node: str | None, timeout: float) -> list[WorkerId]:
        """Starts further engines; see :meth:`scopekit.Session.add_workers`."""
        ids = self._link.add_engines(n, node=node, timeout=timeout)
        joined = self._driver.wait_until(
            lambda: all(self._driver.scheduler.topology.process(worker) for worker in ids), timeout
        )
        if not joined:
            raise ScopekitError(f"workers {ids} did not become ready within {timeout:g} s")
        return list(ids)

    def remove(self, workers: Sequence[WorkerId], *, force: bool, timeout: float) -> None:
        """Has engines leave, drained; see :meth:`scopekit.Session.remove_workers`."""
        began = time.monotonic()
        drain(self._driver, workers, force=force, timeout=timeout)
        self._dismiss(workers)
        left = timeout - (time.monotonic() - began)
        gone = self._driver.wait_until(
            lambda: not any(self._driver.scheduler.topology.process(worker) for worker in workers),
            max(1.0, left),
        )
        if not gone:
            raise ScopekitError(f"workers {workers} did not end within {timeout:g} s")

    def _dismiss(self, workers: Sequence[WorkerId]) -> None:
        """Lets go of engines: ends those started here, leaves others running."""
        self._dismissed.update(workers)
        if self._link.owned:
            self._link.remove_engines([worker for worker in workers if isinstance(worker, int)])
            return
        self._views.close_agents(workers)
        self._changes.append(self._link.engine_ids())
        self._driver.wake()

    def _kill(self, worker: WorkerId) -> None:
        """Ends an engine in which something goes on that was to stop."""
        self._killed.add(worker)
        if isinstance(worker, int):
            with contextlib.suppress(ScopekitError):  # it is gone already
                self._link.kill_engine(worker)

    def _compare(self, workers: tuple[int, ...]) -> None:
        topology = self._driver.scheduler.topology
        here = [worker for worker in workers if worker not in self._dismissed]
        left = [worker for worker in topology.workers if worker not in here]
        joined = [worker for worker in here if not topology.knows(worker)]
        for worker in left:
            self._leave(worker)
        if joined:
            self._join_who_can(joined)
        if left or joined:
            self.tell_topology()

    def _join_who_can(self, workers: list[int]) -> None:
        """Makes engines part of the session, those that can be: nobody waits for the rest."""
        try:
            self._join(workers)
        except ScopekitError as error:
            for worker in workers if len(workers) > 1 else ():
                self._join_who_can([worker])
            if len(workers) == 1 and workers[0] in self._link.engine_ids():
                sys.stderr.write(f"scopekit: {error}\n")

    def _leave(self, worker: WorkerId) -> None:
        self._views.forget(worker)
        if self._hub is not None:
            self._hub.forget(worker)
        self._driver.wires.pop(worker, None)
        self.addresses.pop(worker, None)
        self.borrowers.pop(worker, None)
        planned = worker in self._dismissed or worker in self._killed
        self._driver.handle(ev.WorkerLeft(worker, time.time(), planned))

    def _join(self, workers: Iterable[int]) -> None:
        wanted = list(workers)
        cards = self._link.probe(wanted)
        for worker in wanted:
            check_card(worker, cards.get(worker))
        agents = self._views.open_agents(self._config(worker) for worker in wanted)
        direct = self._dial(agents)
        for card in agents:
            self._driver.wires[card.worker] = direct.get(card.worker, self._views)
            if card.address is not None:
                self.addresses[card.worker] = card.address
            self.borrowers[card.worker] = card.borrows
            # Before its first task.
            self._tell_rules([card.worker], registry.own())
            self._driver.handle(ev.WorkerJoined(self._process(card), time.time()))

    def _dial(self, agents: Sequence[msg.AgentCard]) -> dict[WorkerId, Wire]:
        """Has engines connect to this process, those that can.

        Raises:
            ScopekitError: one cannot, and over views it is not to go.
        """
        if self._hub is None:
            return {}
        for card in agents:
            if card.address is not None:
                self._hub.admit(card.worker, card.address.public_key)
        reached = self._views.dial([card.worker for card in agents], self._hub.address)
        direct: dict[WorkerId, Wire] = {}
        for worker, came_through in reached.items():
            if came_through:
                direct[worker] = DirectWire(self._hub, self._views.ask)
            else:
                self._hub.forget(worker)
        missing = [worker for worker in reached if worker not in direct]
        if missing and self._must_be_direct:
            raise ScopekitError(
                f"workers {missing} cannot reach this process at {self._hub.address.endpoint}."
                ' Leave wire="direct" out, and what they are told goes through ipyparallel.'
            )
        return direct

    def _on_broken(self, worker: WorkerId, error: Exception) -> None:
        sys.stderr.write(f"scopekit: worker {worker} spoke nonsense and is left out: {error}\n")
        self._broken.append(worker)
        self._driver.wake()

    def _config(self, worker: int) -> msg.AgentConfig:
        # Engines started here run in the same place as this process: what can be
        # imported or opened here by a short name can be there.
        shared = self._link.owned
        return msg.AgentConfig(
            session=self._session,
            worker=worker,
            threads=self._threads,
            report_header=self._views.report_header,
            client_key=self._keys[0],
            client_memory=self._memory,
            controller=self._link.controller_host,
            lease=None if shared else _LEASE,
            directory=_working_directory() if shared else None,
            path=tuple(entry for entry in sys.path if entry) if shared else (),
            kinds=tuple((kind, dump_probe(kind, probe)) for kind, probe in probed_kinds()),
        )

    def _process(self, card: msg.AgentCard) -> Process:
        node = self._names.name(card.node_name, card.node_id)
        labels = self._labels.of(card.worker, node)
        for trouble in card.troubles:
            self._tell_trouble(card.worker, trouble)
        return Process(
            card.worker, node, card.processors, labels, pid=card.pid, incarnation=card.incarnation
        )

    def probe(self, kind: Kind, probe: bytes, seconds: float) -> None:
        """Has every engine count its processors of a kind, and waits for that.

        Args:
            kind: the kind.
            probe: the pickle of what counts them.
            seconds: how long to wait at most; what is counted later counts, too.
        """
        with self._driver.lock:
            asked = [worker for worker in self._driver.wires if worker != CLIENT]
            self._asked[kind] = dict.fromkeys(asked)
            for worker in asked:
                self._driver.wires[worker].send(worker, msg.AddKind(kind, probe))
        self._driver.wake()
        self._driver.wait_until(lambda: not self._unanswered(kind), seconds)
        for worker in self._unanswered(kind):
            self._tell_trouble(worker, f"the probe of {kind.name!r} took more than {seconds:g} s")

    def _unanswered(self, kind: Kind) -> list[WorkerId]:
        alive = self._driver.scheduler.topology.process
        return [worker for worker in self._asked[kind] if alive(worker) is not None]

    def _on_kind(self, worker: WorkerId, found: msg.KindFound) -> None:
        def with_them(process: Process) -> Process:
            return replace(
                process,
                processors=tuple(dict.fromkeys((*process.processors, *found.processors))),
            )

        if found.trouble is not None:
            self._tell_trouble(worker, found.trouble)
        self._driver.change_processes([worker], with_them, self.addresses)
        with self._driver.changed:
            self._asked.get(found.kind, {}).pop(worker, None)
            self._driver.changed.notify_all()

    def _tell_trouble(self, worker: WorkerId, trouble: str) -> None:
        sys.stderr.write(f"scopekit: on worker {worker} {trouble}\n")

    def tell_topology(self) -> None:
        """Tells every agent which processes there are now."""
        with self._driver.lock:
            change = msg.TopologyChanged(self._driver.scheduler.topology, dict(self.addresses))
            for worker, wire in self._driver.wires.items():
                wire.send(worker, change)
        self._driver.wake()

    def _tell_rule(self, rule: Rule) -> None:
        """Tells every agent a rule for a type that a user gave."""
        with self._driver.lock:
            self._tell_rules([w for w in self._driver.wires if w != CLIENT], [rule])
        self._driver.wake()

    def _tell_rules(self, workers: Iterable[WorkerId], rules: Sequence[Rule]) -> None:
        if not rules:
            return
        change = msg.PinsChanged(tuple((rule.keys, _dumped(rule)) for rule in rules))
        for worker in workers:
            self._driver.wires[worker].send(worker, change)

    @property
    def refused(self) -> int:
        """How many connections and messages this process refused, as far as it serves."""
        return 0 if self._hub is None else self._hub.refused

    def stop_watching(self) -> None:
        """Follows the engines no longer."""
        self._stop_watching()

    def close(self, *, gently: bool = False) -> None:
        """Lets go of the engines: ends those started here, leaves others as found.

        Args:
            gently: True if engines that end hold something that is to be closed first.
        """
        registry.listeners.remove(self._tell_rule)
        if gently or not self._link.owned:
            self._views.close()
        self._close_hub()
        self._link.close()

    def _close_hub(self) -> None:
        if self._hub is not None:
            self._hub.close()


def dump_probe(kind: Kind, probe: Callable[[], int]) -> bytes:
    """Pickles what counts the processors of a kind.

    Raises:
        ScopekitError: it does not pickle.
    """
    try:
        return dump_value(probe)
    except Exception as error:
        raise ScopekitError(
            f"the probe of {kind.name!r} is to run in every engine and does not pickle:"
            f" {error}. Give a function that needs no more than its engine has."
        ) from error


def check_card(worker: int, card: Mapping[str, Any] | None) -> None:
    """Refuses an engine on which tasks would fail darkly.

    Raises:
        ScopekitError: it did not answer, lacks a package, or runs another Python.
    """
    if card is None:
        raise ScopekitError(
            f"worker {worker} did not say what it is within 10 s. Is it busy with a long call?"
        )
    here = "{}.{}".format(*sys.version_info[:2])
    if card["python"] != here:
        raise ScopekitError(
            f"worker {worker} runs Python {card['python']} and this process {here}: functions"
            " cannot travel between them. Start the engines with the same Python."
        )
    for package in ("cloudpickle", "scopekit"):
        if card[package] is None:
            raise ScopekitError(
                f"worker {worker} (node {card['node_name']}) has no {package}. Install it there:"
                f" python -m pip install {package}"
            )


def _dumped(rule: Rule) -> bytes:
    try:
        return dump_value(rule)
    except Exception as error:
        raise ScopekitError(
            f"the rule for {rule.keys[0]} cannot be sent to the engines: {error}"
        ) from error


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # a text is sent
    except OSError:
        return None
