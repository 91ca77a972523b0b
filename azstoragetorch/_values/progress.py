"""How far one worker of one rank is in an epoch: what a checkpoint of the data holds.

Eight small integers, whatever the size of the container. Loaded into the same topology they continue it exactly;
loaded into another one, a count of consumed samples is all that can be carried over (`Progress.elastic`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from azstoragetorch._values.shards import Shard, check_int, check_topology

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What was consumed of one epoch, as one worker of one rank knows it.

    :raises TypeError: if a value is not an int.
    :raises ValueError: if a value is out of its bounds; the message names it.
    """

    epoch: int
    start: int
    """Positions of the epoch's order that were consumed, by all ranks together, before this iteration."""
    consumed: int
    """Samples that this worker has handed out in this iteration, those skipped for errors included."""
    rank: int
    world: int
    worker: int
    workers: int
    block: int

    def __post_init__(self) -> None:
        for name in ("epoch", "start", "consumed"):
            check_int(name, getattr(self, name), 0)
        check_topology(self.rank, self.world, self.worker, self.workers, self.block)

    def as_dict(self) -> dict[str, int]:
        """Return the values under their names: plain integers, for any checkpoint format."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Progress:
        """Take back what `as_dict` returned; other keys are ignored.

        :raises ValueError: if a value is missing or cannot be; the message names it.
        """
        found = {}
        for field in fields(cls):
            value = values.get(field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                what = f"is of type {type(value).__name__}, not int" if field.name in values else "is missing"
                raise ValueError(f"this is no state of a dataset: {field.name!r} {what}")
            found[field.name] = value
        try:
            return cls(**found)
        except ValueError as error:
            reason = str(error)
        raise ValueError(f"this is no state of a dataset: {reason}")

    def matches(self, shard: Shard) -> bool:
        """Tell whether ``shard`` continues this exactly: its first ``consumed`` samples are those consumed here."""
        return self.consumed <= len(shard) and (
            (self.start, self.rank, self.world, self.worker, self.workers, self.block)
            == (shard.start, shard.rank, shard.world, shard.worker, shard.workers, shard.block)
        )

    def elastic(self) -> int:
        """Return the position from which any other number of ranks and workers goes on: a new ``start``.

        It may lie beyond the end of the epoch, by less than ``world``: where the last samples were padded, or were
        one too few to give every rank one. Every rank has to have consumed as many samples, as after a step that all
        took; after an epoch's last, uneven step only rank 0 knows the end, so give its state to all ranks.

        :raises ValueError: if this worker was one of several: it does not know how far the others are.
        """
        if self.workers != 1:
            raise ValueError(
                f"this state is of worker {self.worker} of {self.workers}, which cannot know how far the others are: "
                f"it continues only with the same ranks, workers and batch size. Count the batches that each rank "
                f"consumed and call resume(epoch=..., batches=...) instead"
            )
        return self.start + self.consumed * self.world
