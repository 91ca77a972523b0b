"""Datasets in the process of the test, over the same twenty blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer
from tests.torch.datasets.child import content_of, names

__all__ = [
    "KINDS",
    "LISTED",
    "SOURCES",
    "collected",
    "failing",
    "failing_async",
    "filled",
    "make",
    "name_of",
    "ordered",
]

LISTED = names(20)

KINDS = pytest.mark.parametrize("kind", [BlobDataset, IterableBlobDataset])
SOURCES = pytest.mark.parametrize("source", ["container", "urls", "listing"])


def filled(server: BlobServer) -> BlobServer:
    """Return the server, with a blob of each of these names."""
    for name in LISTED:
        server.put(name, content_of(name))
    return server


def make(kind: Any, server: BlobServer, source: str = "container", **arguments: Any) -> Any:
    """Make a dataset of the server's container; forget the requests that it took."""
    arguments.setdefault("credential", False)
    if source == "container":
        dataset = kind.from_container_url(server.container_url, **arguments)
    elif source == "urls":
        dataset = kind.from_blob_urls(map(server.url, LISTED), **arguments)
    else:
        dataset = kind.from_listing(BlobListing.build(server.container_url, credential=False), **arguments)
    server.log.clear()
    return dataset


def name_of(blob: Blob) -> str:
    """Transform that reads nothing."""
    return blob.blob_name


def ordered(server: BlobServer, **arguments: Any) -> IterableBlobDataset[Any]:
    """Return an iterable dataset that yields names and reads nothing."""
    dataset: IterableBlobDataset[Any] = make(
        IterableBlobDataset, server, **{"transform": name_of, "prefetch": 0, **arguments}
    )
    return dataset


async def collected(samples: AsyncIterator[Any]) -> list[Any]:
    """Return all samples of an asynchronous iteration."""
    return [sample async for sample in samples]


def failing(number: int, error: type[Exception] = KeyError) -> Callable[[Blob], str]:
    """Return a transform that raises ``error`` for one blob."""

    def transform(blob: Blob) -> str:
        if blob.blob_name == LISTED[number]:
            raise error("label")
        return blob.blob_name

    return transform


def failing_async(number: int, error: type[Exception] = KeyError) -> Any:
    """Return the same as a coroutine function."""
    plain = failing(number, error)

    async def transform(blob: Blob) -> str:
        return plain(blob)

    return transform
