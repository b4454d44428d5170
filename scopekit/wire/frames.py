"""Columns of numbers with blobs of bytes, laid out so that any bytes are read or refused.

A frame is a list of buffers. The first one has a head, a table of its columns, a table of its
blobs, then their data; each further buffer is one large blob, so that nobody copies it.
All numbers are little-endian. Every length is held against what is there before
anything is made of it: whatever comes in, reading it takes no more memory than it has.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any

from scopekit.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Column = array[Any]
else:
    # Before Python 3.12 an array type takes no parameter.
    Column = array

__all__ = ("APART", "Buffer", "Column", "pack", "unpack")

Buffer = bytes | bytearray | memoryview

APART = 1 << 16
"""Blobs of this many bytes travel in buffers of their own."""

_MAGIC = b"skf"
_VERSION = 1
_HEAD = struct.Struct("<3sBBBI")  # magic, version, kind, columns, blobs
_COLUMN = struct.Struct("<cQ")  # type code, number of items
_LENGTH = struct.Struct("<Q")
_OWN_BUFFER = 1 << 63
_CODES = {b"Q": 8, b"d": 8, b"I": 4, b"H": 2, b"B": 1}
_SWAP = sys.byteorder == "big"


def pack(kind: int, columns: Sequence[Column], blobs: Sequence[Buffer]) -> list[Buffer]:
    """Lays columns and blobs out.

    Args:
        kind: what the frame is, from 0 to 255.
        columns: arrays of type ``Q``, ``d``, ``I``, ``H`` or ``B``, at most 255.
        blobs: bytes of any length.

    Returns:
        The buffers of the frame: one, and one more for each large blob.
    """
    sizes = [memoryview(blob).nbytes for blob in blobs]
    tables = [_HEAD.pack(_MAGIC, _VERSION, kind, len(columns), len(blobs))]
    tables += [_COLUMN.pack(column.typecode.encode(), len(column)) for column in columns]
    lengths = array("Q", [size | _OWN_BUFFER if size >= APART else size for size in sizes])
    data = [_little(column).tobytes() for column in (lengths, *columns)]
    near = [blob for blob, size in zip(blobs, sizes, strict=True) if size < APART]
    far = [blob for blob, size in zip(blobs, sizes, strict=True) if size >= APART]
    return [b"".join([*tables, *data, *near]), *far]


def _little(column: Column) -> Column:
    if _SWAP:
        column = array(column.typecode, column)
        column.byteswap()
    return column


def unpack(frame: Sequence[Buffer]) -> tuple[int, list[Column], list[Buffer]]:
    """Reads what pack laid out.

    Args:
        frame: the buffers of one frame, from whoever sent them.

    Returns:
        The kind, the columns, and the blobs: views of the first buffer, or whole buffers.

    Raises:
        ProtocolError: the buffers are no frame.
    """
    if not frame:
        raise ProtocolError("a frame has no buffer")
    reader = _Reader(frame[0])
    magic, version, kind, columns, blobs = _HEAD.unpack(reader.take(_HEAD.size))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ProtocolError("a message is no frame of this version")
    table = list(_COLUMN.iter_unpack(reader.take(columns * _COLUMN.size)))
    lengths = reader.column(b"Q", blobs)
    made = [reader.column(code, count) for code, count in table]
    return kind, made, _blobs(reader, lengths, frame[1:])


def _blobs(reader: _Reader, lengths: Column, further: Sequence[Buffer]) -> list[Buffer]:
    blobs: list[Buffer] = []
    apart = iter(further)
    for length in lengths:
        if length < _OWN_BUFFER:
            blobs.append(reader.take(length))
            continue
        blob = next(apart, b"")
        if len(blob) != length - _OWN_BUFFER or not blob:
            raise ProtocolError("a blob of a frame is not as long as it says")
        blobs.append(blob)
    if reader.left or next(apart, None) is not None:
        raise ProtocolError("a frame goes on after its end")
    return blobs


class _Reader:
    """Takes one piece after the other, and no more than there is."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data).cast("B")
        self._at = 0

    @property
    def left(self) -> int:
        return self._data.nbytes - self._at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            raise ProtocolError("a frame ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def column(self, code: bytes, count: int) -> Column:
        size = _CODES.get(code)
        if size is None:
            raise ProtocolError("a column of a frame has no known type")
        column: Column = array(code.decode())
        column.frombytes(self.take(size * count))
        return _little(column)
