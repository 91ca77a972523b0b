"""A refused credential says why, as far as that can be told: "403" alone costs an afternoon."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import quote

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob import (
    BlobSasPermissions,
    ContainerSasPermissions,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobAccessError, BlobNotFoundError, FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.azurite.launcher import ACCOUNT_KEY, ACCOUNT_NAME, Azurite
from tests.blobserver import BlobServer, CutBody, Header, StallBody, Status, on
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of

Right = Literal["r", "w", "l"]
RIGHTS: tuple[Right, ...] = ("r", "w", "l")
FITS = f"sv=2024-11-04&se=2099-01-01T00%3A00%3A00Z&sr=c&sp=rwl&sig={quote(SIGNATURE, safe='')}"
BLOCKS = TransferOptions(block_size=1000)


class Credential:
    """Hands out one token."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


def ask(right: Right, blob_url: str, credential: Any = None, size: int = 3000) -> None:
    """Do what needs this right."""
    if right == "l":
        path, _, query = blob_url.partition("?")
        BlobListing.build(f"{path.rpartition('/')[0]}{'?' if query else ''}{query}", credential=credential)
    elif right == "r":
        with BlobIO(blob_url, "rb", credential=credential) as file:
            file.read()
    else:
        with BlobIO(blob_url, "wb", credential=credential, options=BLOCKS) as file:
            file.write(bytes(size))


def refused(right: Right, blob_url: str, credential: Any = None, size: int = 3000) -> BlobAccessError:
    """Return the refusal of that: the error itself, or what stopped the writing."""
    with pytest.raises((BlobAccessError, FatalBlobIOWriteError)) as caught:
        ask(right, blob_url, credential, size)
    assert not found_in(texts_of(caught.value))
    error = caught.value.__cause__ if isinstance(caught.value, FatalBlobIOWriteError) else caught.value
    assert isinstance(error, BlobAccessError)
    assert str(error) in str(caught.value)
    return error


def refusal(right: Right, blob_url: str, credential: Any = None, size: int = 3000) -> str:
    """Return what it says."""
    error = refused(right, blob_url, credential, size)
    assert error.status_code in (401, 403)
    return str(error)


@pytest.mark.parametrize("right", RIGHTS)
@pytest.mark.parametrize("in_url", [True, False])
def test_reason_of_a_sas_is_told_for_every_request(server: BlobServer, right: Right, in_url: bool) -> None:
    """Reads and listings do not go the way of the SDK, blocks do; all of them say it."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    query = FITS.replace("2099", "2020").replace("sp=rwl", "sp=a")
    if in_url:
        text = refusal(right, f"{server.url('a')}?{query}")
        assert "the SAS in the URL lacks" in text or "the SAS in the URL expired" in text
    else:
        text = refusal(right, server.url("a"), AzureSasCredential(query))
        assert "the SAS of the AzureSasCredential " in text
    assert "expired at 2020-01-01T00:00:00Z (se=)" in text
    assert f"lacks the permission {right!r}" in text
    assert "403 AuthenticationFailed" in text
    assert len(server.requests()) <= (3 if right == "w" else 1)  # blocks are on their way together


async def test_reason_is_told_on_a_loop_of_the_users(server: BlobServer) -> None:
    """The other face."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    with pytest.raises(BlobAccessError, match="is for one snapshot"):
        async with AsyncBlobIO(f"{server.url('a')}?{FITS.replace('sr=c', 'sr=bs')}", "rb") as file:
            await file.read()
    with pytest.raises(BlobAccessError, match="lacks the permission 'l'"):
        await BlobListing.abuild(f"{server.container_url}?{FITS.replace('sp=rwl', 'sp=rw')}")


@pytest.mark.parametrize("size", [10, 3000], ids=["put", "blocks"])
def test_snapshot_and_version_count(server: BlobServer, size: int) -> None:
    """A SAS of a version reads that version; the URL that names it is not blamed."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    url = f"{server.url('a')}?versionid=2024-01-01T00:00:00.0000000Z&{FITS.replace('sr=c', 'sr=bv')}"
    assert "fits this request, so its signature does not" in refusal("r", url)
    assert "lacks the permission 'w'" in refusal("w", f"{server.url('a')}?{FITS.replace('rwl', 'rl')}", size=size)


def test_sas_that_fits_is_shown_without_its_signature(server: BlobServer) -> None:
    """Then it is the signature, and the rest tells which SAS it was."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    text = refusal("r", f"{server.url('a')}?{FITS}&sip=10.0.0.1")
    assert "(sp=rwl, sr=c, se=2099-01-01T00:00:00Z) fits this request" in text
    assert "sip=, which cannot be checked here" in text


