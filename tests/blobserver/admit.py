"""A service that admits so many requests a second, and refuses the rest."""

from __future__ import annotations

import threading
import time

from tests.blobserver.faults import Action
from tests.blobserver.link import Exchange
from tests.blobserver.wire import Response, ServiceError, error_response


class Admit(Action):
    """Perform at most ``rate`` requests a second and answer the others 503 ``ServerBusy``; for a rule of any ``times``.

    A token bucket, as services have: what was not used is kept, up to ``burst`` requests. One action counts all
    requests that its rule takes, of all clients.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def on_request(self, exchange: Exchange) -> Response | None:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return None
        return error_response(ServiceError(503, "ServerBusy"), "00000000-0000-0000-0000-000000000000")
