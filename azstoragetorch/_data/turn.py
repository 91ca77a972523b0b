"""One iteration over a dataset: which blobs, in which order, and how far it has come."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from azstoragetorch._data.order import Order
from azstoragetorch._data.source import Source
from azstoragetorch._data.topology import Ranks, Sharding, check_ranks
from azstoragetorch._values.progress import Progress
from azstoragetorch._values.shards import Shard, Uneven, check_int

__all__ = ["STATE_VERSION", "Plan", "Turn", "Unlisted", "check_same", "tell"]

_logger = logging.getLogger("azstoragetorch.datasets")

STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How a dataset is dealt out; what does not change from epoch to epoch.

    :ivar seed: ``None`` for the order of the source.
    :raises TypeError: if a value is of the wrong type.
    :raises ValueError: if a value is out of its bounds, or two contradict each other.
    """

    sharding: Sharding
    given: Ranks | None
    uneven: Uneven
    batch_size: int | None
    seed: int | None

    @classmethod
    def of(
        cls,
        sharding: Sharding,
        rank: int | None,
        world_size: int | None,
        uneven: Uneven,
        batch_size: int | None,
        shuffle: bool,
        seed: int,
    ) -> Plan:
        """Return the plan that a user asks for by these arguments."""
        check_int("seed", seed, 0)
        if not isinstance(shuffle, bool):
            raise TypeError(f"shuffle must be True or False, not {type(shuffle).__name__}")
        given = check_ranks(sharding, rank, world_size)
        return cls(sharding, given, uneven, batch_size, seed if shuffle else None)

    def __post_init__(self) -> None:
        Shard(0, uneven=self.uneven)
        if self.batch_size is not None:
            check_int("batch_size", self.batch_size, 1)

    @property
    def block(self) -> int:
        """Samples that stay together in one worker."""
        return self.batch_size or 1

    def fingerprint(self, source: Source, epoch: int) -> dict[str, Any]:
        """Return what has to be the same for a state to mean the same samples."""
        return {
            "version": STATE_VERSION,
            "listing": source.fingerprint,
            "blobs": len(source),
            "shuffle": self.seed is not None,
            "seed": self.seed or 0,
            "uneven": self.uneven,
            "order": Order(min(len(source), 64), self.seed, epoch).digest,
        }

    def check(self, state: Mapping[str, Any], source: Source) -> Progress:
        """Return how far ``state`` is.

        :raises ValueError: if it belongs to other blobs or another order, or is no state at all.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is the dict that state_dict() returned, not {type(state).__name__}")
        progress = Progress.from_dict(state)
        for name, mine in self.fingerprint(source, progress.epoch).items():
            if name not in state:
                raise ValueError(f"this is no state of a dataset: {name!r} is missing")
            theirs = state[name]
            if theirs != mine:
                raise ValueError(_MISMATCH[name].format(mine=mine, theirs=theirs, source=source.name))
        return progress


_MISMATCH = {
    "version": "the state has version {theirs!r}, and this release of azstoragetorch reads version {mine}",
    "listing": "the blobs of {source} are not those that the state was saved with: some were added, removed or "
    "replaced, so its position means other samples now. Start a new epoch, or save the listing at the beginning of a "
    "training run and use it throughout (BlobListing.save, from_listing)",
    "blobs": "the state was saved with {theirs} blobs, and {source} has {mine}",
    "shuffle": "the state was saved with shuffle={theirs}, and this dataset has shuffle={mine}; make it the same way",
    "seed": "the state was saved with seed={theirs}, and this dataset has seed={mine}; make it the same way",
    "uneven": "the state was saved with uneven={theirs!r}, and this dataset has uneven={mine!r}; make it the same way",
    "order": "this release of torch shuffles differently from the one that the state was saved with; start a new epoch",
}


class Turn:
    """One iteration.

    :param shard: what this process reads of the epoch.
    :param consumed: samples of the shard to leave out, because they were handed out before.
    """

    def __init__(self, source: Source, plan: Plan, epoch: int, shard: Shard, consumed: int = 0) -> None:
        self.epoch = epoch
        self.shard = shard
        self.consumed = consumed
        self._first = consumed
        self._order = Order(len(source), plan.seed, epoch)
        self._plan = plan
        self._source = source
        self._fingerprint: dict[str, Any] | None = None

    def indices(self) -> Iterator[int]:
        """Yield the numbers of the blobs, in order."""
        shard, order = self.shard, self._order
        for i in range(self._first, len(shard)):
            yield order[shard[i]]

    def advance(self) -> None:
        """Count one sample as consumed, handed out or skipped."""
        self.consumed += 1

    def state(self) -> dict[str, Any]:
        """Return how far the consumer is, and what of."""
        shard = self.shard
        if self._fingerprint is None:
            self._fingerprint = self._plan.fingerprint(self._source, self.epoch)
        return {
            **self._fingerprint,
            **Progress(
                *(self.epoch, shard.start, self.consumed),
                *(shard.rank, shard.world, shard.worker, shard.workers, shard.block),
            ).as_dict(),
        }


class Unlisted:
    """An iteration over a container that nobody has listed: how far it is cannot be told."""

    def advance(self) -> None:
        """Do nothing."""


def check_same(loaded: Progress, shard: Shard) -> None:
    """Refuse a state that another worker, or another division of the work, has left.

    :raises ValueError: naming both.
    """
    if not loaded.matches(shard):
        raise ValueError(
            f"the state is of rank {loaded.rank} of {loaded.world}, worker {loaded.worker} of {loaded.workers}, in "
            f"batches of {loaded.block}, and this is rank {shard.rank} of {shard.world}, worker {shard.worker} of "
            f"{shard.workers}, in batches of {shard.block}; to go on with other numbers count the batches consumed "
            f"and call resume(epoch=..., batches=...)"
        )


def tell(ranks: Ranks, shard: Shard, source: Source) -> None:
    """Log what this rank reads."""
    _logger.info(
        "rank %d of %d reads %d of %d blobs of %s (from %s)",
        *(ranks.rank, ranks.world, shard.rank_size, len(source), source.name, ranks.source),
    )
    if shard.uneven == "none" and (shard.count - shard.start) % shard.world:
        _logger.warning(
            "%d blobs do not divide by %d ranks, so some ranks read one sample more than others; collectives in the "
            "training loop may wait for ever. Pass uneven='drop' or uneven='pad' (and no on_error='skip')",
            *(shard.count - shard.start, shard.world),
        )
