"""Results that are kept, and asked for before a task runs; where the task runs."""

import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

import scopekit as sk
from scopekit import AnyScope, FileStore, NodeScope, ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMIT = 30


class OnPurposeError(Exception):
    pass


def traced(path, value):
    """Return a value, and leave a trace of having run."""
    with Path(path).open("a") as file:
        file.write("ran ")
    return value


def runs(path):
    return path.read_text().count("ran") if path.exists() else 0


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "trace"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "kept.pickle"


# -- files ---------------------------------------------------------------------------


def test_a_result_that_is_kept_is_not_made_again(session, trace, file):
    for _ in range(3):
        task = session.options(checkpoint=file, restore=file).spawn(traced, str(trace), [1, "two"])
        assert task.result(LIMIT) == [1, "two"]
        assert task.stderr == ""

    assert runs(trace) == 1


def test_checkpoint_alone_keeps_and_restore_alone_asks(session, trace, file):
    session.options(checkpoint=str(file)).spawn(traced, str(trace), 1).result(LIMIT)
    session.options(checkpoint=str(file)).spawn(traced, str(trace), 2).result(LIMIT)
    assert session.options(restore=str(file)).spawn(traced, str(trace), 3).result(LIMIT) == 2
    file.unlink()
    assert session.options(restore=file).spawn(traced, str(trace), 4).result(LIMIT) == 4

    assert not file.exists()
    assert runs(trace) == 3


@pytest.mark.parametrize("value", [None, 0, [], b"x" * 2_000_000, {"k": (1, 2)}])
def test_any_value_is_kept_none_too(session, trace, file, value):
    for _ in range(2):
        task = session.options(checkpoint=file, restore=file).spawn(traced, str(trace), value)
        assert task.result(LIMIT) == value

    assert runs(trace) == 1


def test_tasks_of_a_block_each_have_a_file_by_their_name(session, trace, tmp_path):
    store = FileStore(tmp_path / "{name}.pickle")
    for _ in range(2):
        with sk.with_options(checkpoint=store, restore=store):
            tasks = [
                session.options(name=f"step {n}").spawn(traced, str(trace), n) for n in range(4)
            ]
        assert session.fetch(tasks, timeout=LIMIT) == [0, 1, 2, 3]

    assert runs(trace) == 4
    assert sorted(p.name for p in tmp_path.glob("*.pickle")) == [
        f"step_{n}.pickle" for n in range(4)
    ]


def test_a_result_of_another_function_is_not_taken(session, trace, file):
    session.options(checkpoint=file).spawn(traced, str(trace), 1).result(LIMIT)

    task = session.options(restore=file).spawn(pow, 2, 5)

    assert task.result(LIMIT) == 32
    assert "restore failed, so it runs" in task.stderr
    assert "holds a result of traced, and this is pow" in task.stderr


def test_a_file_that_is_broken_is_noted_and_the_task_runs(session, trace, file):
    file.write_bytes(b"rubbish")

    task = session.options(restore=file).spawn(traced, str(trace), 1)

    assert task.result(LIMIT) == 1
    assert "holds no result" in task.stderr


def test_a_coroutine_s_result_is_kept(session, file):
    async def later(x):
        return [x]

    for n in range(2):
        made = session.options(checkpoint=file, restore=file).spawn(later, n)
        assert made.result(LIMIT) == [0]


def test_a_task_with_inputs_and_keywords_is_kept_as_any(session, trace, file):
    def join(path, values, *, word):
        return traced(path, [*values, word])

    value = session.spawn(list, "ab")
    for _ in range(2):
        task = session.options(checkpoint=file, restore=file).spawn(
            join, str(trace), values=value, word="c"
        )
        assert task.result(LIMIT) == ["a", "b", "c"]

    assert runs(trace) == 1


def test_a_function_that_is_a_handle_is_kept_as_any(session, file):
    function = session.tochunk(lambda: "made")
    for _ in range(2):
        task = session.options(checkpoint=file, restore=file, name="x").spawn(function)
        task.wait(LIMIT)
    assert task.result() == "made"


