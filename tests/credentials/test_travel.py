"""Where what proves who asks may travel: over https, or on this machine; never on to another host or to a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import trustme
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential

from azstoragetorch import TransferOptions
from azstoragetorch._azure.proxies import Proxies
from azstoragetorch._bridge import run
from azstoragetorch._data.access import Access
from azstoragetorch._data.source import LazySource, ListingSource, UrlSource
from azstoragetorch._values.options import KiB
from azstoragetorch._values.table import BlobTable
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import AZStorageTorchError, BlobRequestError
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Header, Redirect, on
from tests.conftest import TlsBlobServer, TlsFiles
from tests.credentials.proxy import Proxy
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of

HOST = "account.blob.core.windows.net"
DOMAIN = "storage.example.com"
SAS = f"sv=2024-11-04&sr=c&sp=rwl&se=2099-01-01&sig={quote(SIGNATURE, safe='')}"
BLOCKS = TransferOptions(block_size=1000)


class Trap:
    """A credential that must not be asked."""

    asked = 0

    def get_token(self, *scopes: str, **options: Any) -> Any:
        self.asked += 1
        raise AssertionError("asked for a token")


class Credential:
    """Hands out one token."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


def kind_of(value: object) -> str:
    """Name a case: a repr with an address would be another name in each of several test processes."""
    return value if isinstance(value, str) else type(value).__name__


def _save(url: str, credential: Any) -> None:
    listing = BlobListing(ContainerUrl.parse(f"https://{HOST}/data"), BlobTable.of([]))
    listing.save(f"{url}/list", credential=credential)


async def _abuild(url: str, credential: Any) -> None:
    await BlobListing.abuild(url, credential=credential)


