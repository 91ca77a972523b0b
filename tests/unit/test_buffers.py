"""The pool of buffers that transfers reuse."""

from __future__ import annotations

import sys

from azstoragetorch._values.buffers import BufferPool, fillable_bytes


def test_buffer_given_back_is_handed_out_again() -> None:
    """A fresh buffer costs 1.5 s of page faults per GiB."""
    pool = BufferPool(keep=100)
    first = pool.take(40)
    pool.give(first)

    assert pool.take(40) is first


def test_buffer_has_exactly_the_size_asked_for() -> None:
    """Its length is what the account counts."""
    pool = BufferPool(keep=100)
    pool.give(bytearray(50))

    assert [len(pool.take(size)) for size in (40, 50, 0)] == [40, 50, 0]


def test_buffer_is_never_handed_out_twice() -> None:
    """Two transfers in one buffer mix two blobs."""
    pool = BufferPool(keep=100)
    pool.give(bytearray(10))

    assert pool.take(10) is not pool.take(10)


def test_pool_keeps_no_more_than_its_limit() -> None:
    """One large checkpoint must not cost its memory for the rest of the process."""
    pool = BufferPool(keep=100)
    kept, let_go = bytearray(60), bytearray(60)
    pool.give(kept)
    pool.give(let_go)

    assert pool.take(60) is kept
    assert pool.take(60) is not let_go


def test_taking_makes_room_to_keep_again() -> None:
    """Else the pool works once and never again."""
    pool = BufferPool(keep=100)
    for _ in range(3):
        buffer = bytearray(100)
        pool.give(buffer)
        assert pool.take(100) is buffer


def test_cleared_pool_starts_over() -> None:
    """An idle process holds nothing, and is as fast as before when it works again."""
    pool = BufferPool(keep=100)
    forgotten, kept = bytearray(100), bytearray(100)
    pool.give(forgotten)
    pool.clear()
    pool.give(kept)

    assert pool.take(100) is kept
    assert pool.take(100) is not forgotten


def test_shrinking_lets_buffers_go_until_few_enough_are_kept() -> None:
    """Kept buffers count as memory too: they make way for buffers of another size."""
    pool = BufferPool(keep=100)
    old, new = bytearray(40), bytearray(30)
    pool.give(old)
    pool.give(new)

    pool.shrink(70)
    assert pool.take(30) is new
    pool.give(new)
    pool.shrink(69)
    assert pool.take(40) is not old
    assert pool.take(30) is new


def test_bytes_are_filled_in_place_and_belong_to_one_reader() -> None:
    """A read of half the memory must not need all of it; bytes that were shared would change under their owners."""
    for size in (1, 2, 100, 1 << 20):
        content, view = fillable_bytes(size)
        other, _ = fillable_bytes(size)
        view[:] = b"x" * size
        other_before = bytes(other)
        assert content == b"x" * size
        view[0:1] = b"y"
        assert content[:1] == b"y"
        assert other == other_before
        assert (type(content), len(content), view.format, view.itemsize) == (bytes, size, "B", 1)


def test_a_slice_keeps_the_bytes_alive() -> None:
    """Whoever still fills them when their reader is gone must not write into memory that is somebody else's."""
    content, view = fillable_bytes(1 << 20)
    references = sys.getrefcount(content)
    part = view[10:20]
    del view
    assert sys.getrefcount(content) == references
    del part
    assert sys.getrefcount(content) == references - 1
