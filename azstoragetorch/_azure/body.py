"""What a request carries."""

from __future__ import annotations

from collections.abc import AsyncIterator

from azstoragetorch._values.options import KiB

__all__ = ["SLICE", "Slices"]

SLICE = 256 * KiB
"""Bytes handed to a connection at once: one TLS write, and 2.3 times cheaper than one ``bytes`` of 8 MiB."""


class Slices:
    """A body that can be sent again: each iteration yields the slices afresh, without copying.

    An async generator would be exhausted after the first attempt, and one left unfinished by a broken connection would
    have to be closed; this is neither.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self.taken = 0
        """Bytes handed to connections so far, over all iterations."""
        self.exhausted = False
        """Whether the last iteration has handed over everything, and the connection has asked for more."""
        self.begun = 0
        """Iterations: requests that a connection has begun to take. The HTTP client may ask once more by itself."""
        self.whole = False
        """Whether an iteration has handed over everything, so that it may arrive even when nobody waits any more."""

    def __aiter__(self) -> AsyncIterator[memoryview]:
        self.exhausted = False
        return _SliceIterator(self, self._content)


class _SliceIterator:
    def __init__(self, body: Slices, content: memoryview) -> None:
        self._body = body
        self._content = content
        self._sent = 0
        self._begun = False

    def __aiter__(self) -> _SliceIterator:
        return self

    async def __anext__(self) -> memoryview:
        if not self._begun:  # not where it is made: the HTTP client does that before it has a connection
            self._begun = True
            self._body.begun += 1
            self._body.whole = self._body.whole or not self._content
        if self._sent >= len(self._content):
            self._body.exhausted = True
            raise StopAsyncIteration
        part = self._content[self._sent : self._sent + SLICE]
        self._sent += len(part)
        self._body.taken += len(part)
        self._body.whole = self._body.whole or self._sent == len(self._content)
        return part
