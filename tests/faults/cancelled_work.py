"""What a test cancels: reads, writes, listings and iterations, each of which says how it goes on afterwards."""

from __future__ import annotations

__all__ = [
    "LIMIT",
    "NAMES",
    "PIECE",
    "SAMPLES",
    "SAS",
    "SIZE",
    "Bench",
    "Create",
    "Discover",
    "Iterate",
    "List",
    "Put",
    "Read",
    "Stream",
    "Work",
    "Write",
    "sample_size",
]

import contextlib
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from azstoragetorch import TransferOptions
from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._transfer.listing import collect
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import FatalBlobIOWriteError
from tests.blobserver import BlobServer, synthetic_bytes
from tests.blobserver.wire import ServiceError
from tests.secrets.canaries import SIGNATURE

KiB = 1024
PIECE = 256 * KiB
SIZE = 8 * PIECE + 5
SAMPLES = 12
NAMES = [f"listed/{number:04d}" for number in range(120)]
LIMIT = 4 * PIECE
"""Memory for everything; less than the requests at a time would take, so that some wait for it."""

SAS = f"sp=rwdl&sig={quote(SIGNATURE, safe='')}"


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

    def url(self, name: str) -> str:
        return f"{self.server.url(name)}?{SAS}"

    def file(self, name: str, mode: Any) -> AsyncBlobIO:
        return AsyncBlobIO(self.url(name), mode, credential=False, options=self.options)

    def blob(self, name: str, *, known: bool) -> Blob:
        access = Access(False, self.options)
        url = BlobUrl.parse(self.url(name))
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
        else:
            self.remove("target")
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
        # Under another name: a commit that was cancelled on its way may be read by the server only now.
        async with self.bench.file("next", "xb") as file:
            await file.write(synthetic_bytes(7, 7 + 3 * PIECE))
        assert self.server.get("next") == synthetic_bytes(7, 7 + 3 * PIECE)
        self.remove("next")

    def content(self) -> bytes:
        """Return what the blob holds, nothing where there is none."""
        try:
            return self.server.get("target")
        except KeyError:
            return b""

    def remove(self, name: str) -> None:
        with contextlib.suppress(ServiceError):
            self.server.delete(name)

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
        url = ContainerUrl.parse(f"{self.bench.server.container_url}?{SAS}")
        container = await AzureContainer.open(url, False, self.bench.options, TransferStats())
        found = await collect(container, "listed/", deadline=30, page_size=9)
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
