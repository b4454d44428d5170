"""What holds for every test: it runs in folders of its own and leaves nothing behind."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import figures
import pytest

import scopekit
from scopekit.wire import reaper

_LIMIT = 5.0


def pytest_addoption(parser):
    parser.addoption(
        "--wire",
        choices=["direct", "views"],
        help="speak with engines that way alone, in every test that does not ask for another",
    )


def pytest_configure(config):
    wire = config.getoption("--wire")
    if wire is not None:
        for opens in (scopekit.start, scopekit.connect):
            opens.__kwdefaults__["wire"] = wire


def pytest_collection_modifyitems(config, items):
    if config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_terminal_summary(terminalreporter):
    if figures.shown:
        terminalreporter.section("figures")
        for what, told in figures.shown.items():
            terminalreporter.write_line(f"{what}: {told}")


@pytest.fixture(scope="session", autouse=True)
def heed_interrupts():
    """Hear Ctrl-C also where a shell started the tests in the background, to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def own_folders():
    """Keep temporary files and IPython's profiles of this run apart from all others."""
    # short, and not below pytest's own: sockets may lie in it
    folder = tempfile.mkdtemp(prefix="sk-", dir="/tmp" if Path("/tmp").is_dir() else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("IPYTHONDIR", str(Path(folder, "ipython")))
        yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def leaves_nothing_behind(own_folders):
    """Fail a test that leaves a process, a thread, shared memory or a cluster's folder."""
    before = _belongings(own_folders)
    yield
    deadline = time.monotonic() + _LIMIT
    while left := _belongings(own_folders) - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}", pytrace=False)
        time.sleep(0.02)


def _belongings(folder):
    found = {f"thread {t.name}" for t in threading.enumerate() if t.name.startswith("scopekit")}
    found |= {f"process {_command(pid)}" for pid in _children()}
    found |= {f"folder {path}" for path in folder.glob("scopekit-*")}
    found |= {f"shared memory {name}" for name in _shared_memory()}
    if "ipyparallel" in sys.modules:  # also those whose parent is gone
        own = reaper.marked_processes([f"TMPDIR={folder}"])
        found |= {f"process {_command(pid)}" for pid in own}
    return {entry for entry in found if not entry.endswith("tracker")}


def _children():
    children = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread ended meanwhile
            children.update(map(int, path.read_text().split()))
    return children


def _command(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    text = " ".join(word.decode(errors="replace") for word in words[:4])
    # multiprocessing's own helper lives as long as the interpreter
    return f"{pid} tracker" if "resource_tracker" in text else f"{pid} {text}".strip()


def _shared_memory():
    try:
        names = [path.name for path in Path("/dev/shm").glob("scopekit*")]
    except OSError:
        return set()
    # those of a cluster that runs belong to somebody, perhaps to another test run
    return {n for n in names if not reaper.marked_processes([f"IPP_CLUSTER_ID={_cluster(n)}"])}


def _cluster(name):
    return "-".join(name.split("-")[:2])
