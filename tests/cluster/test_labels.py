"""Labels on workers and nodes, given at the start or on living engines."""

import os
import sys
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import AnyScope, ExactScope, LabelScope, NodeScope, ProcessScope, ThreadProc

# Functions travel as those of a notebook do.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

GPU = LabelScope("gpu")


@pytest.fixture(scope="module")
def labelled(own_folders):
    """Four engines: 0 and 1 on node a, 2 and 3 on node b; b has gpus, 1 and the client cameras."""
    labels = {"b": "gpu", 1: ["camera", "fast"], "client": "camera"}
    with sk.start(nodes={"a": 2, "b": 2}, threads=2, labels=labels) as session:
        session.options(single="client").spawn(int).result(20)
        yield session


@pytest.fixture
def session(labelled):
    """The same, with the labels as they were at the start."""
    yield labelled
    for worker, labels in labelled.labels.items():
        own = [label for label in labels if label.startswith("own")]
        if own:
            labelled.unlabel(worker, *own, force=True)


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "open"
    yield str(path)
    path.touch()


def where(*_args):
    return sk.myid()


def hold(path, began=None):
    if began:
        open(began, "w").close()  # noqa: PTH123  # the module travels by value
    deadline = time.monotonic() + 20
    while not os.path.exists(path):  # noqa: PTH110  # likewise
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return sk.myid()


def make(label):
    return sk.tochunk([label], scope=sk.LabelScope(label))


# -- given at the start ----------------------------------------------------------------------


def test_workers_and_nodes_have_the_labels_that_they_were_given(session):
    assert session.labels == {
        1: ("camera", "fast"),
        2: ("gpu",),
        3: ("gpu",),
        "client": ("camera",),
    }
    assert session.fetch([session.spawn(where, scope=GPU) for _ in range(8)]) != []
    assert {session.spawn(where, scope=sk.scope(label="gpu")).result(20) for _ in range(8)} <= {
        2,
        3,
    }
    assert session.spawn(where, scope=LabelScope("camera") & sk.DefaultScope()).result(20) == 1


def test_what_is_excluded_is_nowhere_used(session):
    def workers(scope):
        return {processor.worker for processor in session.processors(scope)}

    assert workers(~GPU) == {0, 1, "client"}
    assert workers(~sk.scope(label="gpu") & sk.DefaultScope()) == {0, 1}
    assert workers(AnyScope() - NodeScope("a")) == {2, 3, "client"}
    assert workers(sk.DefaultScope() - LabelScope("fast")) == {0, 2, 3}
    tasks = [session.spawn(where, scope=sk.DefaultScope() - GPU) for _ in range(20)]
    assert set(session.fetch(tasks)) <= {0, 1}


def test_a_value_of_a_label_stays_with_it(session):
    chunk = session.tochunk("for gpus", scope=GPU)

    assert chunk.worker in (2, 3)
    assert session.spawn(where, chunk).result(20) in (2, 3)
    with pytest.raises(sk.ScopeViolationError):
        chunk.fetch()
    with pytest.raises(sk.NoProcessorError, match="label gpu"):
        session.spawn(where, chunk, scope=NodeScope("a"))


def test_a_task_sees_the_labels(session):
    def inside():
        return sk.num_processors(sk.LabelScope("gpu")), sk.ThreadProc(1, 0) in sk.LabelScope("fast")

    assert session.spawn(inside, scope=ProcessScope(0)).result(20) == (4, True)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"c": "gpu"}, "no node 'c'"),
        ({0: 3}, "3 is no label"),
        ({0: ["gpu", ""]}, "'' is no label"),
        ({-1: "gpu"}, "-1 names no worker"),
        (["gpu"], "says not where"),
    ],
)
def test_labels_that_make_no_sense_are_refused_before_engines_start(labels, told):
    with pytest.raises(sk.ScopeError, match=told):
        sk.start(nodes={"a": 1}, labels=labels)


def test_a_worker_that_does_not_come_cannot_be_labelled():
    with pytest.raises(sk.ScopeError, match="no worker 7 to label; the workers are 0"):
        sk.start(1, labels={7: "gpu"})


