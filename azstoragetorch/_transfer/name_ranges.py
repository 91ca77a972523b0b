"""List one container by several ranges of names at a time.

*Operations*: `RangedListing.run` fetches all pages into its ``ranges``.

*Goals*: the time of a listing is that of its pages divided by the ranges, however the names are distributed; the result
is exactly that of a listing from the first page to the last, whatever the service makes of ``startFrom``.

*Plan*: the first two pages come one after the other. If more follow, what is left is a range of names, cut as long as
there is nothing to do for a request: always the range with most left, by how far it is from page to page in it. A range
ends at its bound, where the next began; one that finds nothing was only a question, and its bound a better guess.

    range 0   page 1  page 2  page 3 |seam                        the listing from the first page, to its bound
    range 1                          |first  page  page |seam     startFrom = bound of range 0

*Proof*: nothing is assumed of the order of the service. Whatever it is, range i brings the names from its first one up
to its *seam*, the first name that it leaves to the next. If the seam of every range is the first name that the next one
was sent, the ranges are one listing without gap or overlap; the last ends where the service says. If one seam does not
fit (``startFrom`` ignored, another order, a blob deleted meanwhile), the other ranges are thrown away, and range 0 goes
on to the end, alone.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from azstoragetorch._transfer.remote import RemoteContainer
from azstoragetorch._values.chunk import ListPage, TableChunk
from azstoragetorch._values.names import Alphabet
from azstoragetorch.exceptions import BlobServiceError

__all__ = ["NameRange", "RangedListing", "count_before"]

WORTH_CUTTING = 2.5
"""Pages that must be left in a range: the next is on its way already, and something has to remain for each half."""

INCREDIBLE = 256.0
"""Pages left from which on the guess is taken for what it is: names that grow by one digit leave room for ten times as
many. The cut is at the root of it then, so that a few questions find out how far the names really go."""

QUESTIONS = 32
"""Ranges that may turn out empty beyond one for each page: they are cheap, but not for nothing."""


@dataclass(eq=False, slots=True)
class NameRange:
    """Names from ``start`` up to but not including ``stop``."""

    start: str
    pages: AsyncGenerator[ListPage, None]
    stop: str | None = None
    got: list[ListPage] = field(default_factory=list)
    sample: tuple[str, str] = ("", "")
    """First and last name of a page, here or where this was cut off: how close names are."""
    first: str | None = None
    """First name that the service sent."""
    last: str | None = None
    """Last name that it sent so far."""
    seam: str | None = None
    """First name it sent that is left to the next range; ``None`` where the listing ended before."""

    @property
    def at(self) -> str:
        return self.start if self.last is None else max(self.start, self.last)


class RangedListing:
    """One listing. ``ranges`` are in the order of their names; the first begins with the listing."""

    def __init__(
        self,
        container: RemoteContainer,
        prefix: str,
        page_size: int,
        limit: int,
        listed: Callable[[int], object],
        whole: NameRange,
    ) -> None:
        self.ranges = [whole]
        self._container = container
        self._prefix = prefix
        self._page_size = page_size
        self._limit = limit
        self._listed = listed
        self._whole = whole
        self._alone = limit < 2
        self._alphabet = Alphabet(prefix)
        self._running: dict[NameRange, asyncio.Task[None]] = {}
        self._questions = QUESTIONS

    async def run(self) -> None:
        whole = self._whole
        # Two pages: how far it is from the end of one to that of the next says more than what is in one, where the
        # names between them have gaps.
        async for page in whole.pages:
            self._take(whole, page)
            if len(whole.got) == 2 and page.more:
                if await self._follow_ranges():
                    return
                self._go_alone()

    async def _follow_ranges(self) -> bool:
        """List by ranges and say whether they are all there is."""
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._running[self._whole] = group.create_task(self._follow(self._whole, group))
        except* Exception as failures:
            failure = failures.exceptions[0]
        if failure is not None:
            raise failure
        return self._is_seamless()

    async def _follow(self, part: NameRange, group: asyncio.TaskGroup) -> None:
        refused = False
        try:
            self._spread(group)
            async for page in part.pages:
                if self._take(part, page):
                    break
                self._spread(group)
        except BlobServiceError as error:
            # The service may know no startFrom, or not for this container. What else it refuses, it refuses to the
            # listing that goes on alone, too.
            refused = part is not self._whole and error.status_code is not None and error.status_code < 500
            if not refused:
                raise
        finally:
            del self._running[part]
            if part is not self._whole:
                await part.pages.aclose()
        if refused:
            self._go_alone()
        elif part.first is None and not self._alone:
            self._forget_behind(part)
        self._spread(group)

    def _take(self, part: NameRange, page: ListPage) -> bool:
        """Add a page and say whether it was the last that this range needs."""
        part.got.append(page)
        blobs = len(page.blobs)
        first, last = _first(page), _last(page)
        if first is not None and last is not None:
            if not page.ordered or first < part.start or (part.last is not None and first <= part.last):
                self._go_alone()
            if part.first is None:
                part.first = first
            before, part.last = part.last, last
            self._measure(part, before, first, last)
            self._alphabet.learn(first, last, *(page.blobs.name(i) for i in range(0, blobs, 1 + blobs // 32)))
            if part.stop is not None and last >= part.stop:
                part.seam = _first(page, part.stop)
                blobs = count_before(page.blobs, part.stop)
        self._questions += 2 * blobs > len(page.blobs)
        self._listed(blobs)
        return part.seam is not None or (self._alone and part is not self._whole)

    def _measure(self, part: NameRange, before: str | None, first: str, last: str) -> None:
        """Note how far it is from one page to the next."""
        if before is not None or not part.sample[1]:
            part.sample = before or first, last
        else:
            # The first page of a range shows no gap; one that was seen elsewhere may be wider, and is safer then.
            def pages(sample: tuple[str, str]) -> float:
                return self._alphabet.pages_left(*sample, last, part.stop)

            part.sample = min(part.sample, (first, last), key=pages)

    def _go_alone(self) -> None:
        """Throw all ranges but the first away, and let that one go on to the end."""
        self._alone = True
        self.ranges = [self._whole]
        self._whole.stop = self._whole.seam = None
        current = asyncio.current_task()
        for part, task in self._running.items():
            if part is not self._whole and task is not current:
                task.cancel()

    def _forget_behind(self, part: NameRange) -> None:
        """Give up the ranges behind one where there was nothing at all any more."""
        for other in self.ranges[self.ranges.index(part) + 1 :]:
            if other.first is None and other in self._running:
                self._running[other].cancel()
                self.ranges.remove(other)

    def _spread(self, group: asyncio.TaskGroup) -> None:
        """Cut ranges as long as there may be more requests and it is worth one."""
        # What is in a range that has not answered yet can only be guessed from the one it was cut off, once.
        known = [part for part in self._running if part.last is not None and part.seam is None]
        # The first range counts even when it has reached its bound: its next page was asked for ahead.
        others = len(self._running) - (self._whole in self._running)
        while known and not self._alone and others < self._limit - 1 and self._questions > 0:
            left = {part: self._alphabet.pages_left(*part.sample, part.at, part.stop) for part in known}
            part = max(left, key=left.__getitem__)
            if left[part] < WORTH_CUTTING:
                return
            credible = left[part] <= INCREDIBLE
            pages = (left[part] + 1) / 2 if credible else left[part] ** 0.5
            start = self._alphabet.cut(*part.sample, part.at, part.stop, pages)
            if start is None:
                known.remove(part)
                continue
            made = NameRange(
                start,
                self._container.pages(self._prefix or None, page_size=self._page_size, start_from=start),
                part.stop,
                sample=part.sample,
            )
            part.stop = start
            self.ranges.insert(self.ranges.index(part) + 1, made)
            self._running[made] = group.create_task(self._follow(made, group))
            self._questions -= 1
            others += 1
            if credible:
                known.append(made)

    def _is_seamless(self) -> bool:
        if self._alone:
            return False
        following: str | None = None
        for part in reversed(self.ranges):
            if part.seam != following:
                return False
            if part.first is not None:
                following = part.first
        return True


def _first(page: ListPage, start: str = "") -> str | None:
    """Return the first name of a page that is not before ``start``, whatever it is the name of."""
    blobs = page.blobs
    i = count_before(blobs, start)
    names = [name for name in (*page.archived, *page.directories) if name >= start]
    return min([blobs.name(i), *names] if i < len(blobs) else names, default=None)


def _last(page: ListPage) -> str | None:
    blobs = page.blobs
    names = [*page.archived[-1:], *page.directories[-1:]]
    return max([blobs.name(len(blobs) - 1), *names] if blobs else names, default=None)


def count_before(blobs: TableChunk, name: str) -> int:
    """Count the blobs before ``name``."""
    return bisect_left(range(len(blobs)), name, key=blobs.name)
