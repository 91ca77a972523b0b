"""Writes whose outcome is in doubt: commits without an answer, and blobs that appear."""

from __future__ import annotations

__all__ = ["CREATING", "UNKNOWN"]

from collections.abc import Iterator
from typing import Any

from azstoragetorch.exceptions import (
    BlobExistsError,
    BlobResponseError,
    BlobServiceError,
    CommitOutcomeUnknownError,
    FatalBlobIOWriteError,
)
from tests.blobserver import Action, Call, Drop, Hang, Header, LoseAnswer, Match, Status, on
from tests.faults.case import WRITTEN, Case, Outcome, Result, Table, kept, unknown
from tests.faults.scene import Scene
from tests.faults.write_passing import SPENT
from tests.faults.writing import (
    CREATES,
    PUT_BLOB,
    PUT_BLOCK_LIST,
    SMALL,
    WRITE,
    WRITES,
    small,
)

LOOK, GET_BLOCK_LIST = on("HEAD", ""), on("GET", "blocklist")
QUESTIONS = {("HEAD", ""), ("GET", "blocklist")}
OTHER = b"somebody else's"


def _both(match: Match, action: Action, question: Match, silence: Action) -> Any:
    def fault(scene: Scene) -> None:
        scene.server.fault(match, action, times=None)
        scene.server.fault(question, silence, times=None)

    return fault


def _doubts() -> Iterator[Case]:
    def asked(result: Result) -> None:
        questions = [record for record in result.records if (record.method, record.comp) in QUESTIONS]
        assert questions, "it says that the outcome is unknown, and did not ask"
        sent = [record for record in result.records if record.method == "PUT"][-1]
        assert questions[-1].started >= sent.started, "what it asked was not what became of the last attempt"

    def holds_new(scene: Scene, result: Result) -> None:
        asked(result)
        assert scene.stored() == scene.written

    def says_so(scene: Scene, result: Result) -> None:
        asked(result)
        assert "either its previous or the new content" in str(result.error)

    answers: tuple[tuple[str, Action, Action, Any], ...] = (
        ("reset when it was applied", LoseAnswer(), Drop(), holds_new),
        ("applied, no answer", Hang(perform=True), Hang(), holds_new),
        ("reset before it was applied", Drop(), Drop(), says_so),
        ("no answer", Hang(), Hang(), says_so),
        ("500", Status(500, "InternalError"), Status(500, "InternalError"), says_so),
        ("closed when it was applied, and the SAS may not read", LoseAnswer("close"), Status(403), holds_new),
    )
    for name, action, silence, check in answers:
        yield Case(
            name=f"Put Block List and the question after it: {name}, always",
            fault=_both(PUT_BLOCK_LIST, action, GET_BLOCK_LIST, silence),
            outcome=unknown(CommitOutcomeUnknownError),
            options=SPENT,
            requests=(10, 80),
            uses=(WRITE,),
            seconds=4,
            check=check,
        )
        yield Case(
            name=f"Put Blob and the question after it: {name}, always",
            fault=small(_both(PUT_BLOB, action, LOOK, silence)),
            outcome=unknown(CommitOutcomeUnknownError),
            options=SPENT,
            requests=(3, 80),
            uses=WRITES,
            seconds=4,
            check=check,
        )
    yield Case(
        name="Put Blob: reset when it was applied, always, and the service keeps no checksum",
        fault=small(_both(PUT_BLOB, LoseAnswer(), LOOK, Header("Content-MD5", None))),
        outcome=unknown(CommitOutcomeUnknownError),
        options=SPENT,
        requests=(3, 40),
        uses=(WRITE,),
        seconds=4,
        check=holds_new,
    )


UNKNOWN = Table("writes-unknown", tuple(_doubts()))


def _creating(name: str, *actions: Action, times: int | None = 1, size: int | None = None, **more: Any) -> Case:
    def fault(scene: Scene) -> None:
        scene.written = scene.written[:size]
        scene.server.fault(PUT_BLOCK_LIST, *actions, times=times)

    values: dict[str, Any] = {"outcome": WRITTEN, "requests": 10, "seconds": 2, "exists": False}
    return Case(name=name, fault=fault, uses=CREATES, **{**values, **more})


def _others(scene: Scene, result: Result) -> None:
    assert scene.stored() == OTHER


