"""What smaller and larger options cost, behind the latency of a region. There is no goal: docs/tuning.md shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks.kinds import FAR, MIB, BlobName, Case, ContainerName, Goal, Sizes, wall
from tests.benchmarks.runs import Run

__all__ = ["TUNING_CASES", "TUNING_GOALS"]

FILES: Sequence[tuple[str, BlobName, str, Sequence[int], int]] = (
    ("readinto", "blob", "in_flight", (4, 8, 16, 32, 64), 1),
    ("readinto", "blob", "range_size", (1, 4, 8, 32), MIB),
    ("load", "state", "readahead", (0, 4, 16, 32), 1),
    ("write", "upload", "in_flight", (8, 16, 32, 64), 1),
    ("write", "upload", "block_size", (1, 4, 8, 16), MIB),
    ("save", "saved", "memory_budget", (32, 64, 192), MIB),
)
"""Piece, its blob, the option, its values, and their unit; the default is among the values."""

DATASETS: Sequence[tuple[ContainerName, str, Sequence[int], int]] = (
    ("samples", "prefetch", (4, 16, 32, 128), 1),
    ("heavy", "memory_budget", (32, 64, 192), MIB),
)


def _cases() -> Iterator[Case]:
    for piece, blob, option, values, unit in FILES:
        for value in values:
            name = f"{piece}, {option} {value}"
            yield Case(name, piece, "https", blob, network=FAR, options={option: value * unit}, alone=True)
    for container, option, values, unit in DATASETS:
        for value in values:
            name = f"iterate {container}, {option} {value}"
            ahead = option == "prefetch"
            yield Case(
                name,
                "iterate",
                "https",
                container=container,
                network=FAR,
                prefetch=value if ahead else 0,
                options={} if ahead else {option: value * unit},
                alone=True,
            )


TUNING_CASES: Sequence[Case] = tuple(_cases())


def _cpu(run: Run, sizes: Sizes) -> float:
    return run.cpu


def _peak(run: Run, sizes: Sizes) -> float:
    return run.peak / MIB


TUNING_GOALS: Sequence[Goal] = tuple(
    Goal("T1", case.name, f"{case.name}: {what}", unit, figure)
    for case in TUNING_CASES
    for what, unit, figure in (("wall", "s", wall), ("CPU", "s", _cpu), ("peak memory", "MiB", _peak))
)
