"""A file over bytes that are at hand: a prefetched sample, opened like any other blob.

Every operation is done when it is called. None needs the event loop, so such a file works anywhere: beside a running
loop, on the loop's own thread, and on both sides of a fork.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Any, SupportsIndex, TypeVar

from azstoragetorch._transfer.cursor import PEEK, Steps

__all__ = ["HeldCursor"]

_T = TypeVar("_T")


class HeldCursor:
    """The operations of :class:`~azstoragetorch._transfer.cursor.ReadCursor` on bytes, none of which yields a step.

    ``io.BytesIO`` does the work: it shares the bytes instead of copying them, hands them out whole again, and each of
    its operations is one piece to other threads and to a fork, so that the faces need no lock.

    :param content: the whole blob.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._file = io.BytesIO(content)

    @property
    def position(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def read(self, size: int | None = -1) -> Steps[bytes]:
        """See :meth:`ReadCursor.read`."""
        return _done(self._file.read(size))

    def read1(self, size: int = -1) -> Steps[bytes]:
        """See :meth:`ReadCursor.read1`."""
        return _done(self._file.read1(size))

    def readinto(self, view: memoryview) -> Steps[int]:
        """See :meth:`ReadCursor.readinto`."""
        # An empty view may be a read-only one (see byte_view), which BytesIO would refuse.
        return _done(self._file.readinto(view) if len(view) else 0)

    def readline(self, limit: int | None = -1) -> Steps[bytes]:
        """See :meth:`ReadCursor.readline`."""
        return _done(self._file.readline(limit))

    def peek(self, size: int = 0) -> Steps[bytes]:
        """See :meth:`ReadCursor.peek`."""
        start = self._file.tell()
        return _done(self._content[start : start + (size if size > 0 else PEEK)])

    def seek(self, offset: SupportsIndex, whence: int = io.SEEK_SET) -> Steps[int]:
        """See :meth:`ReadCursor.seek`."""
        return _done(self._file.seek(offset.__index__(), whence))

    def close(self) -> Steps[None]:
        """Let the bytes go."""
        self._content = b""
        self._file = io.BytesIO()
        return _done(None)


def _done(result: _T) -> Generator[Any, Any, _T]:
    """Make an operation that has been carried out one whose steps can be driven: there are none."""
    yield from ()
    return result
