"""The conformance cases of placement, on real engines.

Workers 0 and 1 are on node a, 2 and 3 on node b, two threads each; the driver process
of the cases is the client.
"""

import gc
import sys
import threading

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, NodeScope, ProcessScope, ThreadProc, UnionScope

# Functions travel as those of a notebook do.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

E1 = ExactScope(ThreadProc(0, 0))
E12 = ExactScope(ThreadProc(0, 1))
E2 = ExactScope(ThreadProc(2, 1))
S1 = UnionScope(ExactScope(ThreadProc(0, 0)), ExactScope(ThreadProc(0, 1)))
S2 = UnionScope(ExactScope(ThreadProc(1, 0)), ExactScope(ThreadProc(1, 1)))
S3 = UnionScope(ExactScope(ThreadProc(2, 0)), ExactScope(ThreadProc(3, 1)))
NODE_A, NODE_B = NodeScope("a"), NodeScope("b")


def where(*_args, **_kwargs):
    return sk.myid()


def proc(*_args, **_kwargs):
    return sk.task_processor()


def node(*_args, **_kwargs):
    return sk.current_task().node


def chunk_there(scope):
    return sk.tochunk("made there", scope=scope)


def final(task):
    return task._session.fetch(task, raw=True).scope


def raised_at_spawn(spawn):
    with pytest.raises(sk.SchedulingError) as caught:
        spawn()
    return caught.value


# -- placement from argument scopes -----------------------------------------------------


def test_a_union_of_the_same_scope_twice_is_that_scope(session):
    """C004."""
    chunk = session.tochunk(None, scope=UnionScope(E1, E1))

    assert session.spawn(proc, chunk).result() == ThreadProc(0, 0)


def test_scopes_without_a_place_name_the_place_of_their_task(session):
    """C014."""

    def here():
        return sk.ProcessScope(), sk.NodeScope()

    task = session.spawn(here, scope=ProcessScope(2))

    process, machine = task.result()
    assert process == ProcessScope(2)
    assert machine == NODE_B


def test_compatible_processors_follow_with_options(session):
    """C086."""
    with sk.with_options(scope=sk.scope(worker=0)):
        assert set(session.processors()) == {ThreadProc(0, 0), ThreadProc(0, 1)}
        assert sk.num_processors() == 2


@pytest.mark.parametrize(
    ("scopes", "look", "expected"),
    [
        ((NODE_A, NODE_B), node, ("a", "b")),
        ((ProcessScope(0), ProcessScope(2)), where, (0, 2)),
        ((E1, E2), proc, (ThreadProc(0, 0), ThreadProc(2, 1))),
    ],
    ids=["C089 nodes", "C092 processes", "C095 processors"],
)
def test_tasks_alternate_with_the_scopes_of_their_chunks(session, scopes, look, expected):
    """C089, C092, C095."""
    tasks = [session.spawn(look, session.tochunk(None, scope=scopes[i % 2])) for i in range(20)]

    assert session.fetch(tasks) == [expected[i % 2] for i in range(20)]


@pytest.mark.parametrize(
    ("scope", "look", "expected"),
    [
        (NODE_A, node, "a"),
        (ProcessScope(0), where, 0),
        (E1, proc, ThreadProc(0, 0)),
        (UnionScope(E1), proc, ThreadProc(0, 0)),
    ],
    ids=["C090", "C093", "C096", "C097"],
)
def test_two_arguments_of_one_scope_run_in_it(session, scope, look, expected):
    """C090, C093, C096, C097."""
    one, other = session.tochunk(1, scope=scope), session.tochunk(2, scope=scope)

    assert session.spawn(look, one, other).result() == expected


CLASHES = [
    (NODE_A, NODE_B),
    (NODE_B, NODE_A),
    (ProcessScope(0), ProcessScope(2)),
    (ProcessScope(2), ProcessScope(0)),
    (E1, E2),
    (E2, E1),
    (E1, E12),
    (E12, E1),
]


