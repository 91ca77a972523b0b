"""Load a model from a blob; start from scratch where there is none.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/load_model.py

Leaves the blob azstoragetorch-examples/pretrained.pth.
"""

from __future__ import annotations

import os

import torch
from torch import nn

from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
NAME = "azstoragetorch-examples/pretrained.pth"


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def load(model: nn.Module) -> bool:
    """Load the weights if the blob is there; say whether it is."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with BlobIO(blob_url(NAME), "rb") as file:
            state = torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError:  # and nothing else: without permission or network one must not start from scratch
        return False
    model.load_state_dict(state)
    return True


def main() -> None:
    torch.manual_seed(0)
    first = nn.Linear(784, 10)
    if not load(first):
        print(f"there is no {NAME} yet: starting from scratch")
        with BlobIO(blob_url(NAME), "wb") as file:
            torch.save(first.state_dict(), file)

    second = nn.Linear(784, 10)
    load(second)
    print("loaded:", ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in second.state_dict().items()))
    print("both models have the same weights:", torch.equal(first.weight, second.weight))


if __name__ == "__main__":
    main()
