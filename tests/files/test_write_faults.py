"""A write that fails says so once and for ever, and what it sends is guarded by checksums.

What becomes of a write under each single fault is in tests/faults.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError
from azure.core.rest import HttpRequest

from azstoragetorch import TransferOptions
from azstoragetorch._azure.errors import Failure, Kind
from azstoragetorch._azure.sent import Sent
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobExistsError,
    BlobRequestError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    ContainerNotFoundError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from tests.blobserver import (
    BlobServer,
    Call,
    Drop,
    LoseAnswer,
    Status,
    on,
)
from tests.conftest import TlsBlobServer
from tests.files.leaks import Leaks, no_leaks

BLOCK = 1000
SMALL = TransferOptions(block_size=BLOCK, in_flight=4)
# Also for steps that work, which take milliseconds, on a busy machine some hundred of them.
BRIEF = TransferOptions(block_size=BLOCK, in_flight=4, deadline=1.5, idle_timeout=0.6)
CONTENT = random.Random(7).randbytes(4500)
PART = CONTENT[:500]

PUT_BLOCK, PUT_BLOB = on("PUT", "block"), on("PUT", "")
REFUSED = Status(403, "AuthorizationPermissionMismatch")


@pytest.fixture(autouse=True)
def leaks(server: BlobServer) -> Iterator[Leaks]:
    with no_leaks(server) as checked:
        yield checked


def open_blob(server: BlobServer, mode: Any = "wb", options: TransferOptions = SMALL) -> BlobIO:
    return BlobIO(server.url("a"), mode, credential=False, options=options)


def write(server: BlobServer, content: bytes, mode: Any = "wb", options: TransferOptions = SMALL) -> BlobIO:
    with open_blob(server, mode, options) as file:
        file.write(content)
    assert file.committed
    return file


def test_first_error_is_raised_by_everything_after_it(server: BlobServer) -> None:
    """torch.save goes on writing after an error, and what it reports itself says nothing about the reason."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, REFUSED)
    server.fault(PUT_BLOCK, Status(404, "ContainerNotFound"), times=None)
    file = open_blob(server)
    file.write(CONTENT[: 2 * BLOCK])
    with pytest.raises(FatalBlobIOWriteError) as first:
        file.flush()
        file.flush()
    operations: list[Callable[[], object]] = [lambda: file.write(b"x"), lambda: file.write(b""), file.flush, file.close]
    for operation in operations:
        with pytest.raises(FatalBlobIOWriteError) as later:
            operation()
        assert later.value.__cause__ is first.value.__cause__

    cause = first.value.__cause__
    assert isinstance(cause, BlobAccessError)
    assert (cause.status_code, cause.error_code) == (403, "AuthorizationPermissionMismatch")
    assert server.url("a") in str(first.value)
    assert "nothing was committed" in str(first.value)
    assert file.closed
    assert not file.committed
    assert server.get("a") == b"good"
    assert not server.requests("PUT", comp="blocklist")


def test_error_is_seen_behind_the_one_it_caused(server: BlobServer) -> None:
    """Code between write and with may turn the error into one of its own that says nothing about the network."""
    server.fault(PUT_BLOCK, REFUSED, times=None)

    with pytest.raises(FatalBlobIOWriteError) as caught, open_blob(server) as file:
        with contextlib.suppress(FatalBlobIOWriteError):
            file.write(CONTENT)
            file.flush()
        raise RuntimeError("unexpected pos")

    assert isinstance(caught.value.__cause__, BlobAccessError)


