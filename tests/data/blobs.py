"""Blobs of a dataset without the dataset, and the four ways of reading one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from azstoragetorch import TransferOptions
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion
from tests.blobserver import BlobServer

__all__ = [
    "Blob",
    "KiB",
    "MiB",
    "Read",
    "access",
    "at",
    "by_aread",
    "by_areader",
    "by_read",
    "by_reader",
    "hold",
    "listed",
    "named",
]

KiB = 1024
MiB = 1024 * KiB

SMALL = TransferOptions(range_size=64 * KiB, in_flight=4, readahead=4)
"""Many ranges in little data."""

Read: TypeAlias = Callable[[Blob], Awaitable[bytes]]


def access(credential: Credential = False, options: TransferOptions = SMALL) -> Access:
    return Access(credential, options)


def at(url: str, shared: Access | None = None) -> Blob:
    """Return the blob as a list of URLs names it: nothing is known of it."""
    return Blob(BlobUrl.parse(url), shared or access())


def listed(server: BlobServer, name: str, shared: Access | None = None) -> Blob:
    """Return the blob as a listing would describe it now."""
    version = server.version(name)
    return Blob(BlobUrl.parse(server.url(name)), shared or access(), size=version.size, etag=version.etag)


def named(server: BlobServer, name: str, shared: Access | None = None) -> Blob:
    """Return the blob of the server's container as a list of URLs names it."""
    return at(server.url(name), shared)


def hold(blob: Blob, content: bytes) -> Blob:
    """Give ``blob`` its content, as a prefetching dataset does, and return it."""
    blob.hold(content, BlobVersion(len(content), blob.etag or '"0x1"'))
    return blob


async def by_read(blob: Blob) -> bytes:
    return blob.read()


async def by_aread(blob: Blob) -> bytes:
    return await blob.aread()


async def by_reader(blob: Blob) -> bytes:
    with blob.reader() as file:
        return file.read()


async def by_areader(blob: Blob) -> bytes:
    async with blob.areader() as file:
        return await file.read()
