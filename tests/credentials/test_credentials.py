"""Every way to prove who asks: each opens what it should, and travels nowhere else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobAccessError, BlobNotFoundError
from azstoragetorch.io import BlobIO
from tests.azurite.launcher import ACCOUNT_KEY, ACCOUNT_NAME, Azurite
from tests.blobserver import BlobServer, Call, Drop

Access = tuple[str, Any]
BLOCKS = TransferOptions(block_size=1000)
CONTENT = bytes(range(256)) * 20


def kind_of(value: object) -> str:
    """Name a case: a repr with an address would be another name in each of several test processes."""
    return value if isinstance(value, str) else type(value).__name__


def url_with_sas(azurite: Azurite, container: str) -> Access:
    base, _, query = azurite.container_url(container).partition("?")
    return f"{base}/dir/a b.bin?{query}", None


def sas_credential(azurite: Azurite, container: str) -> Access:
    base, _, query = azurite.container_url(container).partition("?")
    return f"{base}/dir/a b.bin", AzureSasCredential(query)


def sas_credential_with_question_mark(azurite: Azurite, container: str) -> Access:
    base, _, query = azurite.container_url(container).partition("?")
    return f"{base}/dir/a b.bin", AzureSasCredential(f"?{query}")


def key_credential(azurite: Azurite, container: str) -> Access:
    url = azurite.container_url(container, sas=False)
    return f"{url}/dir/a b.bin", AzureNamedKeyCredential(ACCOUNT_NAME, ACCOUNT_KEY)


ACCESSES = pytest.mark.parametrize(
    "access", [url_with_sas, sas_credential, sas_credential_with_question_mark, key_credential]
)


@ACCESSES
@pytest.mark.parametrize("mode", ["wb", "xb"])
def test_writes_and_reads(
    azurite: Azurite, access: Callable[[Azurite, str], Access], mode: Literal["wb", "xb"]
) -> None:
    """Blocks, commit and reads go two ways through the SDK, and both have to be let in."""
    url, credential = access(azurite, azurite.create_container())
    with BlobIO(url, mode, credential=credential, options=BLOCKS) as file:
        file.write(CONTENT)
    with BlobIO(url, "rb", credential=credential) as file:
        assert file.read() == CONTENT


@ACCESSES
async def test_writes_and_reads_asynchronously(azurite: Azurite, access: Callable[[Azurite, str], Access]) -> None:
    """The same on a loop of the user's."""
    url, credential = access(azurite, azurite.create_container())
    async with AsyncBlobIO(url, "wb", credential=credential, options=BLOCKS) as file:
        await file.write(CONTENT)
    async with AsyncBlobIO(url, "rb", credential=credential) as file:
        assert await file.read() == CONTENT


def test_anonymous_reads_a_public_container(azurite: Azurite) -> None:
    """Public data sets need no account, and False asks nobody for a token."""
    with azurite.service_client() as client:
        container = client.create_container(f"public{threading.get_ident()}", public_access="blob")
        container.upload_blob("a", CONTENT)
    with BlobIO(f"{container.url}/a", "rb", credential=False) as file:
        assert file.read() == CONTENT


def test_anonymous_is_refused_by_a_private_container(azurite: Azurite) -> None:
    """Otherwise the tests above would prove nothing."""
    url = azurite.container_url(azurite.create_container(), sas=False)
    with pytest.raises((BlobAccessError, BlobNotFoundError)), BlobIO(f"{url}/a", "wb", credential=False) as file:
        file.write(b"x")


def test_wrong_key_is_refused(azurite: Azurite) -> None:
    """With the error of a refusal, not of a missing blob."""
    url = azurite.container_url(azurite.create_container(), sas=False)
    credential = AzureNamedKeyCredential(ACCOUNT_NAME, "d3Jvbmc=")
    with pytest.raises(BlobAccessError), BlobIO(f"{url}/a", "rb", credential=credential) as file:
        file.read()


def test_updated_key_is_used(azurite: Azurite) -> None:
    """Keys are rotated while a job runs; `update` is how the SDK's credential learns it."""
    url, credential = key_credential(azurite, azurite.create_container())
    credential.update(ACCOUNT_NAME, "d3Jvbmc=")
    with pytest.raises(BlobAccessError), BlobIO(url, "wb", credential=credential) as file:
        file.write(b"x")
    credential.update(ACCOUNT_NAME, ACCOUNT_KEY)
    with BlobIO(url, "wb", credential=credential) as file:
        file.write(b"x")
    assert file.committed


