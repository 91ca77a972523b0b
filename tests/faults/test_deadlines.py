"""No call outlasts its deadline, whatever it waits for: the table in docs/reliability.md, stage by stage.

Answers that are late, stop or never come are in the tables of cases beside this. Here is what is waited for before and
around them: certificates, names, handshakes, tokens, proxies, room in the pool and in memory, and the ends of files.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from azstoragetorch import TransferOptions, TransferStats
from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._transfer.listing import collect
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobIntegrityError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import Action, BlobServer, Hang, StallUpload, Status, on, synthetic_bytes
from tests.blobserver.link import Exchange
from tests.blobserver.wire import Response
from tests.conftest import TlsBlobServer
from tests.processes.script import Script

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB
DEADLINE = 1.0
SLACK = 1.5
"""Seconds that a loaded machine may take to notice; an idle one takes 0.1. A call without a deadline takes longer than
any test, and one with two of them more than it says does not pass either."""

OPTIONS = TransferOptions(
    range_size=64 * KiB, block_size=64 * KiB, in_flight=4, connect_timeout=0.5, idle_timeout=0.5, deadline=DEADLINE
)


@contextmanager
def within(seconds: float, least: float = 0.0) -> Iterator[None]:
    """Fail if the block takes longer than this and some slack, or is given up before ``least`` seconds."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    print(f"took {took:.2f} s")
    assert least <= took < seconds + SLACK, f"took {took:.1f} s, at most {seconds:g} s are documented"


def reader(url: str, options: TransferOptions = OPTIONS, credential: Any = False) -> AsyncBlobIO:
    return AsyncBlobIO(url, "rb", credential=credential, options=options)


@contextmanager
def silent_listener() -> Iterator[int]:
    """Accept connections, as the kernel does for everybody, and never say a word; yields the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


async def test_tls_handshake_that_is_not_answered() -> None:
    """A port that is open and a process behind it that hangs: connect_timeout, again and again, until the deadline."""
    with silent_listener() as port, within(DEADLINE), pytest.raises(BlobTimeoutError, match="connect_timeout"):
        await reader(f"https://127.0.0.1:{port}/devstoreaccount1/data/blob").read()


class Stuck:
    """A credential that never gets a token."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Stuck:
        return self

    async def __aexit__(self, *details: object) -> None:
        pass


class StuckThread:
    """The same without asyncio."""

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.given_up.wait()
        return AccessToken("late", int(time.time()) + 3600)


@pytest.mark.parametrize("kind", [Stuck, StuckThread])
async def test_token_that_does_not_come(kind: type[Any], tls_server: TlsBlobServer) -> None:
    """Many readers wait for one token; the deadline of each is its own, and they do not add up."""
    options = TransferOptions(deadline=DEADLINE, ca_file=tls_server.ca_file)
    credential = kind()
    with within(DEADLINE):
        reads = [reader(tls_server.url("blob"), options, credential).read() for _ in range(5)]
        errors = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(error) for error in errors] == [BlobTimeoutError] * 5
    assert not tls_server.requests()
    if kind is StuckThread:
        credential.given_up.set()


async def test_token_that_fails(tls_server: TlsBlobServer) -> None:
    """What the credential says is final: it has retries of its own."""

    class Refused(Stuck):
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            raise LookupError("no identity here")

    options = TransferOptions(ca_file=tls_server.ca_file)
    with within(0), pytest.raises(BlobAccessError, match="no token"):
        await reader(tls_server.url("blob"), options, Refused()).read()