@pytest.mark.parametrize(("one", "other"), CLASHES)
def test_chunks_that_never_meet_are_refused_at_the_spawn(session, one, other):
    """C091, C093, C096: the program's text decides, so the spawn raises."""
    first, second = session.tochunk(1, scope=one), session.tochunk(2, scope=other)

    error = raised_at_spawn(lambda: session.spawn(where, first, second))

    assert isinstance(error, sk.ScopeConflictError)
    assert one.describe() in str(error)
    assert other.describe() in str(error)


@pytest.mark.parametrize("done_first", [True, False], ids=["inputs done", "inputs under way"])
@pytest.mark.parametrize(("one", "other"), CLASHES)
def test_results_that_never_meet_are_refused_at_the_fetch(session, one, other, done_first):
    """C091, C093, C096: only the run tells the scope of a result, so fetch raises."""
    first = session.spawn(chunk_there, one, scope=one)
    second = session.spawn(chunk_there, other, scope=other)
    if done_first:
        session_wait(first, second)

    task = session.spawn(where, first, second)

    task.wait()
    assert task.done()
    with pytest.raises(sk.ScopeConflictError, match="never meet"):
        task.fetch()


def session_wait(*tasks):
    for task in tasks:
        task.wait(20)


@pytest.mark.parametrize("scope", [NODE_B, ProcessScope(2), E2, UnionScope(E2, E2)])
def test_a_chunk_made_outside_its_scope_moves_into_it(session, scope):
    """C099."""
    chunk = session.tochunk([1, 2, 3], scope=scope)

    assert chunk.processor in session.processors(scope)
    assert chunk.worker != "client"
    ran, value = session.spawn(lambda x: (sk.task_processor(), x), chunk).result()
    assert ran in session.processors(scope)
    assert value == [1, 2, 3]


def test_a_keyword_argument_constrains(session):
    """C100."""
    chunk = session.tochunk("x", scope=E2)

    assert session.spawn(proc, data=chunk).result() == ThreadProc(2, 1)
    error = raised_at_spawn(lambda: session.spawn(proc, data=chunk, scope=NODE_A))
    assert "argument 'data'" in str(error)


@pytest.mark.parametrize(
    "hide",
    [
        lambda c: [c],
        lambda c: (1, c),
        lambda c: {"deep": [{"deeper": (c,)}]},
        lambda c: {c},
        lambda c: frozenset({c}),
    ],
    ids=["list", "tuple", "dict", "set", "frozenset"],
)
def test_a_chunk_in_a_container_constrains_and_is_replaced_by_its_value(session, hide):
    chunk = session.tochunk("found", scope=E2)

    ran, told = session.spawn(lambda x: (sk.task_processor(), repr(x)), hide(chunk)).result()

    assert ran == ThreadProc(2, 1)
    assert "'found'" in told


def test_a_result_with_a_scope_of_its_own_draws_its_reader(session):
    """C102."""
    camera = session.spawn(lambda: sk.tochunk("cam", scope=ProcessScope(2)), scope=ProcessScope(2))

    assert session.spawn(where, camera).result() == 2
    assert final(camera) == ProcessScope(2)


def test_a_plain_result_of_a_scoped_argument_is_free(session):
    """C103."""
    camera = session.spawn(lambda: sk.tochunk("cam", scope=ProcessScope(2)), scope=ProcessScope(2))
    frame = session.spawn(str.upper, camera)

    assert frame.result() == "CAM"
    assert final(frame) == sk.AnyScope()
    assert session.spawn(where, frame, scope=ProcessScope(0)).result() == 0


def test_an_unscoped_chunk_leaves_the_default_placement(session):
    """C104."""
    chunk = session.tochunk(1)

    task = session.spawn(proc, chunk)

    assert task.result() in session.processors(sk.DefaultScope())
    assert [operand.origin for operand in task.explain().operands] == ["default"]


# -- compute_scope and result_scope -------------------------------------------------------


def groups(session, scope):
    return set(session.processors(scope))


def test_scope_says_where_to_run_and_nothing_of_the_result(session):
    """C105."""
    task = session.spawn(proc, 10, scope=S1)

    assert task.result() in groups(session, S1)
    assert final(task) == sk.AnyScope()


