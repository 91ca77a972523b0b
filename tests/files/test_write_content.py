"""What is written is what the blob holds, whatever its size, its buffers and the order in which blocks arrive."""

from __future__ import annotations

import array
import asyncio
import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azstoragetorch import TransferOptions
from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.writer import Block, BlockWriter, block_size
from azstoragetorch._values.options import MAX_BLOCK_SIZE, MAX_BLOCKS, KiB, MiB
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Call, Hold, Status, on
from tests.files.leaks import Leaks, no_leaks

BLOCK = 1000
SMALL = TransferOptions(block_size=BLOCK, in_flight=4)


@pytest.fixture(autouse=True)
def leaks(server: BlobServer) -> Iterator[Leaks]:
    with no_leaks(server) as checked:
        yield checked


def writer(server: BlobServer, options: TransferOptions = SMALL) -> BlobIO:
    return BlobIO(server.url("a"), "wb", credential=False, options=options)


def pattern(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 10 * BLOCK])
def test_every_size_around_a_block(server: BlobServer, size: int) -> None:
    """Off by one at a block's end is the classic way to lose or repeat a byte."""
    content = pattern(size)
    with writer(server) as file:
        assert file.write(content) == size

    assert server.get("a") == content
    blocks = -(-size // BLOCK) if size > BLOCK else 0
    assert len(server.requests("PUT", comp="block")) == blocks
    assert len(server.requests("PUT", comp="blocklist")) == (1 if blocks else 0)
    assert len(server.requests("PUT", comp="")) == (0 if blocks else 1)
    assert len(server.requests()) == file.stats().requests
    assert file.stats().bytes == size
    assert file.stats().retries == 0


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 2 * BLOCK + 1), max_size=8), flushes=st.sets(st.integers(0, 8)))
def test_any_sequence_of_writes_and_flushes(sizes: list[int], flushes: set[int]) -> None:
    """Where one write ends and the next begins leaves no mark."""
    with BlobServer() as server, no_leaks(server):
        parts = [pattern(size) for size in sizes]
        with writer(server) as file:
            for number, part in enumerate(parts):
                file.write(part)
                if number in flushes:
                    file.flush()
            assert file.tell() == sum(sizes)
        assert server.get("a") == b"".join(parts)


def test_flush_at_the_end_of_a_block_leaves_nothing(server: BlobServer, leaks: Leaks) -> None:
    """The block that flush prepares for the next write is given back when there is none.

    Every checkpoint would take 8 MiB of the budget for good.
    """
    with writer(server) as file:
        file.write(pattern(2 * BLOCK))
        file.flush()

    assert server.get("a") == pattern(2 * BLOCK)
    assert leaks.memory() == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (memoryview(array.array("i", range(500))), array.array("i", range(500)).tobytes()),
        (memoryview(pattern(600)).cast("B", (20, 30)), pattern(600)),
        (memoryview(pattern(2400)).cast("B").cast("i", (20, 30)), pattern(2400)),
        (memoryview(b"").cast("B"), b""),
        (array.array("d", [0.5] * 300), array.array("d", [0.5] * 300).tobytes()),
        (array.array("d"), b""),
        (bytearray(pattern(1500)), pattern(1500)),
    ],
    ids=["int32", "two dimensions", "two dimensions of int32", "empty", "array", "empty array", "bytearray"],
)
def test_any_contiguous_buffer_is_counted_in_bytes(server: BlobServer, data: Any, expected: bytes) -> None:
    """torch.save passes memory of tensors, and ignores what write returns: items counted as bytes corrupt silently."""
    with writer(server) as file:
        assert file.write(data) == len(expected)
        assert file.tell() == len(expected)

    assert server.get("a") == expected


def test_buffer_may_change_as_soon_as_write_returns(server: BlobServer) -> None:
    """An optimizer steps on while its state is uploaded; the blob holds the state at the time of the write."""
    held = Hold()
    server.fault(on("PUT", "block"), held, times=None)
    buffer = bytearray(BLOCK)
    with writer(server) as file:
        for number in range(4):
            buffer[:] = bytes([number]) * BLOCK
            file.write(buffer)
        buffer[:] = b"\xff" * BLOCK
        held.release()

    assert server.get("a") == b"".join(bytes([number]) * BLOCK for number in range(4))


