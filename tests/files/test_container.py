"""The listing of a container: what datasets and checkpoints will be found by."""

from __future__ import annotations

import pytest

from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch._values.version import BlobEntry
from azstoragetorch.exceptions import ContainerNotFoundError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Status, on


async def listed(url: str, prefix: str | None = None, page_size: int = 5000) -> tuple[list[BlobEntry], TransferStats]:
    container = await AzureContainer.open(ContainerUrl.parse(url), False, TransferOptions(), TransferStats())
    pages = [page async for page in container.pages(prefix, page_size=page_size)]
    return [blob for page in pages for blob in page.blobs], container.stats


async def test_every_blob_is_listed_once_over_many_pages(server: BlobServer) -> None:
    """A page boundary must neither lose nor repeat a sample."""
    etags = {name: server.put(name, name.encode()).etag for name in (f"train/{i:03d} %+ü" for i in range(23))}
    server.put("other", b"not below the prefix")

    blobs, stats = await listed(server.container_url, "train/", page_size=5)

    assert {blob.name: blob.etag for blob in blobs} == etags
    assert [blob.name for blob in blobs] == sorted(etags)
    assert all(blob.size == len(blob.name.encode()) for blob in blobs)
    assert stats.requests == 5


async def test_failing_page_is_asked_for_again_alone(server: BlobServer) -> None:
    """A hiccup in the last page of a long listing must not repeat the listing."""
    for i in range(10):
        server.put(f"{i}", b"x")
    server.fault(on("GET", "list"), Status(503, "ServerBusy", {"Retry-After": "0"}), nth=2)

    blobs, stats = await listed(server.container_url, page_size=5)

    assert [blob.name for blob in blobs] == [f"{i}" for i in range(10)]
    assert (stats.requests, stats.retries) == (3, 1)


async def test_missing_container_is_one_typed_error(server: BlobServer) -> None:
    """A typing error in the container's name must say so at once."""
    with pytest.raises(ContainerNotFoundError, match="nowhere"):
        await listed(f"{server.account_url}/nowhere")

    assert len(server.requests("GET", comp="list")) == 1


async def test_azurite_lists_what_was_written(container_url: str) -> None:
    """The emulator answers as the service does, with a SAS in the URL."""
    container = ContainerUrl.parse(container_url)
    url = container.blob("dir/a b.bin")
    with BlobIO(f"{url.url}?{url.sas}", "wb") as file:
        file.write(b"content")

    blobs, _ = await listed(container_url)

    assert [(blob.name, blob.size) for blob in blobs] == [("dir/a b.bin", 7)]
