"""`AsyncBlobIO` in the user's own event loop: shared connections, cancellation, several loops, a silent end."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import threading
from pathlib import Path

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._transfer.memory import Memory
from azstoragetorch.aio import AsyncBlobIO, aclose
from tests.blobserver import BlobServer, Hold, StallBody, Trickle, on, synthetic_bytes
from tests.bridge.script import output_of
from tests.conftest import TlsBlobServer

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("no_blocking_call")]

KiB = 1024
MiB = 1024 * KiB
RANGE = 64 * KiB
SMALL = TransferOptions(range_size=RANGE, memory_budget=2 * MiB, in_flight=4)


def reader(url: str, options: TransferOptions | None = SMALL) -> AsyncBlobIO:
    return AsyncBlobIO(url, "rb", credential=False, options=options)


async def nothing_left() -> bool:
    return Memory.current().used == 0 and asyncio.all_tasks() == {asyncio.current_task()}


async def test_many_files_in_one_task_group_share_one_session(server: BlobServer) -> None:
    """Connections are what an account runs out of first."""
    files, size = 100, 3 * RANGE + 1
    for number in range(files):
        server.put_synthetic(f"blob{number}", size, seed=number % 5)

    async def check(number: int) -> None:
        async with reader(server.url(f"blob{number}")) as file:
            assert await file.read() == synthetic_bytes(0, size, seed=number % 5)

    async with asyncio.TaskGroup() as group:
        for number in range(files):
            group.create_task(check(number))
    async with asyncio.TaskGroup() as group:
        for number in range(files):
            group.create_task(check(number))

    assert server.log.peak_connections <= 256, "the connector's limit"
    assert server.log.accepted == server.log.peak_connections, "none was thrown away and opened again"
    assert server.log.accepted < len(server.requests())
    assert await nothing_left()
    await aclose()
    await asyncio.to_thread(server.wait_closed)


async def test_closed_session_is_opened_again(server: BlobServer) -> None:
    """A notebook closes it in one cell and reads in the next."""
    server.put("blob", b"content")
    for _ in range(2):
        async with reader(server.url("blob")) as file:
            assert await file.read() == b"content"
        await aclose()
        await aclose()
    assert server.log.accepted == 2


@pytest.mark.parametrize("range_size", [RANGE, 8 * MiB])
@pytest.mark.parametrize("into", [False, True], ids=["read", "readinto"])
async def test_timeout_during_a_read_leaves_nothing_behind(server: BlobServer, range_size: int, into: bool) -> None:
    """`asyncio.timeout` around a read is how servers bound their latency; the file must stay usable."""
    size = 20 * MiB
    server.put_synthetic("blob", size)
    rule = server.fault(on("GET", covers=9 * MiB), StallBody(1000), times=None)
    options = TransferOptions(range_size=range_size, memory_budget=32 * MiB)
    async with reader(server.url("blob"), options) as file:
        assert await file.read(1000) == synthetic_bytes(0, 1000)
        target = bytearray(size)
        timed_out = False
        try:
            async with asyncio.timeout(0.2):
                await (file.readinto(target) if into else file.read())
        except TimeoutError:
            timed_out = True
        assert timed_out
        gc.collect()  # up to Python 3.12 a TaskGroup that is cancelled leaves a reference cycle
        target.append(0)  # no view of the caller's memory is left: else this raises BufferError

        assert await file.tell() == 1000
        rule.remove()
        server.drop_connections()
        assert await file.read() == synthetic_bytes(1000, size)
    assert await nothing_left()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 40, 100, 300])
async def test_cancelled_read_leaves_nothing_behind(server: BlobServer, turns: int) -> None:
    """At whatever moment: before the connection, inside the window, between two ranges."""
    size = 40 * RANGE
    server.put_synthetic("blob", size)
    async with reader(server.url("blob")) as file:
        for start in (0, 100, 20 * RANGE):
            await file.seek(start)
            reading = asyncio.create_task(file.read(15 * RANGE))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading})
            if reading.cancelled():
                assert await file.tell() == start
            await file.seek(start)
            assert await file.read(5 * RANGE) == synthetic_bytes(start, start + 5 * RANGE)
    assert await nothing_left()


async def test_cancelled_task_group_of_readers_leaves_nothing_behind(server: BlobServer) -> None:
    """One failure ends the whole group; the buffers of all its files have to come back."""
    server.put_synthetic("blob", 40 * RANGE)
    server.fault(on("GET", covers=30 * RANGE), StallBody(10), times=None)

    async def read_on() -> None:
        async with reader(server.url("blob")) as file:
            await file.read()

    async def fail() -> None:
        await asyncio.to_thread(stalled.wait, 20)
        raise LookupError("mine")

    stalled = server.fault(on("GET", covers=31 * RANGE), StallBody(10), times=None)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(read_on())
            group.create_task(fail())
    assert [str(error) for error in caught.value.exceptions] == ["mine"]
    assert await nothing_left()


async def test_operations_of_one_file_are_serialised(server: BlobServer) -> None:
    """Tasks that share a file each get their own bytes, all of them together get every byte once."""
    step, count = 10_000, 100
    server.put_synthetic("blob", step * count)
    async with reader(server.url("blob")) as file:
        parts = await asyncio.gather(*(file.read(step) for _ in range(count)))

    assert b"".join(parts) == synthetic_bytes(0, step * count), "and in the order in which they asked"


async def test_operation_waits_for_the_one_before(server: BlobServer) -> None:
    """A seek must not move the position under a read that is under way."""
    server.put_synthetic("blob", 40 * RANGE)
    hold = Hold()
    rule = server.fault("GET", hold)
    async with reader(server.url("blob")) as file:
        first = asyncio.create_task(file.read(100))
        await asyncio.to_thread(rule.wait)
        seeking, second = asyncio.create_task(file.seek(500)), asyncio.create_task(file.read(100))
        await asyncio.sleep(0)
        assert not seeking.done()
        hold.release()
        assert await first == synthetic_bytes(0, 100)
        assert await seeking == 500
        assert await second == synthetic_bytes(500, 600)


async def test_abandoned_iteration_goes_on_where_it_stopped(server: BlobServer) -> None:
    """As with Python's own files: a `break` is not the end of the file."""
    server.put("blob", b"one\ntwo\nthree\n")
    async with reader(server.url("blob")) as file:
        async for line in file:
            assert line == b"one\n"
            break
        assert [line async for line in file] == [b"two\n", b"three\n"]


