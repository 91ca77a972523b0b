"""What can go wrong, one class each; to be combined in one rule."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from tests.blobserver.content import BytesContent, Content
from tests.blobserver.faults import Action
from tests.blobserver.link import Dropped, End, Exchange
from tests.blobserver.wire import Response, ServiceError, error_response


class Status(Action):
    """Answer with an error instead of performing the operation.

    :param code: the service's error code; empty sends none.
    :param body: replaces the XML of the service.
    :param early: answer before the request body is read, and close.
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | Content | None = None,
        early: bool = False,
    ) -> None:
        self._error = ServiceError(status, code, headers=headers)
        self._body = body
        self._early = early

    def on_head(self, exchange: Exchange) -> Response | None:
        return self._respond() if self._early else None

    def on_request(self, exchange: Exchange) -> Response | None:
        return self._respond()

    def _respond(self) -> Response:
        response = error_response(self._error, "00000000-0000-0000-0000-000000000000")
        if not self._error.code:
            response.set("x-ms-error-code", None)
        if self._body is not None:
            replacement = ReplaceBody(self._body)
            replacement.apply(response)
        return response


class Redirect(Status):
    """Answer with a redirect to another URL."""

    def __init__(self, location: str, status: int = 307) -> None:
        super().__init__(status, headers={"Location": location}, body=b"")


class Drop(Action):
    """End the connection without an answer, the request read but not performed."""

    def __init__(self, how: End = "reset") -> None:
        self._how: End = how

    def on_request(self, exchange: Exchange) -> Response | None:
        raise Dropped(self._how)


class LoseAnswer(Action):
    """Perform the operation, then end the connection without an answer."""

    def __init__(self, how: End = "reset") -> None:
        self._how: End = how

    def on_response(self, exchange: Exchange, response: Response) -> None:
        raise Dropped(self._how)


class CutUpload(Action):
    """End the connection after ``after`` bytes of the request body."""

    def __init__(self, after: int, how: End = "reset") -> None:
        self._after = after
        self._how: End = how

    def on_head(self, exchange: Exchange) -> Response | None:
        def cut() -> None:
            raise Dropped(self._how)

        exchange.upload_cut = (self._after, cut)
        return None


class StallUpload(Action):
    """Stop reading the request body after ``after`` bytes, for good."""

    def __init__(self, after: int) -> None:
        self._after = after

    def on_head(self, exchange: Exchange) -> Response | None:
        exchange.upload_cut = (self._after, exchange.link.stall)
        return None


