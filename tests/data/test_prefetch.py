"""The window over jobs: in order, within its bounds, never stuck, and gone without a trace when it is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.prefetch import Outcome, Slot, Window, ahead
from azstoragetorch._values.options import MiB

pytestmark = pytest.mark.timeout(60)

LIMIT = 100

STUCK = 20.0
"""Seconds after which a test that only gives way to other tasks, which takes milliseconds, counts as stuck."""


class TornError(Exception):
    """What a job or a generator of jobs fails with."""


@dataclass
class Seen:
    """What the jobs of one window did."""

    started: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    taken: int = 0
    most: int = 0
    """Jobs started and not taken, at most."""


@dataclass
class Work:
    """One job: leases ``size``, works for some turns of the loop, then turns out to need ``actual`` bytes."""

    number: int
    size: int = 0
    beside: int = 0
    steps: int = 0
    actual: int | None = None
    error: BaseException | None = None
    buffered: bool = True
    seen: Seen = field(default_factory=Seen)
    gate: asyncio.Event | None = None

    async def run(self, slot: Slot) -> int:
        seen = self.seen
        seen.started.append(self.number)
        seen.most = max(seen.most, len(seen.started) - seen.taken)
        assert len(slot.lease.buffer) == (self.size if self.buffered else 0)
        for _ in range(self.steps):
            await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.actual is not None:
            if self.actual > self.size:
                await slot.grow(self.actual, self.beside)
                await asyncio.sleep(0)
                slot.lease.free()
            else:
                slot.lease.shrink(self.actual)
        seen.ended.append(self.number)
        if self.error is not None:
            raise self.error
        return self.number


def works(*sizes: int, seen: Seen | None = None, **others: Any) -> list[Work]:
    return [Work(number, size, seen=seen or Seen(), **others) for number, size in enumerate(sizes)]


def window(
    jobs: Iterable[Work] | AsyncGenerator[Work],
    deliver: Callable[[Outcome[int] | None], object],
    memory: Memory,
    depth: int = 8,
) -> Window[int]:
    return Window(jobs, deliver, depth=depth, memory=memory, limit=LIMIT)


def results(jobs: Iterable[Work] | AsyncGenerator[Work], memory: Memory, depth: int = 8) -> AsyncGenerator[int]:
    return ahead(jobs, depth=depth, memory=memory, limit=LIMIT)


async def settled(turns: int = 50) -> None:
    """Let everything that can go on without the consumer go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def nothing_left(memory: Memory) -> None:
    """Assert that no task and no byte is left, now or a moment later."""
    await settled(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (memory.used, memory.beside) == (0, 0)
    lease = await memory.take(LIMIT, LIMIT)  # and nobody waits
    lease.free()


def run_quietly(main: Any) -> Any:
    """Run a coroutine on a loop of its own; fail if it is stuck or asyncio complains about anything."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(STUCK):
            return await main

    result = asyncio.run(watched())
    assert complaints == []
    return result


# Order and bounds.


async def test_results_come_in_order_however_jobs_end() -> None:
    """Sample i of an epoch has to be sample i, whichever answer arrives first."""
    memory = Memory()
    seen = Seen()
    jobs = [Work(number, steps=10 - number, seen=seen) for number in range(10)]

    assert [number async for number in results(jobs, memory, depth=10)] == list(range(10))

    assert seen.ended == list(reversed(range(10)))
    await nothing_left(memory)


@pytest.mark.parametrize("depth", [1, 3, 8])
async def test_no_more_than_depth_are_started_and_not_taken(depth: int) -> None:
    """A consumer that computes for an hour must not find the whole data set in its memory."""
    memory = Memory()
    seen = Seen()
    async with contextlib.aclosing(results(works(*[1] * 20, seen=seen), memory, depth)) as numbers:
        async for number in numbers:
            seen.taken = number + 1
            await settled()
            assert len(seen.started) == min(20, number + 1 + depth)
    assert seen.most <= depth
    await nothing_left(memory)


async def test_jobs_are_started_while_the_consumer_works() -> None:
    """That is what a window is for: the network is busy while a transform runs."""
    memory = Memory()
    seen = Seen()
    numbers = results(works(*[0] * 20, seen=seen), memory, depth=4)

    assert await anext(numbers) == 0
    await settled()

    assert seen.ended == [0, 1, 2, 3, 4]
    await numbers.aclose()


async def test_bytes_that_wait_for_the_consumer_count() -> None:
    """The budget is a promise about memory: samples that nobody took fill it as much as those on their way."""
    memory = Memory()
    seen = Seen()
    numbers = results(works(*[40] * 10, seen=seen), memory)

    for number in range(10):
        assert await anext(numbers) == number
        await settled()
        assert len(seen.started) == min(10, number + 3), "two more fit behind the one that was taken"

    assert memory.peak <= LIMIT
    assert await anext(numbers, None) is None
    await nothing_left(memory)


async def test_item_larger_than_the_limit_runs_alone() -> None:
    """One huge blob among small ones must be possible, and nothing beside it."""
    memory = Memory()
    seen = Seen()
    beside: list[list[int]] = []

    class Huge(Work):
        async def run(self, slot: Slot) -> int:
            await settled(5)
            beside.append([number for number in seen.started if number not in seen.ended])
            assert memory.used == self.size
            return await super().run(slot)

    jobs = works(*[30] * 9, seen=seen, steps=3)
    jobs[4] = Huge(4, 5 * LIMIT, seen=seen)

    assert [number async for number in results(jobs, memory)] == list(range(9))

    assert beside == [[]]
    assert memory.peak == 5 * LIMIT
    await nothing_left(memory)


async def test_window_waits_for_memory_that_others_use_and_goes_on() -> None:
    """Files of the same process write a checkpoint meanwhile."""
    memory = Memory()
    busy = await memory.take(90, LIMIT)
    numbers = results(works(*[20] * 5), memory)
    first = asyncio.ensure_future(anext(numbers))
    await settled()
    assert not first.done()

    busy.free()
    assert await first == 0
    assert [number async for number in numbers] == [1, 2, 3, 4]
    assert memory.peak <= LIMIT
    await nothing_left(memory)


async def test_what_jobs_take_beside_bounds_how_many_run_and_not_how_many_wait() -> None:
    """Connections have memory of their own while they bring a sample; one that waits to be taken needs none."""
    memory, gate, seen = Memory(), asyncio.Event(), Seen()
    numbers = results(works(*[10] * 10, seen=seen, beside=40, gate=gate), memory, depth=10)
    first = asyncio.create_task(anext(numbers))
    await settled()
    assert (len(seen.started), memory.used) == (2, LIMIT)

    gate.set()
    assert await first == 0
    await settled()
    assert len(seen.ended) == 7, "the first was taken, six wait in 60, and for the next there are not 50"
    assert [number async for number in numbers] == list(range(1, 10))
    assert memory.peak <= LIMIT
    await nothing_left(memory)


async def test_what_jobs_take_beside_has_room_of_its_own() -> None:
    """Samples of 3 MiB over https are as many at a time as over http; only many connections for little hold back."""
    memory, gate, seen = Memory(), asyncio.Event(), Seen()
    jobs = works(*[20] * 10, seen=seen, beside=8, gate=gate)
    numbers = ahead(jobs, depth=10, memory=memory, limit=LIMIT, share=60)
    first = asyncio.create_task(anext(numbers))
    await settled()
    assert (len(seen.started), memory.used, memory.beside) == (3, 84, 24)

    gate.set()
    assert await first == 0
    await settled()
    assert (memory.used, memory.beside) == (60, 0), "a consumer that pauses keeps the share and no more"
    assert [number async for number in numbers] == list(range(1, 10))
    assert memory.peak <= 90
    await nothing_left(memory)


async def test_job_that_grows_is_accounted_for_what_it_still_transfers() -> None:
    """Its first request has ended, the one for the rest has a connection again."""
    memory = Memory()
    grown: list[int] = []

    class Noted(Work):
        async def run(self, slot: Slot) -> int:
            grown.append(memory.used)
            await slot.grow(50, 20)
            grown.append(memory.used)
            return self.number

    assert [number async for number in results([Noted(0, 10, beside=30)], memory)] == [0]
    assert grown == [40, 80]
    await nothing_left(memory)


@pytest.mark.parametrize("buffered", [True, False])
async def test_buffer_is_there_where_it_is_wanted(buffered: bool) -> None:
    """Blobs of unknown size are read into a buffer, others into bytes of their own: asserted by the jobs."""
    memory = Memory()
    assert [number async for number in results(works(5, 0, 7, buffered=buffered), memory)] == [0, 1, 2]
    await nothing_left(memory)


async def test_no_jobs_at_all() -> None:
    """An empty container is an empty epoch."""
    memory = Memory()
    assert [number async for number in results([], memory)] == []
    await nothing_left(memory)


async def test_results_may_be_none() -> None:
    """The end has to be something else."""

    class Nothing(Work):
        async def run(self, slot: Slot) -> Any:
            return None

    memory = Memory()
    assert [result async for result in results([Nothing(0), Nothing(1)], memory)] == [None, None]


# Jobs whose size shows later.


async def test_job_that_shrinks_makes_room() -> None:
    """Samples of 1 KB that had to reserve a range each must not be fetched one at a time."""
    memory = Memory()
    seen = Seen()
    numbers = results(works(*[45] * 30, seen=seen, actual=1), memory, depth=20)

    assert await anext(numbers) == 0
    await settled(200)

    assert len(seen.ended) > 10
    assert memory.peak <= LIMIT
    await numbers.aclose()
    await nothing_left(memory)


@pytest.mark.parametrize("actual", [11, 50, 95, 100, 500])
@pytest.mark.parametrize("depth", [1, 2, 10])
def test_all_jobs_grow_at_once(actual: int, depth: int) -> None:
    """Ten blobs of unknown size whose first answers all say 'larger': none may wait for another for ever."""

    async def main() -> None:
        memory = Memory()
        jobs = works(*[10] * 30, steps=2, actual=actual)
        assert [number async for number in results(jobs, memory, depth)] == list(range(30))
        assert memory.peak <= LIMIT + 10 + actual
        await nothing_left(memory)

    run_quietly(main())


@pytest.mark.parametrize("actual", [99, 100, 500])
def test_first_job_grows_when_all_behind_it_have_ended(actual: int) -> None:
    """Small blobs wait for their turn behind a large one, which must not wait for them."""

    async def main() -> None:
        memory = Memory()
        jobs = works(*[20] * 10)
        jobs[0] = Work(0, 20, steps=10, actual=actual)
        assert [number async for number in results(jobs, memory)] == list(range(10))
        await nothing_left(memory)

    run_quietly(main())


async def test_jobs_that_grow_go_before_jobs_that_begin() -> None:
    """The first ranges of many large blobs fill the memory; if each freed byte went to one more first range, all the
    rest would be fetched one blob at a time."""
    memory = Memory()
    resting = 0
    beside: list[int] = []

    class Large(Work):
        async def run(self, slot: Slot) -> int:
            nonlocal resting
            await settled(4)
            await slot.grow(10)
            resting += 1
            beside.append(resting)
            await settled(10)
            resting -= 1
            slot.lease.free()
            return self.number

    assert len([number async for number in results((Large(number, 3) for number in range(200)), memory, 32)]) == 200

    assert sum(beside) / len(beside) > 2
    await nothing_left(memory)


@pytest.mark.parametrize("actual", [1, 60, 150])
def test_two_windows_of_one_consumer_take_turns(actual: int) -> None:
    """Images and labels of a pair of datasets, zipped: each waits for the other's consumer, who is the same."""

    async def main() -> None:
        memory = Memory()
        first = results(works(*[50] * 12, steps=3, actual=actual), memory, depth=4)
        second = results(works(*[50] * 12, steps=1, actual=actual), memory, depth=4)
        async with contextlib.aclosing(first), contextlib.aclosing(second):
            for number in range(12):
                assert (await anext(first), await anext(second)) == (number, number)
        await nothing_left(memory)

    run_quietly(main())


def test_window_whose_consumer_has_left_it_standing_starves_nobody() -> None:
    """A validation set whose iterator is kept half-way holds memory; the training set has to go on all the same."""

    async def main() -> None:
        memory = Memory()
        standing = results(works(*[50] * 12), memory, depth=4)
        assert await anext(standing) == 0
        await settled()
        assert memory.used == LIMIT

        assert [number async for number in results(works(*[70] * 12), memory)] == list(range(12))

        await standing.aclose()
        await nothing_left(memory)

    run_quietly(main())


# Errors.


async def test_error_comes_in_its_turn_and_ends_the_window() -> None:
    """What was fetched before a failed sample is still good; nothing after it is fetched for nobody."""
    memory = Memory()
    seen = Seen()
    jobs = works(*[10] * 20, seen=seen, steps=3)
    jobs[4] = Work(4, 10, error=TornError(), seen=seen)  # fails before those in front of it have ended
    numbers = results(jobs, memory, depth=6)

    assert [await anext(numbers) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(TornError):
        await anext(numbers)

    await nothing_left(memory)
    assert len(seen.started) <= 10
    assert await anext(numbers, "end") == "end"


async def test_results_behind_a_failed_last_job_are_freed() -> None:
    """They ended before the job in front of them failed, and no task is left whose end could free them."""
    memory = Memory()
    gate = asyncio.Event()
    jobs = works(10, 20, 30)
    jobs[0] = Work(0, 10, error=TornError(), gate=gate)
    numbers = results(jobs, memory)
    first = asyncio.ensure_future(anext(numbers))
    await settled()

    gate.set()
    with pytest.raises(TornError):
        await first

    await nothing_left(memory)


async def test_generator_of_jobs_that_fails_ends_the_window_after_its_jobs() -> None:
    """The jobs it made are good; then the reader hears of it."""

    def broken() -> Iterator[Work]:
        yield from works(10, 10)
        raise TornError

    memory = Memory()
    numbers = results(broken(), memory)
    assert [await anext(numbers), await anext(numbers)] == [0, 1]
    with pytest.raises(TornError):
        await anext(numbers)
    await nothing_left(memory)


async def test_error_of_a_job_that_nobody_waits_for_is_not_reported() -> None:
    """A window that was left must be silent, whatever its jobs do at their end."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

    class Stubborn(Work):
        async def run(self, slot: Slot) -> int:
            try:
                await asyncio.Event().wait()
            finally:
                raise TornError

    memory = Memory()
    delivered: list[Outcome[int] | None] = []
    opened = window([Stubborn(number, 10) for number in range(3)], delivered.append, memory)
    await settled()
    await opened.aclose()
    await nothing_left(memory)
    del opened
    gc.collect()
    await settled()

    assert (complaints, delivered) == ([], [])


@pytest.mark.parametrize("behind", [0, 2])
async def test_job_that_cancels_itself_ends_the_window(behind: int) -> None:
    """A result that never came must not let the consumer wait for ever."""
    memory = Memory()
    delivered: list[Outcome[int] | None] = []
    jobs = works(*[10] * (behind + 1))
    jobs[0].error = asyncio.CancelledError()
    opened = window(jobs, delivered.append, memory)
    await settled()

    (outcome,) = delivered
    assert outcome is not None
    assert isinstance(outcome.error, asyncio.CancelledError)
    await opened.aclose()
    await nothing_left(memory)


# Jobs that are found while others run.


async def test_jobs_found_later_do_not_hold_up_those_at_hand() -> None:
    """The first sample of a container comes after its first page."""
    memory = Memory()
    more = asyncio.Event()

    async def found() -> AsyncGenerator[Work]:
        yield Work(0, 10)
        yield Work(1, 10)
        await more.wait()
        yield Work(2, 10)

    numbers = results(found(), memory)
    assert [await anext(numbers), await anext(numbers)] == [0, 1]
    more.set()
    assert [number async for number in numbers] == [2]
    await nothing_left(memory)


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_generator_of_jobs_is_closed_with_the_window(taken: int) -> None:
    """It may have a page on its way."""
    memory = Memory()
    closed: list[bool] = []

    async def found() -> AsyncGenerator[Work]:
        try:
            yield Work(0, 10)
            yield Work(1, 10)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    delivered: list[Outcome[int] | None] = []
    opened = window(found(), delivered.append, memory, depth=max(1, taken))
    await settled()
    opened.release(taken)
    await settled()
    await opened.aclose()

    assert closed == [True]
    await nothing_left(memory)


async def test_error_of_a_generator_comes_after_what_it_found() -> None:
    """A listing that breaks at its second page has given good samples before."""
    memory = Memory()

    async def found() -> AsyncGenerator[Work]:
        yield Work(0, 10, steps=5)
        raise TornError

    numbers = results(found(), memory)
    assert await anext(numbers) == 0
    with pytest.raises(TornError):
        await anext(numbers)
    await nothing_left(memory)


# Left early, at any point.


def jobs_strategy(*, fails: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    sizes = st.integers(0, 60) | st.sampled_from([99, 100, 101, 250])
    return st.lists(
        st.fixed_dictionaries(
            {
                "size": sizes,
                "beside": st.sampled_from([0, 0, 1, 30, 100]),
                "steps": st.integers(0, 4),
                "actual": st.none() | sizes,
                "buffered": st.booleans(),
                "error": st.sampled_from([None, None, None, TornError]) if fails else st.none(),
            }
        ),
        max_size=14,
    )


def made(descriptions: list[dict[str, Any]], seen: Seen | None = None) -> list[Work]:
    return [
        Work(number, seen=seen or Seen(), **{**each, "error": each["error"] and each["error"]()})
        for number, each in enumerate(descriptions)
    ]


@settings(deadline=None, max_examples=150)
@given(jobs_strategy(fails=True), st.integers(1, 8), st.lists(st.integers(0, 6), max_size=14))
def test_any_window_gives_all_results_up_to_the_first_error(
    descriptions: list[dict[str, Any]], depth: int, pauses: list[int]
) -> None:
    """Whatever sizes, changes of size and pace: in order, complete, within the bounds, and nothing left."""

    async def main() -> None:
        memory = Memory()
        seen = Seen()
        jobs = made(descriptions, seen)
        good = next((number for number, job in enumerate(jobs) if job.error is not None), len(jobs))
        taken = []
        try:
            async for number in results(jobs, memory, depth):
                taken.append(number)
                seen.taken = len(taken)
                for _ in range(pauses[number] if number < len(pauses) else 0):
                    await asyncio.sleep(0)
        except TornError:
            assert good < len(jobs)
        else:
            assert good == len(jobs)
        assert taken == list(range(good))
        assert seen.most <= depth
        assert memory.peak <= LIMIT + max((job.size + job.beside + (job.actual or 0) for job in jobs), default=0)
        if all(job.actual is None and job.size + job.beside <= LIMIT for job in jobs):
            assert memory.peak <= LIMIT
        await nothing_left(memory)

    run_quietly(main())


@settings(deadline=None, max_examples=150)
@given(
    jobs_strategy(fails=False),
    st.integers(1, 8),
    st.integers(0, 14),
    st.integers(0, 30),
    st.sampled_from(["aclose", "abandon", "cancel", "collect"]),
    st.booleans(),
)
def test_any_window_can_be_left_at_any_point(
    descriptions: list[dict[str, Any]], depth: int, take: int, turns: int, how: str, is_async: bool
) -> None:
    """``break``, an exception in the loop, Ctrl-C, a timeout: no task and no byte may stay."""

    async def found() -> AsyncGenerator[Work]:
        for job in made(descriptions):
            await asyncio.sleep(0)
            yield job

    def jobs() -> Any:
        return found() if is_async else made(descriptions)

    async def main() -> None:
        memory = Memory()
        if how == "abandon":
            delivered: list[Outcome[int] | None] = []
            opened = window(jobs(), delivered.append, memory, depth)
            for _ in range(take):
                opened.release(1)
                await asyncio.sleep(0)
            await settled(turns)
            opened.abandon()
            count = len(delivered)
            opened.release(3)
            opened.abandon()
            await settled(20)
            assert len(delivered) == count, "delivered after it was abandoned"
        else:

            async def consume() -> None:
                numbers = results(jobs(), memory, depth)
                for _ in range(take):
                    if await anext(numbers, None) is None:
                        break
                if how == "collect":
                    return
                async with contextlib.aclosing(numbers):
                    if how == "cancel":
                        async for _ in numbers:
                            await asyncio.sleep(0)

            task = asyncio.create_task(consume())
            await settled(turns)
            if how == "cancel":
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if how == "collect":
                gc.collect()
                await settled(20)
        await nothing_left(memory)

    run_quietly(main())


@settings(deadline=None, max_examples=80)
@given(jobs_strategy(fails=False), st.integers(1, 8), st.integers(0, 30), st.booleans())
def test_loop_may_end_under_any_window(
    descriptions: list[dict[str, Any]], depth: int, turns: int, generated: bool
) -> None:
    """``asyncio.run`` cancels all tasks: whoever waits in a thread is told, asyncio does not complain."""
    memory = Memory()
    delivered: list[Outcome[int] | None] = []
    left = []

    async def main() -> None:
        if generated:
            numbers = results(made(descriptions), memory, depth)
            await anext(numbers, None)
            left.append(numbers)
        else:
            window(made(descriptions), delivered.append, memory, depth)
        await settled(turns)

    run_quietly(main())

    if generated:
        assert memory.used == 0
    else:
        last = delivered[-1]
        assert last is None or isinstance(last.error, asyncio.CancelledError)


@settings(deadline=None, max_examples=100)
@given(jobs_strategy(fails=False), jobs_strategy(fails=False), st.integers(1, 6), st.lists(st.booleans(), max_size=30))
def test_windows_that_share_memory_never_stop_each_other(
    first: list[dict[str, Any]], second: list[dict[str, Any]], depth: int, turns: list[bool]
) -> None:
    """One consumer takes from two windows in any order, under a budget that neither of them fits."""

    async def main() -> None:
        memory = Memory()
        both = [results(made(first), memory, depth), results(made(second), memory, depth)]
        taken: list[list[int]] = [[], []]
        async with contextlib.aclosing(both[0]), contextlib.aclosing(both[1]):
            for which in [*turns, *[False] * 15, *[True] * 15]:
                number = await anext(both[which], None)
                if number is not None:
                    taken[which].append(number)
        assert taken == [list(range(len(first))), list(range(len(second)))]
        await nothing_left(memory)

    run_quietly(main())


async def test_large_jobs_are_more_at_a_time_while_the_loop_has_nothing_to_do() -> None:
    """Two samples of 4 MiB on their way would leave a link with a latency idle."""
    memory, running, most = Memory(), 0, 0

    class Waiting:
        size = 4 * MiB
        beside = 0
        buffered = False

        async def run(self, slot: Slot) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.1)
            running -= 1
            return most

    jobs = ahead((Waiting() for _ in range(32)), depth=32, memory=memory, limit=192 * MiB, share=96 * MiB)
    async with contextlib.aclosing(jobs):
        first = [await anext(jobs)]
        rest = [result async for result in jobs]

    assert len(first + rest) == 32
    assert 8 <= most <= 24
    assert memory.used == 0
