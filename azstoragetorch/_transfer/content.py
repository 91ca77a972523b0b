"""Both ends of a file on the event loop: connected by the first operation, not before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.readahead import Readahead, Segment
from azstoragetorch._transfer.reader import Reader
from azstoragetorch._transfer.remote import RemoteBlob
from azstoragetorch._transfer.writer import Block, BlockWriter
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.version import BlobVersion
from azstoragetorch.exceptions import FatalBlobIOWriteError

__all__ = ["Connect", "Download", "Upload"]

Connect: TypeAlias = Callable[[], Awaitable[RemoteBlob]]
"""Returns the remote end of a blob on the running loop."""


class _Lazy:
    """Connects once, on the loop of its first operation, and stays there."""

    def __init__(self, connect: Connect, options: TransferOptions) -> None:
        self._connect = connect
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None

    def _bind(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the file was used on another event loop before; open it again on this one")

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop the file lives on, ``None`` before its first operation."""
        return self._loop


class Download(_Lazy):
    """The bytes of a blob, for :class:`~azstoragetorch._transfer.cursor.ReadCursor`.

    :param version: the version to read, where it is known; otherwise it is the one that the first answer is of.
    :param etag: what that first answer has to be of, where only this much is known.
    """

    def __init__(
        self,
        connect: Connect,
        options: TransferOptions,
        version: BlobVersion | None = None,
        *,
        etag: str | None = None,
    ) -> None:
        super().__init__(connect, options)
        self._version = version
        self._etag = etag
        self._ahead: Readahead | None = None
        self.direct = options.largest_range
        """Reads of this many bytes go straight into the caller's memory."""

    @property
    def known_size(self) -> int | None:
        """Size of the blob in bytes if it was known, or an answer has named it."""
        version = self._ahead.reader.version if self._ahead is not None else self._version
        return version.size if version is not None else None

    async def size(self, offset: int, want: int) -> int:
        """See :meth:`Readahead.size`."""
        return await (await self._opened()).size(offset, want)

    async def segment(self, offset: int, want: int, run: int) -> Segment | None:
        """See :meth:`Readahead.segment`."""
        return await (await self._opened()).segment(offset, want, run)

    async def read_into(self, view: memoryview, offset: int, run: int) -> int:
        """See :meth:`Readahead.read_into`."""
        return await (await self._opened()).read_into(view, offset, run)

    async def aclose(self) -> None:
        """End every request and free every buffer, the segment the caller got last included."""
        if self._ahead is not None:
            await self._ahead.aclose()

    async def _opened(self) -> Readahead:
        self._bind()
        if self._ahead is None:
            reader = Reader(await self._connect(), self._options, self._version, etag=self._etag)
            self._ahead = Readahead(reader, Memory.current(), self._options)
        return self._ahead


class Upload(_Lazy):
    """The blocks of a blob, for :class:`~azstoragetorch._transfer.cursor.WriteCursor`."""

    def __init__(self, connect: Connect, options: TransferOptions, *, create_only: bool) -> None:
        super().__init__(connect, options)
        self._create_only = create_only
        self._writer: BlockWriter | None = None
        self._broken: str | None = None

    def first_block(self) -> Block:
        """Return the block to fill first; needs no loop."""
        return Block(self._options.block_size)

    @property
    def started(self) -> bool:
        """Whether anything was handed to the event loop."""
        return self._writer is not None

    def interrupt(self, why: str) -> None:
        """Say that an operation was interrupted: what was taken is not known, so nothing may be committed."""
        if self._broken is None:
            self._broken = why

    def check(self) -> None:
        """Raise the first failure.

        :raises FatalBlobIOWriteError: if a block could not be staged, or an earlier write was interrupted.
        """
        if self._writer is not None:
            self._writer.check()
        if self._broken is not None:
            raise FatalBlobIOWriteError(
                f"an earlier write was interrupted by {self._broken}, so the content has a gap; nothing was "
                f"committed, the blob keeps its previous content. Open the file again and write all of it"
            )

    async def submit(self, block: Block) -> Block:
        """See :meth:`BlockWriter.submit`."""
        return await (await self._opened()).submit(block)

    async def settle(self) -> None:
        """See :meth:`BlockWriter.settle`."""
        if self._writer is not None:
            await self._writer.settle()

    async def commit(self, last: Block) -> None:
        """See :meth:`BlockWriter.commit`."""
        self.check()
        await (await self._opened()).commit(last, self.check)

    async def abort(self) -> None:
        """See :meth:`BlockWriter.abort`."""
        if self._writer is not None:
            await self._writer.abort()

    async def _opened(self) -> BlockWriter:
        self._bind()
        if self._writer is None:
            blob = await self._connect()
            self._writer = BlockWriter(blob, Memory.current(), self._options, create_only=self._create_only)
        return self._writer
