"""The scheduler in simulated worlds, with every fault there is."""

import time
from pathlib import Path

import figures
import pytest

from scopekit.scheduler import ending
from scopekit.testing import Size, World, draw_plan, run_seeds

KEPT = Path(__file__).with_name("seeds.txt")
BASE = 1_000_000
COUNT = 1500


def kept_seeds():
    lines = KEPT.read_text(encoding="utf-8").splitlines()
    return [int(words[0]) for line in lines if (words := line.partition("#")[0].split())]


def told(tally):
    return "\n".join(failure.text() for failure in tally.failures[:3])


def test_what_was_wrong_once_is_right():
    tally = run_seeds(kept_seeds())

    assert not tally.failures, told(tally)


def test_nothing_goes_wrong_in_any_world():
    began = time.perf_counter()
    tally = run_seeds(range(BASE, BASE + COUNT))
    took = time.perf_counter() - began

    figures.tell(
        "simulated", f"seeds from {BASE}, {60 * COUNT / took:.0f} a minute, {tally.text()}"
    )
    assert not tally.failures, told(tally)


def test_nothing_goes_wrong_where_history_is_folded_away_early(monkeypatch):
    monkeypatch.setattr(ending, "_FINISHED_KEPT", 10)
    tally = run_seeds(range(BASE, BASE + COUNT))
    figures.tell("simulated, with little history", f"seeds from {BASE}, {tally.text()}")

    assert not tally.failures, told(tally)


def test_every_fault_happens_many_times():
    happened = run_seeds(range(BASE, BASE + 600)).happened

    for what in ("crashed", "killed", "cut off", "reset", "stalled", "left", "joined"):
        assert happened.get(what, 0) > 10, what
    for event in ("ChunksMissed", "RunHandedBack", "ChunkPinned", "ChunkFailed", "TimePassed"):
        assert happened.get(event, 0) > 4, event


def test_nothing_goes_wrong_where_labels_change():
    tally = run_seeds(range(BASE, BASE + 800), size=Size(labelled=True))
    figures.tell("simulated, with labels that change", f"seeds from {BASE}, {tally.text()}")

    assert not tally.failures, told(tally)
    assert tally.happened["relabelled"] > 1000
    assert tally.happened["ChunkFailed"] > 20


LARGE = Size((50, 200), (3, 12))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_nothing_goes_wrong_in_larger_worlds(part):
    first = BASE + 200 * part
    tally = run_seeds(range(first, first + 200), size=LARGE)
    figures.tell(f"simulated, larger, part {part}", f"seeds from {first}, {tally.text()}")

    assert not tally.failures, told(tally)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_nothing_goes_wrong_where_labels_change_in_many_worlds(part):
    first = 2 * BASE + 2000 * part
    tally = run_seeds(range(first, first + 2000), size=Size(labelled=True))
    figures.tell(f"simulated, with labels, part {part}", f"seeds from {first}, {tally.text()}")

    assert not tally.failures, told(tally)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_nothing_goes_wrong_in_many_worlds(part):
    first = 2 * BASE + 2000 * part
    tally = run_seeds(range(first, first + 2000))
    figures.tell(f"simulated, many, part {part}", f"seeds from {first}, {tally.text()}")

    assert not tally.failures, told(tally)


def test_the_same_world_goes_the_same_way_again():
    for seed in range(BASE, BASE + 20):
        plan = draw_plan(seed)

        assert World(plan, digest=True).run() == World(plan, digest=True).run()
