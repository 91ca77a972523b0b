"""Where to cut a range of blob names, knowing only some of them.

Names are read as fractions: their characters are digits, the digits are the characters seen in names so far. Between
``train/000417.jpg`` and ``train/9`` lies ``train/4...`` then, and not some control character that no name starts with.
"""

from __future__ import annotations

from bisect import bisect_right

__all__ = ["Alphabet"]

DEPTH = 32
"""Characters that count, from where two names differ: enough for dates and hashes, and 20 us to compute with."""

PRECISION = 3
"""Characters of a cut beyond what it shares with the name before it: a thousandth of the range."""


class Alphabet:
    """The characters of the names of one listing, and arithmetic with such names.

    :param prefix: what all names start with.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._seen: set[str] = set()
        self._digits: list[str] = []

    def learn(self, *names: str) -> None:
        """Take in the characters of some names."""
        new = set().union(*names) - self._seen
        if new:
            self._seen |= new
            self._digits = sorted(self._seen)

    def pages_left(self, first: str, last: str, at: str, stop: str | None) -> float:
        """Guess how many pages like the one from ``first`` to ``last`` lie between ``at`` and ``stop``.

        :param stop: exclusive; ``None`` is the end of all names.
        """
        skip, page = self._scale(first, last, at, stop)
        # A character that was not seen yet counts as the one before it, so `stop` may look less than it is.
        return max(0, self._number(stop, skip) - self._number(at, skip)) / page

    def cut(self, first: str, last: str, at: str, stop: str | None, pages: float) -> str | None:
        """Find a name that is about so many pages behind ``at``.

        :return: more than ``at`` and less than ``stop``, or ``None`` if there is no such name of known characters.
        """
        skip, page = self._scale(first, last, at, stop)
        number = min(self._number(at, skip) + int(page * pages), self._number(stop, skip) - 1)
        digits: list[int] = []
        for _ in range(DEPTH):
            number, digit = divmod(number, len(self._digits) + 1)
            digits.append(digit)
        name, beyond = at[:skip], 0
        for digit in reversed(digits):
            name += self._digits[max(digit, 1) - 1]  # nothing ends in the middle of a name
            if stop is not None and name >= stop:
                return None
            beyond += name > at
            if beyond == PRECISION:
                break
        return name if beyond else None

    def _scale(self, first: str, last: str, at: str, stop: str | None) -> tuple[int, int]:
        """Return how many characters to leave out before names are read as numbers, and what a page is then."""
        skip = self._shared(min(first, at), stop)
        return skip, max(1, self._number(last, skip) - self._number(first, skip))

    def _shared(self, low: str, stop: str | None) -> int:
        """Count the characters that all names from ``low`` up to ``stop`` have in common."""
        if stop is None:
            return len(self._prefix)
        return next((i for i, (a, b) in enumerate(zip(low, stop, strict=False)) if a != b), min(len(low), len(stop)))

    def _number(self, name: str | None, skip: int) -> int:
        base = len(self._digits) + 1
        if name is None:
            return int(base**DEPTH)
        number = 0
        for character in name[skip : skip + DEPTH].ljust(DEPTH, "\0"):  # which is before all of them, or the least
            number = number * base + bisect_right(self._digits, character)
        return number
