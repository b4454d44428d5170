"""Ends the processes of a cluster whose owner is gone.

Run by path as a process of its own beside each launched cluster: it blocks until
its owner says "done", or until the owner is gone in whatever way (an exit, a
crash, SIGKILL), and then ends every process that bears the cluster's marks in
its environment, removes the cluster's files, exits. The marks are inherited, so they
also find what tasks started, and no recycled pid is ever mistaken for ours.

Standard library only, and little of it: it must be up in milliseconds.
"""

from __future__ import annotations

import glob
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence  # noqa: TC003 -- json loads it anyway

__all__ = ("end_processes", "marked_processes", "remove_paths")

_TICK = 0.02
_QUIET = 0.3
_POLITE = 1.0
_LIMIT = 10.0


def marked_processes(marks: Sequence[str], known: Iterable[int] = ()) -> set[int]:
    """Return the pids of running processes whose environment holds all `marks`.

    Where the system does not show environments, those of `known` that run.
    """
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return {pid for pid in known if _runs(pid)}
    wanted = {os.fsencode(mark) for mark in marks}
    me = os.getpid()
    return {pid for pid in listed if pid != me and wanted <= _environment(pid)}


def _environment(pid: int) -> set[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 -- no pathlib: start-up time
            return set(file.read().split(b"\0"))
    except OSError:
        return set()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def end_processes(
    find: Callable[[], set[int]], *, polite: float, limit: float, quiet: float = 0.0
) -> set[int]:
    """End what `find` returns: SIGTERM, after `polite` seconds SIGKILL; return the survivors.

    `quiet` is how long nothing may be found before it counts as ended, for processes
    that were still being started when their owner died.
    """
    begun = last_seen = time.monotonic()
    asked: set[int] = set()
    while True:
        found = find()
        now = time.monotonic()
        if found:
            last_seen = now
            if now - begun > polite:
                _signal_all(found, getattr(signal, "SIGKILL", signal.SIGTERM))
            else:
                _signal_all(found - asked, signal.SIGTERM)
                asked |= found
        elif now - last_seen >= quiet:
            return set()
        if now - begun > limit:
            return found
        time.sleep(_TICK)


def remove_paths(patterns: Iterable[str]) -> None:
    """Remove the files and folders that match; those that are gone are no error."""
    for pattern in patterns:
        for path in glob.glob(pattern):  # noqa: PTH207 -- no pathlib: start-up time
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                shutil.rmtree(path, ignore_errors=True)
            else:
                try:
                    os.unlink(path)  # noqa: PTH108
                except OSError:
                    continue


def _wait_for_owner(owner: int) -> tuple[bool, set[int]]:
    """Return whether the owner cleaned up itself, with the pids it told of."""
    said = b""
    watched = _pidfd(owner)
    while True:
        if watched is not None:
            ready, _, _ = select.select([0, watched], [], [])
            if 0 not in ready:
                return False, _told(said)
        more = os.read(0, 4096)
        said += more
        if b"done\n" in said:
            return True, set()
        if not more:
            return False, _told(said)


def _pidfd(owner: int) -> int | None:
    # a fork of the owner may hold the pipe open for longer than the owner lives
    try:
        return os.pidfd_open(owner)
    except (AttributeError, OSError):
        return None


def _told(said: bytes) -> set[int]:
    return {int(line) for line in said.split(b"\n") if line.isdigit()}


def main() -> None:
    """Guard the cluster that the one argument, JSON, describes."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    orders = json.loads(sys.argv[1])
    clean, pids = _wait_for_owner(orders["owner"])
    if clean:
        return
    end_processes(
        lambda: marked_processes(orders["marks"], pids),
        polite=_POLITE,
        limit=_LIMIT,
        quiet=_QUIET,
    )
    remove_paths(orders["remove"])


if __name__ == "__main__":
    main()
