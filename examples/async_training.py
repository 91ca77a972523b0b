"""Train on an event loop: samples arrive, and checkpoints leave, while the model computes.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/async_training.py

Leaves samples and checkpoints under azstoragetorch-examples/async/.
"""

from __future__ import annotations

import asyncio
import io
import os

import torch
from torch import nn

from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.datasets import Blob, IterableBlobDataset
from azstoragetorch.listing import BlobListing

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
FOLDER = "azstoragetorch-examples/async"
SAMPLES, EPOCHS, BATCH_SIZE = 96, 3, 16

Sample = tuple[torch.Tensor, torch.Tensor]


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def decode(blob: Blob) -> Sample:
    sample = torch.load(blob.reader(), weights_only=True)  # fetched already: no request is made here
    return sample["features"], sample["target"]


def as_bytes(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


async def write(name: str, content: bytes) -> None:
    # A task that is cancelled, or fails, inside the block leaves the blob as it was.
    async with AsyncBlobIO(blob_url(f"{FOLDER}/{name}"), "wb") as file:
        await file.write(content)


class Training:
    def __init__(self) -> None:
        self.model = nn.Linear(8, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.2)

    def step(self, batch: list[Sample]) -> float:
        features, targets = (torch.stack(column) for column in zip(*batch, strict=True))
        loss = nn.functional.mse_loss(self.model(features).squeeze(1), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


async def train() -> None:
    listing = await BlobListing.abuild(CONTAINER_URL, prefix=f"{FOLDER}/samples/")
    dataset = IterableBlobDataset.from_listing(listing, transform=decode, prefetch=32, shuffle=True)
    training = Training()
    async with asyncio.TaskGroup() as checkpoints:
        for epoch in range(EPOCHS):
            losses = []
            batch: list[Sample] = []
            async for sample in dataset:
                batch.append(sample)
                if len(batch) == BATCH_SIZE:
                    # In a thread, so that the event loop goes on with its requests meanwhile.
                    losses.append(await asyncio.to_thread(training.step, batch))
                    batch = []
            # Made to bytes here, before the next epoch changes the weights; sent while that runs. One that cannot be
            # saved ends the training with its error.
            checkpoint = as_bytes(training.model.state_dict())
            checkpoints.create_task(write(f"epoch-{epoch}.pth", checkpoint))
            print(f"epoch {epoch}: {len(losses)} batches, loss {sum(losses) / len(losses):.4f}")
    print(f"{EPOCHS} checkpoints saved, {dataset.stats().requests} requests for {dataset.stats().samples} samples")


async def write_samples() -> None:
    """Write what this example reads, all at once; yours is there already."""
    weights = torch.linspace(-1, 1, 8)
    async with asyncio.TaskGroup() as group:
        for number in range(SAMPLES):
            features = torch.randn(8)
            sample = {"features": features, "target": features @ weights}
            group.create_task(write(f"samples/{number:03}.pt", as_bytes(sample)))


async def main() -> None:
    torch.manual_seed(0)
    await write_samples()
    await train()


if __name__ == "__main__":
    asyncio.run(main())
