"""Make a map-style dataset of the blobs whose names begin alike, with a transform that makes tensors of them.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/map_prefix.py

Leaves 60 blobs under azstoragetorch-examples/prefix/.
"""

from __future__ import annotations

import os

import torch
from torch.utils.data import DataLoader, random_split

from azstoragetorch.datasets import Blob, BlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
TRAIN, TEST = "azstoragetorch-examples/prefix/train/", "azstoragetorch-examples/prefix/test/"


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def decode(blob: Blob) -> tuple[torch.Tensor, int]:
    """Make a sample of a blob; called in the DataLoader worker, or here without workers."""
    sample = torch.load(blob.reader(), weights_only=True)  # fetched already: no request is made here
    return sample["image"], sample["label"]


def main() -> None:
    write_samples()

    dataset = BlobDataset.from_container_url(CONTAINER_URL, prefix=TRAIN, transform=decode)
    # It is a torch.utils.data.Dataset: samplers, subsets and splits work on it.
    train, validation = random_split(dataset, [40, 10])
    test = BlobDataset.from_container_url(CONTAINER_URL, prefix=TEST, transform=decode)
    print(f"{len(train)} to train, {len(validation)} to validate, {len(test)} to test")

    for images, labels in DataLoader(train, batch_size=16, shuffle=True):
        print(f"images {tuple(images.shape)}, labels {tuple(labels.shape)}")
    print(f"labels of the test set: {[label for image, label in test]}")  # also fetched ahead


def write_samples() -> None:
    """Write what this example reads; yours is there already."""
    for prefix, count in ((TRAIN, 50), (TEST, 10)):
        for number in range(count):
            with BlobIO(blob_url(f"{prefix}{number:02}.pt"), "wb") as file:
                torch.save({"image": torch.full((3, 8, 8), number / count), "label": number % 10}, file)


if __name__ == "__main__":
    main()
