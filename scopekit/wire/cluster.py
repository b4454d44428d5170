"""The link to the engines: how they are started, reached, watched, stopped.

`launch` starts a cluster, `attach` reaches somebody else's; both return a
`ClusterLink`. What was launched ends with its link, and with this process however
that ends; what was attached to is left as found.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from scopekit.errors import ScopeError, ScopekitError
from scopekit.wire import clients, identity
from scopekit.wire.launched import LaunchedCluster, check_count, engine_places, is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ("ClusterLink", "attach", "launch")

_WATCH_PERIOD = 0.25


def launch(
    n: int | None = None,
    *,
    nodes: Mapping[str, int] | None = None,
    engines: str | None = None,
    timeout: float = 60,
    **cluster_options: Any,
) -> ClusterLink:
    """Start a controller with `n` engines; return the link to them.

    Args:
        n: how many engines. With `nodes`, their sum, or None.
        nodes: pretend nodes on this machine, name to number of engines. The ids
            follow their order: {"a": 2, "b": 2} puts 0, 1 on a and 2, 3 on b.
        engines: which of ipyparallel's launchers starts the engines: "slurm", "ssh", …
        timeout: seconds until all engines must have come up.
        **cluster_options: what ipyparallel.Cluster takes besides.

    Raises:
        ScopeError: an argument makes no sense.
        ScopekitError: the engines did not come up.
    """
    _check_options(cluster_options)
    places = engine_places(n, nodes)
    local = is_local(engines, cluster_options)
    if nodes is not None and not local:
        raise ScopeError(
            f"nodes={dict(nodes)!r} pretends nodes on this machine, but engines={engines!r} starts "
            "the engines elsewhere. Give one of the two: real nodes are told apart by themselves."
        )
    if cluster_options.get("shutdown_atexit") is False:
        raise ScopeError(
            "shutdown_atexit=False asks that the cluster outlive this process, but one that "
            "scopekit starts ends with it. Start it with ipyparallel.Cluster and connect to it."
        )
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ScopeError(f"timeout is {timeout!r}; it must be a number of seconds above 0")
    deadline = time.monotonic() + timeout
    launched = LaunchedCluster(places, local=local, engines=engines, options=cluster_options)
    client = link = None
    try:
        started = launched.start()
        client = launched.connect(deadline)
        link = ClusterLink(client, launched.cluster_id, launched=launched, closes_client=True)
        launched.await_engines(
            client, started, count=len(places), deadline=deadline, timeout=timeout
        )
        clients.activate_magics(client)
    except BaseException as error:
        tail = launched.log_tail()
        # an interrupt may come at any step: what there is by then is ended
        if link is not None:
            link.close()
        else:
            launched.stop(timeout=5)
            if client is not None:
                client.close(linger=0)
        if isinstance(error, ScopekitError) or not isinstance(error, Exception):
            raise
        raise ScopekitError(
            f"the cluster of {len(places)} engines could not be started: {error!r}.{tail}"
        ) from error
    return link


def attach(target: Any = None, **options: Any) -> ClusterLink:
    """Reach engines that somebody else started; they are left as found.

    Args:
        target: an ipyparallel Client (used, never closed) or started Cluster, the
            path of a connection file or cluster file, a cluster id, a profile's
            name; None is the default profile. A text is tried as these, in this order.
        **options: what ipyparallel.Client takes besides.

    Raises:
        ScopekitError: nothing answers there; the text says what was tried.
    """
    import ipyparallel  # noqa: PLC0415 -- loads when first needed

    if isinstance(target, ipyparallel.Client):
        if options:
            raise ScopeError(
                f"options {sorted(options)} are those of a new client, but a Client was given"
            )
        return ClusterLink(target, clients.cluster_name(target), launched=None, closes_client=False)
    if isinstance(target, ipyparallel.Cluster):
        return _attach_cluster(target, options)
    if target is not None and not isinstance(target, (str, os.PathLike)):
        raise ScopeError(
            f"cannot connect to a {type(target).__name__}: give an ipyparallel Client or Cluster, "
            "a connection file's path, a cluster id, or a profile's name"
        )
    found, tried = clients.find_connection_file(target, options)
    if found is None:
        name = "the default profile" if target is None else repr(str(target))
        raise ScopekitError(
            f"no cluster found for {name}; tried {'; '.join(tried)}. "
            "Is its controller running (ipcluster start)?"
        )
    client = clients.new_client(found, f"the controller of {found}", options)
    clients.activate_magics(client)
    return ClusterLink(
        client, clients.cluster_name(client, found), launched=None, closes_client=True
    )


class ClusterLink:
    """The engines of one cluster, as the session sees them.

    Attributes:
        client: the ipyparallel Client.
        owned: whether closing the link stops the cluster.
        session_id: the cluster's id, as text. Shared memory whose name starts with
            the id of an owned cluster is removed with it.
    """

    def __init__(
        self,
        client: Any,
        session_id: str,
        *,
        launched: LaunchedCluster | None,
        closes_client: bool,
    ) -> None:
        self.client = client
        self.session_id = session_id
        self._launched = launched
        self._closes_client = closes_client
        self._watcher: _Watcher | None = None
        self._views: dict[int, Any] = {}
        self._lock = threading.RLock()
        self._closing = threading.Lock()
        self._closed = threading.Event()
        self._pid = os.getpid()
        _open_links.add(self)

    @property
    def owned(self) -> bool:
        """Whether this process started the cluster, and stops it."""
        return self._launched is not None

    @property
    def closed(self) -> bool:
        """Whether the link was closed; in a fork of its owner it always is."""
        return self._closed.is_set() or self._pid != os.getpid()

    @property
    def controller_host(self) -> str:
        """The host of the controller, as the client reaches it."""
        return clients.controller_host(self.client)

    @property
    def connection_file(self) -> Path | None:
        """The file another client may `attach` to, for a cluster started here."""
        return None if self._launched is None else self._launched.connection_file

    def engine_ids(self) -> tuple[int, ...]:
        """Return the ids of the engines registered now, in order; none without a controller."""
        if self.closed or clients.is_closed(self.client):
            return ()
        if self._launched is not None and not self._launched.controller_runs():
            return ()
        return tuple(sorted(self.client.ids))

    def view(self, engine_id: int) -> Any:
        """Return our own direct view of one engine, the same one each time.

        Views are not safe to use from two threads at once.
        """
        with self._lock:
            view = self._views.get(engine_id)
            if view is None:
                self._check_engine(engine_id)
                view = self._views[engine_id] = self.client.direct_view(engine_id)
                view.block = False
            return view

    def watch(self, on_change: Callable[[tuple[int, ...]], None]) -> Callable[[], None]:
        """Call `on_change` with the ids of now, then whenever engines join or leave.

        It is called from the link's own thread. Returns a function that ends it.
        """
        with self._lock:
            self._check_open()
            if self._watcher is None:
                self._watcher = _Watcher(self.client, self.engine_ids)
            return self._watcher.add(on_change)

    def add_engines(
        self, k: int, *, node: str | None = None, timeout: float = 60
    ) -> tuple[int, ...]:
        """Start `k` further engines; return their ids once they have joined."""
        self._check_open()
        check_count("add_engines(k)", k)
        if self._launched is None:
            raise ScopekitError(
                f"cannot add {k} engines to cluster {self.session_id!r}: it was started elsewhere. "
                "Start them where it was started; they join this session by themselves."
            )
        deadline = time.monotonic() + timeout
        before = set(self.engine_ids())
        started = self._launched.start_more(k, node)
        self._launched.await_engines(
            self.client, started, count=k, deadline=deadline, timeout=timeout, besides=before
        )
        return tuple(sorted(set(self.engine_ids()) - before))

    def remove_engines(self, engine_ids: Iterable[int]) -> None:
        """Ask engines to end, without waiting for it; those already gone are no error."""
        self._check_open()
        gone = set(engine_ids) - set(self.engine_ids())
        for engine_id in set(engine_ids) - gone:
            with self._lock:
                self.client.shutdown(targets=[engine_id], hub=False, block=False)

    def interrupt(self, engine_id: int) -> None:
        """Send SIGINT to one engine, without waiting for it."""
        self._send_signal(signal.SIGINT, engine_id)

    def kill_engine(self, engine_id: int) -> None:
        """Send SIGKILL to one engine, without waiting for it."""
        self._send_signal(getattr(signal, "SIGKILL", signal.SIGTERM), engine_id)

    def knock(self, engine_id: int, words: Sequence[str]) -> None:
        """Say words to an engine, which hears them while its main thread is busy; none answers.

        They go as the ids of jobs to abort, which engines read on a thread of their own.
        """
        self._check_open()
        self._check_engine(engine_id)
        with self._lock:
            self.client.abort(list(words), targets=engine_id, block=False)

    def probe(
        self, engine_ids: Iterable[int] | None = None, timeout: float = 10
    ) -> dict[int, dict[str, Any]]:
        """Return the identity card of each engine that answers within `timeout` seconds.

        Only text goes out and comes back, so that an engine of another Python
        version, or one without scopekit, answers too.
        """
        wanted = self.engine_ids() if engine_ids is None else tuple(engine_ids)
        deadline = time.monotonic() + timeout
        pending = {}
        for engine_id in wanted:
            with contextlib.suppress(IndexError, ScopekitError):  # it left in this very moment
                pending[engine_id] = self._ask_card(engine_id)
        cards = {}
        for engine_id, reply in pending.items():
            with contextlib.suppress(Exception):  # who does not answer has no card
                cards[engine_id] = json.loads(reply.get(max(0.0, deadline - time.monotonic())))
        return cards

    def log_tail(self) -> str:
        """Return the last lines that the controller and engines started here have logged."""
        return "" if self._launched is None else self._launched.log_tail()

    def close(self, timeout: float = 10) -> None:
        """Let go of the cluster, and stop it if it was started here; further calls do nothing."""
        if self._pid != os.getpid():
            return
        if not self._closing.acquire(blocking=False):
            self._closed.wait(timeout)
            return
        try:
            self._close(timeout)
        finally:
            _open_links.discard(self)
            self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"engines {list(self.engine_ids())}"
        return f"<ClusterLink {self.session_id} {'owned' if self.owned else 'attached'}: {state}>"

    def _close(self, timeout: float) -> None:
        try:
            if self._watcher is not None:
                self._watcher.stop()
            self._views.clear()
            if self._closes_client:
                # words to engines that live on are still sent; those to ours need not be
                linger = 0 if self.owned else 1000
                _bounded(lambda: self.client.close(linger=linger), timeout)
                clients.fail_pending(self.client, self.session_id)
        finally:
            if self._launched is not None:
                self._launched.stop(timeout)

    def _abandon(self) -> None:
        """Let go of the guard, in a fork of the owner: the cluster is its parent's.

        Takes no lock: another thread of the parent may have held it at the fork.
        """
        if self._launched is not None:
            self._launched.abandon()

    def _send_signal(self, number: int, engine_id: int) -> None:
        self._check_open()
        self._check_engine(engine_id)
        with self._lock:
            # a blocking control request never returns if the engine dies before it answers
            self.client.send_signal(int(number), targets=engine_id, block=False)

    def _ask_card(self, engine_id: int) -> Any:
        import ipyparallel  # noqa: PLC0415 -- loads when first needed

        # apply of a name: no code object travels, nothing is left in the user's namespace
        evaluate = ipyparallel.Reference("__import__('builtins').eval")
        return self.view(engine_id).apply_async(evaluate, _card_expression(), {})

    def _check_open(self) -> None:
        if self.closed:
            raise ScopekitError(f"the link to cluster {self.session_id!r} is closed")

    def _check_engine(self, engine_id: int) -> None:
        ids = self.engine_ids()
        if engine_id not in ids:
            raise ScopekitError(
                f"cluster {self.session_id!r} has no engine {engine_id!r} now; it has {list(ids)}"
            )


# Those to be closed when the interpreter exits; held strongly on purpose.
_open_links: set[ClusterLink] = set()


def _close_all() -> None:
    for link in tuple(_open_links):
        with contextlib.suppress(Exception):  # the guard finishes what fails here
            link.close()


def _abandon_all() -> None:
    for link in tuple(_open_links):
        link._abandon()
    _open_links.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


class _Watcher:
    """One thread that tells of engines joining and leaving."""

    def __init__(self, client: Any, engine_ids: Callable[[], tuple[int, ...]]) -> None:
        self._engine_ids = engine_ids
        self._callbacks: list[Callable[[tuple[int, ...]], None]] = []
        self._fresh: list[Callable[[tuple[int, ...]], None]] = []
        self._stirred = threading.Event()
        self._stopping = False
        self._unhook = clients.hook(client, self._stir)
        self._thread = threading.Thread(target=self._run, name="scopekit-watch", daemon=True)
        self._thread.start()

    def add(self, on_change: Callable[[tuple[int, ...]], None]) -> Callable[[], None]:
        self._fresh.append(on_change)
        self._stirred.set()

        def remove() -> None:
            for where in (self._callbacks, self._fresh):
                with contextlib.suppress(ValueError):
                    where.remove(on_change)

        return remove

    def stop(self) -> None:
        self._stopping = True
        self._stirred.set()
        self._unhook()
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def _run(self) -> None:
        known = self._engine_ids()
        while not self._stopping:
            # cleared before the ids are read: a change in between sets it again
            self._stirred.clear()
            ids = self._engine_ids()
            if ids != known:
                known = ids
                self._tell(self._callbacks, ids)
            fresh, self._fresh = self._fresh, []
            self._callbacks.extend(fresh)
            self._tell(fresh, ids)
            self._stirred.wait(_WATCH_PERIOD)

    def _tell(
        self, callbacks: Sequence[Callable[[tuple[int, ...]], None]], ids: tuple[int, ...]
    ) -> None:
        for callback in tuple(callbacks):
            if self._stopping:
                return
            try:
                callback(ids)
            except Exception:  # noqa: BLE001 -- one listener's error must not blind the others
                sys.excepthook(*sys.exc_info())

    def _stir(self, _event: object) -> None:
        self._stirred.set()


def _attach_cluster(cluster: Any, options: dict[str, Any]) -> ClusterLink:
    if cluster.controller is None:
        raise ScopekitError(
            f"{cluster!r} has no controller running; start it first: cluster.start_cluster_sync()"
        )
    try:
        client = cluster.connect_client_sync(**options)
    except Exception as error:
        raise ScopekitError(f"{cluster!r} does not answer: {error}") from error
    return ClusterLink(client, cluster.cluster_id, launched=None, closes_client=True)


def _bounded(call: Callable[[], object], limit: float) -> None:
    """Wait for `call` no longer than `limit` seconds."""
    thread = threading.Thread(target=call, name="scopekit-close", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is exiting: no thread starts any more
        call()
    else:
        thread.join(limit)


def _card_expression() -> str:
    """Return an expression that gives an engine's card, whatever is installed there."""
    source = Path(str(identity.__file__)).read_text(encoding="utf-8")
    return (
        f"(lambda ns: (exec({source!r}, ns), ns['card_text']())[1])"
        "({'__name__': 'scopekit_identity'})"
    )


_OWN_OPTIONS = ("n", "threads", "nodes", "engines", "timeout")


def _check_options(given: Mapping[str, Any]) -> None:
    """Refuse what ipyparallel.Cluster would take without a word and never look at."""
    import difflib  # noqa: PLC0415 -- for this message alone

    import ipyparallel  # noqa: PLC0415 -- loaded with the first session

    known = [*_OWN_OPTIONS, *ipyparallel.Cluster.class_trait_names()]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}=?" if near else ""
            raise ScopeError(
                f"start() has no option {name!r}.{hint} It takes {', '.join(_OWN_OPTIONS)},"
                " and what ipyparallel.Cluster takes."
            )
