"""The seam between moving bytes and speaking to the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from azstoragetorch._values.chunk import ListPage
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.version import BlobVersion, RangeRead

__all__ = ["RemoteBlob", "RemoteContainer"]


class RemoteBlob(Protocol):
    """One blob of the service. Every method retries as the policy says and raises our own exceptions only.

    Cancelling a method ends its request; nothing is written into a view after the method returned or raised.
    """

    @property
    def name(self) -> str:
        """URL of the blob without any query, for messages."""

    @property
    def stats(self) -> TransferStats:
        """Counters of this blob's requests."""

    def beside(self, size: int) -> int:
        """Return the bytes of memory that the transfer of ``size`` bytes takes beside their buffer."""

    async def read_into(
        self,
        view: memoryview,
        offset: int,
        *,
        etag: str | None = None,
        opened: Callable[[BlobVersion], None] | None = None,
    ) -> RangeRead:
        """Fill ``view`` from byte ``offset`` of the blob.

        :param view: contiguous, writable, one byte per item, at most ``options.largest_range`` of them.
        :param etag: refuse any other version of the blob; ``None`` accepts the current one.
        :param opened: called once, as soon as an answer named the version and before its body arrives.
        :return: bytes filled (short only at the end of the blob) and the version they belong to.
        :raises BlobModifiedError: if the blob is no longer the version ``etag`` names.
        :raises BlobNotFoundError: if the blob or its container is missing.
        """

    async def stage(self, block_id: str, content: memoryview) -> bool:
        """Upload one block. ``content`` must not change until this ends.

        :return: whether the first attempt succeeded. Otherwise an earlier attempt's connection may still hold
            ``content``: it must never be written to again.
        """

    async def put(self, content: memoryview) -> None:
        """Replace the blob by ``content`` in one request, sent again while it is not answered: the last writer wins.

        :raises CommitOutcomeUnknownError: if neither that nor the question what the blob holds was answered, or it
            may come to hold the content yet.
        """

    async def commit(self, block_ids: Sequence[str], *, create_only: bool) -> None:
        """Make the staged blocks the content of the blob, in this order.

        :param create_only: fail if the blob exists already.
        :raises BlobExistsError: if it does, and its content is not these very blocks.
        :raises BlobModifiedError: if another writer's commit discarded these blocks.
        :raises CommitOutcomeUnknownError: if neither the commit nor the question what became of it was answered, or
            the service may commit yet.
        """

    async def exists(self) -> bool:
        """Return whether the blob exists."""


class RemoteContainer(Protocol):
    """One container of the service, under the same rules."""

    @property
    def name(self) -> str:
        """URL of the container without any query, for messages."""

    @property
    def stats(self) -> TransferStats:
        """Counters of this container's requests."""

    def pages(
        self, prefix: str | None = None, *, page_size: int = 5000, start_from: str | None = None
    ) -> AsyncGenerator[ListPage, None]:
        """Yield the blobs whose names start with ``prefix``, in the order of the service, one request a page.

        Close the iterator if it is left before its end: a request may be under way.

        :param page_size: blobs asked for at once, at most 5,000; the service may send fewer, or none, and go on.
        :param start_from: ask the service to begin at this name, inclusive. One that does not know how sends all from
            the first on, or answers with an error status below 500.
        :raises ContainerNotFoundError: if there is no such container.
        """
