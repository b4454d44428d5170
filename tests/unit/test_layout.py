import random
import time
from itertools import pairwise

import pytest

from scopekit.layout import Item, arrange, pack, ranks, slots, spread, wrapped


def chain(count):
    return [Item(key, (key - 1,) if key else ()) for key in range(count)]


def layers(count, *, lanes=("",), seed=0, width=20):
    draw = random.Random(seed)
    return [
        Item(
            key,
            tuple(
                sorted(draw.sample(range(max(0, key - width), key), min(key, draw.randint(0, 3))))
            ),
            draw.choice(lanes),
        )
        for key in range(count)
    ]


def overlaps(layout):
    places = {}
    for spot in layout.spots.values():
        places.setdefault(spot.column, []).append(spot.row)
    return [
        (column, low, high)
        for column, rows in places.items()
        for low, high in pairwise(sorted(rows))
        if high - low < 1 - 1e-6
    ]


def test_a_rank_is_one_more_than_the_highest_input():
    items = [Item(0), Item(1, (0,)), Item(2, (0, 1)), Item(3), Item(4, (3, 2))]

    assert ranks(items) == {0: 0, 1: 1, 2: 2, 3: 0, 4: 3}


def test_ranks_do_not_depend_on_the_order_of_the_items():
    items = layers(60)

    assert ranks(items) == ranks(items[::-1])


def test_inputs_from_outside_are_passed_over():
    layout = arrange([Item(5, (99,))])

    assert (layout.spots[5].rank, layout.spots[5].column) == (0, 0)


def test_an_input_named_twice_counts_once():
    assert ranks([Item(0), Item(1, (0, 0))]) == {0: 0, 1: 1}


def test_slots_stay_where_they_are_when_more_tasks_arrive():
    items = layers(80)
    early = slots(items[:50])
    late = slots(items)

    assert early == {key: late[key] for key in early}


def test_slots_of_one_rank_in_one_lane_differ():
    items = layers(200, lanes=("a", "b"))
    rank = ranks(items)
    taken = [(item.lane, rank[item.key], slots(items, rank)[item.key]) for item in items]

    assert len(set(taken)) == len(items)


def test_a_chain_runs_straight():
    rows = {spot.row for spot in arrange(chain(12)).spots.values()}

    assert max(rows) - min(rows) == pytest.approx(0)


def test_a_reduction_stands_in_the_middle_of_its_inputs():
    layout = arrange([Item(0), Item(1), Item(2), Item(3, (0, 1, 2))])
    rows = [layout.spots[key].row for key in (0, 1, 2)]

    assert layout.spots[3].row == pytest.approx(sum(rows) / 3)


def test_parallel_chains_do_not_cross():
    items = [
        Item(rank * 4 + k, ((rank - 1) * 4 + k,) if rank else ())
        for rank in range(5)
        for k in range(4)
    ]
    layout = arrange(items)

    for rank in range(5):
        rows = [layout.spots[rank * 4 + k].row for k in range(4)]
        assert rows == pytest.approx([layout.spots[k].row for k in range(4)])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tallest", [None, 4])
def test_no_two_items_overlap(seed, tallest):
    layout = arrange(layers(120, lanes=("a", "b", "c"), seed=seed), tallest=tallest)

    assert overlaps(layout) == []


@pytest.mark.parametrize("tallest", [None, 4])
def test_items_stay_inside_the_band_of_their_lane(tallest):
    items = layers(120, lanes=("a", "b", "c"))
    layout = arrange(items, ["c", "a", "b", "idle"], tallest=tallest)
    bands = {band.lane: band for band in layout.bands}

    assert [band.lane for band in layout.bands] == ["c", "a", "b", "idle"]
    for item in items:
        band, spot = bands[item.lane], layout.spots[item.key]
        assert band.top - 1e-6 <= spot.row - 0.5
        assert spot.row + 0.5 <= band.top + band.height + 1e-6


def test_bands_do_not_overlap_and_fill_the_height():
    layout = arrange(layers(50, lanes=("a", "b")))

    for upper, lower in pairwise(layout.bands):
        assert upper.top + upper.height < lower.top
    assert layout.rows == pytest.approx(layout.bands[-1].top + layout.bands[-1].height)


def test_edges_point_to_the_right_even_when_folded():
    items = layers(150)
    layout = arrange(items, tallest=5)

    for item in items:
        for source in item.inputs:
            assert layout.spots[source].column < layout.spots[item.key].column


def test_a_folded_rank_is_no_taller_than_asked():
    layout = arrange([Item(key) for key in range(100)], tallest=12)

    assert layout.rows <= 12
    assert layout.columns == 9


def test_a_long_edge_gets_a_way_past_what_stands_between():
    items = [Item(0), Item(1, (0,)), Item(2, (1,)), Item(3, (0, 2))]
    layout = arrange(items)
    way = layout.routes[0, 3]

    assert [column for column, _ in way] == [1, 2]
    for (_, row), key in zip(way, (1, 2), strict=True):
        assert abs(row - layout.spots[key].row) >= 0.5


def test_the_same_items_give_the_same_arrangement():
    assert arrange(layers(100)) == arrange(layers(100))


def test_empty_stretches_are_closed():
    layout = arrange(layers(60, seed=3))
    rows = sorted(spot.row for spot in layout.spots.values())

    assert rows[0] == pytest.approx(0.5, abs=0.31)
    assert max(high - low for low, high in pairwise(rows)) <= 1.0 + 1e-6


def test_spread_keeps_the_spacing_at_the_least_cost():
    assert spread([0, 0, 5], [1, 1], [1, 1, 1]) == pytest.approx([-0.5, 0.5, 5])
    assert spread([3, 1], [1], [1, 1]) == pytest.approx([1.5, 2.5])


def test_no_items_make_an_empty_layout():
    layout = arrange([])

    assert (layout.spots, layout.columns, layout.rows) == ({}, 0, 0)


def test_two_thousand_tasks_are_arranged():
    """Guards against a step that is quadratic; such a one takes minutes."""
    began = time.process_time()
    arrange(layers(2000, width=200))
    fan = [Item(0), *(Item(key, (0,)) for key in range(1, 2000))]
    arrange(fan)

    assert time.process_time() - began < 10


def test_bars_that_overlap_get_rows_of_their_own():
    bars = pack([(1, 0.0, 2.0), (2, 1.0, 3.0), (3, 2.0, 4.0)])

    assert [(bar.key, bar.row) for bar in bars] == [(1, 0), (2, 1), (3, 0)]


def test_a_wide_layout_is_broken_into_lines():
    layout = wrapped(arrange(chain(10)), 3)

    assert (layout.columns, layout.rows) == (4, 3 * 1 + 2 * 1.0)
    assert [layout.spots[key].line for key in (0, 3, 4, 9)] == [0, 0, 1, 2]
    assert layout.spots[4].column == 0
    assert layout.spots[0].row < layout.breaks[0] < layout.spots[4].row
    assert overlaps(layout) == []


def test_one_line_is_left_as_it_is():
    layout = arrange(chain(3))

    assert wrapped(layout, 1) is layout


def test_ways_within_a_line_are_kept():
    items = [Item(0), Item(1, (0,)), Item(2, (0, 1)), Item(3, (2,)), Item(4, (3,)), Item(5, (2, 4))]
    layout = arrange(items)
    broken = wrapped(layout, 2)

    assert set(layout.routes) == {(0, 2), (2, 5)}
    assert set(broken.routes) == {(0, 2)}
