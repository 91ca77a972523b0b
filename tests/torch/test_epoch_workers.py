"""Epochs in real DataLoader workers: what the seed of a worker is, when workers start, end and live on is torch's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.script import output_of

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif("__import__('sys').platform == 'win32'", reason="workers share no memory there"),
]

# A dataset that only says which epoch its workers are in.
SCRIPT = """
import itertools, warnings
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from azstoragetorch._data.epoch import EpochCell

warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than this machine has cores


class Epochs(IterableDataset):
    def __init__(self):
        self.cell, self.begun = EpochCell(), 0

    def __iter__(self):
        info = get_worker_info()
        key = None if info is None else (info.seed - info.id, self.begun)
        self.begun += 1
        epoch, start = self.cell.claim(key)
        return itertools.repeat((epoch, start, 0 if info is None else info.id), 5)


def loader_of(dataset, **more):
    how = {"multiprocessing_context": HOW, "persistent_workers": PERSISTENT} if WORKERS else {}
    return DataLoader(dataset, batch_size=None, num_workers=WORKERS, **how, **more)


def epoch_of(samples):
    "The epoch and start of an iteration, on which all its workers agree."
    samples = list(samples)
    assert len(samples) == 5 * max(1, WORKERS), samples
    assert {worker for *_, worker in samples} == set(range(max(1, WORKERS)))
    [answer] = {(epoch, start) for epoch, start, _ in samples}
    return answer


def check(found, wanted):
    assert found == wanted, f"{found} is not {wanted}"


"""


def runs(source: str, folder: Path, how: str, workers: int, persistent: bool) -> None:
    settings = f"HOW, WORKERS, PERSISTENT = {how!r}, {workers}, {persistent}\n"
    lines = "\n".join(f"    {line[8:]}" for line in source.splitlines())  # indented by 8 here, by 4 there
    assert output_of(f'{SCRIPT}{settings}if __name__ == "__main__":\n{lines}\n', folder, seconds=140) == []


# Starting afresh costs seconds of importing torch for each worker: few of those.
WAYS = [("fork", 0, False), *(("fork", workers, persistent) for workers in (2, 4) for persistent in (False, True))]
AFRESH = [("spawn", 2, True), ("spawn", 2, False), ("forkserver", 2, True)]


@pytest.mark.parametrize(("how", "workers", "persistent"), WAYS + AFRESH)
def test_epochs_advance_and_can_be_set(how: str, workers: int, persistent: bool, tmp_path: Path) -> None:
    """By one from iteration to iteration, from what was set, however the workers live."""
    runs(
        """
        dataset = Epochs()
        dataset.cell.set(3, 20)
        loader = loader_of(dataset)
        check(epoch_of(loader), (3, 20))
        check(dataset.cell.peek(), (4, 0))
        check(dataset.cell.claimed_by_workers, WORKERS > 0)
        check(epoch_of(loader), (4, 0))
        dataset.cell.set(9)
        check(epoch_of(loader), (9, 0))
        """,
        tmp_path,
        how,
        workers,
        persistent,
    )


@pytest.mark.parametrize(("how", "workers", "persistent"), WAYS)
def test_iteration_that_breaks_off_takes_one_epoch(how: str, workers: int, persistent: bool, tmp_path: Path) -> None:
    """Some of its workers may not have begun: they must take neither the next epoch nor what is set for it."""
    runs(
        """
        dataset = Epochs()
        loader = loader_of(dataset)
        for number in range(3):
            check(next(iter(loader))[0], 2 * number)
            check(epoch_of(loader), (2 * number + 1, 0))
        for number in (50, 40):
            next(iter(loader))
            dataset.cell.set(number)
            check(epoch_of(loader), (number, 0))
        """,
        tmp_path,
        how,
        workers,
        persistent,
    )


@pytest.mark.parametrize(("how", "workers", "persistent"), WAYS)
def test_seed_before_every_epoch(how: str, workers: int, persistent: bool, tmp_path: Path) -> None:
    """All base seeds are equal then; ``set`` is what tells epochs apart, and without it one is read again."""
    runs(
        """
        dataset = Epochs()
        loader = loader_of(dataset)
        for number in (4, 5, 6):
            torch.manual_seed(0)
            dataset.cell.set(number)
            check(epoch_of(loader), (number, 0))
        for number in (7, 8):
            torch.manual_seed(0)
            check(epoch_of(loader), (number if PERSISTENT or not WORKERS else 6, 0))
        """,
        tmp_path,
        how,
        workers,
        persistent,
    )


@pytest.mark.parametrize(("how", "workers", "persistent"), WAYS)
def test_two_iterations_at_once_read_two_epochs(how: str, workers: int, persistent: bool, tmp_path: Path) -> None:
    """Of two loaders over one dataset, as for two streams of the same data."""
    runs(
        """
        dataset = Epochs()
        one, other = loader_of(dataset), loader_of(dataset)
        for number in (0, 2):
            pairs = list(zip(one, other, strict=True))
            check({epoch_of(pair[side] for pair in pairs)[0] for side in (0, 1)}, {number, number + 1})
        """,
        tmp_path,
        how,
        workers,
        persistent,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_forked_ranks_with_loaders_count_for_themselves(workers: int, tmp_path: Path) -> None:
    """Ranks of one parent and one seed have the same keys, and each is its own training run."""
    runs(
        """
        import os
        dataset = Epochs()
        dataset.cell.set(7)
        ranks = []
        for rank in range(2):
            ranks.append(os.fork())
            if ranks[-1] == 0:
                torch.manual_seed(0)
                loader = loader_of(dataset)
                check([epoch_of(loader) for _ in range(3)], [(7, 0), (8, 0), (9, 0)])
                os._exit(0)
        for rank in ranks:
            check(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]), 0)
        check(dataset.cell.peek(), (7, 0))
        """,
        tmp_path,
        "fork",
        workers,
        bool(workers),
    )


@pytest.mark.parametrize("where", ["worker_init_fn", "collate_fn"])
def test_worker_that_forks_stays_a_worker(where: str, tmp_path: Path) -> None:
    """Before its first claim and after it: the cell asks torch whether this process is a worker."""
    runs(
        f"""
        import os

        def fork(_):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            return _

        dataset = Epochs()
        loader = loader_of(dataset, {where}=fork)
        check([epoch_of(loader) for _ in range(3)], [(0, 0), (1, 0), (2, 0)])
        check(dataset.cell.peek(), (3, 0))
        """,
        tmp_path,
        "fork",
        2,
        True,
    )