USES: dict[str, Callable[[str, Any], object]] = {
    "rb": lambda url, credential: BlobIO(f"{url}/a", "rb", credential=credential),
    "wb": lambda url, credential: BlobIO(f"{url}/a", "wb", credential=credential),
    "xb": lambda url, credential: BlobIO(f"{url}/a", "xb", credential=credential),
    "async-rb": lambda url, credential: AsyncBlobIO(f"{url}/a", "rb", credential=credential),
    "async-wb": lambda url, credential: AsyncBlobIO(f"{url}/a", "wb", credential=credential),
    "build": lambda url, credential: BlobListing.build(url, credential=credential),
    "abuild": lambda url, credential: asyncio.run(_abuild(url, credential)),
    "load": lambda url, credential: BlobListing.load(f"{url}/list", credential=credential),
    "save": _save,
    # What datasets are made of: the classes around them need torch, and are tested under tests/torch.
    "urls": lambda url, credential: UrlSource([f"{url}/a"], Access.of(credential, None)),
    "lazy": lambda url, credential: LazySource(
        ContainerUrl.parse(url), None, Access.of(credential, None), allow_modified=False
    ),
}


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that everything goes through; sessions that were opened without it are closed."""
    with Proxy(1) as made, through(made, monkeypatch):
        yield made


@contextlib.contextmanager
def through(proxy: Proxy | str, monkeypatch: pytest.MonkeyPatch, user: str = "") -> Iterator[None]:
    """Let the environment name the proxy."""
    host = proxy if isinstance(proxy, str) else proxy.host
    run(aclose)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{user}{host}")
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    run(aclose)


@pytest.mark.parametrize("host", [HOST, "10.0.0.1:10000/account", "127.0.0.1.example.com", "localhost.example.com"])
@pytest.mark.parametrize("use", USES)
def test_tokens_and_keys_are_refused_over_plain_http(proxy: Proxy, use: str, host: str) -> None:
    """Everybody on the way could read them and use them for everything."""
    trap = Trap()
    for credential in (None, trap, AzureNamedKeyCredential("account", KEY)):
        with pytest.raises(ValueError, match="never sent over plain http") as caught:
            USES[use](f"http://{host}/data", credential)
        assert not found_in(texts_of(caught.value))
    assert not trap.asked
    assert not proxy.heads


@pytest.mark.parametrize("use", USES)
def test_sas_that_wants_https_is_refused_over_plain_http(proxy: Proxy, use: str) -> None:
    """The service refuses it, too, but when everybody on the way has seen it."""
    with pytest.raises(ValueError, match="spr=https") as caught:
        USES[use](f"http://{HOST}/data", AzureSasCredential(f"{SAS}&spr=https"))
    assert not found_in(texts_of(caught.value))
    assert not proxy.heads


def test_sas_of_the_url_that_wants_https_is_refused_over_plain_http(proxy: Proxy) -> None:
    """The same for one that is a part of the address."""
    uses: list[Callable[[str], object]] = [
        lambda query: BlobIO(f"http://{HOST}/data/a?{query}", "rb"),
        lambda query: AsyncBlobIO(f"http://{HOST}/data/a?{query}", "wb"),
        lambda query: BlobListing.build(f"http://{HOST}/data?{query}"),
        lambda query: BlobListing.load(f"http://{HOST}/data/list?{query}"),
        lambda query: UrlSource([f"http://{HOST}/data/a?{query}"], Access.of(None, None)),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="spr=https") as caught:
            use(f"{SAS}&spr=https")
        assert not found_in(texts_of(caught.value))
    assert not proxy.heads


def test_listing_takes_no_credential_over_plain_http(server: BlobServer) -> None:
    """A manifest says where its blobs are, and whoever wrote it may have written http."""
    listing = BlobListing.build(server.container_url, credential=False)
    listing._container = ContainerUrl.parse(f"http://{HOST}/data")
    with pytest.raises(ValueError, match="never sent over plain http"):
        ListingSource(listing, Access.of(Trap(), None), allow_modified=False)


@pytest.mark.parametrize("host", ["127.0.0.1:1/account", "[::1]:1/account", "localhost:1/account"])
@pytest.mark.parametrize("credential", [Credential(), AzureNamedKeyCredential("a", KEY)], ids=kind_of)
def test_this_machine_is_trusted(host: str, credential: Any) -> None:
    """The emulator speaks plain http, and nobody is on the way."""
    BlobIO(f"http://{host}/data/b", "rb", credential=credential).close()


@pytest.mark.parametrize(
    ("query", "credential"),
    [("?sig=x", None), ("?spr=https,http&sig=x", None), ("", AzureSasCredential("sig=x")), ("", False)],
    ids=kind_of,
)
def test_limited_access_is_allowed_over_plain_http(query: str, credential: Any) -> None:
    """A SAS opens what its maker chose, for as long, and says itself whether it may be used without TLS (`spr=`)."""
    BlobIO(f"http://{HOST}/data/b{query}", "rb", credential=credential).close()


@pytest.mark.parametrize(
    ("query", "credential"), [(f"?{SAS}", None), ("", AzureSasCredential(SAS))], ids=["url", "credential"]
)
def test_sas_is_not_sent_to_a_proxy_over_plain_http(proxy: Proxy, query: str, credential: Any) -> None:
    """The proxy would be handed the whole request; over https it is asked for a tunnel."""
    with BlobIO(f"http://{HOST}/data/a{query}", "rb", credential=credential) as file:
        with pytest.raises(ValueError, match="never sent through a proxy over plain http") as caught:
            file.read()
        assert not found_in(texts_of(caught.value))
    with pytest.raises(ValueError, match="never sent through a proxy over plain http"):
        BlobListing.build(f"http://{HOST}/data{query}", credential=credential)
    assert not proxy.heads


def test_anonymous_request_takes_the_proxy(proxy: Proxy) -> None:
    """There is nothing to be seen."""
    with pytest.raises(FileNotFoundError), BlobIO(f"http://{HOST}/data/a", "rb", credential=False) as file:
        file.read()
    assert proxy.heads[0].startswith(f"GET http://{HOST}/data/a HTTP/1.1")


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (f"https://{HOST}/data/a", {"https_proxy": "http://p:1"}, "http://p:1"),
        (f"https://{HOST}/data/a", {"all_proxy": "http://p:2"}, "http://p:2"),
        (f"https://{HOST}/data/a", {"http_proxy": "http://p:1"}, None),
        (f"https://{HOST}/data/a", {"https_proxy": "http://p:1", "no_proxy": "core.windows.net"}, None),
        (f"http://{HOST}/data/a", {"http_proxy": "http://p:1", "no_proxy": "*"}, None),
        (f"https://{HOST}/data/a", {"https_proxy": "p:1"}, "http://p:1"),
        (f"https://{HOST}/data/a", {"https_proxy": "user:word@p:1"}, "http://user:word@p:1"),
        (f"https://{HOST}/data/a", {"https_proxy": ""}, None),
        ("http://127.0.0.1:1/account/data/a", {"http_proxy": "http://p:1"}, None),
        ("http://localhost/account/data/a", {"http_proxy": "http://p:1"}, None),
    ],
)
def test_environment_names_the_proxy(
    url: str, environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rules that all other programs of the machine keep to."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Proxies().of(BlobUrl.parse(url), anonymous=False) == expected


@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    ["socks5://p:1", "http://user:canary-password@p:port", "http://user:canary-password@[p", "user:canary-password@"],
)
def test_what_is_no_url_of_a_proxy_is_refused(
    server: BlobServer, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP spoken to a SOCKS port waits for ever; and a password outside of a URL has no mark to hide it by."""
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=rf"{variable} .* does not hold the URL of an HTTP proxy") as caught:
        Proxies().of(BlobUrl.parse(f"https://{HOST}/data/a"), anonymous=False)
    assert value not in "".join(texts_of(caught.value))
    assert "canary-password" not in "".join(texts_of(caught.value))


