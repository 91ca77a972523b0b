"""Tokens: asked for once, renewed in time, and sent only where the service's certificate was checked."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import azure.identity.aio
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import BlobAccessError, BlobRequestError
from azstoragetorch.io import BlobIO
from tests.azurite.identity import storage_token
from tests.azurite.launcher import Azurite
from tests.blobserver import BlobServer
from tests.blobserver.service import TENANT
from tests.conftest import TlsBlobServer

CONTENT = bytes(range(256)) * 20
SCOPE = "https://storage.azure.com/.default"


class Tokens:
    """A sync credential that hands out ``tokens`` one after the other, the last one again and again."""

    def __init__(self, *tokens: str, lifetime: float = 3600) -> None:
        self.tokens = list(tokens)
        self.lifetime = lifetime
        self.calls: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.calls.append((scopes, options))
        token = self.tokens[min(len(self.calls), len(self.tokens)) - 1]
        return AccessToken(token, int(time.time() + self.lifetime))


class AsyncTokens(Tokens):
    """The same, asynchronously."""

    async def _get_token(self, *scopes: str, **options: Any) -> AccessToken:
        await asyncio.sleep(0)
        return super().get_token(*scopes, **options)

    get_token: Any = _get_token


KINDS = pytest.mark.parametrize("kind", [Tokens, AsyncTokens], ids=["sync", "async"])


@pytest.fixture
def blob_url(azurite_https: Azurite) -> str:
    """URL, without a SAS, of a blob that is not there yet."""
    return f"{azurite_https.container_url(azurite_https.create_container(), sas=False)}/dir/a"


@pytest.fixture
def no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests names authorities."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    run(aclose)


@KINDS
@pytest.mark.parametrize("trust", ["ca_file", "path", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_writes_and_reads(
    azurite_https: Azurite,
    blob_url: str,
    kind: type[Tokens],
    trust: str,
    no_trust: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Company networks have authorities of their own, named in one of these places."""
    ca_file = Path(str(azurite_https.ca_file))
    options = TransferOptions(block_size=1000)
    if trust in ("ca_file", "path"):
        options = TransferOptions(block_size=1000, ca_file=ca_file if trust == "path" else str(ca_file))
    else:
        monkeypatch.setenv(trust, str(ca_file))
    credential = kind(storage_token())
    with BlobIO(blob_url, "wb", credential=credential, options=options) as file:
        file.write(CONTENT)
    with BlobIO(blob_url, "rb", credential=credential, options=options) as file:
        assert file.read() == CONTENT
    assert credential.calls == [((SCOPE,), {})]


@KINDS
async def test_writes_and_reads_asynchronously(azurite_https: Azurite, blob_url: str, kind: type[Tokens]) -> None:
    """The same on a loop of the user's."""
    options = TransferOptions(block_size=1000, ca_file=azurite_https.ca_file)
    credential = kind(storage_token())
    async with AsyncBlobIO(blob_url, "wb", credential=credential, options=options) as file:
        await file.write(CONTENT)
    async with AsyncBlobIO(blob_url, "rb", credential=credential, options=options) as file:
        assert await file.read() == CONTENT
    assert len(credential.calls) == 1


def test_unknown_certificate_is_one_clear_error(tls_server: TlsBlobServer, no_trust: None) -> None:
    """A token sent to whoever answers would be a token given away; and asking again changes nothing."""
    credential = Tokens("token")
    file = BlobIO(tls_server.url("a"), "rb", credential=credential)
    with pytest.raises(BlobRequestError, match="SSL_CERT_FILE"):
        file.read()

    assert file.stats().requests == 1
    assert file.stats().retries == 0
    assert not tls_server.requests()
    tls_server.malformed.clear()
    tls_server.errors.clear()


def test_missing_ca_file_is_refused_at_construction() -> None:
    """A typing error in a path must not wait for the first checkpoint."""
    with pytest.raises(ValueError, match="ca_file"):
        TransferOptions(ca_file="/nowhere/ca.pem")


@KINDS
async def test_many_first_requests_ask_for_one_token(tls_server: TlsBlobServer, kind: type[Tokens]) -> None:
    """Identity endpoints answer 429 to a crowd; reads and writes are two pipelines with one credential."""
    tls_server.put("a", CONTENT)
    tls_server.require_token = "token"
    credential = kind("token")
    options = TransferOptions(ca_file=tls_server.ca_file)

    async def read() -> None:
        async with AsyncBlobIO(tls_server.url("a"), "rb", credential=credential, options=options) as file:
            assert await file.read() == CONTENT

    async def write(number: int) -> None:
        async with AsyncBlobIO(tls_server.url(f"b{number}"), "wb", credential=credential, options=options) as file:
            await file.write(CONTENT)

    await asyncio.gather(*(read() for _ in range(50)), *(write(number) for number in range(50)))
    assert credential.calls == [((SCOPE,), {})]


@KINDS
def test_many_threads_ask_for_one_token(server: BlobServer, kind: type[Tokens]) -> None:
    """The sync faces of all threads meet on one loop."""
    server.require_token = "token"
    credential = kind("token")
    together = threading.Barrier(20)

    def write(number: int) -> None:
        together.wait(10)
        with BlobIO(server.url(f"b{number}"), "wb", credential=credential) as file:
            file.write(CONTENT)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(credential.calls) == 1
    assert all(server.get(f"b{number}") == CONTENT for number in range(20))


