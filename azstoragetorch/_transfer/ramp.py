"""How many bytes to have on their way: few where the processor is what is waited for, many where it is the network.

Samples that are on their way live in fresh memory, whose pages and place in the cache cost: 64 samples of 4 MiB over
https without latency took twice the CPU with 24 at a time as with 2. Behind a latency of 20 ms and 60 MB/s a connection
it is the other way round, and 24 connections bring 24 times as much. So a window begins with `FIRST` bytes and doubles
them as long as its consumer waits and the thread of the loop is idle meanwhile.
"""

from __future__ import annotations

import time

from azstoragetorch._values.options import MiB

__all__ = ["GLANCE", "Ramp"]

FIRST = 8 * MiB
"""Bytes on their way at first: 32 samples of 256 KiB, so only larger ones are ever held back."""

GLANCE = 0.02
"""Seconds between two looks at what is waited for: a round trip."""

BUSY = 0.75
"""Part of the time that the loop's thread computes where more on their way would not come sooner."""


class Ramp:
    """The allowance of one window; all on the loop's thread.

    :param most: bytes that it grows to.
    :param depth: samples at a time, at most.
    """

    __slots__ = ("_computed", "_looked", "_most", "_small", "allowance")

    def __init__(self, most: int, depth: int) -> None:
        self._most = most
        self._small = FIRST // depth
        self.allowance = min(FIRST, most)
        """Bytes that may be on their way, or wait to be taken."""
        self._looked = time.monotonic()
        self._computed = time.thread_time()

    @property
    def grows(self) -> bool:
        """Whether it can become more."""
        return self.allowance < self._most

    def is_small(self, size: int) -> bool:
        """Whether as many samples of this size as there may be are allowed from the start."""
        return size <= self._small

    def look(self, *, wanted: bool) -> None:
        """Note how busy the thread was since the last look, and allow twice as much if it was not.

        :param wanted: whether the consumer waits.
        """
        now, computed = time.monotonic(), time.thread_time()
        busy = (computed - self._computed) > BUSY * (now - self._looked)
        self._looked, self._computed = now, computed
        if wanted and not busy:
            self.allowance = min(2 * self.allowance, self._most)
