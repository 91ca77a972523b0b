"""Which requests go wrong: rules that match requests and carry the actions that spoil their answers.

Rules are asked in the order in which they were made, and the first one that has uses left takes the request.
So two rules for the same requests happen one after the other, and two actions of one rule happen together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.blobserver.link import Exchange
from tests.blobserver.log import PATIENCE
from tests.blobserver.wire import Request, Response


class Action:
    """One thing done to a request or its answer. Every hook does nothing by default; the order is that below."""

    def on_head(self, exchange: Exchange) -> Response | None:
        """The head was read, the body was not. A response is sent at once and the connection closed."""
        return None

    def on_request(self, exchange: Exchange) -> Response | None:
        """The body was read, the operation not performed. A response takes its place."""
        return None

    def on_response(self, exchange: Exchange, response: Response) -> None:
        """The operation was performed; the response may be changed before its head is sent."""

    def on_body(self, exchange: Exchange, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        """The head was sent; what this yields is sent as the body."""
        return pieces


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must be; ``None`` is anything. Made by `on`."""

    method: str | None = None
    comp: str | None = None
    blob: str | None = None
    range: tuple[int, int] | None = None
    covers: int | None = None
    when: Callable[[Request], bool] | None = None

    def __call__(self, request: Request) -> bool:
        if self.method is not None and request.method != self.method:
            return False
        if self.comp is not None and request.comp != self.comp:
            return False
        if self.blob is not None and request.path.split("/", 3)[-1] != self.blob:
            return False
        if self.range is not None or self.covers is not None:
            bounds = request.range()
            if bounds is None or (self.range is not None and bounds != self.range):
                return False
            start, stop = bounds
            if self.covers is not None and not (start <= self.covers and (stop is None or self.covers < stop)):
                return False
        return self.when is None or self.when(request)


def on(
    method: str | None = None,
    comp: str | None = None,
    *,
    blob: str | None = None,
    range: tuple[int, int] | None = None,
    covers: int | None = None,
    when: Callable[[Request], bool] | None = None,
) -> Match:
    """Describe requests.

    :param comp: the operation, such as ``block``, ``blocklist`` or ``list``; ``""`` is a request without one.
    :param blob: the decoded name of the blob, without its container.
    :param range: exactly this range asked for, half-open.
    :param covers: a range asked for that holds this byte.
    """
    return Match(method, comp, blob, range, covers, when)


class Rule:
    """A scripted fault; ``hits`` counts the requests it took."""

    def __init__(self, match: Match, actions: Sequence[Action], times: int | None, nth: int) -> None:
        self.match = match
        self.actions = tuple(actions)
        self.hits = 0
        self._times = times
        self._nth = nth
        self._seen = 0
        self._condition = threading.Condition()

    def take(self, request: Request, taken: bool) -> bool:
        """Count a request that matches, and take it unless an earlier rule has taken it."""
        if not self.match(request):
            return False
        with self._condition:
            self._seen += 1
            if taken or self._seen < self._nth or (self._times is not None and self.hits >= self._times):
                return False
            self.hits += 1
            self._condition.notify_all()
            return True

    def remove(self) -> None:
        """Take no more requests."""
        with self._condition:
            self._times = self.hits

    def wait(self, hits: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until the rule has taken so many requests.

        :raises TimeoutError: if it has not after ``timeout`` seconds.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self.hits >= hits, timeout):
                raise TimeoutError(f"the fault was hit {self.hits} times")


class Faults:
    """All rules of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, match: Match | str, *actions: Action, times: int | None = 1, nth: int = 1) -> Rule:
        """Make a rule; a text as ``match`` is a method.

        :param times: requests it takes; ``None`` is all.
        :param nth: the first matching request it takes, counted from 1 and from now.
        """
        rule = Rule(Match(match) if isinstance(match, str) else match, actions, times, nth)
        with self._lock:
            self._rules.append(rule)
        return rule

    def take(self, request: Request) -> tuple[Action, ...]:
        """Return the actions for a request, none if no rule takes it."""
        with self._lock:
            actions: tuple[Action, ...] | None = None
            for rule in self._rules:
                if rule.take(request, actions is not None):
                    actions = rule.actions
            return actions or ()

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()
