"""``verify="range"`` in datasets: a flipped byte is no sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch.aio import aclose
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.exceptions import BlobIntegrityError
from tests.blobserver import BlobServer, FlipBit, Rule, on
from tests.torch.datasets.child import content_of
from tests.torch.datasets.making import KINDS, LISTED, SOURCES, collected, filled, make

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("unacquainted")]

VERIFIED = TransferOptions(verify="range", deadline=2)


@pytest.fixture
def unacquainted() -> Iterator[None]:
    """What the endpoint can compute is remembered with its connections, and ports come again."""
    yield
    run(aclose)


def named_content(blob: Blob) -> tuple[str, bytes]:
    return blob.blob_name, blob.read()


def flip(server: BlobServer) -> list[Rule]:
    """Flip a bit of the first answer for every third blob."""
    return [server.fault(on("GET", "", blob=name), FlipBit(0)) for name in LISTED[::3]]


EXPECTED = [(name, content_of(name)) for name in LISTED]


@KINDS
@SOURCES
@pytest.mark.parametrize("prefetch", [0, 8])
def test_flipped_bytes_are_asked_for_again(server: BlobServer, kind: Any, source: str, prefetch: int) -> None:
    """Whether a sample was fetched ahead or is read by its transform, its size known or not."""
    dataset = make(kind, filled(server), source, transform=named_content, prefetch=prefetch, options=VERIFIED)
    flipped = flip(server)
    samples = [dataset[index] for index in range(len(LISTED))] if kind is BlobDataset else list(dataset)

    assert sorted(samples) == sorted(EXPECTED)
    assert [rule.hits for rule in flipped] == [1] * 7
    assert dataset.stats().retries == 7


def test_samples_of_workers_are_verified(server: BlobServer) -> None:
    """Options travel with the dataset."""
    dataset = make(IterableBlobDataset, filled(server), transform=named_content, options=VERIFIED)
    flipped = flip(server)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, num_workers=2)

    assert sorted(map(tuple, loader)) == sorted(EXPECTED)
    assert [rule.hits for rule in flipped] == [1] * 7


async def test_sample_that_cannot_be_verified_is_an_error(server: BlobServer) -> None:
    """And the others are read."""
    dataset = make(IterableBlobDataset, filled(server), transform=named_content, options=VERIFIED, on_error="skip")
    server.fault(on("GET", "", blob=LISTED[3]), FlipBit(0), times=None)
    assert sorted(await collected(dataset)) == sorted(EXPECTED[:3] + EXPECTED[4:])

    strict = make(IterableBlobDataset, server, transform=named_content, options=VERIFIED)
    with pytest.raises(BlobIntegrityError):
        await collected(strict)
    await aclose()
