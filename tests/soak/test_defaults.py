"""What lasts for ever, with the limits that users have: each ends with its error when docs/reliability.md says.

All cases wait at the same time, so the whole file takes as long as the longest of them: 4 to 5 minutes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobRequestError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Drop, Hang, StallBody, StallUpload, Status, Trickle, on

pytestmark = pytest.mark.timeout(600)

MiB = 1 << 20
DEADLINE = TransferOptions().deadline
SLACK = 15.0


def read(server: BlobServer, name: str) -> None:
    with BlobIO(server.url(name), "rb", credential=False) as file:
        file.read()


def write(server: BlobServer, name: str, size: int) -> None:
    with BlobIO(server.url(name), "wb", credential=False) as file:
        file.write(bytes(size))


def refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with BlobIO(f"http://127.0.0.1:{port}/devstoreaccount1/data/blob", "rb", credential=False) as file:
        file.read()


def silent_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/devstoreaccount1/data/blob"
        with BlobIO(url, "rb", credential=False) as file:
            file.read()


@dataclass(frozen=True, slots=True)
class Case:
    """:ivar least: seconds before which it would be given up too early. :ivar most: seconds that it takes at most."""

    act: Callable[[BlobServer], object]
    error: type[AZStorageTorchError]
    least: float
    most: float


CASES = {
    "read, no answer": Case(lambda s: read(s, "silent"), BlobTimeoutError, 60, DEADLINE),
    "read, stalled body": Case(lambda s: read(s, "stalled"), BlobTimeoutError, 60, DEADLINE),
    "read, trickle below min_rate": Case(lambda s: read(s, "trickle"), BlobTimeoutError, 60, DEADLINE),
    "read, 503 for ever": Case(lambda s: read(s, "busy"), BlobServiceError, 60, DEADLINE),
    "read, absurd Retry-After": Case(lambda s: read(s, "later"), BlobServiceError, 60, DEADLINE),
    "read, reset for ever": Case(lambda s: read(s, "reset"), BlobResponseError, 0, 60),
    "read, refused port": Case(lambda s: refused(), BlobRequestError, 5, 10),
    "read, silent handshake": Case(lambda s: silent_tls(), BlobTimeoutError, 60, DEADLINE),
    "write, stalled block": Case(lambda s: write(s, "stuck", 8 * MiB), FatalBlobIOWriteError, 60, DEADLINE),
    "write, block without answer": Case(lambda s: write(s, "mute", 8 * MiB), FatalBlobIOWriteError, 60, DEADLINE),
    "commit without answer": Case(
        lambda s: write(s, "doubtful", 8 * MiB), CommitOutcomeUnknownError, DEADLINE, 2 * DEADLINE
    ),
    "put without answer": Case(lambda s: write(s, "small", 100), CommitOutcomeUnknownError, DEADLINE, 2 * DEADLINE),
    "list, no answer": Case(
        lambda s: BlobListing.build(s.container_url, credential=False), BlobTimeoutError, 60, DEADLINE
    ),
}


def test_each_ends_when_documented(server: BlobServer) -> None:
    """Takes 4 to 5 minutes: defaults are what nearly everybody has, and nobody waits for them in other tests."""
    for name in ("silent", "stalled", "trickle", "busy", "later", "reset"):
        server.put_synthetic(name, MiB)
    for name, action in {
        "silent": Hang(),
        "stalled": StallBody(1000),
        "trickle": Trickle(100),
        "busy": Status(503, "ServerBusy"),
        "later": Status(503, "ServerBusy", {"Retry-After": "86400"}),
        "reset": Drop(),
    }.items():
        server.fault(on("GET", blob=name), action, times=None)
    server.fault(on("PUT", "block", blob="stuck"), StallUpload(1000), times=None)
    server.fault(on("PUT", "block", blob="mute"), Hang(), times=None)
    server.fault(on(comp="blocklist", blob="doubtful"), Hang(), times=None)
    server.fault(on(blob="small"), Hang(), times=None)
    server.fault(on("GET", "list"), Hang(), times=None)

    found: dict[str, tuple[type[BaseException] | None, float]] = {}

    def act(name: str) -> None:
        start = time.monotonic()
        error: type[BaseException] | None = None
        try:
            CASES[name].act(server)
        except AZStorageTorchError as raised:
            error = type(raised)
        found[name] = error, time.monotonic() - start

    threads = [threading.Thread(target=act, args=[name]) for name in CASES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name, (error, seconds) in found.items():
        print(f"{name}: {error.__name__ if error else 'no error'} after {seconds:.1f} s")
    for name, case in CASES.items():
        error, seconds = found[name]
        assert error is not None, name
        assert issubclass(error, case.error), name
        assert case.least <= seconds <= case.most + SLACK, name
