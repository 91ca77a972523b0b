"""One connection: receiving, paced sending, and every way in which a connection can end.

The socket has no timeout, because a timeout would make each `sendall` a loop of short writes; who wants to end
the wait of a connection's thread shuts its socket down (`Link.wake`).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.blobserver.log import Record
from tests.blobserver.wire import HEAD_LIMIT, Request, ServiceError

End = Literal["close", "reset"]

_SLICE_LIMIT = 1024 * 1024
_DRAIN_SECONDS = 2.0  # loopback delivers within microseconds; this only bounds a peer that does not read


class Dropped(Exception):
    """The connection ends here: orderly (``close``: FIN) or not (``reset``: RST)."""

    def __init__(self, how: End = "close") -> None:
        super().__init__(how)
        self.how: End = how


@dataclass(eq=False)
class Model:
    """How the network is modelled: what a `BlobServer` is to its connections.

    May be changed while connections are open.

    :ivar latency: seconds between the last byte of a request and the first of its answer.
    :ivar connect_latency: seconds before a new connection is answered (or its TLS handshake starts).
    :ivar bandwidth: bytes per second of one connection, each way; ``None`` is no limit.
    :ivar keep_alive: seconds after which an idle connection is closed; ``None`` is never.
    """

    latency: float = 0.0
    connect_latency: float = 0.0
    bandwidth: float | None = None
    keep_alive: float | None = None


class Link:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, model: Model, closing: threading.Event) -> None:
        self._sock = sock
        self._model = model
        self._closing = closing
        self._buffer = bytearray()
        self._send_due = 0.0
        self._receive_due = 0.0
        self.lingering = False  # the peer may still be sending when this side ends
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's side of the handshake."""
        self._sock = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        assert isinstance(self._sock, ssl.SSLSocket)
        if self._closing.is_set():
            raise Dropped  # `wake` may have met the socket that was just replaced
        self._sock.do_handshake()

    def read_head(self) -> bytes | None:
        """Receive up to the empty line that ends a request head; ``None`` when the peer or idleness ends it."""
        if not self._buffer and not self._readable(self._model.keep_alive):
            return None
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", searched)) < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise ServiceError(431, "RequestHeaderTooLarge", close=True)
            searched = max(0, len(self._buffer) - 3)
            data = self._sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    def receive_into(self, view: memoryview) -> None:
        """Fill the view, at the modelled bandwidth.

        :raises Dropped: if the peer ends before that.
        """
        early = min(len(view), len(self._buffer))
        view[:early] = self._buffer[:early]
        del self._buffer[:early]
        received = early
        size = self._slice_size()
        self._receive_due = self._pace(max(self._receive_due, time.monotonic()), early)
        paced = received
        while received < len(view):
            count = self._sock.recv_into(view[received : received + size])
            if not count:
                raise Dropped
            received += count
            # TLS gives at most 16 KiB at once: to sleep after each would cost more CPU than to receive it.
            if received - paced >= size or received == len(view):
                self._receive_due = self._pace(self._receive_due, received - paced)
                paced = received

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it, at the modelled bandwidth: each slice leaves when its last byte would have arrived."""
        size = self._slice_size()
        self._send_due = max(self._send_due, time.monotonic())
        if len(data) <= size:
            self._send_due = self._pace(self._send_due, len(data))
            self._sock.sendall(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), size):
            piece = view[start : start + size]
            self._send_due = self._pace(self._send_due, len(piece))
            self._sock.sendall(piece)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        if seconds > 0 and self._closing.wait(seconds):
            raise Dropped

    def hang(self, until: threading.Event | None = None) -> None:
        """Do nothing until the event is set; for good without one.

        :raises Dropped: once the peer has gone (or sent something more) or the server closes.
        """
        while until is None or not until.is_set():
            # A step of 20 ms only when there are two things to wait for.
            if self._readable(None if until is None else 0.02) or self._closing.is_set():
                raise Dropped

    def stall(self) -> None:
        """Leave all input unread until the peer has gone or the server closes, and raise `Dropped`."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        poll.poll()
        raise Dropped

    def wake(self) -> None:
        """End whatever the connection's thread waits for; called from other threads."""
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that would take the TLS object away from under the other thread.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def end(self, how: End) -> None:
        """Close the connection; what was sent before still arrives."""
        with contextlib.suppress(OSError):
            if how == "reset":
                self._wait_sent()
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                socket.socket.shutdown(self._sock, socket.SHUT_WR)
                self._discard_input()
        with contextlib.suppress(OSError):
            self._sock.close()

    def _wait_sent(self) -> None:
        # A reset throws away what the kernel has not delivered yet, and "reset after N bytes" means N bytes.
        unsent = array.array("i", [1])
        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline:
            fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, unsent)
            if not unsent[0] or self._closing.wait(0.001):
                return

    def _discard_input(self) -> None:
        # Closing with unread input would send a reset instead of an orderly end.
        deadline = time.monotonic() + (_DRAIN_SECONDS if self.lingering else 0)
        while not self._closing.is_set():
            left = max(0.0, deadline - time.monotonic())
            if not self._readable(left, raw=True) or not socket.socket.recv(self._sock, 65536):
                return

    def _readable(self, seconds: float | None, *, raw: bool = False) -> bool:
        if not raw and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _slice_size(self) -> int:
        bandwidth = self._model.bandwidth
        # 10 ms of traffic: fine enough to look steady, coarse enough to cost little.
        return 1 << 40 if bandwidth is None else min(_SLICE_LIMIT, max(1024, int(bandwidth / 100)))

    def _pace(self, due: float, count: int) -> float:
        bandwidth = self._model.bandwidth
        if bandwidth is not None:
            due += count / bandwidth
            self.pause(due - time.monotonic())
        return due


@dataclass(slots=True)
class Exchange:
    """One request being answered, as faults see it.

    :ivar upload_cut: after so many bytes of the request body are received the function is called; it may raise
        `Dropped` or hang.
    """

    request: Request
    record: Record
    link: Link
    upload_cut: tuple[int, Callable[[], None]] | None = None
