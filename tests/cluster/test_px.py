"""ipyparallel works beside us, on the same engines, before and after and meanwhile."""

import re
import sys

import cloudpickle
import ipyparallel
import pytest

import scopekit as sk
from scopekit import ExactScope, ProcessScope, ThreadProc

cloudpickle.register_pickle_by_value(sys.modules[__name__])


# Views read functions of __main__ as a notebook's; other modules they would import.
@ipyparallel.interactive
def add(x, y=1):
    return x + y


def names(view):
    """Return each engine's user namespace, without ipyparallel's own number of this call."""
    evaluate = ipyparallel.Reference("__import__('builtins').eval")
    told = view.apply(evaluate, "list(__import__('IPython').get_ipython().user_ns)", {}).get(20)
    return [sorted(re.sub(r"_\d+_(f|args|kwargs|result)$", r"_#_\1", n) for n in ns) for ns in told]


@pytest.fixture(scope="module")
def foreign(own_folders):
    """A cluster that a user started with ipyparallel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPP_DISABLE_JS", "1")
        cluster = ipyparallel.Cluster(n=2, log_level=40)
        client = cluster.start_and_connect_sync(activate=False)
        client.wait_for_engines(2, timeout=60, interactive=False)
        yield cluster, client
        client.close()
        cluster.stop_cluster_sync()


# -- engines of a session ------------------------------------------------------------------


def test_a_view_executes_before_during_and_after_tasks(session):
    view = session._link.client[:]
    view.execute("a = 1", block=True)
    tasks = [session.spawn(add, i) for i in range(50)]
    view.execute("a += 1", block=True)
    assert session.fetch(tasks, timeout=30) == list(range(1, 51))
    view.execute("a += 1", block=True)

    assert view.pull("a", block=True) == [3] * 4
    view.execute("del a", block=True)


def test_tasks_leave_the_user_namespace_as_it_was(session):
    view = session._link.client[:]
    before = names(view)

    def work(x):
        import math

        leaked = [math.sqrt(x)]
        return leaked.pop()

    session.fetch([session.spawn(work, i) for i in range(40)], timeout=30)
    chunk = session.tochunk("x", scope=ProcessScope(0))
    session.spawn(len, chunk).result(20)
    with pytest.raises(ValueError, match="math domain"):
        session.spawn(work, -1).result(20)

    assert names(view) == before


def test_what_a_user_prints_goes_to_the_user(session):
    view = session._link.client[0]

    task = session.spawn(print, "of the task", scope=ProcessScope(0))
    reply = view.execute("print('of the user')", silent=False)
    task.wait(20)
    reply.get(20)
    reply.wait_for_output(20)

    assert task.stdout == "of the task\n"
    assert reply.stdout == "of the user\n"


def test_the_last_value_and_errors_of_a_user_come_as_they_did(session):
    view = session._link.client[0]
    reply = view.execute("6 * 7", silent=False)
    reply.get(20)
    reply.wait_for_output(20)
    assert "42" in str(reply.metadata["execute_result"] or reply.execute_result)

    with pytest.raises(ipyparallel.RemoteError, match="ZeroDivisionError"):
        view.apply_sync(lambda: 1 / 0)


def test_a_users_message_gets_in_between_many_tasks(session):
    """Tasks that follow each other give way between any two."""

    def nap():
        import time

        time.sleep(0.02)

    on = ExactScope(ThreadProc(0, 0))
    tasks = [session.spawn(nap, scope=on) for _ in range(100)]
    session.fetch(tasks[:3], timeout=20)

    assert session._link.client[0].apply(add, 1).get(20) == 2

    assert not tasks[-1].done()
    session.fetch(tasks, timeout=30)


def test_px_in_a_notebook_goes_on_beside_tasks(session, capsys):
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    try:
        session._link.client.activate()
        task = session.spawn(print, "of the task")
        shell.run_line_magic("px", "import os; mine = os.getpid(); print('of px')")
        task.wait(20)
        shell.run_line_magic("px", "del mine")
        shown = capsys.readouterr().out
    finally:
        InteractiveShell.clear_instance()

    assert shown.count("of px") == 4
    assert "of the task" in shown
    assert task.stdout == "of the task\n"


def test_an_engine_can_be_asked_while_its_other_thread_works(session, tmp_path, until):
    gate = tmp_path / "gate"

    def hold(path):
        import pathlib
        import time

        limit = time.monotonic() + 60
        while not pathlib.Path(path).exists() and time.monotonic() < limit:
            time.sleep(0.005)

    task = session.spawn(hold, str(gate), scope=ExactScope(ThreadProc(1, 1)))
    try:
        assert session._link.client[1].apply(add, 1).get(20) == 2
        assert session.spawn(add, 1, scope=ExactScope(ThreadProc(1, 0))).result(20) == 2
        assert not task.done()
    finally:
        gate.touch()
    task.result(20)


def test_a_task_may_use_the_engines_own_namespace(session):
    session._link.client[:].execute("shared = 41", block=True)

    def work():
        from IPython import get_ipython

        return get_ipython().user_ns["shared"] + 1

    assert session.run(work) == dict.fromkeys(session.workers, 42)
    session._link.client[:].execute("del shared", block=True)


def test_a_user_that_redirects_output_gets_it_back(session):
    """contextlib.redirect_stdout in %px, while a task prints in the other thread."""
    view = session._link.client[2]
    code = (
        "import io, contextlib\n"
        "held = io.StringIO()\n"
        "with contextlib.redirect_stdout(held):\n"
        "    print('redirected')\n"
    )
    view.execute(code, block=True)

    view.execute("text = held.getvalue()", block=True)
    assert view.pull("text", block=True) == "redirected\n"
    task = session.spawn(print, "x", scope=ProcessScope(2))
    task.wait(20)
    assert task.stdout == "x\n"
    view.execute("del io, contextlib, held, text", block=True)


# -- engines of a user -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cluster", "client", "file", "id"])
def test_a_users_cluster_can_be_used_and_is_left_as_it_was(foreign, how):
    cluster, client = foreign
    view = client[:]
    view.execute("kept = 5", block=True)
    before = names(view)
    target = {
        "cluster": cluster,
        "client": client,
        "file": client_file(cluster),
        "id": cluster.cluster_id,
    }[how]

    with sk.connect(target, threads=2) as session:
        assert session.workers == [0, 1]
        assert set(session.fetch([session.spawn(sk.myid) for _ in range(20)], timeout=30)) == {0, 1}
        assert session.spawn(sk.task_processor, scope=ExactScope(ThreadProc(1, 1))).result(
            20
        ) == ThreadProc(1, 1)
        task = session.spawn(print, "x")
        task.wait(20)
        assert task.stdout == "x\n"
        assert view.pull("kept", block=True) == [5, 5]

    assert client.ids == [0, 1]
    assert names(view) == before
    assert view.apply_sync(add, 1) == [2, 2]
    reply = client[0].execute("print('still prints')", silent=False)
    reply.get(20)
    reply.wait_for_output(20)
    assert reply.stdout == "still prints\n"
    assert view.apply_sync(_routed) == [False, False]
    assert view.apply_sync(_threads) == [[], []]


def client_file(cluster):
    from pathlib import Path

    folder = Path(cluster.profile_dir) / "security"
    return str(folder / f"ipcontroller-{cluster.cluster_id}-client.json")


@ipyparallel.interactive
def _routed():
    import sys

    return "Routed" in type(sys.stdout).__name__ or "Routed" in type(sys.stderr).__name__


@ipyparallel.interactive
def _threads():
    import threading

    return sorted(t.name for t in threading.enumerate() if t.name.startswith("scopekit"))


def test_a_closed_connection_leaves_no_agent_in_the_engines(foreign):
    _, client = foreign
    with sk.connect(client) as session:
        session.spawn(add, 1).result(20)

    def homes():
        from scopekit.engine import entry

        return len(entry._homes)

    assert client[:].apply_sync(ipyparallel.interactive(homes)) == [0, 0]


def test_two_sessions_share_engines_and_not_values(foreign):
    _, client = foreign
    with sk.connect(client) as one, sk.connect(client, threads=2) as two:
        first = [one.spawn(add, i) for i in range(50)]
        second = [two.spawn(add, i + 100) for i in range(50)]
        chunk = one.tochunk("of one", scope=ProcessScope(0))
        other = two.tochunk("of two", scope=ProcessScope(0))

        assert two.fetch(second, timeout=30) == list(range(101, 151))
        assert one.fetch(first, timeout=30) == list(range(1, 51))
        assert one.spawn(str, chunk).result(20) == "of one"
        assert two.spawn(str, other).result(20) == "of two"
        prints = [s.spawn(print, s.id, scope=ProcessScope(0)) for s in (one, two)]
        for task in prints:
            task.wait(20)
        assert [task.stdout for task in prints] == [f"{one.id}\n", f"{two.id}\n"]


@pytest.mark.parametrize("first", [0, 1])
def test_closing_one_of_two_sessions_leaves_the_other(foreign, first):
    _, client = foreign
    sessions = [sk.connect(client), sk.connect(client)]
    kept = sessions[1 - first]
    try:
        sessions[first].close()

        task = kept.spawn(print, "kept", scope=ProcessScope(0))
        task.wait(20)
        assert task.stdout == "kept\n"
        assert kept.spawn(_place, scope=ProcessScope(1)).result(20) == ProcessScope(1)
        made = kept.spawn(lambda: [sk.tochunk("x")], scope=ProcessScope(1))
        assert made.result(20)[0].fetch() == "x"
    finally:
        kept.close()
    assert client[:].apply_sync(_routed) == [False, False]


def _place():
    return sk.ProcessScope()


def test_handles_inside_of_results_belong_to_the_session_they_came_from(foreign):
    """Two sessions on one engine, both of which number their chunks alike."""
    _, client = foreign
    with sk.connect(client) as one, sk.connect(client) as two:
        made = {s: s.spawn(_chunk_of, s.id, scope=ProcessScope(0)) for s in (one, two)}

        got = {s: made[s].result(20)[0].fetch() for s in (one, two)}

        assert got == {one: f"of {one.id}", two: f"of {two.id}"}


def test_handles_read_in_an_engine_belong_to_the_session_of_their_task(foreign):
    _, client = foreign
    with sk.connect(client) as one, sk.connect(client) as two:
        made = {s: s.spawn(_chunk_of, s.id, scope=ProcessScope(0)) for s in (one, two)}

        got = {s: s.spawn(_open_first, made[s], scope=ProcessScope(1)).result(20) for s in made}

        assert got == {one: f"of {one.id}", two: f"of {two.id}"}


def test_handles_can_be_read_in_an_engine_after_the_later_session_was_closed(foreign):
    _, client = foreign
    with sk.connect(client) as one:
        sk.connect(client).close()
        made = one.spawn(_chunk_of, one.id, scope=ProcessScope(0))

        assert one.spawn(_open_first, made, scope=ProcessScope(1)).result(20) == f"of {one.id}"
        assert one.spawn(_place, scope=ProcessScope(1)).result(20) == ProcessScope(1)


def _chunk_of(name):
    return [sk.tochunk(f"of {name}")]


def _open_first(items):
    return items[0].fetch()


def test_an_engine_busy_with_a_users_call_is_waited_for(foreign):
    _, client = foreign
    slow = client[0].apply_async(_nap, 1.0)

    with sk.connect(client) as session:
        assert session.spawn(add, 1, scope=ProcessScope(0)).result(20) == 2
    slow.get(20)


@ipyparallel.interactive
def _nap(seconds):
    import time

    time.sleep(seconds)


def test_nothing_to_connect_to_is_told_in_words(own_folders):
    with pytest.raises(sk.ScopekitError, match="no cluster found"):
        sk.connect("never-heard-of")
