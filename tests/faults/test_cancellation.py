"""A task may be cancelled at any await: nothing is held afterwards, and the next call is exact.

Which await and how is drawn by hypothesis, which prints what it takes to do it again (``@reproduce_failure``).
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from azstoragetorch import TransferOptions
from azstoragetorch._transfer.memory import Memory
from tests.blobserver import BlobServer, CutBody, Hold, Status, on
from tests.conftest import TlsBlobServer, TlsFiles
from tests.faults.awaits import Awaits, End, Moment
from tests.faults.cancelled_work import (
    LIMIT,
    NAMES,
    PIECE,
    SAMPLES,
    SIZE,
    Bench,
    Create,
    Discover,
    Iterate,
    List,
    Put,
    Read,
    Stream,
    Work,
    Write,
    sample_size,
)
from tests.faults.play import watch
from tests.secrets.canaries import SIGNATURE, found_in

SOAK = bool(os.environ.get("AZSTORAGETORCH_SOAK"))
EXAMPLES = 100 if SOAK else 8
"""Of each work. Those of one run differ from those of the next; the tox environment ``soak`` takes more at a time."""


pytestmark = pytest.mark.timeout(900 if SOAK else 120)


WORKS = [Read, Stream, Write, Create, Put, List, Iterate, Discover]
SECURE = [Read, Write, Discover]
"""Also over https, where ending a connection takes more than one step."""
CASES = [
    *(pytest.param("http", kind, id=f"http-{kind.__name__.lower()}") for kind in WORKS),
    *(pytest.param("https", kind, id=f"https-{kind.__name__.lower()}") for kind in SECURE),
]


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    # Every example collects garbage, twice; what the imports made need not be looked at each time.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def filled(scheme: str, tls_files: TlsFiles) -> Iterator[BlobServer]:
    with BlobServer() if scheme == "http" else TlsBlobServer(tls_files) as server:
        server.require_sas = {"sig": SIGNATURE}
        server.put_synthetic("source", SIZE)
        for number in range(SAMPLES):
            server.put_synthetic(f"sample{number}", sample_size(number), seed=number)
        for name in NAMES:
            server.put(name, b"")
        yield server
    assert not server.malformed
    assert not server.errors


def check(bench: Bench, kind: type[Any], number: int, moment: Moment, *, twice: bool) -> End:
    """Cancel a work of ``kind`` at one await, look at what is left, and return how it ended."""
    awaits = Awaits()

    async def cancelled() -> End:
        work: Work = kind(bench)
        await work.prepare()
        end = await awaits.cancel(work.run(), number, moment, twice=twice)
        if end.error is not None:
            raise end.error
        assert end.cancelled == end.struck, "somebody swallowed the cancellation, or made one"
        # A work that is done is done; but an await that was met while it went on must have met the cancellation.
        assert end.struck or end.late or not 0 < number <= end.awaits, end
        if twice:  # it could not wait for what it had cancelled
            await others_ended()
        gc.collect()  # up to Python 3.12 a TaskGroup that is cancelled leaves a reference cycle
        await work.after(cancelled=end.cancelled)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        memory = Memory.current()
        assert memory.used == 0
        lease = memory.try_take(LIMIT, LIMIT)  # all of it, and nobody stands in the queue
        assert lease is not None
        lease.free()
        await no_connection_lost(bench)
        return end

    with watch() as seen, asyncio.Runner() as runner:
        awaits.install(runner.get_loop())
        end = runner.run(cancelled())
    assert not seen.alarms
    assert not found_in(seen.texts())
    bench.server.wait_closed()
    return end


async def no_connection_lost(bench: Bench) -> None:
    """Use as many connections at once as are open: if one of them is neither closed nor in the pool, one more opens."""
    server = bench.server
    server.wait_idle()
    count = server.connections
    hold = Hold()
    rule = server.fault(on("GET", blob="sample1"), hold, times=None)
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(bench.blob("sample1", known=True).aread())
        await asyncio.to_thread(rule.wait, count)
        hold.release()
    rule.remove()
    server.wait_closed(count)


async def others_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, late = await asyncio.wait(others, timeout=10)
        assert not late


@pytest.mark.parametrize(("scheme", "kind"), CASES)
def test_cancelled_at_any_await(kind: type[Any], filled: BlobServer) -> None:
    """A timeout, a failing sibling or Ctrl-C cancels wherever a task happens to be; that must cost nothing later."""
    ca_file = getattr(filled, "ca_file", None)
    whole: dict[tuple[bool, int], int] = {}
    ends: list[End] = []

    @example(place=0, moment="waiting", twice=False, warm=False, in_flight=4, fault="none")
    @settings(max_examples=EXAMPLES, deadline=None, print_blob=True, database=None)
    @given(
        place=st.floats(0, 1),
        moment=st.sampled_from(["waiting", "granted"]),
        twice=st.booleans(),
        warm=st.booleans(),
        in_flight=st.sampled_from([1, 4]),
        fault=st.sampled_from(["none", "none", "busy", "cut", "late"]),
    )
    def cancelled(place: float, moment: Moment, twice: bool, warm: bool, in_flight: int, fault: str) -> None:
        options = TransferOptions(
            range_size=PIECE,
            block_size=PIECE,
            in_flight=in_flight,
            readahead=4,
            memory_budget=LIMIT,
            ca_file=ca_file,
        )
        bench = Bench(filled, options, warm)
        if (key := (warm, in_flight)) not in whole:
            whole[key] = check(bench, kind, 0, moment, twice=False).awaits
        spoil(filled, fault)
        try:
            end = check(bench, kind, number := 1 + int(place * (whole[key] - 1)), moment, twice=twice)
            if end.awaits < number:  # fewer than when they were counted, because this time less was waited for
                end = check(bench, kind, 1 + int(place * (end.awaits - 1)), moment, twice=twice)
            assert end.struck or place > 0, "the first await is met before anything can end"
            ends.append(end)
        finally:
            filled.clear()
            filled.latency = 0.0

    cancelled()
    struck = sum(end.struck for end in ends)
    # The last awaits may come late, and their number differs from run to run.
    assert struck >= len(ends) / 2, f"only {struck} of {len(ends)} were cancelled"


def spoil(server: BlobServer, fault: str) -> None:
    """Let some requests fail, so that a task may be found in the middle of asking again."""
    match fault:
        case "busy":
            server.fault(on(), Status(503, "ServerBusy"), times=3, nth=2)
        case "cut":
            server.fault(on("GET"), CutBody(100), times=3, nth=2)
        case "late":
            server.latency = 0.003
