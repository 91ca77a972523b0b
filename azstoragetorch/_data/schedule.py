"""Which samples come next: the epochs of one dataset, in the main process and in its DataLoader workers.

An iteration reads an epoch of the dataset's plan, from a start that :meth:`Schedule.resume` may have set. Which one, it
learns from the cell that a dataset shares with its workers; how far it is, only the process that reads knows, in its
:class:`~azstoragetorch._data.turn.Turn`. A state that is loaded serves the next iteration and no other: of a worker, in
that worker; of the main process, for all workers together.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from azstoragetorch._data.epoch import EpochCell
from azstoragetorch._data.loading import Blobs
from azstoragetorch._data.source import LazySource, Source
from azstoragetorch._data.topology import Carried, Ranks, find_ranks, in_worker, topology
from azstoragetorch._data.turn import STATE_VERSION, Plan, Turn, Unlisted, check_same, tell
from azstoragetorch._values.progress import Progress
from azstoragetorch._values.shards import Shard, check_int

__all__ = ["Schedule"]

_logger = logging.getLogger("azstoragetorch.datasets")


class Schedule:
    """The epochs of one dataset.

    :param source: its blobs.
    :param plan: how they are ordered and dealt out.
    """

    def __init__(self, source: Source | LazySource, plan: Plan) -> None:
        self._source = source
        self._plan = plan
        self._cell = EpochCell()
        self._carried: Carried | None = None
        self._iterations = 0
        self._turn: Turn | None = None
        self._loaded: Progress | None = None

    def begin(self) -> tuple[Turn | Unlisted, Blobs]:
        """Begin an iteration: what it reads is decided here, not when its first sample is taken."""
        plan, source = self._plan, self._source
        place = topology(plan.sharding, plan.given, self._carried, self._iterations)
        ranks, worker, workers = place.ranks, place.worker, place.workers
        self._iterations += 1
        if isinstance(source, LazySource):
            if place.leader:
                _logger.info(
                    "rank %d of %d reads its part of %s while listing it", ranks.rank, ranks.world, source.name
                )
            _logger.debug("worker %d of %d lists and reads %s", worker, workers, source.name)
            return Unlisted(), partial(source.blobs, ranks.rank, ranks.world, worker, workers, plan.block)
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            epoch, start = self._cell.claim(place.key)
        else:
            epoch, start = loaded.epoch, loaded.start
        shard = Shard(len(source), start, ranks.rank, ranks.world, worker, workers, plan.block, plan.uneven)
        if loaded is not None:
            check_same(loaded, shard)
            self._cell.settle(place.key, epoch, start)
        turn = self._turn = Turn(source, plan, epoch, shard, loaded.consumed if loaded is not None else 0)
        if place.leader:
            tell(ranks, shard, source)
        _logger.debug(
            "epoch %d of %s: worker %d of %d reads %d blobs, from number %d of its share on",
            *(epoch, source.name, worker, workers, len(shard), turn.consumed),
        )
        return turn, (source.blob(index) for index in turn.indices())

    @property
    def source(self) -> str:
        """What is read, in words."""
        source = self._source
        return source.name if isinstance(source, LazySource) else f"{len(source)} blobs of {source.name}"

    def rank_size(self) -> int:
        """Return how many samples this rank reads in an epoch.

        :raises TypeError: if nobody has listed them; what ``len`` raises for things without a length.
        """
        return self._shard(self._listed("len()", TypeError)).rank_size

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        following, start = self._cell.peek()
        # A training loop calls this for every epoch, also for the one that it has just resumed.
        self._cell.set(epoch, start if epoch == following else 0)
        self._turn = None

    def resume(self, epoch: int, batches: int, world_size: int | None) -> None:
        """Go on after ``batches`` batches on each of ``world_size`` ranks.

        :raises ValueError: if batches cannot be counted, or the epoch has fewer.
        """
        source = self._listed("resume()", ValueError)
        if self._plan.batch_size is None:
            raise ValueError("resume() counts batches: make the dataset with the batch_size= of its DataLoader")
        check_int("epoch", epoch, 0)
        check_int("batches", batches, 0)
        world = self._ranks().world if world_size is None else world_size
        check_int("world_size", world, 1)
        step = self._plan.batch_size * world
        if batches > -(-len(source) // step):
            raise ValueError(f"an epoch of {len(source)} blobs has {-(-len(source) // step)} batches, not {batches}")
        self._cell.set(epoch, min(batches * step, len(source)))
        self._turn = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration of this process is, or where its next one begins.

        :raises RuntimeError: if the last iteration was one of workers.
        """
        source = self._source
        if isinstance(source, LazySource):
            return {
                "version": STATE_VERSION,
                "lazy": True,
            }  # StatefulDataLoader asks, whether its state is wanted or not
        if not in_worker() and self._cell.claimed_by_workers:
            raise RuntimeError(
                "the samples are read by DataLoader workers, and only they know how far they are: use torchdata's "
                "StatefulDataLoader and its state_dict(), or count batches and call resume(epoch=..., batches=...)"
            )
        if self._turn is not None:
            return self._turn.state()
        epoch, start = self._cell.peek()
        return Turn(source, self._plan, epoch, self._shard(source, start)).state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was returned.

        :raises ValueError: if it is a state of something else.
        """
        source = self._listed("load_state_dict()", ValueError)
        progress = self._plan.check(state, source)
        if in_worker():
            self._loaded = progress  # only the iteration knows which worker of how many this is
        else:
            self._cell.set(progress.epoch, min(progress.elastic(), len(source)))
        self._turn = None

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker is in no process group: it is told the ranks of its parent.
        carried = None
        if self._plan.sharding == "auto":
            carried = Carried(os.getpid(), find_ranks(self._plan.given, self._carried))
        return {**self.__dict__, "_carried": carried, "_turn": None, "_iterations": 0}

    def _listed(self, what: str, error: type[Exception]) -> Source:
        if isinstance(self._source, LazySource):
            raise error(f"{what} needs a listing, and this dataset is lazy; make it with lazy=False")
        return self._source

    def _ranks(self) -> Ranks:
        return topology(self._plan.sharding, self._plan.given, self._carried, 0).ranks

    def _shard(self, source: Source, start: int = 0) -> Shard:
        """Return the shard of this rank as if it had no workers."""
        ranks = self._ranks()
        return Shard(len(source), start, ranks.rank, ranks.world, block=self._plan.block, uneven=self._plan.uneven)
