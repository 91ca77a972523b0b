"""``verify="range"``: what is read is what the service says it holds, or there is a typed error."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeAlias, TypeVar

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch._values.options import has_crc64
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import BlobIntegrityError, BlobServiceError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, CutBody, FlipBit, Header, Status, on, synthetic_bytes
from tests.blobserver.wire import Request
from tests.data.blobs import access, listed, named
from tests.files.leaks import no_leaks

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("unacquainted", "no_blocking_call")]

P = ParamSpec("P")
T = TypeVar("T")

KiB = 1024
MiB = 1024 * KiB
RANGE = 128 * KiB
"""More than is hashed on the event loop."""
SIZE = 5 * RANGE + 33
VERIFIED = TransferOptions(range_size=RANGE, memory_budget=2 * MiB, in_flight=4, verify="range")
BRIEF = replace(VERIFIED, deadline=1)
"""What would be asked for eight times, with pauses of 6 s together, ends sooner."""
ANSWERED = {"crc64": "x-ms-content-crc64", "md5": "content-md5"}
WITHOUT_EXTRA = "azure-storage-extensions is missing: the dependency group of the tests has it, for every Python"
ASKED = {"crc64": "x-ms-range-get-content-crc64", "md5": "x-ms-range-get-content-md5"}

Read: TypeAlias = Callable[[BlobServer], Awaitable[bytes]]


async def by_read(server: BlobServer) -> bytes:
    def whole() -> bytes:
        with BlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file:
            return file.read()

    return await asyncio.to_thread(whole)


async def by_readinto(server: BlobServer) -> bytes:
    async with AsyncBlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file:
        target = bytearray(SIZE)
        assert await file.readinto(target) == SIZE
        return bytes(target)


async def by_small_reads(server: BlobServer) -> bytes:
    pieces = []
    async with AsyncBlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file:
        while piece := await file.read(50_000):
            pieces.append(piece)
    return b"".join(pieces)


async def by_listed_blob(server: BlobServer) -> bytes:
    return await listed(server, "blob", access(options=VERIFIED)).aread()


async def by_named_blob(server: BlobServer) -> bytes:
    return await named(server, "blob", access(options=VERIFIED)).aread()


READS: list[Read] = [by_read, by_readinto, by_small_reads, by_listed_blob, by_named_blob]


@pytest.fixture
async def unacquainted() -> AsyncIterator[None]:
    """What the endpoint can compute is remembered with its connections, and ports come again."""
    yield
    await aclose()
    await asyncio.to_thread(run, aclose)


def asks(kind: str) -> Callable[[Request], bool]:
    return lambda request: ASKED[kind] in request.headers


def without_crc64(server: BlobServer) -> None:
    """Be a service that knows MD5 only, and does not say so."""
    server.fault(on("GET", when=asks("crc64")), Header(ANSWERED["crc64"], None), times=None)


@pytest.fixture(params=["crc64", "md5"])
def kind(request: pytest.FixtureRequest, server: BlobServer) -> str:
    """The checksum that client and server agree on."""
    chosen: str = request.param
    if chosen == "md5":
        without_crc64(server)
    else:
        assert has_crc64(), WITHOUT_EXTRA
    return chosen


@pytest.mark.parametrize("read", READS)
async def test_flipped_byte_is_asked_for_again(server: BlobServer, kind: str, read: Read) -> None:
    """A bad memory chip in a router flips bits that TCP's checksum does not see."""
    server.put_synthetic("blob", SIZE)
    flipped = server.fault(on("GET", covers=3 * RANGE + 5, when=asks(kind)), FlipBit(100))

    assert await read(server) == synthetic_bytes(0, SIZE)
    assert flipped.hits == 1
    taken = [record for record in server.requests("GET") if ASKED[kind] in record.headers and not record.fault]
    assert sum(record.bytes_sent for record in taken) >= SIZE


@pytest.mark.parametrize("size", [1, 1000, 70_000, 130_000])
async def test_blobs_of_one_range_are_verified_alike(server: BlobServer, kind: str, size: int) -> None:
    """Short content is hashed on the loop, long content in a thread, and a listing may have named the size."""
    server.put_synthetic("blob", size)
    for blob in (listed(server, "blob", access(options=VERIFIED)), named(server, "blob", access(options=VERIFIED))):
        flipped = server.fault(on("GET", when=asks(kind)), FlipBit(size - 1))
        assert await blob.aread() == synthetic_bytes(0, size)
        assert flipped.hits == 1


async def test_empty_blob_has_nothing_to_verify(server: BlobServer) -> None:
    """The service answers 416 for each of its ranges, without a checksum."""
    server.put("blob", b"")
    for read in (by_read, by_small_reads, by_listed_blob, by_named_blob):
        assert await read(server) == b""


