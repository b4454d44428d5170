"""A cluster of our own: its processes, its files, the guard that outlives us.

It lives in a private folder that serves as its IPython profile, unless the user
names a profile, or a launcher that starts engines elsewhere, where that folder is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scopekit.errors import ScopeError, ScopekitError
from scopekit.wire import clients, enginestart, identity, reaper

__all__ = ("LaunchedCluster", "Place", "check_count", "engine_places", "is_local")

T = TypeVar("T")

_TICK = 0.01
_POLITE = 1.0
_RESYNC_AFTER = 1.0
_TAIL_LINES = 15
# An engine that ends is told at once by its nanny. One that is silent may be frozen, or its
# machine suspended, and goes on afterwards with what it had.
_SILENCE_MS = 30_000
_FAST_CONTROLLER = (
    "--IPController.db_class=nodb",
    "--IPController.use_threads=True",
    "--IPController.log_level=40",
)
_FAST_ENGINE = ("--IPEngine.log_level=30",)
_LOCAL = (None, "local", "Local")


@dataclass(frozen=True)
class Place:
    """Where one engine is to be: its id, and its pretend node if it has one."""

    engine_id: int | None
    node: str | None


class _Guard:
    """The reaper process that ends the cluster when this process is gone."""

    def __init__(self, marks: Sequence[str], remove: Sequence[str]) -> None:
        orders = {"owner": os.getpid(), "marks": list(marks), "remove": list(remove)}
        self._process = subprocess.Popen(  # noqa: S603 -- this package's own file
            [sys.executable, "-I", "-S", str(reaper.__file__), json.dumps(orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
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


@dataclass
class LaunchedCluster:
    """A cluster that this process started: the controller, the engines, the guard, the files."""

    places: Sequence[Place]
    local: bool
    engines: str | None
    options: dict[str, Any]
    cluster_id: str = ""
    folder: Path | None = None
    _cluster: Any = None
    _guard: _Guard | None = None
    _busy: threading.Thread | None = None
    _sets: int = 0

    def start(self) -> list[str]:
        """Start all the processes, without waiting for any; return the names of the engine sets."""
        self.cluster_id = self.options.get("cluster_id") or f"scopekit-{secrets.token_hex(6)}"
        if self.local and not {"profile", "profile_dir"} & self.options.keys():
            self.folder = _private_folder(self.cluster_id)
        self._cluster = self._make_cluster()
        self._guard = _Guard(self._marks(), self._files())
        return self._run(self._start_all)

    def start_more(self, k: int, node: str | None) -> list[str]:
        """Start further engines, whose ids the controller chooses; return their sets' names."""
        return self._run(lambda: self._start_engines([Place(None, node)] * k))

    def connect(self, deadline: float) -> Any:
        """Return a client of the controller, once that has said where it is."""
        extras = {
            "cluster": self._cluster,
            "profile_dir": self._cluster.profile_dir,
            "cluster_id": self.cluster_id,
        }
        if not self.connection_file_expected:
            return self._run(self._cluster.connect_client, limit=deadline)
        while (info := clients.read_json(self.connection_file)) is None:
            self._check_controller()
            if time.monotonic() > deadline:
                raise ScopekitError(
                    f"the controller of cluster {self.cluster_id} wrote no connection file "
                    f"{self.connection_file} in time.{self.log_tail()}"
                )
            time.sleep(_TICK)
        limit = max(1.0, min(10.0, deadline - time.monotonic()))
        return clients.new_client(
            info, f"the controller of {self.cluster_id}", {**extras, "timeout": limit}
        )

    def await_engines(
        self,
        client: Any,
        started: Sequence[str],
        *,
        count: int,
        deadline: float,
        timeout: float,
        besides: Iterable[int] = (),
    ) -> None:
        """Return when `count` engines other than `besides` are registered."""
        known = set(besides)
        pause = _RESYNC_AFTER
        resync = time.monotonic() + pause
        while (up := len(set(client.ids) - known)) < count:
            now = time.monotonic()
            self._check_controller()
            exits = self._exits(started)
            if now > deadline or exits:
                reason = f"; {', '.join(exits)}" if exits else f" within {timeout:g} s"
                raise ScopekitError(
                    f"{up} of {count} engines of cluster {self.cluster_id} came up"
                    f"{reason}.{self.log_tail()}"
                )
            if now > resync:
                if self.connection_file_expected:
                    with contextlib.suppress(Exception):  # the next round tries again
                        clients.tell_missed(client, clients.read_json(self.connection_file))
                pause *= 2  # engines in a batch queue may take hours
                resync = time.monotonic() + pause
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
        """The file by which clients reach the controller."""
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
        from ipyparallel import Cluster  # noqa: PLC0415 -- loads when first needed

        options = {
            "delay": 0,
            "shutdown_atexit": False,  # the link stops it, or the guard does
            "log_level": 40,
            **self.options,
            "cluster_id": self.cluster_id,
            "config": _config(self.options.get("config")),
        }
        options["controller_args"] = _merged_arguments(
            (*_heartbeat(len(self.places)), *_FAST_CONTROLLER),
            self.options.get("controller_args", ()),
        )
        if self.folder is not None:
            # no cluster file either: late notices would write it into a folder that is gone
            options |= {"profile_dir": str(self.folder), "load_profile": False, "cluster_file": ""}
        if self.local:
            options.setdefault("send_engines_connection_env", not self.connection_file_expected)
        if self.engines is not None:
            options["engines"] = self.engines
        return Cluster(**options)

    async def _start_all(self) -> list[str]:
        await self._cluster.start_controller()
        return await self._start_engines(self.places)

    async def _start_engines(self, places: Sequence[Place]) -> list[str]:
        if not self.local:
            return [await self._cluster.start_engines(len(places), **self._batch_options())]
        names = []
        # one set per engine: its own environment, pid and requested id
        for place in places:
            name = f"engine-{self._sets}"
            self._sets += 1
            names.append(name)
            await self._cluster.start_engines(1, engine_set_id=name, **self._engine_options(place))
        if self._guard is not None:
            self._guard.tell(self._pids())
        return names

    def _batch_options(self) -> dict[str, Any]:
        # by default the script goes to the notebook's folder, under one name for all, and stays
        launcher = self._cluster.engine_launcher_class
        if not launcher.class_traits().get("batch_file_name"):
            return {}
        folder = Path(self._cluster.profile_dir, "log")
        folder.mkdir(parents=True, exist_ok=True)
        self._sets += 1
        return {"batch_file_name": str(folder / f"{self.cluster_id}-{self._sets}.batch")}

    def _engine_options(self, place: Place) -> dict[str, Any]:
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

    def _exits(self, names: Iterable[str]) -> list[str]:
        """Return a text for each engine of these sets that ran on this machine and has ended."""
        texts = []
        for name in names:
            engine_set = self._cluster.engines.get(name)
            for launcher in list(getattr(engine_set, "launchers", {}).values()):
                process = getattr(launcher, "process", None)
                if process is not None and not process.is_running():
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
                f"processes {sorted(left)} of cluster {self.cluster_id} did not end, "
                "even on SIGKILL; look what holds them in the kernel (ps -o stat,wchan)"
            )

    def _marks(self) -> list[str]:
        # ipyparallel gives both to every process it starts
        profile = self.folder or self._cluster.profile_dir
        return [f"IPP_CLUSTER_ID={self.cluster_id}", f"IPP_PROFILE_DIR={profile}"]

    def _files(self) -> list[str]:
        """Return patterns for what is to be removed with the cluster."""
        # an id of the user's own may begin other people's names too
        ours = "cluster_id" not in self.options
        shared = [f"/dev/shm/{self.cluster_id}*"] if ours else []  # noqa: S108 -- only removed from
        if self.folder is not None:
            return [glob.escape(str(self.folder)), *shared]
        if self._cluster is None:
            return shared
        names = [
            *(f"security/{self._connection_name(kind)}" for kind in ("client", "engine")),
            f"security/cluster-{self.cluster_id}.json",
            f"log/engines{self.cluster_id}.json",
            f"log/{self.cluster_id}-*.batch",
            *(f"log/{program}-{self.cluster_id}-*.log" for program in ("ipcontroller", "ipengine")),
        ]
        profile = glob.escape(self._cluster.profile_dir)
        return [*(f"{profile}/{name}" for name in names), *shared]

    def _connection_name(self, kind: str) -> str:
        return f"ipcontroller-{self.cluster_id}-{kind}.json"


