"""Pieces of work with datasets.

Those that are compared use only what both versions have: ``from_container_url(url, credential=False, transform=...)``
of ``BlobDataset`` and ``IterableBlobDataset``, everything else left at its default. The dataset is always made within
the clock: 0.2.0 lists the container when an iterable dataset is iterated, this version when it is made.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.bare import connected, receive
from tests.benchmarks.measure import Check, Figures, Parameters, Piece, measured, sample_blob, touched

__all__ = ["PIECES"]

BATCH = 32


@dataclass(frozen=True)
class Burn:
    """A transform that reads the blob and computes in pure Python; a class, because workers may need its pickle."""

    seconds: float

    def __call__(self, blob: Any) -> dict[str, Any]:
        with blob.reader() as file:
            data = file.read()
        _burn(self.seconds)
        return {"url": blob.url, "data": data}


def _burn(seconds: float) -> None:
    # Time of this thread: while it waits for the interpreter, which is what is measured, none of its work gets done.
    stop = time.thread_time() + seconds
    while time.thread_time() < stop:
        for _ in range(100):
            pass


def _transform(parameters: Parameters) -> dict[str, Any]:
    return {"transform": Burn(parameters.burn)} if parameters.burn else {}


@contextmanager
def _neighbour(spinning: bool) -> Iterator[None]:
    """Run a thread beside that never lets the interpreter go by itself, if there is to be one."""
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            for _ in range(1000):
                pass

    thread = threading.Thread(target=spin, daemon=True)
    if spinning:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if spinning:
            thread.join()


def iterate(parameters: Parameters, figures: Figures) -> None:
    """Iterate the blobs of a container in this process."""
    from azstoragetorch.datasets import IterableBlobDataset

    check = Check()
    chosen = parameters.chosen()
    with _neighbour(parameters.spinning), measured(figures):
        dataset: Any = IterableBlobDataset.from_container_url(
            parameters.url, credential=False, **_transform(parameters), **chosen
        )
        for sample in dataset:
            check.add(sample["url"], sample["data"])
    figures.check = check.value


def load_iterable(parameters: Parameters, figures: Figures) -> None:
    """Iterate the blobs of a container with a DataLoader."""
    from torch.utils.data import DataLoader

    from azstoragetorch.datasets import IterableBlobDataset

    check = Check()
    with measured(figures):
        dataset: Any = IterableBlobDataset.from_container_url(
            parameters.url, credential=False, **_transform(parameters)
        )
        _exhaust(DataLoader(dataset, batch_size=BATCH, num_workers=parameters.workers), check)
    figures.check = check.value


def load_map(parameters: Parameters, figures: Figures) -> None:
    """Read the blobs of a container in random order with a DataLoader."""
    from torch.utils.data import DataLoader

    from azstoragetorch.datasets import BlobDataset

    check = Check()
    with _neighbour(parameters.spinning), measured(figures):
        dataset: Any = BlobDataset.from_container_url(parameters.url, credential=False, **_transform(parameters))
        _exhaust(DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=parameters.workers), check)
    figures.check = check.value


def _exhaust(loader: Any, check: Check) -> None:
    for batch in loader:
        for url, data in zip(batch["url"], batch["data"], strict=True):
            check.add(url, data)


def one_sample(parameters: Parameters, figures: Figures) -> None:
    """Make a map dataset and take one sample of it."""
    from azstoragetorch.datasets import BlobDataset

    check = Check()
    with measured(figures):
        dataset: Any = BlobDataset.from_container_url(parameters.url, credential=False)
        sample = dataset[parameters.count // 2]
    check.add(sample["url"], sample["data"])
    figures.check = check.value


def make_map(parameters: Parameters, figures: Figures) -> None:
    """Make a map dataset of a container; no sample is read."""
    from azstoragetorch.datasets import BlobDataset

    with measured(figures):
        dataset: Any = BlobDataset.from_container_url(parameters.url, credential=False)
    figures.check = len(dataset)


def pickle_map(parameters: Parameters, figures: Figures) -> None:
    """Make a map dataset of a container, and pickle it; what is not the dataset's own was paid before the clock."""
    from azstoragetorch.datasets import BlobDataset

    # Connections, threads and their stacks stay, this dataset does not.
    BlobDataset.from_container_url(parameters.url, credential=False)
    with measured(figures):
        dataset: Any = BlobDataset.from_container_url(parameters.url, credential=False)
    figures.check = len(dataset)
    figures.pickled = len(pickle.dumps(dataset))


def list_blobs(parameters: Parameters, figures: Figures) -> None:
    """List a container; what an event loop costs was paid before the clock. 0.2.0 has no listing."""
    from azstoragetorch.listing import BlobListing

    logging.getLogger("azstoragetorch").setLevel(logging.ERROR)  # it would warn that there is nothing, as it should
    BlobListing.build(parameters.url, prefix="there is no such name", credential=False)
    with measured(figures):
        listing = BlobListing.build(parameters.url, credential=False)
    figures.check = len(listing)


def floor_receive(parameters: Parameters, figures: Figures) -> None:
    """Receive the samples one after the other through one bare socket."""
    buffer = memoryview(touched(parameters.size + parameters.count))
    check = Check()
    with measured(figures), connected(parameters.url) as (connection, url):
        for number in range(parameters.count):
            name, _ = sample_blob(number, parameters.size)
            size = receive(connection, f"{url.path}/{name}", buffer)
            check.add(name, bytes(buffer[:size]))
    figures.check = check.value


def floor_burn(parameters: Parameters, figures: Figures) -> None:
    """Compute what the transform computes, and nothing else."""
    with measured(figures):
        for _ in range(parameters.count):
            _burn(parameters.burn)


PIECES: dict[str, Piece] = {
    "iterate": iterate,
    "load-iterable": load_iterable,
    "load-map": load_map,
    "one-sample": one_sample,
    "make-map": make_map,
    "pickle-map": pickle_map,
    "list": list_blobs,
    "floor-receive-samples": floor_receive,
    "floor-burn": floor_burn,
}
