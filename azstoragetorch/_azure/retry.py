"""The one retry policy, around every request.

Nothing below it retries: the SDK's own policy, which sleeps 15 to 21 s first and ignores Retry-After, is turned off.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from azstoragetorch._azure.errors import Failure, Kind, classify
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch.exceptions import BlobTimeoutError

__all__ = ["persist"]

_logger = logging.getLogger("azstoragetorch.retry")
_T = TypeVar("_T")

FIRST_DELAY = 0.1
"""Seconds: five round trips within a region. Delays double up to MAX_DELAY and are drawn evenly from zero to that
("full jitter"), so that clients that failed together do not return together."""
MAX_DELAY = 8.0
MAX_RETRY_AFTER = 30.0
"""Longest wait the service may ask for; its throttling windows last seconds."""
BROKEN_ATTEMPTS = 8
"""Broken answers in a row without one new byte, until it is not the network's fault any more."""
REFUSED_FOR = 10.0
"""Seconds of refused connections to sit out: a restarting proxy or a name server that lost a packet."""


_SILENCE = Failure(Kind.BUSY, BlobTimeoutError, "no complete answer")


async def persist(
    attempt: Callable[[], Awaitable[_T]],
    *,
    doing: str,
    options: TransferOptions,
    stats: TransferStats,
    progress: Callable[[], int] = lambda: 0,
    failed: Callable[[Failure], None] | None = None,
) -> _T:
    """Call ``attempt`` until it succeeds or asking again cannot help.

    :param doing: start of every message, such as ``"reading https://..."``.
    :param progress: bytes that arrived so far; new ones reset the count of broken answers and the delay.
    :param failed: told of every failed attempt.
    :raises AZStorageTorchError: naming what happened last, at most ``options.deadline`` seconds from now.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    end = start + options.deadline
    attempts = broken = fruitless = 0
    seen = progress()
    refused_since: float | None = None
    last: Failure | None = None
    while True:
        failure: Failure | None = None
        attempts += 1
        timeout = asyncio.timeout_at(end)
        try:
            async with timeout:
                return await attempt()
        except Exception as error:
            if not timeout.expired():
                failure = classify(error)
                if failure is None:
                    raise
        # From here on outside the except block: what is raised must not drag the SDK's error along as its context.
        after = f" (gave up after {attempts} attempt{'s' if attempts > 1 else ''} in {clock() - start:.1f} s)"
        if failed is not None:
            failed(failure or _SILENCE)
        if failure is None:
            raise (last or _SILENCE).error(doing, f"; the deadline of {options.deadline:g} s passed{after}")
        if failure.kind is Kind.FINAL:
            raise failure.error(doing)
        if progress() > seen:
            seen, broken, fruitless, refused_since = progress(), 0, 0, None
        broken += failure.kind is Kind.BROKEN
        refused_since = (refused_since or clock()) if failure.kind is Kind.REFUSED else None
        if broken >= BROKEN_ATTEMPTS or (refused_since is not None and clock() - refused_since > REFUSED_FOR):
            raise failure.error(doing, after)
        delay = random.uniform(0, min(MAX_DELAY, FIRST_DELAY * 2 ** min(fruitless, 16)))
        fruitless += 1
        if failure.retry_after is not None:
            delay = min(failure.retry_after, MAX_RETRY_AFTER) + delay / 4
        if refused_since is not None:
            delay = min(delay, 1.0)
        if clock() + delay >= end:
            raise failure.error(doing, after)
        last = failure
        stats.retries += 1
        _logger.debug("%s: %s; asking again in %.2f s", doing, failure.text, delay)
        await asyncio.sleep(delay)