def test_a_result_outlives_its_session_and_its_worker(trace, file):
    for _ in range(2):
        with sk.start(1) as session:
            task = session.options(checkpoint=file, restore=file).spawn(traced, str(trace), [1])
            assert task.result(LIMIT) == [1]

    assert runs(trace) == 1


def test_a_task_that_a_task_spawns_is_kept(session, trace, file):
    def parent(path, file):
        return [
            sk.options(checkpoint=file, restore=file).spawn(traced, path, n).result()
            for n in range(3)
        ]

    assert session.spawn(parent, str(trace), str(file)).result(LIMIT) == [0, 0, 0]
    assert runs(trace) == 1


# -- scopes --------------------------------------------------------------------------


def pinned(path, value, scope):
    traced(path, value)
    return sk.tochunk(value, scope=scope)


def test_a_result_that_is_valid_on_its_node_is_kept_there_with_its_scope(session, trace, file):
    options = session.options(checkpoint=file, restore=file, scope=ProcessScope(2))
    for _ in range(2):
        task = options.spawn(pinned, str(trace), [1], NodeScope("b"))
        assert session.spawn(sum, task, scope=ProcessScope(3)).result(LIMIT) == 1
        with pytest.raises(sk.ScopeViolationError):
            task.result(LIMIT)
        assert task.stderr == ""

    assert runs(trace) == 1


@pytest.mark.parametrize("how", ["result_scope", "chunk"])
def test_a_result_of_one_process_is_written_to_no_file(session, trace, file, how):
    if how == "chunk":
        task = session.options(checkpoint=file, scope=ProcessScope(2)).spawn(
            pinned, str(trace), [1], ProcessScope(2)
        )
    else:
        task = session.options(checkpoint=file, result_scope=ProcessScope(2)).spawn(
            traced, str(trace), [1]
        )

    assert session.spawn(sum, task).result(LIMIT) == 1
    task.wait(LIMIT)
    assert not file.exists()
    assert not list(file.parent.glob(".kept*"))
    assert "checkpoint failed, its result is not affected" in task.stderr
    assert "valid on worker 2" in task.stderr


def test_what_leaves_out_a_process_of_the_node_is_written_to_no_file(session, trace, file):
    both = sk.UnionScope(ProcessScope(0), ProcessScope(1))
    task = session.options(checkpoint=file, result_scope=both).spawn(traced, str(trace), [1])
    task.wait(LIMIT)

    # There may be a third process there some day.
    assert not file.exists()
    assert "checkpoint failed" in task.stderr


def test_on_a_shared_folder_only_what_may_be_anywhere_is_kept(session, trace, file):
    store = FileStore(file, scope=AnyScope())
    task = session.options(checkpoint=store, result_scope=NodeScope("b")).spawn(
        traced, str(trace), [1]
    )
    task.wait(LIMIT)
    assert not file.exists()
    assert (
        "a file can be read on any processor" in task.stderr or "checkpoint failed" in task.stderr
    )

    session.options(checkpoint=store).spawn(traced, str(trace), [1]).wait(LIMIT)
    assert file.exists()


def test_a_kept_result_is_not_read_outside_of_its_scope(session, trace, file):
    task = session.options(checkpoint=file, scope=ProcessScope(2)).spawn(
        pinned, str(trace), [1], NodeScope("b")
    )
    task.wait(LIMIT)
    assert file.exists()

    elsewhere = session.options(restore=file, name=task.name, scope=ProcessScope(0)).spawn(
        pinned, str(trace), [2], NodeScope("a")
    )

    assert session.spawn(sum, elsewhere).result(LIMIT) == 2
    assert "the result that was kept is valid on node b" in elsewhere.stderr


def test_restored_results_keep_to_the_result_scope_of_the_task(session, trace, file):
    session.options(checkpoint=file).spawn(traced, str(trace), [1]).wait(LIMIT)

    task = session.options(restore=file, result_scope=ProcessScope(1)).spawn(
        traced, str(trace), [1]
    )
    with pytest.raises(sk.ScopeViolationError):
        task.result(LIMIT)
    assert runs(trace) == 1