def test_clock_of_the_service_counts(server: BlobServer) -> None:
    """It decides; and a machine whose clock is wrong gets a hint that nobody thinks of."""
    date = format_datetime(datetime(2100, 1, 1, tzinfo=UTC), usegmt=True)
    server.fault(on(), Status(403, "AuthenticationFailed"), Header("Date", date), times=None)
    for right in RIGHTS:
        text = refusal(right, f"{server.url('a')}?{FITS}")
        assert "expired at 2099-01-01T00:00:00Z (se=), 365 days ago" in text
        assert "days behind the service's" in text


@pytest.mark.parametrize("date", ["yesterday", None, "Mon, 99 Foo 9999 00:00:00 GMT"])
def test_answer_without_a_time_is_judged_by_the_own_clock(server: BlobServer, date: str | None) -> None:
    """Proxies make answers up."""
    server.fault(on(), Status(403, "AuthenticationFailed"), Header("Date", date), times=None)
    assert "expired at 2020-" in refusal("r", f"{server.url('a')}?{FITS.replace('2099', '2020')}")


def test_answer_that_is_not_the_services_says_so(server: BlobServer) -> None:
    """A company's proxy answers 403, and people look for the fault in their SAS."""
    server.fault(on(), Status(403), Header("x-ms-request-id", None), times=None)
    for right in RIGHTS:
        text = refusal(right, f"{server.url('a')}?{FITS}")
        assert text.index("a proxy or firewall may have sent it") < text.index("the SAS in the URL")
        assert "the service answered" not in text
        assert "signature" not in text
        assert "not accepted" not in refusal(right, server.url("a"), Credential())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AuthorizationPermissionMismatch", "Storage Blob Data Reader"),
        ("AuthorizationFailure", "firewall"),
        ("KeyBasedAuthenticationNotPermitted", "accepts no keys"),
        ("UnauthorizedBlobOverwrite", "not to replace"),
        ("AccountIsDisabled", "disabled"),
        ("AuthorizationFailure", "made for another blob or container"),
        ("SomethingNew", "as far as its fields tell, the SAS in the URL"),
    ],
)
def test_reason_that_the_service_names_is_explained(server: BlobServer, code: str, words: str) -> None:
    """Its names are for those who know them."""
    server.fault(on(), Status(403, code), times=None)
    text = refusal("w", f"{server.url('a')}?{FITS}")
    assert words in text
    assert "its signature does not" not in text


@pytest.mark.parametrize("credential", [False, None], ids=["none", "token"])
def test_account_without_public_access_wants_a_credential(server: BlobServer, credential: Any) -> None:
    """The service answers 409, which looks like a conflict of two writers."""
    server.fault(on(), Status(409, "PublicAccessNotPermitted"), times=None)
    for right in RIGHTS:
        error = refused(right, server.url("a"), Credential() if credential is None else credential)
        assert error.status_code == 409
        assert "add a SAS to the URL" in str(error)


def test_credential_that_was_not_sent_is_named(server: BlobServer) -> None:
    """`credential=False` is far away from where it fails."""
    for status, code in ((401, "NoAuthenticationInformation"), (403, "AuthenticationFailed"), (403, "")):
        rule = server.fault(on(), Status(status, code), times=None)
        for right in RIGHTS:
            assert "no credential was sent; remove credential=False" in refusal(right, server.url("a"), False)
        rule.remove()
    server.fault(on(), Status(404, "ResourceNotFound"))
    with pytest.raises(BlobNotFoundError, match="where no credential was sent"):
        ask("r", server.url("a"), False)