@pytest.mark.parametrize("decoy", [None, S2])
def test_compute_scope_wins_over_scope(session, decoy):
    """C106."""
    task = session.spawn(proc, 10, compute_scope=S1, scope=decoy)

    assert task.result() in groups(session, S1)
    assert final(task) == sk.AnyScope()


def test_a_result_scope_also_says_where_to_run(session):
    """C107."""
    task = session.spawn(proc, 10, result_scope=UnionScope(S1, ExactScope(ThreadProc("client", 0))))

    assert task.result() in groups(session, UnionScope(S1, ExactScope(ThreadProc("client", 0))))


@pytest.mark.parametrize("key", ["scope", "compute_scope"])
def test_the_result_keeps_its_whole_result_scope(session, key):
    """C109: not only the part in which the task ran."""
    task = session.spawn(where, 10, **{key: S1}, result_scope=UnionScope(S1, S2))

    task.wait()
    assert final(task) == UnionScope(S1, S2)
    assert task.processor in groups(session, S1)


def test_a_decoy_scope_does_not_change_a_result_scope(session):
    """C109."""
    task = session.spawn(
        where, 10, scope=S3, compute_scope=UnionScope(S1, S2), result_scope=UnionScope(S2, S3)
    )

    task.wait()
    assert task.processor in groups(session, S2)
    assert final(task) == UnionScope(S2, S3)


def test_compute_and_result_scopes_that_never_meet_are_refused_at_the_spawn(session):
    """C110."""
    error = raised_at_spawn(lambda: session.spawn(proc, compute_scope=S1, result_scope=S2))

    assert isinstance(error, sk.ScopeConflictError)
    assert "compute_scope=" in str(error)
    assert "result_scope=" in str(error)


def test_a_function_with_a_scope_constrains_like_an_argument(session):
    """C111."""
    function = session.tochunk(proc, scope=UnionScope(S2, S3))

    task = session.spawn(function, 10, scope=UnionScope(S1, S2))

    assert task.result() in groups(session, S2)
    assert final(task) == sk.AnyScope()


def test_compute_scope_wins_also_beside_a_function_with_a_scope(session):
    """C112."""
    function = session.tochunk(proc, scope=UnionScope(S2, S3))

    task = session.spawn(function, compute_scope=UnionScope(S1, S2), scope=S3)

    assert task.result() in groups(session, S2)


def test_a_function_outside_of_all_other_scopes_is_refused(session):
    """C114."""
    function = session.tochunk(proc, scope=UnionScope(S1, S2))

    error = raised_at_spawn(lambda: session.spawn(function, scope=S3))
    assert "function allows" in str(error)
    raised_at_spawn(lambda: session.spawn(function, compute_scope=S1, result_scope=S2))


def test_the_result_of_a_task_can_be_called(session):
    """C111: a function that only exists on an engine."""

    def make():
        return sk.tochunk(lambda x: (sk.myid(), x), scope=ProcessScope(3))

    made = session.spawn(make, scope=ProcessScope(3))

    assert session.spawn(made, 5).result() == (3, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"scope": S2},
        {"compute_scope": S2},
        {"compute_scope": S2, "scope": S1},
        {"result_scope": S2},
        {"compute_scope": S2, "result_scope": S2},
    ],
    ids=["C115 scope", "compute", "compute and decoy", "result", "both"],
)
def test_an_argument_outside_of_the_options_is_refused(session, options):
    """C115, C116."""
    chunk = session.tochunk(1, scope=S1)

    assert isinstance(
        raised_at_spawn(lambda: session.spawn(proc, chunk, **options)), sk.ScopeConflictError
    )


def test_an_argument_and_a_scope_meet_where_they_overlap(session):
    """C117."""
    chunk = session.tochunk(1, scope=UnionScope(S1, S2))

    task = session.spawn(proc, chunk, scope=UnionScope(S2, S3))

    assert task.result() in groups(session, S2)
    assert final(task) == sk.AnyScope()


def test_argument_compute_and_result_scope_meet_where_all_overlap(session):
    """C119."""
    chunk = session.tochunk(1, scope=UnionScope(S1, S2))

    task = session.spawn(
        proc, chunk, compute_scope=UnionScope(S2, S3), result_scope=UnionScope(S1, S2, S3)
    )

    task.wait()
    assert task.processor in groups(session, S2)
    assert final(task) == UnionScope(S1, S2, S3)


