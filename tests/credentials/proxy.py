"""An HTTP proxy on this machine, which remembers what it was told."""

from __future__ import annotations

__all__ = ["Proxy"]

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Tunnels every CONNECT to one port of this machine, whatever host it names; answers all else itself, with 404.

    :param port: where tunnels end.
    :param refusal: answer every request with this status instead.
    """

    def __init__(self, port: int, *, refusal: int | None = None) -> None:
        self.heads: list[str] = []
        """Request lines and headers, as they came."""
        self._port = port
        self._refusal = refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for opened in self._open:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        with contextlib.suppress(OSError):
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            self.heads.append(head.decode("latin-1"))
            if self._refusal is not None or not head.startswith(b"CONNECT "):
                client.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % (self._refusal or 404))
                client.shutdown(socket.SHUT_WR)
                return
            upstream = socket.create_connection(("127.0.0.1", self._port))
            self._open.append(upstream)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
            _pump(client, upstream)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
