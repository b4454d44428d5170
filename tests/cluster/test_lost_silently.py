"""Values that their process turns out not to have, although all the world thinks so."""

import os
import sys
from pathlib import Path

import cloudpickle
import pytest

import scopekit as sk
from scopekit.errors import ChunkLostError
from scopekit.scopes import ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def made(folder, value):
    """Leaves a mark for each time that it is called."""
    with Path(folder, "made").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return value


def times_made(folder):
    return len(Path(folder, "made").read_text().splitlines())


def forget(*chunks):
    """Has the process of this task lose chunks, of which it tells nobody."""
    from scopekit.engine.context import running_task  # this engine's own

    running_task.get().agent.store.drop(chunks)


def lose(task, worker):
    sk.spawn(forget, task.chunk_id, scope=ProcessScope(worker)).result(30)


@pytest.fixture
def value(session, tmp_path):
    task = sk.spawn(made, str(tmp_path), [7], scope=ProcessScope(0))
    task.wait(30)
    return task


@pytest.mark.parametrize("user", [0, 1])
def test_an_input_that_its_process_lost_is_made_again(value, tmp_path, user):
    lose(value, 0)

    assert sk.spawn(sum, value, scope=ProcessScope(user)).result(60) == 7
    assert times_made(tmp_path) == 2


def test_an_input_that_one_of_two_processes_lost_comes_from_the_other_one(value, tmp_path):
    assert sk.spawn(sum, value, scope=ProcessScope(1)).result(30) == 7
    lose(value, 0)

    assert sk.spawn(sum, value, scope=ProcessScope(0)).result(60) == 7
    assert times_made(tmp_path) == 1


def test_a_value_that_is_fetched_and_that_its_process_lost_is_made_again(value, tmp_path):
    lose(value, 0)

    assert value.result(60) == [7]
    assert times_made(tmp_path) == 2


def test_a_lost_value_that_cannot_be_made_again_is_told_to_be_lost(session, tmp_path):
    options = sk.options(scope=ProcessScope(0), idempotent=False)
    once = options.spawn(made, str(tmp_path), [7])
    once.wait(30)
    lose(once, 0)

    with pytest.raises(ChunkLostError, match="lost"):
        once.result(60)
    with pytest.raises(ChunkLostError, match="cannot be made again"):
        sk.spawn(sum, once, scope=ProcessScope(1)).result(60)
    assert times_made(tmp_path) == 1
