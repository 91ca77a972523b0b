"""Which samples one worker of one rank reads: computed from a few numbers, never stored or agreed on by messages.

    order of the epoch   0 1 2 3 4 5 6 7 8 9 ...     a permutation of the blobs, or none; the same on all ranks
    consumed             x x                         positions below ``start``: read before, by all ranks together
    rank 0 of 2              2   4   6   8           every ``world``-th of the rest
      worker 0 of 2          2   4                   ... dealt to the workers in blocks (here of 2),
      worker 1 of 2                  6   8           block b to worker b % workers

A DataLoader takes one batch from each worker in turn. With blocks of one batch the batches of a rank are therefore its
samples in order, cut in batches, whatever the number of workers; only the last one is short. With blocks of one sample
worker w of W reads the samples w, w + W, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args, overload

__all__ = ["Shard", "Uneven", "check_int", "check_topology"]

Uneven: TypeAlias = Literal["none", "drop", "pad"]
"""What becomes of samples that do not divide by the number of ranks: some ranks read one more (``"none"``), they are
left out (``"drop"``), or the first positions of the epoch are read again to fill up (``"pad"``)."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The positions in an epoch's order that one worker of one rank reads, in the order in which it reads them.

    A sequence in all but the base class, whose method ``count`` a field hides.

    :param count: positions in the epoch, 0 to ``count - 1``.
    :param start: positions below it are consumed already.
    :param block: samples of a rank that stay together in one worker: the batch size, or 1.
    :raises TypeError: if an argument is of the wrong type.
    :raises ValueError: if an argument is out of its bounds; the message names it.
    """

    count: int
    start: int = 0
    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1
    block: int = 1
    uneven: Uneven = "none"

    def __post_init__(self) -> None:
        check_topology(self.rank, self.world, self.worker, self.workers, self.block)
        check_int("count", self.count, 0)
        check_int("start", self.start, 0)
        if self.start > self.count:
            raise ValueError(f"start must be at most count ({self.count}), got {self.start}")
        if self.uneven not in get_args(Uneven):
            raise ValueError(f"uneven must be one of {get_args(Uneven)}, got {self.uneven!r}")

    @property
    def rank_size(self) -> int:
        """Samples that all workers of this rank read together; equal on all ranks unless ``uneven`` is ``"none"``."""
        rest = self.count - self.start
        if self.uneven == "drop":
            return rest // self.world
        if self.uneven == "pad":
            return -(-rest // self.world)
        return max(0, -(-(rest - self.rank) // self.world))

    def __len__(self) -> int:
        blocks, rest = divmod(self.rank_size, self.block)
        whole = max(0, -(-(blocks - self.worker) // self.workers))
        return whole * self.block + (rest if blocks % self.workers == self.worker else 0)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        size = len(self)
        if isinstance(index, slice):
            return [self._position(i) for i in range(size)[index]]
        if not -size <= index < size:
            raise IndexError(f"index {index} of a shard with {size} samples")
        return self._position(index % size)

    def __iter__(self) -> Iterator[int]:
        return map(self._position, range(len(self)))

    def _position(self, index: int) -> int:
        turn, within = divmod(index, self.block)
        of_rank = (self.worker + turn * self.workers) * self.block + within
        position = self.start + self.rank + of_rank * self.world
        # Only "pad" goes past the end; with more ranks than samples some go round more than once.
        return position if position < self.count else position % self.count


def check_topology(rank: int, world: int, worker: int, workers: int, block: int) -> None:
    """Refuse a rank, worker or block that cannot be.

    :raises TypeError: if an argument is not an int.
    :raises ValueError: if an argument is out of its bounds; the message names it.
    """
    for name, value, least in (("world", world, 1), ("workers", workers, 1), ("block", block, 1)):
        check_int(name, value, least)
    for name, value, whole, size in (("rank", rank, "world", world), ("worker", worker, "workers", workers)):
        check_int(name, value, 0)
        if value >= size:
            raise ValueError(f"{name} must be less than {whole} ({size}), got {value}")


def check_int(name: str, value: object, least: int) -> None:
    """Refuse what is no int of at least ``least``.

    :raises TypeError: if ``value`` is not an int.
    :raises ValueError: if it is too small.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
