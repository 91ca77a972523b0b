"""The pages of a listing: every blob once with its own name, whatever the name, or one typed error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from azstoragetorch._azure import container as container_module
from azstoragetorch._azure import retry
from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._azure.errors import FailedAttempt
from azstoragetorch._azure.list_page import parse_page
from azstoragetorch._values.chunk import ListPage
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch._values.version import BlobEntry
from azstoragetorch.aio import aclose
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobIntegrityError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    ContainerNotFoundError,
)
from tests.blobserver import (
    Action,
    BlobServer,
    CutBody,
    Hang,
    Header,
    Hold,
    ReplaceBody,
    ServerProcess,
    StallBody,
    Status,
    Trickle,
    on,
)
from tests.blobserver.wire import Request

STRANGE = sorted(
    [
        "a b",
        " leading and trailing ",
        "%41",
        "100%",
        "a+b",
        "a#b",
        "a?b=c&d",
        "line\nfeed",
        "carriage\rreturn",
        "tab\t",
        "ü/日本/😀",
        "<&>\"'",
        "]]>",
        "\x01control\x1f",
        "￾",
        "percent %C3%BC in \x02",
        "dir/a:b;c@d=e,f",
        "x" * 1024,
    ]
)

pytestmark = pytest.mark.usefixtures("no_blocking_call")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between attempts short."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)


async def opened(url: str, options: TransferOptions | None = None) -> AzureContainer:
    return await AzureContainer.open(ContainerUrl.parse(url), False, options or TransferOptions(), TransferStats())


async def pages_of(url: str, prefix: str | None = None, page_size: int = 5000) -> list[ListPage]:
    container = await opened(url)
    return [page async for page in container.pages(prefix, page_size=page_size)]


def blobs_of(pages: list[ListPage]) -> list[BlobEntry]:
    return [blob for page in pages for blob in page.blobs]


def names_of(pages: list[ListPage]) -> list[str]:
    return [blob.name for blob in blobs_of(pages)]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (5000, 1), (5001, 2)])
async def test_all_blobs_in_as_few_requests_as_there_are_pages(server: BlobServer, count: int, pages: int) -> None:
    """The ends of pages are where listings lose or repeat."""
    server.put_listing(count)

    got = await pages_of(server.container_url)

    assert [len(page.blobs) for page in got] == [5000] * (count // 5000) + [count % 5000] * (
        count % 5000 > 0 or not count
    )
    assert len(set(names_of(got))) == count
    assert [page.more for page in got] == [True] * (len(got) - 1) + [False]
    assert all(page.ordered for page in got)
    assert len(server.requests("GET", comp="list")) == pages


async def test_size_etag_and_time_are_those_of_the_blob(server: BlobServer) -> None:
    """Reads are pinned to the ETag, and users sort and filter by the rest."""
    version = server.put("a", b"content")

    [blob] = blobs_of(await pages_of(server.container_url))

    assert blob == BlobEntry("a", 7, version.etag, datetime.fromtimestamp(int(version.modified), UTC))


@pytest.mark.parametrize("page_size", [1, 3, 5000])
async def test_names_arrive_as_they_were_written(server: BlobServer, page_size: int) -> None:
    """A name that changes on the way is a blob that cannot be opened. Markers carry names, too."""
    for name in STRANGE:
        server.put(name, b"x")

    assert names_of(await pages_of(server.container_url, page_size=page_size)) == STRANGE


@pytest.mark.parametrize("prefix", [name for name in STRANGE[:-1] if len(name) < 1024])
async def test_prefix_is_taken_literally(server: BlobServer, prefix: str) -> None:
    """A prefix that is encoded in another way lists nothing, or too much."""
    wanted = [f"{prefix}{i}" for i in range(3)]
    for name in [*wanted, "other", "A"]:
        server.put(name, b"x")

    assert names_of(await pages_of(server.container_url, prefix, page_size=2)) == wanted


async def test_names_that_no_request_can_be_for_are_left_out_aloud(
    server: BlobServer, caplog: pytest.LogCaptureFixture
) -> None:
    """HTTP clients resolve dot segments to another blob. One such name must not end every epoch at its place."""
    for name in ("a", "b/./c", "..", "d"):
        server.put(name, b"x")

    assert names_of(await pages_of(server.container_url)) == ["a", "d"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "'b/./c': a blob name cannot have . or .. as a segment" in caplog.text


async def test_placeholders_of_directories_are_no_blobs(server: BlobServer) -> None:
    """Accounts with a hierarchical namespace list them as empty blobs; a real empty blob is a sample."""
    server.put_directory("both")
    server.put_directory("type", metadata=False)
    server.put_directory("metadata", resource_type=False)
    server.put("empty", b"")

    [page] = await pages_of(server.container_url)

    assert [blob.name for blob in page.blobs] == ["empty"]
    assert page.directories == ["both", "metadata", "type"]


async def test_archived_blobs_are_listed_apart(server: BlobServer) -> None:
    """They cannot be read: as samples they would fail an epoch at a random place."""
    for name in ("a", "b", "c"):
        server.put(name, b"x", tier="Archive" if name == "b" else "Cool")

    [page] = await pages_of(server.container_url)

    assert [blob.name for blob in page.blobs] == ["a", "c"]
    assert page.archived == ["b"]


async def test_user_metadata_is_not_mistaken_for_properties(server: BlobServer) -> None:
    """Its elements have names that users choose, next to the service's."""
    body = document(
        "<Blob><Name>real</Name><Properties><Etag>0x8D1</Etag><Content-Length>5</Content-Length></Properties>"
        "<Metadata><Name>false</Name><Etag>0x0</Etag><Blob>x</Blob><Properties>y</Properties><Metadata>z</Metadata>"
        "<Content-Length>7</Content-Length><AccessTier>Archive</AccessTier><ResourceType>directory</ResourceType>"
        "</Metadata><OrMetadata><Name>false</Name></OrMetadata></Blob>"
        "<Blob><Name>next</Name><Properties/><Metadata/></Blob>"
    )

    page, _ = parse_page([body])

    assert list(page.blobs) == [BlobEntry("real", 5, '"0x8D1"', None), BlobEntry("next", None, None, None)]


