"""Read any bytes of one version of a blob, many ranges at once, into the caller's memory.

The first answer names the size and the ETag; every later request asks for that ETag. Requests other than the first
wait for it, not for its body. Where a listing has named both, none is the first. Nothing is written into the caller's
view that was not verified to belong there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any, TypeVar

from azstoragetorch._transfer.remote import RemoteBlob
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.ranges import split
from azstoragetorch._values.version import BlobVersion, RangeRead
from azstoragetorch.exceptions import BlobIntegrityError

__all__ = ["Reader", "siblings"]

_T = TypeVar("_T")


class Reader:
    """Concurrent ranged reads of one blob.

    :param blob: the blob.
    :param options: ``largest_range`` and ``in_flight`` are used here.
    :param version: the version to read, where it is known; otherwise it is the one that the first answer is of.
    :param etag: what that first answer has to be of, where only this much is known.
    """

    def __init__(
        self,
        blob: RemoteBlob,
        options: TransferOptions,
        version: BlobVersion | None = None,
        *,
        etag: str | None = None,
    ) -> None:
        self.blob = blob
        self.version = version
        """Size and ETag of the blob, ``None`` before the first answer if they were not known."""
        self._etag = etag
        self._range_size = options.largest_range
        self._slots = asyncio.Semaphore(options.in_flight)
        self._leader: asyncio.Future[None] | None = None

    async def fetch(self, view: memoryview, offset: int) -> int:
        """Fill ``view`` from byte ``offset`` with one request.

        :return: bytes filled, short only at the end of the blob.
        :raises AZStorageTorchError: whatever :meth:`RemoteBlob.read_into` raises.
        """
        while True:
            if self.version is not None:
                if offset >= self.version.size:
                    return 0
                async with self._slots:
                    read = await self.blob.read_into(view, offset, etag=self.version.etag)
                self._check(read, offset, len(view))
                return read.filled
            if self._leader is not None:
                # Shielded: the future is shared, one cancelled waiter must not end the wait of the others.
                await asyncio.shield(self._leader)
                continue
            async with self._leading(), self._slots:
                read = await self.blob.read_into(view, offset, etag=self._etag, opened=self._learn)
                if read.version is not None:
                    self.version = read.version
                return read.filled

    async def read_at(self, offset: int, view: memoryview) -> int:
        """Fill ``view`` from byte ``offset`` with as many requests as it takes, concurrently.

        When it raises or is cancelled, every one of its requests has ended.

        :return: bytes filled, short only at the end of the blob.
        """
        ranges = split(offset, offset + len(view), self._range_size)
        first = next(ranges, None)
        if first is None:
            return 0
        size = self.version.size if self.version is not None else None
        if size is not None and offset >= size:
            return 0
        if (first.stop - offset == len(view)) or (size is not None and size <= first.stop):
            return await self.fetch(view[: first.stop - offset], offset)

        async with siblings() as group:
            leader = group.create_task(self.fetch(view[: first.stop - offset], offset))
            await self.wait_opened(leader)
            for part in ranges:
                if self.version is None or part.start >= self.version.size:
                    break
                group.create_task(self.fetch(view[part.start - offset : part.stop - offset], part.start))
        if self.version is None:
            return 0
        return max(0, min(len(view), self.version.size - offset))

    async def wait_opened(self, fetching: asyncio.Task[int]) -> None:
        """Wait until the version is known, or ``fetching``, a task of :meth:`fetch`, has ended."""
        while self.version is None and not fetching.done():
            if self._leader is None:
                await asyncio.sleep(0)  # in its first step the task becomes the one that opens, or finds another
            else:
                futures: list[asyncio.Future[Any]] = [fetching, self._leader]
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)

    def _learn(self, version: BlobVersion) -> None:
        self.version = version
        if self._leader is not None and not self._leader.done():
            self._leader.set_result(None)

    def _check(self, read: RangeRead, offset: int, want: int) -> None:
        # One of the two answers is wrong about the size. Believing either could cut the end of the blob off.
        assert self.version is not None
        size = self.version.size
        if read.filled != min(want, size - offset) or (read.version is not None and read.version.size != size):
            says = read.version.size if read.version is not None else offset
            raise BlobIntegrityError(f"reading {self.blob.name}: one version of it has {size} bytes, and then {says}")

    @asynccontextmanager
    async def _leading(self) -> AsyncIterator[None]:
        leader = self._leader = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            self._leader = None
            if not leader.done():
                leader.set_result(None)


class _Siblings(asyncio.TaskGroup):
    """Takes the CancelledError out of every cancelled task: the frames it refers to hold the caller's memory and,
    through the group, the task. That cycle would keep the memory exported until the next garbage collection."""

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        task = super().create_task(coro, name=name, context=context)
        task.add_done_callback(_take_cancellation)
        return task


def _take_cancellation(task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        with suppress(asyncio.CancelledError):
            task.exception()


@asynccontextmanager
async def siblings() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a task group that raises the first error itself instead of a group of all of them."""
    first: BaseException | None = None
    try:
        async with _Siblings() as group:
            yield group
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    except asyncio.CancelledError as error:
        # A frame of the group that is in its traceback keeps the error: the same cycle again.
        error.__traceback__ = None
        raise
    if first is not None:
        # Outside the except block, so that the error does not drag the group along as its context.
        try:
            raise first
        finally:
            first = None  # its traceback holds this frame: a cycle would keep the caller's memory exported
