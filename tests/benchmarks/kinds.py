"""What a case and a goal are, and how much is moved.

A case runs one piece for both versions and for its floor. A goal takes one figure of a case: either a ratio, how many
times less this library needs than 0.2.0 in the same run, or a bound that this library keeps by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tests.benchmarks.runs import Run

__all__ = ["FAR", "MIB", "NEAR", "BlobName", "Case", "ContainerName", "Goal", "Network", "Samples", "Sizes", "wall"]

KIB = 1 << 10
MIB = 1 << 20

BlobName: TypeAlias = Literal["blob", "small", "large", "state", "upload", "saved"]
ContainerName: TypeAlias = Literal["single", "samples", "few", "tiny", "heavy", "listed", "packed", "million"]


@dataclass(frozen=True, slots=True)
class Samples:
    """A container of blobs.

    :ivar count: how many.
    :ivar size: bytes of the first (see `measure.sample_blob`); ``None``: they are only listed and cannot be read.
    """

    count: int
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is moved; the defaults are what the goals are stated for.

    :ivar blob: bytes of the blob that is read and written whole.
    :ivar state: bytes of the state dict that is saved and loaded, in ``tensors`` tensors.
    :ivar large: bytes of the blob that is read at random places.
    :ivar containers: what datasets are made of.
    """

    blob: int = 512 * MIB
    state: int = 512_000_400
    tensors: int = 300
    large: int = 1024 * MIB
    small: int = 100 * KIB
    containers: dict[ContainerName, Samples] = field(
        default_factory=lambda: {
            "single": Samples(1, 100 * KIB),
            "samples": Samples(1000, 100 * KIB),
            "few": Samples(300, 100 * KIB),
            "tiny": Samples(1000, 4 * KIB),
            "heavy": Samples(64, 4 * MIB),
            "listed": Samples(20_000),
            "packed": Samples(100_000),
            "million": Samples(1_000_000),
        }
    )

    def of(self, blob: BlobName) -> int:
        """Return the bytes of the blob of this name."""
        return {"blob": self.blob, "upload": self.blob, "large": self.large, "small": self.small}.get(blob, self.state)


@dataclass(frozen=True, slots=True)
class Network:
    """:ivar latency: seconds before every answer. :ivar bandwidth: bytes per second of a connection, each way."""

    latency: float = 0.0
    bandwidth: float | None = None


NEAR = Network()
FAR = Network(0.02, 60e6)
"""A region's storage as a client in it sees it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work on one network, with one blob or one container.

    :ivar blob: name of the blob it reads or writes; the runner makes those that are read.
    :ivar container: name of the container its dataset is made of; the runner makes it.
    :ivar floor: the piece that does the same without the library.
    :ivar alone: 0.2.0 has nothing to compare with.

    The others are those of `measure.Parameters`.
    """

    name: str
    piece: str
    scheme: Literal["http", "https"]
    blob: BlobName | None = None
    floor: str | None = None
    network: Network = NEAR
    reads: int = 0
    container: ContainerName | None = None
    burn: float = 0.0
    workers: int = 0
    spinning: bool = False
    prefetch: int = 0
    alone: bool = False
    options: Mapping[str, str | int] = field(default_factory=dict)
    without: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure and what it has to reach; nothing, if it is there to be known.

    :ivar figure: takes the figure from a run; less is better.
    :ivar least: how many times less than 0.2.0 it has to be, or
    :ivar most: what it may be at most, whatever 0.2.0 needs.
    :ivar aim: what is aimed for against the floor, printed and not judged.
    """

    name: str
    case: str
    title: str
    unit: str
    figure: Callable[[Run, Sizes], float]
    least: float | None = None
    most: float | None = None
    aim: float | None = None


def wall(run: Run, sizes: Sizes) -> float:
    """Take the seconds that passed."""
    return run.wall
