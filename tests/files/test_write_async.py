"""AsyncBlobIO as a writer in the caller's own loop: what is cancelled or lost publishes nothing and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._transfer.memory import Memory
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobExistsError,
    FatalBlobIOWriteError,
    UncommittedBlobWarning,
)
from tests.blobserver import BlobServer, Hang, Hold, LoseAnswer, Status, on

BLOCK = 1000
SMALL = TransferOptions(block_size=BLOCK, in_flight=4)
CONTENT = random.Random(3).randbytes(4500)
PUT_BLOCK, PUT_BLOCK_LIST, PUT_BLOB = on("PUT", "block"), on("PUT", "blocklist"), on("PUT", "")


class Torn(Exception):
    """What a training step raises in the middle of a save."""


@pytest.fixture(autouse=True)
async def clean_loop(server: BlobServer) -> AsyncIterator[None]:
    """Fail if a test leaves a task, leased memory or a connection in its loop."""
    before = asyncio.all_tasks()
    yield
    assert {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()} == set()
    assert Memory.current().used == 0
    await aclose()
    await asyncio.to_thread(server.wait_closed)


def open_blob(server: BlobServer, mode: Any = "wb", name: str = "a") -> AsyncBlobIO:
    return AsyncBlobIO(server.url(name), mode, credential=False, options=SMALL)


def assert_untouched(server: BlobServer) -> None:
    server.wait_idle()
    assert server.get("a") == b"good"
    assert not server.requests("PUT", comp="blocklist")


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK, 4500])
@pytest.mark.parametrize("mode", ["wb", "xb"])
async def test_clean_close_publishes(server: BlobServer, mode: Any, size: int) -> None:
    """The same sizes as for BlobIO: the code below is one, the faces are two."""
    async with open_blob(server, mode) as file:
        assert await file.write(CONTENT[:size]) == size
        assert await file.tell() == size
        await file.flush()
        assert not file.committed

    assert file.committed
    assert server.get("a") == CONTENT[:size]
    assert file.stats().bytes == size
    assert file.stats().requests == len(server.requests())
    await file.aclose()
    await file.abort()


@pytest.mark.parametrize("size", [0, 10, BLOCK, 4500])
@pytest.mark.parametrize("kind", [Torn, KeyboardInterrupt, asyncio.CancelledError])
async def test_exception_publishes_nothing(server: BlobServer, kind: type[BaseException], size: int) -> None:
    """A crash in the block must not replace the last good checkpoint."""
    server.put("a", b"good")
    with pytest.raises(kind):
        async with open_blob(server) as file:
            await file.write(CONTENT[:size])
            raise kind

    assert file.closed
    assert not file.committed
    assert not server.requests("PUT", comp="")
    assert_untouched(server)


async def test_abort_publishes_nothing(server: BlobServer) -> None:
    """Giving up on purpose."""
    server.put("a", b"good")
    async with open_blob(server) as file:
        await file.write(CONTENT)
        await file.abort()
    with pytest.raises(ValueError, match="closed file"):
        await file.write(b"x")
    assert_untouched(server)


@pytest.mark.parametrize("where", ["write", "flush", "block"])
async def test_cancelled_task_publishes_nothing(server: BlobServer, where: str) -> None:
    """A timeout around a save ends it wherever it is; when the task has ended, so has all it started."""
    server.put("a", b"good")
    rule = server.fault(PUT_BLOCK, Hang(), times=None)

    async def save() -> None:
        async with open_blob(server) as file:
            await file.write(CONTENT if where == "write" else CONTENT[: 2 * BLOCK])
            if where == "flush":
                await file.flush()
            elif where == "block":
                await asyncio.Event().wait()
            else:
                await file.write(CONTENT)

    task = asyncio.create_task(save())
    await asyncio.to_thread(rule.wait, {"write": 4, "flush": 2, "block": 1}[where])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert {other for other in asyncio.all_tasks() if "stage" in repr(other.get_coro())} == set()
    assert_untouched(server)


async def test_timeout_around_a_save(server: BlobServer) -> None:
    """`asyncio.timeout` is the usual way to cancel."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, Hang(), times=None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), open_blob(server) as file:
            await file.write(CONTENT)
            await file.flush()
    assert_untouched(server)


