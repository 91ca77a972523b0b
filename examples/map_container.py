"""Read a container as a map-style dataset: `dataset[i]` is blob `i`, by name.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/map_container.py

Takes every blob of the container for a sample and reads 40 of them: point it at one with nothing but samples in it, or
at an empty one. Leaves 40 blobs under azstoragetorch-examples/container/.
"""

from __future__ import annotations

import os
from itertools import islice

from torch.utils.data import DataLoader

from azstoragetorch.datasets import BlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def main() -> None:
    write_samples()

    # The container is listed here, once, and not again in workers or epochs.
    dataset = BlobDataset.from_container_url(CONTAINER_URL)
    print(f"{len(dataset)} blobs")

    first = dataset[0]  # without a transform a sample is a dictionary of two
    print(f"the first: {first['url'].rpartition('/')[2]}, {first['data'][:6]!r}")

    loader = DataLoader(dataset, batch_size=10, shuffle=True)  # the ten blobs of a batch are fetched at the same time
    for batch in islice(loader, 4):
        print(f"a batch of {len(batch['url'])} blobs, {sum(map(len, batch['data']))} bytes")


def write_samples() -> None:
    """Write what this example reads; yours is there already."""
    for number in range(40):
        with BlobIO(blob_url(f"azstoragetorch-examples/container/{number:02}.bin"), "wb") as file:
            file.write(f"blob {number:02} ".encode() * 100)


if __name__ == "__main__":
    main()
