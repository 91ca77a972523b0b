"""Many threads, and threads with event loops of their own."""

from __future__ import annotations

import asyncio
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer
from tests.processes.child import content
from tests.processes.script import Script

pytestmark = pytest.mark.timeout(40)

KiB = 1024
OPTIONS = TransferOptions(range_size=128 * KiB, block_size=64 * KiB, in_flight=4)
RECORD = 64


def records(count: int) -> bytes:
    """Return records that each tell where they belong."""
    return b"".join(struct.pack(">Q", number) * (RECORD // 8) for number in range(count))


def file(server: BlobServer, name: str, mode: str = "rb") -> BlobIO:
    return BlobIO(server.url(name), mode, credential=False, options=OPTIONS)  # type: ignore[arg-type]


def test_each_thread_its_own_file(server: BlobServer) -> None:
    """A thread pool loads samples and writes results: nothing of one file may turn up in another."""
    together = threading.Barrier(32)

    def work(number: int) -> None:
        mine = content(300_000 + number, number)
        server.put(f"source-{number}", mine)
        together.wait()
        with file(server, f"source-{number}") as source:
            data = source.read(100_000) + source.read(1) + source.read()
        assert data == mine
        with file(server, f"copy-{number}", "wb") as target:
            for start in range(0, len(data), 50_001):
                target.write(data[start : start + 50_001])

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))

    for number in range(32):
        assert server.get(f"copy-{number}") == content(300_000 + number, number)
    assert sum(thread.name == "azstoragetorch" for thread in threading.enumerate()) == 1


def test_one_reader_shared_by_threads(server: BlobServer) -> None:
    """Each read takes the next bytes, whoever calls it: every byte is handed out once, and no read is torn."""
    count = 20_000
    server.put("shared", records(count))
    together = threading.Barrier(8)
    with file(server, "shared") as shared:

        def work(number: int) -> list[bytes]:
            mine = []
            together.wait()
            while piece := shared.read(RECORD * (1 + number)):
                mine.append(piece)
            return mine

        with ThreadPoolExecutor(8) as pool:
            pieces = [piece for mine in pool.map(work, range(8)) for piece in mine]

    assert b"".join(sorted(pieces)) == records(count)


def test_one_writer_shared_by_threads(server: BlobServer) -> None:
    """Each write is whole in the blob, as with Python's own files."""
    together = threading.Barrier(8)
    with file(server, "shared", "wb") as shared:

        def work(number: int) -> None:
            together.wait()
            for turn in range(500):
                assert shared.write(struct.pack(">Q", turn * 8 + number) * (RECORD // 8)) == RECORD

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    written = server.get("shared")
    assert b"".join(sorted(written[at : at + RECORD] for at in range(0, len(written), RECORD))) == records(4000)


def test_readers_of_one_file_and_its_close_race(server: BlobServer) -> None:
    """A closed file raises ``ValueError`` in the threads that still use it, and none of them hangs."""
    server.put("shared", records(20_000))
    for _ in range(10):
        shared = file(server, "shared")
        together = threading.Barrier(5)

        def work(shared: BlobIO = shared, together: threading.Barrier = together) -> str:
            together.wait()
            try:
                while shared.read(RECORD * 100):
                    pass
            except ValueError as error:
                return str(error)
            return "end"

        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(work) for _ in range(4)]
            together.wait()
            shared.close()
            assert {end.result() for end in ends} <= {"I/O operation on closed file.", "end"}


def test_two_loops_in_two_threads_and_sync_files_side_by_side(server: BlobServer) -> None:
    """Every loop has connections of its own, so none waits for another's."""
    server.put("source", content(500_000))
    together = threading.Barrier(3)

    async def read_and_write(number: int) -> None:
        await asyncio.to_thread(together.wait)
        for turn in range(5):
            async with AsyncBlobIO(server.url("source"), "rb", credential=False, options=OPTIONS) as source:
                data = await source.read()
            copy = server.url(f"copy-{number}-{turn}")
            async with AsyncBlobIO(copy, "wb", credential=False, options=OPTIONS) as target:
                await target.write(data)

    def use_sync() -> None:
        together.wait()
        for _ in range(5):
            with file(server, "source") as source:
                assert source.read() == content(500_000)

    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(asyncio.run, read_and_write(number)) for number in range(2)]
        ends.append(pool.submit(use_sync))
        for end in ends:
            end.result()

    for number in range(2):
        for turn in range(5):
            assert server.get(f"copy-{number}-{turn}") == content(500_000)


async def test_sync_file_inside_a_running_loop(server: BlobServer) -> None:
    """Jupyter runs every cell inside a loop, where ``torch.load`` has to work as anywhere."""
    server.put("source", content(500_000))
    async with AsyncBlobIO(server.url("source"), "rb", credential=False, options=OPTIONS) as other:
        first = await other.read(10)
        with file(server, "source") as source, file(server, "copy", "wb") as target:
            target.write(source.read())
        assert first + await other.read() == content(500_000)
    assert server.get("copy") == content(500_000)


def test_first_use_is_in_another_thread_inside_a_running_loop(server: BlobServer, tmp_path: Path) -> None:
    """The event-loop thread belongs to the process, not to the thread that happened to start it."""
    server.put("source", content(500_000))
    with Script(
        """
        async def cell():
            with file("source") as source:
                return source.read() == content(500_000)

        answers = []
        thread = threading.Thread(target=lambda: answers.append(asyncio.run(cell())))
        thread.start()
        thread.join()
        with file("source") as source, file("copy", "wb") as target:
            target.write(source.read())
        answers.append(asyncio.run(cell()))
        say(answers, sum(thread.name == "azstoragetorch" for thread in threading.enumerate()))
        """,
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == ["[True, True] 1"]
    assert server.get("copy") == content(500_000)
