"""A task may be cancelled at any await: nothing is held afterwards, and the next call is exact.

Which await and how is drawn by hypothesis, which prints what it takes to do it again (``@reproduce_failure``).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azstoragetorch import TransferOptions
from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._transfer.listing import collect
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import FatalBlobIOWriteError
from tests.blobserver import BlobServer, CutBody, Hold, Status, on, synthetic_bytes
from tests.blobserver.wire import ServiceError
from tests.conftest import TlsBlobServer, TlsFiles
from tests.faults.awaits import Awaits, Moment

KiB = 1024
PIECE = 256 * KiB
SIZE = 8 * PIECE + 5
SAMPLES = 12
NAMES = [f"listed/{number:04d}" for number in range(120)]
LIMIT = 4 * PIECE
"""Memory for everything; less than the requests at a time would take, so that some wait for it."""

SOAK = bool(os.environ.get("AZSTORAGETORCH_SOAK"))
EXAMPLES = 100 if SOAK else 10
"""Of each work. Those of one run differ from those of the next; the tox environment ``soak`` takes more at a time."""


pytestmark = pytest.mark.timeout(900 if SOAK else 120)


class Work(Protocol):
    """One thing to cancel."""

    async def prepare(self) -> None:
        """Do what comes before it."""

    async def run(self) -> None:
        """Do it, and check what it brings."""

    async def after(self, *, cancelled: bool) -> None:
        """Do the next thing with what is left, check it, and close."""


@dataclass
class Bench:
    """What works are done with."""

    server: BlobServer
    options: TransferOptions
    warm: bool
    """Whether the file was used before, so that it is connected and knows the blob."""

    def file(self, name: str, mode: Any) -> AsyncBlobIO:
        return AsyncBlobIO(self.server.url(name), mode, credential=False, options=self.options)

    def blob(self, name: str, *, known: bool) -> Blob:
        access = Access(False, self.options)
        url = BlobUrl.parse(self.server.url(name))
        if not known:
            return Blob(url, access)
        version = self.server.version(name)
        return Blob(url, access, size=version.size, etag=version.etag)


class Read:
    """All of a blob, in many ranges, into the caller's memory."""

    def __init__(self, bench: Bench) -> None:
        self.file = bench.file("source", "rb")
        self.start = 0
        self.warm = bench.warm
        self.target = bytearray(SIZE)

    async def prepare(self) -> None:
        if self.warm:
            self.start = 1000
            assert await self.file.read(self.start) == synthetic_bytes(0, self.start)

    async def run(self) -> None:
        assert await self.file.readinto(self.target) == SIZE - self.start
        assert self.target[: SIZE - self.start] == synthetic_bytes(self.start, SIZE)

    async def after(self, *, cancelled: bool) -> None:
        if cancelled:
            self.target.clear()  # a view of it that is left raises BufferError
            assert await self.file.tell() == self.start
        await self.file.seek(self.start)
        assert await self.file.read() == synthetic_bytes(self.start, SIZE)
        await self.file.aclose()


class Stream(Read):
    """Small reads one after the other, fetched ahead."""

    async def run(self) -> None:
        position = self.start
        while data := await self.file.read(40_000):
            assert data == synthetic_bytes(position, position + len(data))
            position += len(data)
        assert position == SIZE

    async def after(self, *, cancelled: bool) -> None:
        position = await self.file.tell()
        assert await self.file.read(100_000) == synthetic_bytes(position, min(position + 100_000, SIZE))
        await super().after(cancelled=False)


