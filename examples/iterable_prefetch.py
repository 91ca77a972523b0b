"""Iterate over many small blobs that are fetched ahead, and compare that with fetching one after the other.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/iterable_prefetch.py

Leaves 200 blobs of 16 KiB under azstoragetorch-examples/prefetch/.
"""

from __future__ import annotations

import asyncio
import os
import time

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.datasets import IterableBlobDataset
from azstoragetorch.listing import BlobListing

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
PREFIX = "azstoragetorch-examples/prefetch/"
MiB = 1024 * 1024


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def main() -> None:
    asyncio.run(write_samples())
    listing = BlobListing.build(CONTAINER_URL, prefix=PREFIX)  # for both datasets below
    print(f"{len(listing)} blobs, {listing.size} bytes")

    # What is fetched ahead takes memory: of this budget samples may hold one half. It is one for the whole process.
    options = TransferOptions(memory_budget=64 * MiB)
    for prefetch in (0, 32):
        dataset = IterableBlobDataset.from_listing(listing, prefetch=prefetch, options=options)
        size, worked, started = 0, 0.0, time.perf_counter()
        for sample in dataset:
            received = time.perf_counter()
            size += len(sample["data"])
            time.sleep(0.005)  # stands for a step of a training
            worked += time.perf_counter() - received
        waited = time.perf_counter() - started - worked
        stats = dataset.stats()
        print(f"prefetch={prefetch}: {stats.samples} samples in {stats.requests} requests, {size} bytes")
        print(f"  {worked:.2f} s of work, {waited:.2f} s of waiting")


async def write_samples() -> None:
    """Write what this example reads, all at once; yours is there already."""

    async def write(number: int) -> None:
        async with AsyncBlobIO(blob_url(f"{PREFIX}{number:03}.bin"), "wb") as file:
            await file.write(bytes([number]) * 16 * 1024)

    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(write(number))


if __name__ == "__main__":
    main()
