"""What reads cost: in requests, in bytes and in memory."""

from __future__ import annotations

import asyncio
import io
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.readahead import EDGE, PROBE
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Hold, on, synthetic_bytes

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
PAGE = 4 * KiB


def fetched(server: BlobServer) -> int:
    server.wait_idle()
    return sum(record.bytes_sent for record in server.requests("GET"))


@pytest.mark.parametrize("size", [0, 1, 100 * KiB, EDGE])
def test_small_blob_costs_one_get(server: BlobServer, size: int) -> None:
    """A dataset of small samples pays for requests, so a second one halves its speed."""
    server.put_synthetic("small", size)
    with BlobIO(server.url("small"), "rb", credential=False) as file:
        assert file.read() == synthetic_bytes(0, size)
        assert file.read() == b""
        assert file.seek(0, io.SEEK_END) == size

    assert [record.method for record in server.requests()] == ["GET"]


def test_size_costs_no_head(server: BlobServer) -> None:
    """`torch.load` seeks to the end first: what names the size may as well bring bytes."""
    server.put_synthetic("large", 100 * MiB)
    with BlobIO(server.url("large"), "rb", credential=False) as file:
        assert file.seek(0, io.SEEK_END) == 100 * MiB
        file.seek(0)
        assert file.read(PAGE) == synthetic_bytes(0, PAGE)

    assert len(server.requests()) == 1
    assert server.requests("HEAD") == []


def random_offsets(count: int) -> list[int]:
    chosen = random.Random(4)
    places = [0, 1, EDGE - 1, EDGE, EDGE - PAGE, EDGE - PAGE + 1, EDGE - 2000, GiB - PAGE, GiB - PAGE - 1, GiB - 1]
    places += [GiB - EDGE, GiB - EDGE - 1, GiB - EDGE - PAGE, GiB - EDGE - 2000, GiB - EDGE - PROBE, EDGE + PROBE - 7]
    places += [8 * MiB - 2000, 8 * MiB, 512 * MiB - 1]
    return places + [chosen.randrange(GiB - PAGE) for _ in range(count)]


def test_random_read_of_a_large_blob_costs_at_most_one_mib(server: BlobServer) -> None:
    """A fresh file that reads one page anywhere: what a dataset with an index does for every sample."""
    server.put_synthetic("large", GiB)
    for offset in random_offsets(40):
        with BlobIO(server.url("large"), "rb", credential=False) as file:
            file.seek(offset)
            assert file.read(PAGE) == synthetic_bytes(offset, min(GiB, offset + PAGE))
        assert fetched(server) <= MiB, offset
        server.log.clear()


def test_random_reads_of_one_open_file_cost_at_most_one_mib_each(server: BlobServer) -> None:
    """However they come, near the ends and near each other included; no window may start that nobody asked for."""
    server.put_synthetic("large", GiB)
    offsets = random_offsets(80)
    random.Random(9).shuffle(offsets)
    with BlobIO(server.url("large"), "rb", credential=False) as file:
        for offset in offsets:
            file.seek(offset)
            assert file.read(PAGE) == synthetic_bytes(offset, min(GiB, offset + PAGE))
            assert fetched(server) <= MiB, offset
            server.log.clear()


def test_random_readinto_costs_no_more(server: BlobServer) -> None:
    """It is what `torch.load` uses."""
    server.put_synthetic("large", GiB)
    target = bytearray(PAGE)
    with BlobIO(server.url("large"), "rb", credential=False) as file:
        for offset in random_offsets(20):
            file.seek(offset)
            count = file.readinto(target)
            assert target[:count] == synthetic_bytes(offset, min(GiB, offset + PAGE))
            assert fetched(server) <= MiB, offset
            server.log.clear()


def test_ends_of_a_blob_are_fetched_once(server: BlobServer) -> None:
    """An archive's reader comes back to the directory at the end and the header at the start again and again."""
    server.put_synthetic("large", GiB)
    with BlobIO(server.url("large"), "rb", credential=False) as file:
        for round_ in range(5):
            for offset in (0, GiB - 100, 300 * MiB + round_ * MiB, GiB - EDGE, 100 * KiB):
                file.seek(offset)
                assert file.read(50) == synthetic_bytes(offset, offset + 50)

    ranges = [str(record.range) for record in server.requests("GET")]
    assert sum(text.startswith("bytes=0-") for text in ranges) == 1
    assert sum(text.endswith(f"-{GiB - 1}") for text in ranges) == 1
    assert len(ranges) == 7


@pytest.mark.parametrize("in_flight", [2, 5])
def test_sequential_reader_has_many_requests_in_flight(server: BlobServer, in_flight: int) -> None:
    """One connection carries a fraction of a link; more than `in_flight` is more than the user allowed."""
    step = 64 * KiB
    server.put_synthetic("blob", 64 * step)
    # Nothing ahead of the reader is answered until as many requests wait as may.
    hold = Hold()
    rule = server.fault(on("GET", when=lambda request: (request.range() or (0,))[0] >= 16 * step), hold, times=None)
    options = TransferOptions(range_size=step, in_flight=in_flight, readahead=16)

    def read_on(file: BlobIO) -> bytes:
        return b"".join(iter(lambda: file.read(5000), b""))

    with ThreadPoolExecutor(1) as pool, BlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        reading = pool.submit(read_on, file)
        rule.wait(in_flight)
        hold.release()
        assert reading.result() == synthetic_bytes(0, 64 * step)
    assert server.peak_requests == in_flight


