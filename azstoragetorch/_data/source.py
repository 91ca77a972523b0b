"""Where the blobs of a dataset come from: a listing, a list of URLs, or a container that is listed while it is read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Protocol

from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._azure.credentials import check_credential
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._values.table import BlobTable, TableChunk
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch._values.version import BlobEntry
from azstoragetorch.listing import BlobListing

__all__ = ["LazySource", "ListingSource", "Source", "UrlSource"]

_logger = logging.getLogger("azstoragetorch.datasets")

CHUNK = 5000
"""URLs that are checked and packed at a time."""


class Source(Protocol):
    """Blobs by number. Pickles without copying them where a child process can share memory."""

    def __len__(self) -> int: ...

    def blob(self, index: int) -> Blob:
        """Return blob ``index``, between 0 and ``len() - 1``."""

    @property
    def fingerprint(self) -> str:
        """Changes with the blobs, their order, and, where they are known, sizes and ETags; holds no secret."""

    @property
    def name(self) -> str:
        """What the log calls it."""


class ListingSource:
    """The blobs of a listing.

    :param allow_modified: read whatever the blobs hold now, instead of the versions that were listed.
    """

    def __init__(self, listing: BlobListing, access: Access, *, allow_modified: bool) -> None:
        if not isinstance(listing, BlobListing):
            raise TypeError(f"listing must be a BlobListing, not {type(listing).__name__}; see BlobListing.load")
        self._container = listing._container
        check_credential(self._container, access.credential)
        self._table = listing._table
        self._access = access
        self._allow_modified = allow_modified
        self.fingerprint = listing.fingerprint

    def __len__(self) -> int:
        return len(self._table)

    def blob(self, index: int) -> Blob:
        return _blob(self._container, self._table[index], self._access, allow_modified=self._allow_modified)

    @property
    def name(self) -> str:
        return self._container.url


class UrlSource:
    """The blobs of these URLs, in their order.

    :raises TypeError: if one of them is not a ``str``.
    :raises ValueError: if one of them is not the URL of a blob, or nothing may be sent to it with this credential.
    """

    def __init__(self, urls: str | Iterable[str], access: Access) -> None:
        self._access = access
        # Of the addresses as they are shown: a renewed SAS is the same blob.
        shown = hashlib.blake2b(digest_size=16)
        self._table = BlobTable.of(self._packed([urls] if isinstance(urls, str) else urls, shown.update))
        self.fingerprint = shown.hexdigest()

    def _packed(self, urls: Iterable[str], shown: Callable[[bytes], object]) -> Iterable[TableChunk]:
        chunk = TableChunk()
        for number, text in enumerate(urls):
            try:
                url = BlobUrl.parse(text)
                check_credential(url, self._access.credential)
            except (TypeError, ValueError) as error:
                error.add_note(f"of URL {number} of the dataset, counted from 0")
                raise
            shown(f"{url}\n".encode())
            chunk.append(text, None, None, None)  # as written: how its SAS and name are encoded is part of the address
            if len(chunk) == CHUNK:
                yield chunk
                chunk = TableChunk()
        yield chunk

    def __len__(self) -> int:
        return len(self._table)

    def blob(self, index: int) -> Blob:
        return Blob(BlobUrl.parse(self._table.name(index)), self._access)

    @property
    def name(self) -> str:
        return "the URLs"


class LazySource:
    """A container that is listed page by page while its blobs are read."""

    def __init__(self, url: ContainerUrl, prefix: str | None, access: Access, *, allow_modified: bool) -> None:
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {type(prefix).__name__}")
        check_credential(url, access.credential)
        self._container = url
        self._prefix = prefix
        self._access = access
        self._allow_modified = allow_modified

    @property
    def name(self) -> str:
        return self._container.url

    async def blobs(self, rank: int, world: int, worker: int, workers: int, block: int) -> AsyncGenerator[Blob]:
        """Yield the share of one worker of one rank, on the running loop; dealt out as by ``Shard``."""
        access, number, archived = self._access, 0, 0
        container = await AzureContainer.open(self._container, access.credential, access.options, access.stats)
        async with aclosing(container.pages(self._prefix)) as pages:
            async for page in pages:
                archived += len(page.archived)
                for listed in page.blobs:
                    of_rank, turn = divmod(number, world)
                    number += 1
                    if turn == rank and of_rank // block % workers == worker:
                        yield _blob(self._container, listed, access, allow_modified=self._allow_modified)
        if archived and rank == worker == 0:
            _logger.warning("%s: %d archived blobs cannot be read and were left out", self.name, archived)


def _blob(container: ContainerUrl, listed: BlobEntry, access: Access, *, allow_modified: bool) -> Blob:
    url = container.blob(listed.name)
    if allow_modified:
        # Without an ETag the size is for the transform to look at; what is read may have another.
        return Blob(url, access, size=listed.size, last_modified=listed.last_modified)
    return Blob(url, access, size=listed.size, etag=listed.etag, last_modified=listed.last_modified)