def test_buffer_is_free_after_write(server: BlobServer) -> None:
    """A bytearray whose memory is still held by somebody cannot be resized."""
    buffer = bytearray(pattern(3500))
    with writer(server) as file:
        file.write(buffer)
        buffer.extend(b"more")


@pytest.mark.parametrize(
    ("data", "error"),
    [("text", TypeError), (7, TypeError), (None, TypeError), ([1], TypeError), (memoryview(b"abcd")[::2], BufferError)],
    ids=["str", "int", "None", "list", "strided"],
)
def test_what_is_no_contiguous_buffer_is_refused(server: BlobServer, data: Any, error: type[Exception]) -> None:
    """As Python's own files do; the file stays usable, because nothing of it was taken."""
    with writer(server) as file:
        file.write(b"before ")
        with pytest.raises(error):
            file.write(data)
        file.write(b"after")

    assert server.get("a") == b"before after"


def test_operations_of_a_writer_after_close(server: BlobServer) -> None:
    """The errors of Python's own files."""
    file = writer(server)
    file.close()
    for operation in (lambda: file.write(b"x"), file.flush, file.tell, file.writable, file.__enter__):
        with pytest.raises(ValueError, match="closed file"):
            operation()


def test_operations_of_the_other_mode(server: BlobServer) -> None:
    """Reading a writer, or seeking in it, is refused as Python's own files do, and harms nothing."""
    with writer(server) as file:
        file.write(b"content")
        for operation in (file.read, file.readline, file.peek, lambda: file.seek(0), lambda: file.truncate(0)):
            with pytest.raises(OSError, match=r"readable|truncate"):
                operation()
        assert (file.readable(), file.writable(), file.seekable()) == (False, True, False)
    assert server.get("a") == b"content"

    with BlobIO(server.url("a"), "rb", credential=False) as reader, pytest.raises(OSError, match="writable"):
        reader.write(b"x")


def test_tiny_writes_with_flushes_are_few_requests(server: BlobServer) -> None:
    """A logger that flushes each line must not use up the 50,000 blocks a blob may have."""
    with writer(server, TransferOptions()) as file:
        for number in range(60_000):
            file.write(b"%d " % (number % 10))
            file.flush()

    assert server.get("a") == b"0 1 2 3 4 5 6 7 8 9 " * 6_000
    assert len(server.requests()) == 1


def test_tiny_blocks_grow(server: BlobServer) -> None:
    """The number of blocks is limited, so their size may not be."""
    content = pattern(2500 + 2 * 60 + 1)
    with writer(server, TransferOptions(block_size=1)) as file:
        file.write(content)

    assert server.get("a") == content
    sizes = sorted(record.body_length for record in server.requests("PUT", comp="block"))
    assert sizes == [1] * 2501 + [2] * 60


@given(st.integers(1, MAX_BLOCK_SIZE))
def test_block_sizes_of_a_blob(first: int) -> None:
    """Sizes only grow and stay within what a block may have; from 8 KiB on, 50,000 of them hold 15 TiB and more."""
    sizes = [block_size(first, number) for number in range(0, MAX_BLOCKS, 500)]
    assert sizes[0] == first
    assert all(smaller <= larger <= MAX_BLOCK_SIZE for smaller, larger in itertools.pairwise(sizes))
    assert first < 8 * KiB or sum(sizes) * 500 >= 15 * KiB**4


def test_default_blocks_hold_a_hundred_tebibytes() -> None:
    """No checkpoint ends at a limit that nobody thought of."""
    assert sum(block_size(8 * MiB, number) for number in range(MAX_BLOCKS)) > 100 * 1024**2 * MiB


