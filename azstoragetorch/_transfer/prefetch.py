"""Do jobs ahead of a consumer that takes their results one by one, in order.

*Operations*: the window starts jobs by itself and calls ``deliver`` with their outcomes, in the order of the jobs;
``release`` says that the consumer took some; ``abandon`` ends everything.

*Goals*: the network is busy while the consumer works on a sample; no more than ``depth`` samples and, but for one, no
more bytes than the memory account allows are on their way or waiting for the consumer; leaving early leaves nothing.

*Plan*: one task fills the window, one task runs each job. A job whose predecessors were all taken is the *head*: the
consumer waits for it and for nothing else, so it gets its memory as any transfer does, and more than the limit where
only idle buffers are left. A job behind it gets memory only where there is room, and otherwise waits until the
consumer has taken a sample, or one has ended that may have shrunk. Waiting samples hold their memory until they are
taken, so it is the pace of the consumer that bounds the window, and two windows that one consumer alternates between
cannot starve each other.

*Warning*: asyncio only; ``release`` and ``abandon`` run on the loop that the window was made on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from azstoragetorch._transfer.jobs import Deliver, Job, Outcome, Slot
from azstoragetorch._transfer.memory import Lease, Memory
from azstoragetorch._transfer.ramp import GLANCE, Ramp

__all__ = ["Deliver", "Job", "Outcome", "Slot", "Window", "ahead"]

T = TypeVar("T")


class Window(Generic[T]):
    """Jobs that run ahead; made on the loop.

    :param jobs: what to do; taken one by one, as there is room. A generator that is asynchronous may wait for the
        network; it is closed with the window.
    :param deliver: receives the outcomes. After one with an error nothing follows.
    :param depth: jobs that are started and whose results are not taken yet, at most.
    :param memory: the account of the running loop.
    :param limit: bytes of it that may be used.
    :param share: bytes of it that jobs behind the head may use, at first fewer, see `ramp`; ``limit`` if ``None``.
        Half as much again for what they take beside them.
    """

    def __init__(
        self,
        jobs: Iterable[Job[T]] | AsyncGenerator[Job[T]],
        deliver: Deliver[T],
        *,
        depth: int,
        memory: Memory,
        limit: int,
        share: int | None = None,
    ) -> None:
        self._jobs = jobs
        self._deliver = deliver
        self._depth = depth
        self._memory = memory
        self._limit = limit
        self._share = limit if share is None else share
        self._ramp = None if share is None else Ramp(share, depth)
        self._delivered: deque[Slot] = deque()
        """Ended, and not taken."""
        self._running: deque[Slot] = deque()
        """Started, and not delivered."""
        self._taken = 0
        self._growing = 0
        """Jobs behind the head that wait for more memory."""
        self._over = False
        self._full: list[asyncio.Future[None]] = []
        """The filler, while there are as many jobs as there may be."""
        self._starved: list[asyncio.Future[None]] = []
        """Jobs behind the head that there was no memory for."""
        self._filler = asyncio.create_task(self._fill())
        self._filler.add_done_callback(self._flush)
        # The loop refers to tasks weakly. Left by its consumer, a window whose filler waits for a future of its own
        # would be garbage, and asyncio would complain of tasks destroyed while pending.
        _live.add(self)

    @property
    def starved(self) -> bool:
        """Whether a job waits for memory, so that ``release`` is worth a hop for each result; any thread may ask."""
        return bool(self._starved)

    def release(self, count: int) -> None:
        """Say that the consumer took ``count`` more results, in their order."""
        for _ in range(min(count, len(self._delivered))):
            self._delivered.popleft().free()
            self._taken += 1
        _wake(self._full)
        _wake(self._starved)

    def abandon(self) -> None:
        """Cancel what runs and deliver nothing more; the memory of a job is freed when its task has ended."""
        while self._delivered:
            self._delivered.popleft().free()
        self._stop()

    async def aclose(self) -> None:
        """Abandon the window and wait until every task of it has ended."""
        self.abandon()
        await asyncio.wait([self._filler, *(slot.task for slot in self._running)])

    async def admit(self, number: int, job: Job[T]) -> Lease:
        """Lease memory for job ``number``: at once, or when there is room, or when it has become the head."""
        memory, limit = self._memory, self._limit
        size, beside, buffered = job.size, job.beside, job.buffered
        while number > self._taken:
            # Not while others need more: what they have to give back would go to jobs that will need more as well.
            if not self._growing and self._allows(size):
                lease = (memory.try_take if buffered else memory.try_reserve)(size, self._room_ahead(beside), beside)
                if lease is not None:
                    return lease
            await self._room()
        return await (memory.take if buffered else memory.reserve)(size, limit, beside)

    def _allows(self, size: int) -> bool:
        ramp = self._ramp
        if ramp is None or ramp.is_small(size):
            return True
        held = sum(lease.size for slot in (*self._delivered, *self._running) for lease in slot.leases)
        return held + size <= ramp.allowance

    def _room_ahead(self, beside: int) -> int:
        """Return the bytes that may be used by now: the share, and half as much for what transfers take beside it.

        A consumer that pauses keeps its share only: transfers end.
        """
        return min(self._limit, self._share + min(self._memory.beside + beside, self._share // 2))

    async def _room(self) -> None:
        """Wait until there may be room, or reason to make more of it."""
        look = None
        if self._ramp is not None and self._ramp.grows:
            look = asyncio.get_running_loop().call_later(GLANCE, self._look, self._ramp)
        try:
            await _woken(self._starved)
        finally:
            if look is not None:
                look.cancel()

    def _look(self, ramp: Ramp) -> None:
        ramp.look(wanted=not self._delivered)
        _wake(self._starved)

    async def admit_more(self, number: int, size: int, beside: int) -> Lease:
        """Lease ``size`` bytes more, without a buffer, for job ``number``, before any other job begins."""
        self._growing += 1
        try:
            while number > self._taken:
                if (lease := self._memory.try_reserve(size, self._room_ahead(beside), beside)) is not None:
                    return lease
                await _woken(self._starved)
        finally:
            self._growing -= 1
        return await self._memory.reserve(size, self._limit, beside)

    def settled(self) -> None:
        """Say that what a job's transfers took beside their buffers was given back, while the job goes on."""
        _wake(self._starved)

    async def _fill(self) -> None:
        if isinstance(self._jobs, AsyncGenerator):
            async with aclosing(self._jobs) as jobs:
                async for job in jobs:
                    await self._start(job)
        else:
            for job in self._jobs:
                await self._start(job)

    async def _start(self, job: Job[T]) -> None:
        while len(self._running) + len(self._delivered) >= self._depth:
            await _woken(self._full)
        number = self._taken + len(self._delivered) + len(self._running)
        # No job starts between this and the next but this one: the filler is alone.
        slot = Slot(self, number, await self.admit(number, job))
        self._running.append(slot)
        slot.task = asyncio.create_task(self._run(job, slot))
        slot.task.add_done_callback(self._flush)

    async def _run(self, job: Job[T], slot: Slot) -> T:
        try:
            return await job.run(slot)
        finally:
            slot.settle()  # now and not in its turn: the head, which comes first, may wait for the last active lease

    def _flush(self, ended: asyncio.Task[Any]) -> None:
        """Deliver what has ended at the front. A callback: a task cancelled before its first step runs no code."""
        _failure(ended)  # looked at in any case: asyncio reports errors that nobody looked at
        self._deliver_ended()
        if self._filler.done() and not self._running:
            _live.discard(self)

    def _deliver_ended(self) -> None:
        running = self._running
        if self._over:
            self._drop_ended()
            return
        while running and running[0].task.done():
            slot = running.popleft()
            task = slot.task
            del slot.task  # the outcome alone keeps the result now, so it goes when the consumer lets it go
            self._delivered.append(slot)
            error = _failure(task)
            if error is not None:
                self._finish(Outcome(error=error))
                return
            self._deliver(Outcome(value=task.result()))
        _wake(self._starved)  # what has ended may have shrunk
        if not running and self._filler.done():
            error = _failure(self._filler)
            self._finish(None if error is None else Outcome(error=error))

    def _drop_ended(self) -> None:
        """Let go the jobs that nobody wants any more, with what they fetched, as far as they have ended."""
        for slot in list(self._running):
            if slot.task.done():
                self._running.remove(slot)
                slot.free()

    def _finish(self, outcome: Outcome[T] | None) -> None:
        """Deliver the last outcome; what was delivered before it can still be taken."""
        self._stop()
        self._deliver(outcome)

    def _stop(self) -> None:
        """Cancel what runs, and let go what nobody will take."""
        self._over = True
        self._filler.cancel()
        for slot in self._running:
            slot.task.cancel()
        self._drop_ended()


_live: set[Window[Any]] = set()
"""Windows that have a task."""


async def _woken(waiting: list[asyncio.Future[None]]) -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting.append(waiter)
    await waiter


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
    waiting.clear()


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what ended ``task``, ``None`` if it succeeded."""
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception()


async def ahead(
    jobs: Iterable[Job[T]] | AsyncGenerator[Job[T]],
    *,
    depth: int,
    memory: Memory,
    limit: int,
    share: int | None = None,
) -> AsyncGenerator[T]:
    """Yield the results of ``jobs`` in order, for a consumer on the same loop; parameters as of :class:`Window`."""
    ready: asyncio.Queue[Outcome[T] | None] = asyncio.Queue()
    window = Window(jobs, ready.put_nowait, depth=depth, memory=memory, limit=limit, share=share)
    try:
        while (outcome := await ready.get()) is not None:
            window.release(1)
            if outcome.error is not None:
                raise outcome.error
            # In a list, out of which it goes with the yield: this frame must not keep what its consumer lets go.
            value, outcome = [outcome.value], None
            yield value.pop()  # type: ignore[misc]  # a value may be None
    finally:
        await window.aclose()
