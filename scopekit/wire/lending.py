"""Lends memory to other processes of a node, which read it where it lies.

What is lent has no name in any file system: whoever borrows opens it among the files of
the process that lends it, which the kernel lets processes of the same user do. So it goes
with the last process that has it open, however that ends.

A borrower holds a shared lock for as long as it maps the memory, and the kernel lets go of
that with its last view, or with the process. A lender writes into memory only under an
exclusive lock, so nothing changes under a view. A stamp says what the memory holds: who
comes too late, when it has been given to something else, finds another stamp.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from mmap import mmap

    from scopekit.wire.frames import Buffer

__all__ = ("Lender", "Loan", "LoanOverError", "borrow", "can_borrow", "open_lender", "same_bytes")

_STAMP = 16
# Buffers begin where a cache line does, as array libraries like it.
_ALIGNED = 64
_IDLE_BYTES = 1 << 28
_LENT_AT_ONCE = 512
_CARD = struct.Struct("<QQ16s")


class LoanOverError(LookupError):
    """What was lent is not there any more, or cannot be read from this process."""


class Loan(NamedTuple):
    """Where buffers lie in the memory of a process.

    Attributes:
        pid: the process that lends them.
        descriptor: of the memory, in that process.
        stamp: says what the memory has to hold.
        sizes: of the buffers, in bytes, in order.
    """

    pid: int
    descriptor: int
    stamp: bytes
    sizes: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Packs a loan without its sizes, as cards are sent."""
        return _CARD.pack(self.pid, self.descriptor, self.stamp)

    @classmethod
    def from_bytes(cls, packed: bytes) -> Loan:
        """Reads a card.

        Raises:
            LoanOverError: it is no card.
        """
        if len(packed) != _CARD.size:
            raise LoanOverError("a card has another length")
        pid, descriptor, stamp = _CARD.unpack(packed)
        return cls(pid, descriptor, stamp, ())