def test_large_read_uses_its_whole_width_at_once(server: BlobServer) -> None:
    """No ramp for who says how much is wanted."""
    step = 64 * KiB
    server.put_synthetic("blob", 20 * step)
    hold = Hold()
    rule = server.fault(on("GET", when=lambda request: (request.range() or (0,))[0] > 0), hold, times=None)
    options = TransferOptions(range_size=step, in_flight=6)
    with ThreadPoolExecutor(1) as pool, BlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        reading = pool.submit(file.read)
        rule.wait(6)
        hold.release()
        assert reading.result() == synthetic_bytes(0, 20 * step)
    assert server.peak_requests == 6
    assert len(server.requests()) == 20, "and every byte was asked for once"


def test_sequential_reading_fetches_every_byte_once(server: BlobServer) -> None:
    """Read-ahead that is thrown away or fetched twice costs a slow link twice the time."""
    size = 40 * MiB + 999
    server.put_synthetic("blob", size)
    with BlobIO(server.url("blob"), "rb", credential=False) as file:
        position = 0
        while data := file.read(700_001):
            assert data == synthetic_bytes(position, position + len(data))
            position += len(data)

    assert position == size
    assert fetched(server) == size


def test_readahead_can_be_turned_off(server: BlobServer) -> None:
    """Then nothing is fetched beyond the range that is read."""
    step = 64 * KiB
    server.put_synthetic("blob", 100 * step)
    options = TransferOptions(range_size=step, readahead=0)
    with BlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        for _ in range(200):
            file.read(PAGE)
        assert fetched(server) <= 200 * PAGE + step
    assert server.peak_requests == 1


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (TransferOptions(range_size=64 * KiB, memory_budget=MiB), MiB),
        (TransferOptions(range_size=MiB, memory_budget=4 * MiB), 4 * MiB),
        (TransferOptions(range_size=8 * MiB, memory_budget=MiB), 8 * MiB),
    ],
    ids=["many ranges", "few ranges", "range larger than the budget"],
)
async def test_sequential_reader_stays_within_the_budget(
    server: BlobServer, options: TransferOptions, most: int
) -> None:
    """Memory is what kills DataLoader workers."""
    size = 40 * MiB
    server.put_synthetic("blob", size)
    async with AsyncBlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        position = 0
        while data := await file.read(100_000):
            assert data == synthetic_bytes(position, position + len(data))
            position += len(data)
            assert Memory.current().used <= most
    assert position == size
    assert Memory.current().peak <= most
    assert Memory.current().used == 0


@pytest.mark.parametrize("budget", [MiB, 2 * MiB])
async def test_many_half_read_files_never_deadlock(server: BlobServer, budget: int) -> None:
    """A merge of 60 sorted shards holds 60 windows in a budget for a few: slow is allowed, stuck is not."""
    size = 12 * 64 * KiB
    options = TransferOptions(range_size=64 * KiB, memory_budget=budget, in_flight=4)
    for number in range(60):
        server.put_synthetic(f"shard{number}", size, seed=number % 3)
    files = [AsyncBlobIO(server.url(f"shard{n}"), "rb", credential=False, options=options) for n in range(60)]

    async def check(number: int, start: int, count: int) -> None:
        data = await files[number].read(count)
        assert data == synthetic_bytes(start, min(size, start + count), seed=number % 3)

    position = 0
    for count in (100, 450_000, 7, 100_000, size):
        await asyncio.gather(*(check(number, position, count) for number in range(60)))
        position += count
    for file in files:
        await file.aclose()
    assert Memory.current().used == 0


def test_many_half_read_files_never_deadlock_when_used_in_turn(server: BlobServer) -> None:
    """The same from one thread, where no other file's read goes on meanwhile."""
    size = 12 * 64 * KiB
    options = TransferOptions(range_size=64 * KiB, memory_budget=MiB)
    server.put_synthetic("shard", size)
    files = [BlobIO(server.url("shard"), "rb", credential=False, options=options) for _ in range(60)]
    position = 0
    for count in (100, 450_000, 7, size):
        for file in files:
            assert file.read(count) == synthetic_bytes(position, min(size, position + count))
        position += count
    for file in files:
        file.close()

    async def used() -> int:
        return Memory.current().used

    assert run(used) == 0


async def test_closing_frees_memory_tasks_and_connections(server: BlobServer) -> None:
    """In the middle of a window, with requests on their way."""
    server.put_synthetic("blob", 200 * MiB)
    hold = Hold(body_after=1000)
    rule = server.fault(on("GET", covers=60 * MiB), hold, times=None)
    file = AsyncBlobIO(server.url("blob"), "rb", credential=False)
    await file.read(MiB)
    await file.read(MiB)
    await asyncio.to_thread(rule.wait)
    assert Memory.current().used > 0
    assert len(asyncio.all_tasks()) > 1

    await file.aclose()

    assert Memory.current().used == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await aclose()
    await asyncio.to_thread(server.wait_closed)
