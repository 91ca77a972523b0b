"""Half-open byte ranges and how a transfer is cut into them."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["split"]


def split(start: int, stop: int, size: int) -> Iterator[range]:
    """Cut the bytes ``[start, stop)`` into ranges of at most ``size`` bytes.

    Cuts fall on multiples of ``size`` counted from byte 0 of the blob, not from ``start``, so that
    overlapping reads ask for equal ranges. An empty interval gives no range.

    :raises ValueError: if ``size`` is not positive.
    """
    if size <= 0:
        raise ValueError(f"size must be positive, got {size}")
    while start < stop:
        cut = min(stop, start - start % size + size)
        yield range(start, cut)
        start = cut
