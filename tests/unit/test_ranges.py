"""How a read is cut into requests."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azstoragetorch._values.ranges import split


@given(start=st.integers(0, 10_000), length=st.integers(0, 10_000), size=st.integers(1, 4_000))
def test_ranges_cover_every_byte_once_and_in_order(start: int, length: int, size: int) -> None:
    """A gap would be a hole of stale memory in a tensor, an overlap two writers of one place."""
    ranges = list(split(start, start + length, size))

    assert sum(len(part) for part in ranges) == length
    assert all(0 < len(part) <= size for part in ranges)
    assert all(before.stop == after.start for before, after in pairwise(ranges))
    if ranges:
        assert (ranges[0].start, ranges[-1].stop) == (start, start + length)


@given(start=st.integers(0, 10_000), length=st.integers(1, 10_000), size=st.integers(1, 4_000))
def test_cuts_fall_on_multiples_of_the_size(start: int, length: int, size: int) -> None:
    """Counted from byte 0 of the blob, so that overlapping reads ask for equal ranges."""
    inner = [part.start for part in split(start, start + length, size)][1:]

    assert all(cut % size == 0 for cut in inner)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (7, 7), (9, 3)])
def test_empty_interval_gives_no_range(start: int, stop: int) -> None:
    """The service answers a range of no bytes with an error."""
    assert list(split(start, stop, 4)) == []


@pytest.mark.parametrize("size", [0, -1])
def test_size_has_to_be_positive(size: int) -> None:
    """Anything else would never come to an end."""
    with pytest.raises(ValueError, match=f"got {size}"):
        list(split(0, 1, size))