@pytest.mark.parametrize("mark", ["", "?"])
def test_renewed_sas_replaces_the_old_one(server: BlobServer, mark: str) -> None:
    """A SAS lives an hour, a training job for days; pairs that were added to the old ones are refused."""
    options = TransferOptions(range_size=64 * 1024, readahead=0, block_size=1000)
    server.put("a", bytes(1_000_000))
    credential = AzureSasCredential(f"{mark}sv=1&sig=first")
    server.require_sas = {"sig": "first"}
    with (
        BlobIO(server.url("a"), "rb", credential=credential, options=options) as reader,
        BlobIO(server.url("b"), "wb", credential=credential, options=options) as writer,
    ):
        reader.read(100)
        writer.write(CONTENT)
        writer.flush()
        credential.update(f"{mark}sv=2&sig=second")
        server.require_sas = {"sig": "second"}
        server.clear()
        reader.seek(800_000)
        reader.read(100_000)
        writer.write(CONTENT)

    records = server.requests()
    assert {record.method for record in records} == {"GET", "PUT"}
    assert all(record.status < 300 for record in records)
    for record in records:
        assert sorted(re.findall(r"(?:^|&)((?:sig|sv)=[^&]*)", record.raw_query)) == ["sig=second", "sv=2"]


def test_renewed_sas_counts_for_a_retry(server: BlobServer) -> None:
    """The attempt that failed may have failed because the old one had just expired."""
    server.put("a", CONTENT)
    credential = AzureSasCredential("sig=first")
    server.fault("GET", Call(lambda: credential.update("sig=second")), Drop(), times=2)
    with BlobIO(server.url("a"), "rb", credential=credential) as file:
        assert file.read() == CONTENT
    assert server.requests("GET")[-1].query["sig"] == "second"


class Trap:
    """A credential that must not be asked."""

    asked = False

    def get_token(self, *scopes: str, **options: Any) -> Any:
        self.asked = True
        raise AssertionError("asked for a token")


@pytest.mark.parametrize("credential", [AzureSasCredential("sig=other"), Trap(), None, False], ids=kind_of)
def test_sas_in_the_url_wins(server: BlobServer, credential: Any) -> None:
    """It names exactly what may be done with this blob, and is there because somebody wanted it used."""
    server.require_sas = {"sig": "own"}
    with BlobIO(f"{server.url('a')}?sv=1&sig=own", "wb", credential=credential) as file:
        file.write(CONTENT)
    with BlobIO(f"{server.url('a')}?sv=1&sig=own", "rb", credential=credential) as file:
        assert file.read() == CONTENT
    assert not getattr(credential, "asked", False)
    assert all(record.query["sig"] == "own" for record in server.requests())
    assert all("authorization" not in record.headers for record in server.requests())


def test_expired_sas_is_one_clear_error(server: BlobServer) -> None:
    """It is the most frequent of all failures; asking again does not help."""
    server.put("a", CONTENT)
    url = f"{server.url('a')}?se=2020-01-01T00%3A00%3A00Z&sig=x"
    modes: tuple[Literal["rb"], Literal["wb"]] = ("rb", "wb")
    for mode in modes:
        with pytest.raises(BlobAccessError, match="expir") as caught, BlobIO(url, mode, credential=False) as file:
            file.read() if mode == "rb" else file.write(b"x")
        assert isinstance(caught.value, PermissionError)
        assert server.url("a") in str(caught.value)
    assert len(server.requests()) == 2
    assert server.get("a") == CONTENT


@pytest.mark.parametrize("face", [BlobIO, AsyncBlobIO])
@pytest.mark.parametrize("credential", ["key", b"key", 7, True, 0, object(), {"account_key": "x"}], ids=kind_of)
def test_other_types_are_refused_at_construction(face: Any, credential: Any) -> None:
    """Not hours later, at the first checkpoint."""
    with pytest.raises(TypeError, match="credential must be"):
        face("https://account.blob.core.windows.net/data/b", "rb", credential=credential)


def test_key_that_is_no_key_is_refused_at_once(server: BlobServer) -> None:
    """Half of a key pasted: said where the file is opened, without showing it."""
    with pytest.raises(ValueError, match="not base64") as caught:
        BlobIO(server.url("a"), "rb", credential=AzureNamedKeyCredential("devstoreaccount1", "canary not base64!"))
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
