"""The life of the engines: how they are started, reached, watched, stopped.

`launch` starts ipyparallel's controller with engines beside it, `attach` reaches
those of somebody else; both return a `ClusterLink`. A launched cluster lives in a
private folder, with a guard process (reaper.py) that ends it however this
process ends. What ipyparallel keeps private and this package needs is in this file.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from scopekit.errors import ScopeError, ScopekitError
from scopekit.wire import enginestart, identity, reaper

__all__ = ("ClusterLink", "attach", "launch")

T = TypeVar("T")

_TICK = 0.01
_WATCH_PERIOD = 0.25
_POLITE = 1.0
_RESYNC_AFTER = 1.0
_TAIL_LINES = 15
_FAST_CONTROLLER = (
    "--HeartMonitor.period=200",
    "--HeartMonitor.max_heartmonitor_misses=20",
    "--IPController.db_class=nodb",
    "--IPController.use_threads=True",
    "--IPController.log_level=40",
)
_FAST_ENGINE = ("--IPEngine.log_level=30",)
_LOCAL = (None, "local", "Local")


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
    places = _engine_places(n, nodes)
    local = engines in _LOCAL and not _LAUNCHER_OPTIONS & cluster_options.keys()
    if nodes is not None and not local:
        raise ScopeError(
            f"nodes={dict(nodes)!r} pretends nodes on this machine, but engines={engines!r} starts "
            "the engines elsewhere. Give one of the two: real nodes are told apart by themselves."
        )
    if cluster_options.get("shutdown_atexit") is False:
        raise ScopeError(
            "shutdown_atexit=False asks that the cluster outlive this process, but one that scopekit "
            "starts ends with it. Start it with ipyparallel.Cluster and connect to it."
        )
    deadline = time.monotonic() + timeout
    launched = _Launched(places, local=local, engines=engines, options=cluster_options)
    try:
        launched.start()
        client = launched.connect(deadline)
        link = ClusterLink(client, launched.cluster_id, launched=launched, closes_client=True)
    except BaseException as error:
        tail = launched.log_tail()
        launched.stop(_POLITE)
        if isinstance(error, ScopekitError) or not isinstance(error, Exception):
            raise
        raise ScopekitError(
            f"the cluster of {len(places)} engines could not be started: {error!r}.{tail}"
        ) from error
    try:
        launched.await_engines(link, len(places), deadline, timeout)
    except BaseException:
        link.close()
        raise
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
    import ipyparallel

    if isinstance(target, ipyparallel.Client):
        if options:
            raise ScopeError(
                f"options {sorted(options)} are those of a new client, but a Client was given"
            )
        return ClusterLink(target, _session_id(target), launched=None, closes_client=False)
    if isinstance(target, ipyparallel.Cluster):
        return _attach_cluster(target, options)
    if target is not None and not isinstance(target, (str, os.PathLike)):
        raise ScopeError(
            f"cannot connect to {type(target).__name__}: give an ipyparallel Client or Cluster, a "
            "connection file's path, a cluster id, or a profile's name"
        )
    found, tried = _find_connection_file(target, options)
    if found is None:
        raise ScopekitError(
            f"no cluster found for {'the default profile' if target is None else repr(str(target))}; "
            f"tried {'; '.join(tried)}. Is its controller running (ipcluster start)?"
        )
    client = _new_client(found, f"the controller of {found}", options)
    return ClusterLink(client, _session_id(client, found), launched=None, closes_client=True)


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
        launched: _Launched | None,
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
        """Whether the link was closed."""
        return self._closed.is_set()

    @property
    def connection_file(self) -> Path | None:
        """The file another client may `attach` to, for a cluster started here."""
        return None if self._launched is None else self._launched.connection_file

    def engine_ids(self) -> tuple[int, ...]:
        """Return the ids of the engines registered now, in order."""
        if self.closed or (self._launched is not None and not self._launched.controller_runs()):
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
        """Call `on_change` with the ids whenever engines join or leave; return the way to stop that.

        It is called from the link's own thread, first with the ids of now.
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
        _check_count("add_engines(k)", k)
        if self._launched is None:
            raise ScopekitError(
                f"cannot add {k} engines to cluster {self.session_id!r}: it was started elsewhere. "
                "Start them where it was started; they join this session by themselves."
            )
        deadline = time.monotonic() + timeout
        before = set(self.engine_ids())
        self._launched.start_more(k, node)
        self._launched.await_engines(self, k, deadline, timeout, besides=before)
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

    def probe(
        self, engine_ids: Iterable[int] | None = None, timeout: float = 10
    ) -> dict[int, dict[str, Any]]:
        """Return the identity card of each engine that answers within `timeout` seconds.

        Only text goes out and comes back, so that an engine of another Python
        version, or one without scopekit, answers too.
        """
        wanted = self.engine_ids() if engine_ids is None else tuple(engine_ids)
        deadline = time.monotonic() + timeout
        pending = {engine_id: self._ask_card(engine_id) for engine_id in wanted}
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

    def __enter__(self) -> ClusterLink:
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
                self.client.close(linger=0)
        finally:
            if self._launched is not None:
                self._launched.stop(timeout)

    def _abandon(self) -> None:
        """Forget all, in a fork of the owner: the cluster is its parent's."""
        self._closed.set()
        if self._launched is not None:
            self._launched.abandon()

    def _send_signal(self, number: int, engine_id: int) -> None:
        self._check_open()
        self._check_engine(engine_id)
        with self._lock:
            # a blocking control request never returns if the engine dies before it answers
            self.client.send_signal(int(number), targets=engine_id, block=False)

    def _ask_card(self, engine_id: int) -> Any:
        import ipyparallel

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
        self._client = client
        self._engine_ids = engine_ids
        self._callbacks: list[Callable[[tuple[int, ...]], None]] = []
        self._fresh: list[Callable[[tuple[int, ...]], None]] = []
        self._stirred = threading.Event()
        self._stopping = False
        self._hook(self._stir)
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
        self._unhook(self._stir)
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

    def _hook(self, callback: Callable[[object], None]) -> None:
        # Private name of ipyparallel 9. Its list is changed while iterated, so that a call
        # can be missed: the polling catches that, and a version without the name.
        callbacks = getattr(self._client, "_registration_callbacks", None)
        if isinstance(callbacks, list):
            callbacks.append(callback)

    def _unhook(self, callback: Callable[[object], None]) -> None:
        with contextlib.suppress(AttributeError, ValueError):
            self._client._registration_callbacks.remove(callback)


