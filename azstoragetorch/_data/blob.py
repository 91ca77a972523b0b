"""One blob of a dataset, as a transform sees it.

    transform(blob)  ->  blob.read()            the whole content
                         blob.reader()          a file, for decoders that take one
                         await blob.aread()     the same two on an event loop, in a coroutine transform
                         blob.areader()

A blob that the dataset fetched ahead *holds* its content: reading and opening it make no request and leave the calling
thread alone. Any other asks the service at each read, and keeps nothing.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._bridge import run
from azstoragetorch._data.access import Access
from azstoragetorch._transfer.content import Download
from azstoragetorch._transfer.cursor import ReadCursor
from azstoragetorch._transfer.file import BlobFile
from azstoragetorch._transfer.held import HeldCursor
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.whole import fetch_whole
from azstoragetorch._values.beside import beside
from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO

__all__ = ["Blob"]


class Blob:
    """One blob of a dataset. Datasets make it and give it to the ``transform``; do not make one yourself.

    Where the dataset was made from a listing, every read is of the version that was listed, and raises
    :class:`~azstoragetorch.exceptions.BlobModifiedError` if the blob has been replaced since.

    It may be kept, and it pickles, with the content it holds and with the SAS of its URL, so a transform may return it;
    but it must be readable where it goes.
    """

    __slots__ = ("__weakref__", "_access", "_content", "_etag", "_last_modified", "_location", "_pinned", "_size")

    def __init__(
        self,
        url: BlobUrl,
        access: Access,
        *,
        size: int | None = None,
        etag: str | None = None,
        last_modified: datetime | None = None,
    ) -> None:
        """
        :param access: what it shares with the other blobs of its dataset.
        :param size: bytes of the listed version.
        :param etag: ETag of the listed version: no other is read. ``None`` reads whatever the blob holds; ``size`` is
            then only shown.
        :param last_modified: when the listed version was written.
        """
        self._location = url
        self._access = access
        self._size = size
        self._etag = etag
        self._pinned = etag is not None
        self._last_modified = last_modified
        self._content: bytes | None = None

    def __repr__(self) -> str:
        size = f" size={self._size}" if self._size is not None else ""
        return f"<Blob url={str(self._location)!r}{size}{' held' if self._content is not None else ''}>"

    @property
    def url(self) -> str:
        """URL of the blob, percent-encoded and without its query: neither SAS nor snapshot nor version."""
        return self._location.url

    @property
    def blob_name(self) -> str:
        """Name of the blob in its container, not encoded."""
        return self._location.name

    @property
    def container_name(self) -> str:
        """Name of the container."""
        return self._location.container

    @property
    def size(self) -> int | None:
        """Size in bytes, of the version that :meth:`read` returned last, else as listed; ``None`` if not known yet."""
        return self._size

    @property
    def etag(self) -> str | None:
        """ETag, quoted as in a header, of the same version as :attr:`size`; ``None`` if not known yet."""
        return self._etag

    @property
    def last_modified(self) -> datetime | None:
        """When the listed version was written, in UTC; ``None`` if no listing told."""
        return self._last_modified

    def read(self) -> bytes:
        """Return the whole content.

        What was fetched ahead is returned as it is. Otherwise it is fetched now and not kept: a second call fetches it
        again.

        :raises BlobModifiedError: if the blob is not the listed version any more.
        :raises AZStorageTorchError: if the content could not be had.
        """
        if self._content is not None:
            return self._content
        return run(self._fetch)

    async def aread(self) -> bytes:
        """Return the whole content: :meth:`read` for coroutines, on their own loop.

        :raises: as :meth:`read`.
        """
        if self._content is not None:
            return self._content
        return await self._fetch()

    def reader(self) -> BlobIO:
        """Open the blob for reading, at its start; each reader has a position of its own.

        Opening makes no request. A reader of what was fetched ahead never makes one, works also where an event loop
        runs, and in processes forked while it is open. The requests of any other count in the dataset's ``stats()``,
        which its own ``stats()`` returns, too.
        """
        return BlobIO._around(self._open())

    def areader(self) -> AsyncBlobIO:
        """Open the blob for reading on an event loop; otherwise the same as :meth:`reader`."""
        return AsyncBlobIO._around(self._open())

    def hold(self, content: bytes, version: BlobVersion) -> None:
        """Keep ``content``, the whole of ``version``, for all reads to come. For the dataset that fetched it."""
        self._content = content
        self._learn(version)

    @property
    def version(self) -> BlobVersion | None:
        """The only version that is read; ``None`` where any is. For the dataset that fetches it."""
        return BlobVersion(self._size, self._etag) if self._pinned and self._size is not None else None

    def pin(self, version: BlobVersion) -> None:
        """Read only ``version`` from now on. For the dataset, which found it and left the rest to the transform."""
        self._size, self._etag, self._pinned = version.size, version.etag, version.etag is not None

    def beside(self, size: int) -> int:
        """Return the bytes of memory that fetching ``size`` of it takes beside them. For the dataset that fetches."""
        return beside(self._location.scheme, size, self._access.options)

    async def connect(self) -> AzureBlob:
        """Return the remote end of the blob on the running loop; sends nothing. For the dataset that fetches it."""
        return await self._access.open(self._location)

    def _open(self) -> BlobFile:
        name, access = str(self._location), self._access
        if self._content is not None:
            return BlobFile(name, "rb", HeldCursor(self._content), access.stats)
        etag = self._etag if self._pinned else None
        # Without an ETag a size is worth nothing: the blob could have changed. Nor is it for an empty blob, which would
        # be taken for unchanged without a request.
        version = BlobVersion(self._size, etag) if self._size and etag is not None else None
        download = Download(partial(access.open, self._location), access.options, version, etag=etag)
        return BlobFile(name, "rb", ReadCursor(download), access.stats)

    async def _fetch(self) -> bytes:
        access = self._access
        content, version = await fetch_whole(
            await access.open(self._location),
            size=self._size if self._pinned else None,
            etag=self._etag if self._pinned else None,
            options=access.options,
            memory=Memory.current(),
        )
        self._learn(version)
        return content

    def _learn(self, version: BlobVersion) -> None:
        self._size = version.size
        if not self._pinned:  # else it is this one; and it stays where the answer, of an empty blob, names none
            self._etag = version.etag
