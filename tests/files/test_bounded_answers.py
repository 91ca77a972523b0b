"""An answer may be as long as it likes: what is read of it is bounded, and the error is not about its length."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TypeAlias

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._bridge import run
from azstoragetorch._transfer.file import Mode
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobIntegrityError,
    BlobResponseError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from tests.blobserver import (
    Action,
    BlobServer,
    ContentRange,
    Header,
    Match,
    ReplaceBody,
    StallBody,
    Status,
    SyntheticContent,
    Trickle,
    on,
)
from tests.files.leaks import no_leaks

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB
HUGE = SyntheticContent(1024 * MiB)
BLOCK = 64 * KiB
PATIENT = TransferOptions(block_size=BLOCK, range_size=BLOCK)
BRIEF = replace(PATIENT, deadline=1)
SOCKETS = 64 * MiB
"""What may be on its way in the kernel's buffers of a loopback connection when its reader goes away: Linux lets the
receiving side grow to 6 or 32 MiB (tcp_rmem) and the sending side to 4 MiB (tcp_wmem)."""
ERROR_READ = SOCKETS + MiB
ANSWER_READ = SOCKETS + 32 * MiB

Use: TypeAlias = Callable[[BlobServer, TransferOptions], object]


def read(server: BlobServer, options: TransferOptions = BRIEF) -> bytes:
    with BlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        return file.read()


def write_short(server: BlobServer, options: TransferOptions = BRIEF) -> None:
    with BlobIO(server.url("blob"), "wb", credential=False, options=options) as file:
        file.write(b"new")


def write_blocks(server: BlobServer, options: TransferOptions = BRIEF) -> None:
    with BlobIO(server.url("blob"), "wb", credential=False, options=options) as file:
        file.write(bytes(2 * BLOCK))


def create(server: BlobServer, options: TransferOptions = BRIEF) -> None:
    with BlobIO(server.url("other"), "xb", credential=False, options=options) as file:
        file.write(b"new")


def list_all(server: BlobServer, options: TransferOptions = BRIEF) -> None:
    async def pages() -> None:
        url = ContainerUrl.parse(server.container_url)
        container = await AzureContainer.open(url, False, options, TransferStats())
        async with aclosing(container.pages()) as found:
            async for _ in found:
                pass

    run(pages)


USES: dict[str, tuple[Use, Match]] = {
    "Get Blob": (read, on("GET")),
    "Put Blob": (write_short, on("PUT", "")),
    "Put Block": (write_blocks, on("PUT", "block")),
    "Put Block List": (write_blocks, on("PUT", "blocklist")),
    "List Blobs": (list_all, on("GET", "list")),
}


@pytest.mark.parametrize("use", USES)
def test_error_is_told_by_its_status_and_not_by_the_length_of_its_body(server: BlobServer, use: str) -> None:
    """A gateway's page of 1 GiB is still a 403, and costs neither memory nor the time to receive it."""
    work, match = USES[use]
    server.put("blob", b"old")
    server.fault(match, Status(403, "AuthorizationFailure", body=HUGE), times=None)
    with no_leaks(server), pytest.raises(AZStorageTorchError) as caught:
        work(server, BRIEF)
    assert isinstance(caught.value, BlobAccessError) or isinstance(caught.value.__cause__, BlobAccessError)
    assert all(record.bytes_sent <= ERROR_READ for record in server.requests() if record.fault)


@pytest.mark.parametrize(("use", "how"), [*((use, StallBody(10)) for use in USES), ("Put Block", Trickle(50))])
def test_error_whose_body_does_not_come_is_told_within_seconds(server: BlobServer, use: str, how: Action) -> None:
    """It says nothing that the status does not say: not worth the limits of an answer that brings content."""
    work, match = USES[use]
    server.put("blob", b"old")
    server.fault(match, Status(403, "AuthorizationFailure", body=bytes(10 * KiB)), how, times=None)
    started = time.monotonic()
    with pytest.raises(AZStorageTorchError) as caught:
        work(server, PATIENT)
    assert time.monotonic() - started < PATIENT.idle_timeout / 2
    assert isinstance(caught.value, BlobAccessError) or isinstance(caught.value.__cause__, BlobAccessError)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        ("Put Block", FatalBlobIOWriteError),
        ("List Blobs", BlobResponseError),
        ("Get Blob", BlobResponseError),
    ],
)
def test_answer_that_is_absurdly_long_is_an_error(server: BlobServer, use: str, error: type[Exception]) -> None:
    """The SDK would read all of it into memory."""
    work, match = USES[use]
    server.put("blob", b"old")
    server.fault(match, ReplaceBody(HUGE), times=None)
    with no_leaks(server), pytest.raises(error):
        work(server, BRIEF)
    most = SOCKETS + 64 * MiB if use == "List Blobs" else ANSWER_READ
    assert all(record.bytes_sent <= most for record in server.requests() if record.fault)


