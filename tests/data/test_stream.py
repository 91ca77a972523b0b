"""Samples on their way from the loop to a thread: in order, without a hop each, and without a trace when left."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch._bridge import run
from azstoragetorch._bridge.stream import Stream
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.prefetch import Deliver, Outcome, Slot, Window
from tests.blobserver import BlobServer
from tests.processes.script import Script

pytestmark = pytest.mark.timeout(60)

LIMIT = 1000

KEPT = 2
"""Tasks of a loop thread that does nothing: the one that keeps it, and the one that asks."""


class TornError(Exception):
    """What a job fails with."""


class Work:
    """A job that takes some turns of the loop, or waits until it is cancelled."""

    beside = 0
    buffered = False

    def __init__(
        self, number: int, *, size: int = 0, turns: int = 0, waits: bool = False, error: BaseException | None = None
    ) -> None:
        self.number = number
        self.size = size
        self.turns = turns
        self.waits = waits
        self.error = error
        self.started = False

    async def run(self, slot: Slot) -> int:
        self.started = True
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.waits:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.number


def works(count: int, **others: Any) -> list[Work]:
    return [Work(number, **others) for number in range(count)]


def opener(jobs: Iterable[Work], depth: int = 8) -> Callable[[Deliver[int]], Awaitable[Window[int]]]:
    async def open_window(deliver: Deliver[int]) -> Window[int]:
        return Window(jobs, deliver, depth=depth, memory=Memory.current(), limit=LIMIT)

    return open_window


def stream(jobs: Iterable[Work], depth: int = 8) -> Stream[int]:
    return Stream(opener(jobs, depth), depth)


async def settled() -> tuple[int, int]:
    """Let the loop do what it can; return how many tasks there are and how much memory is leased."""
    for _ in range(50):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()), Memory.current().used


def nothing_left() -> bool:
    return run(settled) == (KEPT, 0)


class Shelf:
    """What stands in for a window: everything is there already, and who is called how often is noted."""

    def __init__(self, deliver: Deliver[int], count: int, *, starved: bool = False) -> None:
        self.starved = starved
        self.releases: list[int] = []
        self.abandoned = 0
        self.threads: set[str] = set()
        for number in range(count):
            deliver(Outcome(number))
        deliver(None)

    def release(self, count: int) -> None:
        self.releases.append(count)
        self.threads.add(threading.current_thread().name)

    def abandon(self) -> None:
        self.abandoned += 1
        self.threads.add(threading.current_thread().name)


def shelved(count: int, depth: int, *, starved: bool = False) -> tuple[Stream[int], Shelf]:
    made: list[Shelf] = []

    async def open_window(deliver: Deliver[int]) -> Shelf:
        made.append(Shelf(deliver, count, starved=starved))
        return made[0]

    return Stream(open_window, depth), made[0]


# Items and credits.


@pytest.mark.parametrize("depth", [1, 2, 8, 100])
def test_items_come_in_order(depth: int) -> None:
    """Whatever the order in which they are ready."""
    jobs = [Work(number, turns=(7 * number) % 11) for number in range(40)]

    assert list(stream(jobs, depth)) == list(range(40))

    assert nothing_left()


def test_nothing_to_do() -> None:
    """An empty epoch ends at once."""
    empty = stream([])
    assert list(empty) == []
    assert list(empty) == []
    assert nothing_left()


def test_filled_queue_needs_no_hop() -> None:
    """A thread that finds its samples ready must not wake the loop for each: it is busy enough in pure Python."""
    items, shelf = shelved(64, depth=32)

    assert [next(items) for _ in range(63)] == list(range(63))
    run(settled)

    assert shelf.releases == [8] * 7
    assert list(items) == [63]
    run(settled)
    assert shelf.abandoned == 1
    assert shelf.threads == {"azstoragetorch"}


def test_starved_window_is_paid_at_once() -> None:
    """Where three large samples fill the memory, waiting until eight are taken would be waiting for ever."""
    items, shelf = shelved(5, depth=32, starved=True)

    assert [next(items) for _ in range(3)] == [0, 1, 2]
    run(settled)

    assert shelf.releases == [1, 1, 1]
    items.close()


def test_window_is_kept_full_while_the_thread_works() -> None:
    """All but the few that were taken and not paid for yet."""
    jobs = works(60)
    with closing(stream(jobs, depth=16)) as items:
        for number in range(40):
            assert next(items) == number
            run(settled)
            ahead = sum(job.started for job in jobs) - (number + 1)
            assert 12 <= ahead <= 16
    assert nothing_left()


def test_large_items_are_fetched_while_the_thread_works() -> None:
    """Two of these fit the memory: when one is taken the next has to start, though the other still waits."""
    jobs = works(10, size=LIMIT // 2)
    with closing(stream(jobs, depth=32)) as items:
        run(settled)
        for number in range(8):
            assert next(items) == number
            run(settled)
            assert sum(job.started for job in jobs) == number + 3
    assert nothing_left()


def test_threads_iterate_side_by_side() -> None:
    """Each with a stream of its own, over one loop."""
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(list(stream(works(200, turns=1))))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(200))] * 5
    assert nothing_left()


# The end.


def test_error_is_raised_in_its_turn() -> None:
    """As the object that the job raised; then the iteration is over."""
    jobs = works(10)
    jobs[3].error = error = TornError()
    items = stream(jobs)

    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TornError) as raised:
        next(items)

    assert raised.value is error
    assert list(items) == []
    assert nothing_left()


def test_error_keeps_nothing_alive() -> None:
    """Its traceback holds frames; a cycle among them would hold samples until the next collection."""

    class Torn(Work):
        async def run(self, slot: Slot) -> int:
            raise TornError

    gc.collect()
    gc.disable()
    try:
        items = stream([Torn(0), *works(3)])
        with pytest.raises(TornError):
            next(items)
        del items
        run(settled)
        assert not [each for each in gc.get_objects() if type(each) in (Stream, Window)]
    finally:
        gc.enable()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_close_ends_everything(taken: int) -> None:
    """What a ``break`` does: nothing goes on for nobody."""
    jobs = works(taken) + [Work(number, size=10, waits=True) for number in range(taken, 30)]
    items = stream(jobs)
    assert [next(items) for _ in range(taken)] == list(range(taken))

    items.close()
    items.close()

    assert list(items) == []
    assert nothing_left()


def test_collected_stream_ends_everything() -> None:
    """An interrupt may come before anybody could close it."""
    items = stream([Work(number, size=10, waits=True) for number in range(30)])
    assert run(settled) == (KEPT + 9, 80)
    del items
    gc.collect()
    assert nothing_left()


def test_failure_to_open_is_raised() -> None:
    """Not swallowed, and no iteration that never ends."""

    async def open_window(deliver: Deliver[int]) -> Window[int]:
        raise TornError

    with pytest.raises(TornError):
        Stream(open_window, 8)
    assert nothing_left()


@pytest.mark.parametrize("behind", [0, 20])
def test_stopped_loop_is_an_error_and_the_next_stream_works(behind: int) -> None:
    """SystemExit of a coroutine transform stops the loop: the thread that waits must hear of it, and soon."""
    items = stream([Work(0), Work(1, turns=60, error=SystemExit(3)), *works(behind)])
    assert next(items) == 0

    started = time.monotonic()
    with pytest.raises((RuntimeError, SystemExit)):
        next(items)
    assert time.monotonic() - started < 4, "it was told, and did not have to look"

    for thread in threading.enumerate():
        if thread.name == "azstoragetorch":
            thread.join()
    assert list(items) == []
    assert list(stream(works(5))) == [0, 1, 2, 3, 4]


def test_loop_that_ends_while_nobody_waits() -> None:
    """What it has delivered can still be taken; then comes the error, not a wait for ever."""

    async def leave() -> None:
        raise SystemExit(3)

    items = stream([*works(4), Work(4, waits=True)])
    assert next(items) == 0
    run(settled)
    with pytest.raises(SystemExit):
        run(leave)
    for thread in threading.enumerate():
        if thread.name == "azstoragetorch":
            thread.join()

    assert [next(items) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="event loop that fetches the samples was stopped"):
        next(items)
    items.close()


# Processes and signals.

SCRIPT = """
import random
from contextlib import closing
from tests.data.test_stream import *
from tests.data.test_stream import settled, stream, works
"""


@pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="there is no fork on this system")
def test_forked_child_is_told_to_iterate_again(server: BlobServer, tmp_path: Path) -> None:
    """The transfers belong to the parent; waiting for them in the child would be waiting for ever."""
    with Script(
        SCRIPT
        + """
        items = stream(works(100))
        assert next(items) == 0
        child = os.fork()
        if child == 0:
            for _ in range(2):
                try:
                    next(items)
                except RuntimeError as error:
                    say(error)
            items.close()
            del items
            assert list(stream(works(20))) == list(range(20))
            assert run(settled) == (2, 0)
            sys.exit(0)
        wait_for(child)
        assert list(items) == list(range(1, 100))
        assert run(settled) == (2, 0)
        """.replace("\n        ", "\n"),
        tmp_path,
        server,
    ) as script:
        first, second = script.end().silently()
    assert first == second
    assert "before this process was forked" in first
    assert "iterate over the dataset again" in first


def test_interrupt_ends_the_wait_and_the_work(server: BlobServer, tmp_path: Path) -> None:
    """Ctrl-C while a sample is on its way."""
    with Script(
        SCRIPT
        + """
        with closing(stream([*works(3), Work(3, size=10, waits=True), *works(9)])) as items:
            assert [next(items) for _ in range(3)] == [0, 1, 2]
            try:
                say("waiting")
                next(items)
            except KeyboardInterrupt:
                say("interrupted")
        assert run(settled) == (2, 0)
        assert list(stream(works(20))) == list(range(20))
        """.replace("\n        ", "\n"),
        tmp_path,
        server,
    ) as script:
        assert script.line() == "waiting"
        script.signal(2)
        assert script.line() == "interrupted"
        assert script.took < 4
        assert script.end().silently() == []


def test_interrupts_at_any_instruction_leave_nothing(server: BlobServer, tmp_path: Path) -> None:
    """Opening, taking, closing: an alarm strikes hundreds of times at random moments of all of them."""
    with Script(
        SCRIPT
        + """
        class Alarm(Exception):
            pass

        def ring(number, frame):
            while frame is not None:
                if frame.f_code.co_name == "__del__":  # Python swallows whatever is raised there
                    signal.setitimer(signal.ITIMER_REAL, 0.0001)
                    return
                frame = frame.f_back
            raise Alarm

        def swallowed(what):
            # So it does in callbacks of weak references, of which there are some in the standard library.
            assert isinstance(what.exc_value, Alarm), what
            signal.setitimer(signal.ITIMER_REAL, 0.0001)

        sys.unraisablehook = swallowed
        list(stream(works(3)))
        random.seed(7)
        signal.signal(signal.SIGALRM, ring)
        rung = 0
        while rung < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.002))
                while True:
                    with closing(stream(works(20, size=100, turns=2))) as items:
                        for number in items:
                            pass
            except Alarm:
                rung += 1
        del items
        gc.collect()
        print(run(settled))
        """.replace("\n        ", "\n"),
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == ["(2, 0)"]


@pytest.mark.parametrize("daemon", [True, False])
def test_exit_while_a_stream_is_open(server: BlobServer, tmp_path: Path, daemon: bool) -> None:
    """Nothing is printed, whoever waits: Python stops daemon threads without a word, too."""
    with Script(
        SCRIPT
        + f"""
        kept = stream([*works(2), Work(2, size=10, waits=True)])
        assert next(kept) == 0
        if {daemon}:
            waiting = threading.Event()

            def wait_for_ever():
                with closing(stream([Work(0, waits=True)])) as items:
                    waiting.set()
                    next(items)

            threading.Thread(target=wait_for_ever, daemon=True).start()
            waiting.wait()
        """.replace("\n        ", "\n"),
        tmp_path,
        server,
    ) as script:
        ended = script.end()
        assert ended.silently() == []
        assert ended.seconds < 10
