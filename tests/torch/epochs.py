"""What test_epoch_workers does with real DataLoaders, all of it in one interpreter per way that workers start and live.

Importing torch takes longer than everything here; so a test takes its answer from a run that it shares with others.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from azstoragetorch._data.epoch import EpochCell

__all__ = ["Way", "main"]

Sample: TypeAlias = tuple[int, int, int]


class Way(NamedTuple):
    """How workers start, how many, and whether they live on from epoch to epoch."""

    how: str
    workers: int
    persistent: bool = False

    def loader(self, dataset: Epochs, kind: Callable[..., Any] = DataLoader, **more: Any) -> Any:
        """Return a loader of ``kind`` that has such workers."""
        how = {"multiprocessing_context": self.how, "persistent_workers": self.persistent} if self.workers else {}
        return kind(dataset, batch_size=None, num_workers=self.workers, **how, **more)

    def is_slow(self) -> bool:
        """Whether every iteration imports torch anew."""
        return self.how == "spawn" and not self.persistent

    def epoch(self, samples: Iterable[Sample]) -> tuple[int, int]:
        """Return the epoch and start of an iteration, on which all its workers agree."""
        found = sorted(samples, key=lambda sample: sample[2])
        assert [worker for *_, worker in found] == [w for w in range(max(1, self.workers)) for _ in range(5)], found
        assert len({(epoch, start) for epoch, start, _ in found}) == 1, f"workers disagree: {found}"
        return found[0][0], found[0][1]


class Epochs(IterableDataset[Sample]):
    """Five samples of every worker, which say which epoch it is in and where that began."""

    def __init__(self) -> None:
        self.cell, self.begun = EpochCell(), 0
        self.at = self.loaded = (0, 0)

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        key = None if info is None else (info.seed - info.id, info.id, self.begun)
        self.begun += 1
        if self.loaded == (0, 0):
            self.at = self.cell.claim(key)
        else:
            self.at, self.loaded = self.loaded, (0, 0)
            self.cell.settle(key, *self.at)
        return itertools.repeat((*self.at, 0 if info is None else info.id), 5)

    def state_dict(self) -> dict[str, Any]:
        """For ``StatefulDataLoader``."""
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Settle the next iteration."""
        self.loaded = state["at"]


def same(found: object, wanted: object) -> None:
    """Refuse what is not ``wanted``."""
    assert found == wanted, f"{found} is not {wanted}"


def advance(way: Way) -> None:
    """By one from iteration to iteration, from what was set."""
    dataset = Epochs()
    dataset.cell.set(3, 20)
    loader = way.loader(dataset)
    same(way.epoch(loader), (3, 20))
    same((dataset.cell.peek(), dataset.cell.claimed_by_workers), ((4, 0), way.workers > 0))
    same(way.epoch(loader), (4, 0))
    dataset.cell.set(9)
    same(way.epoch(loader), (9, 0))


def break_off(way: Way) -> None:
    """Iterations that end after their first sample, between others."""
    dataset = Epochs()
    loader = way.loader(dataset)
    for number in range(2):
        same(next(iter(loader))[0], 2 * number)
        same(way.epoch(loader), (2 * number + 1, 0))
    for number in (50, 40):
        next(iter(loader))
        dataset.cell.set(number)
        same(way.epoch(loader), (number, 0))


def seed(way: Way) -> None:
    """The same seed before every epoch, the first of which goes on in its middle; then ``set``, too; then breaks."""
    dataset = Epochs()
    dataset.cell.set(3, 20)
    loader = way.loader(dataset)
    for wanted in ((3, 20), (4, 0)):
        torch.manual_seed(0)
        same(way.epoch(loader), wanted)
    if way.is_slow():
        return
    for wanted in ((4, 0), (4, 0), (9, 0)):
        torch.manual_seed(0)
        dataset.cell.set(wanted[0])
        same(way.epoch(loader), wanted)
    for number in (10, 12):
        torch.manual_seed(0)
        same(next(iter(loader))[0], number)
        torch.manual_seed(0)
        same(way.epoch(loader), (number + 1, 0))


def seed_after_resume(way: Way) -> None:
    """The same, with a loader that restores its state, and with that the seed of its workers."""
    dataset = Epochs()
    dataset.cell.set(3, 20)
    torch.manual_seed(0)
    loader = way.loader(dataset, StatefulDataLoader)
    stopped = iter(loader)
    for _ in range(3):
        next(stopped)
    state = loader.state_dict()
    del stopped

    for _ in range(1 if way.is_slow() else 2):  # the second time in a process that has trained on
        loader = way.loader(dataset, StatefulDataLoader)
        loader.load_state_dict(state)
        for wanted in ((3, 20), (4, 0), (5, 0))[: 2 if way.is_slow() else 3]:
            torch.manual_seed(0)
            same(way.epoch(loader), wanted)


def at_once(way: Way) -> None:
    """Two iterations of two loaders over one dataset."""
    dataset = Epochs()
    one, other = way.loader(dataset), way.loader(dataset)
    for number in (0, 2):
        pairs = list(zip(one, other, strict=True))
        same({way.epoch(pair[side] for pair in pairs)[0] for side in (0, 1)}, {number, number + 1})


def forked_ranks(way: Way) -> None:
    """Two ranks of one parent and one seed."""
    dataset = Epochs()
    dataset.cell.set(7)
    ranks = []
    for _ in range(2):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            torch.manual_seed(0)
            loader = way.loader(dataset)
            same([way.epoch(loader) for _ in range(3)], [(7, 0), (8, 0), (9, 0)])
            os._exit(0)
    for rank in ranks:
        same(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]), 0)
    same(dataset.cell.peek(), (7, 0))


def fork_in_worker(way: Way) -> None:
    """Before its first claim, and after it."""
    for where in ("worker_init_fn", "collate_fn"):
        dataset = Epochs()
        loader = way.loader(dataset, **{where: _fork})
        same([way.epoch(loader) for _ in range(2)], [(0, 0), (1, 0)])
        same(dataset.cell.peek(), (2, 0))


def _fork(given: Any) -> Any:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return given


def main(way: Way, names: list[str]) -> None:
    """Print for every name whether that went well, or how not."""
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than this machine has cores
    warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata calls it
    if way.how == "forkserver":
        torch.multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.torch.epochs"])
    for name in names:
        try:
            globals()[name](way)
        except AssertionError as error:
            print(f"{name}: {error}", flush=True)
        else:
            print(f"{name}: well", flush=True)
