# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What users write, for type checkers to read; nobody runs it.

``assert_type`` says what an editor shows when it is asked for a type. A line that has to be refused has an ignore
comment, which is an error where nothing is refused.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, assert_type

import torch
from torch.utils.data import DataLoader

import azstoragetorch
from azstoragetorch import Credential, DatasetStats, Mode, TransferOptions, TransferStats
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset, OnError, Sharding, Transform, Uneven
from azstoragetorch.exceptions import BlobNotFoundError, BlobServiceError
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobEntry, BlobListing

URL = "https://account.blob.core.windows.net/container/model.pth"


def files(mode: Mode, credential: Credential) -> None:
    """A blob goes wherever a binary file goes."""
    with BlobIO(URL, mode, credential=credential, options=TransferOptions(in_flight=8)) as file:
        assert_type(file, BlobIO)
        assert_type(file.read(), bytes)
        assert_type(file.readinto(bytearray(8)), int)
        assert_type(list(file), list[bytes])
        assert_type(file.seek(0, io.SEEK_END), int)
        assert_type(file.committed, bool)
        assert_type(file.stats(), TransferStats)
        torch.save({}, file)
        torch.load(file)
        pickle.dump({}, file)
        io.TextIOWrapper(file, encoding="utf-8").detach()
    BlobIO(URL, "r")  # type: ignore[arg-type]
    azstoragetorch.BlobOI  # type: ignore[attr-defined]  # noqa: B018


async def on_a_loop() -> None:
    """The same, awaited."""
    async with AsyncBlobIO(URL, "rb") as file:
        assert_type(file, AsyncBlobIO)
        assert_type(await file.read(1), bytes)
        assert_type([line async for line in file], list[bytes])
    await aclose()
    assert_type(azstoragetorch.stats(), TransferStats)


def decode(blob: Blob) -> torch.Tensor:
    """A transform reads a blob."""
    assert_type(blob.size, int | None)
    assert_type(blob.reader(), BlobIO)
    assert_type(blob.areader(), AsyncBlobIO)
    return torch.frombuffer(bytearray(blob.read()), dtype=torch.uint8)


async def read(blob: Blob) -> bytes:
    """So does a coroutine."""
    return await blob.aread()


def instead(blob: Blob, error: Exception) -> torch.Tensor:
    """What a sample is replaced by."""
    if isinstance(error, BlobServiceError):
        assert_type(error.status_code, int | None)
    return torch.zeros(0) if isinstance(error, BlobNotFoundError) else decode(blob)


async def datasets(transform: Transform, on_error: OnError, sharding: Sharding, uneven: Uneven) -> None:
    """What the samples are is what the transform makes of them: say so, and the rest follows."""
    images: BlobDataset[torch.Tensor] = BlobDataset.from_container_url(URL, transform=decode, on_error=instead)
    assert_type(images[0], torch.Tensor)
    assert_type(await images.aget_many([0, 1]), list[torch.Tensor])
    assert_type(len(images), int)
    for batch in DataLoader(images, batch_size=32):
        print(batch)
    stream: IterableBlobDataset[bytes] = IterableBlobDataset.from_blob_urls([URL], transform=read)
    assert_type(list(stream), list[bytes])
    assert_type([sample async for sample in stream], list[bytes])
    assert_type(stream.stats(), DatasetStats)
    assert_type(stream.state_dict(), dict[str, Any])
    IterableBlobDataset.from_container_url(
        URL, transform=transform, on_error=on_error, sharding=sharding, uneven=uneven
    )


def listings() -> None:
    """An index gives a blob, a slice a listing."""
    listing = BlobListing.build(URL)
    assert_type(listing[0], BlobEntry)
    assert_type(listing[1:], BlobListing)
    assert_type(listing.filter(predicate=lambda entry: (entry.size or 0) > 0), BlobListing)
    assert_type([entry.name for entry in listing], list[str])
