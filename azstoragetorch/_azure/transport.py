"""The last step of every request of both pipelines: span, proof, proxy, TLS and the check of the echo.

Both the SDK's pipeline (blocks, commits, listings) and the lean one for reads end here, so a signature or token is
added in one place, to what goes on the wire only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpResponse, HttpRequest

from azstoragetorch._azure.answer import drain, let_go
from azstoragetorch._azure.body import Slices
from azstoragetorch._azure.credentials import Authentication
from azstoragetorch._azure.errors import FailedAttempt, Failure, Kind, classify, status_failure
from azstoragetorch._azure.tracing import in_request_span
from azstoragetorch.exceptions import BlobTimeoutError, ClientRequestIdMismatchError

__all__ = ["BlobTransport"]

_ECHO = "x-ms-client-request-id"
_CODE = "x-ms-error-code"


class BlobTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core imports it lazily, mypy sees Any
    """Sends the requests of one account and credential over the loop's shared connections.

    :param session: the loop's connections; not closed by this.
    :param authentication: asked anew for every request that is sent.
    :param tls: the certificate authorities to trust.
    :param proxy: URL of the proxy for this account, or ``None``.
    :param min_rate: bytes a second below which an upload is given up; 0 leaves that to the deadline, and to the kernel,
        which ends a connection that is dead.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        authentication: Authentication,
        *,
        tls: ssl.SSLContext,
        proxy: str | None,
        connect_timeout: float,
        idle_timeout: float,
        min_rate: int,
    ) -> None:
        super().__init__(
            session=session,
            session_owner=False,
            use_env_settings=False,
            connection_timeout=connect_timeout,
            read_timeout=idle_timeout,
        )
        self.authentication = authentication
        self.tls = tls
        self.proxy = proxy
        self._idle_timeout = idle_timeout
        self._min_rate = min_rate

    async def send(self, request: HttpRequest, **config: Any) -> AsyncHttpResponse:
        """Send ``request`` once; a second time only to answer the service's 401 challenge."""
        config["ssl"] = self.tls
        config["proxy"] = self.proxy
        response, authorization = await self._send_signed(request, config)
        if response.status_code == 401 and await self.authentication.challenged(response.headers, authorization):
            response.internal_response.release()
            if isinstance(request.data, Slices):
                request.data.begun = 0  # the one before was answered
            response, _ = await self._send_signed(request, config)
        echo = response.headers.get(_ECHO)
        # The emulator's errors do not echo the id, so its absence proves nothing.
        if echo is not None and echo != request.headers.get(_ECHO):
            response.internal_response.close()
            raise ClientRequestIdMismatchError(
                request.headers.get(_ECHO, "none"), echo, response.headers.get("x-ms-request-id", "unknown")
            )
        if not config.get("stream") and response.status_code >= 300 and _CODE not in response.headers:
            # Not an answer of the service but of something before it. The SDK would say at WARNING, and so on the
            # terminal, that it cannot read the body.
            answer = response.internal_response
            await drain(answer.content)
            let_go(answer)
            raise FailedAttempt(status_failure(response.status_code, None, response.headers, None))
        return response

    async def _send_signed(self, request: HttpRequest, config: dict[str, Any]) -> tuple[AsyncHttpResponse, str | None]:
        query = await self.authentication.query()
        authorization = await self.authentication.authorization()
        send = partial(self._send_with, query, authorization, request, config)
        return await in_request_span(request, send), authorization

    async def _send_with(
        self, query: str, authorization: str | None, request: HttpRequest, config: dict[str, Any]
    ) -> AsyncHttpResponse:
        """Send ``request`` with its proof, which is on it no longer when this returns or raises.

        :raises FailedAttempt: for whatever the HTTP client says, in our words.
        """
        unsigned = request.url
        if query:
            request.url = f"{unsigned}{'&' if '?' in unsigned else '?'}{query}"
        if authorization is not None:
            request.headers["Authorization"] = authorization
        response: Any = None
        failure: Failure | None = None
        body = cast(Any, request.data)
        body = body if isinstance(body, Slices) else None
        try:
            # Both aiohttp and the SDK read URL and headers before this returns, so they can be taken back after it.
            if body is not None and self._min_rate:
                async with watched(body, self._idle_timeout, self._min_rate):
                    response = await super().send(request, **config)
            else:
                response = await super().send(request, **config)
            return cast(AsyncHttpResponse, response)
        except FailedAttempt:
            if response is not None:  # it came in the very moment in which it was given up
                response.internal_response.close()
            raise
        except Exception as error:
            failure = classify(error, self._idle_timeout)
            if failure is None:
                raise
        finally:
            request.url = unsigned
            request.headers.pop("Authorization", None)
        # aiohttp spells the signed URL in some of its errors, and whatever passes by from here on notes their text: the
        # span, and the SDK's loggers.
        raise FailedAttempt(failure)


@asynccontextmanager
async def watched(body: Slices, idle_timeout: float, min_rate: int) -> AsyncIterator[None]:
    """End what runs inside when the connection takes ``body`` too slowly.

    aiohttp counts silence from the end of the body on, so a connection that died in the middle of a block would only
    be noticed at the deadline of the block, with no time left to send it again.

    :raises FailedAttempt: after ``idle_timeout`` seconds with less than ``min_rate`` bytes a second, or none.
    """
    loop = asyncio.get_running_loop()
    timeout = asyncio.timeout(None)
    taken = body.taken
    check: asyncio.TimerHandle

    # It is handed itself. By its name it would refer to itself, and that cycle would keep the body, a block of 4 MiB,
    # until the next garbage collection.
    def look(again: Callable[..., None]) -> None:
        nonlocal taken, check
        if not body.exhausted and body.taken - taken < max(1, min_rate * idle_timeout):
            timeout.reschedule(loop.time())
            return
        taken = body.taken
        check = loop.call_later(idle_timeout, again, again)

    check = loop.call_later(idle_timeout, look, look)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
    finally:
        check.cancel()
    if timeout.expired():
        text = f"the connection took less than {max(1, min_rate * idle_timeout):.0f} bytes in {idle_timeout:g} s"
        raise FailedAttempt(Failure(Kind.BUSY, BlobTimeoutError, text))
