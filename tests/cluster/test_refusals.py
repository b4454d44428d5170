"""Which error comes when: from the text of the program at the spawn, all else at the fetch.

The same program raises the same error in the same place, however fast its tasks are.
"""

import copy
import pickle
import sys

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, NodeScope, ProcessScope, ThreadProc, UnionScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

NODE_A, NODE_B = NodeScope("a"), NodeScope("b")
ZERO, TWO = ProcessScope(0), ProcessScope(2)


def chunk_there(scope):
    return sk.tochunk("made there", scope=scope)


def ignore(*_args, **_kwargs):
    return "ran"


def outcome(spawn):
    """Tell where and with what a spawn fails."""
    try:
        task = spawn()
    except sk.ScopekitError as error:
        return "spawn", type(error), str(error)
    task.wait(20)
    assert sk.isready(task)
    try:
        task.fetch(20)
    except sk.ScopekitError as error:
        return "fetch", type(error), str(error)
    return "value", None, ""


# -- at the spawn ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"scope": NODE_A, "result_scope": NODE_B}, sk.ScopeConflictError, "node b"),
        ({"scope": ProcessScope(77)}, sk.NoProcessorError, "worker 77"),
        ({"scope": NodeScope("a") & ProcessScope(2)}, sk.ScopeError, ""),
        ({"compute_scope": TWO, "result_scope": ZERO}, sk.ScopeConflictError, "compute_scope="),
        ({"scope": sk.scope(type=sk.CudaProc)}, sk.NoProcessorError, "0 of"),
        ({"single": 0, "scope": TWO}, sk.ScopeConflictError, "single="),
    ],
)
def test_options_that_leave_no_place_are_refused_at_the_spawn(session, given, kind, words):
    with pytest.raises((sk.SchedulingError, sk.ScopeError)) as caught:
        session.options(**given).spawn(ignore)
    assert isinstance(caught.value, (kind, sk.ScopeConflictError))
    assert words in str(caught.value)


@pytest.mark.parametrize("bad", ["nonsense", 5, [], {}, {"worker": 0, "nonsense": 1}, object()])
@pytest.mark.parametrize("key", ["scope", "compute_scope", "result_scope"])
def test_a_senseless_scope_is_refused_where_it_is_written(session, key, bad):
    with pytest.raises(sk.ScopeError):
        session.spawn(ignore, **{key: bad})
    with pytest.raises(sk.ScopeError):
        sk.options(**{key: bad})
    with pytest.raises(sk.ScopeError), sk.with_options(**{key: bad}):
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"nonsense": 1},
        {"single": 99},
        {"single": "0"},
        {"single": None, "wait_for": "soon"},
        {"wait_for": -1},
        {"wait_for": float("nan")},
        {"name": 3},
        {"idempotent": "no"},
    ],
)
def test_a_senseless_option_is_refused_where_it_is_written(session, options):
    with pytest.raises(sk.ScopeError):
        session.options(**options)


def test_an_option_with_a_typing_error_is_told_the_right_name(session):
    with pytest.raises(sk.ScopeError, match="Did you mean result_scope="):
        session.options(resultscope=ZERO)


@pytest.mark.parametrize("done", [True, False], ids=["input done", "input under way"])
def test_a_declared_result_scope_is_the_programs_text(session, done):
    """Timing must not decide where the error comes."""
    source = session.spawn(ignore, result_scope=ZERO)
    if done:
        source.wait(20)

    where, kind, words = outcome(lambda: session.spawn(ignore, source, scope=TWO))

    assert (where, kind) == ("spawn", sk.ScopeConflictError)
    assert "scope= allows worker 2" in words
    assert f"argument 1 (result of {source.name}) allows worker 0" in words


@pytest.mark.parametrize("done", [True, False], ids=["input done", "input under way"])
@pytest.mark.parametrize("depth", [1, 3])
def test_what_a_task_returns_is_not_the_programs_text(session, done, depth):
    source = session.spawn(chunk_there, ZERO, scope=ZERO)
    if done:
        source.wait(20)
    for _ in range(depth - 1):
        source = session.spawn(lambda x: x, source)

    where, kind, words = outcome(lambda: session.spawn(ignore, source, scope=TWO))

    if depth == 1:
        assert (where, kind) == ("fetch", sk.ScopeConflictError)
        assert "worker 0" in words
    else:
        assert where == "value"  # a plain value is free


