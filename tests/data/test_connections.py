"""How many connections a small budget is good for: over https each has buffers of its own, a third of a MiB or more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._values.beside import TLS
from azstoragetorch.aio import AsyncBlobIO
from tests.blobserver import BlobServer, Call
from tests.conftest import TlsFiles
from tests.data.blobs import Blob, KiB, MiB, access, listed, named

pytestmark = pytest.mark.timeout(60)

COUNT = 64
BUDGET = 4 * MiB


def options_of(tls_files: TlsFiles) -> TransferOptions:
    return TransferOptions(range_size=64 * KiB, memory_budget=BUDGET, ca_file=tls_files.ca_file)


def connections_of(server: BlobServer) -> int:
    return len({request.connection for request in server.requests()})


async def iterate(blobs: Iterable[Blob], shared: Access) -> int:
    """Take the samples of all; return how many there were."""
    count = 0
    async for sample in checked_loading(shared, None, 32, "raise").samples_async(blobs):
        assert len(sample["data"]) == 4 * KiB
        count += 1
    assert Memory.current().used == 0
    assert Memory.current().peak <= BUDGET
    return count


@pytest.mark.parametrize("known", [True, False])
async def test_samples_over_https_share_few_connections(
    tls_server: BlobServer, tls_files: TlsFiles, known: bool
) -> None:
    """32 connections have 10 MiB: a budget of 4 would be exceeded by samples of 4 KiB."""
    shared = access(options=options_of(tls_files))
    for number in range(COUNT):
        tls_server.put_synthetic(f"{number}", 4 * KiB)

    blobs = ((listed if known else named)(tls_server, f"{number}", shared) for number in range(COUNT))
    assert await iterate(blobs, shared) == COUNT

    # Half of the budget is for samples ahead, and half as much for connections; the head is never held back by them.
    assert 2 <= connections_of(tls_server) <= BUDGET * 3 // 4 // TLS + 1


async def test_samples_over_http_are_as_many_as_asked_for(server: BlobServer, tls_files: TlsFiles) -> None:
    """Nothing of that is needed there."""
    shared = access(options=options_of(tls_files))
    for number in range(COUNT):
        server.put_synthetic(f"{number}", 4 * KiB)

    together = threading.Barrier(32, timeout=30)
    server.fault("GET", Call(together.wait), times=32)

    blobs = (listed(server, f"{number}", shared) for number in range(COUNT))
    assert await iterate(blobs, shared) == COUNT
    assert not together.broken


async def test_small_saves_over_https_share_few_connections(tls_server: BlobServer, tls_files: TlsFiles) -> None:
    """Many files of one request each, then one of many small blocks."""
    options = replace(options_of(tls_files), block_size=8 * KiB)

    async def save(name: str, size: int) -> None:
        async with AsyncBlobIO(tls_server.url(name), "wb", credential=False, options=options) as file:
            await file.write(bytes(size))

    await asyncio.gather(*(save(f"{number}", 4 * KiB) for number in range(COUNT)))
    await save("large", COUNT * 8 * KiB)

    assert len(tls_server.requests("PUT")) == 2 * COUNT + 1
    assert 1 <= connections_of(tls_server) <= BUDGET // TLS
    assert (Memory.current().used, Memory.current().beside) == (0, 0)
    assert Memory.current().peak <= BUDGET


async def test_save_over_https_beside_files_that_hold_all_memory(tls_server: BlobServer, tls_files: TlsFiles) -> None:
    """Open files keep what they read for as long as they like: nobody waits for that, and a block not for itself."""
    memory = Memory.current()
    held = await memory.take(BUDGET, BUDGET)
    held.settle()
    options = replace(options_of(tls_files), block_size=8 * KiB)

    async with asyncio.timeout(30):
        async with AsyncBlobIO(tls_server.url("a"), "wb", credential=False, options=options) as file:
            await file.write(bytes(20 * KiB))

    assert memory.used == BUDGET
    held.free()


async def test_many_small_files_over_https_share_few_connections(tls_server: BlobServer, tls_files: TlsFiles) -> None:
    """Configuration files, indexes, tokenizers: many coroutines that read one each."""
    for number in range(COUNT):
        tls_server.put_synthetic(f"{number}", 4 * KiB)

    async def read(number: int) -> int:
        url = tls_server.url(f"{number}")
        async with AsyncBlobIO(url, "rb", credential=False, options=options_of(tls_files)) as file:
            return len(await file.read())

    assert await asyncio.gather(*map(read, range(COUNT))) == [4 * KiB] * COUNT

    assert 1 <= connections_of(tls_server) <= BUDGET // TLS
    assert Memory.current().used == 0
    assert Memory.current().peak <= BUDGET
