"""Blobs: large buffers of arguments, of which every call has its own."""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from scopekit.wire.lending import LoanOverError, borrow

if TYPE_CHECKING:
    from scopekit.wire.frames import Buffer
    from scopekit.wire.lending import Loan

__all__ = ("Blob",)


class Blob:
    """A large buffer of an argument.

    Arguments are given by value: what one call does to its argument, no other sees.

    Args:
        data: the buffer, which nobody changes.

    Attributes:
        loan: where it lies in memory that processes of the node share, if it does; the
            last of its buffers.
    """

    __slots__ = ("data", "loan")

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.loan: Loan | None = None

    def own(self) -> Buffer:
        """Returns the buffer for one call, which may write to it."""
        if self.loan is not None:
            try:
                # Pages are copied only as they are written to.
                return borrow(self.loan, own=True)[-1]
            except LoanOverError:
                pass  # its lender is gone, and what is mapped here stays
        return bytearray(self.data)

    def __sizeof__(self) -> int:
        return memoryview(self.data).nbytes

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return (Blob, (PickleBuffer(self.data),))
