"""Upload a stream of bytes as blocks of one blob.

A block is *filling* (owned by the file that writes), *in flight* (owned by a task here) or *staged* (only its id is
left). The blob changes only in :meth:`BlockWriter.commit`; until then readers see the previous content, and what was
staged is discarded by the service after a week, or by the next commit.
https://learn.microsoft.com/rest/api/storageservices/put-block-list
"""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable

from azstoragetorch._transfer.memory import Lease, Memory
from azstoragetorch._transfer.remote import RemoteBlob
from azstoragetorch._values.options import MAX_BLOCK_SIZE, MAX_BLOCKS, KiB, TransferOptions
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobExistsError,
    FatalBlobIOWriteError,
    RedactedCause,
)

__all__ = ["Block", "BlockWriter"]

BLOCKS_PER_SIZE = 2_500
"""Blocks until the block size doubles: 19 doublings reach the 4,000 MiB a block may have from any size above 8 KiB."""


def block_size(first: int, number: int) -> int:
    """Return the size in bytes of block ``number``, where that of block 0 is ``first``."""
    return min(first << (number // BLOCKS_PER_SIZE), MAX_BLOCK_SIZE)


SMALL = 64 * KiB
"""Bytes that a file's first block starts with."""


class Block:
    """Memory that a file fills with what is written; at most ``size`` bytes."""

    __slots__ = ("buffer", "connection", "filled", "lease", "size")

    def __init__(self, size: int, lease: Lease | None = None) -> None:
        # Without a lease it starts small and grows: making a bytearray clears it, 1.7 ms for 4 MiB, and a blob of 100
        # bytes should not pay for that.
        self.buffer = lease.buffer if lease is not None else bytearray(min(size, SMALL))
        self.lease = lease
        self.connection: Lease | None = None
        """What its request takes beside it."""
        self.size = size
        self.filled = 0

    def fill(self, content: memoryview) -> int:
        """Copy as much of ``content`` as there is room for, and return how many bytes that was."""
        count = min(len(content), self.size - self.filled)
        if self.filled + count > len(self.buffer):
            self.buffer += bytes(min(self.size, max(self.filled + count, 8 * len(self.buffer))) - len(self.buffer))
        self.buffer[self.filled : self.filled + count] = content[:count]
        self.filled += count
        return count

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return self.filled == self.size

    def free(self, *, reuse: bool = True) -> None:
        """Give the memory back."""
        if self.connection is not None:
            self.connection.free()
        if self.lease is not None:
            self.lease.free(reuse=reuse)


class BlockWriter:
    """Stages the blocks of one blob concurrently and commits them.

    :param blob: the blob.
    :param memory: the account that blocks in flight are leased from.
    :param options: ``block_size``, ``in_flight`` and ``memory_budget`` are used here.
    :param create_only: never replace existing content.
    """

    def __init__(self, blob: RemoteBlob, memory: Memory, options: TransferOptions, *, create_only: bool) -> None:
        self.blob = blob
        self._memory = memory
        self._options = options
        self._create_only = create_only
        self._slots = asyncio.Semaphore(options.in_flight)
        self._ids: list[str] = []
        self._tasks: set[asyncio.Task[bool]] = set()
        self._cause: AZStorageTorchError | None = None
        self._settled = False
        self._filling: Block | None = None  # whoever fills it may be interrupted and forget it
        # Ids are unique to this writer, so the list of committed ids proves whose content a blob holds. Ids of one
        # blob have to be of one length, those of other writers included: 36 characters is the length of the UUIDs
        # that azstoragetorch 0.2.0 uses.
        self._prefix = uuid.uuid4().hex[:30]

    async def submit(self, block: Block) -> Block:
        """Stage ``block`` in the background and return the next one to fill, waiting for room in flight.

        :raises FatalBlobIOWriteError: if this or an earlier block could not be staged.
        :raises BlobExistsError: if the writer is to create the blob and it exists.
        """
        lease: Lease | None = None
        try:
            await self._send(block)
            lease = await self._memory.take(
                block_size(self._options.block_size, len(self._ids)), self._options.memory_budget
            )
        except AZStorageTorchError as error:
            self._fail(error)
            if error is not self._cause or isinstance(error, BlobExistsError):
                raise
        if lease is None:
            self.check()  # raises what was just noted
        assert lease is not None
        lease.settle()
        self._filling = Block(lease.size, lease)
        return self._filling

    async def _send(self, block: Block) -> None:
        self.check()
        if self._create_only and not self._ids and await self._exists():
            raise BlobExistsError(
                f"{self.blob.name} exists already and mode 'xb' never replaces a blob; nothing was written to it. "
                f"Use mode 'wb' to replace it"
            )
        if len(self._ids) == MAX_BLOCKS:
            self._fail(AZStorageTorchError(f"a blob has at most {MAX_BLOCKS} blocks"))
            self.check()
        await self._slots.acquire()
        limit, beside = self._options.memory_budget, self.blob.beside(block.filled)
        try:
            if block.lease is None:
                # The first one: filling it took no hop to here, so only now can it be put on the account.
                block.lease = await self._memory.reserve(len(block.buffer), limit)
                block.lease.settle()  # until it is sent: what follows waits for leases that are active
            if beside:
                block.connection = await self._memory.reserve(0, limit, beside)
            self.check()
        except BaseException:
            self._slots.release()
            if block.connection is not None:
                block.connection.free()
            if block is not self._filling:  # else `abort` frees it
                block.free()
            raise
        number = len(self._ids)
        self._ids.append(f"{self._prefix}{number:06d}")
        block.lease.resume()
        if self._filling is block:
            self._filling = None
        task = asyncio.create_task(self._stage(number, block))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._staged, block))

    async def settle(self) -> None:
        """Wait until every submitted block is staged.

        :raises FatalBlobIOWriteError: if one could not be.
        """
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.check()

    async def commit(self, last: Block, check: Callable[[], None]) -> None:
        """Stage what ``last`` holds and publish all of it.

        :param check: raises if nothing may be published; asked last of all, since ``abort`` may come until then.
        :raises CommitOutcomeUnknownError: if the service could not say whether it published the content, or may
            publish it yet. After every other error the blob did not hold it.
        :raises FatalBlobIOWriteError: if a block could not be staged.
        :raises BlobServiceError: if the service refused to publish.
        """
        self.check()
        try:
            if not self._ids and not self._create_only:
                # The first block, which no lease covers, and the copy that the SDK insists on.
                beside = self.blob.beside(last.filled)
                held = await self._memory.reserve(2 * last.filled, self._options.memory_budget, beside)
                try:
                    check()
                    await self.blob.put(memoryview(last.buffer)[: last.filled])
                finally:
                    held.free()
            else:
                if last.filled:
                    await self._send(last)
                await self.settle()
                check()
                await self.blob.commit(self._ids, create_only=self._create_only)
        finally:
            self._settled = True
            await self.abort()

    async def abort(self) -> None:
        """End every request. What was staged is never published."""
        self._settled = True
        if self._filling is not None:
            self._filling.free(reuse=False)
            self._filling = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def check(self) -> None:
        """Raise the first failure, if there was one.

        :raises FatalBlobIOWriteError: chained to it.
        :raises BlobExistsError: if it was that the blob to be created exists.
        """
        if isinstance(self._cause, BlobExistsError):
            raise BlobExistsError(self._cause.message) from self._cause
        if self._cause is not None:
            raise FatalBlobIOWriteError(
                f"writing {self.blob.name} failed and cannot go on; nothing was committed, the blob keeps its "
                f"previous content. First error: {self._cause}"
            ) from self._cause

    async def _exists(self) -> bool:
        try:
            return await self.blob.exists()
        except BlobAccessError as error:
            if error.status_code != 403:
                raise
            return False  # a SAS may allow to create and not to look; the commit decides

    async def _stage(self, number: int, block: Block) -> bool:
        return await self.blob.stage(self._ids[number], memoryview(block.buffer)[: block.filled])

    def _staged(self, block: Block, task: asyncio.Task[bool]) -> None:
        # Here and not in the task, which never runs at all when it is cancelled before its first step.
        self._tasks.discard(task)
        self._slots.release()
        error = None if task.cancelled() else task.exception()
        # Not reused after a failed attempt: its connection may still send from the buffer.
        block.free(reuse=not task.cancelled() and error is None and task.result())
        if not task.cancelled():
            if isinstance(error, AZStorageTorchError):
                self._fail(error)
            elif error is not None:
                self._fail(AZStorageTorchError(f"staging a block failed: {RedactedCause(error)}"))

    def _fail(self, error: AZStorageTorchError) -> None:
        if self._cause is None and not self._settled:
            self._cause = error
            for task in self._tasks:
                task.cancel()