def test_key_and_token_are_named(server: BlobServer) -> None:
    """So that nobody renews a SAS that was never there."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    for right in RIGHTS:
        text = refusal(right, server.url("a"), AzureNamedKeyCredential("devstoreaccount1", KEY))
        assert "the SAS made from the account key (sp=rwlc, ss=b, srt=co, " in text
        assert "so the key does not" in text
        assert "the token was not accepted" in refusal(right, server.url("a"), Credential())


@pytest.mark.parametrize("action", [CutBody(10), StallBody(10)], ids=["cut", "stalled"])
@pytest.mark.parametrize("right", RIGHTS)
def test_refusal_whose_body_does_not_come_is_a_refusal(server: BlobServer, right: Right, action: Any) -> None:
    """Status and headers say it all; to ask again eight times for the rest would be none the wiser."""
    server.fault(on(), Status(403, "AuthenticationFailed"), action, times=None)
    started = time.monotonic()
    assert "expired" in refusal(right, f"{server.url('a')}?{FITS.replace('2099', '2020')}")
    assert time.monotonic() - started < 5  # ERROR_SECONDS is 1
    assert len(server.requests()) <= (3 if right == "w" else 1)


def test_headers_of_a_refusal_are_not_trusted(server: BlobServer) -> None:
    """A gateway that echoes what it was sent puts the secret where people copy request ids from."""
    echo = Header("x-ms-request-id", f"canary/{SIGNATURE} is wrong")
    server.fault(on(), Status(403, "AuthenticationFailed"), echo, times=None)
    for right in RIGHTS:
        error = refused(right, f"{server.url('a')}?{FITS}")
        assert error.request_id is None
        assert getattr(error.__cause__, "request_id", None) is None


def test_emulator_refuses_for_the_reason_that_is_told(azurite: Azurite) -> None:
    """The scripted server refuses on order; this one checks the SAS as the service does."""
    container = azurite.create_container()
    url = f"{azurite.container_url(container, sas=False)}/a"
    later, earlier = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) - timedelta(hours=2)
    everything = ContainerSasPermissions(read=True, write=True, list=True)

    def of_container(**fields: Any) -> str:
        arguments = {"permission": everything, "expiry": later, **fields}
        return f"{url}?{generate_container_sas(ACCOUNT_NAME, container, account_key=ACCOUNT_KEY, **arguments)}"

    ask("w", of_container())
    for right in RIGHTS:
        ask(right, of_container())
        assert "(se=), 2 hours ago" in refusal(right, of_container(expiry=earlier))
        assert "is not valid before" in refusal(right, of_container(start=datetime.now(UTC) + timedelta(hours=2)))
        lacking = ContainerSasPermissions(read=right != "r", write=right != "w", list=right != "l")
        assert f"lacks the permission {right!r}" in refusal(right, of_container(permission=lacking))
    of_blob = generate_blob_sas(
        ACCOUNT_NAME,
        container,
        "a",
        account_key=ACCOUNT_KEY,
        permission=BlobSasPermissions(read=True),
        expiry=later,
    )
    ask("r", f"{url}?{of_blob}")
    assert "is for one blob (sr=b)" in refusal("l", f"{url}?{of_blob}")
    # The service would answer AuthenticationFailed to these two, the emulator answers AuthorizationFailure.
    assert "the SAS in the URL (sp=r, sr=b, se=" in refusal("r", f"{url}2?{of_blob}")
    assert "lacks the permission 'w'" in refusal("w", f"{url}?{of_blob}")
    of_account = generate_account_sas(ACCOUNT_NAME, ACCOUNT_KEY, resource_types="o", permission="rwl", expiry=later)
    assert "is not for containers (c in srt=)" in refusal("l", f"{url}?{of_account}")
    wrong = AzureNamedKeyCredential(ACCOUNT_NAME, "d3Jvbmc=")
    assert "as far as its fields tell, the SAS made from the account key (" in refusal("r", url, wrong)


def test_token_that_no_header_can_carry_is_one_clear_error(server: BlobServer) -> None:
    """Read from a file, with the end of its line; aiohttp's error names neither the token nor the blob."""

    class FromFile:
        def __init__(self, token: Any) -> None:
            self.token = token

        def get_token(self, *scopes: str, **options: Any) -> Any:
            return None if self.token is None else AccessToken(self.token, int(time.time()) + 3600)

    for token in (f"{TOKEN}\n", f"{TOKEN}\r\nx-ms-other: 1", f"{TOKEN} ", "\u20ac", "", None):
        with pytest.raises(BlobAccessError, match="no token could be had") as caught:
            ask("r", server.url("a"), FromFile(token))
        assert server.url("a") in str(caught.value)
        assert not found_in(texts_of(caught.value))
    assert not server.requests()


def test_sas_credential_that_holds_none_is_refused_at_construction() -> None:
    """A whole URL pasted would be sent to the service as a query; a key would travel as it is."""
    url = "https://account.blob.core.windows.net/data/a"
    for signature in (f"{url}?{FITS}", KEY, "sv=1&se=2030-01-01", "sig=", f"sv=1&sig=a b{TOKEN}"):
        for face in (BlobIO, AsyncBlobIO):
            with pytest.raises(ValueError, match="holds no SAS") as caught:
                face(url, "rb", credential=AzureSasCredential(signature))
            assert not found_in(texts_of(caught.value))


def test_sas_credential_with_the_end_of_a_line_is_used(server: BlobServer) -> None:
    """It was read from a file."""
    server.put("a", b"content")
    server.require_sas = {"sig": SIGNATURE, "sv": "2024-11-04"}
    credential = AzureSasCredential(f"?{FITS}\n")
    with BlobIO(server.url("a"), "rb", credential=credential) as file:
        assert file.read() == b"content"
    asyncio.run(BlobListing.abuild(server.container_url, credential=credential))