def test_blocks_that_arrive_in_any_order_are_committed_in_theirs(server: BlobServer) -> None:
    """Concurrent requests overtake each other; the list that is committed says what comes first."""
    holds = [Hold() for _ in range(4)]
    rules = [server.fault(on("PUT", "block"), hold) for hold in holds]
    later = server.fault(on("PUT", "block"), Call(lambda: None), times=None)
    content = pattern(40 * BLOCK)

    def release() -> None:
        # The first four blocks are held until all are under way, and end in the opposite order.
        rules[-1].wait()
        for count, hold in enumerate(reversed(holds), 1):
            hold.release()
            later.wait(count)

    thread = threading.Thread(target=release)
    thread.start()
    with writer(server) as file:
        file.write(content)
    thread.join()

    assert server.get("a") == content
    assert server.peak_requests == 4


async def test_no_more_requests_than_in_flight(server: BlobServer) -> None:
    """The limit is what keeps one file from taking all connections and memory."""
    held = Hold()
    rule = server.fault(on("PUT", "block"), held, times=None)
    server.put("other", b"x")

    def write() -> None:
        with writer(server) as file:
            file.write(pattern(12 * BLOCK))

    writing = asyncio.create_task(asyncio.to_thread(write))
    await asyncio.to_thread(rule.wait, 4)
    # Each of these goes once through the writer's loop, which would send a fifth block if it were going to.
    for _ in range(10):
        with BlobIO(server.url("other"), "rb", credential=False) as reader:
            await asyncio.to_thread(reader.read)
    hits = rule.hits
    held.release()
    await writing

    assert hits == 4
    assert server.get("a") == pattern(12 * BLOCK)
    assert len({record.connection for record in server.requests("PUT")}) <= 5


def test_memory_stays_within_the_budget(server: BlobServer) -> None:
    """A blob of any size is written with the memory of a few blocks."""

    async def peak() -> int:
        return Memory.current().peak

    run(_reset_peak)
    options = TransferOptions(block_size=256 * 1024, in_flight=16, memory_budget=MiB)
    with writer(server, options) as file:
        for _ in range(32):
            file.write(pattern(256 * 1024))

    assert server.version("a").size == 8 * MiB
    assert run(peak) <= MiB


def test_flush_waits_for_full_blocks(server: BlobServer) -> None:
    """What flush promises: what is full is with the service when it returns, the rest is not sent in small pieces."""
    with writer(server) as file:
        file.write(pattern(2500))
        file.flush()
        assert sum(block.content.size for block in server.staged("a")) == 2000
        file.write(pattern(500))
        file.flush()
        assert sum(block.content.size for block in server.staged("a")) == 3000

    assert server.get("a") == pattern(2500) + pattern(500)


def test_many_threads_write_through_one_file(server: BlobServer) -> None:
    """Whole writes, in some order: loggers share a file."""
    with writer(server) as file:
        threads = [
            threading.Thread(target=lambda letter: [file.write(letter * 10) for _ in range(50)], args=(letter,))
            for letter in (b"a", b"b", b"c", b"d")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    content = server.get("a")
    records = sorted(content[start : start + 10] for start in range(0, len(content), 10))
    assert records == sorted(letter * 10 for letter in (b"a", b"b", b"c", b"d") for _ in range(50))


@pytest.mark.parametrize("failed", [False, True])
async def test_memory_of_a_block_is_used_again_only_if_sent_at_once(server: BlobServer, failed: bool) -> None:
    """The connection of a failed attempt may still send from the buffer: other content in it would be uploaded."""
    options = TransferOptions(block_size=BLOCK)
    blob = await AzureBlob.open(BlobUrl.parse(server.url("a")), False, options, TransferStats())
    memory = Memory()
    writer = BlockWriter(blob, memory, options, create_only=False)
    if failed:
        server.fault(on("PUT", "block"), Status(503, "ServerBusy"), nth=2)

    block: Block = await writer.submit(_filled(Block(options.block_size)))
    await writer.settle()
    buffer = block.buffer
    following = await writer.submit(_filled(block))
    await writer.settle()
    lease = await memory.take(BLOCK, MiB)

    assert (lease.buffer is buffer) is not failed
    lease.free()
    await writer.commit(_filled(following), writer.check)
    assert memory.used == 0
    assert server.get("a") == b"x" * (3 * BLOCK)


def _filled(block: Block) -> Block:
    block.fill(memoryview(b"x" * block.size))
    return block


async def _reset_peak() -> None:
    memory = Memory.current()
    memory.peak = memory.used
