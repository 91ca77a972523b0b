"""One thing that goes wrong, and what must come of it: the data that tests play and documentation shows."""

from __future__ import annotations

__all__ = [
    "BRIEF",
    "EXACT",
    "WRITTEN",
    "Case",
    "KiB",
    "Outcome",
    "Result",
    "Service",
    "Table",
    "Use",
    "kept",
    "raises",
    "runs",
    "unknown",
    "waited",
]

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pytest

from azstoragetorch import TransferOptions
from tests.blobserver import Record

if TYPE_CHECKING:
    from tests.faults.scene import Scene

KiB = 1024

BRIEF = TransferOptions(
    range_size=64 * KiB,
    block_size=16 * KiB,
    in_flight=4,
    memory_budget=1024 * KiB,
    connect_timeout=1,
    idle_timeout=0.4,
    deadline=1.5,
)
"""Every limit short, so that what would last for ever ends in seconds, and little content has many parts."""

Service: TypeAlias = Literal["scripted", "tls", "azurite"]
"""The scripted server over http or https, or Azurite behind a proxy."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What must come of a case.

    :ivar text: the same for people.
    :ivar error: the exact class of the error, ``None`` for success.
    :ivar blob: what the blob holds afterwards: what it held before, what was written, one of both, nothing at all;
        ``"any"`` where that is not the question.
    """

    text: str
    error: type[Exception] | None = None
    blob: Literal["any", "old", "new", "either", "absent"] = "any"


EXACT = Outcome("exact bytes")
WRITTEN = Outcome("committed", None, "new")


def raises(error: type[Exception]) -> Outcome:
    """A read that ends in this error."""
    return Outcome(f"`{error.__name__}`", error)


def kept(error: type[Exception], *, absent: bool = False) -> Outcome:
    """A write that ends in this error and changes nothing.

    :param absent: the blob did not exist before.
    """
    if absent:
        return Outcome(f"`{error.__name__}`, no blob", error, "absent")
    return Outcome(f"`{error.__name__}`, previous content stands", error, "old")


def unknown(error: type[Exception]) -> Outcome:
    """A write that ends in this error and cannot know what became of it."""
    return Outcome(f"`{error.__name__}`, previous or new content, whole", error, "either")


@dataclass(frozen=True, slots=True)
class Use:
    """What the client does.

    :ivar name: short, for the tables and test ids.
    :ivar run: does it; a coroutine function gets a loop of its own. Reads return what they read, writes return ``None``
        and write ``scene.written``.
    :ivar again: whether it can be done again on the same scene and must then succeed.
    """

    name: str
    run: Callable[[Scene, TransferOptions], bytes | Awaitable[bytes | None] | None]
    again: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case.

    :ivar seconds: how long the call took.
    :ivar records: the requests that reached the service meanwhile, in order.
    """

    error: Exception | None
    data: bytes | None
    seconds: float
    records: Sequence[Record]

    @property
    def requests(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault and its outcome.

    :ivar name: what happens, in the words of the documentation; unique in its table.
    :ivar fault: called when the content is in place and before the client starts. It scripts the server, and may change
        where the client goes (``scene.url``) and what it must read (``scene.expected``) or writes (``scene.written``).
    :ivar seconds: most the call may take. Where the deadline ends it, that and some for a busy machine.
    :ivar requests: those that reach the service, exactly or least and most.
    :ivar uses: what the client does, each on a scene of its own.
    :ivar service: what answers.
    :ivar size: bytes of the blob that is there before; one request reads up to 64 KiB (``BRIEF``).
    :ivar exists: whether it is there before.
    :ivar warns: whether a line of WARNING or above, or an `UncommittedBlobWarning`, belongs to it.
    :ivar again: whether the same use must succeed on the same scene once the fault is over.
    :ivar check: what else must hold, asked before the fault is taken away.
    """

    name: str
    fault: Callable[[Scene], object]
    requests: int | tuple[int, int]
    uses: tuple[Use, ...]
    outcome: Outcome = EXACT
    seconds: float = 5.0
    options: TransferOptions = BRIEF
    service: Service = "scripted"
    size: int = 48 * KiB
    exists: bool = True
    warns: bool = False
    again: bool = True
    check: Callable[[Scene, Result], None] | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and most requests."""
        return self.requests if isinstance(self.requests, tuple) else (self.requests, self.requests)


@dataclass(frozen=True, slots=True)
class Table:
    """Cases that are shown together.

    :ivar name: in the markers of the documentation.
    :ivar cases: with names that are unique here.
    """

    name: str
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"table {self.name!r} has two cases named {doubled}")


def waited(least: float) -> Callable[[Scene, Result], None]:
    """Return the check that the one request that was answered by 503 came again after so many seconds, and not before.

    All other requests may come at any time: they are not the ones that were refused.
    """

    def check(scene: Scene, result: Result) -> None:
        (refused,) = (record for record in result.records if record.status == 503)
        request = refused.method, refused.path, refused.raw_query, refused.range
        started = [
            record.started
            for record in result.records
            if record is not refused and (record.method, record.path, record.raw_query, record.range) == request
        ]
        assert len(started) == 1, "what was refused was not sent again once"
        assert started[0] - refused.answered >= least, "the service was asked earlier than it wanted"

    return check


def runs(cases: Iterable[Case]) -> list[Any]:
    """Return the parameters ``case, use`` of a test, with the names as its id."""
    return [pytest.param(case, use, id=f"{case.name}-{use.name}") for case in cases for use in case.uses]
