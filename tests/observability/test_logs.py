"""What the loggers under ``azstoragetorch`` say at DEBUG, and that they cost and say nothing otherwise."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential

import azstoragetorch
from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import BlobExistsError, BlobRequestError
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Call, Hang, Status, on
from tests.conftest import TlsBlobServer
from tests.observability.lines import Lines, listening
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN

ROOT = Path(azstoragetorch.__file__).parent
PAGE = ROOT.parent / "docs" / "observability.md"
BLOCKS = TransferOptions(block_size=1000, range_size=64 * 1024)
SAS = f"sv=2021&sig={quote(SIGNATURE, safe='')}"


@pytest.fixture
def lines() -> Iterator[Lines]:
    with listening() as lines:
        yield lines


def ended(how: str, url: str, mode: str, counters: str) -> str:
    """Return the pattern of the line in which a file says how it ended."""
    return rf"{how} {re.escape(url)}, mode {mode}, after \d+\.\d{{3}} s: {counters}"


ONCE = r"requests {}, repeated 0, throttled 0, waited 0\.000 s, bytes {}"


def use_sync(url: str, mode: Any, size: int, fail: bool) -> None:
    with BlobIO(url, mode, options=BLOCKS) as file:
        file.read() if mode == "rb" else file.write(bytes(size))
        if fail:
            raise LookupError


async def use_async(url: str, mode: Any, size: int, fail: bool) -> None:
    async with AsyncBlobIO(url, mode, options=BLOCKS) as file:
        await file.read() if mode == "rb" else await file.write(bytes(size))
        if fail:
            raise LookupError


@pytest.mark.parametrize("use", [use_sync, use_async])
@pytest.mark.parametrize(
    ("mode", "size", "fail", "how", "counters"),
    [
        ("rb", 0, False, "closed", ONCE.format(r"\d+", 1 << 20)),
        ("rb", 0, True, "closed", ONCE.format(r"\d+", 1 << 20)),
        ("wb", 700, False, "committed", ONCE.format(1, 700)),
        ("wb", 40_500, False, "committed", ONCE.format(42, 40_500)),
        ("wb", 700, True, "aborted", ONCE.format(0, 0)),
        ("xb", 700, False, "committed", ONCE.format(3, 700)),
    ],
    ids=["read", "read and fail", "put", "many blocks", "abort", "create"],
)
async def test_file_says_two_lines(
    server: BlobServer, lines: Lines, use: Any, mode: str, size: int, fail: bool, how: str, counters: str
) -> None:
    """One when it is opened and one for what became of it, however many requests that took: logs must stay readable."""
    server.put("a", bytes(1 << 20))
    url = server.url("a" if mode == "rb" else "new")
    try:
        waiting = use(f"{url}?{SAS}", mode, size, fail)
        if waiting is not None:
            await waiting
    except LookupError:
        pass

    opened, closed = lines.of("io")
    assert opened == f"opened {url}, mode {mode}"
    assert re.fullmatch(ended(how, url, mode, counters), closed), closed


def test_refused_commit_says_so(server: BlobServer, lines: Lines) -> None:
    """The error tells why; the line, when among the others."""
    server.put("a", b"before")
    with pytest.raises(BlobExistsError), BlobIO(server.url("a"), "xb", credential=False) as file:
        file.write(b"after")

    assert re.fullmatch(ended("could not commit", server.url("a"), "xb", ONCE.format(1, 0)), lines.of("io")[-1])


@pytest.mark.parametrize("applied", [True, False])
async def test_interrupted_commit_is_not_said_to_have_failed(applied: bool, server: BlobServer, lines: Lines) -> None:
    """Nobody knows what becomes of it: whoever reads "could not commit" would take the blob for the old one."""
    server.put("a", b"before")
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    tell = Call(lambda: loop.call_soon_threadsafe(arrived.set), after=applied)
    server.fault(on("PUT", ""), tell, Hang(perform=applied), times=None)
    file = AsyncBlobIO(server.url("a"), "wb", credential=False)
    await file.write(b"after")
    committing = asyncio.create_task(file.aclose())
    await arrived.wait()
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing

    assert file.closed
    assert not file.committed
    assert server.get("a") == (b"after" if applied else b"before")
    how = ended("interrupted in the commit of", server.url("a"), "wb", ONCE.format(1, 0))
    assert re.fullmatch(how, lines.of("io")[-1]), lines.of("io")


def test_repeated_request_is_a_line_of_its_own(server: BlobServer, lines: Lines) -> None:
    """The first question about a slow job is what it waited for."""
    server.put("a", b"content")
    server.fault(on(), Status(503, "ServerBusy"))
    with BlobIO(server.url("a"), "rb", credential=False) as file:
        file.read()

    (line,) = lines.of("retry")
    assert line.startswith(f"reading {server.url('a')}: the service answered 503 ServerBusy; asking again in ")
    counters = r"requests 2, repeated 1, throttled 1, waited 0\.\d{3} s, bytes 7"
    assert re.fullmatch(ended("closed", server.url("a"), "rb", counters), lines.of("io")[-1])


class Token:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


@pytest.mark.parametrize(
    ("query", "credential", "proof"),
    [
        (f"?{SAS}", None, "the SAS of the URL"),
        ("", False, "no credential"),
        ("", AzureSasCredential(SAS), "AzureSasCredential"),
        ("", AzureNamedKeyCredential("devstoreaccount1", KEY), "AzureNamedKeyCredential"),
        ("", Token(), "Token"),
    ],
    ids=["sas", "anonymous", "sas credential", "key", "token"],
)
async def test_connections_and_credentials_are_told_of(
    tls_server: TlsBlobServer, lines: Lines, query: str, credential: Any, proof: str
) -> None:
    """Which credential was used, through which proxy, to which address: what a refused first request depends on."""
    tls_server.put("a", b"content")
    options = TransferOptions(ca_file=tls_server.ca_file)
    for _ in range(3):
        async with AsyncBlobIO(f"{tls_server.url('a')}{query}", "rb", credential=credential, options=options) as file:
            await file.read()
    await aclose()

    assert lines.of("session") == [
        "opened the connections of an event loop, at most 256",
        f"{tls_server.account_url}: asked with {proof}, directly",
        f"connecting to 127.0.0.1, port {tls_server.port}",
        "closed the connections of an event loop",
    ]
    tokens = lines.of("credentials")
    assert len(tokens) == (1 if proof == "Token" else 0)
    assert all(re.fullmatch(r"got a token of Token, good for 3[56]\d\d s", line) for line in tokens)


async def test_proxy_is_named_without_its_password(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a proxy often carries a user and a password."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)  # or this host is looked up, and that leaves the machine
    options = TransferOptions(deadline=0.5)  # refused connections are asked again until then
    with BlobServer(listening=False) as nobody, pytest.raises(BlobRequestError):
        monkeypatch.setenv("http_proxy", f"http://user:canary@127.0.0.1:{nobody.port}")
        async with AsyncBlobIO("http://account.invalid/data/a", "rb", credential=False, options=options) as file:
            await file.read()

    assert "http://account.invalid: asked with no credential, through 127.0.0.1" in lines.of("session")


def test_listing_says_one_line_a_page(server: BlobServer, lines: Lines) -> None:
    """A listing of millions takes minutes; this is how to see that it goes on."""
    for number in range(3):
        server.put(f"{number}", b"content")
    BlobListing.build(f"{server.container_url}?{SAS}")

    page, whole = lines.of("listing")
    assert re.fullmatch(rf"listing {server.container_url}: a page of 3 blobs in \d+\.\d{{3}} s, the last", page)
    assert re.fullmatch(rf"listed {server.container_url}: 3 blobs in \d+\.\d{{3}} s, ranges 1", whole)


def test_nothing_is_formatted_unless_somebody_listens(server: BlobServer) -> None:
    """By default DEBUG goes nowhere, and then it must cost nothing but the question."""

    def refuse(name: str, *details: Any, **more: Any) -> logging.LogRecord:
        assert not name.startswith("azstoragetorch"), f"{name} made a record: {details}"
        return logging.LogRecord(name, *details, **more)

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(refuse)
    try:
        server.fault(on(), Status(503, "ServerBusy"))
        use_sync(f"{server.url('a')}?{SAS}", "wb", 5000, False)
        use_sync(f"{server.url('a')}?{SAS}", "rb", 0, False)
        BlobListing.build(f"{server.container_url}?{SAS}")
    finally:
        logging.setLogRecordFactory(before)


def logger_names() -> set[str]:
    """Return the names of the loggers in the source, without the name of the package."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
                (argument,) = node.args
                module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
                found.add(module if isinstance(argument, ast.Name) else str(ast.literal_eval(argument)))
    return found


def test_loggers_are_those_of_the_guide() -> None:
    """Their names go into people's logging configuration: they are documented, and none follows a private module."""
    table = re.findall(r"^\| `(azstoragetorch\.\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(table) == sorted(logger_names())
