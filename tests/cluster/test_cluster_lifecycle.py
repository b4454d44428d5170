"""Engines are started, reached, watched and stopped, and nothing is left of them."""

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ipyparallel
import psutil
import pytest

from scopekit.errors import ScopeError, ScopekitError
from scopekit.wire import clients, reaper
from scopekit.wire.cluster import ClusterLink, attach, launch

LIMIT = 20


def wait_until(condition, what, limit=LIMIT):
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {limit} s"
        time.sleep(0.01)
    return value


def processes(link_or_id):
    cluster_id = getattr(link_or_id, "session_id", link_or_id)
    return reaper.marked_processes([f"IPP_CLUSTER_ID={cluster_id}"])


def ask(view, expression):
    """Evaluate a text on an engine, which cannot import this file."""
    evaluate = ipyparallel.Reference("__import__('builtins').eval")
    return view.apply_async(evaluate, expression, {})


def own_names(view):
    """Return the names in an engine's user namespace, without the number of this very call."""
    names = ask(view, "list(__import__('IPython').get_ipython().user_ns)").get(LIMIT)
    return sorted(re.sub(r"_\d+_(f|args|kwargs|result)$", r"_#_\1", name) for name in names)


def busy(link, engine_id, tmp_path):
    """Keep one engine busy for ten minutes; return its pending reply."""
    started = tmp_path / f"busy-{engine_id}"
    pending = ask(
        link.view(engine_id), f"(open({str(started)!r}, 'w'), __import__('time').sleep(600))"
    )
    wait_until(started.exists, "the task has begun")
    return pending


@pytest.fixture(scope="module")
def pair():
    with launch(2) as link:
        link.watch(lambda ids: None)  # its thread is the fixture's, not the first test's
        yield link


# -- start, stop


def test_start_and_stop_leave_nothing(own_folders):
    link = launch(2)
    assert link.engine_ids() == (0, 1)
    assert link.owned
    folder = own_folders / link.session_id
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(processes(link)) >= 5  # the controller, the engines, their nannies
    link.close()
    link.close()
    assert link.closed
    assert link.engine_ids() == ()
    assert not folder.exists()
    assert not processes(link)


def test_an_error_inside_with_stops_the_cluster():
    with pytest.raises(ZeroDivisionError), launch(1) as link:
        raise ZeroDivisionError
    assert not processes(link)


def test_pretend_nodes_take_ids_in_their_order():
    with launch(nodes={"b": 1, "a": 2}) as link:
        cards = link.probe()
        assert {i: card["node"] for i, card in cards.items()} == {0: "b", 1: "a", 2: "a"}
        assert {card["node_name"] for card in cards.values()} == {"a", "b"}
        assert len({card["pid"] for card in cards.values()}) == 3


def test_add_and_remove_engines_are_watched(pair):
    seen = []
    stop = pair.watch(seen.append)
    wait_until(lambda: seen, "the first call")
    before = seen[0]
    (joined,) = pair.add_engines(1, node="far")
    assert joined not in before
    wait_until(lambda: seen[-1] == (*before, joined), "told of the join", 2)
    assert pair.probe([joined])[joined]["node"] == "far"
    begun = time.monotonic()
    pair.kill_engine(joined)
    wait_until(lambda: seen[-1] == before, "told of the death", 2)
    assert time.monotonic() - begun < 2
    (joined,) = pair.add_engines(1)
    pair.remove_engines([joined, 10_000])
    wait_until(lambda: seen[-1] == before, "told of the leave")
    stop()


def test_watching_works_without_ipyparallels_callbacks(pair, monkeypatch):
    monkeypatch.setattr(clients, "hook", lambda client, callback: lambda: None)
    polled = ClusterLink(pair.client, "polled", launched=None, closes_client=False)
    seen = []
    polled.watch(seen.append)
    wait_until(lambda: seen, "the first call")
    monkeypatch.setattr(type(pair.client), "ids", [0])
    wait_until(lambda: seen[-1] == (0,), "told by polling", 2)
    polled.close()