def test_proxy_whose_name_cannot_be_looked_up_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own is a bare UnicodeError out of its resolver."""
    with through("a" * 64, monkeypatch, "user:canary-password@"):
        file = BlobIO(f"https://{HOST}/data/a", "rb", credential=False)
        with pytest.raises(BlobRequestError, match="no resolver can be asked") as caught, file:
            file.read()
        assert not found_in(texts_of(caught.value))


@contextlib.contextmanager
def _account(folder: Path) -> Iterator[tuple[TlsBlobServer, TransferOptions]]:
    """A server with a certificate for DOMAIN, and the options that trust it."""
    authority = trustme.CA()
    issued = authority.issue_cert(DOMAIN)
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(str(files.ca_file))
    issued.cert_chain_pems[0].write_to_path(str(files.cert_file))
    issued.private_key_pem.write_to_path(str(files.key_file))
    server = TlsBlobServer(files)
    with server:
        yield server, TransferOptions(ca_file=server.ca_file, block_size=KiB, deadline=5)


@pytest.mark.parametrize("proof", ["url", "sas", "key", "token"])
def test_tunnel_shows_the_proxy_nothing_but_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, proof: str
) -> None:
    """Proxies are run by somebody else, and they keep logs."""
    caplog.set_level(logging.DEBUG)
    credential: Any = {
        "sas": AzureSasCredential(SAS),
        "key": AzureNamedKeyCredential("devstoreaccount1", KEY),
        "token": Credential(),
    }.get(proof)
    query = f"?{SAS}" if proof == "url" else ""
    container = f"https://{DOMAIN}/devstoreaccount1/data"
    with (
        _account(tmp_path) as (server, options),
        Proxy(urlsplit(server.origin).port or 0) as proxy,
        through(proxy, monkeypatch, "user:canary-password@"),
    ):
        with BlobIO(f"{container}/secret name{query}", "wb", credential=credential, options=options) as writer:
            writer.write(bytes(3000))
        with BlobIO(f"{container}/secret name{query}", "rb", credential=credential, options=options) as reader:
            assert reader.read() == bytes(3000)
        assert len(BlobListing.build(f"{container}{query}", credential=credential, options=options)) == 1

    assert proxy.heads
    for head in proxy.heads:
        assert head.startswith(f"CONNECT {DOMAIN}:443 HTTP/1.1\r\n")
        assert "secret" not in head
        assert "sig" not in head
        assert not found_in([head])  # the password is the proxy's own, and in base64
        assert "\r\nProxy-Authorization: Basic " in head
    for record in server.requests():
        assert record.headers.get("authorization") == (f"Bearer {TOKEN}" if proof == "token" else None)
        assert "proxy-authorization" not in record.headers
    assert not found_in(caplog.messages)


@pytest.mark.parametrize(
    ("refusal", "words", "again"), [(407, "wants a user and a password", 0), (403, "403", 0), (502, "502", 1)]
)
def test_proxy_that_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal: int, words: str, again: int
) -> None:
    """Else people look for the fault at the service."""
    caplog.set_level(logging.DEBUG)
    with Proxy(1, refusal=refusal) as proxy, through(proxy, monkeypatch, "user:canary-password@"):
        with (
            pytest.raises(BlobRequestError, match=f"the proxy .*{words}") as caught,
            BlobIO(f"https://{HOST}/data/a?{SAS}", "rb", options=TransferOptions(deadline=1)) as file,
        ):
            file.read()
        assert bool(len(proxy.heads) - 1) == again
    assert not found_in([*texts_of(caught.value), *caplog.messages])


def test_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Else people look for the fault at the service, which is up."""
    caplog.set_level(logging.DEBUG)
    options = TransferOptions(deadline=0.5)
    with (
        BlobServer(listening=False) as nobody,
        through(host := f"127.0.0.1:{nobody.port}", monkeypatch, "user:canary-password@"),
        pytest.raises(BlobRequestError, match=f"no connection to the proxy {host}") as caught,
        BlobIO(f"https://{HOST}/data/a?{SAS}", "rb", options=options) as file,
    ):
        file.read()
    assert not found_in([*texts_of(caught.value), *caplog.messages])


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("mode", ["rb", "wb", "xb", "list"])
def test_redirects_are_not_followed(server: BlobServer, mode: Any, status: int) -> None:
    """Whoever can answer one request with a redirect would be sent the credential."""
    proofs: list[tuple[str, Any]] = [
        (f"?{SAS}", None),
        ("", AzureSasCredential(SAS)),
        ("", AzureNamedKeyCredential("devstoreaccount1", KEY)),
        ("", Credential()),
    ]
    with BlobServer() as other:
        other.put("a", b"stolen")
        server.fault(on(), Redirect(other.url("a"), status), times=None)
        for query, credential in proofs:
            server.clear()
            server.fault(on(), Redirect(other.url("a"), status), times=None)
            with pytest.raises(AZStorageTorchError, match="redirects are not followed") as caught:
                if mode == "list":
                    BlobListing.build(f"{server.container_url}{query}", credential=credential)
                else:
                    with BlobIO(f"{server.url('a')}{query}", mode, credential=credential) as file:
                        file.read() if mode == "rb" else file.write(b"x")
            assert getattr(caught.value, "status_code", None) == status
            assert not found_in(texts_of(caught.value))
            assert len(server.requests()) == 1

        assert not other.requests()


