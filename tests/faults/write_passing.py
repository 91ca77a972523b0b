"""Writes under trouble that passes, and under trouble that does not: the same for each of the three requests."""

from __future__ import annotations

__all__ = ["BLOCKS", "COMMITS", "SINGLES", "SPENT"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from azstoragetorch.exceptions import (
    BlobIntegrityError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    ClientRequestIdMismatchError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from tests.blobserver import (
    Action,
    CutUpload,
    Drop,
    Garbage,
    Hang,
    Header,
    LoseAnswer,
    Match,
    StallUpload,
    Status,
)
from tests.faults.case import BRIEF, WRITTEN, Case, Outcome, Table, kept, waited
from tests.faults.scene import Scene
from tests.faults.writing import PUT_BLOB, PUT_BLOCK, PUT_BLOCK_LIST, WRITE, WRITES, Passed, small

SPENT = replace(BRIEF, deadline=0.8, idle_timeout=0.25)
"""Where the deadline is what ends it."""

UNDISTURBED = 0.2
"""Seconds that these writes take when nothing goes wrong; measured, and the first ones import what they need."""

SEVERAL = (2, 40)
"""Requests until the deadline of ``SPENT``: pauses are drawn from 0.1, 0.2, 0.4 s, and four blocks are under way."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What becomes of one request.

    :ivar error: the class if that is all there ever is.
    :ivar applied: whether the service does what it was asked all the same.
    :ivar pending: whether somebody gave up waiting for the service, which may still do it after a Put Block List or a
        Put Blob that it was sent whole.
    :ivar thrice: whether there is a case of three such answers.
    :ivar pause: seconds beyond one that one such answer costs at most: one that does not come, an ``idle_timeout``.
    """

    name: str
    make: Callable[[], Action]
    error: type[Exception]
    applied: bool = False
    pending: bool = False
    thrice: bool = False
    pause: float = 0


TROUBLES = (
    Trouble("503 ServerBusy", lambda: Status(503, "ServerBusy"), BlobServiceError, thrice=True),
    Trouble("500 InternalError", lambda: Status(500, "InternalError"), BlobServiceError, thrice=True),
    Trouble("502 of a proxy", lambda: Status(502, body=b"<html>Bad Gateway</html>"), BlobServiceError, thrice=True),
    Trouble("503 of a proxy", lambda: Status(503, body=b""), BlobServiceError),
    Trouble("504 of a proxy", lambda: Status(504, body=b""), BlobServiceError, pending=True, thrice=True),
    Trouble("408", lambda: Status(408), BlobServiceError, thrice=True),
    Trouble("429", lambda: Status(429, "TooManyRequests"), BlobServiceError, thrice=True),
    Trouble("status 200 instead of 201", lambda: Status(200, body=b""), BlobIntegrityError),
    Trouble("connection reset before the answer", lambda: Drop("reset"), BlobResponseError, thrice=True),
    Trouble("connection closed before the answer", lambda: Drop("close"), BlobResponseError),
    Trouble("connection reset within what is sent", lambda: CutUpload(300, "reset"), BlobResponseError),
    Trouble("connection closed within what is sent", lambda: CutUpload(300, "close"), BlobResponseError),
    Trouble("an answer that is not HTTP", Garbage, BlobResponseError),
    Trouble("no answer", Hang, BlobTimeoutError, pending=True, pause=0.8),
    Trouble(
        "nothing read after 300 bytes, no answer",
        lambda: StallUpload(300),
        BlobTimeoutError,
        pending=True,
        pause=0.8,
    ),
    Trouble("reset when it was applied", lambda: LoseAnswer("reset"), BlobResponseError, applied=True, thrice=True),
    Trouble("closed when it was applied", lambda: LoseAnswer("close"), BlobResponseError, applied=True),
    Trouble("applied, 503 of a proxy", lambda: Passed(503), BlobServiceError, applied=True),
    Trouble("applied, 429 of a proxy", lambda: Passed(429), BlobServiceError, applied=True),
    Trouble("applied, no answer", lambda: Hang(perform=True), BlobTimeoutError, applied=True, pause=0.8),
    Trouble(
        "applied, the answer to another request",
        lambda: Header("x-ms-client-request-id", "00000000-0000-0000-0000-000000000000"),
        ClientRequestIdMismatchError,
        applied=True,
    ),
)


def _cases(what: str, match: Match, requests: int, ends: Callable[[Trouble], Outcome], begin: Any) -> Iterator[Case]:
    def spoil(trouble: Trouble, times: int | None) -> Any:
        def fault(scene: Scene) -> None:
            scene.server.fault(match, trouble.make(), times=times)

        return begin(fault)

    for trouble in TROUBLES:
        name = f"{what}: {trouble.name}"
        yield Case(
            name=f"{name}, once",
            fault=spoil(trouble, 1),
            outcome=WRITTEN,
            requests=requests + 1,
            uses=WRITES,
            seconds=UNDISTURBED + 1 + trouble.pause,
        )
        if trouble.thrice:
            yield Case(
                name=f"{name}, three times",
                fault=spoil(trouble, 3),
                outcome=WRITTEN,
                requests=requests + 3,
                uses=(WRITE,),
                seconds=2,
            )
        yield Case(
            name=f"{name}, always",
            fault=spoil(trouble, None),
            outcome=ends(trouble),
            options=SPENT,
            requests=(requests - 1 + SEVERAL[0] if match is not PUT_BLOCK else SEVERAL[0], requests + SEVERAL[1]),
            uses=(WRITE,),
            seconds=3,
        )


def _waits(what: str, match: Match, requests: int, refusal: type[Exception], begin: Any) -> Iterator[Case]:
    def busy(after: str, times: int | None = 1) -> Any:
        def fault(scene: Scene) -> None:
            scene.server.fault(match, Status(503, "ServerBusy", {"Retry-After": after}), times=times)

        return begin(fault)

    yield Case(
        name=f"{what}: 503 with `Retry-After: 1`, once",
        fault=busy("1"),
        outcome=WRITTEN,
        options=replace(BRIEF, deadline=10),
        requests=requests + 1,
        uses=WRITES,
        seconds=3,
        check=waited(1),
    )
    yield Case(
        name=f"{what}: 503 with a date that has passed as `Retry-After`, once",
        fault=busy("Wed, 21 Oct 2015 07:28:00 GMT"),
        outcome=WRITTEN,
        requests=requests + 1,
        uses=(WRITE,),
        seconds=2,
    )
    yield Case(
        name=f"{what}: 503 with a `Retry-After` beyond the deadline",
        fault=busy("86400", None),
        outcome=kept(refusal),
        requests=(1, requests),
        uses=WRITES,
        seconds=2,
    )


def _as_it_is(fault: Any) -> Any:
    return fault


def _published(trouble: Trouble) -> Outcome:
    # The service is asked what the blob holds.
    if trouble.applied:
        return WRITTEN
    return kept(CommitOutcomeUnknownError if trouble.pending else trouble.error)


def _never_published(trouble: Trouble) -> Outcome:
    return kept(FatalBlobIOWriteError)


def _empty(action: Action) -> Any:
    def fault(scene: Scene) -> None:
        scene.written = b""
        scene.server.fault(PUT_BLOB, action)

    return fault


BLOCKS = Table(
    "writes-blocks",
    (
        *_cases("Put Block", PUT_BLOCK, 8, _never_published, _as_it_is),
        *_waits("Put Block", PUT_BLOCK, 8, FatalBlobIOWriteError, _as_it_is),
    ),
)

COMMITS = Table(
    "writes-commits",
    (
        *_cases("Put Block List", PUT_BLOCK_LIST, 8, _published, _as_it_is),
        *_waits("Put Block List", PUT_BLOCK_LIST, 8, BlobServiceError, _as_it_is),
    ),
)

SINGLES = Table(
    "writes-singles",
    (
        *_cases("Put Blob", PUT_BLOB, 1, _published, small),
        *_waits("Put Blob", PUT_BLOB, 1, BlobServiceError, small),
        *[
            Case(
                name=f"Put Blob of nothing: {what}, once",
                fault=_empty(action),
                outcome=WRITTEN,
                requests=2,
                uses=WRITES,
                seconds=1.5,
            )
            for what, action in (
                ("503 ServerBusy", Status(503, "ServerBusy")),
                ("connection reset before the answer", Drop()),
                ("reset when it was applied", LoseAnswer()),
            )
        ],
    ),
)
