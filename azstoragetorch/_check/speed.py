"""How fast blobs are read from here, and what follows for a dataset.

Three figures describe a link: the seconds until the first byte of an answer (L), the bytes a second of one connection
(r), and those of all together (B). A sample of S bytes takes L + S / r seconds, so B / S samples a second need
(B / S) * (L + S / r) of them under way: that is ``prefetch`` (Little's law). B is not known before it is tried, so
growing numbers of requests are tried until more bring no more.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._check.about import cores
from azstoragetorch._check.access import Found
from azstoragetorch._check.screen import line, measuring, shown_rate, shown_size, shown_time
from azstoragetorch._values.options import MiB, TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.exceptions import AZStorageTorchError

__all__ = ["Level", "advice", "measure", "worth_trying"]

PIECE = 4 * MiB
"""Most that is asked for at once: 32 of them under way take 128 MiB."""

BUFFERS = TransferOptions().memory_budget
"""Most memory that is used."""

LEVELS = (1, 8, 32, 128)
"""Requests under way, each four to eight times as many as before."""

GAIN = 1.1
"""More requests than before are worth it if they bring a tenth more."""

MAX_PIECES = 10_000
"""Different pieces, read over and over; 5,000 blobs of 1 GB would be a million."""

LATENCY_READS = 20

BUSY = 0.8
"""Cores that a process of one thread of Python hardly passes."""

Piece = tuple[BlobUrl, int, int]
"""A blob, an offset in it, and a size."""


@dataclass(frozen=True, slots=True)
class Level:
    """What so many requests under way brought."""

    in_flight: int
    size: int
    """Bytes that arrived."""
    count: int
    """Requests that were answered."""
    seconds: float
    cpu: float
    """Seconds of a core that this process used meanwhile."""

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


@dataclass(slots=True)
class _Reading:
    """The pieces that are read in turn, over and over."""

    pieces: list[Piece]
    credential: Credential
    options: TransferOptions
    _blobs: dict[BlobUrl, AzureBlob] = field(default_factory=dict)

    async def read(self, piece: Piece, buffer: bytearray) -> None:
        url, offset, size = piece
        blob = self._blobs.get(url)
        if blob is None:
            blob = self._blobs[url] = await AzureBlob.open(url, self.credential, self.options, TransferStats())
        await blob.read_into(memoryview(buffer)[:size], offset)


async def measure(found: Found, credential: Credential, options: TransferOptions, seconds: float) -> list[Level]:
    """Read for about ``seconds`` at each number of requests, print what that brings, and return it.

    :raises AZStorageTorchError: if a blob cannot be read.
    """
    reading = _Reading(_pieces(found), credential, options)
    first = reading.pieces[0]
    await reading.read((first[0], 0, 1), bytearray(1))  # the connection is there from then on
    times: list[float] = []
    while len(times) < LATENCY_READS and sum(times) < seconds:
        since = time.monotonic()
        await reading.read((first[0], 0, 1), bytearray(1))
        times.append(time.monotonic() - since)
    median, most = shown_time(statistics.median(times)), shown_time(max(times))
    line("latency", f"{median} a request (median of {len(times)}), {most} at most")
    largest = max(size for _, _, size in reading.pieces)
    levels: list[Level] = []
    for in_flight in LEVELS:
        if not worth_trying(in_flight, largest, levels, options.deadline):
            break
        level = await _level(reading, in_flight, largest, seconds)
        levels.append(level)
        line(
            "speed",
            f"{in_flight:>3} at a time: {shown_rate(level.rate):>9}, {level.count / level.seconds:,.0f} requests a "
            f"second, {level.cpu / level.seconds:.0%} of a core",
        )
    return levels


def worth_trying(in_flight: int, size: int, levels: list[Level], deadline: float) -> bool:
    """Whether so many requests of ``size`` bytes fit into memory, may bring more, and will all be answered in time."""
    if in_flight * size > BUFFERS or (in_flight > 32 and levels[-1].rate < GAIN * levels[-2].rate):
        return False
    return not levels or in_flight * size / levels[-1].rate < deadline / 2


async def _level(reading: _Reading, in_flight: int, largest: int, seconds: float) -> Level:
    turn: Iterator[Piece] = itertools.cycle(reading.pieces)
    count = size = 0
    began, cpu = time.monotonic(), time.process_time()

    async def keep_on() -> None:
        nonlocal count, size
        buffer = bytearray(largest)
        while True:  # once at least, or there would be no rate
            piece = next(turn)
            await reading.read(piece, buffer)
            count, size = count + 1, size + piece[2]
            moved(piece[2])
            if time.monotonic() - began >= seconds:
                return

    failure: AZStorageTorchError | None = None
    with measuring(f"{in_flight} at a time", seconds) as moved:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(in_flight):
                    group.create_task(keep_on())
        except* AZStorageTorchError as errors:
            failure = cast(AZStorageTorchError, errors.exceptions[0])
    if failure is not None:
        raise failure
    return Level(in_flight, size, count, time.monotonic() - began, time.process_time() - cpu)


def advice(found: Found, levels: list[Level], transform: float) -> Iterator[tuple[str, str]]:
    """Yield lines that say what follows from what was measured.

    :param transform: seconds of a core that making a sample takes, 0 if that is not known.
    """
    best = levels[0]
    for level in levels[1:]:
        best = level if level.rate > GAIN * best.rate else best
    sizes = [size for _, size in found.blobs]
    mean = sum(sizes) / len(sizes)
    largest = TransferOptions().prefetch_max_blob
    if len(sizes) == 1 or mean > largest:
        one = "all of it" if len(sizes) == 1 else f"one of {shown_size(mean)}"
        yield "suggestion", f"reading {one} takes about {shown_time(mean / best.rate)} at {shown_rate(best.rate)}"
        if len(sizes) > 1:
            yield "", f"a dataset fetches no blob ahead that is larger than {shown_size(largest)} (prefetch_max_blob)"
        return
    prefetch = max(2, math.ceil(best.in_flight / max(1, mean / PIECE)))
    samples = best.rate / mean
    takes = shown_time(prefetch / samples)
    yield (
        "suggestion",
        f"prefetch={prefetch}: {_shown(samples)} samples of {shown_size(mean)} a second * {takes} for each",
    )
    needed = math.ceil(2 * prefetch * mean / MiB)
    if needed * MiB > BUFFERS:
        budget = f"options=TransferOptions(memory_budget={needed} * 2**20)"
        yield "", f"{budget}: samples ahead take half of it at most; or a lower prefetch"
    fetching = best.cpu / best.seconds
    wanted = fetching + samples * transform
    text = f"num_workers={_workers(wanted)}: fetching that much takes {fetching:.1f} of {cores()} cores"
    if transform:
        yield "", f"{text}, and a transform of {shown_time(transform)} {samples * transform:.1f}"
    else:
        example = math.ceil(fetching + samples * 0.005)
        yield "", f"{text}; add {_shown(samples)} * seconds of your transform ({example} with --transform-ms 5)"
    if wanted > cores():
        yield "", f"{wanted:.1f} cores are not there: expect {_shown(samples * cores() / wanted)} samples a second"
    elif fetching > BUSY:
        yield "", "this process was busy and not the network, which may carry more: try another worker"


def _shown(count: float) -> str:
    return f"{count:,.{0 if count >= 10 else 1}f}"


def _workers(wanted: float) -> int:
    return max(1, min(cores(), math.ceil(wanted)))


def _pieces(found: Found) -> list[Piece]:
    """Cut large blobs, and take turns: the first piece of every blob, then the second."""

    def cut(url: BlobUrl, size: int) -> Iterator[Piece]:
        return ((url, offset, min(PIECE, size - offset)) for offset in range(0, size, PIECE))

    turns = itertools.zip_longest(*(cut(url, size) for url, size in found.blobs))
    return list(itertools.islice((piece for turn in turns for piece in turn if piece is not None), MAX_PIECES))
