"""The one retry policy, around every request.

Nothing below it retries: the SDK's own policy, which sleeps 15 to 21 s first and ignores Retry-After, is turned off.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from azstoragetorch._azure.errors import Failure, Kind, classify
from azstoragetorch._azure.pace import Pace
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import (
    TransferStats,
    begin_request,
    count_retry,
    count_throttled,
    count_wait,
    end_request,
)
from azstoragetorch.exceptions import BlobTimeoutError

__all__ = ["persist"]

_logger = logging.getLogger("azstoragetorch.retry")
_T = TypeVar("_T")

FIRST_DELAY = 0.1
"""Seconds: five round trips within a region. Delays double up to MAX_DELAY and are drawn evenly from zero to that
("full jitter"), so that clients that failed together do not return together."""
MAX_DELAY = 8.0
PACED_DELAY = 1.0
"""The same after an answer that says there were too many requests: how many are sent is the pace's business then, and
a long wait of one only keeps those that wait for it from their turn."""
MAX_RETRY_AFTER = 30.0
"""Longest wait the service may ask for; its throttling windows last seconds."""
BROKEN_ATTEMPTS = 8
"""Broken answers in a row without one new byte, until it is not the network's fault any more."""
REFUSED_FOR = 9.0
"""Seconds of refused connections to sit out: a restarting proxy or a name server that lost a packet. With the attempts
themselves a wrong port is an error within 10 s."""
THROTTLED = frozenset({429, 503})
"""Answers that mean "fewer requests". 500 and 408 may come of overload, too, and of much else."""

_SILENCE = Failure(Kind.BUSY, BlobTimeoutError, "no complete answer")
_NO_TURN = Failure(Kind.BUSY, BlobTimeoutError, "the service refuses requests for this account, and there was no turn")


async def persist(
    attempt: Callable[[], Awaitable[_T]],
    *,
    doing: str,
    options: TransferOptions,
    stats: TransferStats,
    pace: Pace,
    progress: Callable[[], int] = lambda: 0,
    failed: Callable[[Failure], None] | None = None,
    explain: Callable[[Failure], Awaitable[Failure]] | None = None,
) -> _T:
    """Call ``attempt`` until it succeeds or asking again cannot help.

    Every call of it is one request, and counted here.

    :param doing: start of every message, such as ``"reading https://..."``.
    :param pace: of the account; a call waits for its turn.
    :param progress: bytes that arrived so far; new ones reset the count of broken answers and the delay.
    :param failed: told of every failed attempt.
    :param explain: asked for the words of a failure for which asking again is no help.
    :raises AZStorageTorchError: naming what happened last, at most ``options.deadline`` seconds from now.
    """
    handled = sys.exception()
    clock = asyncio.get_running_loop().time
    start = clock()
    end = start + options.deadline
    attempts = broken = fruitless = 0
    seen = progress()
    refused_since: float | None = None
    last: Failure | None = None
    while True:
        failure: Failure | None = None
        sent: float | None = None
        timeout = asyncio.timeout_at(end)
        try:
            async with timeout:
                if pace.limited:
                    await _waited(pace.turn(start), stats)
                attempts += 1
                sent = clock()
                process = begin_request(stats)
                try:
                    return await attempt()
                finally:
                    end_request(stats, process)
        except Exception as error:
            if not timeout.expired():
                failure = classify(error, options.idle_timeout)
                if failure is None:
                    raise
            _forget_frames(error, handled)
        # From here on outside the except block: what is raised must not drag the SDK's error along as its context.
        after = f" (gave up after {attempts} attempt{'s' if attempts != 1 else ''} in {clock() - start:.1f} s)"
        if sent is not None and failed is not None:
            failed(failure or _SILENCE)
        if failure is None:
            silence = _NO_TURN if sent is None else _SILENCE
            last = last or silence
            raise last.error(doing, f"; the deadline of {options.deadline:g} s passed{after}{_advice(last)}")
        longest = MAX_DELAY
        if failure.facts.get("status_code") in THROTTLED:
            longest = PACED_DELAY
            count_throttled(stats)
            pace.refused(start if sent is None else sent)
        if failure.kind is Kind.FINAL:
            raise (await explain(failure) if explain is not None else failure).error(doing)
        if progress() > seen:
            seen, broken, fruitless, refused_since = progress(), 0, 0, None
        broken += failure.kind is Kind.BROKEN
        refused_since = (refused_since or clock()) if failure.kind is Kind.REFUSED else None
        if broken >= BROKEN_ATTEMPTS:
            raise failure.error(doing, after)
        delay = random.uniform(0, min(longest, FIRST_DELAY * 2 ** min(fruitless, 16)))
        fruitless += 1
        if failure.retry_after is not None:
            delay = min(failure.retry_after, MAX_RETRY_AFTER) + delay / 4
        latest = end
        if refused_since is not None:
            delay = min(delay, 1.0)
            latest = min(end, refused_since + REFUSED_FOR)
        # An attempt with less time than that would be cut off, and what the service does with a write that was cut off
        # nobody knows: better the refusals it has given so far than that doubt.
        if clock() + delay + FIRST_DELAY >= latest:
            raise failure.error(doing, f"{after}{_advice(failure)}")
        last = failure
        count_retry(stats)
        _logger.debug("%s: %s; asking again in %.2f s", doing, failure.text, delay)
        await _waited(asyncio.sleep(delay), stats)


def _forget_frames(error: BaseException, handled: BaseException | None) -> None:
    """Take the tracebacks out of an error that nobody will see.

    aiohttp keeps the error with the answer that it broke, and frames in the traceback hold the answer, and the memory
    it was read into: a cycle that would keep a sample, or a buffer, until the next garbage collection.

    :param handled: what the caller is handling, which is the context of what is raised meanwhile, and not ours.
    """
    link: BaseException | None = error
    while link is not None and link is not handled and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def _advice(failure: Failure) -> str:
    """Return what to do when it never passed, as the end of a message."""
    if failure is not _NO_TURN and failure.facts.get("status_code") not in THROTTLED:
        return ""
    return "; raise options.deadline, or ask for less at a time: fewer workers, a lower options.in_flight"


async def _waited(wait: Awaitable[None], stats: TransferStats) -> None:
    """Wait, and count the time."""
    clock = asyncio.get_running_loop().time
    since = clock()
    try:
        await wait
    finally:
        count_wait(stats, clock() - since)
