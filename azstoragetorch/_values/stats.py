"""Counters of what a file did on the network."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TransferStats"]


@dataclass(slots=True)
class TransferStats:
    """What one file has sent and received.

    Counters only grow. They are plain integers updated on the event loop, so they cost nothing to keep and a reader
    in another thread sees each of them at a recent value.
    """

    requests: int = 0
    """Requests made of the service, repeated ones included. What the HTTP client repeats by itself, once on a
    connection that was reset and once after a 401, counts as one."""
    bytes: int = 0
    """Bytes of blob content received or sent, without headers; bytes sent again count again."""
    retries: int = 0
    """Requests sent again after a failure."""