def test_name_lookup_that_hangs(server: BlobServer, tmp_path: Path) -> None:
    """A name server that swallows questions holds a thread for minutes, and neither the read nor the exit."""
    with Script(
        """
        import socket, time
        from azstoragetorch.exceptions import BlobTimeoutError

        asked = threading.Event()

        def hang(*question, **more):
            asked.set()
            time.sleep(3600)

        socket.getaddrinfo = hang
        options = TransferOptions(deadline=1)
        file = BlobIO("https://account.blob.core.windows.net/data/blob", "rb", credential=False, options=options)
        say("reading")
        try:
            file.read()
        except BlobTimeoutError:
            say("timed out", asked.is_set())
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "reading"
        assert script.line() == "timed out True"
        assert script.took < DEADLINE + 2 * SLACK, "the imports of a first read included"
        ended = script.end()
        assert ended.silently() == []
        assert ended.seconds < 2 * SLACK, "1.5 s are documented"


def test_proxy_that_does_not_answer(server: BlobServer, tmp_path: Path) -> None:
    """A proxy is asked for the connection and says nothing; connect_timeout is over by then."""
    with (
        silent_listener() as port,
        Script(
            f"""
        from azstoragetorch.exceptions import BlobTimeoutError

        for name in [*os.environ]:
            if name.lower().endswith("_proxy"):
                del os.environ[name]  # of no_proxy, too: this host must never be asked for directly
        os.environ["https_proxy"] = "http://127.0.0.1:{port}"
        options = TransferOptions(deadline=1, connect_timeout=0.5)
        file = BlobIO("https://account.blob.core.windows.net/data/blob", "rb", credential=False, options=options)
        say("reading")
        try:
            file.read()
        except BlobTimeoutError:
            say("timed out")
        """,
            tmp_path,
            server,
        ) as script,
    ):
        assert script.line() == "reading"
        assert script.line() == "timed out"
        assert script.took < DEADLINE + 2 * SLACK, "the imports of a first read included"
        assert script.end().silently() == []


async def test_loop_whose_threads_are_all_busy(server: BlobServer) -> None:
    """The loop is the user's, and so are its threads: certificates and checksums are read in one of them."""
    server.put("blob", b"content")
    freed = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        busy = loop.run_in_executor(None, freed.wait)
        try:
            with within(DEADLINE), pytest.raises(BlobTimeoutError, match="thread"):
                await reader(server.url("blob")).read()
        finally:
            freed.set()
        await busy
        assert await reader(server.url("blob")).read() == b"content", "and the next one finds them"

        freed.clear()
        busy = loop.run_in_executor(None, freed.wait)
        try:
            file = AsyncBlobIO(server.url("made"), "wb", credential=False, options=TransferOptions(deadline=DEADLINE))
            await file.write(bytes(100 * KiB))
            with within(DEADLINE), pytest.raises(BlobTimeoutError, match="thread"):
                await file.aclose()
        finally:
            freed.set()
        await busy


async def test_listing_whose_threads_are_all_busy(server: BlobServer) -> None:
    """What was listed is put together in a thread; pages are parsed in one, as part of their requests."""
    server.put("blob", b"content")
    freed = threading.Event()
    loop = asyncio.get_running_loop()
    options = TransferOptions(deadline=DEADLINE)
    container = await AzureContainer.open(ContainerUrl.parse(server.container_url), False, options, TransferStats())
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)

        def listed(count: int) -> None:
            loop.run_in_executor(None, freed.wait)

        try:
            with within(DEADLINE), pytest.raises(BlobTimeoutError, match=r"listing http.* no thread"):
                await collect(container, None, deadline=DEADLINE, listed=listed)
        finally:
            freed.set()
        assert len((await collect(container, None, deadline=DEADLINE)).chunks) == 1