def test_write_whose_answer_is_absurdly_long_is_proved_otherwise(server: BlobServer) -> None:
    """As one whose answer was lost: the service says what the blob holds."""
    server.fault(on("PUT", ""), ReplaceBody(HUGE), times=None)
    write_short(server, replace(PATIENT, deadline=3))
    assert server.get("blob") == b"new"
    assert all(record.bytes_sent <= ANSWER_READ for record in server.requests())


def test_commit_is_proved_by_a_list_of_blocks_of_bounded_length(server: BlobServer) -> None:
    """Nobody can say what became of it then; that is said, and not guessed."""
    server.fault(on("PUT", "blocklist"), ReplaceBody(HUGE), times=None)
    server.fault(on("GET", "blocklist"), ReplaceBody(HUGE), times=None)
    with no_leaks(server), pytest.raises(CommitOutcomeUnknownError):
        create(server)


def test_long_answers_that_are_right_are_read(server: BlobServer) -> None:
    """The bound is above what the service sends: 50,000 blocks are 7 MiB."""
    body = b"<?xml version='1.0'?><Answer>" + b" " * 8 * MiB + b"</Answer>"
    server.fault(on("PUT", "block"), ReplaceBody(body), Header("Content-Type", "application/xml"), times=None)
    write_blocks(server, PATIENT)
    assert server.get("blob") == bytes(2 * BLOCK)


@contextmanager
def endless(start: bytes, part: bytes) -> Iterator[tuple[str, list[int]]]:
    """Serve answers that begin with ``start`` and go on with ``part`` until nobody takes it.

    :return: the origin, and how many bytes each connection took.
    """
    sizes: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            for _ in itertools.count():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(20)
                    sizes.append(0)
                    try:
                        connection.recv(65536)
                        connection.sendall(start)
                        while sizes[-1] < HUGE.size:
                            connection.sendall(part)
                            sizes[-1] += len(part)
                    except OSError:
                        pass  # that is what is waited for

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/devstoreaccount1/data", sizes
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


HEADS = {
    "one header": (b"HTTP/1.1 206 Partial Content\r\nX-Long: ", b"a" * 65536),
    "a header's name": (b"HTTP/1.1 206 Partial Content\r\nX-Long", b"a" * 65536),
    "many headers": (b"HTTP/1.1 206 Partial Content\r\n", b"X-Many: many\r\n" * 4096),
    "the reason": (b"HTTP/1.1 206 ", b"a" * 65536),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_head_without_end_is_given_up(head: str, mode: Mode) -> None:
    """8 KiB a line and 128 lines are the HTTP client's bounds; the service sends 1 KiB in all."""
    with (
        endless(*HEADS[head]) as (container, sizes),
        pytest.raises((BlobResponseError, CommitOutcomeUnknownError)),
        BlobIO(f"{container}/blob", mode, credential=False, options=BRIEF) as file,
    ):
        file.read() if mode == "rb" else file.write(b"new")
    assert sizes
    assert all(size <= SOCKETS for size in sizes)


def test_informal_answers_without_end_are_over_at_the_deadline() -> None:
    """Each "100 Continue" asks for patience; the deadline is where it ends."""
    with (
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100) as (container, _),
        BlobIO(f"{container}/blob", "rb", credential=False, options=BRIEF) as file,
        pytest.raises(BlobTimeoutError),
    ):
        file.read()


def test_size_that_no_blob_can_have_is_not_believed(server: BlobServer) -> None:
    """One wrong header must not make a program ask for 2**60 bytes of memory; asked again, the answer may be right."""
    server.put("blob", bytes(range(256)) * KiB)
    server.fault(on("GET", ""), ContentRange(total=2**60))
    with no_leaks(server):
        assert read(server, PATIENT) == bytes(range(256)) * KiB
        server.fault(on("GET", ""), ContentRange(total=2**60), times=None)
        with pytest.raises(BlobIntegrityError, match="more than any blob can have"):
            read(server)


def test_blob_that_does_not_fit_into_memory_says_so(server: BlobServer) -> None:
    """A checkpoint of 100 TiB is legal, and may still be read in parts."""
    server.put_synthetic("blob", 100 * 1024**2 * MiB)
    with no_leaks(server), BlobIO(server.url("blob"), "rb", credential=False, options=PATIENT) as file:
        with pytest.raises(MemoryError, match=f"^{100 * 1024**2 * MiB} bytes of the blob do not fit into memory"):
            file.read()
        assert len(file.read(100)) == 100
