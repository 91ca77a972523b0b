"""Reads from a service that is busy, says so, and perhaps when to come back."""

from __future__ import annotations

__all__ = ["BUSY"]

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobServiceError
from tests.blobserver import Action, Header, Status
from tests.blobserver.link import Exchange
from tests.blobserver.wire import Response
from tests.faults.case import BRIEF, Case, Table, raises, waited
from tests.faults.reading import FILES, FOREVER, READS, SHORT, spoil

CODES = {
    408: "OperationTimedOut",
    429: "TooManyRequests",
    500: "InternalError",
    502: "",
    503: "ServerBusy",
    504: "",
}


def _busy(status: int, code: str) -> list[Case]:
    answer = Status(status, code)
    name = f"{status} {code}".rstrip()
    return [
        Case(name=f"{name}, once", fault=spoil(answer), requests=2, uses=READS, seconds=1),
        Case(name=f"{name}, three times", fault=spoil(answer, times=3), requests=4, uses=FILES, seconds=2),
        Case(
            name=f"{name}, always",
            fault=spoil(answer, times=None),
            outcome=raises(BlobServiceError),
            # Not counted: the deadline of 1 s ends it. Delays are drawn from 0 to 0.1, 0.2, 0.4, ... s.
            options=SHORT,
            requests=(2, 30),
            uses=FOREVER,
            seconds=3,
        ),
    ]


class _RetryAt(Action):
    """Answer 503 with a date to come back at, counted from the answer on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def on_request(self, exchange: Exchange) -> Response | None:
        moment = datetime.now(UTC) + timedelta(seconds=self._seconds)
        headers = {"Retry-After": format_datetime(moment, usegmt=True)}
        return Status(503, "ServerBusy", headers).on_request(exchange)


def _retry_after(value: str) -> Action:
    return Status(503, "ServerBusy", {"Retry-After": value})


LONG = replace(BRIEF, deadline=5)


BUSY = Table(
    "reads-busy",
    (
        *[case for status, code in CODES.items() for case in _busy(status, code)],
        Case(
            name="503 with `Retry-After: 1`, once",
            fault=spoil(_retry_after("1")),
            options=TransferOptions(),
            requests=2,
            uses=READS,
            seconds=3,
            check=waited(1),
        ),
        Case(
            name="503 with a date as `Retry-After`, once",
            fault=spoil(_RetryAt(2)),
            options=LONG,
            requests=2,
            uses=FILES,
            seconds=4,
            check=waited(0.9),  # a date has whole seconds
        ),
        Case(
            name="503 with a date in the past as `Retry-After`, once",
            fault=spoil(_RetryAt(-86_400)),
            requests=2,
            uses=FILES,
            seconds=1,
        ),
        *[
            Case(
                name=f"503 with {what}, once",
                fault=spoil(_retry_after(value)),
                requests=2,
                uses=FILES,
                seconds=1,
            )
            for what, value in (
                ("`Retry-After: soon`", "soon"),
                ("`Retry-After: -5`", "-5"),
                ("a year of 20 digits in `Retry-After`", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"),
                ("a zone of 20 digits in `Retry-After`", f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}"),
                ("an empty `Retry-After`", ""),
            )
        ],
        Case(
            name="503 with a year of 20 digits in `Date`, once",
            fault=spoil(Status(503, "ServerBusy"), Header("Date", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT")),
            requests=2,
            uses=FILES,
            seconds=1,
        ),
        *[
            Case(
                name=f"503 with {what}, longer than the deadline",
                fault=spoil(action, times=None),
                options=LONG,
                outcome=raises(BlobServiceError),
                requests=1,
                uses=FILES,
                seconds=1,
            )
            for what, action in (
                ("`Retry-After: 20`", _retry_after("20")),
                ("`Retry-After: 99999999999999999999`", _retry_after("9" * 20)),
                ("a date in a year as `Retry-After`", _RetryAt(365 * 86_400)),
            )
        ],
    ),
)
