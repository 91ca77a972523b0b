"""Requests get the spans of azure-core's tracing where that is on, with no secret in them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.credentials import AccessToken
from azure.core.settings import settings
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import AZStorageTorchError, BlobNotFoundError
from azstoragetorch.listing import BlobListing
from tests.blobserver import Action, BlobServer, Call, Delay, Drop, Garbage, Hang, Hold, Match, Redirect, Status, on
from tests.bridge.script import output_of
from tests.secrets.canaries import SIGNATURE, TOKEN, found_in

CONTENT = bytes(range(256)) * 12
BLOCKS = TransferOptions(block_size=1000)
BRIEF = TransferOptions(block_size=1000, deadline=0.2, idle_timeout=0.05, connect_timeout=0.1)


class Recorder(SpanProcessor):
    """What was traced, in the order in which it ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.begun: list[int] = []
        """Numbers of the spans that were begun, in that order."""
        self.tracer = trace.get_tracer("test")

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        self.begun.append(span.get_span_context().span_id)

    def clear(self) -> None:
        self.exporter.clear()
        self.begun.clear()

    def check(self, server: BlobServer) -> None:
        """Fail unless every span has ended, and every request that the server saw has one of its own."""
        assert self.unended == set()
        sent = [int(record.headers["traceparent"].split("-")[2], 16) for record in server.requests()]
        assert sent
        assert len(set(sent)) == len(sent)
        # One that is given up while it waits for a connection is never seen there.
        assert set(sent) <= {span.context.span_id for span in self.spans if span.kind is SpanKind.CLIENT}

    @property
    def unended(self) -> set[int]:
        return set(self.begun) - {span.context.span_id for span in self.spans}

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture(scope="module")
def exporting() -> Recorder:
    recorder = Recorder()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):  # there is one for each process, and it stays
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(recorder.exporter))
    provider.add_span_processor(recorder)
    recorder.tracer = trace.get_tracer("test")
    return recorder


@pytest.fixture
def off(exporting: Recorder) -> Recorder:
    """OpenTelemetry is set up, and azure-core was not told to use it."""
    exporting.clear()
    return exporting


@pytest.fixture
def recorder(off: Recorder) -> Iterator[Recorder]:
    """Tracing by azure-core itself."""
    settings.tracing_enabled = True
    yield off
    settings.tracing_enabled.unset_value()


@pytest.fixture
def plugin(off: Recorder) -> Iterator[Recorder]:
    """Tracing by the plugin of azure-core, which older programs use."""
    if find_spec("azure.core.tracing.ext.opentelemetry_span") is None:
        pytest.skip("azure-core-tracing-opentelemetry is installed beside torch only")
    settings.tracing_implementation = "opentelemetry"
    yield off
    settings.tracing_implementation.unset_value()


async def read(url: str, **more: Any) -> bytes:
    async with AsyncBlobIO(url, "rb", **{"credential": False, **more}) as file:
        return await file.read()


async def write(url: str, content: bytes = CONTENT, mode: Any = "wb", **more: Any) -> None:
    async with AsyncBlobIO(url, mode, **{"credential": False, **more}) as file:
        await file.write(content)


async def test_read_is_an_operation_with_its_request_inside(server: BlobServer, recorder: Recorder) -> None:
    """As the SDK's own downloads are, so that one dashboard shows both; below the span of whoever reads."""
    server.put("a", CONTENT)

    with recorder.tracer.start_as_current_span("epoch") as epoch:
        assert await read(server.url("a")) == CONTENT

    request, operation, _ = recorder.spans
    assert (request.name, request.kind) == ("GET", SpanKind.CLIENT)
    assert (operation.name, operation.kind) == ("azstoragetorch.get_blob", SpanKind.INTERNAL)
    assert operation.parent is not None
    assert request.parent is not None
    assert operation.parent.span_id == epoch.get_span_context().span_id
    assert request.parent.span_id == operation.context.span_id
    facts = dict(request.attributes or {})
    assert facts["http.request.method"] == "GET"
    assert facts["http.response.status_code"] == 206
    assert facts["url.full"] == server.url("a")
    assert facts["server.port"] == server.port
    (record,) = server.requests()
    assert facts["az.client_request_id"] == record.headers["x-ms-client-request-id"]
    assert record.headers["traceparent"].split("-")[2] == f"{request.context.span_id:016x}"
    assert dict(operation.attributes or {}) == {"az.namespace": "Microsoft.Storage"}


