"""Whole blobs in bytes of their own: as few requests as the size allows, and never bytes of two versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.whole import HEAD, fetch_head, fetch_known, fetch_rest, fetch_whole
from azstoragetorch._values.version import BlobVersion
from azstoragetorch.exceptions import BlobIntegrityError, BlobModifiedError, BlobNotFoundError
from tests.blobserver import BlobServer, Call, ContentRange, CutBody, Header, ShortBody, Status, on, synthetic_bytes
from tests.data.blobs import KiB, MiB, access, at

pytestmark = pytest.mark.timeout(40)

OPTIONS = TransferOptions(range_size=64 * KiB, in_flight=4, memory_budget=4 * MiB)
ONE_REQUEST = TransferOptions(range_size=8 * MiB)

SIZES = [0, 1, 1000, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 300 * KiB + 7]


@pytest.fixture
async def blob(server: BlobServer) -> AzureBlob:
    """The remote end of blob ``a``."""
    return await at(server.url("a")).connect()


def known(server: BlobServer) -> BlobVersion:
    version = server.version("a")
    return BlobVersion(version.size, version.etag)


async def whole(blob: AzureBlob, options: TransferOptions = OPTIONS, **listed: Any) -> tuple[bytes, BlobVersion]:
    """Read the blob; whatever comes of it, no memory stays leased."""
    memory = Memory.current()
    try:
        return await fetch_whole(blob, **{"size": None, "etag": None, **listed}, options=options, memory=memory)
    finally:
        assert memory.used == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [OPTIONS, ONE_REQUEST])
async def test_known_version(server: BlobServer, blob: AzureBlob, size: int, options: TransferOptions) -> None:
    """A listing named it: one request for a small blob, and each of them asks for this very version."""
    server.put_synthetic("a", size)
    version = known(server)

    content = await fetch_known(blob, version, options)

    assert type(content) is bytes
    assert content == synthetic_bytes(0, size)
    requests = server.requests()
    assert len(requests) == max(1, -(-size // options.range_size))
    assert {(request.method, request.headers["if-match"]) for request in requests} == {("GET", version.etag)}
    assert sum(request.bytes_sent for request in requests if request.status == 206) == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_etag", [True, False])
async def test_unknown_size(server: BlobServer, blob: AzureBlob, size: int, with_etag: bool) -> None:
    """The first request brings most blobs completely and names the version of the others; nothing comes twice."""
    server.put_synthetic("a", size)
    version = known(server)

    content, found = await whole(blob, etag=version.etag if with_etag else None)

    assert content == synthetic_bytes(0, size)
    assert found.size == size
    assert found.etag == version.etag or not size
    first, *others = server.requests()
    assert first.range == f"bytes=0-{64 * KiB - 1}"
    assert first.headers.get("if-match") == (version.etag if with_etag else None)
    assert {request.headers["if-match"] for request in others} <= {version.etag}
    assert sum(request.bytes_sent for request in (first, *others) if request.status == 206) == size


async def test_first_request_of_a_blob_read_alone_is_small(server: BlobServer, blob: AzureBlob) -> None:
    """A range of 8 MiB for a sample of 4 KB would be 8 MiB of memory to clear."""
    server.put_synthetic("a", 2 * MiB)
    content, _ = await whole(blob, ONE_REQUEST)
    assert content == synthetic_bytes(0, 2 * MiB)
    first, second = server.requests()
    assert (first.range, second.range) == (f"bytes=0-{HEAD - 1}", f"bytes={HEAD}-{2 * MiB - 1}")


async def test_bytes_do_not_share_the_buffer_of_the_head(server: BlobServer, blob: AzureBlob) -> None:
    """The buffer is used again for the next blob, whose bytes must not show through in this one."""
    server.put_synthetic("a", 1000)
    first, _ = await whole(blob)
    server.put_synthetic("a", 1000, seed=1)
    second, _ = await whole(blob)
    assert first == synthetic_bytes(0, 1000)
    assert second == synthetic_bytes(0, 1000, seed=1)


@pytest.mark.parametrize("size", [0, 100, 300 * KiB])
@pytest.mark.parametrize("now", [0, 50, 100, 300 * KiB, 301 * KiB])
async def test_another_version_than_the_known_one_is_refused(
    server: BlobServer, blob: AzureBlob, size: int, now: int
) -> None:
    """Also one of the same size."""
    server.put_synthetic("a", size)
    version = known(server)
    server.put_synthetic("a", now, seed=1)

    with pytest.raises(BlobModifiedError, match="/data/a"):
        await fetch_known(blob, version, OPTIONS)
    with pytest.raises(BlobModifiedError):
        await whole(blob, etag=version.etag)
    with pytest.raises(BlobModifiedError):
        await whole(blob, etag=version.etag, size=size)


async def test_size_without_etag_is_not_believed(server: BlobServer, blob: AzureBlob) -> None:
    """It says nothing about what the blob holds now."""
    server.put_synthetic("a", 300 * KiB)
    content, version = await whole(blob, size=10)
    assert content == synthetic_bytes(0, 300 * KiB)
    assert version == known(server)


async def test_blob_replaced_between_head_and_rest_is_refused(server: BlobServer, blob: AzureBlob) -> None:
    """Half of one version and half of another would be a sample that never existed."""
    server.put_synthetic("a", 300 * KiB)
    server.fault(on("GET", covers=200 * KiB), Call(lambda: server.put_synthetic("a", 300 * KiB, seed=1)))

    with pytest.raises(BlobModifiedError):
        await whole(blob)


async def test_missing_blob(server: BlobServer, blob: AzureBlob) -> None:
    """Known or not."""
    with pytest.raises(BlobNotFoundError, match="/data/a"):
        await whole(blob)
    with pytest.raises(BlobNotFoundError, match="/data/a"):
        await fetch_known(blob, BlobVersion(10, '"0x1"'), OPTIONS)


@pytest.mark.parametrize("size", [100, 64 * KiB, 300 * KiB])
async def test_listed_size_that_the_blob_does_not_have(server: BlobServer, blob: AzureBlob, size: int) -> None:
    """Impossible for one ETag, so one of the answers is wrong; the sample must be neither cut nor padded."""
    server.put_synthetic("a", size)
    etag = server.version("a").etag
    for wrong in {0, 1, size - 1, size + 1, 10 * size}:
        with pytest.raises(BlobIntegrityError, match="/data/a"):
            await fetch_known(blob, BlobVersion(wrong, etag), OPTIONS)


async def test_answer_that_names_no_version_is_refused(server: BlobServer) -> None:
    """Without an ETag the rest could be of another version."""
    blob = await at(server.url("a"), access(options=replace(OPTIONS, deadline=1))).connect()
    server.put_synthetic("a", 300 * KiB)
    server.fault(on("GET"), Header("ETag", None), times=None)
    with pytest.raises(BlobIntegrityError, match="ETag"):
        await whole(blob)


@pytest.mark.parametrize(
    "fault",
    [Status(503, "ServerBusy"), CutBody(10), ShortBody(10), ContentRange(shift=1)],
    ids=lambda each: each.__class__.__name__,
)
@pytest.mark.parametrize("size", [1000, 300 * KiB])
async def test_one_bad_answer_is_asked_for_again(server: BlobServer, blob: AzureBlob, size: int, fault: Any) -> None:
    """A sample is not lost to one of them, and not spoilt."""
    server.put_synthetic("a", size)
    server.fault(on("GET"), fault)
    content, _ = await whole(blob)
    assert content == synthetic_bytes(0, size)
    server.fault(on("GET"), fault)
    assert await fetch_known(blob, known(server), OPTIONS) == content


async def test_head_and_rest_fit_together(server: BlobServer, blob: AzureBlob) -> None:
    """The head may have any size, aligned to nothing."""
    server.put_synthetic("a", 300 * KiB)
    for size in (1, 1000, 64 * KiB + 5, 300 * KiB - 1, 300 * KiB, 400 * KiB):
        buffer = bytearray(size)
        filled, version = await fetch_head(blob, memoryview(buffer), OPTIONS)
        assert filled == min(size, 300 * KiB)
        assert version == known(server)
        rest = await fetch_rest(blob, memoryview(buffer)[:filled], version, OPTIONS)
        assert rest == synthetic_bytes(0, 300 * KiB)
