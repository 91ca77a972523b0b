"""What is measured, on which modelled network, and which figures have to be reached.

A case runs one piece for both versions and for its floor. A goal takes one figure of a case: either a ratio, how many
times less this library needs than 0.2.0 in the same run, or a bound that this library keeps by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.benchmarks.runs import Run

__all__ = ["CASES", "GOALS", "Case", "Goal", "Network", "Sizes", "chosen"]

MIB = 1 << 20
GB = 1e9


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is moved; the defaults are what the goals are stated for.

    :ivar blob: bytes of the blob that is read and written whole.
    :ivar state: bytes of the state dict that is saved and loaded, in ``tensors`` tensors.
    :ivar large: bytes of the blob that is read at random places.
    """

    blob: int = 512 * MIB
    state: int = 512_000_400
    tensors: int = 300
    large: int = 1024 * MIB
    small: int = 100 * 1024

    def of(self, blob: str) -> int:
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

READS = 32
"""Random places that are read in one file."""


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work on one network.

    :ivar blob: name of the blob it reads or writes; the runner makes those that are read.
    :ivar floor: the piece that does the same without the library.
    """

    name: str
    piece: str
    scheme: Literal["http", "https"]
    blob: Literal["blob", "small", "large", "state", "upload", "saved"]
    floor: str | None = None
    network: Network = NEAR
    reads: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure and what it has to reach.

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


CASES: Sequence[Case] = (
    Case("read", "read", "https", "blob", "floor-receive"),
    Case("readinto", "readinto", "https", "blob", "floor-receive"),
    Case("load http", "load", "http", "state", "floor-load", FAR),
    Case("load https", "load", "https", "state", "floor-load", FAR),
    Case("save http", "save", "http", "saved", "floor-save", FAR),
    Case("save https", "save", "https", "saved", "floor-save", FAR),
    Case("write", "write", "https", "upload", "floor-send"),
    Case("small", "read", "http", "small"),
    Case("random first", "random-reads", "http", "large", reads=1),
    Case("random next", "random-reads", "http", "large", reads=READS),
)


def _wall(run: Run, sizes: Sizes) -> float:
    return run.wall


def _cpu_per_gb(run: Run, sizes: Sizes) -> float:
    return run.cpu / (sizes.blob / GB)


def _peak_of_blob(run: Run, sizes: Sizes) -> float:
    return run.peak / sizes.blob


def _peak_above_loaded(run: Run, sizes: Sizes) -> float:
    return (run.peak - sizes.state) / MIB


def _peak_above(run: Run, sizes: Sizes) -> float:
    # The state dict was there before the clock started.
    return run.peak / MIB


def _gets(run: Run, sizes: Sizes) -> float:
    return run.methods.get("GET", 0)


def _heads(run: Run, sizes: Sizes) -> float:
    return run.methods.get("HEAD", 0)


def _kib_first(run: Run, sizes: Sizes) -> float:
    return run.bytes_down / 1024


def _kib_each(run: Run, sizes: Sizes) -> float:
    return run.bytes_down / 1024 / READS


GOALS: Sequence[Goal] = (
    Goal("P1", "read", "read() of one blob, https: CPU", "s/GB", _cpu_per_gb, least=5, aim=1.25),
    Goal("P1", "readinto", "readinto() of the same: CPU", "s/GB", _cpu_per_gb, least=5, aim=1.25),
    Goal("P2", "read", "read() of the same: wall", "s", _wall, least=3.5),
    Goal("P2", "readinto", "readinto() of the same: wall", "s", _wall, least=3.5),
    Goal("P3", "load http", "torch.load, 20 ms, 60 MB/s a connection, http", "s", _wall, least=15),
    Goal("P3", "load https", "the same, https", "s", _wall, least=15),
    Goal("P4", "save http", "torch.save, 20 ms, 60 MB/s a connection, http", "s", _wall, least=2.5, aim=1.2),
    Goal("P4", "save https", "the same, https", "s", _wall, least=2.5, aim=1.2),
    Goal("P10", "write", "write() of one blob, https: CPU", "s/GB", _cpu_per_gb, least=1.5, aim=1.3),
    Goal("P11", "small", "one small blob: GET requests", "", _gets, most=1),
    Goal("P11", "small", "one small blob: HEAD requests", "", _heads, most=0),
    Goal("P12", "read", "read(): peak memory per byte of the blob", "x", _peak_of_blob, most=1.2),
    Goal("P12", "load http", "torch.load: peak memory above the payload", "MiB", _peak_above_loaded, most=192),
    Goal("P12", "save http", "torch.save: peak memory above the payload", "MiB", _peak_above, most=192),
    Goal("P12", "save https", "the same, https", "MiB", _peak_above, most=192),
    Goal("R1", "random first", "4 KiB at one random place of a large blob: fetched", "KiB", _kib_first, most=1024),
    Goal("R1", "random next", "the same at many places of one file: fetched by each", "KiB", _kib_each, most=1024),
)


def chosen(names: Collection[str]) -> tuple[list[Goal], list[Case]]:
    """Return the goals of these names, all of them if there are none, and the cases they need.

    :raises ValueError: if there is no goal of one of the names.
    """
    unknown = set(names) - {goal.name for goal in GOALS}
    if unknown:
        raise ValueError(
            f"no goal {', '.join(sorted(unknown))}; there are {', '.join(dict.fromkeys(g.name for g in GOALS))}"
        )
    goals = [goal for goal in GOALS if not names or goal.name in names]
    needed = {goal.case for goal in goals}
    return goals, [case for case in CASES if case.name in needed]
