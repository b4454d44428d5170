"""Runs one measuring process, with a limit, and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopekit.wire.reaper import end_processes, marked_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopekit.bench.child import Order

__all__ = ("measure", "without_paths")

_CHILD = "scopekit.bench.child"
_MARK = "SCOPEKIT_BENCH"
_END = 20.0
_POLITE = 3.0
_KILLED = 15.0
_REASON = 200
_SILENT = "it ended early"


def measure(order: Order, limit: float, take: Callable[[dict[str, Any]], None]) -> None:
    """Measures what an order says, in a process of its own.

    Args:
        order: what to measure; its pipe is set here.
        limit: for how many seconds it may say nothing.
        take: gets all that the process says, and ``{"kind": "failed", ...}`` for what it did
            not get through.
    """
    current = order.workloads[0]

    def listen(said: dict[str, Any]) -> None:
        nonlocal current
        if said["kind"] == "begun":
            current = said["workload"]
        if "reason" in said:
            said["reason"] = without_paths(said["reason"])
        take(said)

    with _folder() as folder:
        reason = _run(order, folder, limit, listen)
    if reason:
        take({"kind": "failed", "workload": current, "reason": reason, "fatal": True})


def without_paths(text: str) -> str:
    """Returns the first line of a text with nothing in it of where files lie."""
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    return re.sub(r"(?<![\w.:/])~?(?:/[^\s/:'\",()]+){2,}/?", "<path>", line)[:_REASON]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Makes a folder for all that a system writes; its name is short: sockets may lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="skb-", dir=_short_place()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short_place() -> str | None:
    return "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108  # mkdtemp makes it private


def _run(order: Order, folder: Path, limit: float, listen: Callable[[dict[str, Any]], None]) -> str:
    """Runs the process; returns why it did not end as it should, "" if it did."""
    mark = f"{_MARK}={folder.name}"
    reading, writing = os.pipe()
    command = [
        *(sys.executable, "-m", _CHILD),
        replace(order, pipe=writing).as_text(),
    ]
    log = folder / "log"
    with log.open("wb") as output, os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            process = subprocess.Popen(  # noqa: S603  # our own module
                command,
                cwd=folder,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(writing)
        family = _Family(process, mark)

        def look_and_listen(said: dict[str, Any]) -> None:
            if said["kind"] == "begun" and said["workload"] == "close":
                family.look()
            listen(said)

        try:
            reason = _listen(pipe, limit, look_and_listen)
            if not reason:
                _wait(process)
        finally:
            family.end()
    return reason if reason != _SILENT else _last_words(log)


def _environment(folder: Path) -> dict[str, str]:
    """Returns an environment in which all that a system leaves can be found again."""
    there = {
        **os.environ,
        _MARK: folder.name,
        "TMPDIR": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        # One thread for each worker is what is compared.
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }
    # The process runs in another folder than the command does.
    root = str(Path(__file__).parents[2])
    # As if its virtual environment were active: Parsl looks for its programs there.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    there["PATH"] = os.pathsep.join(places)
    there["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return there


def _listen(pipe: Any, limit: float, listen: Callable[[dict[str, Any]], None]) -> str:
    """Takes in what is said until the end; returns why that did not come."""
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(limit):
                return f"nothing came of it in {limit:g} s"
            more = pipe.read(65536)
            if not more:
                return _SILENT
            *lines, said = (said + more).split(b"\n")
            for line in lines:
                words = json.loads(line)
                if words["kind"] == "ended":
                    return ""
                listen(words)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Lets a process end by itself; what is left after that is ended."""
    deadline = time.monotonic() + _END
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


class _Family:
    """A process with all that it starts, found by a mark in their environment.

    Some overwrite their environment with their title: what is a child when it is looked
    for counts too.
    """

    def __init__(self, process: subprocess.Popen[bytes], mark: str) -> None:
        self._process, self._mark = process, mark
        self._seen: set[Any] = set()

    def look(self) -> None:
        import psutil  # noqa: PLC0415  # slow to load

        with contextlib.suppress(psutil.Error):
            self._seen.update(psutil.Process(self._process.pid).children(recursive=True))

    def end(self) -> None:
        self.look()
        end_processes(self._running, polite=_POLITE, limit=_KILLED)
        self._process.wait()

    def _running(self) -> set[int]:
        self._process.poll()  # so that it is no zombie
        return marked_processes([self._mark]) | {one.pid for one in self._seen if _runs(one)}


def _runs(process: Any) -> bool:
    import psutil  # noqa: PLC0415  # as above

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _last_words(log: Path) -> str:
    """Returns why a process ended, as far as it said so."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    words = [line for line in lines if line.strip() and not line.startswith(" ")]
    return f"{_SILENT}: {without_paths(words[-1])}" if words else _SILENT