async def test_indented_answer_reads_the_same() -> None:
    """Gateways and emulators may format XML; white space between elements is not part of a value, that in a name is."""
    body = document(
        "\n <Blob>\n  <Name> a </Name>\n  <Properties>\n   <Etag>0x8D1</Etag>\n   <Content-Length>5</Content-Length>\n"
        "   <Last-Modified>Tue, 04 Mar 2025 12:34:56 GMT</Last-Modified>\n  </Properties>\n"
        "  <Metadata>\n   <hdi_isfolder>\n false</hdi_isfolder>\n  </Metadata>\n </Blob>\n"
    )
    bits = [body[i : i + 7] for i in range(0, len(body), 7)]

    page, marker = parse_page(bits)

    assert list(page.blobs) == [BlobEntry(" a ", 5, '"0x8D1"', datetime(2025, 3, 4, 12, 34, 56, tzinfo=UTC))]
    assert marker == ""


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Thu, 29 Feb 2024 23:59:59 GMT", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("Tue, 4 Mar 2025 12:34:56 +0100", datetime(2025, 3, 4, 11, 34, 56, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates(date: str, expected: datetime | None) -> None:
    """The quick way for the service's own form must not misread another."""
    blob = f"<Blob><Name>a</Name><Properties><Last-Modified>{date}</Last-Modified></Properties></Blob>"

    page, _ = parse_page([document(blob)])

    assert page.blobs[0].last_modified == expected