class CutBody(Action):
    """End the connection after ``after`` bytes of the answer's body."""

    def __init__(self, after: int, how: End = "reset") -> None:
        self._after = after
        self._how: End = how

    def on_body(self, exchange: Exchange, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        yield from _first(pieces, self._after)
        raise Dropped(self._how)


class StallBody(Action):
    """Send nothing more after ``after`` bytes of the body; the connection stays open."""

    def __init__(self, after: int) -> None:
        self._after = after

    def on_body(self, exchange: Exchange, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        yield from _first(pieces, self._after)
        exchange.link.hang()


class Trickle(Action):
    """Send the body at ``rate`` bytes per second, ``size`` bytes at a time."""

    def __init__(self, rate: float, size: int = 1) -> None:
        self._rate = rate
        self._size = size

    def on_body(self, exchange: Exchange, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        for piece in pieces:
            for start in range(0, len(piece), self._size):
                bit = piece[start : start + self._size]
                exchange.link.pause(len(bit) / self._rate)
                yield bit


class Hang(Action):
    """Never answer; with ``perform`` the operation happens all the same."""

    def __init__(self, *, perform: bool = False) -> None:
        self._perform = perform

    def on_request(self, exchange: Exchange) -> Response | None:
        if not self._perform:
            exchange.link.hang()
        return None

    def on_response(self, exchange: Exchange, response: Response) -> None:
        exchange.link.hang()


class Hold(Action):
    """Keep the answer back until `release`; the operation is performed after that.

    :param body_after: keep back the rest of the answer's body after so many bytes instead.
    """

    def __init__(self, *, body_after: int | None = None) -> None:
        self._released = threading.Event()
        self._body_after = body_after

    def release(self) -> None:
        """Let all held requests go on, and all later ones pass."""
        self._released.set()

    def on_request(self, exchange: Exchange) -> Response | None:
        if self._body_after is None:
            exchange.link.hang(until=self._released)
        return None

    def on_body(self, exchange: Exchange, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        if self._body_after is None:
            yield from pieces
            return
        left = self._body_after
        for piece in pieces:
            yield piece[:left]
            if left < len(piece):
                exchange.link.hang(until=self._released)
                yield piece[left:]
            left = max(0, left - len(piece))


class Delay(Action):
    """Answer this request so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def on_request(self, exchange: Exchange) -> Response | None:
        exchange.link.pause(self._seconds)
        return None


class Call(Action):
    """Run a function before the operation is performed, or ``after`` it and before the answer."""

    def __init__(self, function: Callable[[], object], *, after: bool = False) -> None:
        self._function = function
        self._after = after

    def on_request(self, exchange: Exchange) -> Response | None:
        if not self._after:
            self._function()
        return None

    def on_response(self, exchange: Exchange, response: Response) -> None:
        if self._after:
            self._function()


class Garbage(Action):
    """Send these bytes instead of an HTTP answer, then close."""

    def __init__(self, data: bytes = b"\x16\x03\x01 this is not HTTP\r\n\r\n") -> None:
        self._data = data

    def on_request(self, exchange: Exchange) -> Response | None:
        exchange.link.send(self._data)
        raise Dropped


class Header(Action):
    """Set a header of the answer; ``None`` removes it."""

    def __init__(self, name: str, value: str | None) -> None:
        self._name = name
        self._value = value

    def on_response(self, exchange: Exchange, response: Response) -> None:
        response.set(self._name, self._value)


class ContentRange(Action):
    """Shift the bounds in Content-Range by ``shift`` bytes, or claim another ``total``; the bytes stay right."""

    def __init__(self, *, shift: int = 0, total: int | None = None) -> None:
        self._shift = shift
        self._total = total

    def on_response(self, exchange: Exchange, response: Response) -> None:
        total = response.content.size if self._total is None else self._total
        start, last = response.start + self._shift, response.stop - 1 + self._shift
        response.set("Content-Range", f"bytes {start}-{last}/{total}")


class IgnoreRange(Action):
    """Answer a ranged read with 200 and the whole blob."""

    def on_response(self, exchange: Exchange, response: Response) -> None:
        if response.status == 206:
            response.status = 200
            response.set("Content-Range", None)
            response.start, response.stop = 0, response.content.size
            response.length = response.content.size


class ShortBody(Action):
    """Send ``by`` bytes less, with a Content-Length that agrees; Content-Range still claims all of them."""

    def __init__(self, by: int = 1) -> None:
        self._by = by

    def on_response(self, exchange: Exchange, response: Response) -> None:
        response.stop = max(response.start, response.stop - self._by)
        response.length = response.stop - response.start


class FlipBit(Action):
    """Flip the lowest bit of byte ``at`` of the body."""

    def __init__(self, at: int = 0) -> None:
        self._at = at

    def on_body(self, exchange: Exchange, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        at = self._at
        for piece in pieces:
            if 0 <= at < len(piece):
                changed = bytearray(piece)
                changed[at] ^= 1
                piece = memoryview(changed)
            at -= len(piece)
            yield piece


class ReplaceBody(Action):
    """Perform the operation, then send this body under the answer's headers, with its own Content-Length."""

    def __init__(self, body: bytes | Content) -> None:
        self._content = BytesContent(body) if isinstance(body, bytes) else body

    def on_response(self, exchange: Exchange, response: Response) -> None:
        self.apply(response)

    def apply(self, response: Response) -> None:
        response.content = self._content
        response.start, response.stop, response.length = 0, self._content.size, self._content.size


def _first(pieces: Iterator[memoryview], count: int) -> Iterator[memoryview]:
    for piece in pieces:
        if len(piece) >= count:
            if count:
                yield piece[:count]
            return
        yield piece
        count -= len(piece)