class Write:
    """Many blocks, and their commit."""

    mode = "wb"
    size = SIZE

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.server = bench.server
        self.warm = bench.warm
        if self.mode == "wb":
            self.server.put("target", b"previous")
        self.file = bench.file("target", self.mode)

    async def prepare(self) -> None:
        if self.warm:
            await self.file.write(synthetic_bytes(0, min(self.size, 2 * PIECE)))
            await self.file.flush()

    async def run(self) -> None:
        position = await self.file.tell()
        while position < self.size:
            position += await self.file.write(synthetic_bytes(position, min(position + 250_000, self.size)))
            if position == 1_000_000:
                await self.file.flush()
        await self.file.aclose()
        assert self.file.committed
        assert self.server.get("target") == synthetic_bytes(0, self.size)

    async def after(self, *, cancelled: bool) -> None:
        if cancelled:
            position = await self.closed_at()
            self.server.wait_idle()  # a commit that was cancelled may have arrived
            found = self.content()
            # The commit may have been done when it was cancelled; what is there is whole in any case.
            whole = synthetic_bytes(0, position if self.file.committed else self.size)
            assert found in (b"previous" if self.mode == "wb" else b"", whole)
            if self.file.committed:
                assert found == whole
        self.remove()
        async with self.bench.file("target", "xb") as file:
            await file.write(synthetic_bytes(7, 7 + 3 * PIECE))
        assert self.server.get("target") == synthetic_bytes(7, 7 + 3 * PIECE)
        self.remove()

    def content(self) -> bytes:
        """Return what the blob holds, nothing where there is none."""
        try:
            return self.server.get("target")
        except KeyError:
            return b""

    def remove(self) -> None:
        with contextlib.suppress(ServiceError):
            self.server.delete("target")

    async def closed_at(self) -> int:
        """Close the file as somebody does who goes on after the cancellation, and return the bytes it has."""
        if self.file.closed:
            return 0
        position = await self.file.tell()
        with contextlib.suppress(FatalBlobIOWriteError):  # a write was cancelled: nobody knows what it took
            await self.file.aclose()
        return position


class Create(Write):
    mode = "xb"


class Put(Write):
    """Content of a single Put Blob."""

    size = 1000


