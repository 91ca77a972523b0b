"""Whatever is read in whatever order: a blob is the same file as an `io.BytesIO` of its bytes."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.readahead import EDGE, GAP, PROBE, STREAM
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, synthetic_bytes

pytestmark = pytest.mark.timeout(120)

KiB = 1024
MiB = 1024 * KiB

RANGE = 64 * KiB
SMALL = TransferOptions(range_size=RANGE, memory_budget=MiB, in_flight=4, readahead=4)
"""Many ranges in little data; in a budget that is much smaller than what is read."""

SMALL_SIZES = [0, 1, RANGE - 1, RANGE, RANGE + 1, 2 * RANGE, 2 * RANGE + 1, 20 * RANGE + 77, 50 * RANGE]
DEFAULT_SIZES = [
    PROBE,
    EDGE - 1,
    EDGE,
    EDGE + 1,
    EDGE + PROBE + 1,
    2 * EDGE - 1,
    2 * EDGE,
    2 * EDGE + 1,
    2 * EDGE + STREAM + GAP,
    8 * MiB + 1,
]

SETTINGS = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FEW = settings(SETTINGS, max_examples=10)


def text_of(size: int) -> bytes:
    """Return bytes with a newline about every 256 bytes, and none in a stretch of more than two ranges."""
    data = random.Random(size).randbytes(size)
    start = size // 3
    return data[:start] + data[start : start + 3 * RANGE].replace(b"\n", b"-") + data[start + 3 * RANGE :]


def near(size: int, *places: int) -> st.SearchStrategy[int]:
    """Positions and lengths in a blob of ``size`` bytes: anywhere, and around the places where something changes."""
    marks = {0, 1, 100, size, size // 2, *places}
    return st.one_of(
        st.integers(0, size + 10),
        st.integers(0, 300),
        st.builds(
            lambda mark, off: max(0, mark + off), st.sampled_from(sorted(marks)), st.sampled_from((-1, 0, 1, -9, 30))
        ),
    )


def marks(size: int, options: TransferOptions) -> tuple[int, ...]:
    step = options.range_size
    return (step, 2 * step, size - step, EDGE, size - EDGE, PROBE, STREAM, GAP, EDGE + PROBE, size // step * step)


async def used_memory() -> int:
    return Memory.current().used


def machine(open_file: Callable[[], BlobIO], content: bytes, options: TransferOptions) -> Any:
    """Build the state machine of one blob; hypothesis calls the class for every example."""
    lengths = near(len(content), *marks(len(content), options))
    limits = st.one_of(st.none(), st.just(-1), lengths)

    class SameFile(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.file = open_file()
            self.model = io.BytesIO(content)

        @rule(size=limits)
        def read(self, size: int | None) -> None:
            assert self.file.read(size) == self.model.read(size)

        @rule(size=lengths)
        def read_some(self, size: int) -> None:
            assert self.file.read1(size) == self.model.read1(size)

        @rule()
        def read_any(self) -> None:
            data = self.file.read1(-1)
            assert data == self.model.read(len(data))
            assert data or self.model.read(1) == b""

        @rule(size=lengths, first=st.booleans())
        def read_into(self, size: int, first: bool) -> None:
            mine, theirs = bytearray(b"." * size), bytearray(b"." * size)
            count = self.file.readinto1(mine) if first else self.file.readinto(mine)
            assert count == self.model.readinto(theirs)
            assert mine == theirs

        @rule(limit=limits)
        def read_line(self, limit: int | None) -> None:
            assert self.file.readline(limit) == self.model.readline(limit)

        @rule(hint=st.integers(1, 5000))
        def read_lines(self, hint: int) -> None:
            # BytesIO itself stops a line earlier than files do where lines add up to the hint.
            assert self.file.readlines(hint) == io.IOBase.readlines(self.model, hint)

        @rule(count=st.integers(1, 5))
        def iterate(self, count: int) -> None:
            for _ in range(count):
                assert next(self.file, b"end") == next(self.model, b"end")

        @rule(size=lengths)
        def peek(self, size: int) -> None:
            data = self.file.peek(size)
            here = self.model.tell()
            expected = content[here : here + max(len(data), 1)]
            assert data == expected

        @rule(offset=lengths)
        def seek_from_start(self, offset: int) -> None:
            assert self.file.seek(offset) == self.model.seek(offset)

        @rule(offset=lengths, sign=st.sampled_from((1, -1)))
        def seek_from_here(self, offset: int, sign: int) -> None:
            assert self.file.seek(sign * offset, io.SEEK_CUR) == self.model.seek(sign * offset, io.SEEK_CUR)

        @rule(offset=lengths, sign=st.sampled_from((1, -1)))
        def seek_from_end(self, offset: int, sign: int) -> None:
            assert self.file.seek(sign * offset, io.SEEK_END) == self.model.seek(sign * offset, io.SEEK_END)

        @invariant()
        def same_position(self) -> None:
            assert self.file.tell() == self.model.tell()

        def teardown(self) -> None:
            self.file.close()
            assert run(used_memory) == 0

    return SameFile


def async_machine(open_file: Callable[[], AsyncBlobIO], content: bytes, options: TransferOptions) -> Any:
    """The same for the asynchronous file, on a loop of its own for every example."""
    lengths = near(len(content), *marks(len(content), options))
    limits = st.one_of(st.none(), st.just(-1), lengths)

    class SameAsyncFile(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.do = asyncio.Runner()
            self.file = open_file()
            self.model = io.BytesIO(content)

        @rule(size=limits)
        def read(self, size: int | None) -> None:
            assert self.do.run(self.file.read(size)) == self.model.read(size)

        @rule(size=lengths)
        def read_into(self, size: int) -> None:
            mine, theirs = bytearray(b"." * size), bytearray(b"." * size)
            assert self.do.run(self.file.readinto(mine)) == self.model.readinto(theirs)
            assert mine == theirs

        @rule(limit=limits)
        def read_line(self, limit: int | None) -> None:
            assert self.do.run(self.file.readline(limit)) == self.model.readline(limit)

        @rule(count=st.integers(1, 5))
        def iterate(self, count: int) -> None:
            async def lines() -> list[bytes]:
                lines = aiter(self.file)
                return [await anext(lines, b"end") for _ in range(count)]

            assert self.do.run(lines()) == [next(self.model, b"end") for _ in range(count)]

        @rule(offset=lengths)
        def seek_from_start(self, offset: int) -> None:
            assert self.do.run(self.file.seek(offset)) == self.model.seek(offset)

        @rule(offset=lengths, sign=st.sampled_from((1, -1)))
        def seek_from_here(self, offset: int, sign: int) -> None:
            expected = self.model.seek(sign * offset, io.SEEK_CUR)
            assert self.do.run(self.file.seek(sign * offset, io.SEEK_CUR)) == expected

        @rule(offset=lengths, sign=st.sampled_from((1, -1)))
        def seek_from_end(self, offset: int, sign: int) -> None:
            expected = self.model.seek(sign * offset, io.SEEK_END)
            assert self.do.run(self.file.seek(sign * offset, io.SEEK_END)) == expected

        @rule(size=lengths, turns=st.integers(0, 40), into=st.booleans())
        def cancelled_read(self, size: int, turns: int, into: bool) -> None:
            """Give up after some turns of the loop: the position stays, unless the read was done before."""

            async def take() -> int:
                return await self.file.readinto(bytearray(size)) if into else len(await self.file.read(size))

            async def give_up() -> int | None:
                reading = asyncio.create_task(take())
                for _ in range(turns):
                    await asyncio.sleep(0)
                reading.cancel()
                try:
                    return await reading
                except asyncio.CancelledError:
                    return None

            count = self.do.run(give_up())
            if count is not None:
                assert len(self.model.read(size)) == count

        @invariant()
        def same_position(self) -> None:
            assert self.do.run(self.file.tell()) == self.model.tell()

        def teardown(self) -> None:
            async def close() -> tuple[int, int]:
                await self.file.aclose()
                others = asyncio.all_tasks() - {asyncio.current_task()}
                # The certificates of the session, asked for by a read that was cancelled, may still be on their way.
                left = (await asyncio.wait(others, timeout=10))[1] if others else ()
                return Memory.current().used, len(left)

            with self.do:
                assert self.do.run(close()) == (0, 0)

    return SameAsyncFile


@pytest.mark.parametrize("size", SMALL_SIZES)
def test_file_equals_bytes_io_with_small_ranges(server: BlobServer, size: int) -> None:
    """Everything that takes a binary file relies on it, pickle and zipfile first of all."""
    content = text_of(size)
    server.put("blob", content)

    run_state_machine_as_test(
        machine(lambda: BlobIO(server.url("blob"), "rb", credential=False, options=SMALL), content, SMALL),
        settings=SETTINGS,
    )


@pytest.mark.parametrize("size", DEFAULT_SIZES)
def test_file_equals_bytes_io_with_defaults(server: BlobServer, size: int) -> None:
    """The places where one way of fetching ends and another begins are where bytes get lost."""
    content = text_of(size)
    server.put("blob", content)

    run_state_machine_as_test(
        machine(lambda: BlobIO(server.url("blob"), "rb", credential=False), content, TransferOptions()),
        settings=FEW,
    )


def test_large_file_equals_bytes_io(server: BlobServer) -> None:
    """Several full ranges, read ahead and in place."""
    size = 33 * MiB + 12_345
    server.put_synthetic("blob", size)

    run_state_machine_as_test(
        machine(
            lambda: BlobIO(server.url("blob"), "rb", credential=False), synthetic_bytes(0, size), TransferOptions()
        ),
        settings=settings(FEW, max_examples=6),
    )


def test_file_on_the_emulator_equals_bytes_io(container_url: str) -> None:
    """The same against a service that was not written by those who wrote the client."""
    content = text_of(9 * RANGE + 5)
    base, _, sas = container_url.partition("?")
    url = f"{base}/blob?{sas}"
    with BlobIO(url, "wb") as file:
        file.write(content)

    run_state_machine_as_test(machine(lambda: BlobIO(url, "rb", options=SMALL), content, SMALL), settings=FEW)


@pytest.mark.parametrize("size", [0, 1, RANGE, RANGE + 1, 20 * RANGE + 77])
def test_async_file_equals_bytes_io_with_small_ranges(server: BlobServer, size: int) -> None:
    """And a read that was cancelled at any moment changes nothing."""
    content = text_of(size)
    server.put("blob", content)

    run_state_machine_as_test(
        async_machine(lambda: AsyncBlobIO(server.url("blob"), "rb", credential=False, options=SMALL), content, SMALL),
        settings=SETTINGS,
    )


@pytest.mark.parametrize("size", [EDGE, 2 * EDGE + STREAM + GAP, 8 * MiB + 1])
def test_async_file_equals_bytes_io_with_defaults(server: BlobServer, size: int) -> None:
    """What training loops use."""
    content = text_of(size)
    server.put("blob", content)

    run_state_machine_as_test(
        async_machine(lambda: AsyncBlobIO(server.url("blob"), "rb", credential=False), content, TransferOptions()),
        settings=FEW,
    )