def test_a_listener_that_raises_does_not_stop_the_others(pair, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: reported.append(error))
    seen = []
    stops = [pair.watch(lambda ids: 1 / 0), pair.watch(seen.append)]
    wait_until(lambda: seen, "the second listener is called")
    assert issubclass(reported[0][0], ZeroDivisionError)
    for stop in stops:
        stop()


def test_no_key_in_the_environment_of_engines(pair):
    environment = ask(pair.view(0), "dict(__import__('os').environ)").get(LIMIT)
    key = json.loads(pair.connection_file.read_text())["key"]
    assert key
    assert key not in "".join(environment.values())
    assert "IPP_CONNECTION_INFO" not in environment


def test_probe_leaves_no_names(pair):
    view = pair.view(0)
    before = own_names(view)
    assert pair.probe()[0]["pid"] > 0
    assert own_names(view) == before


def test_probe_returns_the_cards_of_those_who_answer(tmp_path):
    with launch(2) as link:
        pending = busy(link, 0, tmp_path)
        assert list(link.probe(timeout=1)) == [1]
        link.interrupt(0)
        with pytest.raises(Exception, match="KeyboardInterrupt"):
            pending.get(LIMIT)
        assert list(link.probe()) == [0, 1]


def test_close_ends_busy_engines_their_children_and_the_waits(tmp_path):
    link = launch(1)
    child = ask(link.view(0), "__import__('subprocess').Popen(['sleep', '600']).pid").get(LIMIT)
    pending = busy(link, 0, tmp_path)
    begun = time.monotonic()
    link.close()
    assert time.monotonic() - begun < 8
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"
    with pytest.raises(ScopekitError, match="closed before the reply came"):
        pending.get(LIMIT)


def test_a_dead_controller_is_noticed(own_folders):
    with launch(1) as link:
        seen = []
        link.watch(seen.append)
        wait_until(lambda: seen == [(0,)], "the first call")
        os.kill(link._launched._cluster.controller.pid, signal.SIGKILL)
        wait_until(lambda: seen[-1] == (), "told that all is lost", 2)


def test_shared_memory_named_after_the_cluster_goes_with_it():
    with launch(1) as link:
        name = Path("/dev/shm", f"{link.session_id}-x")
        name.touch()
    assert not name.exists()


def test_in_a_named_profile_only_our_files_go(tmp_path):
    other = tmp_path / "security" / "ipcontroller-other-client.json"
    other.parent.mkdir()
    other.touch()
    with launch(1, profile_dir=str(tmp_path)) as link:
        assert link.connection_file.exists()
        assert list((tmp_path / "security").glob("cluster-*"))
    left = [p.name for p in tmp_path.rglob("*") if link.session_id in p.name]
    assert left == []
    assert other.exists()


def test_a_running_event_loop_is_no_hindrance():
    async def cell():
        with launch(1) as link:
            return link.engine_ids()

    assert asyncio.run(cell()) == (0,)


# -- what makes no sense, what does not come up


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 0},
        {"n": -1},
        {"n": True},
        {"n": 1.0},
        {"n": "2"},
        {"n": None},
        {"nodes": {}},
        {"nodes": ["a"]},
        {"nodes": {"": 1}},
        {"nodes": {1: 1}},
        {"nodes": {"a": 0}},
        {"nodes": {"a": True}},
        {"n": 3, "nodes": {"a": 2}},
        {"nodes": {"a": 1}, "engines": "ssh"},
        {"n": 1, "timeout": 0},
        {"n": 1, "shutdown_atexit": False},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_at_the_call(arguments):
    with pytest.raises(ScopeError):
        launch(**arguments)


def test_an_engine_that_dies_at_the_start_is_named_with_its_log():
    command = [sys.executable, "-c", "raise SystemExit('no licence for this engine')"]
    with pytest.raises(ScopekitError, match=r"(?s)0 of 1 engines.*ended.*no licence"):
        launch(1, config={"LocalEngineSetLauncher": {"engine_cmd": command}})


def test_a_controller_that_dies_at_the_start_is_named_with_its_log():
    with pytest.raises(ScopekitError, match=r"(?s)controller of cluster.*ended"):
        launch(1, controller_args=["--IPController.ip=256.1.1.1"])