async def test_repeated_requests_are_in_one_operation(server: BlobServer, recorder: Recorder) -> None:
    """The trace of a slow read has to show why it was slow, and that it succeeded."""
    server.put("a", CONTENT)
    server.fault(on(), Status(503, "ServerBusy"))
    server.fault(on(), Garbage())

    assert await read(server.url("a")) == CONTENT

    refused, broken, answered, operation = recorder.spans
    assert {span.name for span in (refused, broken, answered)} == {"GET"}
    assert {span.parent and span.parent.span_id for span in (refused, broken, answered)} == {operation.context.span_id}
    assert dict(refused.attributes or {})["error.type"] == "503"
    assert broken.status.status_code is StatusCode.ERROR
    assert operation.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("mode", "size", "names"),
    [
        ("wb", 10, ["PUT", "azstoragetorch.put_blob"]),
        ("wb", 1500, [*2 * ["PUT", "azstoragetorch.put_block"], "PUT", "azstoragetorch.put_block_list"]),
        (
            "xb",
            10,
            [
                *("HEAD", "azstoragetorch.get_blob_properties", "PUT", "azstoragetorch.put_block"),
                *("PUT", "azstoragetorch.put_block_list"),
            ],
        ),
    ],
    ids=["put", "blocks", "create"],
)
async def test_writes_have_the_same_spans(
    server: BlobServer, recorder: Recorder, mode: Any, size: int, names: list[str]
) -> None:
    """One for each operation, whether the SDK carries it out or not, and no second one of the SDK's around it."""
    await write(server.url("new"), CONTENT[:size], mode, options=BLOCKS)

    assert sorted(recorder.names) == sorted(names)
    assert all(span.status.status_code is StatusCode.UNSET for span in recorder.spans)


async def test_listing_has_the_same_spans(server: BlobServer, recorder: Recorder) -> None:
    """One operation for a page."""
    server.put("a", CONTENT)
    await BlobListing.abuild(server.container_url, credential=False)

    assert recorder.names == ["GET", "azstoragetorch.list_blobs"]
    assert "comp=REDACTED" in str(dict(recorder.spans[0].attributes or {})["url.full"])


async def test_error_is_the_status_of_the_operation(server: BlobServer, recorder: Recorder) -> None:
    """In our words, which say what to do."""
    with pytest.raises(BlobNotFoundError) as caught:
        await read(server.url("missing"))

    request, operation = recorder.spans
    assert dict(request.attributes or {})["error.type"] == "404"
    assert operation.status.status_code is StatusCode.ERROR
    assert operation.status.description == f"BlobNotFoundError: {caught.value}"
    assert dict(operation.attributes or {})["error.type"] == "azstoragetorch.exceptions.BlobNotFoundError"


async def listed(url: str, **more: Any) -> object:
    return await BlobListing.abuild(url.rpartition("/")[0], **{"credential": False, **more})


REQUESTS: dict[str, tuple[Match, Callable[..., Coroutine[Any, Any, object]]]] = {
    "GET": (on("GET", ""), read),
    "Put Block": (on("PUT", "block"), partial(write, content=CONTENT)),
    "Put Block List": (on("PUT", "blocklist"), partial(write, content=CONTENT)),
    "Put Blob": (on("PUT", ""), partial(write, content=b"small")),
    "HEAD": (on("HEAD"), partial(write, mode="xb")),
    "List Blobs": (on("GET", "list"), listed),
}
"""Each kind of request, over both pipelines, and what sends it."""


@pytest.mark.parametrize("kind", REQUESTS)
async def test_cancelled_request_ends_its_span(server: BlobServer, recorder: Recorder, kind: str) -> None:
    """A span that never ends is never exported, and the trace of a stuck job would show everything but that."""
    server.put("a", CONTENT)
    match, use = REQUESTS[kind]
    held, arrived = Hold(), asyncio.Event()
    tell = partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set)
    server.fault(match, Call(tell), held)
    before = context.get_current()
    using: asyncio.Task[object] = asyncio.create_task(use(server.url("a"), options=BLOCKS))
    await arrived.wait()

    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    held.release()

    recorder.check(server)
    assert context.get_current() == before


@pytest.mark.parametrize("kind", REQUESTS)
async def test_deadline_ends_the_span_of_a_request(server: BlobServer, recorder: Recorder, kind: str) -> None:
    """And azure-core, which turns other HTTP instrumentation off while its own span is open, turns it on again."""
    server.put("a", CONTENT)
    match, use = REQUESTS[kind]
    server.fault(match, Hang(), times=None)
    before = context.get_current()

    with pytest.raises(AZStorageTorchError):
        await use(server.url("a"), options=replace(BRIEF, idle_timeout=30))

    recorder.check(server)
    assert context.get_current() == before


