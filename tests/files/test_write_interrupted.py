"""What interrupts a write in its middle must not publish half of it, or some of it twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Call, Hold, on

MiB = 1 << 20
TIGHT = TransferOptions(block_size=MiB, memory_budget=MiB, in_flight=1)


async def test_cancelled_flush_never_sends_a_block_twice(server: BlobServer) -> None:
    """The block may have left before the cancellation: to offer it again would commit it twice."""
    server.put("a", b"previous")
    hold = Hold()
    rule = server.fault(on("PUT", "block"), hold)
    file = AsyncBlobIO(server.url("a"), "wb", credential=False, options=TIGHT)
    await file.write(bytes(2 * MiB))
    flush = asyncio.create_task(file.flush())
    await asyncio.to_thread(rule.wait)
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    hold.release()

    with pytest.raises(FatalBlobIOWriteError, match="interrupted"):
        await file.write(b"more")
    with pytest.raises(FatalBlobIOWriteError, match="interrupted"):
        await file.aclose()

    assert not file.committed
    assert server.get("a") == b"previous"


@contextmanager
def signal_calls(function: Callable[[], None]) -> Iterator[None]:
    """Call ``function`` in the main thread when SIGUSR1 arrives."""
    previous = signal.signal(signal.SIGUSR1, lambda *_: function())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("operation", ["close", "write", "flush"])
def test_signal_handler_cannot_reenter_a_write(server: BlobServer, operation: str) -> None:
    """A handler that saves and closes on SIGTERM would commit half of what the main thread is writing."""
    server.put("a", b"previous")
    seen: list[BaseException] = []
    file = BlobIO(server.url("a"), "wb", credential=False, options=TIGHT)

    def handler() -> None:
        try:
            getattr(file, operation)(*([b"x"] if operation == "write" else []))
        except RuntimeError as error:
            seen.append(error)
        hold.release()

    hold = Hold()
    server.fault(on("PUT", "block"), Call(lambda: os.kill(os.getpid(), signal.SIGUSR1)), hold)
    content = b"".join(bytes([i]) * MiB for i in range(4))
    with signal_calls(handler), file:
        assert file.write(content) == len(content)

    assert [str(error).partition(":")[0] for error in seen] == ["reentrant call"]
    assert server.get("a") == content


def test_abort_in_a_signal_handler_prevents_the_commit(server: BlobServer) -> None:
    """Whoever gives up must be obeyed, even in the middle of a write whose author knows nothing of it."""
    server.put("a", b"previous")
    file = BlobIO(server.url("a"), "wb", credential=False, options=TIGHT)

    def handler() -> None:
        with pytest.raises(RuntimeError, match="reentrant"):
            file.abort()
        hold.release()

    hold = Hold()
    server.fault(on("PUT", "block"), Call(lambda: os.kill(os.getpid(), signal.SIGUSR1)), hold)
    with signal_calls(handler), pytest.raises(FatalBlobIOWriteError, match=r"abort\(\)"), file:
        file.write(bytes(4 * MiB))

    assert server.get("a") == b"previous"
    assert not server.requests("PUT", comp="blocklist")


async def test_timeout_inside_a_with_block_stays_a_timeout(server: BlobServer) -> None:
    """``except TimeoutError`` around a save must see its own timeout, not what it did to the file."""
    server.put("a", b"previous")
    hold = Hold()
    rule = server.fault(on("PUT", "block"), hold)
    with pytest.raises(TimeoutError):
        async with AsyncBlobIO(server.url("a"), "wb", credential=False, options=TIGHT) as file:
            async with asyncio.timeout(None) as timeout:
                write = asyncio.create_task(asyncio.to_thread(rule.wait))
                write.add_done_callback(lambda _: timeout.reschedule(0))
                await file.write(bytes(4 * MiB))
    hold.release()

    assert server.get("a") == b"previous"


@pytest.mark.parametrize("size", [4 * MiB, 100], ids=["blocks", "one put"])
async def test_abort_during_close_prevents_the_commit(server: BlobServer, size: int) -> None:
    """A watchdog gives up while close() still waits for the last blocks: what it gave up must not appear."""
    server.put("a", b"previous")
    hold = Hold()
    file = AsyncBlobIO(server.url("a"), "wb", credential=False, options=TransferOptions(block_size=MiB))
    rule = server.fault(on("PUT", "block"), hold)
    await file.write(bytes(size))
    if size == 100:
        await file.abort()
        await file.aclose()
        hold.release()
    else:
        close = asyncio.create_task(file.aclose())
        await asyncio.to_thread(rule.wait)
        abort = asyncio.create_task(file.abort())
        await asyncio.sleep(0)
        hold.release()
        with pytest.raises(FatalBlobIOWriteError, match=r"abort\(\)"):
            await close
        await abort

    assert not file.committed
    assert server.get("a") == b"previous"
