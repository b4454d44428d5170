"""Engines of somebody else: a session that reaches them leaves them as found."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import cloudpickle
import ipyparallel
import pytest

import scopekit as sk

CLIENT = textwrap.dedent("""
    import sys
    import scopekit as sk
    import scopekit.roster

    scopekit.roster._LEASE = 2.0
    session = sk.connect(sys.argv[1])
    task = sk.spawn(bytes, 1000)
    task.wait()
    print("ready", flush=True)
    sys.stdin.read()
""")


@pytest.fixture(scope="module", autouse=True)
def _functions_of_this_file_travel_by_value():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster():
    with ipyparallel.Cluster(n=1, delay=0, controller_args=["--HeartMonitor.period=200"]) as client:
        client.wait_for_engines(1, timeout=60)
        yield client.cluster


def ask(client, expression):
    """Evaluates an expression on the engine, without any code of this file going there."""
    evaluate = ipyparallel.Reference("__import__('builtins').eval")
    return client[:].apply_sync(evaluate, expression, {})[0]


def agents(client):
    return ask(client, "len(__import__('scopekit.engine.entry').engine.entry._homes)")


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.05)


def test_the_agent_of_a_client_that_was_killed_frees_its_engine(cluster):
    user = cluster.connect_client_sync()
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, cluster.cluster_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        assert agents(user) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        until(lambda: agents(user) == 0)
    finally:
        process.kill()
        process.communicate()
        user.close()


def test_a_session_that_is_closed_leaves_no_agent_and_no_routed_output(cluster):
    user = cluster.connect_client_sync()
    try:
        with sk.connect(cluster) as session:
            assert session.fetch(session.spawn(abs, -3)) == 3
            assert agents(user) == 1
        assert agents(user) == 0
        assert "Routed" not in ask(user, "type(__import__('sys').stdout).__name__")
    finally:
        user.close()


def test_a_module_that_an_engine_lacks_is_named_with_what_to_do(cluster):
    with sk.connect(cluster) as session:
        task = session.spawn(_import_what_is_nowhere)

        with pytest.raises(ModuleNotFoundError) as caught:
            task.result()
        assert "worker 0 cannot import no_such_module" in "".join(caught.value.__notes__)


def _import_what_is_nowhere():
    import no_such_module

    return no_such_module


def test_two_sessions_on_the_same_engines_do_not_mix(cluster):
    with sk.connect(cluster) as one, sk.connect(cluster) as two:
        first = one.spawn(_here)
        second = two.spawn(_here)

        assert one.fetch(first) == two.fetch(second) == one.workers[0]
        with pytest.raises(sk.ScopekitError, match="another session"):
            one.spawn(abs, second)


def _here():
    import scopekit

    assert scopekit.ProcessScope().worker == scopekit.myid()
    return scopekit.myid()
