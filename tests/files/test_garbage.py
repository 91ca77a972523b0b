"""What a request worked with goes when it has ended, and not with the next garbage collection.

A cycle of references that holds a block of 4 MiB is collected when thousands of other objects have been made, which in
a program that moves bytes may be hundreds of blocks later.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from types import FrameType

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._azure.answer import drain
from azstoragetorch._azure.body import Slices
from azstoragetorch._azure.ranged_get import RangedGet
from azstoragetorch._transfer.readahead import Segment
from azstoragetorch._transfer.writer import Block
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobServiceError, CommitOutcomeUnknownError, FatalBlobIOWriteError
from tests.blobserver import BlobServer, CutBody, Drop, Status

pytestmark = pytest.mark.timeout(40)

BLOCK = 64 * 1024
CONTENT = bytes(3 * BLOCK + 5)
OPTIONS = TransferOptions(block_size=BLOCK, range_size=BLOCK, deadline=2)
HOLDERS = (Slices, RangedGet, Segment, Block)


Left = Callable[[], Awaitable[list[str]]]


def holders() -> list[object]:
    # Not isinstance, which asks an object for its class: some of torch's answer with a warning.
    return [each for each in gc.get_objects() if issubclass(type(each), HOLDERS)]


@pytest.fixture
def left() -> Iterator[Left]:
    """Return what holds memory of a transfer that the test made, a moment after all of its transfers have ended.

    What tests before this one have left is not counted, and Python collects no cycles meanwhile.
    """
    gc.collect()
    gc.disable()
    before = holders()  # kept until the end: another object may then not have the id of one of them
    known = set(map(id, before))

    async def found() -> list[str]:
        for _ in range(20):
            await asyncio.sleep(0)
        return [type(each).__name__ for each in holders() if id(each) not in known]

    yield found
    gc.enable()


async def save(server: BlobServer, size: int) -> None:
    async with AsyncBlobIO(server.url("a"), "wb", credential=False, options=OPTIONS) as file:
        await file.write(CONTENT[:size])


async def load(server: BlobServer) -> None:
    async with AsyncBlobIO(server.url("a"), "rb", credential=False, options=OPTIONS) as file:
        assert await file.read(10) == CONTENT[:10]
        assert await file.read() == CONTENT[10:]


@pytest.mark.parametrize("size", [0, 5, len(CONTENT)])
async def test_write(server: BlobServer, left: Left, size: int) -> None:
    """Blocks, and a single request."""
    await save(server, size)
    assert await left() == []


async def test_read(server: BlobServer, left: Left) -> None:
    """Ranges into the caller's memory, and those that are read ahead."""
    server.put("a", CONTENT)
    await load(server)
    assert await left() == []


@pytest.mark.parametrize("size", [5, len(CONTENT)])
async def test_write_that_is_sent_again(server: BlobServer, left: Left, size: int) -> None:
    """What failed must not keep what succeeds later."""
    server.fault("PUT", Status(503, "ServerBusy"))
    server.fault("PUT", Drop(), nth=2)
    await save(server, size)
    assert await left() == []


@pytest.mark.parametrize("size", [5, len(CONTENT)])
async def test_write_that_is_refused(server: BlobServer, size: int) -> None:
    """aiohttp has one error for all connections that were closed; what its traceback refers to is never collected."""
    server.fault("PUT", Status(502), times=None)  # by something before the service: an answer that the SDK cannot read
    for _ in range(3):
        with suppress(BlobServiceError, CommitOutcomeUnknownError, FatalBlobIOWriteError):
            await save(server, size)
    gc.collect()  # an error that a caller catches has frames, and goes with them
    frames = [each for each in gc.get_objects() if type(each) is FrameType]
    assert not [frame for frame in frames if frame.f_code is drain.__code__]


async def test_read_that_is_sent_again(server: BlobServer, left: Left) -> None:
    """The same."""
    server.put("a", CONTENT)
    server.fault("GET", CutBody(1000))
    server.fault("GET", Status(503, "ServerBusy"), nth=2)
    await load(server)
    assert await left() == []


async def test_error_that_the_caller_handles_keeps_its_traceback(server: BlobServer) -> None:
    """It is the context of what a retry catches, and no error of ours: people save a checkpoint in an except block."""
    server.fault("PUT", Status(503, "ServerBusy"))
    server.fault("PUT", Drop(), nth=2)
    handled = None
    try:
        raise ValueError("of the training")
    except ValueError as error:
        handled = error
        await save(server, 5)
    assert handled.__traceback__ is not None
    assert len(server.requests("PUT")) >= 3
