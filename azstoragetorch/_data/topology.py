"""Find out which part of an epoch this process reads: its rank, and its place among the DataLoader's workers."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch.distributed
from torch.utils.data import get_worker_info

from azstoragetorch._values.shards import check_int

__all__ = ["Carried", "Ranks", "Sharding", "Topology", "check_ranks", "find_ranks", "in_worker", "topology"]

Sharding: TypeAlias = Literal["auto", "workers", "none"]
"""Who shares the blobs of a dataset: DataLoader workers and ranks (``"auto"``), workers only (``"workers"``), or nobody
(``"none"``: every worker of every rank reads all)."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    source: str
    """Where that was found, for the log."""


@dataclass(frozen=True, slots=True)
class Carried:
    """The ranks that a process had when it pickled a dataset, for the workers that it starts and for nobody else."""

    pid: int
    ranks: Ranks

    @property
    def is_mine(self) -> bool:
        """Whether this process is a DataLoader worker, and the one that pickled is the one that started it."""
        parent = multiprocessing.parent_process()
        return in_worker() and parent is not None and parent.pid == self.pid


ALONE = Ranks(0, 1, "no process group")


@dataclass(frozen=True, slots=True)
class Topology:
    """This process among all that read the dataset."""

    ranks: Ranks
    worker: int
    workers: int
    leader: bool
    """Whether it speaks for its rank in the log."""
    key: tuple[int, int, int] | None
    """See ``EpochCell.claim``; ``None`` outside of workers."""


def in_worker() -> bool:
    """Whether this process is a DataLoader worker."""
    return get_worker_info() is not None


def check_ranks(sharding: Sharding, rank: int | None, world_size: int | None) -> Ranks | None:
    """Return the ranks that the user gave, if any.

    :raises TypeError: if one of them is not an int.
    :raises ValueError: if they contradict each other or ``sharding``.
    """
    if sharding not in get_args(Sharding):
        raise ValueError(f"sharding must be one of {get_args(Sharding)}, not {sharding!r}")
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise ValueError("rank and world_size belong together; give both or neither")
    if sharding != "auto":
        raise ValueError(f"rank and world_size are used by sharding='auto' only, not by sharding={sharding!r}")
    check_int("rank", rank, 0)
    check_int("world_size", world_size, 1)
    if rank >= world_size:
        raise ValueError(f"rank must be between 0 and world_size - 1, got rank={rank}, world_size={world_size}")
    return Ranks(rank, world_size, "rank= and world_size=")


def find_ranks(given: Ranks | None, carried: Carried | None) -> Ranks:
    """Return the ranks of this process, the first of these that is known.

    What the user gave; in a worker, what its parent found when it started the worker, because a spawned worker is in no
    process group; the process group; ``RANK`` and ``WORLD_SIZE``, which torchrun sets; else this process is alone.
    """
    if given is not None:
        return given
    if carried is not None and carried.is_mine:
        return carried.ranks
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), "torch.distributed")
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdecimal() and world.isdecimal() and int(rank) < int(world):
        return Ranks(int(rank), int(world), "RANK and WORLD_SIZE")
    return ALONE


def topology(sharding: Sharding, given: Ranks | None, carried: Carried | None, iterations: int) -> Topology:
    """Return the place of this process.

    :param iterations: how often this process has begun to iterate before.
    """
    info = get_worker_info()
    ranks = find_ranks(given, carried) if sharding == "auto" else Ranks(0, 1, f"sharding={sharding!r}")
    if info is None:
        return Topology(ranks, 0, 1, True, None)
    # The loader seeds worker w with base + w, and draws the base anew for every set of workers it starts.
    # With their number, because a seed may come back in a loader that has more of them.
    key = (hash((info.seed - info.id, info.num_workers)), info.id, iterations)
    if sharding == "none":
        return Topology(ranks, 0, 1, info.id == 0, key)
    return Topology(ranks, info.id, info.num_workers, info.id == 0, key)
