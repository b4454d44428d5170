"""Large buffers of arguments: kept once for all that hold the same bytes."""

import gc
from pickle import PickleBuffer

import numpy as np
import pytest

from scopekit.arguments import LargeArguments
from scopekit.wire.blobs import Blob
from scopekit.wire.lending import Lender


class Made:
    """What stands for a chunk here: the bytes that it was made of."""

    def __init__(self, buffer):
        self.data = bytes(buffer)
        self.nbytes = len(self.data)


@pytest.fixture
def large():
    return LargeArguments(Made, lambda chunk: chunk.data)


def raw(array):
    return PickleBuffer(array).raw()


def test_the_same_bytes_are_one_chunk(large):
    array = np.arange(1000)

    assert large.chunk_of(raw(array)) is large.chunk_of(raw(array))
    assert large.chunk_of(raw(array)) is large.chunk_of(raw(array.copy()))


def test_other_bytes_are_another_chunk(large):
    array = np.arange(1000)
    before = large.chunk_of(raw(array))
    array[500] = 0
    after = large.chunk_of(raw(array))

    assert before is not after
    assert after.data == array.tobytes()


def test_a_chunk_is_kept_for_as_long_as_the_array_lives(large):
    array = np.arange(1000)
    large.chunk_of(raw(array))
    assert len(large._kept) == 1
    del array
    gc.collect()

    assert len(large._kept) == 0


def test_a_part_of_an_array_belongs_to_the_array(large):
    array = np.arange(1000)
    part = large.chunk_of(raw(array[:500]))
    gc.collect()

    assert large.chunk_of(raw(array[:500])) is part


def test_what_nobody_can_watch_is_not_kept(large):
    large.chunk_of(raw(bytearray(1000)))

    assert len(large._kept) == 0


def test_only_so_many_are_kept(large):
    arrays = [np.full(10, n) for n in range(100)]
    for array in arrays:
        large.chunk_of(raw(array))

    assert len(large._kept) == 32


# -- blobs -------------------------------------------------------------------------


def test_every_call_has_a_buffer_of_its_own():
    blob = Blob(b"abc")
    first, second = blob.own(), blob.own()
    first[0] = 0

    assert (bytes(second), blob.data) == (b"abc", b"abc")


def test_a_blob_in_shared_memory_is_copied_only_where_it_is_written_to():
    lender = Lender()
    blob = Blob(b"x")
    blob.loan = lender.lend([b"pickle", b"abc"])
    first, second = blob.own(), blob.own()
    first[0] = 0

    assert (bytes(first), bytes(second)) == (b"\0bc", b"abc")
    lender.close()


def test_a_blob_whose_lender_is_gone_is_still_there():
    lender = Lender()
    blob = Blob(b"abc")
    blob.loan = lender.lend([b"pickle", b"abc"])
    lender.close()

    assert bytes(blob.own()) == b"abc"
