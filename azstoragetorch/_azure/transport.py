"""The last step of every request of both pipelines: proof, proxy, TLS and the check of the echo.

Both the SDK's pipeline (blocks, commits, listings) and the lean one for reads end here, so a signature or token is
added in one place, to what goes on the wire only.
"""

from __future__ import annotations

import ssl
from typing import Any, cast

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpResponse, HttpRequest

from azstoragetorch._azure.body import SLICE, Slices
from azstoragetorch._azure.credentials import Authentication
from azstoragetorch.exceptions import ClientRequestIdMismatchError

__all__ = ["BlobTransport"]

_ECHO = "x-ms-client-request-id"


class BlobTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core imports it lazily, mypy sees Any
    """Sends the requests of one account and credential over the loop's shared connections.

    :param session: the loop's connections; not closed by this.
    :param authentication: asked anew for every request that is sent.
    :param tls: the certificate authorities to trust.
    :param proxy: URL of the proxy for this account, or ``None``.
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
    ) -> None:
        super().__init__(
            session=session,
            session_owner=False,
            use_env_settings=False,
            connection_timeout=connect_timeout,
            read_timeout=idle_timeout,
        )
        self._authentication = authentication
        self._tls = tls
        self._proxy = proxy

    async def send(self, request: HttpRequest, **config: Any) -> AsyncHttpResponse:
        """Send ``request`` once; a second time only to answer the service's 401 challenge."""
        if isinstance(request.data, bytes) and len(request.data) > SLICE:
            request.data = cast(Any, Slices(memoryview(request.data)))
        config["ssl"] = self._tls
        config["proxy"] = self._proxy
        response = await self._send_signed(request, config)
        if response.status_code == 401 and await self._authentication.challenged(response.headers):
            response.internal_response.release()
            response = await self._send_signed(request, config)
        echo = response.headers.get(_ECHO)
        # The emulator's errors do not echo the id, so its absence proves nothing.
        if echo is not None and echo != request.headers.get(_ECHO):
            response.internal_response.close()
            raise ClientRequestIdMismatchError(
                request.headers.get(_ECHO, "none"), echo, response.headers.get("x-ms-request-id", "unknown")
            )
        return response

    async def _send_signed(self, request: HttpRequest, config: dict[str, Any]) -> AsyncHttpResponse:
        unsigned = request.url
        query = await self._authentication.query()
        authorization = await self._authentication.authorization()
        if query:
            request.url = f"{unsigned}{'&' if '?' in unsigned else '?'}{query}"
        if authorization is not None:
            request.headers["Authorization"] = authorization
        try:
            # Both aiohttp and the SDK read URL and headers before this returns, so they can be taken back after it.
            return cast(AsyncHttpResponse, await super().send(request, **config))
        finally:
            request.url = unsigned
            request.headers.pop("Authorization", None)