async def test_answer_to_a_challenge_is_a_request_of_its_own(server: BlobServer, recorder: Recorder) -> None:
    """The service's 401 asks for another token; both requests took their time."""
    server.put("a", CONTENT)
    server.require_token = TOKEN
    tokens = iter(["another"])

    class Renewed:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken(next(tokens, TOKEN), int(time.time()) + 3600)

    assert await read(server.url("a"), credential=Renewed()) == CONTENT

    recorder.check(server)
    challenged, answered, operation = recorder.spans
    statuses = [dict(span.attributes or {})["http.response.status_code"] for span in (challenged, answered)]
    assert (operation.name, statuses) == ("azstoragetorch.get_blob", [401, 206])


async def test_nothing_is_traced_unless_it_is_turned_on(server: BlobServer, off: Recorder) -> None:
    """Neither spans nor a header, although OpenTelemetry is there."""
    server.put("a", CONTENT)
    assert await read(server.url("a")) == CONTENT
    await write(server.url("b"))

    assert off.names == []
    assert not [record for record in server.requests() if "traceparent" in record.headers]


async def test_tracing_can_be_turned_on_later(server: BlobServer, off: Recorder) -> None:
    """A program sets it up when its first request may have been made; it counts for files opened a second later."""
    server.put("a", CONTENT)
    await read(server.url("a"))
    settings.tracing_enabled = True
    try:
        end = time.monotonic() + 20
        while not off.names and time.monotonic() < end:
            await read(server.url("a"))
    finally:
        settings.tracing_enabled.unset_value()
    assert off.names[:2] == ["GET", "azstoragetorch.get_blob"]


def test_spans_of_a_blocking_file_belong_to_those_of_its_thread(server: BlobServer, tmp_path: Path) -> None:
    """The event loop is another thread; the trace must not notice."""
    server.put("a", CONTENT)
    lines = output_of(
        f"""
        from azure.core.settings import settings
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from azstoragetorch.io import BlobIO

        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        settings.tracing_enabled = True

        with trace.get_tracer("test").start_as_current_span("load"):
            with BlobIO({server.url("a")!r}, "rb", credential=False) as file:
                file.read()
        spans = exporter.get_finished_spans()
        print(*[span.name for span in spans])
        print(len({{span.context.trace_id for span in spans}}))
        print(spans[1].parent.span_id == spans[2].context.span_id)
        """,
        tmp_path,
    )
    assert lines == ["GET azstoragetorch.get_blob load", "1", "True"]


class Token:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


def with_sas(url: str) -> tuple[str, Any]:
    return f"{url}?sv=2021&sig={quote(SIGNATURE, safe='')}", None


def with_token(url: str) -> tuple[str, Any]:
    return url, Token()


FAULTS: dict[str, Action] = {
    "none": Delay(0),
    "403": Status(403, "AuthenticationFailed"),
    "503": Status(503, "ServerBusy"),
    "echoing": Status(400, "InvalidUri", body=f"The URI ?sig={SIGNATURE} is wrong, Bearer {TOKEN}".encode()),
    "reset": Drop("reset"),
    "garbage": Garbage(),
    "half a head": Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: what\r\n\r\n"),
    "silence": Hang(),
    "redirect": Redirect("http://127.0.0.1:1/elsewhere"),
}

ECHOED = ["none", "403", "echoing"]  # a token is in no URL, so nothing but the service can repeat it


@pytest.mark.parametrize("tracing", ["recorder", "plugin"])
@pytest.mark.parametrize(
    ("access", "fault"), [*((with_sas, fault) for fault in FAULTS), *((with_token, fault) for fault in ECHOED)]
)
async def test_no_secret_is_traced(
    request: pytest.FixtureRequest,
    server: BlobServer,
    tracing: str,
    access: Callable[[str], tuple[str, Any]],
    fault: str,
) -> None:
    """Traces go to other systems and other people; aiohttp's errors spell the signed URL, the service's echo it."""
    traced: Recorder = request.getfixturevalue(tracing)
    server.put("a", CONTENT)
    url, credential = access(server.url("a"))
    await read(url, credential=credential, options=replace(BRIEF, deadline=30))  # what a loop's first request waits for
    traced.clear()
    server.fault(on(), FAULTS[fault], times=None)
    for use in (read, write, lambda url, **more: write(url, b"small", **more)):
        url, credential = access(server.url("a"))
        with contextlib.suppress(AZStorageTorchError):
            await use(url, credential=credential, options=BRIEF)
    url, credential = access(server.container_url)
    with contextlib.suppress(AZStorageTorchError):
        await BlobListing.abuild(url, credential=credential, options=BRIEF)

    texts = [span.to_json() for span in traced.spans]
    names = {span.name for span in traced.spans}
    assert {"azstoragetorch.get_blob", "azstoragetorch.put_block", "azstoragetorch.list_blobs"} <= names
    assert {"GET", "PUT"} <= names
    assert not [name for name in names if "Client" in name]
    assert traced.unended == set()
    assert not found_in(texts)