def test_in_this_process_labels_count_as_well():
    with sk.start(0, labels={0: "here"}) as session:
        assert session.spawn(where, scope=LabelScope("here")).result() == 0
        session.unlabel(0, "here")
        with pytest.raises(sk.NoProcessorError):
            session.spawn(where, scope=LabelScope("here"))


# -- on living engines -----------------------------------------------------------------------


def test_a_label_brings_a_task_that_waits_for_it(session):
    task = session.options(wait_for=60, scope=LabelScope("own late")).spawn(where)
    assert task.state == "unmatched"
    session.label(0, "own late")

    assert task.result(20) == 0
    assert session.labels[0] == ("own late",)


def test_what_waits_in_line_is_judged_anew(session, gate):
    session.label(0, "own")
    scope = LabelScope("own")
    running = [session.spawn(hold, gate, scope=scope) for _ in range(2)]
    waiting = [session.options(wait_for=60, scope=scope).spawn(where) for _ in range(20)]
    session.label(1, "own")

    assert set(session.fetch(waiting, timeout=20)) == {1}
    assert not any(task.done() for task in running)


def test_what_has_not_begun_comes_back_and_what_runs_goes_on(session, gate, tmp_path, until):
    session.label(0, "own")
    session.label(1, "own")
    began = tmp_path / "began"
    here = LabelScope("own") & ExactScope(ThreadProc(0, 0))
    running = session.spawn(hold, gate, str(began), scope=here)
    until(began.exists, "the task runs")
    either = [
        session.options(scope=here | LabelScope("own") & ProcessScope(1)).spawn(where)
        for _ in range(3)
    ]
    nowhere = session.spawn(where, scope=here)
    session.unlabel(0, "own")

    assert session.fetch(either, timeout=20) == [1, 1, 1]
    with open(gate, "w"):  # noqa: PTH123
        pass
    assert running.result(20) == 0
    with pytest.raises(sk.NoProcessorError, match="label own"):
        nowhere.result(20)


def test_a_label_that_is_excluded_sends_away_what_has_not_begun(session, gate):
    scope = ~LabelScope("own kept") & NodeScope("a")
    held = [session.spawn(hold, gate, scope=ProcessScope(w)) for w in (0, 1)]
    tasks = [session.spawn(where, scope=scope) for _ in range(10)]
    session.label(0, "own kept")
    with open(gate, "w"):  # noqa: PTH123
        pass

    assert set(session.fetch(tasks, timeout=20)) <= {0, 1}
    assert session.fetch(held) == [0, 1]
    after = [session.spawn(where, scope=scope) for _ in range(10)]
    assert set(session.fetch(after)) == {1}


def test_a_label_of_a_node_counts_for_all_of_it_and_for_those_who_join():
    with sk.start(nodes={"a": 1, "b": 1}) as session:
        session.label("b", "gpu")
        (joined,) = session.add_workers(1, node="b")

        assert {p.worker for p in session.processors(GPU)} == {1, joined}
        session.unlabel("b", "gpu")
        assert session.labels == {}


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda s: s.label(9, "x"), "no worker 9 to label; the workers are 0, 1, 2, 3"),
        (lambda s: s.label("z", "x"), "no node 'z' to label; the nodes are"),
        (lambda s: s.label(0), "no label is named"),
        (lambda s: s.label(0, ""), "'' is no label"),
        (lambda s: s.unlabel(0, "never"), "worker 0 was not given the label 'never'"),
        (lambda s: s.unlabel(2, "gpu"), r"unlabel\('b'"),
    ],
)
def test_what_cannot_be_labelled_is_refused(session, ask, told):
    before = session.labels
    with pytest.raises(sk.ScopeError, match=told):
        ask(session)
    assert session.labels == before


# -- values whose label goes -----------------------------------------------------------------


def test_a_value_leaves_a_worker_whose_label_goes(session, until):
    session.label(0, "own")
    session.label(3, "own")
    made = session.spawn(make, "own", scope=LabelScope("own") & ProcessScope(0))
    made.wait(20)
    chunk = session.fetch(made, raw=True)
    session.unlabel(0, "own")

    until(lambda: holders(session, chunk) == (3,), "the value moves")
    assert session.spawn(lambda v: (sk.myid(), v), chunk).result(20) == (3, ["own"])
    assert not held_at(session, 0, chunk)


