"""Parcels: pickled values whose large buffers travel beside the pickle."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from scopekit.wire.codec import dump_value, taking_out
from scopekit.wire.lending import borrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.pinning.hook import Judge
    from scopekit.wire.frames import Buffer
    from scopekit.wire.lending import Loan

__all__ = ("Parcel", "load_parcel", "pack_value")

_BUFFERS = 5  # the first protocol of pickle that knows them


class Parcel(NamedTuple):
    """A pickled value.

    Attributes:
        parts: the pickle, then the buffers that lie beside it; nothing if it is lent.
        loan: where in the memory of a process of the same node they lie instead.
    """

    parts: tuple[Buffer, ...]
    loan: Loan | None = None

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        sizes = (memoryview(part).nbytes for part in self.parts)
        return sum(sizes) if self.loan is None else sum(self.loan.sizes)

    def copied(self) -> Parcel:
        """Returns a parcel of its own: the value that was packed may change."""
        return Parcel(tuple(bytes(part) for part in self.parts), self.loan)

    def borrowed(self, *, own: bool = False) -> Parcel:
        """Returns a parcel whose parts are here, in borrowed memory if it is lent.

        Args:
            own: True for memory that may be written to, which nobody else sees.

        Raises:
            LoanOverError: it is not there any more, or cannot be read from here.
        """
        return self if self.loan is None else Parcel(tuple(borrow(self.loan, own=own)))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # By hand, since a view does not pickle. ipyparallel's protocol knows no buffers.
        buffer: Callable[[Buffer], Any] = pickle.PickleBuffer if protocol >= _BUFFERS else bytes
        return (Parcel, (tuple(map(buffer, self.parts)), self.loan))


def pack_value(value: Any, judge: Judge | None = None) -> Parcel:
    """Pickles a value; its large buffers are not copied.

    Args:
        value: the value.
        judge: decides about what is pinned; None lets nothing go that is.

    Raises:
        Exception: whatever the value's own way to pickle raises.
    """
    buffers: list[memoryview] = []
    pickled = dump_value(value, taking_out(buffers), judge)
    return Parcel((pickled, *buffers))


def load_parcel(parcel: Parcel) -> Any:
    """Reads a value whose parts are here."""
    pickled, *buffers = parcel.parts
    return pickle.loads(pickled, buffers=buffers)
