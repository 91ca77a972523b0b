"""What is measured of datasets: on which modelled network, and which figures have to be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.benchmarks.kinds import FAR, Case, ContainerName, Goal, Sizes, wall
from tests.benchmarks.runs import Run

__all__ = ["DATASET_CASES", "DATASET_GOALS"]

MB = 1e6

DATASET_CASES: Sequence[Case] = (
    Case("iterate far http", "iterate", "http", network=FAR, container="samples"),
    Case("iterate far https", "iterate", "https", network=FAR, container="samples"),
    Case("iterate http", "iterate", "http", floor="floor-receive-samples", container="samples"),
    Case("iterate https", "iterate", "https", floor="floor-receive-samples", container="samples"),
    Case("batches far http", "load-map", "http", network=FAR, container="samples", workers=2),
    Case("batches far https", "load-map", "https", network=FAR, container="samples", workers=2),
    Case("list 20,000", "make-map", "http", container="listed"),
    Case("burn", "iterate", "https", floor="floor-burn", container="samples", burn=0.002),
    # Nothing that a program does beside reading may make it slower than 0.2.0 was. Without latency, because that is
    # where prefetching has the least to win and its thread is most in the way.
    Case("burn 0.2 ms", "iterate", "https", floor="floor-burn", container="samples", burn=0.0002),
    Case("burn 10 ms", "iterate", "https", floor="floor-burn", container="few", burn=0.01),
    Case("burn http", "iterate", "http", floor="floor-burn", container="samples", burn=0.002),
    Case("burn tiny", "iterate", "https", floor="floor-burn", container="tiny", burn=0.0002),
    Case("burn heavy", "iterate", "https", floor="floor-burn", container="heavy", burn=0.002),
    Case("burn workers", "load-iterable", "https", container="samples", burn=0.002, workers=2),
    Case("burn batches", "load-map", "https", container="samples", burn=0.002, workers=2),
    Case("spin", "iterate", "https", container="few", spinning=True),
    Case("spin heavy", "iterate", "https", container="heavy", spinning=True),
    Case("spin batches", "load-map", "https", container="few", spinning=True),
    Case("heavy", "iterate", "https", floor="floor-receive-samples", container="heavy"),
    Case("one sample", "one-sample", "http", container="single"),
    Case("pack 100,000", "pickle-map", "http", container="packed", alone=True),
    Case("list 1,000,000", "list", "http", container="million", alone=True),
)


def _ms_each(container: ContainerName) -> Callable[[Run, Sizes], float]:
    return lambda run, sizes: run.wall / sizes.containers[container].count * 1e3


def _cpu_us_each(run: Run, sizes: Sizes) -> float:
    return run.cpu / sizes.containers["samples"].count * 1e6


def _peak(run: Run, sizes: Sizes) -> float:
    return run.peak / MB


def _gets_each(container: ContainerName) -> Callable[[Run, Sizes], float]:
    return lambda run, sizes: (run.methods.get("GET", 0) - run.listings) / sizes.containers[container].count


def _heads(run: Run, sizes: Sizes) -> float:
    return run.methods.get("HEAD", 0)


def _listings(run: Run, sizes: Sizes) -> float:
    return run.listings


def _kept_each(container: ContainerName) -> Callable[[Run, Sizes], float]:
    return lambda run, sizes: run.kept / sizes.containers[container].count


def _pickled(run: Run, sizes: Sizes) -> float:
    return run.pickled / MB


DATASET_GOALS: Sequence[Goal] = (
    Goal("P5", "iterate far http", "iterate, 20 ms, 60 MB/s, http: a sample", "ms", _ms_each("samples"), least=25),
    Goal("P5", "iterate far https", "the same, https", "ms", _ms_each("samples"), least=25),
    Goal("P6", "iterate http", "iterate, no latency, http: CPU a sample", "us", _cpu_us_each, least=3),
    Goal("P6", "iterate https", "the same, https", "us", _cpu_us_each, least=3),
    Goal("P7", "batches far http", "DataLoader, map, 2 workers, 20 ms, http: a sample", "ms", _ms_each("samples"), 10),
    Goal("P7", "batches far https", "the same, https", "ms", _ms_each("samples"), least=10),
    Goal("P8", "list 20,000", "map dataset of 20,000 blobs: wall", "s", wall, least=8),
    Goal("P8", "list 20,000", "the same: peak memory", "MB", _peak, least=20),
    Goal("P8", "pack 100,000", "map dataset of 100,000 blobs: kept for each", "bytes", _kept_each("packed"), most=100),
    Goal("P8", "list 1,000,000", "listing of 1,000,000 blobs: kept for each", "bytes", _kept_each("million"), most=100),
    Goal("P9", "burn", "transform of 2 ms pure Python, https: a sample", "ms", _ms_each("samples"), 1.6, aim=1.15),
    Goal("P9", "burn 0.2 ms", "the same with 0.2 ms", "ms", _ms_each("samples"), least=1),
    Goal("P9", "burn 10 ms", "the same with 10 ms", "ms", _ms_each("few"), least=1),
    Goal("P9", "burn http", "2 ms, http", "ms", _ms_each("samples"), least=1),
    Goal("P9", "burn tiny", "0.2 ms, 4 KiB", "ms", _ms_each("tiny"), least=1),
    Goal("P9", "burn heavy", "2 ms, 4 MiB", "ms", _ms_each("heavy"), least=1),
    Goal("P9", "burn workers", "2 ms, DataLoader, iterable, 2 workers", "ms", _ms_each("samples"), least=1),
    Goal("P9", "burn batches", "2 ms, DataLoader, map, 2 workers", "ms", _ms_each("samples"), least=1),
    Goal("P9", "spin", "a thread beside that spins in pure Python", "ms", _ms_each("few"), least=1),
    Goal("P9", "spin heavy", "the same, 4 MiB", "ms", _ms_each("heavy"), least=1),
    Goal("P9", "spin batches", "the same, 100 KiB, DataLoader, map, no workers", "ms", _ms_each("few"), least=1),
    Goal("P9", "heavy", "4 MiB, no transform", "ms", _ms_each("heavy"), least=1),
    Goal("P11", "one sample", "one sample of a map dataset: GET requests", "", _gets_each("single"), most=1),
    Goal("P11", "one sample", "the same: HEAD requests", "", _heads, most=0),
    Goal("P11", "iterate http", "each sample of an iterable dataset: GET requests", "", _gets_each("samples"), most=1),
    Goal("P11", "iterate http", "all of them: HEAD requests", "", _heads, most=0),
    Goal("P11", "batches far http", "DataLoader, 2 workers: GET requests a sample", "", _gets_each("samples"), most=1),
    Goal("P11", "batches far http", "the same: requests for the listing", "", _listings, most=1),
    Goal("S1", "list 1,000,000", "listing of 1,000,000 blobs: peak memory", "MB", _peak, most=100),
    Goal("S1", "pack 100,000", "map dataset of 100,000 blobs: pickle", "MB", _pickled, most=20),
)
