"""What is measured of files: on which modelled network, and which figures have to be reached."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.kinds import FAR, MIB, BlobName, Case, Goal, Sizes, wall
from tests.benchmarks.runs import Run

__all__ = ["FILE_CASES", "FILE_GOALS"]

GB = 1e9

READS = 32
"""Random places that are read in one file."""


EXTRA = "azure.storage.extensions"

CHECKED: Sequence[tuple[str, BlobName, str, dict[str, str], str]] = (
    ("readinto", "blob", "unverified", {"verify": "none"}, ""),
    ("readinto", "blob", "verified by CRC64", {"verify": "range"}, ""),
    ("readinto", "blob", "verified by MD5", {"verify": "range"}, EXTRA),
    ("write", "upload", "without checksum", {"checksum": "none"}, ""),
    ("write", "upload", "with CRC64", {"checksum": "crc64"}, ""),
    ("write", "upload", "with MD5", {"checksum": "md5"}, ""),
)
"""What checksums cost, over http: over https none is the default."""


FILE_CASES: Sequence[Case] = (
    Case("read", "read", "https", "blob", "floor-receive"),
    Case("readinto", "readinto", "https", "blob", "floor-receive"),
    Case("load http", "load", "http", "state", "floor-load", FAR),
    Case("load https", "load", "https", "state", "floor-load", FAR),
    Case("save http", "save", "http", "saved", "floor-save", FAR),
    Case("save https", "save", "https", "saved", "floor-save", FAR),
    Case("write", "write", "https", "upload", "floor-send"),
    *(
        Case(f"{piece} {name}", piece, "http", blob, options=options, without=without, alone=True)
        for piece, blob, name, options, without in CHECKED
    ),
    Case("small", "read", "http", "small"),
    Case("random first", "random-reads", "http", "large", reads=1),
    Case("random next", "random-reads", "http", "large", reads=READS),
)


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


FILE_GOALS: Sequence[Goal] = (
    Goal("P1", "read", "read() of one blob, https: CPU", "s/GB", _cpu_per_gb, least=5, aim=1.25),
    Goal("P1", "readinto", "readinto() of the same: CPU", "s/GB", _cpu_per_gb, least=5, aim=1.25),
    Goal("P2", "read", "read() of the same: wall", "s", wall, least=3.5),
    Goal("P2", "readinto", "readinto() of the same: wall", "s", wall, least=3.5),
    Goal("P3", "load http", "torch.load, 20 ms, 60 MB/s a connection, http", "s", wall, least=15),
    Goal("P3", "load https", "the same, https", "s", wall, least=15),
    Goal("P4", "save http", "torch.save, 20 ms, 60 MB/s a connection, http", "s", wall, least=2.5, aim=1.2),
    Goal("P4", "save https", "the same, https", "s", wall, least=2.5, aim=1.2),
    Goal("P10", "write", "write() of one blob, https: CPU", "s/GB", _cpu_per_gb, least=1.5, aim=1.3),
    *(
        Goal("C1", f"{piece} {name}", f"{piece}() of one blob, http, {name}: {what}", unit, figure)
        for piece, _, name, _, _ in CHECKED
        for what, unit, figure in (("CPU", "s/GB", _cpu_per_gb), ("wall", "s", wall))
    ),
    Goal("P11", "small", "one small blob: GET requests", "", _gets, most=1),
    Goal("P11", "small", "one small blob: HEAD requests", "", _heads, most=0),
    Goal("P12", "read", "read(): peak memory per byte of the blob", "x", _peak_of_blob, most=1.2),
    Goal("P12", "load http", "torch.load: peak memory above the payload", "MiB", _peak_above_loaded, most=192),
    Goal("P12", "save http", "torch.save: peak memory above the payload", "MiB", _peak_above, most=192),
    Goal("P12", "save https", "the same, https", "MiB", _peak_above, most=192),
    Goal("R1", "random first", "4 KiB at one random place of a large blob: fetched", "KiB", _kib_first, most=1024),
    Goal("R1", "random next", "the same at many places of one file: fetched by each", "KiB", _kib_each, most=1024),
)
