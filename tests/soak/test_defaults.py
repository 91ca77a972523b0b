"""What lasts for ever, with the limits that users have: each ends with its error when docs/reliability.md says.

All cases wait at the same time, so the whole file takes as long as the longest of them: 4 minutes. Some take less:
``-k "refused or HTTP or range or reset or early"`` half a minute.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import (
    BlobIntegrityError,
    BlobRequestError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import (
    Action,
    BlobServer,
    ContentRange,
    CutBody,
    Drop,
    Garbage,
    Hang,
    StallBody,
    StallUpload,
    Status,
    Trickle,
    on,
)
from tests.blobserver.faults import Match
from tests.faults.together import Ended, Wait, chosen, container_url_of, together, url_of

pytestmark = pytest.mark.timeout(600)

MiB = 1 << 20
DEADLINE = TransferOptions().deadline
SLACK = 5.0
"""Seconds that a machine with thirty calls under way may take to notice."""
GIVEN_UP = 0.5 * DEADLINE
"""Seconds before which nobody gives up what is busy: a wait of 30 s does not begin when the deadline comes first."""


def read(server: BlobServer) -> None:
    with BlobIO(url_of(server), "rb") as file:
        file.read()


def read_async(server: BlobServer) -> None:
    async def work() -> None:
        async with AsyncBlobIO(url_of(server), "rb") as file:
            await file.read()

    asyncio.run(work())


def sample(server: BlobServer) -> None:
    access = Access.of(None, None)
    loading = checked_loading(access, None, 4, "raise")
    with closing(loading.samples([Blob(BlobUrl.parse(url_of(server)), access)])) as samples:
        next(samples)


def listing(server: BlobServer) -> None:
    BlobListing.build(container_url_of(server))


def write(size: int, server: BlobServer) -> None:
    with BlobIO(url_of(server), "wb") as file:
        file.write(bytes(size))


save = partial(write, 100)
save_blocks = partial(write, 8 * MiB)


def write_async(server: BlobServer) -> None:
    async def work() -> None:
        async with AsyncBlobIO(url_of(server), "wb") as file:
            await file.write(bytes(8 * MiB))

    asyncio.run(work())


class Stuck:
    """A credential that never gets a token."""

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.given_up.wait()
        return AccessToken("late", int(time.time()) + 3600)


def read_with_stuck_token(server: BlobServer) -> None:
    credential = Stuck()
    try:
        with BlobIO(server.url("blob"), "rb", credential=credential) as file:
            file.read()
    finally:
        credential.given_up.set()


def refused(act: Callable[[BlobServer], object], server: BlobServer) -> None:
    """Send the client to a port where nobody listens."""
    with closing(BlobServer(listening=False)) as closed:
        act(closed)


def silent_tls(server: BlobServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/devstoreaccount1/data/blob"
        with BlobIO(url, "rb", credential=False) as file:
            file.read()


def always(match: Match, action: Action) -> Callable[[BlobServer], None]:
    """Prepare a server that does so every time."""

    def fault(server: BlobServer) -> None:
        server.put_synthetic("blob", MiB)
        server.fault(match, action, times=None)

    return fault


def nothing(server: BlobServer) -> None:
    """Prepare a server that nobody asks, or nobody spoils."""


BUSY = Status(503, "ServerBusy")
LATER = Status(503, "ServerBusy", {"Retry-After": "86400"})
GET, PUT, BLOCK, COMMIT = on("GET"), on("PUT", ""), on("PUT", "block"), on("PUT", "blocklist")
SILENT = Wait(read, always(on(), Hang()), BlobTimeoutError, 0.9 * DEADLINE, DEADLINE, (4, 8))
"""A try ends after ``idle_timeout``, so there are several."""
THROTTLED = Wait(read, always(on(), BUSY), BlobServiceError, GIVEN_UP, DEADLINE, (10, 10_000))
BROKEN = Wait(read, nothing, BlobResponseError, 0, 15, (8, 16))
"""Eight attempts, at most 12.7 s of waits between them. The HTTP client itself asks twice where a connection ends
without a byte of an answer."""
REFUSED = Wait(partial(refused, read), nothing, BlobRequestError, 5, 10, (0, 0))

CASES = {
    "read, no answer": SILENT,
    "read by AsyncBlobIO, no answer": replace(SILENT, act=read_async),
    "sample, no answer": replace(SILENT, act=sample),
    "list, no answer": replace(SILENT, act=listing),
    "read, stalled body": replace(SILENT, fault=always(GET, StallBody(1000))),
    "read, trickle below min_rate": replace(SILENT, fault=always(GET, Trickle(100))),
    "read, silent handshake": replace(SILENT, act=silent_tls, requests=(0, 0)),
    "read, token that does not come": replace(SILENT, act=read_with_stuck_token, fault=nothing, requests=(0, 0)),
    "read, 503": THROTTLED,
    "read by AsyncBlobIO, 503": replace(THROTTLED, act=read_async),
    "sample, 503": replace(THROTTLED, act=sample),
    "list, 503": replace(THROTTLED, act=listing),
    "read, absurd Retry-After": replace(THROTTLED, fault=always(on(), LATER), requests=(3, 6)),
    "put, 503": replace(THROTTLED, act=save),
    "block, 503": replace(THROTTLED, act=save_blocks, error=FatalBlobIOWriteError),
    "block by AsyncBlobIO, 503": replace(THROTTLED, act=write_async, error=FatalBlobIOWriteError),
    "commit, 503": replace(THROTTLED, act=save_blocks, fault=always(COMMIT, BUSY)),
    "read, reset before the answer": replace(BROKEN, fault=always(GET, Drop())),
    "read, reset before the body": replace(BROKEN, fault=always(GET, CutBody(0, "reset"))),
    "read, body that ends early": replace(BROKEN, fault=always(GET, CutBody(0, "close"))),
    "read, not HTTP": replace(BROKEN, fault=always(GET, Garbage())),
    "sample, not HTTP": replace(BROKEN, act=sample, fault=always(GET, Garbage())),
    "list, not HTTP": replace(BROKEN, act=listing, fault=always(GET, Garbage())),
    "read, another range": replace(BROKEN, fault=always(GET, ContentRange(shift=1)), error=BlobIntegrityError),
    "read by AsyncBlobIO, another range": replace(
        BROKEN, act=read_async, fault=always(GET, ContentRange(shift=1)), error=BlobIntegrityError
    ),
    "block, not HTTP": replace(
        BROKEN, act=save_blocks, fault=always(BLOCK, Garbage()), error=FatalBlobIOWriteError, requests=(8, 40)
    ),
    "commit, not HTTP": replace(BROKEN, act=save_blocks, fault=always(COMMIT, Garbage()), requests=(10, 30)),
    "put, not HTTP": replace(BROKEN, act=save, fault=always(PUT, Garbage()), requests=(9, 20)),
    "read, refused port": REFUSED,
    "read by AsyncBlobIO, refused port": replace(REFUSED, act=partial(refused, read_async)),
    "sample, refused port": replace(REFUSED, act=partial(refused, sample)),
    "list, refused port": replace(REFUSED, act=partial(refused, listing)),
    "put, refused port": replace(REFUSED, act=partial(refused, save)),
    "blocks, refused port": replace(REFUSED, act=partial(refused, save_blocks), error=FatalBlobIOWriteError),
    "block that is not taken": replace(
        SILENT,
        act=save_blocks,
        fault=always(BLOCK, StallUpload(1000)),
        error=FatalBlobIOWriteError,
        requests=(6, 20),
        deaf=True,
    ),
    "block without answer": replace(
        SILENT, act=save_blocks, fault=always(BLOCK, Hang()), error=FatalBlobIOWriteError, requests=(6, 20)
    ),
    "commit without answer": Wait(
        save_blocks,
        always(on(comp="blocklist"), Hang()),
        CommitOutcomeUnknownError,
        1.9 * DEADLINE,
        2 * DEADLINE,
        (8, 20),
    ),
    "put without answer": Wait(
        save, always(on(), Hang()), CommitOutcomeUnknownError, 1.9 * DEADLINE, 2 * DEADLINE, (8, 16)
    ),
}


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest) -> dict[str, Ended]:
    """What came of the cases that are to run; takes as long as the longest of them."""
    return together(chosen(CASES, request))


@pytest.mark.parametrize("name", CASES)
def test_ends_when_documented(name: str, ends: dict[str, Ended]) -> None:
    """Defaults are what nearly everybody has, and nobody waits for them in other tests."""
    CASES[name].check(ends[name], SLACK)
