"""A read that the service refuses is one typed error after one request, naming the blob and no secret."""

from __future__ import annotations

import errno
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobSasPermissions, generate_blob_sas

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobNotFoundError,
    BlobServiceError,
    ContainerNotFoundError,
)
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Status, on

pytestmark = pytest.mark.timeout(30)

CANARY = "Q0FOQVJZc2lnbmF0dXJl"
SAS = f"sv=2021-12-02&se=2099-01-01T00%3A00%3A00Z&sr=b&sp=r&sig={CANARY}%3D"

Read = Callable[[BlobIO], object]
READS: dict[str, Read] = {
    "read all": lambda file: file.read(),
    "read some": lambda file: file.read(10),
    "readinto": lambda file: file.readinto(bytearray(20 << 20)),
    "readline": lambda file: file.readline(),
    "peek": lambda file: file.peek(),
    "read after seek": lambda file: file.read(file.seek(5_000_000)),
    "seek to the end": lambda file: file.seek(0, 2),
}


@pytest.mark.parametrize("read", [pytest.param(use, id=name) for name, use in READS.items()])
def test_missing_blob_is_one_error_after_one_request(server: BlobServer, read: Read) -> None:
    """`except FileNotFoundError` is what people write, and no retry will find the blob."""
    url = server.url("folder/missing blob")
    with BlobIO(url, "rb", credential=False) as file, pytest.raises(BlobNotFoundError) as caught:
        read(file)

    error = caught.value
    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, ResourceNotFoundError)
    assert not isinstance(error, ContainerNotFoundError)
    assert (error.status_code, error.error_code, error.errno) == (404, "BlobNotFound", errno.ENOENT)
    assert error.request_id
    assert url in str(error)
    assert len(server.requests()) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AuthenticationFailed"),
        (403, "AuthorizationPermissionMismatch"),
        (403, "AuthorizationFailure"),
        (401, "NoAuthenticationInformation"),
        (403, ""),
    ],
)
def test_refused_access_is_one_error_after_one_request(server: BlobServer, status: int, code: str) -> None:
    """Asking again locks accounts and wastes minutes."""
    server.put("blob", b"content")
    server.fault("GET", Status(status, code), times=None)
    with BlobIO(server.url("blob"), "rb", credential=False) as file, pytest.raises(BlobAccessError) as caught:
        file.read()

    error = caught.value
    assert isinstance(error, PermissionError)
    assert isinstance(error, ClientAuthenticationError)
    assert (error.status_code, error.error_code, error.errno) == (status, code or None, errno.EACCES)
    assert server.url("blob") in str(error)
    assert len(server.requests()) == 1


def test_expired_sas_is_named_as_what_it_is(server: BlobServer) -> None:
    """The most usual error of all; the message says where to look and does not show the signature."""
    server.put("blob", b"content")
    url = server.url("blob")
    with BlobIO(f"{url}?{SAS.replace('2099', '2001')}", "rb") as file, pytest.raises(BlobAccessError) as caught:
        file.read()

    assert len(server.requests()) == 1
    assert CANARY in server.requests()[0].raw_query, "it was really sent"
    shown = [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]
    assert "expired" in shown[0]
    assert url in shown[0]
    assert not any(CANARY in text or "se=2001" in text for text in shown)
    assert CANARY.encode() not in pickle.dumps(caught.value)


def test_expired_sas_on_the_emulator_is_the_same_error(container_url: str) -> None:
    """Its answers were written by others than ours."""
    base, _, sas = container_url.partition("?")
    with BlobIO(f"{base}/blob?{sas}", "wb") as file:
        file.write(b"content")
    container = base.rsplit("/", 1)[1]
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    ended = datetime.now(UTC) - timedelta(hours=1)
    expired = generate_blob_sas(
        "devstoreaccount1", container, "blob", account_key=key, permission=BlobSasPermissions(read=True), expiry=ended
    )
    signature = expired.rpartition("sig=")[2]

    with BlobIO(f"{base}/blob?{expired}", "rb") as file, pytest.raises(BlobAccessError) as caught:
        file.read()
    assert isinstance(caught.value, PermissionError)
    assert f"{base}/blob" in str(caught.value)
    assert signature not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [(400, "InvalidHeaderValue", "400"), (409, "BlobArchived", "archive tier"), (501, "", "501")],
)
def test_any_other_refusal_is_final(server: BlobServer, status: int, code: str, word: str) -> None:
    """One request, one error, with what the service said."""
    server.fault("GET", Status(status, code), times=None)
    with (
        BlobIO(server.url("blob"), "rb", credential=False) as file,
        pytest.raises(BlobServiceError, match=word) as info,
    ):
        file.read()

    assert isinstance(info.value, HttpResponseError)
    assert (info.value.status_code, info.value.error_code) == (status, code or None)
    assert len(server.requests()) == 1


def test_refused_read_can_be_tried_again(server: BlobServer) -> None:
    """A blob that another job is about to write: the same open file finds it later."""
    with BlobIO(server.url("blob"), "rb", credential=False) as file:
        with pytest.raises(FileNotFoundError):
            file.read()
        server.put("blob", b"content")
        assert file.read() == b"content"


def test_error_in_the_window_ahead_belongs_to_who_reads_it(server: BlobServer) -> None:
    """Read-ahead may fail for bytes that are never asked for: the bytes before them must still come."""
    size, step = 2 << 20, 1 << 16
    server.put("blob", bytes(size))
    rule = server.fault(on("GET", covers=size // 2), Status(403, "AuthenticationFailed"), times=None)
    options = TransferOptions(range_size=step, memory_budget=4 << 20)
    with BlobIO(server.url("blob"), "rb", credential=False, options=options) as file:
        for _ in range(size // 2 // step):
            assert len(file.read(step - 1)) == step - 1
        with pytest.raises(BlobAccessError):
            file.read(2 * step)
        rule.remove()
        assert len(file.read()) == size - size // 2 + size // 2 // step


async def test_async_file_raises_the_same_errors(server: BlobServer) -> None:
    """One contract for both faces."""
    async with AsyncBlobIO(server.url("missing"), "rb", credential=False) as file:
        with pytest.raises(BlobNotFoundError) as caught:
            await file.read()
    assert isinstance(caught.value, FileNotFoundError)
    assert len(server.requests()) == 1
