"""Blobs as asynchronous files, in the caller's own event loop.

    async with AsyncBlobIO(f"{CONTAINER_URL}/model.pth", "rb") as file:
        data = await file.read()

No thread is involved. All files of one loop share its connections; those close when the loop ends (``asyncio.run``
does that) or with :func:`aclose`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from types import TracebackType
from typing import SupportsIndex

from azstoragetorch._azure.session import Session
from azstoragetorch._face import FileFace, abandon
from azstoragetorch._transfer.cursor import Buffer, byte_view
from azstoragetorch._transfer.file import BlobFile, drive

__all__ = ["AsyncBlobIO", "aclose"]


async def aclose() -> None:
    """Close the connections of the running event loop.

    ``asyncio.run`` does this by itself. The next file opens new ones; files that are open fail.
    """
    await Session.close_current()


class AsyncBlobIO(FileFace):
    """A blob as an asynchronous binary file; use it with ``async with``.

    Constructing it does no I/O. It lives on the event loop of its first operation. Operations of one file are
    serialised; many files may be used at once.

    A writer publishes its content when it is closed without an error, and never otherwise: an exception or a
    cancellation inside ``async with``, :meth:`abort` and garbage collection leave the previous content in place. A
    cancellation while ``aclose`` commits leaves the previous or the new content, whole.

    :param blob_url: URL of the blob, with a SAS, ``snapshot=`` or ``versionid=`` or without.
    :param mode: ``"rb"`` to read, ``"wb"`` to create or replace, ``"xb"`` to create only.
    :param credential: ``None`` for ``DefaultAzureCredential``, ``False`` for anonymous access, ``AzureSasCredential``,
        ``AzureNamedKeyCredential``, or a sync or async ``TokenCredential``. A SAS in the URL wins.
    :param options: how to transfer; ``None`` for the defaults, which suit a training job.
    :raises TypeError: if an argument is of the wrong type.
    :raises ValueError: if the URL or the mode is not valid, or the two do not go together.
    """

    def _take(self, file: BlobFile) -> None:
        super()._take(file)
        self._lock = contextlib.nullcontext() if file.held else asyncio.Lock()

    async def read(self, size: int | None = -1) -> bytes:
        """Read ``size`` bytes, fewer only at the end of the blob; all that is left if negative or ``None``.

        :raises ValueError: if the file is closed.
        :raises io.UnsupportedOperation: if it was opened for writing.
        :raises AZStorageTorchError: if the bytes could not be had; the position is then where it was.
        """
        async with self._turn:
            return await drive(self._file.reading.read(size))

    async def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer`` and return the number of bytes, fewer than its size only at the end of the blob.

        :param buffer: any writable C-contiguous buffer, such as a ``bytearray`` or a NumPy array.
        :raises TypeError: if ``buffer`` is read-only.
        :raises BufferError: if it is not C-contiguous.
        :raises ValueError: if the file is closed.
        :raises io.UnsupportedOperation: if it was opened for writing.
        :raises AZStorageTorchError: if the bytes could not be had; the content of ``buffer`` is then undefined.
        """
        async with self._turn:
            return await drive(self._file.reading.readinto(byte_view(buffer, writable=True)))

    async def readline(self, size: int | None = -1) -> bytes:
        """Read up to and with the next newline, at most ``size`` bytes if it is not negative.

        :raises ValueError: if the file is closed.
        :raises io.UnsupportedOperation: if it was opened for writing.
        :raises AZStorageTorchError: if the bytes could not be had.
        """
        async with self._turn:
            return await drive(self._file.reading.readline(size))

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over lines, each with its newline.

        :raises: as :meth:`readline`.
        """
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def write(self, data: Buffer) -> int:
        """Take a copy of ``data`` and return its size in bytes; full blocks are uploaded in the background.

        :param data: any C-contiguous buffer, such as ``bytes``, a ``memoryview`` or a NumPy array.
        :raises TypeError: if ``data`` is ``str`` or has no buffer.
        :raises BufferError: if it is not C-contiguous.
        :raises ValueError: if the file is closed.
        :raises io.UnsupportedOperation: if it was opened for reading.
        :raises FatalBlobIOWriteError: if this or an earlier block could not be uploaded; nothing will be committed.
        """
        async with self._turn:
            return await drive(self._file.writing.write(byte_view(data)))

    async def seek(self, offset: SupportsIndex, whence: int = io.SEEK_SET) -> int:
        """Move the position of a reader and return it. A position past the end is allowed and reads nothing.

        :param offset: bytes from the start (``whence`` 0), from the position (1), or from the end (2). The last makes a
            request if the size is not known yet.
        :raises ValueError: if the file is closed, the position negative or ``whence`` not 0, 1 or 2.
        :raises io.UnsupportedOperation: if the file was opened for writing.
        """
        async with self._turn:
            return await drive(self._file.reading.seek(offset, whence))

    async def tell(self) -> int:
        """Return the position in bytes.

        :raises ValueError: if the file is closed.
        """
        return self._file.tell()

    async def flush(self) -> None:
        """Wait until all full blocks are uploaded; the unfinished last one stays here, and nothing is visible yet.

        :raises ValueError: if the file is closed.
        :raises FatalBlobIOWriteError: if a block could not be uploaded.
        """
        async with self._turn:
            await drive(self._file.flush())

    async def aclose(self) -> None:
        """Close the file; a writer commits what was written. Does nothing the second time.

        :raises FatalBlobIOWriteError: if a block could not be uploaded; nothing was committed.
        :raises CommitOutcomeUnknownError: if nobody can tell whether it was committed, or may be yet: read the blob
            before writing again. A subclass of the error before, so catch it first.
        :raises BlobModifiedError: if another writer's commit discarded this content.
        :raises BlobServiceError: if the service refused to commit, as one of its subclasses.
        :raises BlobRequestError: if there was no connection to commit by.
        :raises BlobResponseError: if the connection broke before the commit was answered, and the blob, looked at
            afterwards, does not hold this content.
        """
        if self._forked and (self.closed or self.mode == "rb"):
            self._file.closed = True  # a copy of the parent's file, whose transfers go on; there is nothing to commit
            return
        async with self._turn:
            await drive(self._file.close())

    async def abort(self) -> None:
        """Close the file without committing: the blob keeps its previous content.

        May be called while another task writes or closes the file; only a commit that is on its way already is not
        held back.
        """
        if self._forked:
            self._file.closed = True  # a copy of the parent's file, whose transfers go on
            return
        self._file.give_up("abort()")  # before our turn: an operation that is under way must not commit either
        async with self._turn:
            await drive(self._file.abort())

    async def __aenter__(self) -> AsyncBlobIO:
        self._file.check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.aclose()
            return
        failure = self._file.failure_behind(error)
        await self.abort()
        if failure is not None:
            raise failure

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is None or file.released or self._forked:
            return
        loop = file.loop
        lost = not file.closed  # before the loop, which may be another thread's, closes it
        if loop is not None and not loop.is_closed():
            # A finalizer may run in any thread and must not wait. The coroutine is made on the loop, so that none is
            # left unawaited if the loop stops first.
            with contextlib.suppress(RuntimeError):  # it closed meanwhile
                loop.call_soon_threadsafe(abandon, file)
        if lost:
            file.warn_uncommitted("collected")

    @property
    def _turn(self) -> asyncio.Lock | contextlib.nullcontext[None]:
        """The lock that lets operations in one by one."""
        # Before the lock: a task of the parent may have held it at the fork, and nobody here would release it.
        self._refuse_after_fork()
        return self._lock