async def test_cancelled_commit_ends(server: BlobServer) -> None:
    """Cancelled while the service decides: the blob is whole either way, and the file does not claim success."""
    server.put("a", b"good")
    hold = Hold()
    rule = server.fault(PUT_BLOCK_LIST, hold)
    file = open_blob(server)
    await file.write(CONTENT)
    closing = asyncio.create_task(file.aclose())
    await asyncio.to_thread(rule.wait)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    hold.release()

    assert file.closed
    assert not file.committed
    await asyncio.to_thread(server.wait_idle)
    assert server.get("a") in (b"good", CONTENT)


async def test_write_that_was_cancelled_cannot_be_committed(server: BlobServer) -> None:
    """Nobody knows how much of it was taken: going on would publish content with a gap."""
    server.put("a", b"good")
    rule = server.fault(PUT_BLOCK, Hang(), times=None)
    file = open_blob(server)
    writing = asyncio.create_task(file.write(CONTENT * 2))
    await asyncio.to_thread(rule.wait, 4)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    with pytest.raises(FatalBlobIOWriteError, match="interrupted"):
        await file.write(b"more")
    with pytest.raises(FatalBlobIOWriteError, match="interrupted"):
        await file.aclose()
    assert_untouched(server)


async def test_cancelled_flush_can_be_repeated(server: BlobServer) -> None:
    """Waiting takes nothing from the file, so giving up waiting does not break it."""
    hold = Hold()
    rule = server.fault(PUT_BLOCK, hold, times=None)
    async with open_blob(server) as file:
        await file.write(CONTENT[: 2 * BLOCK + 1])
        flushing = asyncio.create_task(file.flush())
        await asyncio.to_thread(rule.wait, 2)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        hold.release()
        await file.flush()

    assert server.get("a") == CONTENT[: 2 * BLOCK + 1]


