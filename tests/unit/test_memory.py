"""The account of buffer memory that the transfers of one event loop share."""

from __future__ import annotations

import asyncio
import gc

import pytest

from azstoragetorch._transfer.memory import Lease, Memory

pytestmark = pytest.mark.timeout(20)

LIMIT = 100


class Holder:
    """Keeps idle leases until it is asked to spare them, as a file does with ranges it has read ahead."""

    def __init__(self, *leases: Lease) -> None:
        self.leases = list(leases)

    def spare(self) -> bool:
        if not self.leases:
            return False
        self.leases.pop().free()
        return True


def idle(memory: Memory, size: int) -> Lease:
    lease = memory.try_take(size, LIMIT)
    assert lease is not None
    lease.settle()
    return lease


async def started(memory: Memory, size: int) -> asyncio.Task[Lease]:
    """Begin to take memory, up to where it waits."""
    task = asyncio.create_task(memory.take(size, LIMIT))
    await asyncio.sleep(0)
    return task


async def test_leases_count_while_they_live() -> None:
    """The budget is a promise about memory, so what is used has to be known."""
    memory = Memory()
    first, second = await memory.take(30, LIMIT), await memory.take(50, LIMIT)
    assert (memory.used, len(first.buffer), len(second.buffer)) == (80, 30, 50)

    first.free()
    first.free()  # the second time does nothing
    assert memory.used == 50

    second.free()
    assert (memory.used, memory.peak) == (0, 80)


async def test_try_take_stays_within_the_limit() -> None:
    """What is read ahead is a luxury: it never waits and never exceeds."""
    memory = Memory()
    lease = memory.try_take(LIMIT, LIMIT)

    assert lease is not None
    assert memory.try_take(1, LIMIT) is None


async def test_take_waits_until_a_transfer_ends() -> None:
    """Without the wait a loop with a thousand files would hold a thousand windows."""
    memory = Memory()
    busy = await memory.take(80, LIMIT)
    task = await started(memory, 40)
    assert not task.done()

    busy.free()
    lease = await task
    assert (memory.used, memory.peak) == (40, 80)
    lease.free()


async def test_waiters_are_served_in_order() -> None:
    """A large block must not be overtaken for ever by small reads."""
    memory = Memory()
    busy = await memory.take(80, LIMIT)
    large, small = await started(memory, 90), await started(memory, 10)
    assert memory.try_take(10, LIMIT) is None, "it would fit, but others wait"
    assert not small.done()

    busy.free()
    (await large).free()
    (await small).free()
    assert memory.used == 0


async def test_item_larger_than_the_limit_runs_alone() -> None:
    """A block larger than the budget has to be possible, and nothing beside it."""
    memory = Memory()
    busy = await memory.take(10, LIMIT)
    huge = await started(memory, 10 * LIMIT)
    assert not huge.done()

    busy.free()
    (await huge).free()
    assert memory.peak == 10 * LIMIT


async def test_idle_memory_is_taken_back_before_anybody_waits() -> None:
    """Ranges that a file read ahead and may never use must not stop another file."""
    memory = Memory()
    holder = Holder(idle(memory, 60), idle(memory, 40))
    memory.add_holder(holder)

    lease = await memory.take(70, LIMIT)

    assert (memory.used, memory.peak) == (70, LIMIT)
    lease.free()


async def test_nobody_waits_for_memory_that_only_open_files_hold() -> None:
    """Files that are open, half read and idle may stay so for ever: more than the limit is granted instead."""
    memory = Memory()
    held = [idle(memory, 50), idle(memory, 50)]

    lease = await memory.take(30, LIMIT)

    assert memory.used == 130
    for each in (*held, lease):
        each.free()


async def test_waiter_is_served_when_the_last_active_lease_settles() -> None:
    """A finished range that its file keeps is idle, and nobody may wait for it."""
    memory = Memory()
    window = await memory.take(80, LIMIT)
    task = await started(memory, 40)

    window.settle()
    (await task).free()
    window.free()
    assert memory.used == 0


async def test_resumed_lease_is_waited_for_again() -> None:
    """A block of a writer is idle while it fills and active while it is sent."""
    memory = Memory()
    block = idle(memory, 80)
    block.resume()
    task = await started(memory, 40)
    assert not task.done()

    block.free()
    (await task).free()
    assert memory.used == 0


async def test_waiter_is_granted_once_when_serving_it_frees_memory() -> None:
    """To serve a waiter asks holders to spare memory, and memory that comes back serves waiters."""
    memory = Memory()
    holder = Holder()
    memory.add_holder(holder)
    window, busy, trigger = idle(memory, 70), await memory.take(20, LIMIT), await memory.take(0, LIMIT)
    task = await started(memory, 40)
    assert not task.done()

    holder.leases.append(window)  # its file has moved on: it can be spared from now on
    trigger.settle()
    lease = await task

    assert memory.used == 60
    for each in (lease, busy, trigger):
        each.free()
    assert memory.used == 0


async def test_cancelled_waiter_leaves_the_queue() -> None:
    """It stood in front: those behind it must not wait for what nobody wants any more."""
    memory = Memory()
    busy = await memory.take(60, LIMIT)
    large, small = await started(memory, 90), await started(memory, 10)

    large.cancel()
    (await small).free()
    busy.free()
    assert memory.used == 0
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_waiter_may_be_cancelled_while_memory_comes_back() -> None:
    """When a group of reads is cancelled, transfers that end and waits that are cut off meet in one turn."""
    memory = Memory()
    busy = await memory.take(60, LIMIT)
    large, small = await started(memory, 90), await started(memory, 50)

    large.cancel()
    busy.free()
    with pytest.raises(asyncio.CancelledError):
        await large

    (await small).free()
    assert memory.used == 0


async def test_cancelled_waiter_gives_back_what_was_granted_meanwhile() -> None:
    """A grant and a cancellation may meet in one turn of the loop; the memory must not be lost."""
    memory = Memory()
    busy = await memory.take(LIMIT, LIMIT)
    task = await started(memory, LIMIT)

    busy.free()  # granted now, taken in the task's next turn, which the cancellation pre-empts
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert memory.used == 0
    (await memory.take(LIMIT, LIMIT)).free()


async def test_buffer_that_may_still_be_read_is_not_reused() -> None:
    """A connection may hold the block of a failed attempt: the next block must not show through."""
    memory = Memory()
    for reuse in (True, False):
        lease = await memory.take(64, LIMIT)
        buffer = lease.buffer
        lease.free(reuse=reuse)
        again = await memory.take(64, LIMIT)
        assert (again.buffer is buffer) is reuse
        again.free()


async def test_freed_lease_shows_no_memory() -> None:
    """Whoever still looks must not see what the next holder receives."""
    memory = Memory()
    lease = await memory.take(64, LIMIT)
    lease.free()

    assert lease.buffer == b""


async def test_collected_holder_is_forgotten() -> None:
    """A million files that came and went must not be asked."""
    memory = Memory()
    asked = []

    class Noted(Holder):
        def spare(self) -> bool:
            asked.append(self)
            return False

    memory.add_holder(Noted())
    gc.collect()
    busy = await memory.take(LIMIT, LIMIT)
    task = await started(memory, 1)
    assert asked == []
    busy.free()
    (await task).free()


def test_every_loop_has_its_own_account() -> None:
    """asyncio's primitives must never cross loops."""

    async def twice() -> tuple[Memory, Memory]:
        return Memory.current(), Memory.current()

    (first, same), (other, _) = asyncio.run(twice()), asyncio.run(twice())

    assert first is same
    assert first is not other