def test_swallowed_error_still_fails_the_close(server: BlobServer) -> None:
    """Whoever ignores what write raises must not get a blob with a hole."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, REFUSED)

    with pytest.raises(FatalBlobIOWriteError), open_blob(server) as file:
        for start in range(0, len(CONTENT), 100):
            with contextlib.suppress(OSError, AZStorageTorchError):
                file.write(CONTENT[start : start + 100])

    assert server.get("a") == b"good"


def test_refused_write_is_a_permission_error(server: BlobServer) -> None:
    """So that code which knows files, or the SDK, catches it."""
    server.fault("PUT", REFUSED)
    with pytest.raises(PermissionError) as caught:
        write(server, PART)
    assert isinstance(caught.value, BlobAccessError)
    assert isinstance(caught.value, ClientAuthenticationError)


@pytest.mark.parametrize("content", [PART, CONTENT], ids=["one request", "blocks"])
def test_missing_container(server: BlobServer, content: bytes) -> None:
    """A typing error in the URL is the likeliest mistake of all."""
    url = server.url("a").replace("/data/", "/dada/")

    with pytest.raises((FatalBlobIOWriteError, ContainerNotFoundError)) as caught:  # noqa: SIM117
        with BlobIO(url, "wb", credential=False, options=SMALL) as file:
            file.write(content)

    error = caught.value.__cause__ if content is CONTENT else caught.value
    assert isinstance(error, ContainerNotFoundError)
    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, ResourceNotFoundError)
    assert url in str(caught.value)


def test_lost_answer_before_a_refused_connection_leaves_the_outcome_unknown(server: BlobServer) -> None:
    """The HTTP client asks again by itself on a used connection: that the second try was refused proves nothing."""
    with BlobServer() as other:
        url = other.url("a")
        with BlobIO(url, "wb", credential=False, options=BRIEF) as file:
            file.write(b"previous")
        other.fault(PUT_BLOB, LoseAnswer("reset"))
        file = BlobIO(url, "wb", credential=False, options=BRIEF)
        file.write(PART)
        other.fault(PUT_BLOB, Drop("reset"), times=None)
        other.fault("HEAD", Drop("reset"), times=None)
        with pytest.raises(CommitOutcomeUnknownError):
            file.close()
        assert other.get("a") == PART


@pytest.mark.parametrize("size", [500, 4500], ids=["one request", "blocks"])
def test_write_that_the_service_comes_to_later_is_not_called_a_failure(server: BlobServer, size: int) -> None:
    """That the blob does not hold the content proves nothing while a request of ours is still queued."""
    server.put("a", b"previous")
    released = threading.Event()
    match = PUT_BLOB if size < BLOCK else on("PUT", "blocklist")
    rule = server.fault(match, Call(lambda: released.wait(20)), times=None)
    with pytest.raises(CommitOutcomeUnknownError, match="may still apply what it was sent") as caught:
        write(server, CONTENT[:size], options=BRIEF)
    assert isinstance(caught.value.__cause__, BlobTimeoutError)
    assert server.get("a") == b"previous"
    rule.remove()
    released.set()
    server.wait_idle()
    assert server.get("a") == CONTENT[:size]


async def test_checksum_of_a_lost_answer_does_not_wait_for_the_users_threads(server: BlobServer) -> None:
    """The loop's executor is the user's, and may be busy for ever; to say "not committed" then would be wrong."""
    released = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    server.fault(on("PUT", "", blob="a"), LoseAnswer(), times=None)
    options = TransferOptions(deadline=1, idle_timeout=0.3, checksum="none")
    async with AsyncBlobIO(server.url("b"), "wb", credential=False, options=options) as file:
        await file.write(b"looks the host up")
    file = AsyncBlobIO(server.url("a"), "wb", credential=False, options=options)
    await file.write(bytes(1_000_000))
    busy = loop.run_in_executor(None, released.wait, 60)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(CommitOutcomeUnknownError, match="no thread of the event loop's executor"):
                await file.aclose()
    finally:
        released.set()
        await busy
    assert len(server.get("a")) == 1_000_000


async def test_commit_without_a_connection_is_told_from_other_writes(server: BlobServer) -> None:
    """While a thousand blobs are written, "no connection" of one that was never sent needs no question and no doubt."""
    sent, other = Sent(), Sent()
    for each in (sent, other):
        request = HttpRequest("PUT", "http://127.0.0.1", content=PART)
        each.follow(types.SimpleNamespace(http_request=request))
        if each is other:
            async for _ in request.data:
                pass
        each.note(Failure(Kind.REFUSED, BlobRequestError, "no connection", unconnected=True))
    assert (sent.unanswered, sent.pending) == (False, False)
    assert (other.unanswered, other.pending) == (True, False)


# Create only.


def test_create_fails_before_uploading(server: BlobServer) -> None:
    """An hour's upload is not spent on finding out that the name is taken."""
    server.put("a", b"good")
    file = open_blob(server, "xb")
    with pytest.raises(BlobExistsError):
        for _ in range(3):
            file.write(CONTENT[:BLOCK])

    assert not server.requests("PUT")
    with pytest.raises(FileExistsError) as caught:
        file.close()
    assert isinstance(caught.value.__cause__, BlobExistsError)