def _appears(*actions: Action, after: bool = False, size: int | None = None) -> Any:
    def fault(scene: Scene) -> None:
        scene.written = scene.written[:size]
        scene.server.fault(PUT_BLOCK_LIST, Call(lambda: scene.put(OTHER), after=after), *actions)

    return fault


def _exists(size: int) -> Any:
    def fault(scene: Scene) -> None:
        scene.written = scene.written[:size]

    return fault


TAKEN = Outcome(f"`{BlobExistsError.__name__}`, the other content stands", BlobExistsError)

CREATING = Table(
    "writes-creating",
    (
        Case(
            name="the blob exists",
            fault=lambda scene: None,
            outcome=kept(BlobExistsError),
            requests=1,
            uses=CREATES,
            seconds=2,
        ),
        *[
            Case(
                name=f"the blob exists, {what} is written",
                fault=_exists(size),
                outcome=kept(BlobExistsError),
                requests=(1, 3),  # nothing is asked for an empty file but the commit
                uses=CREATES,
                seconds=2,
            )
            for what, size in (("nothing", 0), ("content of one block", SMALL))
        ],
        Case(
            name="the blob exists, and the SAS may not read",
            fault=lambda scene: scene.server.fault(LOOK, Status(403), times=None),
            outcome=kept(BlobExistsError),
            requests=10,
            uses=CREATES,
            seconds=2,
        ),
        Case(
            name="the blob exists, and that is answered by 503 first",
            fault=lambda scene: scene.server.fault(LOOK, Status(503)),
            outcome=kept(BlobExistsError),
            requests=2,
            uses=CREATES,
            seconds=1.5,
        ),
        Case(
            name="whether the blob exists is never answered",
            fault=lambda scene: scene.server.fault(LOOK, Status(500), times=None),
            outcome=kept(FatalBlobIOWriteError, absent=True),
            exists=False,
            options=SPENT,
            requests=(2, 40),
            uses=CREATES,
            seconds=3,
        ),
        Case(
            name="the blob appears before the commit",
            fault=_appears(),
            outcome=TAKEN,
            exists=False,
            requests=10,
            uses=CREATES,
            seconds=2,
            check=_others,
        ),
        *[
            Case(
                name=f"the blob appears before the commit, {what} is written",
                fault=_appears(size=size),
                outcome=TAKEN,
                exists=False,
                requests=(2, 4),
                uses=CREATES,
                seconds=2,
                check=_others,
            )
            for what, size in (("nothing", 0), ("content of one block", SMALL))
        ],
        Case(
            name="the blob appears before a commit that is reset",
            fault=_appears(Drop()),
            outcome=TAKEN,
            exists=False,
            requests=11,
            uses=CREATES,
            seconds=2,
            check=_others,
        ),
        Case(
            name="the blob is replaced after a commit whose answer is lost",
            fault=_appears(LoseAnswer(), after=True),
            outcome=TAKEN,
            exists=False,
            requests=11,
            uses=CREATES,
            seconds=2,
            check=_others,
        ),
        # Asked again, the service says that the blob exists: the committed block list proves that it is this file.
        _creating("reset when it was applied, once", LoseAnswer(), requests=(10, 11)),
        _creating("closed when it was applied, once", LoseAnswer("close"), requests=(10, 11)),
        _creating("reset when it was applied, always", LoseAnswer(), times=None, options=SPENT, requests=(11, 50)),
        _creating("applied, no answer, once", Hang(perform=True), requests=(10, 11), seconds=3),
        _creating("content of one block: reset when it was applied, once", LoseAnswer(), size=SMALL, requests=(4, 5)),
        _creating(
            "reset before it was applied, always",
            Drop(),
            times=None,
            options=SPENT,
            requests=(11, 50),
            seconds=3,
            outcome=kept(BlobResponseError, absent=True),
        ),
        _creating(
            "503, always",
            Status(503, "ServerBusy"),
            times=None,
            options=SPENT,
            requests=(10, 50),
            seconds=3,
            outcome=kept(BlobServiceError, absent=True),
        ),
        # Nothing tells whose empty blob it is, and lock files are empty: a false success would let two owners in.
        _creating(
            "empty blob: reset when it was applied, always",
            LoseAnswer(),
            times=None,
            size=0,
            options=SPENT,
            requests=(3, 50),
            seconds=3,
            outcome=unknown(CommitOutcomeUnknownError),
        ),
    ),
)
