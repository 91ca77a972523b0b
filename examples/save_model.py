"""Save a model to a blob, and see that a save which is interrupted leaves it alone.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/save_model.py

Leaves the blob azstoragetorch-examples/model.pth.
"""

from __future__ import annotations

import os

import torch
from torch import nn

from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
NAME = "azstoragetorch-examples/model.pth"


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def main() -> None:
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))

    # The blob appears, or changes, when the block ends without an exception, and not before.
    with BlobIO(blob_url(NAME), "wb") as file:
        torch.save(model.state_dict(), file)
        size = file.tell()
    print(f"saved {NAME}: {size / 1e6:.1f} MB")

    try:
        with BlobIO(blob_url(NAME), "wb") as file:
            file.write(b"half of the next model")
            raise KeyboardInterrupt  # stands for a Ctrl-C, or for any error
    except KeyboardInterrupt:
        print("the next save was interrupted")

    with BlobIO(blob_url(NAME), "rb") as file:
        state = torch.load(file, weights_only=True)
    equal = all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    print(f"the blob holds {'the first model' if equal else 'something else'}")


if __name__ == "__main__":
    main()
