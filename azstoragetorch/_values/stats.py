"""Counters of what a file or a dataset did on the network."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DatasetStats", "TransferStats"]


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


@dataclass(slots=True)
class DatasetStats(TransferStats):
    """What one dataset has read in this process; DataLoader workers are processes of their own.

    ``requests``, ``bytes`` and ``retries`` count what was asked for, for samples that nobody took, too.
    """

    samples: int = 0
    """Samples handed out."""
    skipped: int = 0
    """Blobs left out because of an error, with ``on_error="skip"``."""