@pytest.mark.parametrize("done", [True, False], ids=["input done", "input under way"])
def test_a_task_that_returns_what_was_not_declared_is_judged_by_what_it_is(session, done):
    """Declared for worker 0, but it returns a chunk of its node."""
    source = session.spawn(chunk_there, NODE_A, scope=ZERO, result_scope=UnionScope(ZERO, TWO))
    if done:
        source.wait(20)

    where, kind, _ = outcome(lambda: session.spawn(ignore, source, scope=TWO))

    assert (where, kind) == ("fetch", sk.ScopeConflictError)


@pytest.mark.parametrize("done", [True, False], ids=["input done", "input under way"])
def test_handles_and_results_together_are_judged_each_in_its_time(session, done):
    chunk = session.tochunk(1, scope=TWO)
    source = session.spawn(chunk_there, ZERO, scope=ZERO)
    if done:
        source.wait(20)

    assert outcome(lambda: session.spawn(ignore, chunk, source))[:2] == (
        "fetch",
        sk.ScopeConflictError,
    )
    assert outcome(lambda: session.spawn(ignore, chunk, source, scope=ZERO))[:2] == (
        "spawn",
        sk.ScopeConflictError,
    )


@pytest.mark.parametrize("done", [True, False], ids=["input done", "input under way"])
def test_the_handle_of_a_result_is_the_programs_text(session, done):
    """fetch(raw=True) has waited: the program knows the scope."""
    source = session.spawn(chunk_there, ZERO, scope=ZERO)
    chunk = session.fetch(source, raw=True)

    assert outcome(lambda: session.spawn(ignore, chunk, scope=TWO))[0] == "spawn"


def test_a_scope_on_a_thread_that_is_missing_is_no_conflict_at_the_fetch_either(session):
    source = session.spawn(chunk_there, ZERO, scope=ZERO)

    where, kind, words = outcome(
        lambda: session.spawn(ignore, source, result_scope=ExactScope(ThreadProc(0, 9)))
    )

    assert (where, kind) == ("spawn", sk.NoProcessorError)
    assert "thread 9" in words


# -- at the fetch -------------------------------------------------------------------------------


def test_wait_raises_nothing_whatever_happened(session):
    conflict = session.spawn(ignore, session.spawn(chunk_there, ZERO, scope=ZERO), scope=TWO)
    failed = session.spawn(len, 5)
    blocked = session.spawn(ignore, failed)
    tasks = [conflict, failed, blocked, session.spawn(ignore)]

    assert sk.wait(tasks, 20) is tasks
    assert [task.wait(20) for task in tasks] == tasks
    assert all(sk.isready(task) for task in tasks)
    assert [task.state for task in tasks] == ["failed", "failed", "blocked", "done"]


def test_a_refusal_at_the_fetch_comes_with_its_explanation(session):
    source = session.spawn(chunk_there, ZERO, scope=ZERO)
    task = session.options(name="refused", scope=TWO).spawn(ignore, source)

    with pytest.raises(sk.ScopeConflictError) as caught:
        task.fetch(20)

    explanation = caught.value.explanation
    assert explanation.task == "refused"
    assert explanation.outcome == "conflict"
    assert explanation.left == ()
    assert task.explain().outcome == "conflict"
    assert "refused cannot run anywhere" in str(caught.value)


def test_a_refusal_at_the_fetch_says_which_task_made_the_input(session):
    source = session.options(name="the-camera", scope=ZERO).spawn(chunk_there, ZERO)
    task = session.spawn(ignore, source, scope=TWO)

    assert "the-camera" in str(task.exception(20)) + "".join(
        getattr(task.exception(20), "__notes__", ())
    )


def test_refused_tasks_are_in_the_graph(session):
    with pytest.raises(sk.SchedulingError):
        session.options(name="refused-at-spawn", scope=ProcessScope(77)).spawn(ignore)
    source = session.spawn(chunk_there, ZERO, scope=ZERO)
    late = session.options(name="refused-at-fetch", scope=TWO).spawn(ignore, source)
    late.wait(20)

    names = {data.get("name"): data for _, data in session.graph().nodes(data=True)}

    assert "refused-at-spawn" in names
    assert "refused-at-fetch" in names
    assert names["refused-at-spawn"]["state"] == "failed"


def test_every_error_pickles_with_its_facts(session):
    errors = []
    for spawn in (
        lambda: session.spawn(ignore, scope=ProcessScope(77)),
        lambda: session.spawn(ignore, scope=ZERO, result_scope=TWO),
        lambda: session.spawn(chunk_there, TWO, scope=TWO).result(20),
        lambda: session.spawn(sys.exit).result(20),
        lambda: session.options(nonsense=1),
    ):
        with pytest.raises(sk.ScopekitError) as caught:
            spawn()
        errors.append(caught.value)

    for error in errors:
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
    assert pickle.loads(pickle.dumps(errors[0])).explanation.task == errors[0].explanation.task


