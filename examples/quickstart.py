"""Save a model's state to a blob, load it back, and compare every tensor.

    AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container> python examples/quickstart.py

The URL may carry a SAS. Without one, the credentials that `DefaultAzureCredential` finds on this machine are used:
those of the Azure CLI, a managed identity, and others. The exit status is 0 only if every tensor came back unchanged.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
from dataclasses import dataclass

import torch
from torch import nn

from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO

NAME = "azstoragetorch-quickstart/model.pth"


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(images) + self.shortcut(images))


def residual_network() -> nn.Module:
    """Build a small network for images of 10 classes: 8 blocks, 6.5 million parameters, 26 MB."""
    layers: list[nn.Module] = [nn.Conv2d(3, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU()]
    channels = 48
    for width in (48, 96, 192, 384):
        stride = 1 if width == channels else 2
        layers += [ResidualBlock(channels, width, stride), ResidualBlock(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def blob_url(container_url: str, name: str) -> str:
    """Put a blob's name into the URL of its container, before the query that a SAS is."""
    path, mark, sas = container_url.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{sas}"


def same(saved: dict[str, torch.Tensor], loaded: dict[str, torch.Tensor]) -> int:
    """Count the tensors of ``saved`` that ``loaded`` has with the same type, shape and values."""
    return sum(
        name in loaded and tensor.dtype == loaded[name].dtype and torch.equal(tensor, loaded[name])
        for name, tensor in saved.items()
    )


@dataclass
class Line:
    """One line of the report."""

    what: str
    size: int
    seconds: float
    requests: int

    def __str__(self) -> str:
        megabytes = self.size / 1e6
        rate = megabytes / self.seconds
        return f"  {self.what:<18}{megabytes:>8.1f} MB{self.seconds:>9.3f} s{rate:>9.0f} MB/s{self.requests:>11}"


def save(url: str, state: dict[str, torch.Tensor]) -> Line:
    started = time.perf_counter()
    # The blob appears, or changes, when the block ends without an exception, and not before.
    with BlobIO(url, "wb") as file:
        torch.save(state, file)
        size = file.tell()
    return Line("torch.save", size, time.perf_counter() - started, file.stats().requests)


def load(url: str) -> tuple[Line, dict[str, torch.Tensor]]:
    started = time.perf_counter()
    with BlobIO(url, "rb") as file:
        state = torch.load(file, weights_only=True)
        seconds = time.perf_counter() - started
        size = file.seek(0, os.SEEK_END)
    return Line("torch.load", size, seconds, file.stats().requests), state


async def read(url: str) -> tuple[Line, bytes]:
    started = time.perf_counter()
    async with AsyncBlobIO(url, "rb") as file:
        content = await file.read()
    return Line("AsyncBlobIO.read", len(content), time.perf_counter() - started, file.stats().requests), content


def main() -> int:
    container_url = os.environ.get("AZSTORAGETORCH_CONTAINER_URL")
    if not container_url:
        print("Set AZSTORAGETORCH_CONTAINER_URL to the URL of a container.", file=sys.stderr)
        return 2
    url = blob_url(container_url, NAME)
    torch.manual_seed(0)
    state = residual_network().state_dict()
    values = sum(tensor.numel() for tensor in state.values())

    print("azstoragetorch quickstart\n")
    # What stands behind the question mark is a secret.
    print(f"  blob    {url.partition('?')[0]}")
    print(f"  model   a residual network: {len(state)} tensors, {values / 1e6:.1f} million values\n")
    print(f"  {'':<18}{'size':>11}{'time':>11}{'rate':>14}{'requests':>11}", flush=True)

    saved = save(url, state)
    print(saved, flush=True)
    loaded, state_loaded = load(url)
    print(loaded, flush=True)
    received, content = asyncio.run(read(url))
    print(received, flush=True)
    state_received = torch.load(io.BytesIO(content), weights_only=True)

    counts = {"torch.load": same(state, state_loaded), "AsyncBlobIO": same(state, state_received)}
    print()
    for what, count in counts.items():
        print(f"  {what:<12} {count} of {len(state)} tensors are equal to what was saved")
    equal = all(count == len(state) for count in counts.values())
    print(f"\n{'OK' if equal else 'FAILED: the blob does not hold what was saved'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
