"""The ways in which a case writes its blob, and what only writes can suffer."""

from __future__ import annotations

__all__ = [
    "CREATE",
    "CREATE_ASYNC",
    "CREATES",
    "ENDLESS",
    "FLUSHED",
    "PARTS",
    "PUT_BLOB",
    "PUT_BLOCK",
    "PUT_BLOCK_LIST",
    "RESTARTED",
    "SMALL",
    "WRITE",
    "WRITES",
    "WRITE_ASYNC",
    "FlipUpload",
    "Passed",
    "TrickleUpload",
    "small",
]

from collections.abc import Callable
from typing import Any

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from tests.blobserver import Action, Status, on
from tests.blobserver.content import BytesContent
from tests.blobserver.link import Dropped, Exchange
from tests.blobserver.wire import Response
from tests.faults.case import KiB, Use
from tests.faults.scene import Scene

PUT_BLOCK, PUT_BLOCK_LIST, PUT_BLOB = on("PUT", "block"), on("PUT", "blocklist"), on("PUT", "")

SMALL = 10 * KiB + 3
"""Bytes that fit one block of ``BRIEF``, so one Put Blob."""


class FlipUpload(Action):
    """Flip the lowest bit of one byte of what is sent, on its way to the service.

    :param at: the byte, or the last byte of the first place that holds these bytes.
    """

    def __init__(self, at: int | bytes) -> None:
        self._at = at

    def on_request(self, exchange: Exchange) -> Response | None:
        body = exchange.request.body
        sent = bytearray(b"".join(body.slices(0, body.size)))
        sent[self._at if isinstance(self._at, int) else sent.index(self._at) + len(self._at) - 1] ^= 1
        exchange.request.body = BytesContent(sent)
        return None


class TrickleUpload(Action):
    """Take what is sent at ``rate`` bytes a second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    def on_head(self, exchange: Exchange) -> Response | None:
        def take() -> None:
            for _ in range(0, exchange.request.length, self._rate // 100):
                exchange.link.pause(0.01)
                exchange.link.receive_into(memoryview(bytearray(self._rate // 100)))
            raise Dropped

        exchange.upload_cut = (0, take)
        return None


class Passed(Status):
    """Perform the operation, and answer as a gateway does that lost its connection to the service."""

    def on_request(self, exchange: Exchange) -> Response | None:
        return None

    def on_response(self, exchange: Exchange, response: Response) -> None:
        answer = self._respond()
        response.status, response.headers = answer.status, answer.headers
        response.set("x-ms-error-code", None)


def small(fault: Callable[[Scene], object]) -> Callable[[Scene], object]:
    """Return the fault with content that one request writes."""

    def begin(scene: Scene) -> None:
        scene.written = scene.written[:SMALL]
        fault(scene)

    return begin


def _by_file(mode: Any) -> Callable[[Scene, TransferOptions], None]:
    def write(scene: Scene, options: TransferOptions) -> None:
        with BlobIO(scene.url, mode, credential=scene.credential, options=options) as file:
            file.write(scene.written)
        assert file.committed

    return write


def _by_async_file(mode: Any) -> Any:
    async def write(scene: Scene, options: TransferOptions) -> None:
        async with AsyncBlobIO(scene.url, mode, credential=scene.credential, options=options) as file:
            await file.write(scene.written)
        assert file.committed

    return write


def _flushed(scene: Scene, options: TransferOptions) -> None:
    with BlobIO(scene.url, "wb", credential=scene.credential, options=options) as file:
        file.write(scene.written[: 4 * options.block_size])
        file.flush()
        scene.meanwhile()


def _in_two_parts(scene: Scene, options: TransferOptions) -> None:
    with BlobIO(scene.url, "wb", credential=scene.credential, options=options) as file:
        file.write(scene.written[: 4 * options.block_size])
        file.flush()
        scene.meanwhile()
        file.write(scene.written[4 * options.block_size :])


def _restarted(scene: Scene, options: TransferOptions) -> None:
    # A connection that was given up closes when the rest was sent, and this server takes nothing: a minute.
    try:
        _by_file("wb")(scene, options)
    finally:
        scene.server.drop_connections()


def _endless(scene: Scene, options: TransferOptions) -> None:
    """Write until it fails, which must be soon after the service refuses."""
    file = BlobIO(scene.url, "wb", credential=scene.credential, options=options)
    try:
        while file.tell() < 256 * 1024 * KiB:
            file.write(scene.written)
    except FatalBlobIOWriteError:
        staged = [record for record in scene.server.requests("PUT", "block") if record.status == 201]
        # And the blocks under way, the one that is being filled, and the call that was told.
        blocks = len(staged) + options.in_flight + 1
        assert file.tell() <= blocks * options.block_size + len(scene.written)
        raise
    finally:
        file.abort()


WRITE = Use("BlobIO wb", _by_file("wb"))
WRITE_ASYNC = Use("AsyncBlobIO wb", _by_async_file("wb"))
WRITES = (WRITE, WRITE_ASYNC)
CREATE = Use("BlobIO xb", _by_file("xb"), again=False)
CREATE_ASYNC = Use("AsyncBlobIO xb", _by_async_file("xb"), again=False)
CREATES = (CREATE, CREATE_ASYNC)
PARTS = Use("BlobIO wb (two parts)", _in_two_parts)
FLUSHED = Use("BlobIO wb", _flushed, again=False)
"""Four blocks are on the service before something happens, and only the commit is left."""
RESTARTED = Use("BlobIO wb", _restarted)
ENDLESS = Use("BlobIO wb (without end)", _endless, again=False)
