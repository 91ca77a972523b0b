"""HTTP/1.1 as this server speaks it: strict about requests, explicit about answers.

A client that sends anything a proxy or the real service could read in another way gets 400 and the connection
is closed: a duplicated header or query key, a bare line feed, a folded header, an invalid percent escape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

from tests.blobserver.content import BytesContent, Content

HEAD_LIMIT = 64 * 1024  # the service refuses longer request heads too

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"/(?:[!$&-;=@-Z_a-z~\[\]|?]|%[0-9A-Fa-f]{2})*")  # printable, escaped, no fragment
_METHODS = {b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"}


class ServiceError(Exception):
    """An answer with an error status, in the form of the service.

    :param code: the value of ``x-ms-error-code`` and of ``<Code>``.
    :param close: the connection cannot be used any more, because the request was not understood.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        close: bool = False,
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message or code
        self.headers = dict(headers or {})
        self.close = close


def malformed(message: str) -> ServiceError:
    """Build the answer to a request that is not HTTP as the service wants it."""
    return ServiceError(400, "InvalidInput", message, close=True)


@dataclass(slots=True)
class Request:
    """One request. ``path`` and ``query`` are decoded, ``raw_path`` and ``raw_query`` are what was sent."""

    method: str
    raw_path: str
    raw_query: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    length: int
    body: Content = field(default_factory=BytesContent)

    @property
    def comp(self) -> str:
        return self.query.get("comp", "")

    @property
    def range_header(self) -> str | None:
        """The range asked for: ``x-ms-range`` wins over ``Range``, as in the service."""
        return self.headers.get("x-ms-range", self.headers.get("range"))

    def range(self) -> tuple[int, int | None] | None:
        """Parse the range asked for as half-open bounds, the second ``None`` when open.

        :raises ServiceError: 400 for everything but ``bytes=A-B`` and ``bytes=A-``, which is all the service takes.
        """
        value = self.range_header
        if value is None:
            return None
        match = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", value)
        if match is None:
            raise ServiceError(400, "InvalidHeaderValue", f"not a range of the service: {value}")
        start = int(match[1])
        stop = int(match[2]) + 1 if match[2] else None
        if stop is not None and stop <= start:
            raise ServiceError(400, "InvalidHeaderValue", f"the range ends before it starts: {value}")
        return start, stop


@dataclass(slots=True)
class Response:
    """One answer: the bytes ``[start, stop)`` of ``content`` under the status and headers.

    ``length`` is the Content-Length sent unless ``headers`` hold another; it differs from ``stop - start`` only for
    HEAD and for faults. ``complete`` says that another service made the answer, so that no header is missing.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=BytesContent)
    start: int = 0
    stop: int = 0
    length: int = 0
    close: bool = False
    complete: bool = False

    def set(self, name: str, value: str | None) -> None:
        """Set a header, whatever the case it has now; ``None`` removes it."""
        for known in list(self.headers):
            if known.lower() == name.lower():
                del self.headers[known]
        if value is not None:
            self.headers[name] = value

    def head(self) -> bytes:
        """Write the status line and the headers."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in self.headers.items())]
        if "Content-Length" not in self.headers and self.status not in (204, 304):
            lines.append(f"Content-Length: {self.length}")
        if self.close:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def body_response(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """Build an answer whose whole body is at hand."""
    return Response(
        status,
        {"Content-Type": content_type, **(headers or {})},
        BytesContent(body),
        0,
        len(body),
        len(body),
    )


def error_response(error: ServiceError, request_id: str) -> Response:
    """Build the XML answer of the service for an error."""
    if error.status == 304:  # has no body by the HTTP rules
        return Response(304, {"x-ms-error-code": error.code, **error.headers}, close=error.close)
    message = f"{error.message}\nRequestId:{request_id}\nTime:{formatdate(usegmt=True)}"
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{escape(error.code)}</Code>'
        f"<Message>{escape(message)}</Message></Error>"
    )
    response = body_response(error.status, body.encode(), "application/xml", {"x-ms-error-code": error.code})
    for name, value in error.headers.items():
        response.set(name, value)
    response.close = error.close
    return response


def parse_head(head: bytes) -> Request:
    """Parse a request line and its headers, without the empty line that ends them.

    :raises ServiceError: 400 or 411 with ``close`` for everything that is not exactly right.
    """
    request_line, *lines = head.split(b"\r\n")
    if b"\n" in head.replace(b"\r\n", b"") or b"\0" in head:
        raise malformed("bare line feed or NUL in the request head")
    words = request_line.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        raise malformed("the request line is not METHOD SP TARGET SP HTTP/1.1")
    method, target, _ = words
    if method not in _METHODS:
        raise ServiceError(405, "UnsupportedHttpVerb", close=True)
    if not _TARGET.fullmatch(target):
        raise malformed("the target is not in origin form with valid percent escapes")
    headers = _headers(lines)
    raw_path, _, raw_query = target.decode("ascii").partition("?")
    return Request(
        method=method.decode("ascii"),
        raw_path=raw_path,
        raw_query=raw_query,
        path=_decode(raw_path),
        query=_query(raw_query),
        headers=headers,
        length=_body_length(method, headers),
    )


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise malformed("a header line is not NAME: VALUE, or is folded")
        value = value.strip(b" \t")
        if any((byte < 32 and byte != 9) or byte == 127 for byte in value):
            raise malformed("control character in a header value")
        key = name.decode("ascii").lower()
        if key in headers:
            raise malformed(f"header sent twice: {key}")
        headers[key] = value.decode("latin-1")
    if not headers.get("host"):
        raise malformed("no Host header")
    return headers


def _body_length(method: bytes, headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ServiceError(411, "MissingContentLengthHeader", "Transfer-Encoding is not accepted", close=True)
    length = headers.get("content-length")
    if length is None:
        if method in (b"PUT", b"POST"):
            raise ServiceError(411, "MissingContentLengthHeader", close=True)
        return 0
    if not re.fullmatch(r"[0-9]{1,15}", length):
        raise malformed("Content-Length is not a number")
    return int(length)


def _decode(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("percent escapes are not UTF-8") from None


def _query(raw: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for pair in raw.split("&") if raw else ():
        name, equals, value = pair.partition("=")
        # The service reads "+" as a space, so a signature sent with a raw "+" is another signature.
        name, value = _decode(name.replace("+", " ")), _decode(value.replace("+", " "))
        if not name or not equals:
            raise malformed("a query pair is not NAME=VALUE")
        if name in query:
            raise malformed(f"query key sent twice: {name}")
        query[name] = value
    return query
