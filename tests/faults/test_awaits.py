"""The tool of the cancellation tests does cancel, where and as often as it is told to, and says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.faults.awaits import Awaits, End, Moment

Trace = list[int]


def grant(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def three(passed: Trace) -> None:
    """Three awaits: of the loop, of a future, of a timer."""
    future = asyncio.get_running_loop().create_future()
    await asyncio.sleep(0)
    passed.append(1)
    asyncio.get_running_loop().call_later(0.001, grant, future)
    await future
    passed.append(2)
    await asyncio.sleep(0.001)
    passed.append(3)


async def by_another(passed: Trace) -> None:
    """The same, in a task that works for this one; waiting for it is the first of four awaits."""
    async with asyncio.TaskGroup() as group:
        group.create_task(three(passed))


async def stubborn(passed: Trace) -> None:
    """Swallow what was to end it, as a broken program does."""
    try:
        await three(passed)
    except asyncio.CancelledError:
        passed.append(-1)


async def tidy(passed: Trace) -> None:
    """Wait once more in the clean-up."""
    try:
        await three(passed)
    finally:
        passed.append(-1)
        await asyncio.sleep(0)
        passed.append(-2)


def end_of(
    work: Callable[[Trace], Coroutine[Any, Any, None]], number: int, moment: Moment = "waiting", *, twice: bool = False
) -> tuple[End, Trace]:
    """Run ``work``, cancelled at await ``number``, on a loop of its own; return its end and how far it came."""
    awaits, passed = Awaits(), Trace()
    with asyncio.Runner() as runner:
        awaits.install(runner.get_loop())
        return runner.run(awaits.cancel(work(passed), number, moment, twice=twice)), passed


@pytest.mark.parametrize("moment", ["waiting", "granted"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_cancels_at_this_await_and_at_no_other(number: int, moment: Moment) -> None:
    """A tool that only counts would let every property hold."""
    end, passed = end_of(three, number, moment)
    assert end == End(awaits=number, struck=True, late=False, cancelled=True, error=None)
    assert passed == [1, 2, 3][: number - 1]


@pytest.mark.parametrize("number", [0, 4])
def test_cancels_nothing_where_there_is_no_such_await(number: int) -> None:
    """This is how the awaits are counted first."""
    end, passed = end_of(three, number)
    assert end == End(awaits=3, struck=False, late=False, cancelled=False, error=None)
    assert passed == [1, 2, 3]


@pytest.mark.parametrize("moment", ["waiting", "granted"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_awaits_of_its_tasks_count(number: int, moment: Moment) -> None:
    """Most of what a transfer waits for is waited for by tasks of its own."""
    end, _ = end_of(by_another, number, moment)
    assert end == End(awaits=end.awaits, struck=True, late=False, cancelled=True, error=None)
    assert end.awaits >= number


def test_swallowed_cancellation_shows() -> None:
    """It struck, and that is not how the task ended."""
    end, passed = end_of(stubborn, 2)
    assert (end.struck, end.cancelled, end.error) == (True, False, None)
    assert passed == [1, -1]


@pytest.mark.parametrize(("twice", "expected"), [(False, [1, -1, -2]), (True, [1, -1])])
def test_second_cancellation_meets_the_clean_up(twice: bool, expected: Trace) -> None:
    """Whoever presses Ctrl-C again, or a timeout around a timeout."""
    end, passed = end_of(tidy, 2, twice=twice)
    assert end.struck
    assert end.cancelled
    assert passed == expected
