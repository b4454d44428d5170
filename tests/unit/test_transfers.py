"""What it takes to move values, learnt from those that were moved."""

import pytest

from scopekit.scheduler.transfers import Transfers


def test_before_anything_was_moved_an_estimate_is_assumed():
    assert Transfers().estimate(2_000_000_000) == pytest.approx(1.0, rel=0.01)


def test_what_was_measured_counts_more_and_more():
    transfers = Transfers()
    for _ in range(50):
        transfers.learn(100_000_000, 10.0)

    assert transfers.estimate(50_000_000) == pytest.approx(5.0, rel=0.05)


def test_short_values_tell_of_the_latency_alone():
    transfers = Transfers()
    for _ in range(500):
        transfers.learn(8, 0.02)

    assert transfers.latency == pytest.approx(0.02, rel=0.05)
    assert transfers.estimate(0) == transfers.latency


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 100.0])
def test_what_no_transfer_takes_is_not_learnt(seconds):
    transfers = Transfers()
    before = transfers.estimate(1 << 20)
    transfers.learn(8, seconds)
    transfers.learn(1 << 20, seconds)

    assert transfers.estimate(1 << 20) == before


def test_a_few_that_had_to_wait_do_not_count_for_much():
    transfers = Transfers()
    for _ in range(50):
        transfers.learn(8, 0.2e-3)
    transfers.learn(8, 0.05)

    assert transfers.latency < 2e-3


def test_inputs_that_come_together_take_one_latency():
    transfers = Transfers()

    assert transfers.estimate(1000) == transfers.latency + transfers.seconds_for(1000)