def test_byte_that_is_always_flipped_ends_in_an_error(server: BlobServer, kind: str) -> None:
    """The broken thing may be the machine itself: not for ever, and never as content."""
    server.put_synthetic("blob", SIZE)
    with no_leaks(server), BlobIO(server.url("blob"), "rb", credential=False, options=BRIEF) as file:
        assert file.read(10) == synthetic_bytes(0, 10)  # agree on the checksum
        flipped = server.fault(on("GET", covers=3 * RANGE + 5), FlipBit(0), times=None)
        file.seek(3 * RANGE)
        with pytest.raises(BlobIntegrityError, match=f"do not have the {kind.upper()}"):
            file.read(10)
        assert flipped.hits >= 2
        file.seek(0)
        assert file.read(3 * RANGE) == synthetic_bytes(0, 3 * RANGE)


def test_nothing_is_compared_unless_asked_for(server: BlobServer) -> None:
    """Hashing costs as much as receiving; over https it would only repeat what TLS does."""
    server.put_synthetic("blob", SIZE)
    server.fault(on("GET"), FlipBit(0))
    with BlobIO(server.url("blob"), "rb", credential=False) as file:
        assert file.read() != synthetic_bytes(0, SIZE)
    assert not any(name in record.headers for record in server.requests() for name in ASKED.values())


def test_cut_answer_starts_its_range_over(server: BlobServer, kind: str) -> None:
    """Half a range has no checksum, so half a range is nothing."""
    server.put_synthetic("blob", SIZE)
    cut = server.fault(on("GET", covers=3 * RANGE, when=asks(kind)), CutBody(1000, "reset"))
    with BlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file:
        assert file.read() == synthetic_bytes(0, SIZE)
    assert cut.hits == 1
    (lost,) = [record for record in server.requests("GET") if "CutBody" in record.fault]
    again = [record for record in server.requests("GET") if record.range == lost.range and record is not lost]
    assert [record.bytes_sent for record in again if not record.fault] == [RANGE]


@pytest.mark.parametrize("value", ["not base64", "AAAA"])
def test_checksum_that_cannot_be_right_is_not_believed(server: BlobServer, kind: str, value: str) -> None:
    """Whichever of the two was changed on the way, they do not belong together."""
    server.put("blob", b"content")
    wrong = server.fault(on("GET", when=asks(kind)), Header(ANSWERED[kind], value), times=None)
    with BlobIO(server.url("blob"), "rb", credential=False, options=BRIEF) as file:
        with pytest.raises(BlobIntegrityError):
            file.read()
        assert wrong.hits >= 2
        wrong.remove()
        assert file.read() == b"content"


def test_service_without_checksums_is_an_error_at_once(server: BlobServer) -> None:
    """Who asked for verified bytes must not get others, nor wait: asking again brings the same."""
    server.put("blob", b"content")
    without_crc64(server)
    server.fault(on("GET", when=asks("md5")), Header("Content-MD5", None), times=None)
    with no_leaks(server), BlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file:
        for _ in range(2):
            with pytest.raises(BlobIntegrityError, match=r"no checksum .* without verify='range'"):
                file.read()
    assert len([record for record in server.requests() if ASKED["md5"] in record.headers]) == 2


REFUSALS = {
    "ignored": Header(ANSWERED["crc64"], None),
    "as the emulator refuses it": Status(500, "FeatureNotSupported"),
    "as a bad header": Status(400, "UnsupportedHeader"),
    "as not implemented": Status(501, "NotImplemented"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_service_without_crc64_is_asked_for_md5_ever_after(server: BlobServer, how: str) -> None:
    """One request more for an endpoint, and not for every range or every blob."""
    assert has_crc64(), WITHOUT_EXTRA
    server.put_synthetic("blob", SIZE)
    server.fault(on("GET", when=asks("crc64")), REFUSALS[how], times=None)
    for _ in range(2):
        with BlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file:
            assert file.read() == synthetic_bytes(0, SIZE)
    kinds = [[kind for kind in ASKED if ASKED[kind] in record.headers] for record in server.requests()]
    assert kinds[:2] == [["crc64"], ["md5"]]
    assert all(kind == ["md5"] for kind in kinds[1:])


def test_error_that_is_none_of_the_checksum_is_told(server: BlobServer) -> None:
    """It was taken for a refusal of CRC64 at first; asked otherwise the service says it again."""
    server.put("blob", b"content")
    server.fault(on("GET"), Status(400, "InvalidQueryParameterValue"), times=None)
    with (
        BlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED) as file,
        pytest.raises(BlobServiceError, match="400 InvalidQueryParameterValue"),
    ):
        file.read()
    assert len(server.requests()) <= 2


@pytest.mark.parametrize(("size", "start"), [(20 * MiB + 1, 0), (20 * MiB, 100), (20 * MiB, 5 * MiB), (6 * MiB, 0)])
async def test_no_range_is_larger_than_the_service_computes_checksums_of(
    server: BlobServer, size: int, start: int
) -> None:
    """4 MiB; it answers 400 to more. With the default sizes, for every way to read."""
    server.put_synthetic("blob", size)
    options = TransferOptions(verify="range")
    content = synthetic_bytes(start, size)
    async with AsyncBlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        await file.seek(start)
        assert await file.read() == content
    async with AsyncBlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        await file.seek(start)
        assert await file.read(8 * MiB) == content[: 8 * MiB]
        assert await file.read(size) == content[8 * MiB :]
    for blob in (listed(server, "blob", access(options=options)), named(server, "blob", access(options=options))):
        assert (await blob.aread())[start:] == content
    ranges = [record.range for record in server.requests() if record.range is not None]
    bounds = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in ranges]
    assert max(last + 1 - first for first, last in bounds) == 4 * MiB
    assert {record.status for record in server.requests()} == {206}


