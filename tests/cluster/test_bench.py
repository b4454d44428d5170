"""``scopekit bench`` runs for real, small, and ends when it is told to."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scopekit.bench.workloads import ALL, WORKLOADS

COMMAND = [sys.executable, "-m", "scopekit", "bench", "--quick", "--peers", "processes"]
SYSTEMS = ("direct", "views", "processes")
LIMIT = 110


@pytest.fixture(scope="module")
def facts(own_folders):
    """What a quick run wrote, of all workloads with two of the patterns."""
    file = own_folders / "run.json"
    words = ["--patterns", "no_comm,stencil_1d", "--json", str(file), "--limit", "60"]
    done = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


def test_every_workload_has_figures_of_every_system(facts):
    assert facts["found"]["failures"] == []
    measured = {(figure["workload"], figure["system"]) for figure in facts["found"]["figures"]}
    wanted = {
        (workload.name, system)
        for workload in WORKLOADS.values()
        for system in SYSTEMS
        if system in workload.systems
    }
    assert measured == wanted


def test_figures_are_above_zero_and_have_units(facts):
    for figure in facts["found"]["figures"]:
        assert figure["value"] > 0 or figure["case"].endswith(("unpinned", "growth between"))
        wanted = "" if figure["case"].startswith("edges") else WORKLOADS[figure["workload"]].unit
        assert figure["unit"] == wanted


def test_columns_that_are_pinned_cross_no_more_than_they_must(facts):
    values = {
        figure["case"]: figure["value"]
        for figure in facts["found"]["figures"]
        if (figure["workload"], figure["system"]) == ("placement", "direct")
    }

    assert values["edges that crossed, columns pinned"] == 56
    assert values["edges that must, columns pinned"] == 56


def test_sweeps_are_kept_point_by_point(facts):
    sweeps = [f for f in facts["found"]["figures"] if f["workload"] == "metg"]

    assert {figure["case"] for figure in sweeps} == {"no_comm", "stencil_1d"}
    assert all(figure["detail"]["points"] for figure in sweeps)


def test_the_file_names_the_machine_by_no_name_and_no_path(facts, own_folders):
    text = json.dumps(facts)

    assert facts["machine"]["cores"] >= 1
    assert {"scopekit", "ipyparallel"} <= set(facts["versions"])
    assert f'"{socket.gethostname()}"' not in text
    assert str(own_folders) not in text
    assert str(Path.home()) not in text


def test_an_interrupt_ends_all_that_it_started(own_folders):
    process = subprocess.Popen(
        [*COMMAND, "--only", "noops", "--rounds", "50"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        for line in process.stderr:
            if "direct: noops" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        told = process.stderr.read()
        process.wait(LIMIT)

    assert process.returncode == 130
    assert told == "scopekit: interrupted; what it started is ended\n"


def test_all_systems_are_known_by_the_workloads():
    assert set(SYSTEMS) < set(ALL)
