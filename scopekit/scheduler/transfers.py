"""What it takes to move a value, learnt from those that were moved."""

from __future__ import annotations

__all__ = ("Transfers",)

# What is assumed until something was moved: a request, and the bytes at loopback speed.
_LATENCY = 0.3e-3
_BYTES_PER_SECOND = 2e9
_WEIGHT = 0.2
_WEIGHT_OF_LONGER = 0.02
# Shorter values tell of the latency, longer ones of the bandwidth.
_SHORT = 1 << 14
_LONG = 1 << 20
_SLOWEST_LATENCY = 0.1
_QUICKEST_LATENCY = 0.05e-3
_LOST_SECONDS = 60.0


class Transfers:
    """Estimates how long values take from one process to another.

    Attributes:
        latency: how long a short one takes, in seconds.
    """

    def __init__(self) -> None:
        self.latency = _LATENCY
        self._seconds_per_byte = 1 / _BYTES_PER_SECOND

    def estimate(self, nbytes: int) -> float:
        """Returns how many seconds a value of so many bytes takes."""
        return self.latency + nbytes * self._seconds_per_byte

    def seconds_for(self, nbytes: int) -> float:
        """Returns how many seconds so many bytes take more than none."""
        return nbytes * self._seconds_per_byte

    def learn(self, nbytes: int, seconds: float) -> None:
        """Takes note of one that was moved.

        Args:
            nbytes: how large it was.
            seconds: from when it was made and asked for, until it was there.
        """
        if not 0 < seconds < _LOST_SECONDS:
            return  # clocks were set, or it was lost on the way and sent again
        if nbytes <= _SHORT:
            # Most of what takes longer waited for something else: a processor, other values.
            weight = _WEIGHT if seconds < self.latency else _WEIGHT_OF_LONGER
            latency = self.latency + weight * (seconds - self.latency)
            self.latency = min(max(latency, _QUICKEST_LATENCY), _SLOWEST_LATENCY)
        elif nbytes >= _LONG:
            measured = max(seconds - self.latency, 0.0) / nbytes
            self._seconds_per_byte += _WEIGHT * (measured - self._seconds_per_byte)
