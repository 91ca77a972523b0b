"""Writes that are refused, and writes to where nobody is."""

from __future__ import annotations

__all__ = ["EARLY", "NOWHERE", "REFUSALS"]

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobRequestError,
    BlobServiceError,
    BlobTimeoutError,
    ContainerNotFoundError,
    FatalBlobIOWriteError,
)
from tests.blobserver import Action, BlobServer, Match, Redirect, Status
from tests.faults.case import BRIEF, Case, KiB, Result, Table, kept
from tests.faults.places import looked_up, refused, silent_host
from tests.faults.scene import Scene
from tests.faults.writing import (
    ENDLESS,
    PUT_BLOB,
    PUT_BLOCK,
    PUT_BLOCK_LIST,
    WRITES,
    small,
)

ANSWERS: tuple[tuple[str, Callable[[], Action], type[Exception]], ...] = (
    ("403 AuthorizationPermissionMismatch", lambda: Status(403, "AuthorizationPermissionMismatch"), BlobAccessError),
    ("403 of a proxy", lambda: Status(403, body=b"<html>" * 10_000), BlobAccessError),
    ("401 without a challenge", lambda: Status(401, "NoAuthenticationInformation"), BlobAccessError),
    ("404 ContainerNotFound", lambda: Status(404, "ContainerNotFound"), ContainerNotFoundError),
    ("400 InvalidHeaderValue", lambda: Status(400, "InvalidHeaderValue"), BlobServiceError),
    ("409 BlobImmutableDueToPolicy", lambda: Status(409, "BlobImmutableDueToPolicy"), BlobServiceError),
    ("412 LeaseIdMissing", lambda: Status(412, "LeaseIdMissing"), BlobServiceError),
    ("413 RequestBodyTooLarge", lambda: Status(413, "RequestBodyTooLarge"), BlobServiceError),
    ("501", lambda: Status(501), BlobServiceError),
)


def _cases() -> Iterator[Case]:
    for name, make, error in ANSWERS:

        def fault(scene: Scene, make: Callable[[], Action] = make, match: Match = PUT_BLOCK) -> None:
            scene.server.fault(match, make(), times=None)

        def commit(scene: Scene, fault: Any = fault) -> None:
            fault(scene, match=PUT_BLOCK_LIST)

        def single(scene: Scene, fault: Any = fault) -> None:
            fault(scene, match=PUT_BLOB)

        # Four blocks are under way when the first answer comes.
        yield Case(
            name=f"Put Block: {name}",
            fault=fault,
            outcome=kept(FatalBlobIOWriteError),
            requests=(1, 4),
            uses=WRITES,
            seconds=2,
            check=_nothing_committed,
        )
        # A commit that the HTTP client itself sent twice may be refused the second time only: that is looked up.
        yield Case(
            name=f"Put Block List: {name}", fault=commit, outcome=kept(error), requests=(8, 9), uses=WRITES, seconds=2
        )
        yield Case(
            name=f"Put Blob: {name}", fault=small(single), outcome=kept(error), requests=1, uses=WRITES, seconds=2
        )


def _nothing_committed(scene: Scene, result: Result) -> None:
    assert not scene.server.requests("PUT", "blocklist")


def _redirected(match: Match) -> Any:
    def fault(scene: Scene) -> None:
        elsewhere = BlobServer()
        scene.finally_(elsewhere.close)
        scene.elsewhere = elsewhere
        scene.server.fault(match, Redirect(scene.at(elsewhere.origin)), times=None)

    return fault


def _nothing_elsewhere(scene: Scene, result: Result) -> None:
    assert scene.elsewhere is not None
    assert not scene.elsewhere.log.accepted, "credentials went where an answer said"


REFUSALS = Table(
    "writes-refused",
    (
        *_cases(),
        Case(
            name="Put Block: redirect to another host",
            fault=_redirected(PUT_BLOCK),
            outcome=kept(FatalBlobIOWriteError),
            requests=(1, 4),
            uses=WRITES,
            seconds=2,
            check=_nothing_elsewhere,
        ),
        Case(
            name="Put Block List: redirect to another host",
            fault=_redirected(PUT_BLOCK_LIST),
            outcome=kept(BlobServiceError),
            requests=8,
            uses=WRITES,
            seconds=2,
            check=_nothing_elsewhere,
        ),
        Case(
            name="Put Blob: redirect to another host",
            fault=small(_redirected(PUT_BLOB)),
            outcome=kept(BlobServiceError),
            requests=1,
            uses=WRITES,
            seconds=2,
            check=_nothing_elsewhere,
        ),
    ),
)


def _forbidden(**options: Any) -> Any:
    def fault(scene: Scene) -> None:
        scene.server.fault(PUT_BLOCK, Status(403, "AuthorizationFailure", **options), times=None)

    return fault


def _few_bytes(scene: Scene, result: Result) -> None:
    sent = sum(record.bytes_received for record in result.records)
    assert sent <= BRIEF.in_flight * BRIEF.block_size, "more was uploaded than was under way"


EARLY = Table(
    "writes-early",
    (
        Case(
            name="403 to the first block of an endless write",
            fault=_forbidden(),
            outcome=kept(FatalBlobIOWriteError),
            requests=(1, 4),
            uses=(ENDLESS,),
            seconds=2,
            check=_few_bytes,
        ),
        Case(
            name="403 before the first block was sent, 16 MiB each",
            fault=_forbidden(early=True),
            outcome=kept(FatalBlobIOWriteError),
            options=replace(
                BRIEF, block_size=16 << 20, memory_budget=64 << 20, in_flight=2, idle_timeout=5, deadline=10
            ),
            requests=(1, 2),
            uses=(ENDLESS,),
            seconds=4,
            check=_few_bytes,
        ),
        Case(
            name="403 from the 50th block on: the SAS expires",
            fault=lambda scene: scene.server.fault(PUT_BLOCK, Status(403, "AuthenticationFailed"), times=None, nth=50),
            outcome=kept(FatalBlobIOWriteError),
            requests=(50, 54),
            uses=(ENDLESS,),
            seconds=3,
        ),
    ),
)


def _nowhere() -> Iterator[Case]:
    unknown = looked_up(socket.EAI_NONAME, "Name or service not known")
    places: tuple[tuple[str, Any, Any, type[Exception], TransferOptions, float], ...] = (
        ("connection refused, always", refused, "scripted", BlobRequestError, BRIEF, 3),
        ("host name unknown", unknown, "scripted", BlobRequestError, TransferOptions(block_size=16 * KiB), 2),
        (
            "certificate not trusted",
            lambda scene: scene.distrust(),
            "tls",
            BlobRequestError,
            TransferOptions(block_size=16 * KiB),
            2,
        ),
        ("TLS handshake never answered", silent_host, "tls", BlobTimeoutError, replace(BRIEF, connect_timeout=0.4), 3),
    )
    for name, fault, service, error, options, seconds in places:
        yield Case(
            name=f"blocks: {name}",
            fault=fault,
            service=service,
            outcome=kept(FatalBlobIOWriteError),
            requests=0,
            uses=WRITES,
            options=options,
            seconds=seconds,
        )
        yield Case(
            name=f"one request: {name}",
            fault=small(fault),
            service=service,
            outcome=kept(error),
            requests=0,
            uses=WRITES,
            options=options,
            seconds=seconds,
        )


NOWHERE = Table("writes-hosts", tuple(_nowhere()))
