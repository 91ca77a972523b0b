"""What every file face has in common: which operations are open to it, and when content is published."""

from __future__ import annotations

import asyncio
import io
import logging
import time
import warnings
from typing import Literal, TypeAlias, TypeVar

from azstoragetorch._transfer.cursor import ReadCursor, Steps, WriteCursor
from azstoragetorch._transfer.held import HeldCursor
from azstoragetorch._values.stats import DatasetStats, TransferStats, in_words
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobExistsError,
    FatalBlobIOWriteError,
    UncommittedBlobWarning,
)

__all__ = ["BlobFile", "Mode", "drive"]

_T = TypeVar("_T")
_logger = logging.getLogger("azstoragetorch.io")

Mode: TypeAlias = Literal["rb", "wb", "xb"]
"""``"rb"`` to read, ``"wb"`` to create or replace, ``"xb"`` to create only."""


class BlobFile:
    """One open blob.

    :param name: URL of the blob, without secrets.
    :param cursor: what carries the operations of that mode out.
    """

    def __init__(
        self, name: str, mode: Mode, cursor: ReadCursor | HeldCursor | WriteCursor, stats: TransferStats
    ) -> None:
        self.name = name
        self.mode = mode
        self.closed = False
        self.committed = False
        self.released = False
        """Whether every request has ended and every buffer is free, so that a collected file needs nothing more."""
        self.stats = stats
        self.held = isinstance(cursor, HeldCursor)
        """Whether all of the blob is at hand, so that no operation needs an event loop, or a lock."""
        self._reading = cursor if not isinstance(cursor, WriteCursor) else None
        self._writing = cursor if isinstance(cursor, WriteCursor) else None
        self._since = time.monotonic()
        if not self.held:
            _logger.debug("opened %s, mode %s", name, mode)

    @property
    def reading(self) -> ReadCursor | HeldCursor:
        """The open file's reading side.

        :raises ValueError: if it is closed.
        :raises io.UnsupportedOperation: if it was opened for writing.
        """
        self.check_open()
        if self._reading is None:
            raise io.UnsupportedOperation("not readable")
        return self._reading

    @property
    def writing(self) -> WriteCursor:
        """The open file's writing side.

        :raises ValueError: if it is closed.
        :raises io.UnsupportedOperation: if it was opened for reading.
        """
        self.check_open()
        if self._writing is None:
            raise io.UnsupportedOperation("not writable")
        return self._writing

    @property
    def writable(self) -> bool:
        """Whether the open file was opened for writing."""
        self.check_open()
        return self._writing is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop the file lives on, ``None`` before its first request."""
        if isinstance(self._reading, HeldCursor):
            return None
        return (self._reading.download if self._reading is not None else self.written().upload).loop

    def written(self) -> WriteCursor:
        """The writing side, whether closed or not."""
        assert self._writing is not None
        return self._writing

    def check_open(self) -> None:
        """:raises ValueError: if the file is closed."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def tell(self) -> int:
        """Return the position in bytes."""
        self.check_open()
        return (self._reading or self.written()).position

    def flush(self) -> Steps[None]:
        """Wait until every full block is staged; nothing to do for a reader."""
        self.check_open()
        if self._writing is not None:
            yield from self._writing.flush()

    def close(self) -> Steps[None]:
        """Commit what was written, or let a reader's buffers go."""
        if self.closed or self._reading is not None:
            yield from self.abort()
            return
        self.closed = True
        how = "interrupted in the commit of"  # nobody knows what became of it
        try:
            yield from self.written().commit()
            self.committed = self.released = True
            how = "committed"
        except GeneratorExit:  # as in _release
            raise
        except BaseException as error:
            if isinstance(error, Exception):
                how = "could not commit"
            yield from self._release()
            raise
        finally:
            self._tell(how)

    def abort(self) -> Steps[None]:
        """Close without committing."""
        first, self.closed = not self.closed, True
        yield from self._release()
        if first:
            self._tell("aborted" if self._reading is None else "closed")

    def _tell(self, how: str) -> None:
        """Log, in one line, how the file ended and what that took."""
        if self.held or not _logger.isEnabledFor(logging.DEBUG):
            return
        seconds = time.monotonic() - self._since
        # The files of a dataset share its counters: what one of them asked for cannot be told.
        cost = "" if isinstance(self.stats, DatasetStats) else f": {in_words(self.stats)}"
        _logger.debug("%s %s, mode %s, after %.3f s%s", how, self.name, self.mode, seconds, cost)

    def _release(self) -> Steps[None]:
        """End every request and free every buffer, once.

        What Ctrl-C keeps it from, the next ``close``, or else the finalizer, goes on with.
        """
        if self.released:
            return
        release = self._reading.close if self._reading is not None else self.written().abort
        try:
            yield from release()
        except GeneratorExit:  # given up between two steps, by Ctrl-C; nothing may be yielded any more
            raise
        except BaseException:
            yield from release()  # Ctrl-C may have come before the first one had begun
            self.released = True
            raise
        self.released = True

    def give_up(self, why: str) -> None:
        """Let nothing of what was written be committed any more; may be called in the middle of an operation."""
        if self._writing is not None:
            self._writing.upload.interrupt(why)

    def failure_behind(self, error: BaseException) -> FatalBlobIOWriteError | BlobExistsError | None:
        """Return what to raise instead of ``error``, which ended a ``with`` block, if an upload failed before it.

        torch.save turns what ``write`` raised into "unexpected pos": the reason must not be lost behind that. An error
        of our own says the reason itself, and an interrupt or a cancellation is not for us to replace.
        """
        if self._writing is None or not isinstance(error, Exception) or isinstance(error, AZStorageTorchError):
            return None
        try:
            self._writing.upload.check()
        except (FatalBlobIOWriteError, BlobExistsError) as failure:
            if failure.__cause__ is not None:  # none: a write was interrupted, by what ends the block, most likely
                return failure
        return None

    def warn_uncommitted(self, how: str) -> None:
        """Tell the user that an open writer goes away without a commit."""
        if self._writing is None:
            return
        text = (
            f"{self.name} was {how} while open for writing: nothing was committed, the blob keeps its previous "
            f"content. Close the file, or open it in a with statement"
        )
        _logger.error("%s", text)
        warnings.warn(text, UncommittedBlobWarning, stacklevel=3)


async def drive(steps: Steps[_T]) -> _T:
    """Await each step of an operation."""
    try:
        step = next(steps)
        while True:
            try:
                result = await step[0](*step[1])
            except BaseException as error:
                del step  # tracebacks refer to this frame: it must not hold the memory longer than its owner
                step = steps.throw(error)
            else:
                del step  # it may hold a view of memory that the operation is about to hand out
                step = steps.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
