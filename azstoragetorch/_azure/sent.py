"""Whether a write that failed may have happened all the same, or may happen yet.

An answer of the service settles it. Without one, the request may have been applied (its answer was lost) as soon as a
connection began to take it; and where it was sent whole and nobody let go of it, the service may come to it later.
A connection that broke was let go of by somebody, so nothing is expected of it after the blob was looked at.
"""

from __future__ import annotations

from typing import Any

from azstoragetorch._azure.body import Slices
from azstoragetorch._azure.errors import Failure

__all__ = ["Sent"]


class Sent:
    """Remembers what became of the requests of one write."""

    def __init__(self) -> None:
        self.unanswered = False
        """Whether one may have succeeded without its answer arriving."""
        self.pending = False
        """Whether one was sent whole and nobody has let go of it, so that the service may apply it at any time."""
        self._body: Slices | None = None

    def follow(self, request: Any) -> None:
        """Take note of a request that the SDK is about to send, and of how much of it is taken."""
        content = request.http_request.data
        if not isinstance(content, bytes):
            raise TypeError(f"the SDK sends {type(content).__name__} instead of bytes")
        self._body = request.http_request.data = Slices(memoryview(content))

    def note(self, failure: Failure) -> None:
        """Take note of how it ended."""
        body, self._body = self._body, None
        if body is None or not body.begun:
            return  # the service has not seen it
        # On a connection that was used and is reset, the HTTP client asks once more by itself. The answer is to the
        # second request then, and if there was no connection for that, the first was sent all the same.
        repeated = failure.unconnected or body.begun > 1
        self.unanswered = self.unanswered or failure.ambiguous or repeated
        self.pending = self.pending or (body.whole and failure.silent)