def test_engines_that_never_join_end_the_wait():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ScopekitError, match=r"0 of 1 engines .* within 3 s"):
        launch(1, timeout=3, config={"LocalEngineSetLauncher": {"engine_cmd": command}})


def test_the_users_controller_arguments_win():
    from scopekit.wire.launched import _merged_arguments

    defaults = ("--HeartMonitor.period=100", "--IPController.db_class=nodb")
    assert _merged_arguments(defaults, ["--HeartMonitor.period=900", "--nodb"]) == [
        "--HeartMonitor.period=900",
        "--nodb",
    ]


def test_a_missed_registration_is_made_up_for(pair):
    info = clients.read_json(pair.connection_file)
    client = ipyparallel.Client(info)
    try:
        del client._engines[0]
        client._ids.remove(0)
        clients.tell_missed(client, info)
        assert 0 in client.ids
        assert client[0].apply_async(os.getpid).get(LIMIT)
    finally:
        client.close()


# -- other people's clusters


@pytest.fixture(scope="module")
def theirs(own_folders):
    """A cluster that a user started with ipyparallel alone, and the user's client."""
    cluster = ipyparallel.Cluster(
        n=1,
        profile="theirs",
        cluster_id="",
        delay=0,
        log_level=40,
        controller_args=["--HeartMonitor.period=200", "--IPController.use_threads=True"],
    )
    client = cluster.start_and_connect_sync()
    files = Path(cluster.profile_dir, "security")
    shutil.copy(files / "ipcontroller-client.json", files / "ipcontroller-named-client.json")
    yield cluster, client
    client.close()
    cluster.stop_cluster_sync()


WAYS = {
    "client": lambda cluster, client: client,
    "cluster": lambda cluster, client: cluster,
    "profile": lambda cluster, client: "theirs",
    "cluster id": lambda cluster, client: "named",
    "connection file": lambda cluster, client: str(
        Path(cluster.profile_dir, "security", "ipcontroller-client.json")
    ),
    "cluster file": lambda cluster, client: Path(cluster.cluster_file),
}


@pytest.mark.parametrize("way", WAYS)
def test_attach_leaves_their_cluster_as_found(theirs, way):
    cluster, client = theirs
    view = client[0]
    before = own_names(view)
    file_before = Path(cluster.cluster_file).read_bytes()
    link = attach(WAYS[way](cluster, client))
    assert link.engine_ids() == (0,)
    assert not link.owned
    assert (link.client is client) == (way == "client")
    assert link.probe()[0]["pid"] > 0
    link.view(0).block = True
    with pytest.raises(ScopekitError, match="started elsewhere"):
        link.add_engines(1)
    link.close()
    assert own_names(view) == before
    assert (view.targets, view.block) == (client[0].targets, client[0].block)
    assert Path(cluster.cluster_file).read_bytes() == file_before


def test_attach_to_a_launched_cluster_by_its_id(pair):
    with attach(pair.session_id) as link:
        assert link.engine_ids() == pair.engine_ids()
        assert not link.owned
    assert pair.probe()


def test_attach_says_what_was_tried(own_folders):
    with pytest.raises(ScopekitError, match=r"'nowhere'; tried a path .* a profile "):
        attach("nowhere")
    with pytest.raises(ScopekitError, match="default profile"):
        attach()


def test_attach_refuses_what_is_no_target():
    with pytest.raises(ScopeError, match="cannot connect to a int"):
        attach(3)
    with pytest.raises(ScopekitError, match="no controller running"):
        attach(ipyparallel.Cluster(profile_dir=os.environ["TMPDIR"]))


def test_attach_to_a_file_left_behind_ends(pair, tmp_path):
    info = json.loads(pair.connection_file.read_text())
    stale = tmp_path / "ipcontroller-client.json"
    stale.write_text(json.dumps({**info, "registration": 1}))
    with pytest.raises(ScopekitError, match="does not answer"):
        attach(stale, timeout=1)


# -- ends that nobody planned