class Pause(Action):
    """Take nothing of what is sent for so many seconds, and then all of it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def on_head(self, exchange: Exchange) -> Response | None:
        exchange.upload_cut = 0, partial(exchange.link.pause, self._seconds)
        return None


@pytest.mark.parametrize(("min_rate", "requests"), [(0, 1), (1, 2)], ids=["off", "on"])
def test_watchdog_of_uploads_can_be_turned_off(server: BlobServer, min_rate: int, requests: int) -> None:
    """Behind a link that stands still at times a block would be sent again and again; then only its deadline counts."""
    content = synthetic_bytes(0, 8 * MiB)  # more than the buffers of two sockets hold
    server.fault(on("PUT"), Pause(1.2))
    options = TransferOptions(block_size=16 * MiB, idle_timeout=0.4, deadline=20, min_rate=min_rate)
    with BlobIO(server.url("blob"), "wb", credential=False, options=options) as file:
        file.write(content)
    assert server.get("blob") == content
    assert len(server.requests("PUT")) == requests


async def test_room_in_the_pool_of_connections(server: BlobServer) -> None:
    """More requests than a loop has connections, and none is answered: those that only wait do not wait for longer."""
    server.put("blob", b"content")
    rule = server.fault(on("GET"), Hang(), times=None)
    with within(DEADLINE):
        errors = await asyncio.gather(*(reader(server.url("blob")).read() for _ in range(300)), return_exceptions=True)
    assert {type(error) for error in errors} == {BlobTimeoutError}
    assert rule.hits <= 3 * 256
    assert Memory.current().used == 0


async def test_room_in_memory(server: BlobServer) -> None:
    """Whoever waits for memory waits for transfers, and each of those ends."""
    server.put_synthetic("blob", 4 * MiB)
    server.fault(on("GET"), Hang(), times=None)
    options = TransferOptions(memory_budget=MiB, range_size=MiB, idle_timeout=0.5, deadline=DEADLINE)
    count = 3
    with within(count * DEADLINE):
        reads = [reader(server.url("blob"), options).readline() for _ in range(count)]
        errors = await asyncio.gather(*reads, return_exceptions=True)
    assert {type(error) for error in errors} == {BlobTimeoutError}
    assert Memory.current().used == 0


async def test_small_save_that_waits_for_memory(server: BlobServer) -> None:
    """Three deadlines: a buffer while a read holds all of them, Put Blob, and the question what became of it."""
    server.put_synthetic("blob", 4 * MiB)
    hang = server.fault(on(), Hang(), times=None)
    options = TransferOptions(memory_budget=MiB, range_size=MiB, block_size=64 * KiB, deadline=DEADLINE)
    reading = asyncio.create_task(reader(server.url("blob"), options).read())
    await asyncio.to_thread(hang.wait)
    with within(3 * DEADLINE, 2.5 * DEADLINE), pytest.raises(CommitOutcomeUnknownError):
        async with AsyncBlobIO(server.url("target"), "wb", credential=False, options=options) as file:
            await file.write(bytes(100))
    with pytest.raises(BlobTimeoutError):
        await reading
    assert Memory.current().used == 0


async def test_block_that_cannot_be_allocated_is_not_counted() -> None:
    """Bytes that the machine does not have must not stay on the account, where everybody would wait for them."""
    memory = Memory.current()
    with pytest.raises(MemoryError):
        await memory.take(1 << 60, MiB)
    assert memory.used == 0
    lease = await asyncio.wait_for(memory.take(MiB, MiB), 10)
    lease.free()


WRITES: dict[str, tuple[Any, int, int, type[AZStorageTorchError]]] = {
    "put blob": (on("PUT", ""), 1000, 1, CommitOutcomeUnknownError),
    "put blob and what became of it": (on(), 1000, 2, CommitOutcomeUnknownError),
    "put block": (on("PUT", "block"), 200_000, 1, FatalBlobIOWriteError),
    "put block list": (on("PUT", "blocklist"), 200_000, 1, CommitOutcomeUnknownError),
    "put block list and what became of it": (on(comp="blocklist"), 200_000, 2, CommitOutcomeUnknownError),
}


@pytest.mark.parametrize("what", WRITES)
def test_close_that_is_not_answered(what: str, server: BlobServer) -> None:
    """The end of a save: one deadline for what is on its way, one for the commit, one to ask what became of it."""
    match, size, deadlines, error = WRITES[what]
    server.fault(match, Hang(), times=None)
    file = BlobIO(server.url("target"), "wb", credential=False, options=OPTIONS)
    file.write(synthetic_bytes(0, size))
    with within(deadlines * DEADLINE, deadlines * DEADLINE * 0.8), pytest.raises(error):
        file.close()
    assert file.closed
    with within(0):
        file.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_abort_waits_for_nobody(scheme: str, server: BlobServer, tls_server: TlsBlobServer) -> None:
    """Also where the other side has stopped reading in the middle of a block, with all limits at their defaults."""
    chosen = server if scheme == "http" else tls_server
    stalled = chosen.fault(on("PUT", "block"), StallUpload(1000), times=None)
    options = TransferOptions(ca_file=getattr(chosen, "ca_file", None))
    file = BlobIO(chosen.url("target"), "wb", credential=False, options=options)
    file.write(bytes(64 * MiB))
    stalled.wait()
    with within(0):
        file.abort()
    chosen.drop_connections()


@pytest.mark.parametrize("end", ["close", "collect", "aclose"])
def test_leaving_a_reader_waits_for_nobody(end: str, server: BlobServer) -> None:
    """A window that was fetched ahead and that nobody wants any more, with all limits at their defaults."""
    server.put_synthetic("blob", 64 * MiB)
    hang = server.fault(on("GET", covers=48 * MiB), Hang(), times=None)

    async def leave() -> None:
        file = AsyncBlobIO(server.url("blob"), "rb", credential=False)
        for _ in range(5):
            await file.read(MiB)
        await asyncio.to_thread(hang.wait)
        with within(0):
            await file.aclose()
            await aclose()

    if end == "aclose":
        asyncio.run(leave())
        return
    file = BlobIO(server.url("blob"), "rb", credential=False)
    for _ in range(5):
        file.read(MiB)
    hang.wait()
    with within(0):
        if end == "close":
            file.close()
        del file
        server.wait_idle()


async def build(server: BlobServer) -> object:
    return await BlobListing.abuild(server.container_url, credential=False, options=OPTIONS)


async def test_page_that_does_not_come(server: BlobServer) -> None:
    """Each page has the deadline of a request: here the first, of 5,000 blobs, and the second."""
    server.put_listing(12_000)
    server.fault(on("GET", "list"), Hang(), times=None, nth=2)
    with within(2 * DEADLINE), pytest.raises(BlobTimeoutError):
        await build(server)


async def test_pages_that_lead_in_a_circle(server: BlobServer) -> None:
    """Page one says that two follows, two says that one does: each is answered, and the listing would never end."""
    first = b"<EnumerationResults><Blobs/><NextMarker>one</NextMarker></EnumerationResults>"
    second = b"<EnumerationResults><Blobs/><NextMarker>two</NextMarker></EnumerationResults>"
    to_two = on("GET", "list", when=lambda request: request.query.get("marker") == "one")
    server.fault(to_two, Status(200, body=second), times=None)
    server.fault(on("GET", "list"), Status(200, body=first), times=None)
    with within(DEADLINE), pytest.raises(BlobIntegrityError, match="followed by itself"):
        await build(server)
    assert len(server.requests()) < 50


async def test_sample_that_does_not_come(server: BlobServer) -> None:
    """One sample hangs: its error comes after its own deadline, and the samples behind it were fetched meanwhile."""
    for number in range(8):
        server.put_synthetic(f"sample{number}", 1000, seed=number)
    server.fault(on("GET", blob="sample2"), Hang(), times=None)
    access = Access(False, OPTIONS)
    loading = checked_loading(access, None, 8, lambda blob, error: type(error))
    blobs = [Blob(BlobUrl.parse(server.url(f"sample{number}")), access) for number in range(8)]
    with within(DEADLINE):
        found = [sample async for sample in loading.samples_async(blobs)]
    assert found[2] is BlobTimeoutError
    assert sum(isinstance(sample, dict) for sample in found) == 7


def test_signal_to_give_up_is_obeyed_by_another_thread(server: BlobServer) -> None:
    """A watchdog aborts a save that another thread is in the middle of; it waits for that operation, not for ever."""
    hang = server.fault(on("PUT", "block"), Hang(), times=None)
    file = BlobIO(server.url("target"), "wb", credential=False, options=OPTIONS)
    failures: list[Exception] = []

    def save() -> None:
        try:
            file.write(bytes(MiB))
        except FatalBlobIOWriteError as error:
            failures.append(error)

    saving = threading.Thread(target=save)
    with within(2 * DEADLINE):
        saving.start()
        hang.wait()
        file.abort()
        saving.join()
    assert failures
    assert file.closed
    assert not file.committed
