"""What `RemoteBlob.read_into` promises, over our own range reads and over the SDK's download.

The choice between the two stays reversible as long as both keep the same promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias

import pytest
from azure.storage.blob.aio import BlobClient

from azstoragetorch import TransferOptions
from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion, RangeRead
from azstoragetorch.exceptions import BlobModifiedError, BlobNotFoundError, ContainerNotFoundError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, synthetic_bytes
from tests.files.sdk_blob import SdkBlob

pytestmark = pytest.mark.timeout(30)

SIZE = 9 * 1024 * 1024 + 17  # more than the 4 MiB that the SDK asks for at once


class Reads(Protocol):
    async def read_into(
        self,
        view: memoryview,
        offset: int,
        *,
        etag: str | None = None,
        opened: Callable[[BlobVersion], None] | None = None,
    ) -> RangeRead: ...


Open: TypeAlias = Callable[[str], Awaitable[Reads]]


@pytest.fixture(params=["ours", "sdk"])
async def blob_at(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open the remote end of a URL."""
    clients: list[BlobClient] = []

    async def ours(url: str) -> Reads:
        return await AzureBlob.open(BlobUrl.parse(url), False, TransferOptions(), TransferStats())

    async def sdk(url: str) -> Reads:
        clients.append(BlobClient.from_blob_url(url))
        return SdkBlob(clients[-1], url.partition("?")[0])

    yield ours if request.param == "ours" else sdk
    for client in clients:
        await client.close()


@pytest.fixture
def url(server: BlobServer) -> str:
    server.put_synthetic("blob", SIZE)
    return server.url("blob")


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 100), (1, SIZE - 1), (0, SIZE), (SIZE - 1, SIZE)])
async def test_view_is_filled_with_the_range(
    server: BlobServer, url: str, blob_at: Open, start: int, stop: int
) -> None:
    """And nothing beside it is touched."""
    memory = bytearray(b"." * (stop - start + 2))
    blob = await blob_at(url)

    read = await blob.read_into(memoryview(memory)[1:-1], start)

    assert read == RangeRead(stop - start, BlobVersion(SIZE, server.version("blob").etag))
    assert memory == b"." + synthetic_bytes(start, stop) + b"."


async def test_read_is_short_only_at_the_end_of_the_blob(url: str, blob_at: Open) -> None:
    """The reader above takes a short read for the end."""
    memory = bytearray(b"." * 100)
    read = await (await blob_at(url)).read_into(memoryview(memory), SIZE - 40)

    assert read.filled == 40
    assert memory == synthetic_bytes(SIZE - 40, SIZE) + b"." * 60


@pytest.mark.parametrize("offset", [SIZE, SIZE + 1000])
async def test_read_past_the_end_fills_nothing_and_names_the_size(url: str, blob_at: Open, offset: int) -> None:
    """It is no error: files may be positioned there."""
    memory = bytearray(b"." * 10)
    read = await (await blob_at(url)).read_into(memoryview(memory), offset)

    assert read.filled == 0
    assert read.version is None or read.version.size == SIZE
    assert memory == b"." * 10


async def test_empty_blob_has_size_zero(server: BlobServer, blob_at: Open) -> None:
    """The service answers 416 for each of its ranges."""
    server.put("empty", b"")
    read = await (await blob_at(server.url("empty"))).read_into(memoryview(bytearray(10)), 0)

    assert read.filled == 0
    assert read.version is not None
    assert read.version.size == 0


async def test_version_is_told_before_the_read_ends(server: BlobServer, url: str, blob_at: Open) -> None:
    """The other ranges of the same read wait for it."""
    told: list[BlobVersion] = []
    await (await blob_at(url)).read_into(memoryview(bytearray(1000)), 0, opened=told.append)

    assert told == [BlobVersion(SIZE, server.version("blob").etag)]


async def test_other_version_than_the_pinned_one_is_refused(server: BlobServer, url: str, blob_at: Open) -> None:
    """One version only, whoever reads."""
    blob = await blob_at(url)
    first = await blob.read_into(memoryview(bytearray(10)), 0)
    assert first.version is not None
    assert (await blob.read_into(memoryview(bytearray(10)), 500, etag=first.version.etag)).filled == 10
    server.put_synthetic("blob", SIZE, seed=1)

    memory = bytearray(b"." * 10)
    with pytest.raises(BlobModifiedError):
        await blob.read_into(memoryview(memory), 0, etag=first.version.etag)
    assert memory == b"." * 10
    assert (await blob.read_into(memoryview(memory), 0)).filled == 10
    assert memory == synthetic_bytes(0, 10, seed=1)


async def test_missing_blob_and_container_are_told_apart(server: BlobServer, blob_at: Open) -> None:
    """By type, so that a caller need not read messages."""
    with pytest.raises(BlobNotFoundError) as caught:
        await (await blob_at(server.url("missing"))).read_into(memoryview(bytearray(10)), 0)
    assert not isinstance(caught.value, ContainerNotFoundError)
    with pytest.raises(ContainerNotFoundError):
        await (await blob_at(f"{server.account_url}/nowhere/blob")).read_into(memoryview(bytearray(10)), 0)


async def test_the_emulator_is_read_alike(container_url: str, blob_at: Open) -> None:
    """Bytes, version, pin and end, against a service that others wrote."""
    base, _, sas = container_url.partition("?")
    url = f"{base}/blob?{sas}"
    with BlobIO(url, "wb") as file:
        file.write(synthetic_bytes(0, 5000))
    blob, memory = await blob_at(url), bytearray(200)

    read = await blob.read_into(memoryview(memory), 4900)
    assert (read.filled, bytes(memory[:100])) == (100, synthetic_bytes(4900, 5000))
    assert read.version is not None
    assert read.version.size == 5000
    assert (await blob.read_into(memoryview(memory), 5000)).filled == 0
    with BlobIO(url, "wb") as file:
        file.write(b"new")
    with pytest.raises(BlobModifiedError):
        await blob.read_into(memoryview(memory), 0, etag=read.version.etag)
