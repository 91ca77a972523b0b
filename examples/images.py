"""Train on images: a transform decodes and scales them, and takes the label from the name of the blob.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    pip install numpy pillow
    python examples/images.py

Leaves 60 small PNG images under azstoragetorch-examples/images/.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from azstoragetorch.datasets import Blob, IterableBlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
PREFIX = "azstoragetorch-examples/images/"
CLASSES = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
SIZE = 32


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def decode(blob: Blob) -> tuple[torch.Tensor, int]:
    """Return the image as ``float32[3, 32, 32]`` between 0 and 1, and its class.

    It runs in the DataLoader workers. `torchvision.transforms` would go in here as well.
    """
    with Image.open(blob.reader()) as image:  # a reader is a file: whatever decodes files takes it
        pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE)))
    folder = blob.blob_name.removeprefix(PREFIX).partition("/")[0]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255, list(CLASSES).index(folder)


def damaged(blob: Blob, error: Exception) -> tuple[torch.Tensor, int]:
    """Return a sample in place of one that could not be read or decoded, which `cross_entropy` passes over."""
    print(f"{blob.blob_name} is left out: {type(error).__name__}")
    return torch.zeros(3, SIZE, SIZE), -100


def main() -> None:
    torch.manual_seed(0)
    write_images()

    dataset = IterableBlobDataset.from_container_url(
        CONTAINER_URL, prefix=PREFIX, transform=decode, on_error=damaged, batch_size=20, shuffle=True
    )
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    loader = DataLoader(dataset, batch_size=20)
    for epoch in range(3):
        total, right, count = 0.0, 0, 0
        for images, labels in loader:
            scores = model(images)
            loss = nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            right += int((scores.argmax(1) == labels).sum())
            count += int((labels >= 0).sum())
        print(f"epoch {epoch}: {count} images, loss {total / len(loader):.3f}, {right / count:.2f} of them recognised")


def write_images() -> None:
    """Write what this example reads, larger than it needs them and one damaged; yours is there already."""
    noise = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        for number in range(20):
            pixels = np.clip(colour + noise.normal(0, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
            with BlobIO(blob_url(f"{PREFIX}{name}/{number:02}.png"), "wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
    with BlobIO(blob_url(f"{PREFIX}red/00.png"), "wb") as file:
        file.write(b"not an image")


if __name__ == "__main__":
    main()
