"""Azurite with a proxy before it that spoils what passes.

The proxy is the scripted server with another service behind it: the same connections, rules, actions and records, and
the answers are Azurite's own, header for header. So a fault is written once and happens to either.
"""

from __future__ import annotations

__all__ = ["AzuriteProxy"]

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from tests.azurite.launcher import Azurite
from tests.blobserver import BlobServer, Version
from tests.blobserver.content import BytesContent
from tests.blobserver.service import Service
from tests.blobserver.wire import Request, Response

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_TIMEOUT = 60.0


class _PartContent:
    """The bytes ``[start, stop)`` of content of which no more is known than its size."""

    def __init__(self, start: int, part: bytes, size: int) -> None:
        self.size = size
        self._start = start
        self._part = BytesContent(part)

    def slices(self, start: int, stop: int) -> Iterator[memoryview]:
        return self._part.slices(start - self._start, stop - self._start)


class _Upstream(Service):
    """Answers requests with what Azurite answers them."""

    def __init__(self, server: BlobServer, origin: str) -> None:
        super().__init__(server.store)
        address = urlsplit(origin)
        self._host, self._port = address.hostname or "", address.port

    def authorize(self, request: Request) -> None:
        """Leave that to Azurite."""

    def answer(self, request: Request) -> Response:
        """Pass a request on, over a connection of its own, and its answer back."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        try:
            target = f"{request.raw_path}?{request.raw_query}" if request.raw_query else request.raw_path
            connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(b"".join(request.body.slices(0, request.body.size)))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        length = int(answer.getheader("Content-Length", len(body)))  # of a HEAD it is not that of the body
        bounds = answer.getheader("Content-Range", "")
        if answer.status == 206 and bounds:
            span, _, total = bounds.removeprefix("bytes ").partition("/")
            start = int(span.partition("-")[0])
            content = _PartContent(start, body, int(total))
            return Response(answer.status, headers, content, start, start + len(body), length, complete=True)
        return Response(answer.status, headers, BytesContent(body), 0, len(body), length, complete=True)


class AzuriteProxy(BlobServer):
    """A `BlobServer` whose operations are performed by Azurite, for one container.

    What tests prepare and look at by `put`, `get` and `delete` goes past the proxy.
    """

    def __init__(self, azurite: Azurite, container: str) -> None:
        super().__init__(container=container)
        address = urlsplit(azurite.account_url)
        self.service = _Upstream(self, f"{address.scheme}://{address.netloc}")
        self._client: ContainerClient = azurite.service_client().get_container_client(container)

    def close(self) -> None:
        """End the proxy; Azurite goes on."""
        super().close()
        self._client.close()

    def put(self, name: str, data: bytes, *, tier: str | None = None) -> Version:
        """Replace a blob; the version that is returned says its ETag and nothing else."""
        written = self._client.upload_blob(name, data, overwrite=True).get_blob_properties()
        return Version(BytesContent(data), written.etag, "", 0.0, 0.0, {})

    def get(self, name: str) -> bytes:
        """Return the committed content.

        :raises KeyError: if there is no such blob.
        """
        try:
            return self._client.download_blob(name).readall()
        except ResourceNotFoundError:
            raise KeyError(name) from None

    def delete(self, name: str) -> None:
        """Delete a blob."""
        self._client.delete_blob(name)