@dataclass(frozen=True)
class _Place:
    """Where one engine is to be: its id, and its pretend node if it has one."""

    engine_id: int | None
    node: str | None


class _Guard:
    """The reaper process that ends the cluster when this process is gone."""

    def __init__(self, marks: Sequence[str], remove: Sequence[str]) -> None:
        orders = {"owner": os.getpid(), "marks": list(marks), "remove": list(remove)}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(reaper.__file__), json.dumps(orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            start_new_session=True,
        )

    def tell(self, pids: Iterable[int]) -> None:
        """Name processes, for systems that do not show a process's environment."""
        self._write("".join(f"{pid}\n" for pid in pids))

    def dismiss(self) -> None:
        """End the guard: all is cleaned up."""
        self._write("done\n")
        self.release()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(2)

    def release(self) -> None:
        """Hang up: without a "done" before, the guard now ends the cluster by itself."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def abandon(self) -> None:
        """Close a fork's copy of the pipe; the guard is not the fork's to wait for."""
        self.release()
        self._process.returncode = 0

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()


@dataclass
class _Launched:
    """A cluster that this process started: the controller, the engines, the guard, the files."""

    places: Sequence[_Place]
    local: bool
    engines: str | None
    options: dict[str, Any]
    cluster_id: str = ""
    folder: Path | None = None
    _cluster: Any = None
    _guard: _Guard | None = None
    _busy: threading.Thread | None = None
    _sets: int = 0
    _exited: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start all the processes, without waiting for any."""
        self.cluster_id = self.options.get("cluster_id") or f"scopekit-{secrets.token_hex(6)}"
        if self.local and not {"profile", "profile_dir"} & self.options.keys():
            self.folder = _private_folder(self.cluster_id)
        cluster = self._make_cluster()
        self._guard = _Guard(self._marks(), self._files())
        self._cluster = cluster
        self._run(self._start_all)

    def start_more(self, k: int, node: str | None) -> None:
        """Start further engines, whose ids the controller chooses."""
        self._run(lambda: self._start_engines([_Place(None, node)] * k))

    def connect(self, deadline: float) -> Any:
        """Return a client of the controller, once that has said where it is."""
        extras = {
            "cluster": self._cluster,
            "profile_dir": self._cluster.profile_dir,
            "cluster_id": self.cluster_id,
        }
        if not self.connection_file_expected:
            return self._run(lambda: self._cluster.connect_client(), limit=deadline)
        while (info := _read_json(self.connection_file)) is None:
            self._check_controller()
            if time.monotonic() > deadline:
                raise ScopekitError(
                    f"the controller of cluster {self.cluster_id} wrote no connection file "
                    f"{self.connection_file} in time.{self.log_tail()}"
                )
            time.sleep(_TICK)
        return self._new_client(info, extras, deadline)

    def await_engines(
        self,
        link: ClusterLink,
        count: int,
        deadline: float,
        timeout: float,
        besides: Iterable[int] = (),
    ) -> None:
        """Return when `count` engines other than `besides` are registered."""
        known = set(besides)
        resync = time.monotonic() + _RESYNC_AFTER
        while (up := len(set(link.engine_ids()) - known)) < count:
            now = time.monotonic()
            self._check_controller()
            exits = self._exits()
            if now > deadline or exits:
                reason = f"; {', '.join(exits)}" if exits else f" within {timeout:g} s"
                raise ScopekitError(
                    f"{up} of {count} engines of cluster {self.cluster_id} came up"
                    f"{reason}.{self.log_tail()}"
                )
            if now > resync:
                self._resync(link.client)
                resync = time.monotonic() + _RESYNC_AFTER
            time.sleep(_TICK)

    def stop(self, timeout: float) -> None:
        """End every process and remove every file of the cluster."""
        deadline = time.monotonic() + timeout
        clean = False
        try:
            if self._busy is not None:
                self._busy.join(5)
            if self._cluster is not None:
                self._stop_processes(deadline)
            reaper.remove_paths(self._files())
            clean = True
        finally:
            if self._guard is not None:
                # interrupted on the way: the guard goes on from here
                (self._guard.dismiss if clean else self._guard.release)()

    def abandon(self) -> None:
        """Forget the cluster, in a fork of its owner."""
        if self._guard is not None:
            self._guard.abandon()

    @property
    def connection_file(self) -> Path:
        return Path(self._cluster.profile_dir, "security", self._connection_name("client"))

    @property
    def connection_file_expected(self) -> bool:
        """Whether the controller runs here, so that its file appears here."""
        return not _CONTROLLER_OPTIONS & self.options.keys()

    def controller_runs(self) -> bool:
        """Return False once a controller that runs on this machine has ended."""
        process = getattr(getattr(self._cluster, "controller", None), "process", None)
        return process is None or bool(process.is_running())

    def log_tail(self) -> str:
        """Return the end of each log file, as text that may follow a sentence."""
        if self._cluster is None:
            return ""
        logs = Path(self._cluster.profile_dir, "log").glob(f"*{self.cluster_id}*.log")
        tails = []
        for path in sorted(logs):
            with contextlib.suppress(OSError):
                lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
                tails += [f"\n--- {path.name}", *lines] if lines else []
        return " The logs end with:" + "\n".join(tails) if tails else ""

    # -- starting

    def _make_cluster(self) -> Any:
        from ipyparallel import Cluster

        options = {
            "delay": 0,
            "shutdown_atexit": False,  # the link stops it, or the guard does
            "log_level": 40,
            **self.options,
            "cluster_id": self.cluster_id,
            "config": _config(self.options.get("config")),
        }
        options["controller_args"] = _merged_arguments(
            _FAST_CONTROLLER, self.options.get("controller_args", ())
        )
        if self.folder is not None:
            # no cluster file either: late notices would write it into a folder that is gone
            options |= {"profile_dir": str(self.folder), "load_profile": False, "cluster_file": ""}
        if self.local:
            options.setdefault("send_engines_connection_env", False)
        if self.engines is not None:
            options["engines"] = self.engines
        return Cluster(**options)

    async def _start_all(self) -> None:
        await self._cluster.start_controller()
        await self._start_engines(self.places)

    async def _start_engines(self, places: Sequence[_Place]) -> None:
        if not self.local:
            await self._cluster.start_engines(len(places))
            return
        # one set per engine: its own environment, pid and requested id
        for place in places:
            name = f"engine-{self._sets}"
            self._sets += 1
            await self._cluster.start_engines(
                1, engine_set_id=name, **self._engine_options(place)
            )
        if self._guard is not None:
            self._guard.tell(self._pids())

    def _engine_options(self, place: _Place) -> dict[str, Any]:
        arguments = list(_FAST_ENGINE)
        if place.engine_id is not None:
            arguments.append(f"--IPEngine.id={place.engine_id}")
        config = self._cluster.config
        options: dict[str, Any] = {
            "engine_args": _merged_arguments(arguments, _configured(config, "engine_args") or ()),
            "environment": dict(_configured(config, "environment") or {}),
        }
        if place.node is not None:
            options["environment"][identity.NODE_VARIABLE] = place.node
        if not _configured(config, "engine_cmd") and not self._cluster.send_engines_connection_env:
            options["engine_cmd"] = [sys.executable, str(enginestart.__file__)]
        return options

    def _new_client(self, info: Any, extras: Mapping[str, Any], deadline: float) -> Any:
        limit = max(1.0, min(10.0, deadline - time.monotonic()))
        return _new_client(
            info, f"the controller of {self.cluster_id}", {**extras, "timeout": limit}
        )

    def _resync(self, client: Any) -> None:
        """Tell the client of engines whose registration it missed.

        An engine that registers between the controller's reply to a new client and that
        client's subscription is never announced to it. A second client knows it.
        """
        if not self.connection_file_expected:
            return
        import ipyparallel

        with contextlib.suppress(Exception):  # the next round tries again
            fresh = ipyparallel.Client(_read_json(self.connection_file), timeout=2)
            try:
                # private names of ipyparallel 9; without them the wait ends at its limit
                missed = {i: u for i, u in fresh._engines.items() if i not in client.ids}
                if missed:
                    client._update_engines(missed)
            finally:
                fresh.close(linger=0)

    def _run(self, make: Callable[[], Coroutine[Any, Any, T]], limit: float | None = None) -> T:
        """Run one of the Cluster's coroutines, also where an event loop already runs."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(make())
        outcome: list[T] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                outcome.append(asyncio.run(make()))
            except BaseException as error:  # noqa: BLE001 -- raised in the caller's thread
                failure.append(error)

        self._busy = threading.Thread(target=body, name="scopekit-cluster", daemon=True)
        self._busy.start()
        self._busy.join(None if limit is None else max(0.0, limit - time.monotonic()))
        if failure:
            raise failure[0]
        if not outcome:
            raise ScopekitError(f"cluster {self.cluster_id} did not answer in time")
        return outcome[0]

    # -- watching

    def _check_controller(self) -> None:
        if not self.controller_runs():
            raise ScopekitError(
                f"the controller of cluster {self.cluster_id} ended while its engines were awaited."
                f"{self.log_tail()}"
            )

    def _exits(self) -> list[str]:
        """Return a text for each local engine that has ended since the last look."""
        texts = []
        for name, engine_set in list(self._cluster.engines.items()):
            for launcher in list(getattr(engine_set, "launchers", {}).values()):
                process = getattr(launcher, "process", None)
                if process is None or process.is_running() or name in self._exited:
                    continue
                self._exited[name] = launcher.pid
                texts.append(f"{name} (pid {launcher.pid}) ended before it had joined")
        return texts

    def _pids(self) -> list[int]:
        launchers = [self._cluster.controller]
        for engine_set in self._cluster.engines.values():
            launchers += getattr(engine_set, "launchers", {}).values()
        pids = (getattr(launcher, "pid", None) for launcher in launchers)
        return [pid for pid in pids if isinstance(pid, int) and pid > 0]

    # -- stopping

    def _stop_processes(self, deadline: float) -> None:
        if not self.local:
            with contextlib.suppress(Exception):  # what it leaves is ended below, by its marks
                self._run(self._cluster.stop_cluster, limit=deadline)
        pids = self._pids() if self._cluster.controller is not None else []
        left = reaper.end_processes(
            lambda: reaper.marked_processes(self._marks(), pids),
            polite=min(_POLITE, max(0.0, deadline - time.monotonic())),
            limit=max(2.0, deadline - time.monotonic()),
        )
        if self.local:
            with contextlib.suppress(Exception):  # its processes are gone: this is book-keeping
                self._run(self._cluster.stop_cluster, limit=deadline + 1)
        if left:
            raise ScopekitError(
                f"processes {sorted(left)} of cluster {self.cluster_id} did not end, even on SIGKILL"
            )

    def _marks(self) -> list[str]:
        # ipyparallel gives both to every process it starts
        profile = self.folder or self._cluster.profile_dir
        return [f"IPP_CLUSTER_ID={self.cluster_id}", f"IPP_PROFILE_DIR={profile}"]

    def _files(self) -> list[str]:
        shared = [f"/dev/shm/{self.cluster_id}*"]
        if self.folder is not None:
            return [str(self.folder), *shared]
        if self._cluster is None:
            return shared
        profile = self._cluster.profile_dir
        names = [self._connection_name(kind) for kind in ("client", "engine")]
        return [
            *(os.path.join(profile, "security", name) for name in names),
            os.path.join(profile, "security", f"cluster-{self.cluster_id}.json"),
            os.path.join(profile, "log", f"*{self.cluster_id}*.log"),
            *shared,
        ]

    def _connection_name(self, kind: str) -> str:
        return f"ipcontroller-{self.cluster_id}-{kind}.json"


# -- arguments

_LAUNCHER_OPTIONS = {"engine_launcher_class"}
_CONTROLLER_OPTIONS = {"controller", "controller_launcher_class"}


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ScopeError(f"{name} is {value!r}; it must be a whole number of at least 1")


def _engine_places(n: Any, nodes: Any) -> list[_Place]:
    """Return a place per engine, in the order of their ids."""
    if nodes is None:
        _check_count("the number of engines n", n)
        return [_Place(i, None) for i in range(n)]
    if not isinstance(nodes, Mapping) or not nodes:
        raise ScopeError(f'nodes is {nodes!r}; write node names with counts: {{"a": 2, "b": 2}}')
    for name, count in nodes.items():
        if not isinstance(name, str) or not name or "\0" in name:
            raise ScopeError(f"nodes names a node {name!r}; a node's name is a text, not empty")
        _check_count(f"nodes[{name!r}]", count)
    named = [name for name, count in nodes.items() for _ in range(count)]
    if n is not None:
        _check_count("the number of engines n", n)
        if n != len(named):
            raise ScopeError(
                f"n is {n}, but nodes={dict(nodes)!r} sums to {len(named)}; leave n out or make them agree"
            )
    return [_Place(i, name) for i, name in enumerate(named)]


def _merged_arguments(defaults: Iterable[str], given: Iterable[str]) -> list[str]:
    """Return both, without those defaults whose name is given."""
    given = list(given)
    names = {_argument_name(argument) for argument in given}
    return [a for a in defaults if _argument_name(a) not in names] + given


def _argument_name(argument: str) -> str:
    name = argument.partition("=")[0].lstrip("-")
    # a flag such as --nodb is short for a trait that would then be given twice
    return {"nodb": "IPController.db_class", "sqlitedb": "IPController.db_class"}.get(name, name)


def _config(given: Any) -> Any:
    """Return the user's configuration, which wins, over that of the IPython it runs in."""
    from IPython import get_ipython
    from traitlets.config import Config

    merged = Config()
    shell = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]
    if shell is not None:
        merged.merge(shell.config)
    if given:
        merged.merge(Config(given))
    return merged


