"""A container of a million blobs that are only listed: their pages cost a copy, and the blobs no memory.

Blob ``i`` is named ``<prefix>PPPPPP-JJJJ.bin`` with P = i // 5000 and J = i % 5000. What a row holds beside P is the
same for every P, so the 5,000 rows are written once, with a place holder for P, and filled in by one `bytes.replace`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

ROWS = 5000
_PLACE = b"@@@@@@"


class Catalog:
    """The names of ``count`` blobs, in order; they cannot be read.

    :param row: writes the ``<Blob>`` element of a name and an ETag.
    """

    def __init__(self, count: int, prefix: str, row: Callable[[str, str], str]) -> None:
        if not 0 <= count <= 10**6 * ROWS or "@" in prefix:
            raise ValueError("count is at most 5,000,000,000, and prefix has no @")
        self.count = count
        self._prefix = prefix
        place = _PLACE.decode()
        self._rows = [
            row(f"{prefix}{place}-{j:04}.bin", f"0x8DD{place}{j:06}").encode() for j in range(min(count, ROWS))
        ]

    def name(self, i: int) -> str:
        """Return the name of blob ``i``."""
        return f"{self._prefix}{i // ROWS:06}-{i % ROWS:04}.bin"

    def page(self, prefix: str, after: str, start_from: str, count: int) -> tuple[bytes, str]:
        """Return the rows of one page, and the last name if more follow."""
        names = range(self.count)
        first = bisect_left(names, max(prefix, start_from), key=self.name)
        first = max(first, bisect_right(names, after, key=self.name))
        stop = bisect_left(names, True, key=lambda i: not self.name(i).startswith(prefix), lo=first)
        last = min(first + count, stop)
        parts = []
        for number in range(first // ROWS, -(-last // ROWS)):
            start = number * ROWS
            rows = b"".join(self._rows[max(0, first - start) : max(0, last - start)])
            parts.append(rows.replace(_PLACE, b"%06d" % number))
        return b"".join(parts), self.name(last - 1) if first < last < stop else ""
