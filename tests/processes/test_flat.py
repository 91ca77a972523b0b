"""Long jobs: what a file takes from the process, its close gives back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.blobserver import BlobServer
from tests.processes.child import content
from tests.processes.script import Script

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc"),
]

# Counted without the pooled connections, whose number depends on how many requests happened to overlap; the server
# counts them.
COUNT = """
from azstoragetorch._bridge import run
from azstoragetorch.aio import aclose


async def tasks():
    await aclose()
    for _ in range(10):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks())


def counted():
    tasks_left = run(tasks)
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    return files, len(os.listdir("/proc/self/task")), threading.active_count(), tasks_left


def memory():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def stays_flat(cycle, count, warm_up, mebibytes):
    for number in range(warm_up):
        cycle(number)
    before, memory_before = counted(), memory()
    for number in range(count):
        cycle(number)
    assert counted() == before, (before, counted())
    assert memory() - memory_before < mebibytes, memory() - memory_before
    say("flat")


"""

CYCLES = {
    "1000 reads": (
        """
def cycle(number):
    with file("source") as source:
        assert source.read(5000) == content(300_000)[:5000]
        if number % 10 == 0:
            assert source.read() == content(300_000)[5000:]
""",
        1000,
    ),
    "200 writes": (
        """
def cycle(number):
    with file("target", "wb") as target:
        target.write(content(200_000))
""",
        200,
    ),
    "200 aborted writes": (
        """
def cycle(number):
    target = file("target", "wb")
    target.write(content(200_000))
    target.abort()
""",
        200,
    ),
    "200 missing blobs": (
        """
def cycle(number):
    try:
        with file("missing") as missing:
            missing.read()
    except FileNotFoundError:
        pass
""",
        200,
    ),
    "50 asyncio.run": (
        """
async def main():
    async with async_file("source") as source, async_file("target", "wb") as target:
        await target.write(await source.read())


def cycle(number):
    asyncio.run(main())
""",
        50,
    ),
}


@pytest.mark.parametrize("what", CYCLES)
def test_descriptors_threads_tasks_and_memory_stay_flat(what: str, server: BlobServer, tmp_path: Path) -> None:
    """A job of a week opens millions of files; one leaked descriptor each ends it within the hour."""
    server.put("source", content(300_000))
    cycle, count = CYCLES[what]
    with Script(f"{COUNT}{cycle}\n\nstays_flat(cycle, {count}, {min(count, 100)}, 12)", tmp_path, server) as script:
        assert script.end().silently() == ["flat"]
    if what in ("1000 reads", "200 writes", "200 missing blobs"):
        assert server.log.accepted <= 12  # 4 at a time, three times


def test_asyncio_files_stay_flat_within_one_loop(server: BlobServer, tmp_path: Path) -> None:
    """The async training loop, 300 files one after the other."""
    server.put("source", content(300_000))
    with Script(
        COUNT
        + """
async def cycle():
    async with async_file("source") as source:
        assert await source.read() == content(300_000)
    async with async_file("target", "wb") as target:
        await target.write(content(200_000))


async def main():
    for _ in range(20):
        await cycle()
    before, memory_before = await counts(), memory()
    for _ in range(280):
        await cycle()
    assert await counts() == before, (before, await counts())
    assert memory() - memory_before < 16
    say("flat")


async def counts():
    tasks_left = await tasks()
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), tasks_left


asyncio.run(main())
""",
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == ["flat"]
    assert server.log.accepted <= 12


def test_interrupted_reads_leave_nothing_behind(server: BlobServer, tmp_path: Path) -> None:
    """Files that are closed with requests under way: their connections and buffers go, too."""
    server.put("source", content(3_000_000))
    with Script(
        COUNT
        + """
def cycle(number):
    with file("source") as source:
        source.read(600_000)


for number in range(20):
    cycle(number)
before = counted()
for number in range(100):
    cycle(number)
assert counted() == before, (before, counted())
say("flat")
""",
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == ["flat"]
