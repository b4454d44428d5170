"""The identity card of a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopekit.wire import identity


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    monkeypatch.delenv(identity.NODE_VARIABLE, raising=False)


def card_of_another_process(**environment):
    source = Path(identity.__file__).read_text()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", source + "\nprint(card_text())"],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return json.loads(done.stdout)


def test_processes_of_one_machine_share_the_node_and_nothing_else():
    mine, other = identity.identity_card(), card_of_another_process()
    assert mine["node"] == other["node"]
    assert mine["node_name"] == other["node_name"]
    assert mine["pid"] != other["pid"]
    assert (mine["pid"], mine["started"]) != (other["pid"], other["started"])


def test_a_card_stays_the_same():
    assert identity.identity_card() == identity.identity_card()


def test_a_named_node_is_its_name():
    card = card_of_another_process(SCOPEKIT_NODE="left rack")
    assert card["node"] == card["node_name"] == "left rack"


def test_an_empty_name_is_no_name(monkeypatch):
    real = identity.machine_id()
    monkeypatch.setenv(identity.NODE_VARIABLE, "")
    assert identity.machine_id() == real


def test_the_host_name_is_a_label_not_a_key(monkeypatch):
    before = identity.machine_id()
    monkeypatch.setattr(identity.socket, "gethostname", lambda: "renamed")
    assert identity.node_name() == "renamed"
    if Path("/proc/sys/kernel/random/boot_id").exists():
        assert identity.machine_id() == before


@pytest.mark.parametrize(
    "changed", ["_shared_memory", "_network"], ids=["other shm", "other network"]
)
def test_another_namespace_is_another_node(monkeypatch, changed):
    before = identity.machine_id()
    monkeypatch.setattr(identity, changed, lambda: "something else")
    assert identity.machine_id() != before


def test_without_proc_there_is_still_a_card(monkeypatch):
    def nothing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(identity, "open", nothing, raising=False)
    monkeypatch.setattr(identity.os, "stat", nothing)
    monkeypatch.setattr(identity.os, "statvfs", nothing)
    card = identity.identity_card()
    assert card["node"] == identity.machine_id()
    assert float(card["started"]) > 0
    monkeypatch.setattr(identity.socket, "gethostname", lambda: "elsewhere")
    assert identity.machine_id() != card["node"]


def test_the_start_time_is_the_kernels():
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc here")
    psutil = pytest.importorskip("psutil")
    ticks = int(identity.identity_card()["started"])
    started = psutil.boot_time() + ticks / os.sysconf("SC_CLK_TCK")
    assert abs(started - psutil.Process().create_time()) < 2


def test_what_is_not_installed_is_none():
    card = card_of_another_process()  # -S: without site-packages
    assert card["cloudpickle"] is None
    assert card["scopekit"] is None
    assert card["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_the_source_compiles_for_old_engines():
    import ast

    ast.parse(Path(identity.__file__).read_text(), feature_version=(3, 8))
