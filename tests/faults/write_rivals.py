"""Writes of a blob that somebody else writes at the same time."""

from __future__ import annotations

__all__ = ["RIVALS"]

from collections.abc import Callable, Iterator
from typing import Any

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import (
    BlobExistsError,
    BlobModifiedError,
)
from azstoragetorch.io import BlobIO
from tests.blobserver import Call, Drop, LoseAnswer
from tests.faults.case import Case, Outcome, Result, Service, Table, Use
from tests.faults.rival import Rival
from tests.faults.scene import Scene
from tests.faults.writing import PUT_BLOCK_LIST, WRITES, small

OTHER = b"somebody else's"


def _in_one_process(mode: Any, *, last: bool) -> Use:
    """Two files; the one that commits first wins.

    :param last: it is the one that was opened last.
    """

    def write(scene: Scene, options: TransferOptions) -> None:
        files = [BlobIO(scene.url, mode, credential=scene.credential, options=options) for _ in range(2)]
        winner, loser = reversed(files) if last else files
        winner.write(scene.written)
        loser.write(scene.written[::-1])
        for file in files:
            file.flush()
        winner.close()
        assert winner.committed
        loser.close()

    return Use(f"BlobIO {mode} ({'last' if last else 'first'} opened wins)", write, again=False)


def _async(mode: Any, *, last: bool) -> Use:
    async def write(scene: Scene, options: TransferOptions) -> None:
        files = [AsyncBlobIO(scene.url, mode, credential=scene.credential, options=options) for _ in range(2)]
        winner, loser = reversed(files) if last else files
        await winner.write(scene.written)
        await loser.write(scene.written[::-1])
        for file in files:
            await file.flush()
        await winner.aclose()
        assert winner.committed
        await loser.aclose()

    return Use(f"AsyncBlobIO {mode} ({'last' if last else 'first'} opened wins)", write, again=False)


def _in_two_processes(mode: Any, *, lost_by: str | None) -> Use:
    """The same with the other file in a process of its own.

    :param lost_by: the error of the other process; ``None`` lets it win.
    """

    def write(scene: Scene, options: TransferOptions) -> None:
        other = scene.written[::-1] if lost_by is not None else scene.written
        limits = {"block_size": options.block_size, "in_flight": options.in_flight}
        with (
            Rival(scene.url_for_others, mode, other, limits) as rival,
            BlobIO(scene.url, mode, credential=scene.credential, options=options) as file,
        ):
            file.write(scene.written if lost_by is not None else scene.written[::-1])
            file.flush()
            if lost_by is None:
                assert rival.close_file() == "committed"
            file.close()
            if lost_by is not None:
                assert rival.close_file() == lost_by

    return Use(f"BlobIO {mode} (the other process {'wins' if lost_by is None else 'loses'})", write, again=False)


def _rivals(mode: str, error: type[Exception], service: Service) -> Iterator[Case]:
    lost = Outcome(f"one wins whole, the other gets `{error.__name__}`", error, "new")
    # Seven blocks and a commit each, the block list that the loser asks for, and before a creation, whether there is
    # such a blob.
    requests = 17 + (2 if mode == "xb" else 0)
    where = f"`{mode}`{', Azurite' if service == 'azurite' else ''}"
    values: dict[str, Any] = {"requests": requests, "exists": mode == "wb", "service": service, "fault": lambda _: None}
    yield Case(
        name=f"two writers in one process, {where}",
        outcome=lost,
        uses=(*(make(mode, last=last) for make in (_in_one_process, _async) for last in (False, True)),),
        seconds=3,
        **values,
    )
    if mode == "xb" and service == "azurite":
        return  # an interpreter takes seconds to start, and the two answers are the same as in one process
    yield Case(
        name=f"two writers in two processes, the other commits first, {where}",
        outcome=lost,
        uses=(_in_two_processes(mode, lost_by=None),),
        seconds=15,  # an interpreter starts
        **values,
    )
    yield Case(
        name=f"two writers in two processes, the other commits last, {where}",
        outcome=Outcome(f"committed, the other gets `{error.__name__}`", None, "new"),
        uses=(_in_two_processes(mode, lost_by=error.__name__),),
        seconds=15,
        **values,
    )


def _last_wins(scene: Scene, options: TransferOptions) -> None:
    first, last = (BlobIO(scene.url, "wb", credential=scene.credential, options=options) for _ in range(2))
    last.write(scene.written)
    first.write(scene.written[::-1])
    first.close()
    last.close()


def _meanwhile(change: Callable[[Scene], object], *, after: bool = False, lost: bool = False) -> Any:
    """Return a fault that changes the blob before the commit, or after it and before its answer, which may be lost."""

    def fault(scene: Scene) -> None:
        answer = [LoseAnswer()] if lost else []
        scene.server.fault(PUT_BLOCK_LIST, Call(lambda: change(scene), after=after), *answer)

    return fault


def _holds_other(scene: Scene, result: Result) -> None:
    assert scene.stored() == OTHER


def _gone(scene: Scene, result: Result) -> None:
    assert scene.stored() is None


def _replaced(scene: Scene) -> None:
    scene.put(OTHER)


REPLACED = Outcome("`BlobModifiedError`, the other content stands", BlobModifiedError)

RIVALS = Table(
    "writes-rivals",
    (
        *_rivals("wb", BlobModifiedError, "scripted"),
        *_rivals("wb", BlobModifiedError, "azurite"),
        *_rivals("xb", BlobExistsError, "scripted"),
        *_rivals("xb", BlobExistsError, "azurite"),
        Case(
            name="two writers of one request each, `wb`",
            fault=small(lambda _: None),
            outcome=Outcome("the last one wins", None, "new"),
            requests=2,
            uses=(Use("BlobIO wb", _last_wins, again=False),),
            seconds=2,
        ),
        Case(
            name="replaced by one request while blocks are staged",
            fault=_meanwhile(_replaced),
            outcome=REPLACED,
            requests=9,
            uses=WRITES,
            seconds=2,
            check=_holds_other,
        ),
        Case(
            name="replaced after a commit whose answer was lost",
            fault=_meanwhile(_replaced, after=True, lost=True),
            outcome=REPLACED,
            requests=10,
            uses=WRITES,
            seconds=2,
            check=_holds_other,
        ),
        Case(
            name="deleted while blocks are staged",
            fault=_meanwhile(lambda scene: scene.delete()),
            outcome=Outcome("`BlobModifiedError`, no blob", BlobModifiedError),
            requests=9,
            uses=WRITES,
            seconds=2,
            check=_gone,
        ),
        Case(
            name="replaced before a commit that is reset, once",
            fault=lambda scene: scene.server.fault(PUT_BLOCK_LIST, Call(lambda: scene.put(OTHER)), Drop()),
            outcome=REPLACED,
            requests=10,
            uses=WRITES,
            seconds=2,
            check=_holds_other,
        ),
    ),
)
