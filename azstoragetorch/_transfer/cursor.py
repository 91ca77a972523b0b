"""What a file does between two requests, written once for both faces.

A method that may need the event loop is a generator: it yields ``(function, arguments)`` where a coroutine has to run,
is sent the result, and returns what the file's method returns. ``BlobIO`` drives it by running each step on the bridge,
``AsyncBlobIO`` by awaiting it. A small read or write yields nothing, so it costs no hop.

Not safe for two drivers at once: the faces hold a lock.
"""

from __future__ import annotations

import io
import operator
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, SupportsIndex, TypeAlias, TypeVar

from azstoragetorch._transfer.content import Download, Upload
from azstoragetorch._transfer.readahead import GAP, Segment
from azstoragetorch._transfer.writer import Block
from azstoragetorch._values.buffers import fillable_bytes
from azstoragetorch._values.options import KiB

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    Buffer: TypeAlias = Any  # for type checkers, NumPy's arrays are buffers from 3.12 on, too

__all__ = ["Buffer", "ReadCursor", "Steps", "WriteCursor", "byte_view"]

_T = TypeVar("_T")
Step: TypeAlias = tuple[Callable[..., Coroutine[Any, Any, Any]], tuple[Any, ...]]
Steps: TypeAlias = Generator[Step, Any, _T]

PEEK = 8 * KiB
"""Bytes that ``peek`` shows at most when it is not asked for more; what Python's buffered files hold."""


def byte_view(data: Buffer, *, writable: bool = False) -> memoryview:
    """Return the memory of ``data`` as single bytes.

    :raises TypeError: if ``data`` has no buffer, or a read-only one where it is to be written.
    :raises BufferError: if its memory is not C-contiguous.
    """
    if isinstance(data, str):
        raise TypeError("a bytes-like object is required, not 'str'")
    view = memoryview(data)
    if writable and view.readonly:
        raise TypeError(f"a writable bytes-like object is required, not read-only {type(data).__name__}")
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    # Views with a zero in their shape cannot be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")


