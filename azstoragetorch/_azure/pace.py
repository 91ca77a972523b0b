"""How many requests a second an account is sent while the service refuses some of them.

*Operations*: ``turn`` waits until a request may be sent; ``refused`` reports the answer 503 or 429 to one.

*Goals*: many processes that know nothing of each other share what the service admits, with few requests refused and
none overtaken for ever; nothing is spent while nothing is refused.

*Plan*: a rate, not a number of requests in flight: where an answer takes a millisecond, even one at a time in each of
four processes is thousands a second. Time is cut into intervals, and one in which more than a few requests were refused
tells what the service admits: what was sent less what was refused. The rate falls a little below that and comes back
along a cubic, as the window of TCP CUBIC does (RFC 9438): fast at first, slowly near what was admitted, then faster and
faster, until it is no limit any more. Where nearly all were refused there is nothing to learn but that the service is
away: a few requests a second ask on, and once they are admitted the rate doubles up to what was admitted before. Where
falling did not help, the refusals have another cause than this rate, and it stays.

*Warning*: one loop's. Everything is measured by the time of that loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math

__all__ = ["Pace"]

_logger = logging.getLogger("azstoragetorch.pace")

# How these were found: clients of this module against a token bucket, in virtual time as in tests/unit/test_pace.py.
# Four clients and 200 requests a second for all, after 5 s: 99 to 100 % of these are used, 3 to 5 % of the requests are
# refused. With eight clients 7 to 16 %, with sixteen up to 19 %: their shares are so small that one refusal is many.
# A consumer that takes from four clients in turn gets 84 to 100 %, 95 % on average. Back from an outage: in 6 s.
INTERVAL = 0.5
"""Seconds between two looks at least. A service that is asked for too much refuses within milliseconds."""
LONGEST = 2.0
"""Seconds between two looks at most."""
ENOUGH = 16
"""Requests after which an interval need not last longer: one refusal of five would say little."""
TOLERATED = 0.05
"""Part of the requests of an interval that may be refused without the rate falling; one may always."""
REMAINS = 0.9
"""The rate falls to this part of what was admitted."""
BACK_AFTER = 2.0
"""Seconds after which the rate is again what was admitted."""
MORE = 5.0
"""Requests a second that the rate rises every second at least, whatever it is: this makes unequal shares equal."""
OUTAGE = 0.9
"""Part of the requests from which on their being refused tells nothing of what the service admits."""
HELPED = 0.5
"""Falling has helped when the refused part is below this part of what it was."""
IN_VAIN = 2
"""Times in a row that the rate falls without that. With 1, clients that start one after the other take the starts of
the others for another cause, and half of all requests are refused for good."""
WORSE = 2.0
"""It falls again when the refused part is this many times what it was then."""
FLOOR = 4.0
"""Requests a second that are always sent, to learn that the service is back."""
FREE_AFTER = 15.0
"""Seconds after the rate fell, at which there is no limit any more; it would be 28 times what was admitted."""
HIGHEST = 4096.0
"""Requests a second that are no limit. A request costs 0.3 ms of CPU, so no loop reaches them."""
LATE = 0.05
"""Seconds of turns that a loop that was busy may catch up with."""


class Pace:
    """The rate of one account on one event loop.

    :param name: of the account, for the log.
    """

    def __init__(self, name: str) -> None:
        self.limited = False
        """Whether a request has to wait for its turn; while it is not set, nothing else here costs anything."""
        self._name = name
        self._rate = math.inf
        self._admitted = 0.0
        """Requests a second that the service admitted when the rate fell last; infinite when that is not known."""
        self._fell = 0.0
        self._part = 0.0
        """Refused part of the interval before this one, 0.0 if nothing was wrong with it."""
        self._in_vain = 0
        self._since = 0.0
        self._sent = self._refused = 0
        """In this interval."""
        self._delay = 0.0
        """Seconds that the last refusal took."""
        self._last = self._next = 0.0
        """Time of the last turn and of the next."""
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float:
        """Requests a second that may be sent; infinite without a limit."""
        return self._rate

    async def turn(self, end: float) -> None:
        """Return when a request may be sent.

        Those that have to end first go first, so that a request that is repeated is not overtaken by new ones.

        :param end: time of the loop at which the request's deadline passes; the caller watches it.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._look(now)
        if not self._waiting and self._next <= now:
            self._grant(now)
            return
        waiter: asyncio.Future[None] = loop.create_future()
        entry = (end, next(self._order), waiter)
        heapq.heappush(self._waiting, entry)
        self._arm(loop)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if entry in self._waiting:
                    self._waiting.remove(entry)
                    heapq.heapify(self._waiting)
            else:  # its turn came at the same moment: the next one takes it
                self._sent = max(0, self._sent - 1)
                self._next -= 1 / self._rate
            self._arm(loop)
            raise

    def refused(self, sent: float) -> None:
        """Note that the service refused a request because there were too many.

        :param sent: time of the loop at which it was sent. What was sent before the rate fell last says nothing of the
            rate since.
        """
        now = asyncio.get_running_loop().time()
        self._delay = min(now - sent, LONGEST)
        if not self.limited:
            # Nothing was counted so far. The first interval has no limit: it tells what the service admits.
            self.limited = True
            self._since = self._fell = self._next = self._last = now
            self._sent = self._refused = 0
        elif sent >= self._fell:
            self._refused += 1
            self._look(now)

    def _look(self, now: float) -> None:
        """End the interval if it is time to, and draw the conclusion."""
        since, sent, elapsed = self._since, self._sent, now - self._since
        if not self.limited or elapsed < INTERVAL + self._delay:
            return
        # What was sent last is not answered yet; to take it for admitted would make every outage look like a limit.
        answered = sent * (1 - self._delay / elapsed)
        refused = min(self._refused, answered)
        recovering = self._rate < self._admitted * REMAINS
        if sent < ENOUGH and elapsed < LONGEST and not recovering and refused <= answered * OUTAGE:
            return
        self._since, self._sent, self._refused = now, 0, 0
        if refused <= max(1, answered * TOLERATED) and refused <= answered / 2:
            if sent >= ENOUGH:
                self._part, self._in_vain = 0.0, 0
            self._rise(now)
            return
        part = refused / answered
        # When the service comes back in the middle of an interval, the few that were admitted say nothing either.
        away = part >= OUTAGE or (recovering and sent < ENOUGH)
        if away or self._part == 0 or part > self._part * WORSE:
            self._in_vain = 0
        elif self._in_vain < IN_VAIN:
            self._in_vain = 0 if part <= self._part * HELPED else self._in_vain + 1
        if self._in_vain < IN_VAIN:
            self._part = part
            # The time after the last turn does not count: who asks for nothing is not refused.
            self._fall((1 - part) * sent / max(INTERVAL, self._last - since), away)
        self._fell = now
        text = "%s: %.0f %% of %d requests were refused; from now on at most %.1f a second"
        _logger.debug(text, self._name, part * 100, sent, self._rate)

    def _fall(self, admitted: float, away: bool) -> None:
        if not away:
            self._admitted = admitted
        elif self._rate == math.inf:
            self._admitted = math.inf
        self._rate = max(FLOOR, 0.0 if away else admitted * REMAINS)

    def _rise(self, now: float) -> None:
        fallen = self._admitted * REMAINS
        since = now - self._fell
        if self._rate < fallen:  # the service was away
            self._rate = min(self._rate * 2, fallen)
            self._fell = now
        else:
            cubic = self._admitted * (1 - (1 - REMAINS) * (1 - since / BACK_AFTER) ** 3)
            self._rate = max(self._rate, cubic, fallen + MORE * since)
        if self._rate >= HIGHEST or since >= FREE_AFTER:
            self._rate = math.inf
            self.limited = False
            _logger.debug("%s: there is no limit of requests any more", self._name)

    def _grant(self, now: float) -> None:
        self._next = max(self._next, now - LATE) + 1 / self._rate
        self._sent += 1
        self._last = now

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None and not self._waiting:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and self._waiting:
            self._timer = loop.call_at(self._next, self._release)

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        self._look(now)
        while self._waiting and (self._next <= now or not self.limited):
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(None)
                self._grant(now)
        self._arm(loop)
