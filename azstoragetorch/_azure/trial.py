"""Whether an account refuses requests because it is sent too many: evidence for `azstoragetorch._azure.pace`.

A `Trial` compares the refused part before the rate fell with that well below. Where it is in vain, a `Hold` says how
long, and up to which refused part, the rate need not fall again.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Hold", "Trial"]

LOW = 0.75
"""Part of what was admitted when the rate fell first, below which requests tell whether falling helps."""
WORTH = 100
"""Requests that tell whether it has, ..."""
WORTH_REFUSED = 30
"""... if as many of them were refused as before: of fewer, half as many may be chance."""
HELPED = 0.7
"""Falling has helped when the refused part is below this part of what it was."""
MISLEADING = 0.4
"""Refused part from which on the rate is the reason all the same: everybody falls then, not only this client."""
NOTICED = 60.0
"""Requests a second from which on the service notices that a client falls. Below, others take what it leaves."""
WORSE = 2.0
"""A rate that is held falls again when the refused part is this many times what it was before."""


@dataclass(slots=True)
class Trial:
    """What is learned since the rate fell first: whether that helps."""

    admitted: float
    """Requests a second that the service admitted when the rate fell first, ..."""
    asked: float
    """... and those that were sent."""
    sent: float
    """Requests at more than LOW of that, and those of them that were refused."""
    refused: float
    tried: float = 0.0
    """Requests at less, and those of them that were refused."""
    vain: float = 0.0

    def note(self, rate: float, sent: float, refused: float) -> None:
        if rate < self.admitted * LOW:
            self.tried += sent
            self.vain += refused
        else:
            self.sent += sent
            self.refused += refused

    @property
    def over(self) -> bool:
        """Whether these are enough to tell."""
        return self.tried >= WORTH and self.tried * self.refused >= WORTH_REFUSED * self.sent

    @property
    def in_vain(self) -> bool:
        """Whether half as many requests had as many of them refused, so that the rate is not the reason."""
        before, found = self.refused / self.sent, self.vain / self.tried
        return self.asked > NOTICED and before * HELPED < found and max(before, found) < MISLEADING


@dataclass(slots=True)
class Hold:
    """A rate that does not fall, because falling did not help."""

    until: float
    part: float
    """Refused part that it puts up with."""
    sent: float = 0.0
    """Requests of late, and those of them that were refused."""
    refused: float = 0.0

    def note(self, sent: float, refused: float) -> None:
        if self.sent > 2 * WORTH:
            self.sent, self.refused = self.sent / 2, self.refused / 2
        self.sent += sent
        self.refused += refused

    def stands(self, now: float) -> bool:
        return now < self.until and self.refused <= self.sent * self.part * WORSE + WORTH_REFUSED
