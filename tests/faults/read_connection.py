"""Reads over a network that breaks, stalls or trickles."""

from __future__ import annotations

__all__ = ["CONNECTION"]

from dataclasses import replace
from typing import Literal

from azstoragetorch.exceptions import BlobResponseError, BlobTimeoutError
from tests.blobserver import Action, Call, CutBody, Delay, Drop, Garbage, Hang, Hold, StallBody, Trickle, on
from tests.blobserver.wire import Request
from tests.faults.case import BRIEF, Case, KiB, Result, Table, raises
from tests.faults.reading import FILES, FOREVER, MANY, PARTS, READS, TWICE, UNANSWERED, broken, later, spoil
from tests.faults.scene import Scene


def _silent(name: str, action: Action, *, always: Action | None = None) -> list[Case]:
    # Each silent answer costs an idle_timeout of 0.4 s, so at most four fit into the deadline.
    return [
        Case(name=f"{name}, once", fault=spoil(action), requests=2, uses=READS, seconds=2),
        Case(
            name=f"{name}, always",
            fault=spoil(always or action, times=None),
            outcome=raises(BlobTimeoutError),
            requests=(2, 4),
            uses=FOREVER,
            seconds=3,
        ),
    ]


def _gone_on(name: str, how: Literal["reset", "close"]) -> Case:
    return Case(
        name=name,
        fault=spoil(CutBody(4_000, how), times=None),
        # Each wait is one of at most 0.1 s, because bytes came before it.
        options=replace(BRIEF, deadline=5),
        requests=13,
        uses=READS,
        seconds=3,
        check=_resumed,
    )


def _resumed(scene: Scene, result: Result) -> None:
    starts = [int((record.range or "").removeprefix("bytes=").partition("-")[0]) for record in result.records]
    assert starts == list(range(0, 48 * KiB, 4_000)), "what had arrived was asked for again"


def _drop_all(scene: Scene) -> None:
    held = scene.server.fault(on("GET", when=_is_second_to_fourth), Hold(body_after=100), times=3)

    def drop() -> None:
        held.wait(3)
        scene.server.drop_connections()

    scene.server.fault(on("GET", covers=4 * 64 * KiB), Call(drop))


def _is_second_to_fourth(request: Request) -> bool:
    bounds = request.range()
    return bounds is not None and 64 * KiB <= bounds[0] < 4 * 64 * KiB


def _idle_close(scene: Scene) -> None:
    def closed() -> None:
        scene.server.wait_idle()
        scene.server.drop_connections()
        scene.server.wait_closed()

    scene.meanwhile = closed


CONNECTION = Table(
    "reads-connection",
    (
        *broken(
            "connection reset before an answer", Drop("reset"), BlobResponseError, thrice=True, requests=UNANSWERED
        ),
        *broken("connection closed before an answer", Drop("close"), BlobResponseError, requests=UNANSWERED),
        *broken("connection reset before the body", CutBody(0, "reset"), BlobResponseError),
        Case(
            name="connection reset within the body, once",
            fault=spoil(CutBody(20_000, "reset")),
            requests=2,
            uses=READS,
            seconds=1,
        ),
        Case(
            name="connection closed within the body, once",
            fault=spoil(CutBody(20_000, "close")),
            requests=2,
            uses=READS,
            seconds=1,
        ),
        _gone_on("connection reset after every 4,000 bytes", "reset"),
        _gone_on("connection closed after every 4,000 bytes", "close"),
        *broken("connection closed before the body", CutBody(0, "close"), BlobResponseError),
        *broken("an answer that is not HTTP", Garbage(), BlobResponseError),
        *_silent("no answer", Hang()),
        *_silent("nothing more after the headers", StallBody(0)),
        # Always: every answer brings some of it, and four are not all of it.
        *_silent("nothing more within the body", StallBody(20_000), always=StallBody(1_000)),
        Case(
            name="body slower than `min_rate`, once",
            fault=spoil(Trickle(2_000, 10)),
            options=replace(BRIEF, min_rate=64 * KiB),
            requests=2,
            uses=READS,
            seconds=2,
        ),
        Case(
            name="body slower than `min_rate`, always",
            fault=spoil(Trickle(2_000, 10), times=None),
            options=replace(BRIEF, min_rate=64 * KiB),
            outcome=raises(BlobTimeoutError),
            requests=(2, 4),
            uses=FOREVER,
            seconds=3,
        ),
        Case(
            name="body slow, faster than `min_rate`",
            # Slow for longer than an `idle_timeout`, after which the rate is looked at, and that is longer than a busy
            # machine pauses: one request has to do.
            fault=spoil(Delay(0.2), Trickle(32_000, 2_000)),
            options=replace(BRIEF, min_rate=4 * KiB, idle_timeout=1, deadline=8),
            requests=1,
            uses=FILES,
            seconds=5,
        ),
        *[
            Case(
                name=f"{name}, once for a range of many",
                fault=later(action),
                size=MANY,
                requests=(12, 13),
                uses=PARTS,
                seconds=seconds,
            )
            for name, action, seconds in (
                ("connection reset before an answer", Drop("reset"), 1.2),
                ("connection reset within the body", CutBody(20_000, "reset"), 1.2),
                ("connection closed within the body", CutBody(20_000, "close"), 1.2),
                ("no answer", Hang(), 2),
                ("nothing more within the body", StallBody(20_000), 2),
            )
        ],
        Case(
            name="all connections dropped while ranges are under way",
            fault=_drop_all,
            size=MANY,
            requests=(15, 20),
            uses=FILES,
            seconds=2,
        ),
        Case(
            name="idle connections closed by the service between two reads",
            fault=_idle_close,
            size=MANY,
            requests=(12, 20),
            uses=(TWICE,),
            seconds=2,
            again=False,
        ),
    ),
)
