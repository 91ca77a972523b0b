"""Take the body of an answer: at its own pace, but not too slowly, and no more of it than is needed.

Ranged reads and listings take theirs by `take`, piece by piece. Everything else goes through the SDK, which reads a
body whole, whatever its length: `BoundedResponse` is where that ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from azstoragetorch._azure.errors import FailedAttempt, Failure, Kind, unusable
from azstoragetorch._values.options import KiB, MiB, TransferOptions
from azstoragetorch.exceptions import BlobTimeoutError

__all__ = ["ERROR_BODY", "MAX_ANSWER", "BoundedResponse", "drain", "let_go", "take"]

ERROR_BODY = 16 * KiB
"""Most that is read of an error's body; the service's own have less than 1 KiB."""

ERROR_SECONDS = 1.0
"""Longest time spent on it. It says nothing that status and headers do not say; it is read so that its connection can
serve the next request, and a new connection takes less than that."""

MAX_ANSWER = 32 * MiB
"""Most that is read of an answer that the SDK reads whole. The longest is a list of 50,000 blocks, as many as one blob
may have: 150 bytes each, 7 MiB."""


async def take(content: aiohttp.StreamReader, put: Callable[[bytes], None], options: TransferOptions) -> None:
    """Hand the pieces of a body to ``put`` until it ends.

    aiohttp gives up a connection that is silent for ``idle_timeout``; this one, a connection that is nearly silent.

    :param put: what it raises ends the taking.
    :raises FailedAttempt: after ``idle_timeout`` seconds in which less than ``min_rate`` bytes a second came.
    """
    clock = asyncio.get_running_loop().time
    since, received = clock(), 0
    while piece := await content.readany():
        put(piece)
        received += len(piece)
        elapsed = clock() - since
        if elapsed >= options.idle_timeout:
            if received < options.min_rate * elapsed:
                text = f"the answer came too slowly ({received} bytes in {elapsed:.0f} s)"
                raise FailedAttempt(Failure(Kind.BUSY, BlobTimeoutError, text))
            since, received = clock(), 0


async def drain(content: aiohttp.StreamReader) -> bytes:
    """Return an error's body, as far as it is short and comes soon, so that its connection can serve the next request.

    What breaks off before is as good: never raises for the connection's sake.
    """
    pieces: list[bytes] = []
    left = ERROR_BODY
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            while left > 0 and (piece := await content.readany()):
                pieces.append(piece)
                left -= len(piece)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        # aiohttp has one error for all connections that were closed. It would keep these frames for ever, and the block
        # that they sent with them, and more of them with every answer.
        error.__traceback__ = None
    return b"".join(pieces)[:ERROR_BODY]


def let_go(answer: aiohttp.ClientResponse) -> None:
    """End the use of a connection: back to the pool only when every byte of the answer was read, else it is closed."""
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()


class BoundedResponse(aiohttp.ClientResponse):
    """An answer whose body is read whole only up to a bound: an error's to ERROR_BODY, any other's to MAX_ANSWER."""

    _whole: bytes | None = None

    async def read(self) -> bytes:
        """Return the body, of an error as much as `drain` does.

        :raises FailedAttempt: if the answer is no error and longer than MAX_ANSWER.
        """
        if self._whole is None:
            try:
                body = await (drain(self.content) if self.status >= 300 else self._bounded())
            finally:
                if not self.content.at_eof():
                    self.close()
            if self.content.at_eof():
                await super().read()  # nothing is left of the body: waits until the connection is free again
            # The SDK decodes whatever it gets. A gateway's page in its own encoding must not hide that it is a 503.
            self._whole = body.decode(errors="replace").encode()
        return self._whole

    async def _bounded(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := await self.content.readany():
            size += len(piece)
            if size > MAX_ANSWER:
                raise unusable(f"the service answered with more than {MAX_ANSWER} bytes")
            pieces.append(piece)
        return b"".join(pieces)
