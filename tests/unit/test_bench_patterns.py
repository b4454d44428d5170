"""Task Bench's graphs are those of Task Bench, and its tasks see what they are given."""

from concurrent.futures import Future

import pytest

from scopekit.bench.kernel import WrongInputError, calibrate, compute, output, point
from scopekit.bench.patterns import PATTERNS, Graph
from scopekit.bench.programs import WrongAnswerError
from scopekit.bench.systems.base import System
from scopekit.bench.taskbench import run_graph, validate


class Here(System):
    """Runs each call at once; can be made to mix its inputs up, or its answers."""

    title = "here"

    def __init__(self, *, swaps=False, forgets=False):
        super().__init__(1)
        self.calls, self._swaps, self._forgets = 0, swaps, forgets

    def load(self):
        pass

    def start(self):
        pass

    def close(self):
        pass

    def submit(self, function, /, *args):
        self.calls += 1
        values = [arg.result() if isinstance(arg, Future) else arg for arg in args]
        if self._swaps:
            values[4:] = values[:3:-1]
        done = Future()
        done.set_result(b"" if self._forgets else function(*values))
        return done

    def results(self, handles):
        return [handle.result() for handle in handles]


@pytest.mark.parametrize(
    ("pattern", "tasks", "edges"),
    [
        ("trivial", 48, 0),
        ("no_comm", 48, 40),
        ("stencil_1d", 48, 110),
        ("dom", 12, 15),
        ("tree", 31, 30),
        ("fft", 48, 100),
        ("all_to_all", 48, 320),
        ("nearest", 48, 110),
        ("spread", 48, 120),
    ],
)
def test_graphs_have_as_many_tasks_and_edges_as_task_bench_counts(pattern, tasks, edges):
    graph = Graph(pattern, timesteps=6, width=8, radix=3)

    assert (graph.tasks(), graph.edges()) == (tasks, edges)


def test_a_periodic_stencil_wraps_at_both_ends():
    graph = Graph("stencil_1d_periodic", timesteps=6, width=8)

    assert graph.inputs(1, 0) == (0, 1, 7)
    assert graph.inputs(1, 7) == (0, 6, 7)
    assert graph.edges() == 120


def test_the_stages_of_an_fft_alternate_from_narrow_to_wide():
    graph = Graph("fft", timesteps=6, width=8)

    assert [graph.inputs(t, 0) for t in (1, 2, 3, 4)] == [(0, 1), (0, 2), (0, 4), (0, 1)]


def test_a_sweep_moves_from_one_corner_to_the_other():
    graph = Graph("dom", timesteps=6, width=4)

    assert [list(graph.row(t)) for t in range(6)] == [
        [0],
        [0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3],
        [3],
    ]
    assert graph.inputs(3, 1) == (0, 1)


def test_drawn_edges_are_the_same_each_time_and_keep_to_the_window():
    one, again = (Graph("random_nearest", 9, 16, radix=5) for _ in range(2))
    other = Graph("random_nearest", 9, 16, radix=5, number=1)
    nearest = Graph("nearest", 9, 16, radix=5)

    assert all(one.inputs(t, i) == again.inputs(t, i) for t, i in one.points())
    assert any(one.inputs(t, i) != other.inputs(t, i) for t, i in one.points())
    assert all(set(one.inputs(t, i)) <= set(nearest.inputs(t, i)) for t, i in one.points())
    assert all(i in one.inputs(t, i) for t, i in one.points() if t)


def test_nothing_near_is_needed_where_the_radix_is_0():
    assert Graph("nearest", 6, 8, radix=0).edges() == 0
    assert Graph("random_nearest", 6, 8, radix=0).edges() == 0


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_rows_need_points_of_the_row_before_only(pattern, width):
    graph = Graph(pattern, timesteps=7, width=width)

    for t, i in graph.points():
        assert set(graph.inputs(t, i)) <= set(graph.row(t - 1))
        assert i in graph.row(t)


def test_edges_that_cross_are_counted_by_the_owners_of_their_columns():
    graph = Graph("stencil_1d", timesteps=3, width=4)

    assert graph.crossing(lambda column: 0) == 0
    assert graph.crossing(lambda column: column % 2) == 12
    assert graph.crossing(lambda column: column // 2) == 4


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_is_run_and_validated(pattern):
    graph, here = Graph(pattern, timesteps=5, width=4), Here()

    validate(here, graph)
    run_graph(here, graph, 1)

    assert here.calls == 2 * graph.tasks()


def test_inputs_in_another_order_are_noticed():
    with pytest.raises(WrongInputError, match=r"point \(1, 0\) needs \[\(0, 0\), \(0, 1\)\]"):
        validate(Here(swaps=True), Graph("stencil_1d", 3, 4))


def test_wrong_outputs_are_noticed():
    with pytest.raises(WrongAnswerError):
        validate(Here(forgets=True), Graph("trivial", 3, 4))


def test_a_point_may_be_told_to_look_at_nothing():
    assert point(3, 2, 1, None, b"something else") == output(3, 2)


def test_a_pass_is_timed_by_its_quickest_repeat():
    compute(10)

    assert 0 < calibrate() < 1e-3
