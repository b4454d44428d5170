"""METG is found where efficiency falls below a half, or is said not to be."""

import pytest

from scopekit.bench.metg import Point, UntrustworthyError, find_metg, sweep

SIZES = {"first": 2**13, "largest": 2**15}


def with_overhead(overhead, asked=None):
    """Returns what runs 100 tasks on 2 cores, each with that overhead in seconds."""

    def wall(iterations):
        if asked is not None:
            asked.append(iterations)
        return 100 / 2 * (iterations * 1e-6 + overhead)

    return wall


@pytest.mark.parametrize("overhead", [0.0001, 0.001, 0.006, 0.02])
def test_overhead_as_long_as_the_work_is_half_of_the_time(overhead):
    points = list(sweep(with_overhead(overhead), 1e-6, tasks=100, cores=2, **SIZES))

    metg, bound = find_metg(points)

    assert bound == ""
    # On a straight line, between points of which one is twice the other.
    assert metg == pytest.approx(2 * overhead, rel=0.1)


def test_the_line_is_drawn_between_the_points_around_a_half():
    points = [
        Point(16, 0, 18.0, 0.9),
        Point(8, 0, 10.0, 0.8),
        Point(4, 0, 6.0, 0.6),
        Point(2, 0, 5.0, 0.4),
        Point(1, 0, 4.8, 0.2),
    ]

    assert find_metg(points) == (5.5, "")
    assert find_metg(points[::-1]) == (5.5, "")


def test_the_smallest_tasks_that_are_efficient_count():
    dip = [Point(16, 0, 40.0, 0.4), Point(8, 0, 10.0, 0.8), Point(4, 0, 8.0, 0.3)]

    assert find_metg(dip) == (pytest.approx(8.8), "")


def test_a_sweep_without_a_point_below_a_half_gives_a_bound():
    assert find_metg([Point(8, 0, 8.5, 0.9), Point(4, 0, 4.5, 0.85)]) == (4.5, "<")


def test_a_sweep_without_a_point_above_a_half_gives_a_bound():
    assert find_metg([Point(8, 0, 80.0, 0.1), Point(4, 0, 79.0, 0.05)]) == (80.0, ">")


def test_more_than_cores_can_do_is_not_believed():
    with pytest.raises(UntrustworthyError, match=r"efficiency of 1\.50: a pass was not timed"):
        find_metg([Point(8, 0, 8.0, 1.5), Point(4, 0, 8.0, 0.1)])


def test_a_little_more_than_cores_can_do_is_noise():
    assert find_metg([Point(8, 0, 8.0, 1.49), Point(4, 0, 7.0, 0.5)]) == (7.0, "<")


def test_a_sweep_goes_down_until_two_sizes_are_too_small():
    asked = []

    points = list(sweep(with_overhead(0.003, asked), 1e-6, tasks=100, cores=2, **SIZES))

    assert asked == [2**13, 2**12, 2**11, 2**10]
    assert [point.efficiency >= 0.5 for point in points] == [True, True, False, False]


def test_a_sweep_goes_up_first_where_the_first_size_is_too_small():
    asked = []

    list(sweep(with_overhead(0.02, asked), 1e-6, tasks=100, cores=2, **SIZES))

    assert asked == [2**13, 2**14, 2**15]


def test_one_size_that_seems_too_small_ends_no_sweep():
    walls = iter([0.6, 0.5, 0.15, 0.06, 0.5, 0.5])

    points = list(sweep(lambda _: next(walls), 1e-6, tasks=100, cores=2, **SIZES))

    assert [point.iterations for point in points] == [2**k for k in (13, 12, 11, 10, 9, 8)]


def test_a_sweep_ends_at_its_largest_size():
    points = list(sweep(with_overhead(1.0), 1e-6, tasks=100, cores=2, **SIZES))

    assert max(point.iterations for point in points) == 2**15
    assert find_metg(points)[1] == ">"


def test_a_sweep_ends_at_its_smallest_size():
    points = list(sweep(with_overhead(0.0), 1e-6, tasks=100, cores=2, **SIZES))

    assert min(point.iterations for point in points) == 2**4
    assert find_metg(points) == (pytest.approx(16e-6), "<")
