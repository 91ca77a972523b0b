"""Go on with a training after a kill, in the middle of an epoch.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/resume.py --kill-at 13    # dies like a machine that is taken away, while it saves batch 13
    python examples/resume.py                 # goes on after batch 12, the last one that was saved

Leaves 80 samples and a checkpoint under azstoragetorch-examples/resume/. With the last checkpoint there is nothing left
to do; `python examples/clean_up.py` deletes it.
"""

from __future__ import annotations

import argparse
import os
import signal
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from azstoragetorch.datasets import Blob, IterableBlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
FOLDER = "azstoragetorch-examples/resume"
CHECKPOINT = f"{FOLDER}/checkpoint.pth"
SAMPLES, BATCH_SIZE, EPOCHS = 80, 8, 2


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def decode(blob: Blob) -> tuple[torch.Tensor, torch.Tensor]:
    sample = torch.load(blob.reader(), weights_only=True)
    return sample["features"], sample["target"]


def load_checkpoint() -> dict[str, Any] | None:
    try:
        with BlobIO(blob_url(CHECKPOINT), "rb") as file:
            return torch.load(file, weights_only=True)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def train(kill_at: int | None) -> None:
    # The order of an epoch depends on the seed and the number of the epoch, so that it is the same one again.
    dataset = IterableBlobDataset.from_container_url(
        CONTAINER_URL, prefix=f"{FOLDER}/samples/", transform=decode, batch_size=BATCH_SIZE, shuffle=True, seed=1
    )
    loader = DataLoader(dataset, batch_size=BATCH_SIZE)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    epoch = batches = 0  # batches: of this epoch, by each rank

    if checkpoint := load_checkpoint():
        epoch, batches = checkpoint["epoch"], checkpoint["batches"]
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        # The samples of those batches are not fetched again. The number of workers and ranks may be another one now.
        dataset.resume(epoch=epoch, batches=batches)
        print(f"going on in epoch {epoch} after {batches} batches")
    else:
        print("starting from scratch")

    while epoch < EPOCHS:
        for features, targets in loader:
            loss = nn.functional.mse_loss(model(features).squeeze(1), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            batches += 1
            with BlobIO(blob_url(CHECKPOINT), "wb") as file:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({"epoch": epoch, "batches": batches, **state}, file)
                if epoch * len(loader) + batches == kill_at:
                    print(f"killed while it saves batch {batches} of epoch {epoch}", flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
            if batches == len(loader):
                print(f"epoch {epoch} is done, loss {loss.item():.6f}")
        epoch, batches = epoch + 1, 0
    print(f"all {EPOCHS} epochs are done")


def write_samples() -> None:
    """Write what this example reads; yours is there already."""
    for number in range(SAMPLES):
        features = torch.randn(8)
        with BlobIO(blob_url(f"{FOLDER}/samples/{number:02}.pt"), "wb") as file:
            torch.save({"features": features, "target": features.sum()}, file)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill-at", type=int, metavar="BATCH", help="die while this batch is saved, counted from 1")
    torch.manual_seed(0)
    write_samples()
    train(parser.parse_args().kill_at)


if __name__ == "__main__":
    main()