def test_use_on_another_loop_is_refused(server: BlobServer) -> None:
    """Its connections live on the first loop; awaiting them elsewhere hangs."""
    server.put_synthetic("blob", 10 * RANGE)
    file = reader(server.url("blob"))

    async def read() -> bytes:
        return await file.read(2 * RANGE)

    with asyncio.Runner() as first:
        assert first.run(read()) == synthetic_bytes(0, 2 * RANGE)
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(read())
        assert first.run(read()) == synthetic_bytes(2 * RANGE, 4 * RANGE), "where it belongs it goes on"
        first.run(file.aclose())


def test_two_loops_in_two_threads_work_side_by_side(server: BlobServer) -> None:
    """Web servers with a loop per worker thread do that."""
    size = 50 * RANGE
    server.put_synthetic("blob", size)
    expected = hashlib.sha256(synthetic_bytes(0, size)).digest()
    found: list[bytes] = []
    start = threading.Barrier(2)

    async def check() -> None:
        for _ in range(5):
            async with reader(server.url("blob")) as file:
                data = await file.read()
            found.append(hashlib.sha256(data).digest())
        assert await nothing_left()

    def live() -> None:
        start.wait()
        asyncio.run(check())

    threads = [threading.Thread(target=live) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [expected] * 10
    server.wait_closed()


@pytest.mark.parametrize("ending", ["return", "raise SystemExit", "await asyncio.sleep(0)", "await aio.aclose()"])
def test_asyncio_run_ends_without_a_word(server: BlobServer, tmp_path: Path, ending: str) -> None:
    """No "Unclosed client session", no "Task was destroyed", in development mode and with files left open."""
    server.put_synthetic("blob", 40 * RANGE)
    printed = output_of(
        f"""
        import asyncio, subprocess, sys
        code = '''
        import asyncio, logging
        from azstoragetorch import aio

        logging.getLogger("asyncio").setLevel("ERROR")  # not that a machine with other work was slow

        async def main():
            async with aio.AsyncBlobIO({server.url("blob")!r}, "rb", credential=False) as file:
                assert len(await file.read()) == {40 * RANGE}
            left = aio.AsyncBlobIO({server.url("blob")!r}, "rb", credential=False)
            await left.read(10)
            print("read")
            {ending}

        asyncio.run(main())
        '''
        import textwrap
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)]
        ended = subprocess.run(command, capture_output=True, text=True)
        print(ended.returncode, ended.stdout.strip(), ended.stderr)
        """.replace("\n        ", "\n"),
        tmp_path,
    )
    assert printed == ["0 read "]
    server.wait_closed()


def test_loop_that_ends_in_the_middle_of_an_answer_leaves_no_connection(tls_server: TlsBlobServer) -> None:
    """TLS says goodbye before a socket is closed, and a loop that did not wait left transports that warn of it."""
    tls_server.put_synthetic("blob", 40 * RANGE)
    tls_server.fault(on("GET", ""), Trickle(50_000, size=1000), times=None)  # looks up once in 20 ms
    options = TransferOptions(ca_file=tls_server.ca_file)

    async def look() -> int:
        async with reader(tls_server.url("blob"), options) as file:
            return await file.seek(0, io.SEEK_END)  # what the head of the answer says

    for _ in range(3):
        assert asyncio.run(look()) == 40 * RANGE
        gc.collect()  # a warning fails the test
    tls_server.wait_closed()
