"""Ctrl-C as a function of the package is called, and as it returns: one moment after the other, none left to chance.

Python looks for signals where a function begins and where a call has returned. A trace function raises at exactly one
of these moments, in the thread that uses the file, and in the next run of the same work a little later.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest

import azstoragetorch
from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Memory
from azstoragetorch.exceptions import FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, synthetic_bytes
from tests.faults.play import watch
from tests.files.leaks import Leaks
from tests.secrets.canaries import SIGNATURE, found_in, texts_of

SOAK = bool(os.environ.get("AZSTORAGETORCH_SOAK"))
STRIDE = 1 if SOAK else 17
"""Moments from one run to the next. The tox environment ``soak`` leaves none out; it takes 3 minutes for that."""

pytestmark = pytest.mark.timeout(900 if SOAK else 120)

PACKAGE = azstoragetorch.__path__[0]
PIECE = 64 * 1024
SIZE = 5 * PIECE + 77
SAS = f"sp=rwdl&sig={quote(SIGNATURE, safe='')}"
OPTIONS = TransferOptions(range_size=PIECE, block_size=PIECE, in_flight=2, readahead=2, memory_budget=1 << 20)


@pytest.fixture(autouse=True)
def _secret(server: BlobServer) -> Iterator[None]:
    """Ask for a SAS and look for it in all that is logged; an interrupt must not drive it out either."""
    server.require_sas = {"sig": SIGNATURE}
    with watch() as seen:
        yield
    assert not seen.alarms
    assert not found_in(seen.texts())


class Moments:
    """Raises KeyboardInterrupt at one of the calls and returns of the package in this thread."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.struck = False

    def during(self, work: Callable[[], object]) -> bool:
        """Do ``work`` and say whether it was interrupted."""
        said: list[str] = []
        previous = sys.gettrace()
        sys.settrace(self._called)
        try:
            work()
        except KeyboardInterrupt as error:
            said += texts_of(error)
        finally:
            sys.settrace(previous)
        assert self.struck or not said
        assert not found_in(said)
        return bool(said)

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_lines = False
        self._strike()
        return self._traced

    def _traced(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "return":
            self._strike()
        return self._traced

    def _strike(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.struck = True
            raise KeyboardInterrupt


def small_reads(file: BlobIO) -> None:
    file.seek(10)
    file.read(100)
    file.readline(50)
    file.peek(10)


def large_read(file: BlobIO) -> None:
    file.seek(0)
    file.readinto(bytearray(SIZE))


READS = {"small": small_reads, "large": large_read, "close": BlobIO.close}


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
def test_reader(what: str, warm: bool, server: BlobServer) -> None:
    """The next call on the same file is exact, and its memory comes back when it is closed."""
    server.put_synthetic("source", SIZE)
    leaks = Leaks()
    number, struck = 1 - STRIDE, True
    while struck:
        number += STRIDE
        moments = Moments(number)
        file = BlobIO(f"{server.url('source')}?{SAS}", "rb", credential=False, options=OPTIONS)
        if warm:
            assert file.read(1000) == synthetic_bytes(0, 1000)
        moments.during(partial(READS[what], file))
        struck = moments.struck
        if not file.closed:
            file.seek(5)
            assert file.read(2 * PIECE) == synthetic_bytes(5, 5 + 2 * PIECE), number
        file.close()
        del file
        gc.collect()
        leaks.wait()
        assert leaks.memory() == 0, number
    assert number > (5 if what == "close" else 20)


@pytest.mark.parametrize("step", [40_000, 150_000])
def test_writer(step: int, server: BlobServer) -> None:
    """What is committed afterwards is what the file says that it took, or nothing is."""
    leaks = Leaks()
    number, struck = 1 - STRIDE, True
    while struck:
        number += STRIDE
        moments = Moments(number)
        name = f"target{number}"
        file = BlobIO(f"{server.url(name)}?{SAS}", "wb", credential=False, options=OPTIONS)

        def work(file: BlobIO = file) -> None:
            for start in range(0, SIZE, step):
                file.write(synthetic_bytes(start, min(start + step, SIZE)))
            file.flush()
            file.close()

        moments.during(work)
        struck = moments.struck
        said: list[str] = []
        taken = file.tell() if not file.closed else None
        try:
            file.close()
        except FatalBlobIOWriteError as error:
            said, taken = [*texts_of(error)], 0
        assert not found_in(said)
        server.wait_idle()
        found = content_of(server, name)
        assert found == synthetic_bytes(0, len(found))
        assert len(found) in ((0, SIZE) if taken is None else (taken,)), number
        if file.committed:
            assert len(found) == (SIZE if taken is None else taken)
        del file, work
        gc.collect()
        leaks.wait()
        assert leaks.memory() == 0, number
    assert run(_budget_is_whole)
    assert number > 100


def content_of(server: BlobServer, name: str) -> bytes:
    """Return what a blob holds, nothing where there is none."""
    try:
        return server.get(name)
    except KeyError:
        return b""


async def _budget_is_whole() -> bool:
    memory = Memory.current()
    lease = memory.try_take(1 << 20, 1 << 20)
    if lease is not None:
        lease.free()
    return lease is not None