def test_create_that_loses_the_reason_on_the_way(server: BlobServer) -> None:
    """torch.save turns what write raises into an error of its own; a name that is taken has to stay recognisable."""
    server.put("a", b"good")
    with pytest.raises(FileExistsError), open_blob(server, "xb") as file:
        with contextlib.suppress(BlobExistsError):
            file.write(CONTENT)
        raise RuntimeError("unexpected pos")


# Checksums.


def test_blocks_over_http_carry_their_md5(server: BlobServer) -> None:
    """Nothing else guards the bytes on a connection without TLS."""
    write(server, CONTENT)
    write(server, PART)

    content = server.requests("PUT", comp="block") + server.requests("PUT", comp="")
    assert len(content) == 6
    content += server.requests("PUT", comp="blocklist")
    assert len(content) == 7
    assert all(len(base64.b64decode(record.headers["content-md5"])) == 16 for record in content)


def test_crc64_is_sent_on_request(server: BlobServer) -> None:
    """Twice as fast as MD5; the bytes are those that the service computes (its published check value)."""
    check = b"123456789"
    write(server, check, options=TransferOptions(checksum="crc64"))
    write(server, CONTENT, options=TransferOptions(checksum="crc64", block_size=BLOCK))

    # CRC-64/NVME of "123456789" is AE8B14860A799888: https://reveng.sourceforge.io/crc-catalogue/all.htm
    (single,) = server.requests("PUT", comp="")
    expected = base64.b64encode(0xAE8B14860A799888.to_bytes(8, "little")).decode()
    assert single.headers["x-ms-content-crc64"] == expected
    blocks = server.requests("PUT", comp="block")
    assert len(blocks) == 5
    assert all(len(base64.b64decode(record.headers["x-ms-content-crc64"])) == 8 for record in blocks)
    assert all("content-md5" not in record.headers for record in blocks)
    # The SDK writes the list of blocks, and knows MD5 only.
    (commit,) = server.requests("PUT", comp="blocklist")
    assert len(base64.b64decode(commit.headers["content-md5"])) == 16


def test_no_checksum_on_request(server: BlobServer) -> None:
    """Who trusts the network does not pay."""
    write(server, CONTENT, options=TransferOptions(checksum="none", block_size=BLOCK))
    for record in server.requests():
        assert not {"content-md5", "x-ms-content-crc64"} & set(record.headers)


def test_no_checksum_over_https_unless_asked(tls_server: TlsBlobServer) -> None:
    """TLS authenticates every byte; MD5 would double the cost of an upload."""
    options = TransferOptions(block_size=BLOCK, ca_file=tls_server.ca_file)
    write(tls_server, CONTENT, options=options)
    assert all("content-md5" not in record.headers for record in tls_server.requests())
    tls_server.clear()

    write(tls_server, CONTENT, options=TransferOptions(block_size=BLOCK, ca_file=tls_server.ca_file, checksum="md5"))
    assert all("content-md5" in record.headers for record in tls_server.requests("PUT", comp="block"))