def test_a_value_leaves_a_worker_that_gets_a_label_it_must_not_meet(session, until):
    scope = ~LabelScope("own kept") & NodeScope("a")
    chunk = session.tochunk("x", scope=scope)
    first = chunk.worker
    session.label(first, "own kept")

    until(lambda: holders(session, chunk) == (1 - first,), "the value moves")
    assert session.spawn(where, chunk).result(20) == 1 - first


def holders(session, chunk):
    return session._driver.scheduler.chunks[chunk.id].holders


def held_at(session, worker, chunk):
    """Whether an engine still has a chunk in its store; asked by %px, behind everything."""

    def look(session_id, chunk_id):
        from scopekit.engine import entry

        return chunk_id in entry._homes[session_id].agent.store

    view = session._link.client[worker]
    deadline = time.monotonic() + 20
    while (found := view.apply_sync(look, session.id, chunk.id)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_a_value_that_nobody_may_have_any_more_is_not_lost_by_the_way(session):
    session.label(0, "own")
    chunk = session.tochunk("dear", scope=LabelScope("own"))
    session.spawn(len, chunk).wait(20)

    with pytest.raises(sk.ScopekitError, match=r"would be lost.*\n.*chunk .*label own"):
        session.unlabel(0, "own")
    assert session.labels[0] == ("own",)
    assert session.spawn(str.upper, chunk).result(20) == "DEAR"


def test_a_value_that_nobody_may_have_any_more_is_gone_if_that_is_wanted(session):
    session.label(0, "own")
    chunk = session.tochunk("dear", scope=LabelScope("own"))
    session.spawn(len, chunk).wait(20)
    session.unlabel(0, "own", force=True)
    session.label(0, "own")

    assert not held_at(session, 0, chunk)
    with pytest.raises(sk.ChunkLostError, match="since labels were changed"):
        session.spawn(str.upper, chunk).result(20)


def hears(session, worker):
    """Wait until an engine has heard of the labels there are: orders come in their order."""
    thread = ExactScope(ThreadProc(worker, 1))
    session.spawn(int, scope=thread).result(20)


def test_a_result_that_may_not_stay_where_it_was_made_is_refused(
    session, gate, tmp_path, until, orders_reach_busy_engines
):
    session.label(0, "own")
    began = tmp_path / "began"
    task = session.spawn(
        hold, gate, str(began), scope=ProcessScope(0), result_scope=LabelScope("own")
    )
    until(began.exists, "the task runs")
    session.unlabel(0, "own")
    hears(session, 0)
    with open(gate, "w"):  # noqa: PTH123
        pass

    with pytest.raises(sk.ScopeViolationError, match="labels were changed"):
        task.result(20)


def test_exact_scopes_do_not_care_for_labels(session):
    session.label(0, "own")
    task = session.spawn(where, scope=ExactScope(ThreadProc(0, 0)))
    session.unlabel(0, "own")

    assert task.result(20) == 0


def test_labels_that_come_and_go_lose_no_value_and_no_task(session, until):
    scope = LabelScope("own moving")
    session.label(3, "own moving")
    kept, tasks = [], []
    for number in range(60):
        kept.append(session.tochunk([number], scope=scope))
        task = session.options(wait_for=20).spawn(
            lambda *values: [v[0] for v in values], *kept[-3:]
        )
        tasks.append(task)
        session.label(number % 3, "own moving")
        if number % 3 == 2:
            session.unlabel((number // 3) % 3, "own moving")

    expected = [list(range(max(0, n - 2), n + 1)) for n in range(60)]
    assert session.fetch(tasks, timeout=30) == expected
    until(lambda: all_inside(session), "every value is where it may be", 8)
    sums = [session.spawn(sum, chunk) for chunk in kept]
    assert session.fetch(sums, timeout=30) == list(range(60))


def firsts(*values):
    return [value[0] for value in values]


def all_inside(session):
    topology, chunks = session.topology, session._driver.scheduler.chunks
    with session._driver.lock:
        held = [(chunk, worker) for chunk in chunks.values() for worker in chunk.holders]
    return all(topology.admits(chunk.scope, worker) for chunk, worker in held)
