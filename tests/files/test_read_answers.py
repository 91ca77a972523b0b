"""What an open file does before and after an answer that cannot be used; all kinds of them are in tests/faults."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobIntegrityError, BlobModifiedError, BlobServiceError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, ShortBody, Status, on, synthetic_bytes

pytestmark = pytest.mark.timeout(30)

KiB = 1024
RANGE = 64 * KiB
SMALL = TransferOptions(range_size=RANGE, memory_budget=1 << 20, in_flight=4)
SIZE = 10 * RANGE + 33


@pytest.fixture
def url(server: BlobServer) -> str:
    server.put_synthetic("blob", SIZE)
    return server.url("blob")


def read_all(url: str, options: TransferOptions = SMALL) -> bytes:
    with BlobIO(url, "rb", credential=False, options=options) as file:
        return file.read()


def test_failed_range_is_not_remembered(server: BlobServer, url: str) -> None:
    """The file stays where it was, and reads on when the network is well again."""
    server.fault(on("GET", range=(2 * RANGE, 3 * RANGE)), ShortBody(1), times=None)
    options = TransferOptions(range_size=RANGE, memory_budget=1 << 20, deadline=1)

    with BlobIO(url, "rb", credential=False, options=options) as file:
        assert file.read(2 * RANGE) == synthetic_bytes(0, 2 * RANGE)
        with pytest.raises(BlobIntegrityError):
            file.read(RANGE)
        assert file.tell() == 2 * RANGE
        server.faults.clear()
        assert file.read(RANGE) == synthetic_bytes(2 * RANGE, 3 * RANGE)


def test_busy_service_is_an_error_at_the_deadline(server: BlobServer, url: str) -> None:
    """With what the service said."""
    server.fault("GET", Status(503, "ServerBusy"), times=None)

    with pytest.raises(BlobServiceError, match=r"503 ServerBusy.*gave up after \d+ attempt") as caught:
        read_all(url, TransferOptions(deadline=1))
    assert (caught.value.status_code, caught.value.error_code) == (503, "ServerBusy")
    assert isinstance(caught.value, HttpResponseError)


def test_what_was_fetched_is_read_after_the_blob_was_replaced(server: BlobServer, url: str) -> None:
    """It is of the version that was opened, and the rest of the file is an error each time."""
    options = TransferOptions(range_size=RANGE, memory_budget=1 << 20, readahead=0)
    with BlobIO(url, "rb", credential=False, options=options) as file:
        assert file.read(10) == synthetic_bytes(0, 10)
        server.put("blob", bytes(SIZE))
        file.seek(4 * RANGE)
        for _ in range(2):
            with pytest.raises(BlobModifiedError):
                file.read(10)
        file.seek(0)
        assert file.read(10) == synthetic_bytes(0, 10)


def test_every_later_request_asks_for_the_version_of_the_first(server: BlobServer, url: str) -> None:
    """The service refuses in time, before bytes are sent."""
    read_all(url)

    first, *later = server.requests("GET")
    assert "if-match" not in first.headers
    assert later
    assert {record.headers["if-match"] for record in later} == {server.version("blob").etag}


def test_open_again_reads_the_new_content(server: BlobServer, url: str) -> None:
    """What the error advises has to work."""
    read_all(url)
    server.put("blob", b"new")

    assert read_all(url) == b"new"
