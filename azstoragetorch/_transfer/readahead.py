"""Serve small and sequential reads of one blob from ranges that were fetched before they were asked for.

*Operations*: ``segment(offset, want)`` returns fetched bytes around ``offset``, ``read_into`` fills a caller's memory.

*Goals*: a reader that goes forward never waits for a round trip; a reader that jumps about pays for little more than
it reads; the start and the end of a blob, where containers of tensors keep their indexes, are fetched once.

*Plan*: a *segment* is a stretch of bytes in one leased buffer, being fetched or fetched; segments never overlap. Which
bytes a miss fetches depends on the *run*, the bytes that were consumed since the reader last jumped:

    miss inside the first or last EDGE bytes      that whole edge, kept until the file closes
    run shorter than STREAM                       what is wanted, PROBE bytes at least
    run of STREAM or more                         up to the next multiple of range_size, and RAMP times the run beyond
                                                  it, at most ``readahead`` ranges

A jump out of the fetched bytes drops the segments ahead and starts a new run. A read of whole ranges that no segment
holds goes straight into the caller's memory.

*Warning*: one access at a time; the file faces serialise theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from azstoragetorch._transfer.memory import Lease, Memory
from azstoragetorch._transfer.reader import Reader, siblings
from azstoragetorch._values.options import KiB, TransferOptions

__all__ = ["GAP", "Readahead", "Segment"]

EDGE = 512 * KiB
"""Start and end of the blob. A torch.save file keeps its pickle in the first kilobytes and its central directory, about
80 bytes a tensor, in the last. With PROBE it stays below 1 MiB, the most a random 4 KiB read may cost."""

PROBE = 256 * KiB
"""Least fetched by a jump: 4 ms at 60 MB/s, a fifth of a round trip of 20 ms, so it costs little if not used."""

STREAM = 384 * KiB
"""A run this long is a stream: more than one probe, less than an edge, so that reading on past either starts it."""

RAMP = 128
"""How much is fetched ahead for every byte of the run: the first window after an edge is 64 MiB."""

GAP = 256 * KiB
"""A forward jump this short is still the same run: archives pad between the records that are read."""


class Segment:
    """Fetched bytes ``[start, stop)`` of the blob; valid while held."""

    __slots__ = ("buffer", "held", "lease", "pinned", "start", "stop", "task")

    def __init__(self, start: int, stop: int, lease: Lease, pinned: bool) -> None:
        self.start = start
        self.stop = stop
        self.lease = lease
        self.buffer = lease.buffer
        self.pinned = pinned
        self.held = 0
        self.task: asyncio.Task[int]


class Readahead:
    """Segments of one blob.

    :param reader: fetches them.
    :param memory: the account their buffers are leased from.
    :param options: ``largest_range``, ``readahead``, ``range_size`` and ``memory_budget`` are used here.
    """

    def __init__(self, reader: Reader, memory: Memory, options: TransferOptions) -> None:
        self.reader = reader
        self._memory = memory
        self._limit = options.memory_budget
        self._range_size = options.largest_range
        self._edge = min(EDGE, options.largest_range)
        self._probe = min(PROBE, options.largest_range)
        self._depth = options.readahead * options.range_size
        self._segments: list[Segment] = []
        self._lent: Segment | None = None
        self._closed = False
        memory.add_holder(self)

    async def size(self, offset: int = 0, want: int = 1) -> int:
        """Return the size of the blob in bytes, as soon as an answer names it.

        :param offset: where the caller will read next: what is asked for to learn the size starts there.
        :param want: bytes it will read.
        """
        while self.reader.version is None:
            self._pass_by(offset, 0)
            segment = await self._cover(offset, want, 0)
            segment.held += 1
            try:
                await self.reader.wait_opened(segment.task)
                if segment.task.done() and not segment.task.cancelled():
                    segment.task.result()
            finally:
                self._let_go(segment)
            if self.reader.version is None:
                if offset == 0:
                    return 0
                offset, want = 0, 1  # past the end, and the service did not say where the end is
        return self.reader.version.size

    async def segment(self, offset: int, want: int, run: int) -> Segment | None:
        """Return the fetched segment that contains byte ``offset``, or ``None`` at the end.

        It is the caller's until the next call; the one of the call before is not.

        :param want: bytes the caller would like from there; a hint, the segment may hold more or fewer.
        :param run: bytes it has consumed up to there since it last jumped.
        """
        if self._lent is not None:
            lent, self._lent = self._lent, None
            self._let_go(lent)
        self._pass_by(offset, run)
        version = self.reader.version
        if version is not None and offset < version.size:
            # The window starts beside the range that is waited for, not a round trip and a transfer later.
            self._extend((await self._cover(offset, want, run)).stop, run)
        self._lent = await self._demand(offset, want, run)
        return self._lent

    async def read_into(self, view: memoryview, offset: int, run: int) -> int:
        """Fill ``view`` from byte ``offset``.

        :param run: bytes the caller has consumed up to there since it last jumped.
        :return: bytes filled, short only at the end of the blob.
        """
        self._pass_by(offset, run)
        version = self.reader.version
        if version is None and len(view) >= self._range_size and not self._segments:
            filled = await self.reader.read_at(offset, view)
        else:
            size = await self.size(offset, len(view))
            filled = max(0, min(len(view), size - offset))
            async with siblings() as group:
                for part in self._parts(offset, offset + filled):
                    group.create_task(self._copy(view[part.start - offset : part.stop - offset], part.start, run))
        self._extend(offset + filled, run)
        return filled

    def _parts(self, start: int, stop: int) -> Iterator[range]:
        """Cut ``[start, stop)`` where segments begin and end: each part is in one segment, or in none."""
        while start < stop:
            segment = next((s for s in self._segments if s.start <= start < s.stop), None)
            if segment is not None:
                cut = segment.stop
            else:
                cut = min([stop, *(s.start for s in self._segments if s.start > start)])
            yield range(start, min(cut, stop))
            start = cut

    async def _copy(self, view: memoryview, offset: int, run: int) -> None:
        if len(view) >= self._range_size and not any(s.start <= offset < s.stop for s in self._segments):
            await self.reader.read_at(offset, view)
            return
        while len(view) and (segment := await self._demand(offset, len(view), run)) is not None:
            count = min(segment.stop - offset, len(view))
            start = offset - segment.start
            view[:count] = memoryview(segment.buffer)[start : start + count]
            self._let_go(segment)
            view, offset = view[count:], offset + count

    def spare(self) -> bool:
        """Free one fetched segment that nobody holds, the furthest ahead first (:class:`SparesMemory`)."""
        spared = max(
            (s for s in self._segments if s.held == 0 and s.task.done()),
            key=lambda s: (not s.pinned, s.start),
            default=None,
        )
        if spared is None:
            return False
        self._forget(spared)
        return True

    async def aclose(self) -> None:
        """End every request and free every segment."""
        self._closed = True
        if self._lent is not None:
            lent, self._lent = self._lent, None
            self._let_go(lent)
        tasks = [segment.task for segment in self._segments]
        for segment in list(self._segments):
            self._forget(segment)
        if tasks:
            await asyncio.wait(tasks)

    def _pass_by(self, offset: int, run: int) -> None:
        """Let go what a reader that has come to ``offset`` left behind; after a jump (no run), its window ahead too."""
        passed = [
            s for s in self._segments if not s.pinned and (s.stop <= offset or (run == 0 and not s.start <= offset))
        ]
        for segment in passed:
            self._forget(segment)

    async def _demand(self, offset: int, want: int, run: int) -> Segment | None:
        """Return the segment that contains ``offset``, fetched and held, or ``None`` at the end of the blob."""
        while True:
            version = self.reader.version
            if version is not None and offset >= version.size:
                return None
            segment = await self._cover(offset, want, run)
            segment.held += 1  # so that it is not spared between its end and our turn
            try:
                await asyncio.wait({segment.task})
                if not segment.task.cancelled():
                    segment.task.result()
                    if segment.start <= offset < segment.stop:
                        segment.held += 1
                        return segment
                    return None
            finally:
                self._let_go(segment)

    async def _cover(self, offset: int, want: int, run: int) -> Segment:
        """Return the segment of ``offset``, starting one if there is none."""
        while True:
            segment = next((s for s in self._segments if s.start <= offset < s.stop), None)
            if segment is not None:
                return segment
            start, stop, pinned = self._plan(offset, want, run)
            size = self._buffer_size(stop - start)
            lease = await self._memory.take(size, self._limit, self.reader.blob.beside(size))
            if self._plan(offset, want, run) == (start, stop, pinned) and not self._closed:
                return self._start(start, stop, lease, pinned)
            lease.free()  # what is fetched changed while we waited for memory
            if self._closed:
                raise ValueError("I/O operation on closed file.")

    def _plan(self, offset: int, want: int, run: int) -> tuple[int, int, bool]:
        """Return which bytes a miss at ``offset`` fetches, and whether they are an edge."""
        version = self.reader.version
        size = version.size if version is not None else None
        want = min(want, self._range_size)
        if offset < self._edge:
            stop = min(offset + want, self._range_size)
            start, stop, pinned = 0, max(self._edge, stop), stop <= self._edge
        elif size is not None and offset >= size - self._edge:
            start, stop, pinned = size - self._edge, size, True
        elif self._depth and run >= STREAM:
            start, stop, pinned = offset, offset - offset % self._range_size + self._range_size, False
        else:
            start, stop, pinned = offset, offset + max(want, self._probe), False
        for other in self._segments:
            if other.stop <= offset:
                start = max(start, other.stop)
            else:
                stop = min(stop, other.start)
        return start, (stop if size is None else min(stop, size)), pinned

    def _extend(self, offset: int, run: int) -> None:
        """Start fetching the window from ``offset`` on, as far as a run of this length and the memory allow."""
        version = self.reader.version
        if self._closed or version is None or run < STREAM:
            return
        end = min(version.size, offset + min(self._depth, RAMP * run))
        while offset < end:
            covering = next((s for s in self._segments if s.start <= offset < s.stop), None)
            if covering is not None:
                offset = covering.stop
                continue
            stop = min(version.size, offset - offset % self._range_size + self._range_size)
            stop = min([stop, *(s.start for s in self._segments if s.start > offset)])
            size = self._buffer_size(stop - offset)
            lease = self._memory.try_take(size, self._limit, self.reader.blob.beside(size))
            if lease is None:
                return
            self._start(offset, stop, lease, pinned=False)
            offset = stop

    def _start(self, start: int, stop: int, lease: Lease, pinned: bool) -> Segment:
        segment = Segment(start, stop, lease, pinned)
        self._segments.append(segment)
        segment.task = asyncio.create_task(self._fetch(segment))
        segment.task.add_done_callback(lambda _: self._fetched(segment))
        return segment

    async def _fetch(self, segment: Segment) -> int:
        return await self.reader.fetch(memoryview(segment.buffer)[: segment.stop - segment.start], segment.start)

    def _fetched(self, segment: Segment) -> None:
        """End the fetching of ``segment``. A callback: a task cancelled before its first step would run no code."""
        task = segment.task
        # A range fetched ahead may fail without anybody ever asking for it: its error is then nobody's, and it must
        # not answer later reads. Whoever asks next asks the service again.
        failed = task.cancelled() or task.exception() is not None
        segment.stop = segment.start if failed else segment.start + task.result()
        segment.lease.settle()
        if segment.stop == segment.start and segment in self._segments:
            self._segments.remove(segment)
        if segment not in self._segments and segment.held == 0:
            segment.lease.free()

    def _buffer_size(self, size: int) -> int:
        """Return the buffer to lease for ``size`` bytes: one of three sizes, so that the pool finds it again."""
        return next((fit for fit in (self._probe, self._edge) if size <= fit), max(size, self._range_size))

    def _let_go(self, segment: Segment) -> None:
        """End one hold of ``segment``."""
        segment.held -= 1
        if segment.held == 0 and segment not in self._segments and segment.task.done():
            segment.lease.free()

    def _forget(self, segment: Segment) -> None:
        """Take ``segment`` off the list; its memory is freed when neither its task nor a holder uses it any more."""
        self._segments.remove(segment)
        if not segment.task.done():
            segment.task.cancel()
        elif segment.held == 0:
            segment.lease.free()
