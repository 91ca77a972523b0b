"""The bytes of a blob, as pieces that can be sent without being joined or copied.

Three kinds: bytes that were received, a synthetic pattern of any size that needs 8 MiB of memory, and an
upload of which only the size and a checksum were kept.
"""

from __future__ import annotations

import functools
import itertools
import random
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

MiB = 1024 * 1024

PATTERN_SIZE = 4 * MiB  # large enough that one `sendall` of a chunk costs nothing beside the copy it makes
_STRIDE = 1_000_003  # odd, so that 2**22 chunks (16 TiB) all start at another place of the pattern


class Content(Protocol):
    """Bytes of a known size, readable by range."""

    @property
    def size(self) -> int: ...

    def slices(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes ``[start, stop)`` in order; the views stay valid and unchanged."""


class BytesContent:
    """Content made of received pieces, kept as they came."""

    def __init__(self, *parts: bytes | bytearray) -> None:
        self._parts = [memoryview(part) for part in parts if part]
        self._stops = list(itertools.accumulate(len(part) for part in self._parts))

    @property
    def size(self) -> int:
        return self._stops[-1] if self._stops else 0

    def slices(self, start: int, stop: int) -> Iterator[memoryview]:
        index = bisect_right(self._stops, start)
        while start < stop:
            part = self._parts[index]
            origin = self._stops[index] - len(part)
            piece = part[start - origin : stop - origin]
            yield piece
            start += len(piece)
            index += 1


class JoinedContent:
    """Content made of other contents, in order: a committed list of blocks."""

    def __init__(self, parts: Sequence[Content]) -> None:
        self._parts = [part for part in parts if part.size]
        self._stops = list(itertools.accumulate(part.size for part in self._parts))

    @property
    def size(self) -> int:
        return self._stops[-1] if self._stops else 0

    def slices(self, start: int, stop: int) -> Iterator[memoryview]:
        index = bisect_right(self._stops, start)
        while start < stop:
            part = self._parts[index]
            origin = self._stops[index] - part.size
            end = min(stop - origin, part.size)
            yield from part.slices(start - origin, end)
            start = origin + end
            index += 1


@functools.cache
def _pattern(seed: int) -> memoryview:
    pattern = random.Random(seed).randbytes(PATTERN_SIZE)
    # Twice in a row, so that every rotation of it is one contiguous view.
    return memoryview(pattern + pattern)


class SyntheticContent:
    """Deterministic content of any size: chunk ``i`` is the 4 MiB pattern of ``seed``, rotated by ``i``."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size = size
        self._seed = seed

    @property
    def size(self) -> int:
        return self._size

    def slices(self, start: int, stop: int) -> Iterator[memoryview]:
        pattern = _pattern(self._seed)
        while start < stop:
            chunk, offset = divmod(start, PATTERN_SIZE)
            end = min(stop, (chunk + 1) * PATTERN_SIZE)
            origin = chunk * _STRIDE % PATTERN_SIZE + offset
            yield pattern[origin : origin + end - start]
            start = end


class DiscardedContent:
    """An upload of which only the size and a CRC-32 (0 when not asked for) were kept: it cannot be read."""

    def __init__(self, size: int, crc32: int) -> None:
        self._size = size
        self.crc32 = crc32

    @property
    def size(self) -> int:
        return self._size

    def slices(self, start: int, stop: int) -> Iterator[memoryview]:
        raise LookupError("the content of this upload was discarded (discard_uploads)")


def synthetic_bytes(start: int, stop: int, seed: int = 0) -> bytes:
    """Compute the bytes ``[start, stop)`` of every synthetic blob with this seed."""
    return b"".join(SyntheticContent(stop, seed).slices(start, stop))


def crc32(content: Content) -> int:
    """Compute the CRC-32 of the content, from what was kept if the bytes are gone."""
    if isinstance(content, DiscardedContent):
        return content.crc32
    value = 0
    for piece in content.slices(0, content.size):
        value = zlib.crc32(piece, value)
    return value
