"""A bare socket that speaks just enough HTTP: what a floor is measured with."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import SplitResult, urlsplit

__all__ = ["HEADERS", "connected", "receive"]

HEADERS = "Host: 127.0.0.1\r\nx-ms-version: 2021-12-02\r\n"


@contextmanager
def connected(location: str) -> Iterator[tuple[socket.socket, SplitResult]]:
    """Open a connection, with TLS if the URL says so."""
    url = urlsplit(location)
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((url.hostname or "", url.port or 443)))
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
            connection = stack.enter_context(context.wrap_socket(connection, server_hostname=url.hostname))
        yield connection, url


def receive(connection: socket.socket, path: str, view: memoryview) -> int:
    """Get a blob into the front of ``view``; return its size.

    :raises EOFError: if the answer was cut.
    :raises RuntimeError: if it was an error.
    """
    connection.sendall(f"GET {path} HTTP/1.1\r\n{HEADERS}\r\n".encode())
    head = bytearray()
    while b"\r\n\r\n" not in head:
        head += _received(connection.recv(65536))
    length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head, re.IGNORECASE)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise RuntimeError(f"the blob was refused: {head[:200]!r}")
    size = int(length[1])
    filled = len(body := head[head.index(b"\r\n\r\n") + 4 :])
    view[:filled] = body
    while filled < size:
        count = connection.recv_into(view[filled:size])
        if not count:
            raise EOFError("the answer was cut")
        filled += count
    return size


def _received(data: bytes) -> bytes:
    if not data:
        raise EOFError("the answer was cut")
    return data