def owner(body, *arguments):
    """Run a script that launches a cluster, in a process of its own."""
    # Whoever runs the tests in the background may have it ignored, and children inherit that.
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    imports = "import os, signal, sys, time\nfrom scopekit.wire.cluster import launch"
    script = f"{imports}\n{heed}\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_all_gone(folder, process, limit=LIMIT):
    process.wait(limit)
    process.communicate()
    wait_until(lambda: not list(folder.glob("scopekit-*")), "the folder is removed")
    wait_until(lambda: not reaper.marked_processes([f"TMPDIR={folder}"]), "all processes end")


@pytest.fixture
def folder(own_folders, monkeypatch):
    """A temporary folder for the owners of one test."""
    path = own_folders / "owners"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    path.rmdir()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_a_signal_to_the_owner_leaves_nothing(folder, number):
    body = "link = launch(1)\nprint(link.session_id, flush=True)\ntime.sleep(600)"
    process = owner(body)
    cluster_id = process.stdout.readline().strip()
    assert processes(cluster_id)
    process.send_signal(getattr(signal, number))
    assert_all_gone(folder, process)
    assert not processes(cluster_id)


@pytest.mark.parametrize(
    "ending",
    ["", "1 / 0", "sys.exit(3)", "os._exit(0)", "del link"],
    ids=lambda text: text or "end",
)
def test_an_exit_without_close_leaves_nothing(folder, ending):
    process = owner(f"link = launch(1)\n{ending}")
    assert_all_gone(folder, process)


def test_a_fork_that_outlives_the_owner_keeps_nothing_alive(folder):
    body = textwrap.dedent("""
        link = launch(1)
        child = os.fork()
        if child == 0:
            assert link.closed and link.engine_ids() == ()
            link.close()
            time.sleep(600)
        print(child, flush=True)
        assert link.engine_ids() == (0,)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    process = owner(body)
    child = int(process.stdout.readline())
    process.stdout.close()
    process.stderr.close()
    process.wait(LIMIT)
    try:
        wait_until(lambda: not list(folder.glob("scopekit-*")), "the folder is removed")
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("moment", ["scopekit-*", "scopekit-*/security/*-client.json"])
def test_ctrl_c_while_starting_leaves_nothing(folder, moment):
    body = textwrap.dedent("""
        try:
            launch(2)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    process = owner(body)
    wait_until(lambda: list(folder.glob(moment)), "the start is under way")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert out.strip() == "interrupted", err
    assert_all_gone(folder, process)


def test_px_follows_from_one_cluster_to_the_next(folder):
    body = textwrap.dedent("""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        os.environ["IPP_NONINTERACTIVE"] = "1"
        for turn in (1, 2):
            with launch(1) as link:
                shell.run_line_magic("px", f"x = {turn}")
                print(link.client[0].pull("x", block=True), flush=True)
    """)
    process = owner(body)
    out, err = process.communicate(timeout=60)
    assert out.split()[-2:] == ["1", "2"], err


def test_the_module_loads_without_ipyparallel():
    code = "import sys, scopekit.wire.cluster; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"ipyparallel", "zmq", "IPython", "numpy"}


FAKE_SLURM = {
    "sbatch": 'setsid sh "$1" >/dev/null 2>&1 & echo "Submitted batch job $!"',
    "srun": '"$@" & "$@" & wait',
    "scancel": 'kill -TERM -"$1"',
}


def test_a_batch_system_starts_the_engines(tmp_path, monkeypatch):
    for name, body in FAKE_SLURM.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "notebook").mkdir()
    monkeypatch.chdir(tmp_path / "notebook")
    with launch(2, engines="slurm", profile_dir=str(tmp_path / "profile")) as link:
        assert link.engine_ids() == (0, 1)
        assert len(link.probe()) == 2
    assert not processes(link)
    assert not list((tmp_path / "notebook").iterdir())
    assert not [p for p in (tmp_path / "profile").rglob("*") if link.session_id in p.name]


@pytest.mark.slow
def test_twenty_clusters_in_a_row_leave_nothing(own_folders):
    me = psutil.Process()
    launch(2).close()
    files, threads = me.num_fds(), me.num_threads()
    for _ in range(20):
        with launch(2) as link:
            assert link.engine_ids() == (0, 1)
        assert not processes(link)
    wait_until(lambda: me.num_threads() <= threads + 2, "threads end")
    assert me.num_fds() <= files + 5
