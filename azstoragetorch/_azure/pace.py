"""How many requests a second an account is sent while the service refuses some of them.

*Operations*: ``turn`` waits until a request may be sent; ``refused`` reports the answer 503 or 429 to one.

*Goals*: many processes that know nothing of each other share what the service admits, with few requests refused and
none overtaken for ever; nothing is spent while nothing is refused.

*Plan*: a rate, not a number of requests in flight: where an answer takes a millisecond, even one at a time in each of
four processes is thousands a second. Time is cut into intervals, and one in which more than a few requests were refused
tells what the service admits: what was sent less what was refused. The rate falls a little below that and comes back
along a cubic, as the window of TCP CUBIC does (RFC 9438): fast at first, slowly near what was admitted, then faster and
faster, until it is no limit any more. Where nearly all were refused there is nothing to learn but that the service is
away: a few requests a second ask on, and once they are admitted the rate doubles up to what was admitted before.
The rate falls to half of what was admitted first, and further only if that has helped. If it has not, the refusals have
another cause, such as a part of the service that is not well: the rate goes back and is held for a while.

*Warning*: one loop's. Everything is measured by the time of that loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math

from azstoragetorch._azure.trial import Hold, Trial

__all__ = ["Pace"]

_logger = logging.getLogger("azstoragetorch.pace")

# How these were found: clients of this module against a token bucket, in virtual time as in tests/unit/test_pace.py.
# Four clients and 200 requests a second for all, after 5 s: 99 to 100 % of these are used, 3 to 4 % of the requests are
# refused. With eight clients 7 to 10 %, with sixteen 15 to 35 %: their shares are so small that one refusal is many.
# A consumer that takes from four clients in turn gets 84 to 100 %, 95 % on average. Back from an outage: in 6 s.
# Where 5, 10 or 30 % are refused for a minute whatever the rate, one that asks for 100 to 150 a second keeps 96, 92 and
# 91 % of them in the mean of ten runs, and 73 % in the worst. One that asks for half as many keeps 86, 89 and 69 %, and
# in the worst 9 %. Seconds later all have their full rate again.
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
LEAST = 0.5
"""Part of what was admitted first, below which the rate falls only after it has helped."""
BEARABLE = 0.1
"""Refused part that is put up with where falling has not helped: so much of it may be due to the rate after all."""
HOLD = 60.0
"""Seconds for which a rate is held because falling did not help."""
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
        self._trial: Trial | None = None
        self._hold: Hold | None = None
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

    async def turn(self, start: float) -> None:
        """Return when a request may be sent; the caller watches its deadline.

        Those that began first go first: new requests overtake neither one that is repeated nor one whose deadline is
        longer than theirs.

        :param start: time of the loop at which the request was made, before its first attempt.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._look(now)
        if not self._anybody() and self._next <= now:
            self._grant(now)
            return
        waiter: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (start, next(self._order), waiter))
        self._arm(loop)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # its turn came at the same moment: the next one takes it
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
        if self._trial is not None:
            self._trial.note(self._rate, answered, refused)
        if self._hold is not None:
            self._hold.note(answered, refused)
        if refused <= max(1, answered * TOLERATED) and refused <= answered / 2:
            self._rise(now)
            return
        part = refused / answered
        self._fell = now
        # When the service comes back in the middle of an interval, the few that were admitted say nothing either.
        if part >= OUTAGE or (recovering and sent < ENOUGH):
            self._away()
        elif self._hold is None or not self._hold.stands(now):
            # The time after the last turn does not count: who asks for nothing is not refused.
            self._fall(now, sent / max(INTERVAL, self._last - since), answered, refused)
        text = "%s: %.0f %% of %d requests were refused; from now on at most %.1f a second"
        _logger.debug(text, self._name, part * 100, sent, self._rate)

    def _away(self) -> None:
        if self._rate == math.inf:
            self._admitted = math.inf
        self._rate = FLOOR
        self._trial = self._hold = None

    def _fall(self, now: float, asked: float, answered: float, refused: float) -> None:
        """Send less than was ``asked`` a second, of which so many were answered, and so many of those refused."""
        trial, self._hold = self._trial, None
        admitted = asked * (1 - refused / answered)
        if trial is not None and trial.over and trial.in_vain:
            found = trial.vain / trial.tried
            self._trial, self._hold = None, Hold(now + HOLD, found)
            self._admitted = self._rate = trial.asked * (1 - found) / (1 - BEARABLE)
            return
        if trial is None or trial.over:
            # That falling helped may have been chance: if the next trial is in vain, the rate goes back all the way.
            asked = asked if trial is None else max(asked, trial.asked)
            trial = self._trial = Trial(admitted, asked, answered, refused)
        self._admitted = max(admitted, trial.admitted * LEAST)
        self._rate = max(FLOOR, self._admitted * REMAINS)

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
            self._trial = self._hold = None
            _logger.debug("%s: there is no limit of requests any more", self._name)

    def _grant(self, now: float) -> None:
        self._next = max(self._next, now - LATE) + 1 / self._rate
        self._sent += 1
        self._last = now

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._anybody()
        if self._timer is not None and not waiting:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and waiting:
            self._timer = loop.call_at(self._next, self._release)

    def _anybody(self) -> bool:
        """Drop from the front those that were cancelled, and return whether anybody waits.

        Not where they are: thousands that are cancelled together would each look through all the others.
        """
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        return bool(self._waiting)

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
