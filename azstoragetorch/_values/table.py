"""Many blobs in little memory: columns of plain bytes instead of objects.

*Operations*: a `TableChunk` grows blob by blob; `BlobTable.of` packs chunks into one immutable `BlobTable`, which hands
out a `BlobEntry` at an index, walks over the names, and makes a smaller table of chosen indices.

*Goals*: a million blobs in 100 MB, once per machine and not once per DataLoader worker; an index costs microseconds.

*Plan*: 28 bytes a blob and its name in UTF-8, in the memory of `SharedMemory`:

    ends      8 bytes each   where the name ends in `names`
    sizes     8              bytes of the blob, all ones if unknown
    etags     8              the number N of an ETag ``"0xN"``, 0 if unknown, or FIRST_TEXT + index in `texts`
    modified  4              seconds since 1970, 0 if unknown
    (padding to 8)
    text_ends 8              where an ETag that is no such number ends in `texts`
    texts, names             UTF-8, end to end

Equal content has equal bytes, whatever chunks it came in, so a digest of the bytes is one of the content.

*Warning*: numbers are in the byte order of the machine. A file of such a table says which (see the manifest).
"""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, SupportsIndex, overload

from azstoragetorch._values.chunk import FIRST_TEXT, UNKNOWN, ListPage, TableChunk, etag_of, size_of, time_of
from azstoragetorch._values.shared import SharedMemory
from azstoragetorch._values.version import BlobEntry

__all__ = ["BlobTable", "ListPage", "Shape", "TableChunk"]

WORTH_SHARING = 64 * 1024  # bytes: a smaller table is copied in microseconds, and a process has 1,024 descriptors
ROWS_AT_ONCE = 4096  # of a select: what is in two places at a time is small beside the table