@pytest.mark.parametrize("size", [0, 10, 4500])
async def test_collected_writer_publishes_nothing_and_says_so(
    server: BlobServer, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """A forgotten aclose must neither publish what may be half a file nor lose it in silence."""
    server.put("a", b"good")
    known = asyncio.all_tasks()
    file = open_blob(server)
    await file.write(CONTENT[:size])

    with caplog.at_level(logging.ERROR), pytest.warns(UncommittedBlobWarning, match=server.url("a")):
        del file
    await asyncio.sleep(0)  # the finalizer asked the loop to clean up
    if tasks := asyncio.all_tasks() - known:
        await asyncio.wait(tasks)

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert server.url("a") in caplog.text
    assert not server.requests("PUT", comp="")
    assert_untouched(server)


async def test_first_error_is_raised_by_everything_after_it(server: BlobServer) -> None:
    """As for BlobIO."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, Status(403, "AuthorizationFailure"), times=None)
    file = open_blob(server)
    with pytest.raises(FatalBlobIOWriteError) as first:
        await file.write(CONTENT[: 2 * BLOCK])
        await file.flush()
    for operation in (file.write(b"x"), file.flush(), file.aclose()):
        with pytest.raises(FatalBlobIOWriteError) as later:
            await operation
        assert later.value.__cause__ is first.value.__cause__
    assert isinstance(first.value.__cause__, BlobAccessError)
    assert_untouched(server)


async def test_error_is_seen_behind_the_one_it_caused(server: BlobServer) -> None:
    """As for BlobIO."""
    server.fault(PUT_BLOCK, Status(403, "AuthorizationFailure"), times=None)
    with pytest.raises(FatalBlobIOWriteError):
        async with open_blob(server) as file:
            with contextlib.suppress(FatalBlobIOWriteError):
                await file.write(CONTENT)
                await file.flush()
            raise RuntimeError("unexpected pos")


@pytest.mark.parametrize("content", [b"", CONTENT[:10], CONTENT], ids=["empty", "one block", "blocks"])
async def test_create_leaves_an_existing_blob_alone(server: BlobServer, content: bytes) -> None:
    """As for BlobIO."""
    server.put("a", b"good")
    with pytest.raises(BlobExistsError):
        async with open_blob(server, "xb") as file:
            await file.write(content)
    assert server.get("a") == b"good"


@pytest.mark.parametrize("mode", ["wb", "xb"])
async def test_lost_answer_to_a_commit_that_won(server: BlobServer, mode: Any) -> None:
    """As for BlobIO."""
    server.fault(PUT_BLOCK_LIST, LoseAnswer(), times=2)
    async with open_blob(server, mode) as file:
        await file.write(CONTENT)
    assert server.get("a") == CONTENT


async def test_many_creators_race(server: BlobServer) -> None:
    """However many ranks save under one name, exactly one wins, and its content is whole."""

    async def create(number: int) -> bool:
        try:
            async with open_blob(server, "xb") as file:
                await file.write(bytes([number]) * 2500)
        except BlobExistsError:
            return False
        return True

    won = await asyncio.gather(*(create(number) for number in range(8)))
    assert won.count(True) == 1
    assert server.get("a") == bytes([won.index(True)]) * 2500


async def test_many_files_at_once(server: BlobServer) -> None:
    """A sharded checkpoint is one TaskGroup; the files share connections and the memory account."""

    async def save(number: int) -> None:
        async with open_blob(server, name=str(number)) as file:
            for _ in range(3):
                await file.write(bytes([number]) * 1500)

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(save(number))

    for number in range(30):
        assert server.get(str(number)) == bytes([number]) * 4500


async def test_first_block_is_on_the_account_while_it_is_sent(server: BlobServer) -> None:
    """A file fills it without asking the loop; from then on it is memory like every other block, and may be 64 MiB."""
    hold, memory = Hold(), Memory.current()
    server.fault(PUT_BLOCK, hold)
    async with open_blob(server) as file:
        await file.write(CONTENT[: BLOCK + 1])
        assert memory.used == 2 * BLOCK, "the one that is sent, and the one that is filled"
        hold.release()

    assert memory.used == 0


async def test_first_block_that_fails_is_given_back(server: BlobServer) -> None:
    """It may be sent again later in the process: no memory may be lost to a blob that could not be written."""
    server.fault(PUT_BLOCK, Status(403, "AuthorizationFailure"), times=None)
    file = open_blob(server)
    with pytest.raises(FatalBlobIOWriteError):
        await file.write(CONTENT)
        await file.aclose()

    assert Memory.current().used == 0


async def test_first_block_waits_for_memory(server: BlobServer) -> None:
    """Others hold all of it: nothing is sent before they have ended, and giving up meanwhile leaves nothing."""
    memory = Memory.current()
    others = await memory.take(SMALL.memory_budget, SMALL.memory_budget)
    file, given_up = open_blob(server), open_blob(server, name="b")
    writing = asyncio.create_task(file.write(CONTENT))
    waiting = asyncio.create_task(given_up.write(CONTENT))
    await asyncio.sleep(0.05)  # what they would send meanwhile would be sent at once
    assert (memory.used, server.requests()) == (SMALL.memory_budget, [])

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await given_up.abort()
    others.free()
    await writing
    await file.aclose()
    assert server.get("a") == CONTENT
    assert memory.used == 0


async def test_one_failure_in_a_group_aborts_the_others(server: BlobServer) -> None:
    """A shard that failed makes the whole save worthless: its siblings are cancelled and publish nothing."""
    server.fault(on("PUT", blob="bad"), Status(403, "AuthorizationFailure"), times=None)
    server.fault(on("PUT", "block", when=lambda request: "good" in request.path), Hang(), times=None)

    async def save(name: str) -> None:
        async with open_blob(server, name=name) as file:
            await file.write(CONTENT if name != "bad" else b"x")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            for name in ("good1", "good2", "bad"):
                group.create_task(save(name))

    assert [type(error) for error in caught.value.exceptions] == [BlobAccessError]
    assert not server.requests("PUT", comp="blocklist")


async def test_writes_of_one_file_are_serialised(server: BlobServer) -> None:
    """Two tasks that write to one file get whole records, in the order in which they asked."""
    server.latency = 0.001
    async with open_blob(server) as file:
        await asyncio.gather(*(file.write(bytes([number]) * 700) for number in range(20)))

    assert server.get("a") == b"".join(bytes([number]) * 700 for number in range(20))


def test_file_of_one_loop_is_refused_by_another(server: BlobServer) -> None:
    """It would wait for events of a loop that does not run."""

    async def write(file: AsyncBlobIO) -> None:
        await file.write(CONTENT)

    file = open_blob(server)
    asyncio.run(write(file))
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(write(file))
    with pytest.warns(UncommittedBlobWarning):  # noqa: PT031 - the error's traceback may still hold the file
        del file
        gc.collect()