class List:
    """A container, by several ranges of names."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def prepare(self) -> None:
        pass

    async def run(self) -> None:
        url = ContainerUrl.parse(self.bench.server.container_url)
        container = await AzureContainer.open(url, False, self.bench.options, TransferStats())
        found = await collect(container, "listed/", page_size=9)
        assert [name for chunk in found.chunks for name in (chunk.name(i) for i in range(len(chunk)))] == NAMES

    async def after(self, *, cancelled: bool) -> None:
        await self.run()


class Iterate:
    """Samples, fetched ahead of a coroutine transform that reads them once more."""

    known = True

    def __init__(self, bench: Bench) -> None:
        async def transform(blob: Blob) -> tuple[str, bytes]:
            async with blob.areader() as file:
                return blob.blob_name, await file.read()

        self.blobs = [bench.blob(f"sample{number}", known=self.known) for number in range(SAMPLES)]
        self.loading = checked_loading(Access(False, bench.options), transform, 5 if bench.warm else 1, "raise")

    async def prepare(self) -> None:
        pass

    async def run(self) -> None:
        number = 0
        async with aclosing(self.loading.samples_async(self.blobs)) as samples:
            async for name, data in samples:
                assert name == f"sample{number}"
                assert data == synthetic_bytes(0, sample_size(number), seed=number)
                number += 1
        assert number == SAMPLES

    async def after(self, *, cancelled: bool) -> None:
        await self.run()


class Discover(Iterate):
    """Samples whose sizes nobody knows."""

    known = False


def sample_size(number: int) -> int:
    """Return the size of a sample: some have several ranges, some are empty."""
    return number * 116_000 % 800_000


WORKS = [Read, Stream, Write, Create, Put, List, Iterate, Discover]
SECURE = [Read, Write, Discover]
"""Also over https, where ending a connection takes more than one step."""
CASES = [
    *(pytest.param("http", kind, id=f"http-{kind.__name__.lower()}") for kind in WORKS),
    *(pytest.param("https", kind, id=f"https-{kind.__name__.lower()}") for kind in SECURE),
]


@pytest.fixture
def filled(scheme: str, tls_files: TlsFiles) -> Iterator[BlobServer]:
    with BlobServer() if scheme == "http" else TlsBlobServer(tls_files) as server:
        server.put_synthetic("source", SIZE)
        for number in range(SAMPLES):
            server.put_synthetic(f"sample{number}", sample_size(number), seed=number)
        for name in NAMES:
            server.put(name, b"")
        yield server
    assert not server.malformed
    assert not server.errors


def check(bench: Bench, kind: type[Any], number: int, moment: Moment, *, twice: bool) -> int:
    """Cancel a work of ``kind`` at one await, look at what is left, and return how many awaits there were."""
    awaits = Awaits()

    async def cancelled() -> int:
        work: Work = kind(bench)
        await work.prepare()
        end = await awaits.cancel(work.run(), number, moment, twice=twice)
        if end.error is not None:
            raise end.error
        if twice:  # it could not wait for what it had cancelled
            await others_ended()
        gc.collect()  # up to Python 3.12 a TaskGroup that is cancelled leaves a reference cycle
        await work.after(cancelled=end.cancelled)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        memory = Memory.current()
        assert memory.used == 0
        lease = memory.try_take(LIMIT, LIMIT)  # all of it, and nobody stands in the queue
        assert lease is not None
        lease.free()
        await no_connection_lost(bench)
        return end.awaits

    with asyncio.Runner() as runner:
        awaits.install(runner.get_loop())
        count = runner.run(cancelled())
    bench.server.wait_closed()
    return count


async def no_connection_lost(bench: Bench) -> None:
    """Use as many connections at once as are open: if one of them is neither closed nor in the pool, one more opens."""
    server = bench.server
    server.wait_idle()
    count = server.connections
    hold = Hold()
    rule = server.fault(on("GET", blob="sample1"), hold, times=None)
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(bench.blob("sample1", known=True).aread())
        await asyncio.to_thread(rule.wait, count)
        hold.release()
    rule.remove()
    server.wait_closed(count)


async def others_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, late = await asyncio.wait(others, timeout=10)
        assert not late


@pytest.mark.parametrize(("scheme", "kind"), CASES)
def test_cancelled_at_any_await(kind: type[Any], filled: BlobServer) -> None:
    """A timeout, a failing sibling or Ctrl-C cancels wherever a task happens to be; that must cost nothing later."""
    ca_file = getattr(filled, "ca_file", None)
    whole: dict[tuple[bool, int], int] = {}

    @settings(max_examples=EXAMPLES, deadline=None, print_blob=True, database=None)
    @given(
        place=st.floats(0, 1),
        moment=st.sampled_from(["waiting", "granted"]),
        twice=st.booleans(),
        warm=st.booleans(),
        in_flight=st.sampled_from([1, 4]),
        fault=st.sampled_from(["none", "none", "busy", "cut", "late"]),
    )
    def cancelled(place: float, moment: Moment, twice: bool, warm: bool, in_flight: int, fault: str) -> None:
        options = TransferOptions(
            range_size=PIECE,
            block_size=PIECE,
            in_flight=in_flight,
            readahead=4,
            memory_budget=LIMIT,
            ca_file=ca_file,
        )
        bench = Bench(filled, options, warm)
        key = (warm, in_flight)
        if key not in whole:
            whole[key] = check(bench, kind, 0, moment, twice=False)
        spoil(filled, fault)
        try:
            check(bench, kind, 1 + int(place * whole[key]), moment, twice=twice)
        finally:
            filled.clear()
            filled.latency = 0.0

    cancelled()


def spoil(server: BlobServer, fault: str) -> None:
    """Let some requests fail, so that a task may be found in the middle of asking again."""
    match fault:
        case "busy":
            server.fault(on(), Status(503, "ServerBusy"), times=3, nth=2)
        case "cut":
            server.fault(on("GET"), CutBody(100), times=3, nth=2)
        case "late":
            server.latency = 0.003
