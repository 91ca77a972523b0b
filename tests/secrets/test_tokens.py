"""The token of `DefaultAzureCredential`, fetched by the real azure.identity, whose loggers and errors are its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from azstoragetorch._bridge import run
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import AZStorageTorchError
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.azurite.identity import IdentityEndpoint
from tests.blobserver import BlobServer
from tests.faults.play import Seen, watch
from tests.secrets.canaries import KEY, TOKEN, found_in, texts_of


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What is logged at DEBUG, by anybody, and what is warned of; nothing of it may hold a secret."""
    import azure.identity.aio  # noqa: F401 - its loggers are there from then on

    with watch() as seen:
        yield seen
    assert not found_in(seen.texts())


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityEndpoint]:
    """What a managed identity asks; the header that lets in is a secret, too."""
    with IdentityEndpoint(lambda: TOKEN, KEY) as endpoint:
        for name, value in endpoint.environment.items():
            monkeypatch.setenv(name, value)
        run(aclose)
        yield endpoint
        run(aclose)


async def test_token_is_used_and_not_shown(server: BlobServer, endpoint: IdentityEndpoint, seen: Seen) -> None:
    """The way most users go; azure.identity logs every step at DEBUG."""
    server.require_token = TOKEN
    with BlobIO(server.url("a"), "wb") as writer:
        writer.write(b"content")
    async with AsyncBlobIO(server.url("a"), "rb") as reader:
        assert await reader.read() == b"content"
    assert len(BlobListing.build(server.container_url)) == 1
    assert endpoint.token_count == 1
    assert any("azure.identity" in line for line in seen.lines)


def test_refused_token_is_not_shown(server: BlobServer, endpoint: IdentityEndpoint, seen: Seen) -> None:
    """Another token is asked for, once, and then it is an error."""
    server.require_token = "another"
    with pytest.raises(AZStorageTorchError) as caught, BlobIO(server.url("a"), "rb") as reader:
        reader.read()
    assert not found_in(texts_of(caught.value))


def test_identity_that_refuses_is_not_quoted(
    server: BlobServer, endpoint: IdentityEndpoint, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error holds the request it made."""
    monkeypatch.setenv("IDENTITY_HEADER", f"not {KEY}")
    from azstoragetorch._azure import credentials

    credentials._tokens.clear()  # else the token of the tests before is still good
    with pytest.raises(AZStorageTorchError, match="no token could be had") as caught:
        BlobIO(server.url("a"), "rb").read()
    assert not found_in(texts_of(caught.value))
