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
from uuid import uuid4

import pytest
from azure.core.pipeline.transport import HttpRequest

from azstoragetorch import TransferOptions
from azstoragetorch._azure.session import Session
from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Lease, Memory
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.aio import aclose
from azstoragetorch.exceptions import BlobNotFoundError, BlobServiceError
from tests.azurite.launcher import Azurite
from tests.blobserver import Hold, Status
from tests.faults.case import Case, Use, kept, raises
from tests.faults.play import play
from tests.faults.reading import ASYNC, FILE, GET, spoil
from tests.faults.scene import Scene, Stage
from tests.secrets.canaries import SIGNATURE

pytestmark = pytest.mark.timeout(60)

CASE = Case(name="nothing", fault=lambda scene: None, requests=1, uses=(FILE,), seconds=5)

_kept_tasks: list[asyncio.Task[Any]] = []
_kept_leases: list[Lease] = []
_kept_answers: list[Any] = []


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


async def _keep_memory_on_its_loop(scene: Scene, options: TransferOptions) -> bytes:
    lease = Memory.current().try_take(1, options.memory_budget)
    assert lease is not None
    _kept_leases.append(lease)
    running = ASYNC.run(scene, options)
    assert isinstance(running, Awaitable)
    return await running or b""


def _keep_memory(scene: Scene, options: TransferOptions) -> bytes:
    async def keep() -> None:
        lease = Memory.current().try_take(1, options.memory_budget)
        assert lease is not None
        _kept_leases.append(lease)

    run(keep)
    return _read(scene, options)


async def _keep_a_connection_on_its_loop(scene: Scene, options: TransferOptions) -> bytes:
    url = BlobUrl.parse(scene.url)
    account = await (await Session.current()).account(url, None, options)
    # Once the body is here the connection is given back, whether somebody took the body or not.
    scene.server.fault(GET, Hold(body_after=100))
    headers = {"x-ms-range": "bytes=0-999", "x-ms-version": "2021-12-02", "x-ms-client-request-id": str(uuid4())}
    request = HttpRequest("GET", scene.shown, headers)
    _kept_answers.append((await account.reads.run(request, stream=True)).http_response.internal_response)
    return scene.content


def _keep_a_connection(scene: Scene, options: TransferOptions) -> bytes:
    return run(_keep_a_connection_on_its_loop, scene, options)


WRONG: dict[str, tuple[Callable[[Scene, TransferOptions], Any], str]] = {
    "other bytes": (_wrong_byte, "other bytes"),
    "fewer bytes": (_one_byte_less, "other bytes"),
    "more requests": (_twice, "2 requests"),
    "fewer requests": (_not_at_all, "0 requests"),
    "error": (_fail, "instead of success"),
    "secret in a log": (_log, "secret"),
    "alarm in a log": (_log_an_alarm, "alarms"),
    "warning": (_warn, "alarms"),
    "task left": (_leave_a_task, "tasks"),
    "task left on a loop of its own": (_leave_a_task_on_its_loop, "tasks"),
    "memory kept": (_keep_memory, "memory"),
    "memory kept on a loop of its own": (_keep_memory_on_its_loop, "memory"),
    "connection kept": (_keep_a_connection, "connections"),
    "connection kept on a loop of its own": (_keep_a_connection_on_its_loop, "connections"),
}
"""What a client does wrong, and a word of the complaint."""


@pytest.fixture(autouse=True)
def end_what_is_kept() -> Any:
    yield
    for task in _kept_tasks:
        if not task.done():
            task.get_loop().call_soon_threadsafe(task.cancel)
    run(_let_go)


async def _let_go() -> None:
    for lease in _kept_leases:
        lease.free()
    for answer in _kept_answers:
        if answer.connection is not None:
            answer.connection.close()  # by itself: an answer whose loop is closed does nothing more
    for items in (_kept_tasks, _kept_leases, _kept_answers):
        items.clear()
    await aclose()


@pytest.mark.parametrize("use", [FILE, ASYNC], ids=lambda use: use.name)
def test_good_play_passes(stage: Stage, use: Use) -> None:
    """Or those below fail for another reason."""
    result = play(stage, CASE, use)

    assert result.data is not None
    assert result.requests == 1


@pytest.mark.parametrize("what", WRONG)
def test_client_that_is_wrong_fails(stage: Stage, what: str) -> None:
    """A suite that lets one of these pass promises what it does not look at."""
    client, complaint = WRONG[what]

    with pytest.raises(AssertionError, match=complaint):
        play(stage, CASE, Use(what, client))


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
