"""The program of the matrix: in each cell a dataset that has a past is read by a DataLoader, for two epochs."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import traceback
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from tests.torch.datasets.child import checked, job_of, made, say

BATCH_SIZE = 4
HANGS = 60  # seconds; a cell takes some for four spawned workers, twice, on two busy cores


def main(path: str) -> None:
    """Say one line a cell: the number of the cell and what is wrong with it, ``""`` if nothing is."""
    job = job_of(path)
    multiprocessing.set_forkserver_preload(job["preload"])
    for number, cell in enumerate(job["cells"]):
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            read(job["container_url"], cell, job["names"])
        except Exception:
            say([number, traceback.format_exc()])
        else:
            say([number, ""])
    faulthandler.cancel_dump_traceback_later()


def read(container_url: str, cell: dict[str, Any], names: list[str]) -> None:
    """Give the dataset its past, read two epochs of it, and finish what the past has left open."""
    spec = {"kind": cell["kind"], "source": cell["source"], "prefetch": cell["prefetch"], "names": names}
    if cell["shuffle"] and cell["kind"] == "iterable":
        spec |= {"shuffle": True, "seed": 3, "batch_size": BATCH_SIZE}
    dataset = made(container_url, spec)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        shuffle=cell["shuffle"] if cell["kind"] == "map" else None,
        num_workers=cell["workers"],
        multiprocessing_context=cell["method"] if cell["workers"] else None,
        persistent_workers=cell["persistent"],
        collate_fn=list,
    )
    begun = past(cell, dataset, loader, names)
    orders = []
    for _ in range(2):
        order = [checked(sample) for batch in loader for sample in batch]
        assert sorted(order) == names, [name for name in names if order.count(name) != 1]
        orders.append(order)
    assert (orders[0] != orders[1]) == (cell["shuffle"] or False), "epochs have the same order only without shuffle"
    # What was open when the workers were started goes on as if they had never been.
    seen, rest = begun
    seen += [checked(sample) for sample in rest]
    assert sorted(seen) in ([], names), seen
    del loader, dataset, rest, begun
    gc.collect()
    assert multiprocessing.active_children() == []


def past(cell: dict[str, Any], dataset: Any, loader: Any, names: list[str]) -> tuple[list[str], Iterator[Any]]:
    """Do what a program may have done before it trains; return what it has read of an epoch that it left open."""
    match cell["history"]:
        case "untouched":
            pass
        case "one sample":
            checked(dataset[0] if cell["kind"] == "map" else next(iter(dataset)))
        case "one epoch":
            assert sorted(checked(sample) for sample in dataset) == names
        case "abandoned":
            samples = iter(dataset)
            return [checked(next(samples)) for _ in range(len(names) // 2)], samples
        case "abandoned loader":
            batches = iter(loader)
            for _ in range(2):
                for sample in next(batches):
                    checked(sample)
        case _:
            raise ValueError(cell["history"])
    return [], iter(())
