"""One account of buffer memory per event loop.

*Operations*: ``try_take`` and ``take`` lease a buffer, ``Lease.settle`` says that its transfer has ended,
``Lease.free`` gives it back.

*Goals*: the leased bytes stay within a limit; many files share it fairly; nobody waits for ever.

*Plan*: a lease is *active* while a request fills or drains it, and *idle* after: a range that was read ahead and not
asked for yet, or one that a file holds for its next small reads. Active leases end by themselves, within the deadline
of their request. Idle ones may stay as long as a file stays open, so nobody may wait for them: ``take`` first drops
what holders can spare, and where only idle leases are left it grants more than the limit. An item larger than the
whole limit is granted the same way, alone.

What a transfer takes *beside* its buffer (its connection has buffers of its own, which nobody here allocates) is leased
with it, and given back when it settles.

*Warning*: asyncio only. Every method runs on the loop that owns the account.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from typing import Protocol

from azstoragetorch._values.buffers import BufferPool

__all__ = ["Lease", "Memory", "SparesMemory"]

_KEEP = 160 * 1024 * 1024
"""Bytes of freed buffers kept for reuse while transfers run: the 16 ranges of a window and some more."""

LINGER = 5.0
"""Seconds after a buffer was given back, and no other since, until those that are kept are freed: longer than the pause
between two checkpoint shards, short enough that an idle process holds nothing, whatever files it has open."""


class SparesMemory(Protocol):
    """A holder of idle leases."""

    def spare(self) -> bool:
        """Free one lease that nobody needs right now; return whether there was one."""


class Lease:
    """A buffer of the account; it belongs to the holder until :meth:`free`."""

    __slots__ = ("_active", "_beside", "_memory", "buffer", "size")

    def __init__(self, memory: Memory, size: int, buffer: bytearray, beside: int) -> None:
        self.size = size
        self.buffer = buffer
        self._beside = beside
        memory.beside += beside
        self._memory: Memory | None = memory
        self._active = True

    def settle(self) -> None:
        """Say that no request uses the buffer any more, while its holder keeps it."""
        if self._active and self._memory is not None:
            self._active = False
            beside, self._beside = self._beside, 0
            self._memory._settled(self.size, beside)

    def resume(self) -> None:
        """Say that a request uses the buffer again; what it takes beside it is another lease."""
        if not self._active and self._memory is not None:
            self._active = True
            self._memory._resumed(self.size)

    def shrink(self, size: int) -> None:
        """Give the buffer back and keep the account of ``size`` bytes, at most what was leased, without one."""
        memory = self._memory
        if memory is not None:
            buffer, self.buffer = self.buffer, bytearray()
            surplus, self.size = self.size - size, size
            memory._freed(surplus, buffer, active=self._active)

    def free(self, *, reuse: bool = True) -> None:
        """End the lease; does nothing the second time.

        :param reuse: ``False`` where somebody may still read the buffer: it is then left to the garbage collector.
        """
        memory, self._memory = self._memory, None
        if memory is not None:
            buffer, self.buffer = self.buffer, bytearray()
            memory.beside -= self._beside
            memory._freed(self.size + self._beside, buffer if reuse else None, active=self._active)


class Memory:
    """The account. :meth:`current` returns the one of the running loop.

    :param linger: seconds for which a freed buffer is kept for reuse.
    """

    def __init__(self, linger: float = LINGER) -> None:
        self.used = 0
        """Bytes leased now."""
        self.beside = 0
        """Those of them that transfers take beside their buffers."""
        self.peak = 0
        """Most bytes that were leased at any time."""
        self._active = 0
        self._pool = BufferPool(_KEEP)
        self._waiters: deque[tuple[int, int, asyncio.Future[None]]] = deque()
        self._holders: weakref.WeakSet[SparesMemory] = weakref.WeakSet()
        self._linger = linger
        self._trimming = False
        self._given = 0.0
        """When a buffer was given back last, by the clock of the loop."""
        self._waking = False

    @property
    def kept(self) -> int:
        """Bytes of buffers that nobody leases and that are kept for reuse."""
        return self._pool.kept

    def forget_kept(self) -> None:
        """Free what is kept for reuse; also for a forked child, whose parent's account this is."""
        self._pool.clear()

    @classmethod
    def current(cls) -> Memory:
        """Return the account of the running event loop, made on first use."""
        loop = asyncio.get_running_loop()
        memory = _accounts.get(loop)
        if memory is None:
            memory = _accounts[loop] = cls()
        return memory

    def add_holder(self, holder: SparesMemory) -> None:
        """Ask ``holder`` to spare memory when it runs short; it is forgotten when it is collected."""
        self._holders.add(holder)

    def try_take(self, size: int, limit: int, beside: int = 0) -> Lease | None:
        """Lease ``size`` bytes, and ``beside`` more until they settle, if that fits ``limit`` and nobody waits.

        :return: ``None`` if it does not.
        """
        return self._lease(size, limit, beside) if self._try_enter(size + beside, limit) else None

    def try_reserve(self, size: int, limit: int, beside: int = 0) -> Lease | None:
        """Like :meth:`try_take` for ``size`` bytes that somebody else allocates: the lease has no buffer."""
        return self._reserved(size, limit, beside) if self._try_enter(size + beside, limit) else None

    async def reserve(self, size: int, limit: int, beside: int = 0) -> Lease:
        """Like :meth:`take` for ``size`` bytes that somebody else allocates: the lease has no buffer."""
        await self._admit(size + beside, limit)
        return self._reserved(size, limit, beside)

    async def take(self, size: int, limit: int, beside: int = 0) -> Lease:
        """Lease ``size`` bytes, and ``beside`` more until they settle, waiting for transfers to end while more than
        ``limit`` would be in use.
        """
        await self._admit(size + beside, limit)
        return self._lease(size, limit, beside)

    async def _admit(self, size: int, limit: int) -> None:
        """Wait until ``size`` bytes may be leased, and enter them as active."""
        if self._waiters or not self._admits(size, limit):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (size, limit, waiter)
            self._waiters.append(entry)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._account(-size)
                    self._active -= size
                elif entry in self._waiters:  # not if memory came back, and _wake passed it by, since the cancellation
                    self._waiters.remove(entry)
                self._wake()
                raise
        else:
            self._enter(size)

    def _try_enter(self, size: int, limit: int) -> bool:
        """Enter ``size`` bytes as active if they fit and nobody waits; return whether that was done."""
        fits = not self._waiters and self.used + size <= limit
        if fits:
            self._enter(size)
        return fits

    def _enter(self, size: int) -> None:
        self._account(size)
        self._active += size

    def _lease(self, size: int, limit: int, beside: int) -> Lease:
        try:
            buffer = self._pool.take(size, keep=limit - self.used)  # what is kept for reuse counts as well
        except MemoryError:
            self._freed(size + beside, None, active=True)  # or everybody else would wait for it for ever
            raise
        return Lease(self, size, buffer, beside)

    def _reserved(self, size: int, limit: int, beside: int) -> Lease:
        self._pool.shrink(limit - self.used)
        return Lease(self, size, bytearray(), beside)

    def _admits(self, size: int, limit: int) -> bool:
        if self.used + size <= limit:
            return True
        for holder in list(self._holders):
            while holder.spare():
                if self.used + size <= limit:
                    return True
        return self._active == 0

    def _account(self, size: int) -> None:
        self.used += size
        self.peak = max(self.peak, self.used)

    def _keep(self, buffer: bytearray) -> None:
        self._pool.give(buffer)
        loop = asyncio.get_running_loop()
        self._given = loop.time()
        if not self._trimming:
            # The handle is not kept: it refers to the loop, the weak key that this account has to end with.
            self._trimming = True
            loop.call_later(self._linger, self._trim)

    def _trim(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._given + self._linger
        if loop.time() < due:
            loop.call_at(due, self._trim)
            return
        self._trimming = False
        self._pool.clear()

    def _settled(self, size: int, beside: int) -> None:
        self._active -= size + beside
        if beside:
            self.beside -= beside
            self._account(-beside)
        self._wake()

    def _resumed(self, size: int) -> None:
        self._active += size

    def _freed(self, size: int, buffer: bytearray | None, *, active: bool) -> None:
        if active:
            self._active -= size
        self._account(-size)
        if buffer:
            self._keep(buffer)
        self._wake()

    def _wake(self) -> None:
        if self._waking:
            return  # a holder spares memory for the waiter in front: the loop below goes on with what came back
        self._waking = True
        try:
            # First come, first served: a large item at the front is not overtaken for ever by small ones.
            while self._waiters:
                size, limit, waiter = self._waiters[0]
                if not waiter.done():
                    if not self._admits(size, limit):
                        return
                    self._enter(size)
                    waiter.set_result(None)
                self._waiters.popleft()
        finally:
            self._waking = False


_accounts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Memory] = weakref.WeakKeyDictionary()


def _forget_inherited() -> None:
    # Their loops never run here, so nothing else would ever free them: a worker that is forked soon after a checkpoint
    # was loaded would keep 128 MiB of its parent's buffers as long as it lives, when the parent has long freed them.
    for memory in list(_accounts.values()):
        memory.forget_kept()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
