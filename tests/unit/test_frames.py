"""Frames: what was packed is read back, anything else is refused."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekit.errors import ProtocolError
from scopekit.wire import frames

LIMITS = {"Q": 2**64 - 1, "I": 2**32 - 1, "H": 2**16 - 1, "B": 2**8 - 1}
whole = st.sampled_from(sorted(LIMITS)).flatmap(
    lambda code: st.lists(st.integers(0, LIMITS[code])).map(lambda items: array(code, items))
)
columns = st.lists(whole | st.lists(st.floats(allow_nan=False)).map(lambda v: array("d", v)))
large = st.integers(frames.APART, frames.APART + 9).map(lambda size: b"x" * size)
blobs = st.lists(st.binary() | large, max_size=4)
valid = st.builds(frames.pack, st.integers(0, 255), columns.filter(lambda c: len(c) < 256), blobs)


def read_or_refuse(frame):
    try:
        return frames.unpack(frame)
    except ProtocolError:
        return None


@given(st.integers(0, 255), columns, blobs)
def test_what_is_packed_is_read_back(kind, columns, blobs):
    frame = [bytes(buffer) for buffer in frames.pack(kind, columns, blobs)]
    read_kind, read_columns, read_blobs = frames.unpack(frame)

    assert (kind, columns) == (read_kind, read_columns)
    assert blobs == [bytes(blob) for blob in read_blobs]


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_any_bytes_are_read_or_refused(frame):
    read_or_refuse(frame)


@given(st.binary(max_size=200))
def test_any_bytes_after_a_good_start_are_read_or_refused(rest):
    read_or_refuse([b"skf\x01\x00" + rest])


@given(valid, st.data())
def test_a_frame_that_was_cut_is_refused(frame, data):
    number = data.draw(st.integers(0, len(frame) - 1))
    frame[number] = frame[number][: data.draw(st.integers(0, len(frame[number]) - 1))]

    with pytest.raises(ProtocolError):
        frames.unpack(frame)


@given(valid, st.binary(min_size=1, max_size=9))
def test_a_frame_with_something_behind_is_refused(frame, rest):
    with pytest.raises(ProtocolError):
        frames.unpack([frame[0] + rest, *frame[1:]])
    with pytest.raises(ProtocolError):
        frames.unpack([*frame, rest])


@given(valid, st.data())
def test_a_frame_with_a_byte_changed_is_read_or_refused(frame, data):
    changed = bytearray(frame[0])
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))

    read_or_refuse([bytes(changed), *frame[1:]])


@pytest.mark.parametrize("count", [2**30, 2**61, 2**64 - 1])
def test_a_length_that_is_a_lie_takes_no_memory(count):
    head = b"skf\x01\x00\x01" + (0).to_bytes(4, "little")
    with pytest.raises(ProtocolError, match="too early"):
        frames.unpack([head + b"Q" + count.to_bytes(8, "little")])
    head = b"skf\x01\x00\x00" + (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(ProtocolError, match="too early"):
        frames.unpack([head])


def test_no_buffers_are_no_frame():
    with pytest.raises(ProtocolError):
        frames.unpack([])


def test_a_large_blob_is_not_copied():
    blob = b"x" * frames.APART
    frame = frames.pack(1, [], [b"small", blob])

    assert frame[1] is blob
    assert frames.unpack(frame)[2][1] is blob