async def test_the_emulator_verifies_too(container_url: str) -> None:
    """It refuses CRC64 and computes MD5."""
    base, _, sas = container_url.partition("?")
    url = f"{base}/blob?{sas}"
    async with AsyncBlobIO(url, "wb") as file:
        await file.write(synthetic_bytes(0, 9 * MiB))
    async with AsyncBlobIO(url, "rb", options=TransferOptions(verify="range")) as file:
        assert await file.read() == synthetic_bytes(0, 9 * MiB)


class Gated(ThreadPoolExecutor):
    """One thread, whose work begins or ends when a test lets it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.before = threading.Event()
        self.after = threading.Event()
        self.done = threading.Event()
        self.submitted = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self.submitted += 1

        def work() -> T:
            self.before.wait(20)
            result = fn(*args, **kwargs)
            self.done.set()
            self.after.wait(20)
            return result

        return super().submit(work)

    def open(self) -> None:
        self.before.set()
        self.after.set()


@pytest.fixture
async def gated() -> AsyncIterator[Gated]:
    """Become the executor of the running loop."""
    executor = Gated()
    asyncio.get_running_loop().set_default_executor(executor)
    yield executor
    executor.open()


async def opened(server: BlobServer) -> AsyncBlobIO:
    """Return a file that is about to be hashed in a thread: certificates, the other user of threads, are read."""
    server.put_synthetic("blob", SIZE)
    without_crc64(server)
    file = AsyncBlobIO(server.url("blob"), "rb", credential=False, options=VERIFIED)
    await file.read(1)
    return file


async def hashing(gated: Gated, submitted: int) -> None:
    while gated.submitted == submitted:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_long_content_is_hashed_in_a_thread_and_short_content_is_not(server: BlobServer, gated: Gated) -> None:
    """128 KiB of MD5 would keep everybody else on the loop waiting for 0.3 ms, a hop for 3 KiB would cost more."""
    gated.open()
    async with await opened(server) as file:
        before = gated.submitted
        await file.seek(2 * RANGE)
        await file.readinto(bytearray(RANGE))
        assert gated.submitted == before + 1
    server.put_synthetic("small", 3000)
    await named(server, "small", access(options=VERIFIED)).aread()
    assert gated.submitted == before + 1


@pytest.mark.parametrize("begun", [False, True], ids=["waits for a thread", "is in a thread"])
async def test_cancelled_read_leaves_no_thread_with_the_memory(server: BlobServer, gated: Gated, begun: bool) -> None:
    """The caller may free it, or fill it with something else. A thread that has begun is waited for: 10 ms at most."""
    gated.open()
    async with await opened(server) as file:
        gated.before.clear()
        gated.after.clear()
        gated.done.clear()
        target, submitted = bytearray(RANGE), gated.submitted
        await file.seek(2 * RANGE)
        reading = asyncio.create_task(file.readinto(target))
        await hashing(gated, submitted)
        if begun:
            gated.before.set()
            await asyncio.get_running_loop().run_in_executor(other, gated.done.wait, 20)
        reading.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        if begun:
            assert not reading.done()
            reading.cancel()  # impatience does not help
            for _ in range(50):
                await asyncio.sleep(0)
            assert not reading.done()
            gated.after.set()
        await asyncio.wait({reading}, timeout=20)
        assert reading.cancelled()
        del reading  # it keeps the error, and the error the frames it came through
        gc.collect()  # up to Python 3.12 a TaskGroup that is cancelled leaves a reference cycle
        target.append(0)  # no view of it is left: else this raises BufferError
        gated.open()

        await file.seek(2 * RANGE)
        assert await file.readinto(target) == RANGE + 1
        assert target == synthetic_bytes(2 * RANGE, 3 * RANGE + 1)


other = ThreadPoolExecutor(1)
"""Waits for the gated one."""
