"""Make a map-style dataset of a list of URLs: a table in a blob says which blobs, and which labels they have.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/map_urls.py

Leaves 31 blobs under azstoragetorch-examples/urls/.
"""

from __future__ import annotations

import csv
import io
import os

from torch.utils.data import DataLoader

from azstoragetorch.datasets import Blob, BlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
FOLDER = "azstoragetorch-examples/urls"


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


class Labelled:
    """A transform with something to look up: an object that is called, so that DataLoader workers can be given it."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels

    def __call__(self, blob: Blob) -> tuple[str, str]:
        return blob.read().decode(), self.labels[blob.blob_name]


def main() -> None:
    write_samples()

    with BlobIO(blob_url(f"{FOLDER}/labels.csv"), "rb") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
        labels = {row["name"]: row["label"] for row in rows}

    # They may be of any containers and accounts, each with a SAS of its own. Nothing is listed, and nothing is sent
    # before the first sample is wanted.
    dataset = BlobDataset.from_blob_urls([blob_url(name) for name in labels], transform=Labelled(labels))
    print(f"{len(dataset)} samples, the last is {dataset[-1]}")

    counts = dict.fromkeys(labels.values(), 0)
    for _, batch in DataLoader(dataset, batch_size=8, shuffle=True):
        for label in batch:
            counts[label] += 1
    print(counts)


def write_samples() -> None:
    """Write what this example reads; yours is there already."""
    labels = {f"{FOLDER}/{number:02}.txt": "even" if number % 2 == 0 else "odd" for number in range(30)}
    for name in labels:
        with BlobIO(blob_url(name), "wb") as file:
            file.write(f"this is {name.rpartition('/')[2]}".encode())
    with BlobIO(blob_url(f"{FOLDER}/labels.csv"), "wb") as file:
        file.write(b"name,label\n")
        for name, label in labels.items():
            file.write(f"{name},{label}\n".encode())


if __name__ == "__main__":
    main()