class ReadCursor:
    """A position in a blob, and the fetched bytes around it."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self.position = 0
        self._window: Segment | None = None
        self._consumed = 0
        self._end = 0

    def read(self, size: int | None = -1) -> Steps[bytes]:
        """Read ``size`` bytes, fewer only at the end; all that is left if it is negative or ``None``."""
        window, position = self._window, self.position
        size = operator.index(size) if size is not None else -1
        if size >= 0:
            if window is not None and window.start <= position and position + size <= window.stop:
                self._consume(size)
                return bytes(memoryview(window.buffer)[position - window.start : position - window.start + size])
            if size == 0:
                return b""
            size = min(size, (yield from self._left(size)))
        else:
            size = yield from self._left(self.download.direct)
        if size == 0:
            return b""
        if window is None and size < self.download.direct:
            yield from self._look(size)
            window = self._window
            if window is not None and position + size <= window.stop:
                return (yield from self.read(size))
        content, view = fillable_bytes(size)  # filled in place and handed out without a second copy
        filled = yield from self.readinto(view)
        return content if filled == size else content[:filled]

    def read1(self, size: int = -1) -> Steps[bytes]:
        """Read ``size`` bytes; if it is negative, what is at hand, at least one byte before the end."""
        if operator.index(size) < 0:
            yield from self._look(self.download.direct)
            size = self._window.stop - self.position if self._window is not None else 0
        return (yield from self.read(size))

    def readinto(self, view: memoryview) -> Steps[int]:
        """Fill ``view`` and return how many bytes that took, fewer than its length only at the end."""
        return (yield from self._whole(self._fill(view)))

    def readline(self, limit: int | None = -1) -> Steps[bytes]:
        """Read up to and with the next newline, at most ``limit`` bytes if it is not negative."""
        return (yield from self._whole(self._line(limit)))

    def peek(self, size: int = 0) -> Steps[bytes]:
        """Return bytes from the position on without moving it: some of what is at hand, none only at the end."""
        if not (yield from self._look(max(size, 1))):
            return b""
        window = self._window
        assert window is not None
        start = self.position - window.start
        stop = min(window.stop - window.start, start + (size if size > 0 else PEEK))
        return bytes(memoryview(window.buffer)[start:stop])

    def seek(self, offset: SupportsIndex, whence: int = 0) -> Steps[int]:
        """Move the position and return it; asks the service nothing unless the end is needed and not known."""
        offset = operator.index(offset)
        if whence == io.SEEK_SET:
            if offset < 0:
                raise ValueError(f"negative seek value {offset}")
        elif whence == io.SEEK_CUR:
            offset += self.position
        elif whence == io.SEEK_END:
            size = self.download.known_size
            offset += size if size is not None else (yield self.download.size, (0, 1))
        else:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        self.position = max(0, offset)
        return self.position

    def close(self) -> Steps[None]:
        """End every request and free every buffer, the one the position is in included."""
        self._window = None
        yield self.download.aclose, ()

    def _whole(self, steps: Steps[_T]) -> Steps[_T]:
        """Take ``steps``, or none of them: a read that fails or is cancelled half-way leaves the position alone."""
        position = self.position
        try:
            return (yield from steps)
        except BaseException:
            self.position = position
            raise

    def _fill(self, view: memoryview) -> Steps[int]:
        filled = 0
        while filled < len(view):
            window, position = self._window, self.position
            if window is not None and window.start <= position < window.stop:
                count = min(window.stop - position, len(view) - filled)
                start = position - window.start
                view[filled : filled + count] = memoryview(window.buffer)[start : start + count]
            elif len(view) - filled >= self.download.direct:
                received: int = yield self.download.read_into, (view[filled:], position, self._run)
                self._consume(received)
                return filled + received
            elif (yield from self._look(len(view) - filled)):
                continue
            else:
                break
            filled += count
            self._consume(count)
        return filled

    def _line(self, limit: int | None) -> Steps[bytes]:
        parts: list[bytes] = []
        most = operator.index(limit) if limit is not None else -1
        left = most if most >= 0 else None
        while left is None or left > 0:
            if not (yield from self._look(PEEK)):
                break
            window = self._window
            assert window is not None
            start = self.position - window.start
            stop = window.stop - window.start
            if left is not None:
                stop = min(stop, start + left)
            end = window.buffer.find(b"\n", start, stop) + 1
            part = bytes(memoryview(window.buffer)[start : end or stop])
            parts.append(part)
            self._consume(len(part))
            if end:
                break
            if left is not None:
                left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def _run(self) -> int:
        """Bytes consumed up to the position since the last jump: how sure it is that the reader goes on."""
        return self._consumed if self._end <= self.position <= self._end + GAP else 0

    def _consume(self, count: int) -> None:
        self._consumed = self._run + count
        self.position = self._end = self.position + count

    def _left(self, want: int) -> Steps[int]:
        size = self.download.known_size
        if size is None:
            size = yield self.download.size, (self.position, want)
        return max(0, size - self.position)

    def _look(self, want: int) -> Steps[bool]:
        """Make sure that the window holds the position; ``False`` at the end of the blob."""
        window, position = self._window, self.position
        if window is not None and window.start <= position < window.stop:
            return True
        size = self.download.known_size
        if size is not None and position >= size:
            return False
        self._window = None
        self._window = yield self.download.segment, (position, want, self._run)
        return self._window is not None


class WriteCursor:
    """A position in what is being written, and the block that is being filled."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.position = 0
        self._block: Block | None = None

    def write(self, view: memoryview) -> Steps[int]:
        """Copy ``view`` and return its length; full blocks leave in the background."""
        self.upload.check()
        block = self._block if self._block is not None else self.upload.first_block()
        self._block = block
        done = 0
        try:
            while done < len(view):
                # A full block leaves when more comes, not before: content of exactly one block is one Put Blob.
                if block.full:
                    block = yield from self._submit(block)
                done += block.fill(view[done:])
        except BaseException as error:
            # Whoever is told that it failed, and goes on, would write again what is in the block already.
            self._interrupted(error)
            raise
        self.position += done
        return done

    def flush(self) -> Steps[None]:
        """Wait until every full block is staged; the unfinished one stays here."""
        self.upload.check()
        if self._block is not None and self._block.full:
            yield from self._submit(self._block)
        if self.upload.started:
            yield self.upload.settle, ()

    def commit(self) -> Steps[None]:
        """Publish everything that was written."""
        block = self._block if self._block is not None else Block(0)
        self._block = None
        yield self.upload.commit, (block,)

    def abort(self) -> Steps[None]:
        """End every request and publish nothing."""
        self._block = None  # its memory is given back by the loop, whose account it is
        yield self.upload.abort, ()

    def _interrupted(self, error: BaseException) -> None:
        # Given up between two steps, which only Ctrl-C does, a generator is told no more than that.
        self.upload.interrupt("Ctrl-C" if isinstance(error, GeneratorExit) else type(error).__name__)

    def _submit(self, block: Block) -> Steps[Block]:
        self._block = None  # never offered twice: after an interrupt nobody can tell whether it was taken
        try:
            fresh: Block = yield self.upload.submit, (block,)
        except BaseException as error:
            self._interrupted(error)
            raise
        self._block = fresh
        return fresh