class Shape(NamedTuple):
    """The four counts that say where each column of a table is."""

    blobs: int
    name_bytes: int
    texts: int
    text_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole table."""
        return self.starts[-1] + self.name_bytes

    @property
    def starts(self) -> tuple[int, int, int, int, int, int, int]:
        """First byte of each column: ends, sizes, etags, modified, text_ends, texts, names."""
        n = self.blobs
        text_ends = (28 * n + 7) // 8 * 8
        texts = text_ends + 8 * self.texts
        return 0, 8 * n, 16 * n, 24 * n, text_ends, texts, texts + self.text_bytes


class BlobTable(Sequence[BlobEntry]):
    """Many blobs, immutable, in memory that child processes share. Made by `of`.

    :param memory: holds the columns from byte ``offset`` on, a multiple of 8. Never written to again.
    :raises ValueError: if the memory is too small for the shape.
    """

    __slots__ = (
        "_ends",
        "_etags",
        "_memory",
        "_modified",
        "_names",
        "_offset",
        "_sizes",
        "_text_ends",
        "_texts",
        "shape",
    )

    def __init__(self, memory: SharedMemory, shape: Shape, offset: int = 0) -> None:
        if len(memory.view) < offset + shape.nbytes or offset % 8 or min(shape) < 0:
            raise ValueError(f"a table of {shape} is not in {len(memory.view)} bytes from byte {offset}")
        self._memory, self._offset = memory, offset
        self.shape: Shape = shape
        content = memory.view[offset : offset + shape.nbytes].toreadonly()
        ends, sizes, etags, modified, text_ends, texts, names = shape.starts
        self._ends = content[ends:sizes].cast("Q")
        self._sizes = content[sizes:etags].cast("Q")
        self._etags = content[etags:modified].cast("Q")
        self._modified = content[modified : modified + 4 * shape.blobs].cast("I")
        self._text_ends = content[text_ends:texts].cast("Q")
        self._texts = content[texts:names]
        self._names = content[names:]

    @classmethod
    def of(cls, chunks: Iterable[TableChunk]) -> BlobTable:
        """Pack ``chunks``, in their order.

        A list is emptied on the way: each chunk goes as it is copied, so that nothing is there twice.

        :raises OSError: if the memory cannot be had.
        """
        pending = chunks if isinstance(chunks, list) else list(chunks)
        shape = Shape(
            sum(map(len, pending)),
            sum(len(chunk._names) for chunk in pending),
            sum(len(chunk._texts) for chunk in pending),
            sum(len(text) for chunk in pending for text in chunk._texts),
        )
        memory = SharedMemory(shape.nbytes, shared=shape.nbytes >= WORTH_SHARING)
        # From the last to the first: what was allocated last can be returned to the system first.
        stop = [*shape.starts[1:], shape.nbytes]
        stop[3] = shape.starts[3] + 4 * shape.blobs  # without the padding
        _, name_bytes, texts, text_bytes = shape

        def put(column: int, data: bytes | bytearray | memoryview) -> None:
            start = stop[column] - len(data)
            memory.view[start : stop[column]] = data
            stop[column] = start

        while pending:
            chunk = pending.pop()
            ends, etags = chunk._ends, chunk._etags
            name_bytes -= len(chunk._names)
            texts -= len(chunk._texts)
            if name_bytes:
                ends = array("Q", [end + name_bytes for end in ends])
            if chunk._texts and texts:
                etags = array("Q", [number + texts if number >= FIRST_TEXT else number for number in etags])
            put(0, memoryview(ends).cast("B"))
            put(1, memoryview(chunk._sizes).cast("B"))
            put(2, memoryview(etags).cast("B"))
            put(3, memoryview(chunk._modified).cast("B"))
            for text in reversed(chunk._texts):
                put(4, memoryview(array("Q", [text_bytes])).cast("B"))
                put(5, text)
                text_bytes -= len(text)
            put(6, chunk._names)
        return cls(memory, shape)

    def __len__(self) -> int:
        return self.shape.blobs

    @overload
    def __getitem__(self, index: SupportsIndex) -> BlobEntry: ...

    @overload
    def __getitem__(self, index: slice) -> BlobTable: ...

    def __getitem__(self, index: SupportsIndex | slice) -> BlobEntry | BlobTable:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        i = self._index(index)
        ends = self._ends
        name = str(self._names[ends[i - 1] if i else 0 : ends[i]], "utf-8")
        return BlobEntry(name, size_of(self._sizes[i]), self._etag(i), time_of(self._modified[i]))

    def __iter__(self) -> Iterator[BlobEntry]:
        return map(self.__getitem__, range(len(self)))

    def name(self, i: int) -> str:
        """Return the name of blob ``i``."""
        i = self._index(i)
        return str(self._names[self._ends[i - 1] if i else 0 : self._ends[i]], "utf-8")

    def names(self) -> Iterator[str]:
        """Walk over the names, several times faster than over the blobs."""
        start, names = 0, self._names
        for end in self._ends:
            yield str(names[start:end], "utf-8")
            start = end

    def select(self, indices: Iterable[SupportsIndex]) -> BlobTable:
        """Return a table of its own with the blobs at ``indices``, in that order.

        :raises IndexError: if one is out of range.
        """
        chunks = []
        remaining = iter(indices)
        ends, names = self._ends, self._names
        while rows := [self._index(index) for index in islice(remaining, ROWS_AT_ONCE)]:
            chunk = TableChunk()
            for i in rows:
                chunk._names += names[ends[i - 1] if i else 0 : ends[i]]
                chunk._ends.append(len(chunk._names))
            chunk._sizes.extend(map(self._sizes.__getitem__, rows))
            chunk._modified.extend(map(self._modified.__getitem__, rows))
            chunk._etags.extend(map(self._etags.__getitem__, rows))
            if self.shape.texts:
                for row, number in enumerate(chunk._etags):
                    if number >= FIRST_TEXT:
                        chunk._etags[row] = FIRST_TEXT + len(chunk._texts)
                        chunk._texts.append(self._text(number))
            chunk.seal()
            chunks.append(chunk)
        return self.of(chunks)

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the columns."""
        return self.shape.nbytes

    @property
    def size(self) -> int | None:
        """Bytes of all blobs together; ``None`` if that of any is unknown."""
        if len(self) and max(self._sizes) == UNKNOWN:
            return None
        return sum(self._sizes)

    @property
    def content(self) -> memoryview:
        """The columns as they are in memory, read-only."""
        return self._memory.view[self._offset : self._offset + self.shape.nbytes].toreadonly()

    def digest(self) -> str:
        """Return 32 hexadecimal digits that change when any name, size, ETag, time or the order changes."""
        state = hashlib.blake2b(repr(tuple(self.shape)).encode(), digest_size=16)
        state.update(self.content)
        return state.hexdigest()

    def __reduce__(self) -> tuple[type[BlobTable], tuple[SharedMemory, Shape, int]]:
        return type(self), (self._memory, self.shape, self._offset)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} blobs, {self.nbytes} bytes)"

    def _index(self, index: SupportsIndex) -> int:
        i = operator.index(index)
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"index {i} is out of range of {n} blobs")
        return i + n if i < 0 else i

    def _text(self, number: int) -> bytes:
        k = number - FIRST_TEXT
        return bytes(self._texts[self._text_ends[k - 1] if k else 0 : self._text_ends[k]])

    def _etag(self, i: int) -> str | None:
        number = self._etags[i]
        return self._text(number).decode() if number >= FIRST_TEXT else etag_of(number)
