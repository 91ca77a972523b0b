"""What an iteration keeps of the blobs that it has handed out: nothing."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from azstoragetorch._data.loading import checked_loading
from tests.blobserver import BlobServer
from tests.data.blobs import Blob, access, listed

pytestmark = pytest.mark.timeout(40)

COUNT = 6


class Watched:
    """A transform that remembers which of the blobs it was given are still alive."""

    def __init__(self) -> None:
        self.blobs: list[weakref.ref[Blob]] = []

    def __call__(self, blob: Blob) -> int:
        self.blobs.append(weakref.ref(blob))
        return len(blob.read())

    @property
    def alive(self) -> int:
        return sum(blob() is not None for blob in self.blobs)


@pytest.fixture
def blobs(server: BlobServer) -> list[str]:
    """Names of the blobs of the server."""
    for number in range(COUNT):
        server.put_synthetic(f"{number}", 100)
    return [f"{number}" for number in range(COUNT)]


def test_blob_goes_when_its_sample_is_made(server: BlobServer, blobs: list[str]) -> None:
    """A decoded image is small, and the file it came from may be 64 MiB: it must not live until the next sample."""
    transform, shared = Watched(), access()
    samples = checked_loading(shared, transform, 2, "raise").samples(listed(server, name, shared) for name in blobs)
    for number, sample in enumerate(samples):
        assert (sample, len(transform.blobs), transform.alive) == (100, number + 1, 0)


async def test_blob_goes_when_its_sample_is_made_on_a_loop(server: BlobServer, blobs: list[str]) -> None:
    """The same for ``async for``, where a plain transform runs in a thread."""
    transform, shared = Watched(), access()
    samples = checked_loading(shared, transform, 2, "raise").samples_async(
        listed(server, name, shared) for name in blobs
    )
    number = 0
    async for sample in samples:
        number += 1
        # The thread lets go of its arguments when it has told the loop of its result, which may be a moment later.
        async with asyncio.timeout(10):
            while transform.alive:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert (sample, len(transform.blobs)) == (100, number)


async def test_blob_goes_with_a_coroutine_transform(server: BlobServer, blobs: list[str]) -> None:
    """It is made while the sample waits to be taken, so the blob is gone before that."""
    watched, shared = Watched(), access()

    async def transform(blob: Blob) -> int:
        return watched(blob)

    samples = checked_loading(shared, transform, 1, "raise").samples_async(
        listed(server, name, shared) for name in blobs
    )
    assert await anext(samples) == 100
    assert watched.alive <= 1, "the one after it"
    await samples.aclose()
    assert watched.alive == 0
