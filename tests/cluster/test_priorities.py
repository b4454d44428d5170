"""Priorities, on real engines."""

import sys
import time

import cloudpickle

import scopekit as sk
from scopekit import ProcessScope

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE = ProcessScope(1)


def now(*_inputs):
    return time.monotonic()


def hold(gate):
    deadline = time.monotonic() + 60
    while not gate.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_those_that_wait_the_highest_priority_runs_first(plain, tmp_path):
    gate = tmp_path / "gate"
    holding = plain.spawn(hold, gate, scope=ONE)
    given = (0, 2, -1, 1, 2, 0)
    tasks = [plain.options(priority=number, scope=ONE).spawn(now) for number in given]
    assert [task.state for task in tasks] == ["queued"] * 6
    assert all(task.worker is None for task in tasks), "they wait in this process"

    gate.touch()
    times = plain.fetch(tasks, timeout=30)

    holding.result(30)
    order = sorted(range(6), key=times.__getitem__)
    assert order == [1, 4, 3, 0, 5, 2]


def test_a_block_gives_a_priority_that_reaches_what_its_tasks_spawn(plain):
    def outer():
        return sk.get_options("priority", "none"), sk.spawn(now).result() > 0

    with sk.with_options(priority=7):
        assert sk.get_options("priority") == 7
        assert plain.spawn(outer).result(30) == (7, True)