# -- arguments

_LAUNCHER_OPTIONS = {"engine_launcher_class"}
_CONTROLLER_OPTIONS = {"controller", "controller_launcher_class"}


def is_local(engines: str | None, options: Mapping[str, Any]) -> bool:
    """Return whether the engines run on this machine, started by us one by one."""
    return engines in _LOCAL and not _LAUNCHER_OPTIONS & options.keys()


def check_count(name: str, value: Any) -> None:
    """Raise ScopeError unless the value counts something."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ScopeError(f"{name} is {value!r}; it must be a whole number of at least 1")


def engine_places(n: Any, nodes: Any) -> list[Place]:
    """Return a place per engine, in the order of their ids."""
    if nodes is None:
        check_count("the number of engines n", n)
        return [Place(i, None) for i in range(n)]
    if not isinstance(nodes, Mapping) or not nodes:
        raise ScopeError(f'nodes is {nodes!r}; write node names with counts: {{"a": 2, "b": 2}}')
    for name, count in nodes.items():
        if not isinstance(name, str) or not name or "\0" in name:
            raise ScopeError(f"nodes names a node {name!r}; a node's name is a text, not empty")
        check_count(f"nodes[{name!r}]", count)
    named = [name for name, count in nodes.items() for _ in range(count)]
    if n is not None:
        check_count("the number of engines n", n)
        if n != len(named):
            raise ScopeError(
                f"n is {n}, but nodes={dict(nodes)!r} sums to {len(named)}; "
                "leave n out or make them agree"
            )
    return [Place(i, name) for i, name in enumerate(named)]


def _heartbeat(n: int) -> tuple[str, str]:
    """Return the controller's beat: an engine joins at its second beat, so short where few beat."""
    period = 100 if n <= 8 else 200 if n <= 64 else 1000  # noqa: PLR2004
    misses = max(5, _SILENCE_MS // period)
    return f"--HeartMonitor.period={period}", f"--HeartMonitor.max_heartmonitor_misses={misses}"


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
    from IPython import get_ipython  # noqa: PLC0415 -- loads when first needed
    from traitlets.config import Config  # noqa: PLC0415

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


def _private_folder(cluster_id: str) -> Path:
    """Make the profile folder of one cluster, which nobody else may enter."""
    folder = Path(tempfile.gettempdir()).resolve() / cluster_id
    folder.mkdir(mode=0o700)
    for name in ("security", "log", "pid", "startup"):
        (folder / name).mkdir(mode=0o700)
    return folder
