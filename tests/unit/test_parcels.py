"""Values whose large buffers travel beside their pickle."""

import pickle

import numpy as np
import pytest

from scopekit.wire.codec import APART
from scopekit.wire.lending import Lender
from scopekit.wire.parcels import Parcel, load_parcel, pack_value

LARGE = np.arange(APART, dtype=np.uint8)


@pytest.mark.parametrize(
    "value",
    [1, "text", [1, {"a": (2,)}], LARGE, [LARGE, LARGE[:10], {"x": LARGE * 2}], LARGE[::2]],
    ids=["number", "text", "list", "array", "arrays", "array with gaps"],
)
def test_a_value_is_read_as_it_was(value):
    read = load_parcel(pack_value(value))

    np.testing.assert_equal(read, value)


def test_large_buffers_lie_beside_the_pickle_and_are_not_copied():
    pickled, first, second = pack_value([LARGE, b"small", np.ones(APART)]).parts

    assert len(pickled) < 1000
    assert np.shares_memory(np.frombuffer(first, np.uint8), LARGE)
    assert memoryview(second).nbytes == 8 * APART


def test_a_copy_does_not_change_with_the_value():
    value = LARGE.copy()
    parcel = pack_value(value).copied()
    value[:] = 0

    assert load_parcel(parcel).sum() == LARGE.sum()


def test_a_parcel_pickles_with_its_parts():
    parcel = pickle.loads(pickle.dumps(pack_value([LARGE, 1]), 5))

    np.testing.assert_equal(load_parcel(parcel), [LARGE, 1])


def test_what_was_lent_is_read_only_or_one_s_own():
    lender = Lender()
    parcel = Parcel((), lender.lend(pack_value(LARGE).parts))
    shared, own = load_parcel(parcel.borrowed()), load_parcel(parcel.borrowed(own=True))

    assert not shared.flags.writeable
    own[0] = 9
    assert (shared[0], own[0], parcel.nbytes > APART) == (0, 9, True)
    lender.close()