def test_a_results_processor_is_the_one_that_ran_it(session):
    """C124."""
    for processor in session.processors(NODE_B):
        task = session.spawn(proc, scope=ExactScope(processor))
        assert session.fetch(task, raw=True).processor == task.result() == processor


# -- impossible or unmatched -----------------------------------------------------------------


@pytest.mark.parametrize(
    "scope",
    [ExactScope(ThreadProc(0, 99)), ExactScope(sk.OSProc("client")), sk.scope(type=sk.CudaProc)],
    ids=["no such thread", "a process is no processor", "C125 no such kind"],
)
def test_a_scope_without_a_processor_is_refused_at_the_spawn(session, scope):
    """C125, C126."""
    error = raised_at_spawn(lambda: session.spawn(where, scope=scope))

    assert scope.describe() in str(error)
    assert error.explanation.left == ()


def test_a_scope_that_could_match_later_is_no_conflict(session):
    """C126: the thread does not exist, but the scopes do not contradict each other."""
    error = raised_at_spawn(lambda: session.spawn(where, scope=ExactScope(ThreadProc(0, 99))))

    assert isinstance(error, sk.NoProcessorError)
    assert "0, 1, 2, 3" in str(error)


def test_single_client_runs_in_this_process(session):
    """C127."""
    main = threading.main_thread().ident

    def look():
        import os

        return sk.myid(), os.getpid()

    import os

    assert session.options(single="client").spawn(look).result() == ("client", os.getpid())
    assert main == threading.main_thread().ident


@pytest.mark.parametrize("worker", [0, 1, 2, 3])
def test_single_in_a_block_holds_for_all_its_tasks(session, worker):
    """C129."""
    with sk.with_options(single=worker):
        tasks = [session.spawn(where) for _ in range(6)]

    assert session.fetch(tasks) == [worker] * 6


def test_a_dependant_of_an_unplaceable_task_names_it_and_others_go_on(session):
    """C130."""
    camera = session.spawn(chunk_there, ProcessScope(0), scope=ProcessScope(0))
    unplaceable = session.options(name="unplaceable", scope=ProcessScope(2)).spawn(where, camera)
    dependant = session.options(name="dependant").spawn(where, unplaceable)
    independent = session.spawn(where)

    with pytest.raises(sk.ScopeConflictError) as caught:
        dependant.fetch()
    assert "unplaceable" in str(caught.value)
    assert any("unplaceable" in note and "dependant" in note for note in caught.value.__notes__)
    assert independent.result() in session.workers


def test_a_task_waits_for_a_worker_of_its_scope(own_folders):
    """C132."""
    with sk.start(1) as session:
        with pytest.raises(sk.SchedulingError):
            session.spawn(where, scope=ProcessScope(1))
        task = session.options(scope=ProcessScope(1), wait_for=60).spawn(where)
        dependant = session.spawn(lambda x: x + 1, task)
        assert task.state == "unmatched"
        joining = threading.Thread(target=session.add_workers, args=(1,))
        joining.start()
        try:
            assert task.result(60) == 1
            assert dependant.result(20) == 2
        finally:
            joining.join()
        assert session.workers == [0, 1]


def test_waiting_for_a_worker_ends_in_an_error_that_names_the_scope(session):
    """C132."""
    task = session.options(scope=ProcessScope(77), wait_for=0.2).spawn(where)

    task.wait(20)
    with pytest.raises(sk.NoProcessorError, match="worker 77"):
        task.fetch()


def test_waiting_for_a_worker_ends_when_its_time_is_over(session):
    """C132."""
    gc.collect()
    kept = session.spawn(int)
    kept.result(20)
    task = session.options(scope=ProcessScope(77), wait_for=0.1).spawn(where)

    task.wait(1)


def test_a_task_that_could_never_be_placed_does_not_wait(session):
    """C132: waiting is for what may come, not for what contradicts itself."""
    with pytest.raises(sk.ScopeConflictError):
        session.options(scope=E1, result_scope=E2, wait_for=600).spawn(where)


