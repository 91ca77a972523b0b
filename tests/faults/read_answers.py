"""Reads whose answers are complete and not what was asked for."""

from __future__ import annotations

__all__ = ["ANSWERS"]

import gzip
from collections.abc import Callable

from azstoragetorch.exceptions import (
    BlobIntegrityError,
    BlobServiceError,
    ClientRequestIdMismatchError,
)
from tests.blobserver import (
    Action,
    BlobServer,
    ContentRange,
    Garbage,
    Header,
    IgnoreRange,
    Redirect,
    ReplaceBody,
    ShortBody,
    Status,
)
from tests.faults.case import Case, KiB, Result, Table, raises
from tests.faults.reading import ASYNC, FILES, FOREVER, GET, MANY, PARTS, READS, SHORT, broken, later, spoil
from tests.faults.scene import Scene

RANGE = 64 * KiB


def _wrong(name: str, make: Callable[[], Action], error: type[Exception] = BlobIntegrityError) -> list[Case]:
    """Return the cases of a wrong answer: to the only request, and to one range of eleven."""
    one = [
        Case(name=f"{name}, once for a range of many", fault=later(make()), size=MANY, requests=(12, 13), uses=PARTS),
        Case(
            name=f"{name}, always for a range of many",
            fault=later(make(), times=None),
            options=SHORT,
            outcome=raises(error),
            size=MANY,
            requests=(4, 20),
            uses=(ASYNC,),
        ),
    ]
    return [*broken(name, make(), error), *one]


def _raw(*headers: str) -> Callable[[Scene], object]:
    """Return a fault that answers with the right content under these headers, byte for byte, and closes."""

    def fault(scene: Scene) -> None:
        size = len(scene.content)
        lines = ["HTTP/1.1 206 Partial Content", f"ETag: {scene.etag}", f"Content-Range: bytes 0-{size - 1}/{size}"]
        head = "\r\n".join([*lines, *headers, "", ""]).encode()
        scene.server.fault(GET, Garbage(head + scene.content))

    return fault


def _once(name: str, fault: Callable[[Scene], object]) -> Case:
    return Case(name=f"{name}, once", fault=fault, requests=2, uses=READS, seconds=1)


def _headers_cut(scene: Scene) -> None:
    scene.server.fault(GET, Garbage(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 49"))


def _identity_asked_for(scene: Scene, result: Result) -> None:
    assert {record.headers["accept-encoding"] for record in result.records} == {"identity"}


def _gzip_blob(scene: Scene) -> None:
    scene.content = scene.expected = gzip.compress(scene.content)
    scene.begin()
    scene.server.fault(GET, Header("Content-Encoding", "gzip"), times=None)


def _redirect(scene: Scene) -> None:
    elsewhere = BlobServer()
    scene.finally_(elsewhere.close)
    elsewhere.put(scene.name, scene.content)
    scene.elsewhere = elsewhere
    scene.server.fault(GET, Redirect(scene.at(elsewhere.origin)), times=None)


def _nothing_elsewhere(scene: Scene, result: Result) -> None:
    assert scene.elsewhere is not None
    assert not scene.elsewhere.log.accepted, "credentials went where an answer said"


ANSWERS = Table(
    "reads-answers",
    (
        *_wrong("range that starts later", lambda: ContentRange(shift=1)),
        *_wrong("range that starts earlier", lambda: ContentRange(shift=-1)),
        *_wrong("range in other units", lambda: Header("Content-Range", "items 0-1/2")),
        *_wrong("range without a total", lambda: Header("Content-Range", "bytes 0-49151/*")),
        *broken(
            "Content-Range with a total of 5,000 digits",
            Header("Content-Range", f"bytes 0-49151/{'9' * 5000}"),
            BlobIntegrityError,
        ),
        *_wrong("no Content-Range", lambda: Header("Content-Range", None)),
        *_wrong("no ETag", lambda: Header("ETag", None)),
        *_wrong("body shorter than the range, Content-Length agrees", lambda: ShortBody(1)),
        *_wrong("body empty, Content-Length agrees", lambda: ReplaceBody(b"")),
        *_wrong("body longer than the range, Content-Length agrees", lambda: ReplaceBody(bytes(RANGE + 1))),
        *_wrong("range ignored, the whole blob with status 200", IgnoreRange),
        *_wrong("status 204", lambda: Status(204, body=b"")),
        *_wrong(
            "answer to another request",
            lambda: Header("x-ms-client-request-id", "00000000-0000-0000-0000-000000000000"),
            ClientRequestIdMismatchError,
        ),
        _once("headers that are cut", _headers_cut),
        _once("no Content-Length, the body ends with the connection", _raw("Connection: close")),
        _once("two Content-Lengths that differ", _raw("Content-Length: 49152", "Content-Length: 49153")),
        _once("Content-Length that is no number", _raw("Content-Length: many")),
        _once("body in chunks, and the chunks are none", _raw("Transfer-Encoding: chunked")),
        *[
            Case(
                name=f"total that {how}, once for {where}",
                fault=fault(ContentRange(total=total)),
                outcome=raises(BlobIntegrityError),
                size=MANY,
                requests=(1, 12),
                uses=FILES,
            )
            for where, fault in (("the first of many ranges", spoil), ("another of many ranges", later))
            for how, total in (
                ("grows", MANY + 1),
                ("shrinks", MANY - 1),
                ("grows by a range", MANY + RANGE),
                ("shrinks by a range", MANY - RANGE),
            )
        ],
        Case(
            name="416 for a range inside the blob, always",
            fault=spoil(Status(416, "InvalidRange", {"Content-Range": f"bytes */{48 * KiB}"}), times=None),
            outcome=raises(BlobIntegrityError),
            options=SHORT,
            requests=(2, 8),
            uses=FOREVER,
        ),
        Case(
            name="Content-Encoding: gzip on bytes that are not",
            fault=spoil(Header("Content-Encoding", "gzip"), times=None),
            size=MANY,
            requests=(11, 13),
            uses=FILES,
            check=_identity_asked_for,
        ),
        Case(
            name="blob that is gzip, and says so in its Content-Encoding",
            fault=_gzip_blob,
            requests=1,
            uses=READS,
            seconds=1,
            check=_identity_asked_for,
            again=False,
        ),
        Case(
            name="redirect to another host",
            fault=_redirect,
            outcome=raises(BlobServiceError),
            requests=1,
            uses=READS,
            seconds=1,
            check=_nothing_elsewhere,
        ),
    ),
)
