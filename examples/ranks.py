"""Train on two ranks that divide the blobs, with DistributedDataParallel.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    torchrun --nproc-per-node 2 examples/ranks.py

Leaves 51 samples and a model under azstoragetorch-examples/ranks/.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from azstoragetorch.datasets import Blob, IterableBlobDataset
from azstoragetorch.io import BlobIO

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without
FOLDER = "azstoragetorch-examples/ranks"


def blob_url(name: str) -> str:
    """Put a blob's name into the container's URL, before the SAS if there is one."""
    container, mark, sas = CONTAINER_URL.partition("?")
    return f"{container.rstrip('/')}/{name}{mark}{sas}"


def decode(blob: Blob) -> tuple[torch.Tensor, torch.Tensor, str]:
    sample = torch.load(blob.reader(), weights_only=True)
    return sample["features"], sample["target"], blob.blob_name


def main() -> None:
    dist.init_process_group("gloo")  # "nccl" on GPUs
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    if rank == 0:
        write_samples()
    dist.barrier()  # all ranks have to list the same blobs

    # 51 blobs do not divide by two. With uneven="drop" every rank reads 25 of them in an epoch, so that none waits for
    # the others in a step which they do not have. The rank is found in torch.distributed.
    dataset = IterableBlobDataset.from_container_url(
        CONTAINER_URL, prefix=f"{FOLDER}/samples/", transform=decode, batch_size=5, shuffle=True, uneven="drop"
    )
    loader = DataLoader(dataset, batch_size=5)
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        names: list[str] = []
        for features, targets, batch_names in loader:
            loss = nn.functional.mse_loss(model(features).squeeze(1), targets)
            optimizer.zero_grad()
            loss.backward()  # averages the gradients of all ranks
            optimizer.step()
            names += batch_names
        everywhere: list[list[str]] = [[] for _ in range(world_size)]
        dist.all_gather_object(everywhere, names)
        different = len({name for names in everywhere for name in names})
        print(f"epoch {epoch}, rank {rank}: {len(names)} samples; on all {world_size} ranks {different} different ones")

    if rank == 0:  # the others have the same weights
        with BlobIO(blob_url(f"{FOLDER}/model.pth"), "wb") as file:
            torch.save(model.module.state_dict(), file)
        print(f"rank {rank} saved the model")
    dist.destroy_process_group()


def write_samples() -> None:
    """Write what this example reads; yours is there already."""
    for number in range(51):
        features = torch.randn(8)
        with BlobIO(blob_url(f"{FOLDER}/samples/{number:02}.pt"), "wb") as file:
            torch.save({"features": features, "target": features.sum()}, file)


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit("start it with: torchrun --nproc-per-node 2 examples/ranks.py")
    main()