@pytest.mark.parametrize("refused", [False, True], ids=["placed", "refused"])
def test_an_explanation_names_each_operand_and_its_counts_add_up(session, refused):
    """C134."""
    chunk = session.tochunk(1, scope=UnionScope(ProcessScope(0), ProcessScope(2)))
    result = NODE_B if not refused else ExactScope(ThreadProc(1, 0))

    def spawn():
        return session.spawn(where, chunk, scope=NODE_A if refused else None, result_scope=result)

    explanation = raised_at_spawn(spawn).explanation if refused else spawn().explain()

    origins = [operand.origin for operand in explanation.operands]
    assert origins == ["scope=" if refused else "default", "result_scope=", "argument 1"]
    removed = sum(operand.removed for operand in explanation.operands)
    assert removed + len(explanation.left) == explanation.candidates
    for operand in explanation.operands:
        assert operand.origin in explanation.text()
        assert operand.scope.describe() in explanation.text()


# -- errors, waiting ---------------------------------------------------------------------------


def fail():
    raise ZeroDivisionError("on purpose")


def test_waiting_for_a_failed_task_does_not_raise(session):
    """C163."""
    task = session.spawn(fail)

    assert sk.wait(task) is task
    assert sk.isready(task)
    with pytest.raises(ZeroDivisionError):
        sk.fetch(task)


def test_only_a_dependants_error_names_another_task(session):
    """C164."""
    failing = session.options(name="failing").spawn(fail)
    dependant = session.options(name="dependant").spawn(where, failing)

    direct = failing.exception()
    inherited = dependant.exception()

    assert any("failing" in note for note in direct.__notes__)
    assert not any("dependant" in note for note in direct.__notes__)
    assert any("failing" in note and "dependant" in note for note in inherited.__notes__)


def test_an_error_keeps_its_type_and_travels_on(session):
    """C166."""
    import pickle

    error = session.spawn(fail, scope=ProcessScope(2)).exception()

    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ZeroDivisionError
    assert str(again) == "on purpose"


def test_a_chain_of_five_hundred_completes_though_nobody_holds_its_links(session):
    """C168."""
    task = session.spawn(int)
    for _ in range(500):
        task = session.spawn(lambda x: x + 1, task)

    assert task.result(60) == 500


def test_a_function_that_an_engine_cannot_import_fails_its_tasks_alone(
    session, tmp_path, monkeypatch
):
    """C170."""
    (tmp_path / "only_here_module.py").write_text("def work():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here_module

    tasks = [session.spawn(only_here_module.work) for _ in range(5)]

    for task in tasks:
        with pytest.raises(ModuleNotFoundError, match="only_here_module"):
            task.result(20)
    assert session.spawn(where).result(20) in session.workers


def test_what_happened_is_told_without_being_asked_for_and_stays_to_be_read_again(session):
    """C180."""
    task = session.spawn(where)
    task.result(20)
    events = session.events()

    assert {"TaskSpawned", "RunFinished"} <= {
        each["kind"] for each in events if each["task"] == task.id
    }
    assert len({frozenset(each) for each in events}) == 1, "each says the same things"
    assert session.events()[: len(events)] == events


def test_what_happened_can_be_drawn_and_told(session, tmp_path):
    """C181."""
    made = session.spawn(where)
    session.fetch(session.spawn(str, made), timeout=20)
    graph = session.graph()
    for name, plot in (("dag", sk.plot_dag), ("timeline", sk.plot_timeline)):
        axes = plot(graph)
        axes.figure.savefig(tmp_path / f"{name}.svg")

        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    assert graph.number_of_edges() > 0
    assert "done" in session.summary()


# -- data access --------------------------------------------------------------------------------


def test_the_client_may_not_fetch_what_is_valid_elsewhere(session):
    """C185, C186."""
    chunk = session.tochunk("secret", scope=NODE_B)

    with pytest.raises(sk.ScopeViolationError, match="the client"):
        chunk.fetch()


def test_a_home_outside_of_the_scope_is_refused(session):
    """C189."""
    with pytest.raises(sk.ScopeError, match="outside its scope"):
        session.tochunk("x", processor=ThreadProc(0, 0), scope=NODE_B)
