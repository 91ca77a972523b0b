"""Save a model's state to a blob and load it back; read small blobs as a dataset; compare everything.

    AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container> python examples/quickstart.py

The URL may carry a SAS. Without one, the credentials that `DefaultAzureCredential` finds on this machine are used:
those of the Azure CLI, a managed identity, and others. The exit status is 0 only if every tensor and every sample came
back unchanged.
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
from torch.utils.data import DataLoader, get_worker_info

from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.datasets import Blob, IterableBlobDataset
from azstoragetorch.io import BlobIO

NAME = "azstoragetorch-quickstart/model.pth"
SAMPLES = "azstoragetorch-quickstart/samples/"
SAMPLE_COUNT = 256
SAMPLE_SIZE = 16 * 1024
WORKERS = 2


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
    amount: float
    unit: str
    seconds: float
    requests: int

    def __str__(self) -> str:
        done = f"{self.amount:.0f} {self.unit}"
        rate = f"{self.amount / self.seconds:.0f} {self.unit}/s"
        return f"  {self.what:<23}{done:>12}{self.seconds:>10.3f} s{rate:>15}{self.requests:>11}"


def save(url: str, state: dict[str, torch.Tensor]) -> Line:
    started = time.perf_counter()
    # The blob appears, or changes, when the block ends without an exception, and not before.
    with BlobIO(url, "wb") as file:
        torch.save(state, file)
        size = file.tell()
    return Line("torch.save", size / 1e6, "MB", time.perf_counter() - started, file.stats().requests)


def load(url: str) -> tuple[Line, dict[str, torch.Tensor]]:
    started = time.perf_counter()
    with BlobIO(url, "rb") as file:
        state = torch.load(file, weights_only=True)
        seconds = time.perf_counter() - started
        size = file.seek(0, os.SEEK_END)
    return Line("torch.load", size / 1e6, "MB", seconds, file.stats().requests), state


async def read(url: str) -> tuple[Line, bytes]:
    started = time.perf_counter()
    async with AsyncBlobIO(url, "rb") as file:
        content = await file.read()
    seconds = time.perf_counter() - started
    return Line("AsyncBlobIO.read", len(content) / 1e6, "MB", seconds, file.stats().requests), content


def content_of(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SAMPLE_SIZE // 4)


async def write_samples(container_url: str) -> None:
    async def write(number: int) -> None:
        async with AsyncBlobIO(blob_url(container_url, f"{SAMPLES}{number:03}.bin"), "wb") as file:
            await file.write(content_of(number))

    async with asyncio.TaskGroup() as group:
        for number in range(SAMPLE_COUNT):
            group.create_task(write(number))


def number_of(blob: Blob) -> int:
    """Make a sample of a blob: its number, or -1 if it has the bytes of another one."""
    number = int(blob.blob_name.removeprefix(SAMPLES).removesuffix(".bin"))
    return number if blob.read() == content_of(number) else -1


def iterate(container_url: str) -> tuple[Line, list[int]]:
    # The container is listed here, once, and not again in workers or epochs.
    dataset = IterableBlobDataset.from_container_url(container_url, prefix=SAMPLES, transform=number_of, prefetch=32)
    started = time.perf_counter()
    numbers = list(dataset)
    seconds = time.perf_counter() - started
    return Line("dataset, prefetch=32", len(numbers), "samples", seconds, dataset.stats().requests), numbers


def collate(numbers: list[int]) -> tuple[list[int], int, int]:
    """Make a batch; in a worker, which alone knows how many requests it has made."""
    worker = get_worker_info()
    assert worker is not None
    assert isinstance(worker.dataset, IterableBlobDataset)
    return numbers, worker.id, worker.dataset.stats().requests


def load_in_workers(container_url: str) -> tuple[Line, list[int]]:
    dataset = IterableBlobDataset.from_container_url(
        container_url, prefix=SAMPLES, transform=number_of, batch_size=32, shuffle=True
    )
    started = time.perf_counter()
    numbers, requests = [], dict.fromkeys(range(WORKERS), 0)
    for batch, worker, count in DataLoader(dataset, batch_size=32, num_workers=WORKERS, collate_fn=collate):
        numbers += batch
        requests[worker] = count
    seconds = time.perf_counter() - started
    return Line(f"DataLoader, {WORKERS} workers", len(numbers), "samples", seconds, sum(requests.values())), numbers


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
    print(f"  model   a residual network: {len(state)} tensors, {values / 1e6:.1f} million values")
    print(f"  samples {SAMPLE_COUNT} blobs of {SAMPLE_SIZE // 1024} KiB beside it\n")
    print(f"  {'':<23}{'amount':>12}{'time':>12}{'rate':>15}{'requests':>11}", flush=True)

    saved = save(url, state)
    print(saved, flush=True)
    loaded, state_loaded = load(url)
    print(loaded, flush=True)
    received, content = asyncio.run(read(url))
    print(received, flush=True)
    state_received = torch.load(io.BytesIO(content), weights_only=True)

    asyncio.run(write_samples(container_url))
    iterated, in_order = iterate(container_url)
    print(iterated, flush=True)
    in_workers, shuffled = load_in_workers(container_url)
    print(in_workers, flush=True)

    counts = {"torch.load": same(state, state_loaded), "AsyncBlobIO": same(state, state_received)}
    print()
    for what, count in counts.items():
        print(f"  {what:<12} {count} of {len(state)} tensors are equal to what was saved")
    expected = list(range(SAMPLE_COUNT))
    complete = in_order == expected and sorted(shuffled) == expected
    print(f"  {'datasets':<12} {'each sample came once with its own bytes' if complete else 'samples are wrong'}")
    equal = complete and all(count == len(state) for count in counts.values())
    print(f"\n{'OK' if equal else 'FAILED: the blob does not hold what was saved'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
