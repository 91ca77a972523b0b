"""What the server saw: one record per request, and how many were under way at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.blobserver.wire import Request

PATIENCE = 25.0
"""Seconds to wait for what a client must do. It may first have to import the SDK (1 s alone on a core, many times that
on a busy machine); a client that never does it should be told before the 40 s that most tests have are over."""


@dataclass(slots=True)
class Record:
    """One request as the server saw it.

    Times are ``time.monotonic()``: ``started`` when the head was read, ``answered`` just before the head of the
    answer was sent, ``ended`` when the server was done with it. They are 0.0 until then. ``status`` is 0 while
    there is no answer. ``bytes_sent`` counts body bytes given to the socket.
    """

    method: str
    path: str  # as sent, still percent-encoded
    query: dict[str, str]  # decoded
    raw_query: str
    headers: dict[str, str]  # names in lower case
    body_length: int
    connection: int
    status: int = 0
    error_code: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    fault: str = ""
    started: float = field(default_factory=time.monotonic)
    answered: float = 0.0
    ended: float = 0.0

    @classmethod
    def of(cls, request: Request, connection: int) -> Record:
        """Start the record of a request on the connection of this number."""
        return cls(
            method=request.method,
            path=request.raw_path,
            query=request.query,
            raw_query=request.raw_query,
            headers=request.headers,
            body_length=request.length,
            connection=connection,
        )

    @property
    def comp(self) -> str:
        return self.query.get("comp", "")

    @property
    def range(self) -> str | None:
        return self.headers.get("x-ms-range", self.headers.get("range"))


class RequestLog:
    """All records since the last `clear`, in the order in which the requests arrived."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._records: list[Record] = []
        self._active = 0
        self.peak_requests = 0
        self._open = 0
        self.peak_connections = 0
        self.accepted = 0

    @contextmanager
    def request(self, request: Request, connection: int) -> Iterator[Record]:
        """Record a request; it is under way until the block ends."""
        record = Record.of(request, connection)
        with self._condition:
            self._records.append(record)
            self._active += 1
            self.peak_requests = max(self.peak_requests, self._active)
        try:
            yield record
        finally:
            with self._condition:
                record.ended = time.monotonic()
                self._active -= 1
                self._condition.notify_all()

    @contextmanager
    def connection(self) -> Iterator[int]:
        """Count a connection as open until the block ends; its number starts at 1."""
        with self._condition:
            self.accepted += 1
            self._open += 1
            self.peak_connections = max(self.peak_connections, self._open)
            number = self.accepted
        try:
            yield number
        finally:
            with self._condition:
                self._open -= 1
                self._condition.notify_all()

    @property
    def connections(self) -> int:
        return self._open

    @property
    def active(self) -> int:
        return self._active

    def wait(self, *, active: int | None = None, connections: int | None = None, timeout: float = PATIENCE) -> None:
        """Wait until no more than this many requests are under way and connections open.

        :raises TimeoutError: if that is not so after ``timeout`` seconds.
        """

        def reached() -> bool:
            return (active is None or self._active <= active) and (connections is None or self._open <= connections)

        with self._condition:
            if not self._condition.wait_for(reached, timeout):
                raise TimeoutError(f"{self._active} requests under way, {self._open} connections open")

    def records(self) -> list[Record]:
        with self._condition:
            return list(self._records)

    def clear(self) -> None:
        """Forget the records and restart the peaks from what is under way now."""
        with self._condition:
            self._records.clear()
            self.peak_requests = self._active
            self.peak_connections = self._open