def document(blobs: str, marker: str = "") -> bytes:
    """Write an answer around some blobs."""
    return (
        f'﻿<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="data"><Prefix/>'
        f"<Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    ).encode()


WRONG: dict[str, bytes] = {
    "nothing": b"",
    "text": b"Bad Gateway",
    "a page of a proxy": b"<html><body>log in</body></html>",
    "another document": b'<?xml version="1.0"?><BlockList></BlockList>',
    "cut": document("<Blob><Name>a</Name></Blob>")[:-10],
    "more behind it": document("") + b"<x/>",
    "a broken tag": document("<Blob><Name>a</Nam></Blob>"),
    "a size that is no number": document(
        "<Blob><Name>a</Name><Properties><Content-Length>x</Content-Length></Properties></Blob>"
    ),
    "a negative size": document(
        "<Blob><Name>a</Name><Properties><Content-Length>-1</Content-Length></Properties></Blob>"
    ),
    "no name": document("<Blob><Properties/></Blob>"),
    "an empty name": document("<Blob><Name/></Blob>"),
    "a name that is no UTF-8": document('<Blob><Name Encoded="true">%ff</Name></Blob>'),
    "bytes that are no UTF-8": document("<Blob><Name>@</Name></Blob>").replace(b"@", b"\xff"),
    "entities": b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + document("<Blob><Name>&a;</Name></Blob>")[3:],
    "a control character": document("<Blob><Name>\x01</Name></Blob>"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_document_is_refused(kind: str) -> None:
    """A listing that is silently short is a training run on part of the data."""
    with pytest.raises(FailedAttempt):
        parse_page([WRONG[kind]])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("action", "error"),
    [
        (ReplaceBody(WRONG["a page of a proxy"]), BlobIntegrityError),
        (ReplaceBody(WRONG["cut"]), BlobIntegrityError),
        (CutBody(100, "close"), BlobResponseError),
        (CutBody(100, "reset"), BlobResponseError),
        (Status(204, body=b""), BlobIntegrityError),
        (Header("x-ms-client-request-id", "other"), Exception),
        (Status(400, "InvalidQueryParameterValue"), BlobServiceError),
        (Status(403, "AuthorizationPermissionMismatch"), BlobAccessError),
        (Status(404, "ContainerNotFound"), ContainerNotFoundError),
        (Status(404, body=b""), ContainerNotFoundError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Action) else getattr(value, "__name__", None),
)
async def test_second_page_that_keeps_failing_is_one_typed_error(
    server: BlobServer, action: Action, error: type[Exception]
) -> None:
    """After a first page that went well, a failure must neither look like the end nor hang."""
    server.put_listing(10)
    rule = server.fault(on("GET", "list", when=lambda request: "marker" in request.query), action, times=None)

    with pytest.raises(error, match=r"listing http://127\.0\.0\.1:\d+/devstoreaccount1/data"):
        await pages_of(server.container_url, page_size=5)

    assert rule.hits in (1, retry.BROKEN_ATTEMPTS)
    await ended(server)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "action",
    [
        Status(503, "ServerBusy", {"Retry-After": "0"}),
        ReplaceBody(WRONG["cut"]),
        ReplaceBody(b""),
        CutBody(1000, "reset"),
        CutBody(0, "close"),
    ],
    ids=lambda action: type(action).__name__,
)
async def test_second_page_that_fails_twice_is_asked_for_again_alone(server: BlobServer, action: Action) -> None:
    """A hiccup in a long listing costs one page."""
    server.put_listing(12)
    server.fault(on("GET", "list"), action, times=2, nth=2)

    got = await pages_of(server.container_url, page_size=5)

    assert [len(page.blobs) for page in got] == [5, 5, 2]
    assert len(server.requests("GET", comp="list")) == 5


@pytest.mark.parametrize("action", [Hang(), StallBody(50), Trickle(20)], ids=lambda action: type(action).__name__)
async def test_silent_service_is_a_timeout(server: BlobServer, action: Action) -> None:
    """A listing that is stuck would hold up the start of a job for ever."""
    server.put_listing(10)
    server.fault("GET", action, times=None)
    container = await opened(server.container_url, TransferOptions(idle_timeout=0.1, deadline=0.5))

    with pytest.raises(BlobTimeoutError):
        await anext(container.pages())

    await ended(server)


@pytest.mark.usefixtures("impatient")
async def test_absurdly_large_page_is_refused(server: BlobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers for ever is no listing, and must not fill the memory."""
    monkeypatch.setattr(container_module, "MAX_PAGE", 100_000)
    server.put_listing(5000)

    with pytest.raises(BlobIntegrityError, match="longer than 100000 bytes"):
        await pages_of(server.container_url)

    await ended(server)


@pytest.mark.usefixtures("impatient")
async def test_marker_that_leads_nowhere_ends_in_an_error(server: BlobServer) -> None:
    """Else a listing of one page goes on for ever."""
    server.fault(on("GET", "list"), Status(200, body=document("<Blob><Name>a</Name></Blob>", "again")), times=None)

    with pytest.raises(BlobIntegrityError, match="followed by itself"):
        await pages_of(server.container_url)


async def test_empty_pages_with_a_marker_are_not_the_end(server: BlobServer) -> None:
    """The service may send them while it skips what was deleted."""
    server.put_listing(6)
    server.fault(on("GET", "list"), ReplaceBody(document("", "MDAwMDAwLTAwMDIuYmlu")), times=1, nth=1)
    server.fault(on("GET", "list"), ReplaceBody(document("", "MDAwMDAwLTAwMDEuYmlu")), times=1, nth=2)

    got = await pages_of(server.container_url)

    assert [len(page.blobs) for page in got] == [0, 0, 4]


async def test_marker_is_sent_back_as_it_came(server: BlobServer) -> None:
    """It is opaque, and holds what a query must not."""
    marker = "2!92!a+b/c=%26&é \t#"
    server.fault(on("GET", "list"), Status(200, body=document("", marker.replace("&", "&amp;"))))
    seen: list[str] = []

    def second(request: Request) -> bool:
        if "marker" in request.query:
            seen.append(request.query["marker"])
        return "marker" in request.query

    server.fault(on("GET", "list", when=second), Status(200, body=document("")))
    await pages_of(server.container_url)

    assert seen == [marker]


async def test_next_page_is_on_its_way_while_one_is_used(server: BlobServer) -> None:
    """A lazy dataset reads samples while the listing goes on; but one page is enough, they take memory."""
    server.put_listing(50)
    container = await opened(server.container_url)
    async with aclosing(container.pages(page_size=10)) as pages:
        assert len((await anext(pages)).blobs) == 10
        await until(lambda: len(server.requests("GET", comp="list")) == 2)
        await asyncio.to_thread(server.wait_idle)
        assert len(server.requests("GET", comp="list")) == 2
    await ended(server)


async def test_name_to_start_from_is_asked_for_in_the_version_that_has_it(server: BlobServer) -> None:
    """Emulators refuse versions newer than themselves, so no other request may name it."""
    server.put_listing(30)
    container = await opened(server.container_url)

    got = [page async for page in container.pages(start_from="000000-0012", page_size=10)]

    assert names_of(got)[0] == "000000-0012.bin"
    assert [len(page.blobs) for page in got] == [10, 8]
    await pages_of(server.container_url)
    versions = [request.headers["x-ms-version"] for request in server.requests("GET", comp="list")]
    assert versions == ["2026-02-06", "2026-02-06", "2021-12-02"]


@pytest.mark.parametrize("held", [1, 2])
async def test_cancelled_listing_leaves_nothing(server: BlobServer, held: int) -> None:
    """Ctrl-C during the listing of a huge container must not leave a connection or a task."""
    server.put_listing(30)
    rule = server.fault(on("GET", "list"), Hold(), times=None, nth=held)
    task = asyncio.create_task(pages_of(server.container_url, page_size=10))
    await asyncio.to_thread(rule.wait)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await ended(server)


@pytest.mark.parametrize("action", [Hold(), Status(403, "AuthorizationFailure")], ids=["on its way", "refused"])
async def test_listing_left_early_leaves_nothing(server: BlobServer, action: Action) -> None:
    """`break` out of a lazy dataset, whatever became of the page after the one in use."""
    server.put_listing(30)
    rule = server.fault(on("GET", "list"), action, nth=2)
    container = await opened(server.container_url)
    async with aclosing(container.pages(page_size=10)) as pages:
        await anext(pages)
        await asyncio.to_thread(rule.wait)
        if not isinstance(action, Hold):
            await asyncio.to_thread(server.wait_idle)
    await ended(server)


async def test_loop_goes_on_while_pages_are_parsed() -> None:
    """Reads of the same process share the loop: parsing a page on it would stop them for 70 ms."""
    with ServerProcess("--listing", "10000") as server:
        gaps = []
        listing = asyncio.create_task(pages_of(server.container_url))
        clock = asyncio.get_running_loop().time
        before = clock()
        while not listing.done():
            await asyncio.sleep(0.001)
            now = clock()
            gaps.append(now - before)
            before = now
        assert len(names_of(await listing)) == 10_000
    # Two pages of 70 ms each in a thread: by turns of 5 ms the loop comes around more than ten times.
    assert len(gaps) > 10


async def until(condition: object) -> None:
    """Let the loop run until ``condition()``."""
    assert callable(condition)
    while not condition():  # noqa: ASYNC110  # nothing here could set an event
        await asyncio.sleep(0.001)


async def ended(server: BlobServer) -> None:
    """Fail if the loop has anything left of a listing."""
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await aclose()
    await asyncio.to_thread(server.wait_closed)


@pytest.fixture(autouse=True)
async def closed_session() -> AsyncIterator[None]:
    """Close the connections of the test's loop."""
    yield
    await aclose()