def _configured(config: Any, name: str) -> Any:
    """Return what the configuration says of one option of the local engines' launcher."""
    for section in ("LocalEngineSetLauncher", "LocalEngineLauncher", "EngineLauncher"):
        if section in config and name in config[section]:
            return config[section][name]
    return None


# -- finding

def _private_folder(cluster_id: str) -> Path:
    """Make the profile folder of one cluster, which nobody else may enter."""
    folder = Path(tempfile.gettempdir()).resolve() / cluster_id
    folder.mkdir(mode=0o700)
    for name in ("security", "log", "pid", "startup"):
        (folder / name).mkdir(mode=0o700)
    return folder


def _read_json(path: Path) -> Any:
    """Return the content, or None while the file is missing or only half written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _new_client(where: Any, name: str, options: Mapping[str, Any]) -> Any:
    import ipyparallel

    try:
        return ipyparallel.Client(os.fspath(where) if isinstance(where, Path) else where, **options)
    except Exception as error:
        raise ScopekitError(
            f"{name} does not answer: {error}. It may have ended and left its file behind."
        ) from error


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


def _find_connection_file(
    target: str | os.PathLike[str] | None, options: dict[str, Any]
) -> tuple[Path | None, list[str]]:
    """Return the connection file that a text means, with a list of what was tried."""
    tried: list[str] = []
    for what, path in _candidates(target, options):
        found = _from_cluster_file(path)
        if found is not None and found.is_file():
            return found, tried
        tried.append(f"{what} ({path})")
    return None, tried or ["nothing"]


def _from_cluster_file(path: Path) -> Path | None:
    """Return the connection file that a cluster file stands for, or the path itself.

    The file is only read: ipyparallel's own Cluster.from_file rewrites or removes it.
    """
    content = _read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or "cluster" not in content:
        return path
    cluster = content["cluster"]
    return _connection_path(Path(cluster["profile_dir"]), cluster.get("cluster_id", ""))


def _connection_path(profile_dir: Path, cluster_id: str) -> Path:
    name = f"ipcontroller-{cluster_id}-client.json" if cluster_id else "ipcontroller-client.json"
    return profile_dir / "security" / name


def _candidates(
    target: str | os.PathLike[str] | None, options: dict[str, Any]
) -> Iterable[tuple[str, Path]]:
    from IPython.paths import get_ipython_dir

    profiles = Path(get_ipython_dir())
    asked = options.get("profile_dir")
    profile = options.get("profile")
    cluster_id = options.get("cluster_id") or ""
    if target is None:
        home = Path(asked) if asked else profiles / f"profile_{profile or 'default'}"
        yield "the profile", _connection_path(home, cluster_id)
        return
    text = os.fspath(target)
    yield "a path", Path(text).expanduser()
    if not isinstance(target, str) or os.sep in text:
        return
    own = Path(tempfile.gettempdir()).resolve() / text
    if _is_ours(own):
        yield "a cluster started by scopekit", _connection_path(own, text)
    homes = [Path(asked)] if asked else sorted(profiles.glob(f"profile_{profile or '*'}"))
    for home in homes:
        yield "a cluster id", _connection_path(home, text)
    yield "a profile", _connection_path(profiles / f"profile_{text}", cluster_id)


def _is_ours(folder: Path) -> bool:
    # the temporary folder is everyone's: a stranger's connection file is a stranger's pickles
    try:
        status = folder.lstat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def _session_id(client: Any, path: Path | None = None) -> str:
    """Return the cluster's id, or what stands for it where it has none."""
    named = getattr(getattr(client, "cluster", None), "cluster_id", "")
    if named:
        return str(named)
    if path is not None:
        name = path.stem.removeprefix("ipcontroller").removesuffix("client").strip("-")
        return name or path.parent.parent.name
    # private name of ipyparallel 9; any text will do, it is only shown
    return str(getattr(client, "_config", {}).get("registration", "attached"))


def _card_expression() -> str:
    """Return an expression that gives an engine's card, whatever is installed there."""
    source = Path(str(identity.__file__)).read_text(encoding="utf-8")
    return (
        f"(lambda ns: (exec({source!r}, ns), ns['card_text']())[1])"
        "({'__name__': 'scopekit_identity'})"
    )
