"""List a whole container, sorted and each name once, whatever the service sends.

The pages come by several ranges of names at a time where the service can begin in the middle, see
`azstoragetorch._transfer.name_ranges`; here they are put together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from azstoragetorch._transfer.name_ranges import NameRange, RangedListing, count_before
from azstoragetorch._transfer.remote import RemoteContainer
from azstoragetorch._transfer.threads import in_thread
from azstoragetorch._values.chunk import TableChunk

__all__ = ["Collected", "collect"]

_logger = logging.getLogger("azstoragetorch.listing")


@dataclass(slots=True)
class Collected:
    """A whole listing."""

    chunks: list[TableChunk]
    """Sorted by name (its code points), each name once."""
    archived: list[str]
    """Names of blobs that cannot be read before they are rehydrated, sorted; not among ``chunks``."""
    directories: int
    """How many placeholders of directories were left out."""


async def collect(
    container: RemoteContainer,
    prefix: str | None,
    *,
    deadline: float,
    ranges: int = 8,
    page_size: int = 5000,
    listed: Callable[[int], object] = lambda count: None,
) -> Collected:
    """List all blobs whose names start with ``prefix``.

    :param deadline: seconds that what was listed waits for a thread in which to be sorted.
    :param ranges: requests at a time at most.
    :param listed: called after each page with the number of blobs it brought. Those of ranges that had to be thrown
        away count twice.
    :raises AZStorageTorchError: as `RemoteContainer.pages`; nothing is under way any more then.
    """
    since = time.monotonic()
    async with aclosing(container.pages(prefix, page_size=page_size)) as pages:
        listing = RangedListing(container, prefix or "", page_size, ranges, listed, NameRange("", pages))
        await listing.run()
    # To sort what came out of order, or to cut pages, takes longer than the loop may wait.
    found = await in_thread(partial(_joined, listing.ranges), doing=f"listing {container.name}", deadline=deadline)
    if _logger.isEnabledFor(logging.DEBUG):
        blobs, ranges = sum(map(len, found.chunks)), len(listing.ranges)
        seconds = time.monotonic() - since
        _logger.debug("listed %s: %d blobs in %.3f s, ranges %d", container.name, blobs, seconds, ranges)
    return found


def _joined(ranges: list[NameRange]) -> Collected:
    """Put the pages of all ranges together, without what is behind the end of its range."""
    chunks: list[TableChunk] = []
    archived: set[str] = set()
    directories: set[str] = set()
    last, ordered = "", True
    for part in ranges:
        for page in part.got:
            blobs = page.blobs
            stop = len(blobs) if part.stop is None else count_before(blobs, part.stop)
            if stop < len(blobs):
                blobs = blobs.part(0, stop)
                blobs.seal()
            archived.update(page.archived)
            directories.update(page.directories)
            if blobs:
                ordered = ordered and page.ordered and last < blobs.name(0)
                last = blobs.name(len(blobs) - 1)
                chunks.append(blobs)
        part.got.clear()  # whoever still knows of the ranges, such as the thread, must not keep a million names
    return Collected(chunks if ordered else [_sorted(chunks)], sorted(archived), len(directories))


def _sorted(chunks: list[TableChunk]) -> TableChunk:
    """Sort blobs by name and leave out repetitions.

    Needed where a hierarchical namespace sorts ``/`` before all other characters, or the service sends a blob twice.
    """
    made = TableChunk()
    previous = ""
    for name, number, i in sorted((chunk.name(i), n, i) for n, chunk in enumerate(chunks) for i in range(len(chunk))):
        if name != previous:
            blob, previous = chunks[number][i], name
            modified = None if blob.last_modified is None else int(blob.last_modified.timestamp())
            made.append(name, blob.size, blob.etag, modified)
    return made
