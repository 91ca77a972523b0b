"""Programs of several ranks: what each rank of a training job reads, under ``torchrun`` and under its other starts."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed
import torch.multiprocessing
from torch.utils.data import DataLoader, DistributedSampler

from tests.torch.datasets.child import checked, job_of, made, say
from tests.torch.datasets.reading import LogFile

__all__ = ["children", "started"]

BATCH_SIZE = 4


def read(dataset: Any, check: dict[str, Any], rank: int, log: Path | None) -> dict[str, Any]:
    """Read the epochs of a check on this rank; return the names, an order for each epoch, and what `len` said."""
    if log is not None:
        LogFile(str(log))()
    workers = check.get("workers", 2)
    sampler: Any = DistributedSampler(dataset, seed=5) if check["dataset"]["kind"] == "map" else None
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        sampler=sampler,
        num_workers=workers,
        multiprocessing_context=check.get("method", "fork") if workers else None,
        persistent_workers=check.get("persistent", False),
        collate_fn=list,
        worker_init_fn=LogFile(str(log)) if log is not None and workers else None,
    )
    orders = []
    for epoch in check.get("epochs", [None]):
        if epoch is not None:
            (sampler if sampler is not None else dataset).set_epoch(epoch)
        orders.append([checked(sample) for batch in loader for sample in batch])
    lines = log.read_text(encoding="utf-8").splitlines() if log is not None and log.exists() else []
    return {"rank": rank, "orders": orders, "len": len(dataset), "log": lines}


def started() -> None:
    """Main program of one rank under ``torchrun``; rank 0 says one line a check: what each rank read."""
    job = job_of(sys.argv[1])
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    assert (str(rank), str(world)) == (os.environ["RANK"], os.environ["WORLD_SIZE"])
    for number, check in enumerate(job["checks"]):
        log = Path(job["folder"]) / f"log-{number}-{rank}"
        found = read(made(job["container_url"], check["dataset"]), check, rank, log)
        gathered: list[Any] = [None] * world
        torch.distributed.all_gather_object(gathered, found)
        if rank == 0:
            say(gathered)
    torch.distributed.destroy_process_group()


def children(path: str) -> None:
    """Start two ranks from a process that is none, without ``RANK`` in any environment; say what each has read.

    The job has ``start``: ``spawn`` or ``fork``. Its checks have ``made``: by the ``parent`` or by the ``child``; and
    ``used``: whether the parent has read from its dataset before.
    """
    job = job_of(path)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    datasets: list[Any] = []
    for check in job["checks"]:
        datasets.append(made(job["container_url"], check["dataset"]) if check["made"] == "parent" else None)
        if check["used"]:
            checked(next(iter(datasets[-1])))
    if job["start"] == "spawn":
        spawn: Any = torch.multiprocessing.spawn  # type: ignore[attr-defined]  # public, but without a type
        spawn(child, (job, datasets), nprocs=2)
    else:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=child, args=(rank, job, datasets)) for rank in (0, 1)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, process.exitcode
    for lines in zip(*(json.loads(Path(job["folder"], str(rank)).read_text()) for rank in (0, 1)), strict=True):
        say(lines)


def child(rank: int, job: dict[str, Any], datasets: list[Any]) -> None:
    """One rank; writes what it has read to a file, since it has no way to return it."""
    assert "RANK" not in os.environ
    assert "WORLD_SIZE" not in os.environ
    meeting = f"file://{job['folder']}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    found = []
    for check, dataset in zip(job["checks"], datasets, strict=True):
        mine = dataset if dataset is not None else made(job["container_url"], check["dataset"])
        found.append(read(mine, check, rank, None))
    Path(job["folder"], str(rank)).write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    logging.getLogger("azstoragetorch").propagate = False
    started()
