"""Blobs as ordinary binary files, for ``torch.save``, ``torch.load`` and everything else that takes one.

    with BlobIO(f"{CONTAINER_URL}/model.pth", "wb") as file:
        torch.save(model.state_dict(), file)

The transfers run on one event-loop thread of the process, started by the first of them.
"""

from __future__ import annotations

import contextlib
import io
import threading
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NoReturn, SupportsIndex, TypeVar

from azstoragetorch._bridge import at_exit, call, run
from azstoragetorch._face import FileFace, abandon
from azstoragetorch._transfer.cursor import Buffer, ReadCursor, Steps, WriteCursor, byte_view
from azstoragetorch._transfer.file import BlobFile
from azstoragetorch._transfer.held import HeldCursor

__all__ = ["BlobIO"]

_T = TypeVar("_T")


if TYPE_CHECKING:

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """What type checkers want where ``torch.save`` and others ask for ``IO[bytes]``."""
else:
    _BinaryFile = io.BufferedIOBase


class BlobIO(FileFace, _BinaryFile):
    """A blob as a binary file; use it with ``with``.

    Constructing it does no I/O. Reads are full unless at the end of the blob. A lock makes one file safe to use from
    several threads, one operation at a time.

    A writer publishes its content when it is closed without an error, and never otherwise: an exception (Ctrl-C
    included) inside ``with``, :meth:`abort`, garbage collection, a fork and interpreter exit leave the previous content
    in place. The last ones warn with :class:`~azstoragetorch.exceptions.UncommittedBlobWarning`. Ctrl-C while ``close``
    commits leaves the previous or the new content, whole.

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
        # Reentrant, because a signal handler runs in the middle of an operation of its own thread and would wait for
        # ever; `_drive` refuses it there. Python's own lock and nothing around it: Ctrl-C may come behind any
        # instruction of Python code, of an __exit__ too, and a lock that stays locked makes the file useless.
        self._turns = contextlib.nullcontext() if file.held else threading.RLock()
        self._busy = False
        if file.mode != "rb":
            _writers.add(self)

    def fileno(self) -> int:
        """Refuse: a blob has no file descriptor.

        :raises io.UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation("a blob has no file descriptor")

    def isatty(self) -> bool:
        """Return ``False``.

        :raises ValueError: if the file is closed.
        """
        self._file.check_open()
        return False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, fewer only at the end of the blob; all that is left if negative or ``None``.

        :raises ValueError: if the file is closed.
        :raises io.UnsupportedOperation: if it was opened for writing.
        :raises AZStorageTorchError: if the bytes could not be had.
        """
        with self._turn:
            return self._drive(self._reading.read(size))

    def read1(self, size: int = -1, /) -> bytes:
        """Read ``size`` bytes; if it is negative, what has been fetched already, at least one byte before the end.

        :raises: as :meth:`read`.
        """
        with self._turn:
            return self._drive(self._reading.read1(size))

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill ``buffer`` and return the number of bytes, fewer than its size only at the end of the blob.

        Large buffers are received into directly, without a copy in between.

        :param buffer: any writable C-contiguous buffer, such as a ``bytearray`` or a NumPy array.
        :raises TypeError: if ``buffer`` is read-only.
        :raises BufferError: if it is not C-contiguous.
        :raises: otherwise as :meth:`read`; the content of ``buffer`` is then undefined.
        """
        with self._turn:
            return self._drive(self._reading.readinto(byte_view(buffer, writable=True)))

    def readinto1(self, buffer: Buffer, /) -> int:
        """Fill ``buffer``: the same as :meth:`readinto`."""
        return self.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and with the next newline, at most ``size`` bytes if it is not negative.

        :raises: as :meth:`read`.
        """
        with self._turn:
            return self._drive(self._reading.readline(size))

    def __next__(self) -> bytes:
        """Return the next line, with its newline: iterating over a file gives lines."""
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def peek(self, size: int = 0, /) -> bytes:
        """Return bytes from the position on without moving it: some of what has been fetched, none only at the end.

        :raises: as :meth:`read`.
        """
        with self._turn:
            return self._drive(self._reading.peek(size))

    def seek(self, offset: SupportsIndex, whence: int = io.SEEK_SET, /) -> int:
        """Move the position of a reader and return it. A position past the end is allowed and reads nothing.

        :param offset: bytes from the start (``whence`` 0), from the position (1), or from the end (2). The last makes a
            request if the size is not known yet.
        :raises ValueError: if the file is closed, the position negative or ``whence`` not 0, 1 or 2.
        :raises io.UnsupportedOperation: if the file was opened for writing.
        """
        with self._turn:
            return self._drive(self._reading.seek(offset, whence))

    def tell(self) -> int:
        """Return the position in bytes.

        :raises ValueError: if the file is closed.
        """
        return self._file.tell()

    def write(self, data: Buffer, /) -> int:
        """Take a copy of ``data`` and return its size in bytes; full blocks are uploaded in the background.

        :param data: any C-contiguous buffer, such as ``bytes``, a ``memoryview`` or a NumPy array.
        :raises TypeError: if ``data`` is ``str`` or has no buffer.
        :raises BufferError: if it is not C-contiguous.
        :raises ValueError: if the file is closed.
        :raises io.UnsupportedOperation: if it was opened for reading.
        :raises FatalBlobIOWriteError: if this or an earlier block could not be uploaded; nothing will be committed.
        """
        with self._turn:
            return self._drive(self._writing.write(byte_view(data)))

    def truncate(self, size: int | None = None, /) -> NoReturn:
        """Refuse any ``size``: a blob is written once, from its start to its end.

        :raises io.UnsupportedOperation: always.
        """
        self._file.check_open()
        raise io.UnsupportedOperation("truncate")

    def detach(self) -> NoReturn:
        """Refuse: there is no raw file below.

        :raises io.UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation("detach")

    def flush(self) -> None:
        """Wait until all full blocks are uploaded; the unfinished last one stays here, and nothing is visible yet.

        :raises ValueError: if the file is closed.
        :raises FatalBlobIOWriteError: if a block could not be uploaded.
        """
        with self._turn:
            self._drive(self._file.flush())

    def close(self) -> None:
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
        if (self._forked and self.closed) or (self.mode == "rb" and (self._forked or _exiting)):
            # There is nothing to commit. In a child it is a copy of the parent's file, whose transfers go on; at exit,
            # when wrappers such as io.TextIOWrapper close what they wrap, the event loop has ended them.
            self._file.closed = True
            return
        with self._turn:
            self._drive(self._file.close())

    def abort(self) -> None:
        """Close the file without committing: the blob keeps its previous content.

        May be called while another thread writes or closes the file; only a commit that is on its way already is not
        held back.
        """
        if self._forked:
            self._file.closed = True  # a copy of the parent's file, whose transfers go on
            return
        self._file.give_up("abort()")  # before our turn: an operation that is under way must not commit either
        with self._turn:
            self._drive(self._file.abort())

    def __enter__(self) -> BlobIO:
        self._file.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        failure = self._file.failure_behind(error)
        self.abort()
        if failure is not None:
            raise failure

    def __del__(self) -> None:
        # Not io.IOBase's finalizer, which closes: a partial blob would be published.
        file = getattr(self, "_file", None)
        if file is None or file.released or self._forked:
            return
        lost = not file.closed  # before the loop, in its thread, closes it
        if file.loop is not None:
            call(abandon, file)
        if lost:
            file.warn_uncommitted("collected")

    @property
    def _reading(self) -> ReadCursor | HeldCursor:
        return self._file.reading

    @property
    def _writing(self) -> WriteCursor:
        return self._file.writing

    @property
    def _turn(self) -> contextlib.AbstractContextManager[object]:
        """What lets operations in one by one."""
        # Before the lock: a thread of the parent may have held it at the fork, and nobody here would release it.
        self._refuse_after_fork()
        return self._turns

    def _drive(self, steps: Steps[_T]) -> _T:
        """Run each step of an operation on the event-loop thread.

        :raises RuntimeError: if this thread is in the middle of another one. Python's own files refuse that, too: a
            ``close`` in a signal handler would commit half of what is being written.
        """
        if self._busy:
            raise RuntimeError(f"reentrant call: another operation on {self.name} is under way in this thread")
        self._busy = not self._file.held  # those have no lock, and may be used by several threads at once
        try:
            step = next(steps)
            while True:
                try:
                    result = run(step[0], *step[1])
                except BaseException as error:
                    del step  # tracebacks refer to this frame: it must not hold the memory longer than its owner
                    step = steps.throw(error)
                else:
                    del step  # it may hold a view of memory that the operation is about to hand out
                    step = steps.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException:
            steps.close()  # Ctrl-C may come between two steps; the operation has to know before anybody catches it
            raise
        finally:
            self._busy = False


_writers: weakref.WeakSet[BlobIO] = weakref.WeakSet()
_exiting = False


@at_exit
def _abandon_writers() -> None:
    """Tell about writers that are still open when the interpreter exits: they must not commit what may be half."""
    global _exiting
    _exiting = True
    for writer in list(_writers):
        file = writer._file
        if not file.closed and not writer._forked:
            file.closed = file.released = True  # the loop ends what it transfers
            file.warn_uncommitted("left open at exit")
