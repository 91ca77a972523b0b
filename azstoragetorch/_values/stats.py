"""Counters of what a file, a dataset or the process did on the network.

*Operations*: ``TransferStats`` is what one file or dataset counts. ``begin_request`` and ``end_request`` surround
every request, the ``count_...`` say what came of it. Each also counts for the process, whose totals ``process_stats``
returns.

*Plan*: plain numbers, changed by the thread of an event loop and read by any. A changed number is one statement without
a call in it, between whose bytecodes the interpreter changes no thread, so that two loops of one process lose no count.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

__all__ = [
    "DatasetStats",
    "TransferStats",
    "begin_request",
    "count_bytes",
    "count_retry",
    "count_throttled",
    "count_wait",
    "end_request",
    "in_words",
    "process_stats",
]


@dataclass(slots=True)
class TransferStats:
    """What one file has sent and received, or all of a process together.

    All but ``in_flight`` only grow. They are updated on the event loop and cost 0.2 us a request; a reader in another
    thread sees each of them at a recent value.

    :ivar requests: requests made of the service, repeated ones included. What the HTTP client repeats by itself, once
        on a connection that was reset and once after a 401, counts as one.
    :ivar bytes: bytes of blob content received, or sent and accepted, without headers; bytes received again count
        again.
    :ivar retries: requests sent again after a failure.
    :ivar throttled: answers 503 and 429: the service was asked for more than it admits, or was not well.
    :ivar waited: seconds that requests spent between two attempts, and waiting for their turn while the account is
        throttled. A sum over requests: 32 that wait for a second together have waited 32 seconds.
    :ivar in_flight: requests under way now.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    throttled: int = 0
    waited: float = 0.0
    in_flight: int = 0


@dataclass(slots=True)
class DatasetStats(TransferStats):
    """What one dataset has read in this process. DataLoader workers, forked or spawned, count from zero.

    What is counted of requests is what was asked for, for samples that nobody took, too. All of
    :class:`TransferStats`, and:

    :ivar samples: samples handed out.
    :ivar skipped: blobs left out because of an error, with ``on_error="skip"``.
    """

    samples: int = 0
    skipped: int = 0


for _public in (TransferStats, DatasetStats):
    _public.__module__ = "azstoragetorch"  # where users find them: in pickles, and in `help`
del _public

_process = TransferStats()


def process_stats() -> TransferStats:
    """Return what this process has sent and received, on all event loops: every file, dataset and listing.

    A copy, which does not change any more. A forked child starts at zero, and so does every DataLoader worker: what the
    workers of a loader read is counted there, and nowhere else.
    """
    return replace(_process)


def begin_request(stats: TransferStats) -> TransferStats:
    """Count a request that is sent now; return what ``end_request`` has to be told when it is over."""
    process = _process
    stats.requests += 1
    stats.in_flight += 1
    process.requests += 1
    process.in_flight += 1
    return process


def end_request(stats: TransferStats, process: TransferStats) -> None:
    """Count a request as over, whatever became of it."""
    stats.in_flight -= 1
    process.in_flight -= 1


def count_bytes(stats: TransferStats, size: int) -> None:
    """Count ``size`` bytes of content that were received, or sent and accepted."""
    stats.bytes += size
    _process.bytes += size


def count_retry(stats: TransferStats) -> None:
    """Count that a request is going to be sent again."""
    stats.retries += 1
    _process.retries += 1


def count_throttled(stats: TransferStats) -> None:
    """Count an answer that says there were too many requests."""
    stats.throttled += 1
    _process.throttled += 1


def count_wait(stats: TransferStats, seconds: float) -> None:
    """Count time in which a request waited and was not under way."""
    stats.waited += seconds
    _process.waited += seconds


def in_words(stats: TransferStats) -> str:
    """Say for the log what was counted."""
    requests = f"requests {stats.requests}, repeated {stats.retries}, throttled {stats.throttled}"
    return f"{requests}, waited {stats.waited:.3f} s, bytes {stats.bytes}"


def _forget_parent() -> None:
    global _process
    # Another object: requests of the parent that are collected in the child must not end in the child's totals.
    _process = TransferStats()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