def test_token_outlives_its_loop(server: BlobServer) -> None:
    """A script that calls asyncio.run for each epoch asks for one token."""
    server.put("a", CONTENT)
    credential = AsyncTokens("token")

    async def read() -> bytes:
        async with AsyncBlobIO(server.url("a"), "rb", credential=credential) as file:
            return await file.read()

    assert asyncio.run(read()) == asyncio.run(read()) == CONTENT
    assert len(credential.calls) == 1


@KINDS
def test_token_near_its_end_is_renewed(server: BlobServer, kind: type[Tokens]) -> None:
    """A token that ends on the way is a checkpoint that fails."""
    server.put("a", CONTENT)
    credential = kind("old", "new", lifetime=200)
    for _ in range(2):
        with BlobIO(server.url("a"), "rb", credential=credential) as file:
            file.read()
    sent = [record.headers["authorization"] for record in server.requests("GET")]
    assert sent[0] == "Bearer old"
    assert sent[-1] == "Bearer new"


@KINDS
def test_failed_renewal_keeps_what_is_still_valid(server: BlobServer, kind: type[Tokens]) -> None:
    """The identity endpoint may be away for a minute; that is what renewing early is for."""
    server.put("a", CONTENT)
    credential = kind("token", lifetime=200)
    with BlobIO(server.url("a"), "rb", credential=credential) as file:
        file.read()
    credential.tokens.clear()
    before = len(credential.calls)
    with BlobIO(server.url("a"), "rb", credential=credential) as file:
        assert file.read() == CONTENT
    assert len(credential.calls) > before
    assert {record.headers["authorization"] for record in server.requests()} == {"Bearer token"}


@KINDS
def test_challenge_is_answered_with_its_tenant(server: BlobServer, kind: type[Tokens]) -> None:
    """A guest's default token is of the wrong tenant; the service names the right one."""
    server.put("a", CONTENT)
    server.require_token = "right"
    credential = kind("wrong", "right")
    file = BlobIO(server.url("a"), "rb", credential=credential)
    assert file.read() == CONTENT

    assert credential.calls == [((SCOPE,), {}), ((SCOPE,), {"tenant_id": TENANT})]
    assert [record.status for record in server.requests()][:2] == [401, 206]
    with BlobIO(server.url("b"), "wb", credential=credential) as writer:
        writer.write(CONTENT)
    assert len(credential.calls) == 2
    file.close()


@KINDS
@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_challenge_is_answered_once(server: BlobServer, kind: type[Tokens], mode: Any) -> None:
    """A token that stays wrong is an error, not a loop."""
    server.require_token = "right"
    credential = kind("wrong")
    with pytest.raises(BlobAccessError) as caught, BlobIO(server.url("a"), mode, credential=credential) as file:
        file.read() if mode == "rb" else file.write(b"x")
    assert caught.value.status_code == 401
    assert len(server.requests()) == 2
    assert len(credential.calls) == 2


@KINDS
@pytest.mark.parametrize("error", [ClientAuthenticationError, CredentialUnavailableError])
@pytest.mark.parametrize("mode", ["rb", "wb", "xb"])
def test_no_token_is_one_clear_error(
    server: BlobServer, kind: type[Tokens], error: type[ClientAuthenticationError], mode: Any
) -> None:
    """Not logged in: the message of the credential is what helps, and asking again does not."""

    class Refusing(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

    if kind is Tokens:

        def refuse(self: Any, *scopes: str, **options: Any) -> AccessToken:
            self.asked += 1
            raise error(message="please log in")

        Refusing.get_token = refuse
    else:

        async def refuse_async(self: Any, *scopes: str, **options: Any) -> AccessToken:
            self.asked += 1
            raise error(message="please log in")

        Refusing.get_token = refuse_async

    credential = Refusing()
    with (
        pytest.raises(BlobAccessError, match="please log in"),
        BlobIO(server.url("a"), mode, credential=credential) as file,
    ):
        file.read() if mode == "rb" else file.write(b"x")
    assert credential.asked == 1
    assert not server.requests()


async def test_sync_credential_does_not_hold_up_the_loop(server: BlobServer) -> None:
    """Its round trip takes a second, and everything else on the loop would stand still."""
    server.put("a", CONTENT)
    asked, go_on = threading.Event(), threading.Event()
    released = False

    class Slow(Tokens):
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            nonlocal released
            asked.set()
            released = go_on.wait(10)
            return super().get_token(*scopes, **options)

    async def release() -> None:
        await asyncio.to_thread(asked.wait, 10)
        go_on.set()

    async def read() -> bytes:
        async with AsyncBlobIO(server.url("a"), "rb", credential=Slow("token")) as file:
            return await file.read()

    content, _ = await asyncio.gather(read(), release())
    assert released
    assert content == CONTENT


async def test_default_credential_is_built_once_and_closed(server: BlobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It probes half a dozen places and holds connections of its own."""
    built: list[Any] = []

    class Default(AsyncTokens):
        def __init__(self) -> None:
            super().__init__("default", lifetime=200)  # too short to be kept for other tests
            self.closed = 0
            built.append(self)

        async def close(self) -> None:
            self.closed += 1

    monkeypatch.setattr(azure.identity.aio, "DefaultAzureCredential", Default)
    server.put("a", CONTENT)
    server.require_token = "default"
    files = [AsyncBlobIO(server.url("a"), "rb") for _ in range(10)]
    assert not built
    assert set(await asyncio.gather(*(file.read() for file in files))) == {CONTENT}
    async with AsyncBlobIO(server.url("b"), "wb") as writer:
        await writer.write(CONTENT)

    assert len(built) == 1
    assert built[0].closed == 0
    for file in files:
        await file.aclose()
    await aclose()
    assert built[0].closed == 1
