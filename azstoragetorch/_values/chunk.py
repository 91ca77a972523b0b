"""Blobs that are being collected: the columns that a table is packed from.

The columns are those of `azstoragetorch._values.table`, which reads them from here.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from azstoragetorch._values.version import BlobEntry

__all__ = ["FIRST_TEXT", "UNKNOWN", "ListPage", "TableChunk", "etag_of", "size_of", "time_of"]

UNKNOWN = (1 << 64) - 1
FIRST_TEXT = UNKNOWN - (1 << 32)
"""Numbers from here on are no ETag but the index of a text. The ETags of the service have 60 bits."""

LATEST = (1 << 32) - 1  # in the year 2106

SEALED_FROM = 64 * 1024  # bytes; less is a fraction of a listing, and a mapping has 4,096 at least


class TableChunk:
    """Blobs that are being collected, such as one page of a listing; grows at its end."""

    __slots__ = ("_ends", "_etags", "_modified", "_names", "_sizes", "_texts")

    def __init__(self) -> None:
        self._names = bytearray()
        self._ends = array("Q")
        self._sizes = array("Q")
        self._etags = array("Q")
        self._modified = array("I")
        self._texts: list[bytes] = []

    def append(self, name: str, size: int | None, etag: str | None, modified: int | None) -> None:
        """Add one blob.

        :param size: bytes, ``None`` if unknown.
        :param etag: quoted as in a header, ``None`` if unknown.
        :param modified: whole seconds since 1970 in UTC, ``None`` if unknown; so is a time before or after 2106.
        :raises OverflowError: if ``size`` is negative or has more than 64 bits.
        :raises UnicodeEncodeError: if ``name`` has a lone surrogate.
        """
        text = name.encode()
        self._sizes.append(UNKNOWN if size is None else size)  # before the rest: it refuses
        self._names += text
        self._ends.append(len(self._names))
        self._modified.append(modified if modified is not None and 0 < modified <= LATEST else 0)
        number = 0
        if etag is not None:
            try:
                number = int(etag[3:-1], 16)
            except ValueError:
                number = 0
            if not 0 < number < FIRST_TEXT or f'"0x{number:X}"' != etag:
                number = FIRST_TEXT + len(self._texts)
                self._texts.append(etag.encode())
        self._etags.append(number)

    def name(self, i: int) -> str:
        """Return the name of blob ``i``, which must not be negative."""
        return str(self._names[self._ends[i - 1] if i else 0 : self._ends[i]], "utf-8")

    def seal(self) -> None:
        """Move what was collected to memory of its own, if it is much; nothing can be appended any more.

        On the heap a page lies among the garbage that its making left, and neither goes back to the system when it is
        freed: a listing would take the memory of its pages and of its table.
        """
        columns: list[Any] = [self._ends, self._sizes, self._etags, self._modified, self._names]
        size = sum(memoryview(column).nbytes for column in columns)
        if size < SEALED_FROM:
            return
        memory, start, moved = memoryview(mmap.mmap(-1, size)), 0, []
        for column in columns:
            content = memoryview(column)
            stop = start + content.nbytes
            memory[start:stop] = content.cast("B")
            moved.append(memory[start:stop].cast(content.format))  # type: ignore[call-overload]  # one of Q, I, B
            start = stop
        # They are read as arrays are.
        self._ends, self._sizes, self._etags, self._modified, self._names = cast(Any, moved)

    def part(self, start: int, stop: int) -> TableChunk:
        """Return a copy of the blobs ``[start, stop)``."""
        made = TableChunk()
        for i in range(start, stop):
            blob = self[i]
            made.append(blob.name, blob.size, blob.etag, self._modified[i])
        return made

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> BlobEntry:
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError(f"index out of range of {len(self)} blobs")
        number = self._etags[i]
        etag = self._texts[number - FIRST_TEXT].decode() if number >= FIRST_TEXT else etag_of(number)
        return BlobEntry(self.name(i), size_of(self._sizes[i]), etag, time_of(self._modified[i]))

    def __iter__(self) -> Iterator[BlobEntry]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing."""

    blobs: TableChunk
    """In the order in which the service sent them."""
    archived: list[str]
    """Names of the blobs that cannot be read before they are rehydrated; not among ``blobs``."""
    directories: list[str]
    """Names of placeholders of directories; not among ``blobs``."""
    ordered: bool = True
    """Whether all these names came in ascending order (of their code points), each once."""
    more: bool = False
    """Whether another page follows."""


def etag_of(number: int) -> str | None:
    """Spell an ETag that is a number."""
    return f'"0x{number:X}"' if number else None


def size_of(number: int) -> int | None:
    """Read a number of the column of sizes."""
    return None if number == UNKNOWN else number


def time_of(seconds: int) -> datetime | None:
    """Read a number of the column of times."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