async def test_redirect_from_https_to_http_is_not_followed(tls_server: TlsBlobServer, server: BlobServer) -> None:
    """Nor on a loop of the user's, nor by blocks and their commit."""
    options = TransferOptions(ca_file=tls_server.ca_file, block_size=1000)
    for comp in ("block", "blocklist"):
        tls_server.clear()
        tls_server.fault(on("PUT", comp), Redirect(server.url("a")), times=None)
        with pytest.raises(AZStorageTorchError, match="redirects are not followed"):
            async with AsyncBlobIO(tls_server.url("a"), "wb", credential=Credential(), options=options) as file:
                await file.write(bytes(3000))
    assert not server.requests()


def test_netrc_is_not_read(server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP clients like to send a password that a file has for the host."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    run(aclose)
    server.put("a", b"content")
    with BlobIO(server.url("a"), "rb", credential=False) as file:
        assert file.read() == b"content"
    assert [record.headers.get("authorization") for record in server.requests()] == [None]


def test_cookies_are_not_kept(server: BlobServer) -> None:
    """A gateway's cookie would be sent with the requests of all accounts of that host."""
    server.put("a", b"content")
    server.fault(on(), Header("Set-Cookie", "session=canary; Path=/"), times=None)
    for _ in range(2):
        with BlobIO(server.url("a"), "rb", credential=False) as file:
            assert file.read() == b"content"
    assert [record.headers.get("cookie") for record in server.requests()] == [None, None]
