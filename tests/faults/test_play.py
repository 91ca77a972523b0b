"""The suite itself: a play that goes wrong in any way must fail, and the proxy must change nothing by itself."""

from __future__ import annotations

import asyncio
import logging
import urllib.error
import urllib.request
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch.exceptions import BlobNotFoundError, BlobServiceError
from tests.azurite.launcher import Azurite
from tests.blobserver import Status
from tests.faults.case import Case, Use, kept, raises
from tests.faults.play import play
from tests.faults.reading import ASYNC, FILE, spoil
from tests.faults.scene import Scene, Stage
from tests.secrets.canaries import SIGNATURE

pytestmark = pytest.mark.timeout(60)

CASE = Case(name="nothing", fault=lambda scene: None, requests=1, uses=(FILE,), seconds=5)

_kept_tasks: list[asyncio.Task[Any]] = []


def _read(scene: Scene, options: TransferOptions) -> bytes:
    data = FILE.run(scene, options)
    assert isinstance(data, bytes)
    return data


def _wrong_byte(scene: Scene, options: TransferOptions) -> bytes:
    return b"x" + _read(scene, options)[1:]


def _one_byte_less(scene: Scene, options: TransferOptions) -> bytes:
    return _read(scene, options)[:-1]


def _twice(scene: Scene, options: TransferOptions) -> bytes:
    return _read(scene, options) and _read(scene, options)


def _not_at_all(scene: Scene, options: TransferOptions) -> bytes:
    return scene.content


def _fail(scene: Scene, options: TransferOptions) -> bytes:
    raise BlobServiceError(f"reading {scene.shown}: no")


def _log(scene: Scene, options: TransferOptions) -> bytes:
    logging.getLogger("azure.somewhere").debug("asked %s", scene.url)
    return _read(scene, options)


def _log_an_alarm(scene: Scene, options: TransferOptions) -> bytes:
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    return _read(scene, options)


def _warn(scene: Scene, options: TransferOptions) -> bytes:
    warnings.warn("unclosed", ResourceWarning, stacklevel=1)
    return _read(scene, options)


def _leave_a_task(scene: Scene, options: TransferOptions) -> bytes:
    async def leave() -> None:
        _kept_tasks.append(asyncio.create_task(asyncio.Event().wait()))

    run(leave)
    return _read(scene, options)


async def _leave_a_task_on_its_loop(scene: Scene, options: TransferOptions) -> bytes:
    _kept_tasks.append(asyncio.create_task(asyncio.Event().wait()))
    running = ASYNC.run(scene, options)
    assert isinstance(running, Awaitable)
    return await running or b""


WRONG: dict[str, Callable[[Scene, TransferOptions], Any]] = {
    "other bytes": _wrong_byte,
    "fewer bytes": _one_byte_less,
    "more requests": _twice,
    "fewer requests": _not_at_all,
    "error": _fail,
    "secret in a log": _log,
    "alarm in a log": _log_an_alarm,
    "warning": _warn,
    "task left": _leave_a_task,
    "task left on a loop of its own": _leave_a_task_on_its_loop,
}


@pytest.fixture(autouse=True)
def end_tasks() -> Any:
    yield
    for task in _kept_tasks:
        if not task.done():
            task.get_loop().call_soon_threadsafe(task.cancel)
    _kept_tasks.clear()


@pytest.mark.parametrize("use", [FILE, ASYNC], ids=lambda use: use.name)
def test_good_play_passes(stage: Stage, use: Use) -> None:
    """Or those below fail for another reason."""
    result = play(stage, CASE, use)

    assert result.data is not None
    assert result.requests == 1


@pytest.mark.parametrize("what", WRONG)
def test_client_that_is_wrong_fails(stage: Stage, what: str) -> None:
    """A suite that lets one of these pass promises what it does not look at."""
    with pytest.raises(AssertionError):
        play(stage, CASE, Use(what, WRONG[what]))


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, outcome=raises(BlobServiceError)),
        replace(CASE, seconds=0),
        replace(CASE, outcome=kept(BlobServiceError)),
        replace(CASE, fault=spoil(Status(404, "BlobNotFound")), outcome=raises(BlobServiceError), again=False),
        replace(CASE, fault=spoil(Status(404, "BlobNotFound"), times=2), outcome=raises(BlobNotFoundError), requests=2),
    ],
    ids=["success instead of an error", "too slow", "success instead of a failed write", "derived class", "requests"],
)
def test_case_that_is_not_kept_fails(stage: Stage, case: Case) -> None:
    """What the documentation says is compared, not assumed."""
    with pytest.raises(AssertionError):
        play(stage, case, FILE)


def test_error_with_a_secret_fails(stage: Stage) -> None:
    """Wherever in the error it is."""

    def leak(scene: Scene, options: TransferOptions) -> bytes:
        error = BlobServiceError(f"reading {scene.shown}: no")
        error.add_note(SIGNATURE)
        raise error

    with pytest.raises(AssertionError):
        play(stage, replace(CASE, outcome=raises(BlobServiceError), requests=0, again=False), Use("leak", leak))


def _ask(url: str, asked: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body, without what differs from answer to answer or belongs to the connection."""
    request = urllib.request.Request(url, headers={"x-ms-version": "2021-12-02", "x-ms-range": asked})
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    passing = {"date", "x-ms-request-id", "connection", "keep-alive", "transfer-encoding"}
    with answer:
        headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in passing}
        if answer.status == 206:
            return answer.status, headers, answer.read()
    headers.pop("content-length", None)  # Azurite sends its errors in chunks
    return answer.status, headers, b""


@pytest.mark.parametrize(("asked", "status"), [("bytes=0-99", 206), ("bytes=100-", 206), ("bytes=99999999-", 416)])
def test_proxy_changes_nothing_by_itself(stage: Stage, azurite: Azurite, asked: str, status: int) -> None:
    """What a case sees of Azurite has to be Azurite's: bytes, status and headers."""
    with stage.scene(replace(CASE, service="azurite")) as scene:
        direct = scene.url.replace(scene.server.account_url, azurite.account_url, 1)

        assert _ask(scene.url, asked) == _ask(direct, asked)
        assert scene.server.requests("GET")[0].status == status