def test_a_task_that_nobody_may_run_is_refused_though_its_result_is_kept(session, trace, file):
    """C131."""
    session.options(checkpoint=file).spawn(traced, str(trace), 1).result(LIMIT)

    with pytest.raises(sk.NoProcessorError):
        session.options(restore=file, scope=ProcessScope(99)).spawn(traced, str(trace), 1)


# -- functions -----------------------------------------------------------------------


def test_functions_run_where_the_task_runs_with_the_task_and_the_result(session, tmp_path):
    path = tmp_path / "said"

    def keep(task, value):
        path.write_text(f"{task.name} {task.worker} {sk.myid()} {value}")

    task = session.options(checkpoint=keep, name="mine", scope=ProcessScope(3)).spawn(pow, 2, 3)

    assert task.result(LIMIT) == 8
    assert path.read_text() == "mine 3 3 8"


def test_a_value_of_restore_is_the_result(session, trace):
    task = session.options(restore=lambda task: [task.worker], scope=ProcessScope(1)).spawn(
        traced, str(trace), 1
    )

    assert task.result(LIMIT) == [1]
    assert runs(trace) == 0


def test_a_chunk_of_restore_is_the_result_and_is_not_kept_again(session, trace, tmp_path):
    """C177."""

    def ask(task):
        return sk.tochunk("there", scope=ProcessScope(task.worker))

    def keep(_task, _value):
        (tmp_path / "kept").touch()

    task = session.options(restore=ask, checkpoint=keep).spawn(traced, str(trace), 1)

    assert session.spawn(str.upper, task).result(LIMIT) == "THERE"
    with pytest.raises(sk.ScopeViolationError):
        task.result(LIMIT)
    assert runs(trace) == 0
    assert not (tmp_path / "kept").exists()


def test_none_of_restore_means_that_there_is_none(session, trace):
    """C179."""
    task = session.options(restore=lambda _task: None).spawn(traced, str(trace), 1)

    assert task.result(LIMIT) == 1
    assert task.stderr == ""
    assert runs(trace) == 1


def test_errors_of_both_are_noted_and_cost_no_result(session, trace):
    """C178."""

    def ask(_task):
        raise OnPurposeError("asking")

    def keep(_task, _value):
        raise OnPurposeError("keeping")

    task = session.options(restore=ask, checkpoint=keep, name="mine").spawn(traced, str(trace), 1)

    assert task.result(LIMIT) == 1
    assert "mine: restore failed, so it runs: OnPurposeError: asking" in task.stderr
    assert (
        "mine: checkpoint failed, its result is not affected: OnPurposeError: keeping"
        in task.stderr
    )
    assert runs(trace) == 1


def test_a_result_that_does_not_pickle_is_noted_and_stays(session, file):
    task = session.options(checkpoint=file, name="lock").spawn(threading.Lock)
    task.wait(LIMIT)

    assert session.spawn(lambda lock: lock.locked(), task).result(LIMIT) is False
    assert "checkpoint failed" in task.stderr
    assert not file.exists()


def test_a_task_that_fails_keeps_nothing(session, file):
    def fail():
        raise OnPurposeError

    with pytest.raises(OnPurposeError):
        session.options(checkpoint=file).spawn(fail).result(LIMIT)
    assert not file.exists()


def test_restore_is_asked_again_when_a_task_is_tried_again(session, trace, tmp_path):
    made = tmp_path / "made"

    def flaky():
        traced(trace, None)
        made.touch()
        raise OnPurposeError

    task = session.options(restore=lambda _task: made.exists() or None, retries=1).spawn(flaky)

    assert task.result(LIMIT) is True
    assert runs(trace) == 1


def test_a_function_that_cannot_be_sent_is_refused_at_the_spawn(session):
    lock = threading.Lock()

    with pytest.raises(sk.ScopekitError, match="checkpoint= or restore= cannot be sent"):
        session.options(checkpoint=lambda task, value: lock.locked()).spawn(pow, 2, 3)


def test_without_engines_it_works_as_with_them(trace, file):
    with sk.start(0) as session:
        for _ in range(2):
            task = session.options(checkpoint=file, restore=file).spawn(traced, str(trace), 1)
            assert task.result() == 1
    assert runs(trace) == 1