class Lender:
    """Lends copies of buffers.

    Attributes:
        card: a loan by which other processes see whether they can borrow here.

    Raises:
        OSError: this system has no such memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lent: dict[bytes, int] = {}
        self._idle: dict[int, int] = {}  # descriptors with their sizes, the oldest first
        self._closed = False
        self._pid = os.getpid()
        self.card = self.lend(())

    def lend(self, buffers: Sequence[Buffer]) -> Loan:
        """Copies buffers to where others can read them.

        Raises:
            OSError: there is no memory, or too much is lent already.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        sizes = tuple(view.nbytes for view in views)
        stamp = secrets.token_bytes(_STAMP)
        with self._lock:
            if self._closed or len(self._lent) >= _LENT_AT_ONCE:
                raise OSError("nothing more can be lent")
            descriptor = self._take(_end_of(sizes))
        try:
            _write(descriptor, stamp, 0)
            for view, begin in zip(views, _begins(sizes), strict=True):
                _write(descriptor, view, begin)
            if os.fstat(descriptor).st_size < _end_of(sizes):
                os.ftruncate(descriptor, _end_of(sizes))
            _unlock(descriptor)
            self._enter(stamp, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return Loan(self._pid, descriptor, stamp, sizes)

    def _enter(self, stamp: bytes, descriptor: int) -> None:
        with self._lock:
            if self._closed:
                raise OSError("nothing more can be lent")
            self._lent[stamp] = descriptor

    def _take(self, size: int) -> int:
        """Returns memory that nobody reads: what was used before is there already."""
        fitting = [d for d, has in self._idle.items() if size <= has <= 4 * size]
        for descriptor in sorted(fitting, key=self._idle.__getitem__):
            if _lock_for_writing(descriptor):
                del self._idle[descriptor]
                return descriptor
        return os.memfd_create("scopekit", os.MFD_CLOEXEC)

    def holds(self, loan: Loan, buffers: Sequence[Buffer]) -> bool:
        """Tells whether what was lent is still what these buffers hold."""
        if loan.sizes != tuple(memoryview(buffer).nbytes for buffer in buffers):
            return False
        return all(map(same_bytes, borrow(loan), buffers))

    def end(self, loan: Loan) -> None:
        """Takes note that a loan will be given to nobody any more."""
        with self._lock:
            descriptor = self._lent.pop(loan.stamp, None)
            if descriptor is None:
                return
            self._idle[descriptor] = os.fstat(descriptor).st_size
            while sum(self._idle.values()) > _IDLE_BYTES:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                os.close(oldest)

    def close(self) -> None:
        """Lets go of all memory; whoever has borrowed some keeps it."""
        with self._lock:
            self._closed = True
            descriptors = [*self._lent.values(), *self._idle]
            self._lent.clear()
            self._idle.clear()
        for descriptor in descriptors:
            os.close(descriptor)


def open_lender() -> Lender | None:
    """Makes a lender, where the system has memory that can be lent."""
    try:
        return Lender()
    except (OSError, AttributeError):
        return None


def borrow(loan: Loan, *, own: bool = False) -> list[memoryview]:
    """Maps what another process lends.

    Args:
        loan: where it is.
        own: True for buffers that may be written to, which nobody else sees.

    Returns:
        The buffers. The memory stays as it is for as long as one of them is alive.

    Raises:
        LoanOverError: it is not there any more, or cannot be read from this process.
    """
    try:
        mapped = _map(loan, own=own)
    except (OSError, ValueError) as error:
        raise LoanOverError(f"process {loan.pid} lends this no more: {error}") from None
    view = memoryview(mapped)
    return [
        view[begin : begin + size]
        for begin, size in zip(_begins(loan.sizes), loan.sizes, strict=True)
    ]


def _map(loan: Loan, *, own: bool) -> mmap:
    import fcntl  # noqa: PLC0415  # not on every system
    from mmap import MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap  # noqa: PLC0415

    flags, protection = MAP_SHARED, PROT_READ
    if own:
        flags, protection = MAP_PRIVATE, PROT_READ | PROT_WRITE
    descriptor = os.open(f"/proc/{loan.pid}/fd/{loan.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.pread(descriptor, _STAMP, 0) != loan.stamp:
            raise LoanOverError(f"process {loan.pid} lends something else there by now")
        # The mapping has the same open file, and with it the lock, for as long as it lives.
        return mmap(descriptor, _end_of(loan.sizes), flags=flags, prot=protection)
    finally:
        os.close(descriptor)


@lru_cache(maxsize=1024)
def can_borrow(card: Loan | None) -> bool:
    """Tells whether this process can read what the owner of a card lends."""
    if card is None:
        return False
    try:
        borrow(card)
    except LoanOverError:
        return False
    return True


def _begins(sizes: Iterable[int]) -> list[int]:
    begins = []
    at = _ALIGNED
    for size in sizes:
        begins.append(at)
        at += -(-size // _ALIGNED) * _ALIGNED
    return begins


def _end_of(sizes: Sequence[int]) -> int:
    return _begins((*sizes, 0))[-1]


def _write(descriptor: int, data: Buffer, at: int) -> None:
    view = memoryview(data)
    # Written, not mapped: fresh pages need not be cleared first, and where there is no
    # memory left that is an error instead of the end of the process.
    while view:
        written = os.pwrite(descriptor, view, at)
        at += written
        view = view[written:]


def _lock_for_writing(descriptor: int) -> bool:
    import fcntl  # noqa: PLC0415  # not on every system

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _unlock(descriptor: int) -> None:
    import fcntl  # noqa: PLC0415  # not on every system

    fcntl.flock(descriptor, fcntl.LOCK_UN)


def same_bytes(one: Buffer, other: Buffer) -> bool:
    """Tells whether two buffers hold the same bytes."""
    # Compared by words: eight times as fast as by bytes.
    one, other = memoryview(one).cast("B"), memoryview(other).cast("B")
    words = one.nbytes // 8 * 8
    same = one[:words].cast("Q") == other[:words].cast("Q")
    return bool(same and one[words:] == other[words:])
