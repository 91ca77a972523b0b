"""The thread of one connection: read a request, let faults at it, answer, again."""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
import uuid
import zlib
from email.utils import formatdate
from typing import TYPE_CHECKING

from tests.blobserver.content import BytesContent, Content, DiscardedContent
from tests.blobserver.control import control_response
from tests.blobserver.faults import Action
from tests.blobserver.link import Dropped, End, Exchange, Link
from tests.blobserver.log import Record
from tests.blobserver.service import md5_mismatch
from tests.blobserver.wire import Request, Response, ServiceError, error_response, parse_head

if TYPE_CHECKING:
    from tests.blobserver.server import BlobServer

_DISCARD_SIZE = 1024 * 1024
_JOIN_LIMIT = 64 * 1024  # an answer up to this size leaves in one packet train with its head


class Connection:
    """One accepted socket until it ends."""

    def __init__(self, server: BlobServer, link: Link, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._link = link
        self._context = context

    def run(self) -> None:
        """Serve requests; nothing is raised, what should not happen goes to ``server.errors``."""
        how: End = "close"
        with self._server.log.connection() as number:
            try:
                self._link.pause(self._server.connect_latency)
                if self._context is not None:
                    self._link.start_tls(self._context)
                while self._serve_one(number):
                    pass
            except Dropped as drop:
                how = drop.how
            except OSError:
                pass  # the peer has gone, or does not trust our certificate: its business
            except Exception as error:
                self._server.errors.append(error)
            self._link.end(how)

    def _serve_one(self, number: int) -> bool:
        link, server = self._link, self._server
        try:
            head = link.read_head()
            if head is None:
                return False
            request = parse_head(head)
        except ServiceError as error:
            server.malformed.append(error.message)
            link.lingering = True
            self._send(self._finish(error_response(error, ""), None), None, ())
            return False
        if request.path.startswith("/__"):
            request.body = self._receive(Exchange(request, Record.of(request, number), link))
            response = self._finish(control_response(server, request), request)
            self._send(response, None, ())
            return True
        with server.log.request(request, number) as record:
            exchange = Exchange(request, record, link)
            actions = server.faults.take(request)
            record.fault = "+".join(type(action).__name__ for action in actions)
            response = self._respond(exchange, actions)
            close = response.close or request.headers.get("connection", "").lower() == "close"
            response.close = close
            for action in actions:
                action.on_response(exchange, response)
            link.pause(server.latency)
            self._send(response, exchange, actions)
            return not close

    def _respond(self, exchange: Exchange, actions: tuple[Action, ...]) -> Response:
        request = exchange.request
        for action in actions:
            response = action.on_head(exchange)
            if response is not None:
                response.close = self._link.lingering = True
                return self._finish(response, request)
        if request.headers.get("expect", "").lower() == "100-continue":
            self._link.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            request.body = self._receive(exchange)
            for action in actions:
                response = action.on_request(exchange)
                if response is not None:
                    return self._finish(response, request)
            self._server.service.authorize(request)
            response = self._server.service.answer(request)
        except ServiceError as error:
            response = error_response(error, str(uuid.uuid4()))
        return self._finish(response, request)

    def _receive(self, exchange: Exchange) -> Content:
        request, link, server = exchange.request, self._link, self._server
        if exchange.upload_cut is not None:
            count, cut = exchange.upload_cut
            link.receive_into(memoryview(bytearray(min(count, request.length))))
            exchange.record.bytes_received += min(count, request.length)
            link.lingering = True
            cut()
        if server.discard_uploads and request.method == "PUT" and request.comp in ("", "block"):
            return self._receive_digest(exchange)
        body = bytearray(request.length)
        link.receive_into(memoryview(body))
        exchange.record.bytes_received = request.length
        return BytesContent(body)

    def _receive_digest(self, exchange: Exchange) -> Content:
        """Receive a body into one reused buffer, keeping only what can be checked later."""
        request = exchange.request
        expected = request.headers.get("content-md5")
        md5 = hashlib.md5(usedforsecurity=False)
        checksum = 0
        buffer = memoryview(bytearray(min(_DISCARD_SIZE, request.length)))
        left = request.length
        while left:
            view = buffer[:left]
            self._link.receive_into(view)
            left -= len(view)
            exchange.record.bytes_received += len(view)
            if expected is not None:
                md5.update(view)
            if self._server.discarded_crc:
                checksum = zlib.crc32(view, checksum)
        if expected is not None and expected != base64.b64encode(md5.digest()).decode():
            raise md5_mismatch()
        return DiscardedContent(request.length, checksum)

    def _finish(self, response: Response, request: Request | None) -> Response:
        """Add the headers that every answer of the service has."""
        if response.complete:
            return response
        response.set("Date", formatdate(usegmt=True))
        response.set("Server", "Windows-Azure-Blob/1.0")
        response.set("x-ms-request-id", str(uuid.uuid4()))
        if request is not None:
            response.set("x-ms-client-request-id", request.headers.get("x-ms-client-request-id"))
            response.set("x-ms-version", request.headers.get("x-ms-version"))
            if request.method == "HEAD":
                response.stop = response.start
        return response

    def _send(self, response: Response, exchange: Exchange | None, actions: tuple[Action, ...]) -> None:
        link = self._link
        pieces = response.content.slices(response.start, response.stop)
        for action in actions:
            assert exchange is not None
            pieces = action.on_body(exchange, pieces)
        if exchange is None:
            link.send(response.head() + b"".join(pieces))
            return
        record = exchange.record
        record.status = response.status
        record.error_code = response.headers.get("x-ms-error-code", "")
        record.answered = time.monotonic()
        if response.stop - response.start <= _JOIN_LIMIT and not actions:
            body = b"".join(pieces)
            record.bytes_sent = len(body)
            link.send(response.head() + body)
            return
        link.send(response.head())
        for piece in pieces:
            # Counted before it is sent: a client that has the bytes must find them counted.
            record.bytes_sent += len(piece)
            link.send(piece)
