"""Read an iterable dataset with several DataLoader workers, which divide the blobs, in two epochs.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/workers.py

Leaves 100 blobs under azstoragetorch-examples/workers/.
"""

from __future__ import annotations

import os
from collections import Counter

import torch
from torch.utils.data import DataLoader, get_worker_info

from azstoragetorch.datasets import Blob, IterableBlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
PREFIX = "azstoragetorch-examples/workers/"

Sample = tuple[torch.Tensor, int, int]


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def decode(blob: Blob) -> Sample:
    """Make a sample: a tensor, the number of the blob, and the worker that this runs in."""
    sample = torch.load(blob.reader(), weights_only=True)
    worker = get_worker_info()
    return sample["image"], sample["number"], worker.id if worker else -1


def main() -> None:
    write_samples()

    # The dataset is given the batch_size of its DataLoader. Whole batches are then dealt out to the workers, and are
    # the same ones, in the same order, for any number of workers.
    dataset = IterableBlobDataset.from_container_url(
        CONTAINER_URL, prefix=PREFIX, transform=decode, batch_size=20, shuffle=True
    )
    # Any start method will do: fork, spawn, forkserver. Each worker has connections and a memory budget of its own.
    loader = DataLoader(dataset, batch_size=20, num_workers=2, persistent_workers=True)
    orders = []
    for epoch in range(2):
        numbers: list[int] = []
        workers: Counter[int] = Counter()
        for images, batch_numbers, batch_workers in loader:
            assert images.shape == (20, 3, 8, 8)
            numbers += batch_numbers.tolist()
            workers.update(batch_workers.tolist())
        print(f"epoch {epoch}: {len(numbers)} samples, {len(set(numbers))} different ones")
        for worker, count in sorted(workers.items()):
            print(f"  worker {worker} read {count}")
        orders.append(numbers)
    print("the same order in both epochs:", orders[0] == orders[1])


def write_samples() -> None:
    """Write what this example reads; yours is there already."""
    for number in range(100):
        with BlobIO(blob_url(f"{PREFIX}{number:03}.pt"), "wb") as file:
            torch.save({"image": torch.full((3, 8, 8), number / 100), "number": number}, file)


if __name__ == "__main__":  # workers that are spawned import this file
    main()
