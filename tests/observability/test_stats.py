"""``stats()`` of files and of the process: what was asked of the service, and what that waited for."""

from __future__ import annotations

import asyncio
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import azstoragetorch
from azstoragetorch import TransferOptions, TransferStats
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Call, Hold, Status, on
from tests.processes.script import Script

CONTENT = bytes(range(256)) * 400  # one request, with the ranges of `tests.processes.child`
OPTIONS = TransferOptions(block_size=10_000, range_size=64 * 1024)


def since(before: TransferStats) -> TransferStats:
    """Return what the process has counted since."""
    now = azstoragetorch.stats()
    return TransferStats(*(b - a for a, b in zip(astuple(before), astuple(now), strict=True)))


async def test_process_counts_what_its_files_and_listings_asked_for(server: BlobServer) -> None:
    """One number for a monitoring system, whatever a program is made of."""
    before = azstoragetorch.stats()
    files: list[Any] = []
    with BlobIO(server.url("a"), "wb", credential=False, options=OPTIONS) as written:
        written.write(CONTENT)
    with BlobIO(server.url("a"), "rb", credential=False, options=OPTIONS) as file:
        assert file.read() == CONTENT
    files += [written, file]
    async with AsyncBlobIO(server.url("a"), "rb", credential=False, options=OPTIONS) as reader:
        assert await reader.read() == CONTENT
    files.append(reader)
    await BlobListing.abuild(server.container_url, credential=False)

    counted, each = since(before), [file.stats() for file in files]
    assert counted.requests == len(server.requests()) == sum(stats.requests for stats in each) + 1
    assert counted.bytes == sum(stats.bytes for stats in each) == 3 * len(CONTENT)
    assert (counted.retries, counted.throttled, counted.waited, counted.in_flight) == (0, 0, 0.0, 0)


def test_waits_and_throttled_answers_are_counted(server: BlobServer) -> None:
    """A job that is slow because the account is busy looks idle without them."""
    before = azstoragetorch.stats()
    server.put("a", CONTENT)
    server.fault(on(), Status(503, "ServerBusy", {"Retry-After": "1"}))
    server.fault(on(), Status(500, "InternalError"))
    with BlobIO(server.url("a"), "rb", credential=False) as file:
        file.read()

    for stats in (file.stats(), since(before)):
        assert (stats.requests, stats.retries, stats.throttled, stats.in_flight) == (3, 2, 1, 0)
        assert 1 <= stats.waited < 10


async def test_requests_under_way_are_counted(server: BlobServer) -> None:
    """How a user finds out whether `in_flight` or the network bounds a transfer; of a closed file none are."""
    before = azstoragetorch.stats()
    server.put("a", CONTENT)
    held, arrived = Hold(), asyncio.Event()
    tell = partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set)
    server.fault(on(), Call(tell), held, times=None)
    async with AsyncBlobIO(server.url("a"), "rb", credential=False) as file:
        reading = asyncio.create_task(file.read())
        await arrived.wait()
        assert file.stats().in_flight == since(before).in_flight == 1
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert file.stats().in_flight == since(before).in_flight == 0
    held.release()


async def test_counters_are_a_copy(server: BlobServer) -> None:
    """Two of them can be compared: what lies between is their difference."""
    server.put("a", CONTENT)
    async with AsyncBlobIO(server.url("a"), "rb", credential=False) as file:
        before, whole = file.stats(), azstoragetorch.stats()
        await file.read()
        assert before == TransferStats()
        assert azstoragetorch.stats().bytes == whole.bytes + len(CONTENT)
    assert file.stats().bytes == len(CONTENT)


def test_each_process_counts_for_itself(server: BlobServer, tmp_path: Path) -> None:
    """A worker that began with the counts of its parent would count them twice."""
    server.put("a", CONTENT)
    source = """
        import azstoragetorch

        def read():
            with file("a") as source:
                source.read()
            return azstoragetorch.stats().requests

        say(read())
        child = os.fork()
        if child == 0:
            say(azstoragetorch.stats().requests, read(), read())
            os._exit(0)
        wait_for(child)
        say(azstoragetorch.stats().requests)
        """
    with Script(source, tmp_path, server) as script:
        assert script.end().silently() == ["1", "0 1 2", "1"]