def test_the_widening_that_an_explanation_offers_is_true(session):
    with pytest.raises(sk.SchedulingError) as caught:
        session.spawn(ignore, scope=ZERO, result_scope=TWO)

    for origin, count in caught.value.explanation.widening():
        kept = {"scope=": {"result_scope": TWO}, "result_scope=": {"scope": ZERO}}[origin]
        assert session.options(**kept).plan(ignore).left.__len__() == count


def test_plan_says_what_spawn_would_and_runs_nothing(session, tmp_path):
    trace = tmp_path / "ran"

    def mark():
        open(trace, "w").close()  # noqa: PTH123

    assert session.plan(mark).outcome == "placed"
    assert session.plan(mark, scope=ProcessScope(77)).outcome == "unmatched"
    assert session.plan(mark, scope=ZERO, result_scope=TWO).outcome == "conflict"
    assert session.plan(mark, scope=TWO).chosen.worker == 2
    assert not trace.exists()


def test_plan_of_a_scope_where_all_is_busy_still_says_where(session, tmp_path):
    from pathlib import Path

    gate = tmp_path / "gate"

    def hold_line(path):
        import time

        limit = time.monotonic() + 30
        while not Path(path).exists() and time.monotonic() < limit:
            time.sleep(0.005)

    slot = ExactScope(ThreadProc(3, 1))
    tasks = [session.spawn(hold_line, str(gate), scope=slot) for _ in range(6)]
    try:
        assert session.plan(ignore, scope=slot).left == (ThreadProc(3, 1),)
        assert tasks[-1].explain().outcome in ("queued", "placed")
        assert "busy" in tasks[-1].explain().sentence()
    finally:
        gate.touch()
    session.fetch(tasks, timeout=30)


def test_satisfiable_says_whether_there_is_a_processor(session):
    assert session.satisfiable(ZERO)
    assert session.satisfiable(NODE_A & ProcessScope(1))
    assert not session.satisfiable(ProcessScope(77))
    assert sk.satisfiable(sk.scope(worker=3, thread=1))
    assert not sk.satisfiable(sk.scope(type=sk.CudaProc))


def test_a_perimeter_is_named_in_the_refusal_and_holds_for_inputs(session):
    chunk = session.tochunk(1, scope=TWO)

    with sk.perimeter(NODE_A), pytest.raises(sk.ScopeConflictError) as caught:
        session.spawn(ignore, chunk)
    assert "perimeter" in str(caught.value)
    with sk.perimeter(NODE_B):
        assert session.spawn(sk_myid, chunk).result(20) == 2


def sk_myid(*_):
    return sk.myid()


def test_a_perimeter_also_bounds_where_tochunk_hands_a_value(session):
    with sk.perimeter(NODE_B):
        chunk = session.tochunk("x", scope=UnionScope(ZERO, TWO))

    assert chunk.worker == 2


def test_options_of_blocks_are_named_in_the_refusal(session):
    with sk.with_options(scope=ZERO), pytest.raises(sk.ScopeConflictError) as caught:
        session.spawn(ignore, result_scope=TWO)
    assert "with_options scope=" in str(caught.value)


def test_run_stays_inside_of_a_perimeter_or_says_so(session):
    with sk.perimeter(NODE_A), pytest.raises(sk.SchedulingError, match="perimeter"):
        session.run(sk.myid)
    with sk.perimeter(NODE_A):
        assert session.run(sk.myid, scope=NODE_A) == {0: 0, 1: 1}


def test_explain_says_of_a_task_that_waits_what_it_waits_for(session, tmp_path):
    from pathlib import Path

    gate = tmp_path / "gate"

    def hold(path):
        import time

        limit = time.monotonic() + 30
        while not Path(path).exists() and time.monotonic() < limit:
            time.sleep(0.005)

    slot = ExactScope(ThreadProc(3, 1))
    slow = session.options(name="slow", scope=slot).spawn(hold, str(gate))
    needs = session.options(name="needs").spawn(ignore, slow)
    others = [session.options(scope=slot).spawn(hold, str(gate)) for _ in range(4)]
    unmatched = session.options(scope=ProcessScope(77), wait_for=60).spawn(ignore)
    try:
        missing = needs.explain().missing[0]
        assert (missing.name, missing.processor) == ("slow", ThreadProc(3, 1))
        last = others[-1].explain()
        assert last.ahead > 0
        assert last.relief()[0][0] == "scope="
        assert "there would be" in last.text()
        assert 50 < unmatched.explain().seconds_left <= 60
        assert "there would be" in last._repr_html_()
    finally:
        gate.touch()
        unmatched.cancel()
    session.fetch([needs, *others], timeout=30)
