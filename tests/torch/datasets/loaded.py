"""The program of `test_secrets`: DataLoaders over datasets with secrets, everything that is said sent to stderr."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from azure.core.credentials import AccessToken
from torch.utils.data import get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from azstoragetorch import TransferOptions
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.listing import BlobListing
from tests.secrets import accesses

__all__ = ["main"]

OPTIONS = TransferOptions(deadline=5)
BRIEF = TransferOptions(deadline=1, idle_timeout=0.4, connect_timeout=1)
"""For blobs that cannot be read however long it takes."""


def show_all(worker: int | None = None) -> None:
    """Send what any logger says in this process to stderr."""
    logging.basicConfig(level=1, stream=sys.stderr, force=True)
    for name in ("azure", "azure.core", "aiohttp", "asyncio", "azstoragetorch"):
        logging.getLogger(name).setLevel(1)
    if worker is not None:
        logging.getLogger("application").debug("worker %d of %r", worker, get_worker_info())


def tell(*things: object) -> None:
    """Write a line to stderr, and not to a pipe, which nobody reads before the end."""
    # By one write: print makes several of a line this long, and those of the workers would come between them.
    os.write(2, f"{' '.join(map(str, things))}\n".encode())


def fail(blob: Blob) -> Any:
    """Transform that fails with what it was given, and its first read before it."""
    raise ValueError(f"cannot decode {blob!r} of {len(blob.read())} bytes")


class Credential(accesses.Credential):
    """Lets every loop that asks for a token log each of its callbacks."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # type: ignore[override]
        asyncio.get_running_loop().slow_callback_duration = 0
        return accesses.Credential.get_token(self, *scopes, **options)


def main(path: str) -> None:
    """Iterate over datasets of every kind, and send what can be seen of them and of their errors to stderr.

    :param path: of a JSON file: ``container_url``; ``method`` that starts the workers, ``accesses`` by name, and
        ``faulty``: the blobs that cannot be read.
    """
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    show_all()
    for name in job["accesses"]:
        access: accesses.Access = getattr(accesses, name)
        url, credential = access(job["container_url"])
        if name == "token":
            credential = Credential()
        arguments: dict[str, Any] = {"prefix": "train/", "credential": credential, "options": OPTIONS}
        listing = BlobListing.build(url, prefix="train/", credential=credential)
        blob_url, _ = access(f"{job['container_url']}/train/00001.bin")
        missing_url, _ = access(f"{job['container_url']}/train/missing.bin")
        tell(repr(listing))
        datasets: list[Any] = [
            IterableBlobDataset.from_container_url(url, **arguments),
            BlobDataset.from_container_url(url, **arguments),
            IterableBlobDataset.from_blob_urls([blob_url, missing_url] * 4, credential=credential, options=OPTIONS),
            BlobDataset.from_listing(listing, credential=credential, options=OPTIONS, transform=fail),
            IterableBlobDataset.from_container_url(url, lazy=True, on_error="skip", **arguments),
        ]
        faulty = [access(f"{job['container_url']}/{name}")[0] for name in job["faulty"]]
        brief: dict[str, Any] = {"credential": credential, "options": BRIEF}
        datasets.append(IterableBlobDataset.from_blob_urls([blob_url, *faulty], on_error="skip", **brief))
        if job["method"] != "fork":  # each of its workers imports torch
            iterate(datasets[-1], job["method"], 1, 2)
            continue
        for dataset in datasets:
            iterate(dataset, "fork", 1, 2)
        # A batch for each, in several workers, because some end at the deadline.
        iterate(BlobDataset.from_blob_urls(faulty, **brief), "fork", 4, 1)
    print("end")


def iterate(dataset: Any, method: str, workers: int, batch_size: int) -> None:
    """Read a dataset by a DataLoader, to the end even where a batch fails."""
    tell(repr(dataset), dataset, dataset.stats())
    if isinstance(dataset, IterableBlobDataset):
        tell(json.dumps(dataset.state_dict()), pickle.dumps(dataset.state_dict()))
    loader: Any = StatefulDataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=show_all,
        multiprocessing_context=multiprocessing.get_context(method),
    )
    batches = iter(loader)
    while True:
        try:
            tell(repr(next(batches)), pickle.dumps(loader.state_dict()))
        except StopIteration:
            return
        except Exception as error:
            # Asked for more even so: torch waits 5 s for a worker that still has batches to make.
            logging.getLogger("application").exception("training failed")
            tell("failed", type(error).__name__, pickle.dumps(error))
