"""Calls that take several deadlines: what each is, by answers that are late until the last one does not come.

They are the rows of the table in docs/reliability.md that say more than one ``D``, and those of single calls.
`test_deadlines` has what is waited for around requests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.exceptions import (
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Delay, Hang, on, synthetic_bytes
from tests.blobserver.faults import Match
from tests.faults.together import Ended, Wait, chosen, container_url_of, together, url_of

pytestmark = pytest.mark.timeout(60)

KiB = 1024
DEADLINE = 1.0
LATE = 0.7
"""Seconds of an answer that is late, and in time."""
EARLY = 0.1
"""Seconds by which a call may end before the sum: the last try of a request is given up when no other is worth it."""
SLACK = 1.5
"""Seconds that a loaded machine may take to notice; an idle one takes 0.1. A call with two deadlines more than it says
does not pass."""

PIECE = 64 * KiB
# Late answers are waited for: nothing but the deadline ends a request.
OPTIONS = TransferOptions(
    range_size=PIECE, block_size=PIECE, in_flight=4, readahead=0, connect_timeout=5, idle_timeout=5, deadline=DEADLINE
)


def silent(server: BlobServer) -> None:
    server.put_synthetic("blob", 9 * PIECE)
    server.fault(on(), Hang(), times=None)


def late_then_silent(match: Match, late: int) -> Callable[[BlobServer], None]:
    """Let the first ``late`` requests that match be late, and all others of them hang."""

    def fault(server: BlobServer) -> None:
        server.put_synthetic("blob", 9 * PIECE)
        server.put_listing(12_000)
        server.fault(match, Delay(LATE), times=late)
        server.fault(match, Hang(), times=None, nth=late + 1)

    return fault


def late(server: BlobServer) -> None:
    server.put_synthetic("blob", 9 * PIECE)
    server.fault(on(), Delay(LATE), times=None)


def reader(server: BlobServer) -> BlobIO:
    return BlobIO(url_of(server), "rb", options=OPTIONS)


def seek_from_the_end(server: BlobServer) -> None:
    with reader(server) as file:
        file.seek(-1, os.SEEK_END)


def read(server: BlobServer) -> None:
    with reader(server) as file:
        file.read(100)


def read_line(server: BlobServer) -> None:
    with reader(server) as file:
        file.readline()


def read_all(server: BlobServer) -> None:
    data = bytearray(9 * PIECE)
    with reader(server) as file:
        assert file.readinto(data) == len(data)
    assert data == synthetic_bytes(0, len(data))


def sample(server: BlobServer) -> None:
    access = Access.of(None, OPTIONS)
    loading = checked_loading(access, None, 1, "raise")
    with closing(loading.samples([Blob(BlobUrl.parse(url_of(server)), access)])) as samples:
        next(samples)


def build(server: BlobServer) -> None:
    BlobListing.build(container_url_of(server), options=OPTIONS)


def flush(server: BlobServer) -> None:
    file = BlobIO(url_of(server), "wb", options=OPTIONS)
    try:
        file.write(bytes(5 * PIECE))
        file.flush()
    finally:
        file.abort()


def save(server: BlobServer) -> None:
    file = BlobIO(url_of(server), "wb", options=OPTIONS)
    file.write(bytes(4 * PIECE + 1))
    file.close()


def create(server: BlobServer) -> None:
    file = BlobIO(url_of(server, "new"), "xb", options=OPTIONS)
    try:
        file.write(bytes(9 * PIECE))
        file.flush()
    finally:
        file.abort()


def save_small(server: BlobServer) -> None:
    file = BlobIO(url_of(server), "wb", options=OPTIONS)
    file.write(bytes(100))
    file.close()


def save_doubtful(server: BlobServer) -> None:
    server.fault(on("PUT", "block"), Delay(LATE), times=None)
    server.fault(on(comp="blocklist"), Hang(), times=None)


def timed(
    act: Callable[[BlobServer], object],
    fault: Callable[[BlobServer], object],
    error: type[BlobTimeoutError | FatalBlobIOWriteError] | None,
    seconds: float,
    deadlines: int,
) -> Wait:
    """:param seconds: that it takes where only the server takes its time. :param deadlines: what the table says."""
    return Wait(act, fault, error, seconds - EARLY, deadlines * DEADLINE)


CASES = {
    "seek from the end": timed(seek_from_the_end, silent, BlobTimeoutError, 1, 1),
    "read": timed(read, silent, BlobTimeoutError, 1, 1),
    "readline": timed(read_line, silent, BlobTimeoutError, 1, 1),
    "read of 9 ranges, the size is late": timed(
        read_all, late_then_silent(on("GET"), 1), BlobTimeoutError, LATE + 1, 2
    ),
    "read of 9 ranges, every answer is late": timed(read_all, late, None, 3 * LATE, 3),
    "sample of unknown size": timed(sample, late_then_silent(on("GET"), 1), BlobTimeoutError, LATE + 1, 2),
    "listing of 3 pages": timed(build, late_then_silent(on("GET", "list"), 2), BlobTimeoutError, 2 * LATE + 1, 3),
    "flush, nothing is answered": timed(flush, silent, FatalBlobIOWriteError, 1, 1),
    "flush, every answer is late": timed(flush, late, None, 2 * LATE, 2),
    "xb, every answer is late": timed(create, late, None, 4 * LATE, 5),
    "close, nothing is answered": timed(save, silent, FatalBlobIOWriteError, 1, 1),
    "close, blocks are late": timed(save, save_doubtful, CommitOutcomeUnknownError, 2 * LATE + 2, 4),
    "close of one block": timed(save_small, silent, CommitOutcomeUnknownError, 2, 2),
}


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest) -> dict[str, Ended]:
    """What came of the cases; takes 3.5 s for all of them."""
    return together(chosen(CASES, request))


@pytest.mark.parametrize("name", CASES)
def test_takes_its_deadlines_and_not_one_more(name: str, ends: dict[str, Ended]) -> None:
    """A job that is to fail within its budget of time adds these up."""
    CASES[name].check(ends[name], SLACK)
