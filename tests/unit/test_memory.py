"""The account of buffer memory that the transfers of one event loop share."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from azstoragetorch._transfer.memory import Lease, Memory
from tests.bridge.script import output_of

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


async def test_what_a_transfer_takes_beside_its_buffer_is_leased_until_it_settles() -> None:
    """Connections have buffers, too; what was received and waits for the consumer needs none any more."""
    memory = Memory()
    leases = [await memory.take(10, LIMIT, 40), await memory.reserve(10, LIMIT, 40)]
    assert ([len(lease.buffer) for lease in leases], memory.used, memory.beside) == ([10, 0], LIMIT, 80)
    assert memory.try_take(0, LIMIT, 1) is None
    assert memory.try_reserve(0, LIMIT, 1) is None
    task = await started(memory, 80)

    for lease in leases:
        lease.settle()
        lease.settle()  # the second time does nothing
    (await task).free()
    assert (memory.used, memory.beside) == (20, 0)

    for lease in leases:
        lease.free()
    assert memory.used == 0


async def test_transfer_that_never_settled_gives_back_what_it_took_beside() -> None:
    """A job that is cancelled in the middle is only freed."""
    memory = Memory()
    lease = await memory.take(50, LIMIT, 50)
    lease.shrink(20)
    assert memory.used == 70
    task = await started(memory, LIMIT)

    lease.free()

    (await task).free()
    assert (memory.used, memory.beside) == (0, 0)


async def test_granted_and_cancelled_in_one_turn_gives_back_what_is_beside() -> None:
    """Whatever was entered for the waiter has to be taken off, not its buffer only."""
    memory = Memory()
    busy = await memory.take(LIMIT, LIMIT)
    task = asyncio.create_task(memory.take(50, LIMIT, 50))
    await asyncio.sleep(0)

    busy.free()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert memory.used == 0
    (await memory.take(LIMIT, LIMIT)).free()


async def test_kept_buffers_make_room_for_memory_that_others_allocate() -> None:
    """A checkpoint was loaded, then samples of known size come: the buffers of the one are not kept beside those of
    the other.
    """
    memory = Memory()
    (await memory.take(80, LIMIT)).free()
    assert memory.kept == 80

    leases = [await memory.reserve(30, LIMIT)]
    assert memory.used + memory.kept <= LIMIT
    lease = memory.try_reserve(60, LIMIT)
    assert lease is not None
    assert memory.used + memory.kept <= LIMIT
    for each in (*leases, lease):
        each.free()


async def test_buffers_that_nobody_asks_for_are_freed_though_a_file_keeps_others() -> None:
    """An open file keeps half a megabyte of its blob for as long as it likes: that must not keep 128 more."""
    memory = Memory(linger=0.01)
    idly_held = idle(memory, 10)
    (await memory.take(80, LIMIT)).free()
    assert memory.kept == 80

    async with asyncio.timeout(10):
        while memory.kept:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert memory.used == 10
    idly_held.free()


async def test_buffers_are_kept_while_they_are_asked_for() -> None:
    """A steady transfer must not allocate; fresh pages cost more than the copy into them."""
    memory = Memory(linger=0.05)
    clock = asyncio.get_running_loop().time
    lease = await memory.take(80, LIMIT)
    buffer, until = lease.buffer, clock() + 0.3
    while clock() < until:
        lease.free()
        await asyncio.sleep(0)  # where it would be freed: a tick comes behind the step of a task that is ready
        lease = await memory.take(80, LIMIT)
        assert lease.buffer is buffer
    lease.free()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_frees_what_its_parent_keeps_for_reuse(tmp_path: Path) -> None:
    """A DataLoader forks workers right after a checkpoint was loaded: they live long, and never use its buffers."""
    assert output_of(FORKED, tmp_path, seconds=15) == ["child 0", "parent 33554432"]


FORKED = """
import asyncio
import os
from azstoragetorch._transfer.memory import Memory

SIZE = 32 << 20


async def main():
    memory = Memory.current()
    (await memory.take(SIZE, SIZE)).free()
    child = os.fork()
    if child == 0:
        print("child", memory.kept, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("parent", memory.kept)


asyncio.run(main())
"""


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
