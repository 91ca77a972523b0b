"""Listings of a container over a network that breaks, and from a service that is not one."""

from __future__ import annotations

__all__ = ["LISTING"]

import socket
from collections.abc import Callable
from dataclasses import replace

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobIntegrityError,
    BlobRequestError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    ClientRequestIdMismatchError,
    ContainerNotFoundError,
)
from azstoragetorch.listing import BlobListing
from tests.blobserver import (
    Action,
    CutBody,
    Drop,
    Garbage,
    Hang,
    Header,
    Redirect,
    ReplaceBody,
    StallBody,
    Status,
    Trickle,
    on,
)
from tests.faults.case import BRIEF, Case, KiB, Service, Table, Use, raises, waited
from tests.faults.places import looked_up
from tests.faults.reading import SHORT
from tests.faults.scene import Scene

LIST = on("GET", "list")
BLOBS = 500
_DOCTYPE = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><EnumerationResults/>'


def _by_build(scene: Scene, options: TransferOptions) -> bytes:
    return _names(BlobListing.build(scene.container_url, credential=scene.credential, options=options))


async def _by_abuild(scene: Scene, options: TransferOptions) -> bytes:
    return _names(await BlobListing.abuild(scene.container_url, credential=scene.credential, options=options))


def _names(listing: BlobListing) -> bytes:
    return "\n".join(f"{entry.name} {entry.size}" for entry in listing).encode()


BUILDS = (Use("BlobListing.build", _by_build), Use("BlobListing.abuild", _by_abuild))


def _spoil(*actions: Action, times: int | None = 1) -> Callable[[Scene], object]:
    def fault(scene: Scene) -> None:
        for number in range(BLOBS):
            scene.server.put(f"sample {number:03}", bytes(number % 7))
        scene.delete()
        scene.expected = "\n".join(f"sample {number:03} {number % 7}" for number in range(BLOBS)).encode()
        scene.url = scene.container_url
        scene.server.fault(LIST, *actions, times=times)

    return fault


def _once(name: str, action: Action, *, seconds: float = 1, options: TransferOptions = BRIEF) -> Case:
    fault = _spoil(action)
    return Case(name=f"{name}, once", fault=fault, options=options, requests=2, uses=BUILDS, seconds=seconds)


def _always(name: str, action: Action, error: type[Exception], requests: int | tuple[int, int] = (2, 16)) -> Case:
    return Case(
        name=f"{name}, always",
        fault=_spoil(action, times=None),
        options=SHORT,
        outcome=raises(error),
        requests=requests,
        uses=BUILDS,
        seconds=3,
    )


def _nowhere(name: str, fault: Callable[[Scene], object], service: Service = "scripted") -> Case:
    def begin(scene: Scene) -> None:
        _spoil(times=0)(scene)
        fault(scene)
        scene.url = scene.container_url

    return Case(
        name=name,
        fault=begin,
        service=service,
        options=TransferOptions(),
        outcome=raises(BlobRequestError),
        requests=0,
        uses=BUILDS,
        seconds=2,
    )


def _page(size: str) -> bytes:
    properties = f"<Etag>0x1</Etag><Content-Length>{size}</Content-Length>"
    blob = f"<Blob><Name>a</Name><Properties>{properties}</Properties></Blob>"
    return f"<EnumerationResults><Blobs>{blob}</Blobs><NextMarker/></EnumerationResults>".encode()


LISTING = Table(
    "listings",
    (
        _once("connection reset before an answer", Drop("reset")),
        _once("connection reset within the page", CutBody(20 * KiB, "reset")),
        _once("connection closed within the page", CutBody(20 * KiB, "close")),
        _once("an answer that is not HTTP", Garbage()),
        _once("no answer", Hang(), seconds=2),
        _once("nothing more within the page", StallBody(20 * KiB), seconds=2),
        _once(
            "page slower than `min_rate`",
            Trickle(2_000, 10),
            seconds=2,
            options=replace(BRIEF, min_rate=64 * KiB),
        ),
        _once("page that is not XML", ReplaceBody(b"<html><br></html>")),
        _once("page that ends early, Content-Length agrees", ReplaceBody(_page("1")[:-30])),
        _once("page with a document type declaration", ReplaceBody(_DOCTYPE)),
        _once("size that is no number", ReplaceBody(_page("many"))),
        _once("size of 5,000 digits", ReplaceBody(_page("9" * 5000))),
        _once("answer to another request", Header("x-ms-client-request-id", "00000000-0000-0000-0000-000000000000")),
        *[_once(f"status {status}", Status(status, "ServerBusy")) for status in (408, 429, 500, 502, 503, 504)],
        Case(
            name="503 with `Retry-After: 1`, once",
            fault=_spoil(Status(503, "ServerBusy", {"Retry-After": "1"})),
            options=TransferOptions(),
            requests=2,
            uses=BUILDS,
            seconds=3,
            check=waited(1),
        ),
        _nowhere("host name unknown", looked_up(socket.EAI_NONAME, "Name or service not known")),
        _nowhere("certificate not trusted", lambda scene: scene.distrust(), "tls"),
        _always("connection closed before an answer", Drop("close"), BlobResponseError),
        _always("connection closed within the page", CutBody(20 * KiB, "close"), BlobResponseError),
        _always("no answer", Hang(), BlobTimeoutError),
        _always("page that is not XML", ReplaceBody(b"<html><br></html>"), BlobIntegrityError),
        _always(
            "answer to another request",
            Header("x-ms-client-request-id", "00000000-0000-0000-0000-000000000000"),
            ClientRequestIdMismatchError,
        ),
        _always("status 503", Status(503, "ServerBusy"), BlobServiceError, (2, 30)),
        _always("status 403", Status(403, "AuthorizationPermissionMismatch"), BlobAccessError, 1),
        _always("status 404", Status(404, "ContainerNotFound"), ContainerNotFoundError, 1),
        _always("redirect", Redirect("http://127.0.0.1:9/"), BlobServiceError, 1),
    ),
)
