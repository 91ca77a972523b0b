"""What `run` and `call` promise to threads of one process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from azstoragetorch import _bridge
from azstoragetorch._bridge import call, generation, run
from tests.bridge.script import output_of

pytestmark = pytest.mark.timeout(30)


class TornError(Exception):
    pass


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def tear(buffer: bytearray) -> None:
    view = memoryview(buffer)
    await asyncio.sleep(0)
    raise TornError(len(view))


async def count_tasks() -> int:
    return len(asyncio.all_tasks()) - 1  # less the one that keeps the loop running


def test_result_of_the_task_comes_back() -> None:
    """The base of every synchronous face."""
    assert run(double, 21) == 42


def test_exception_comes_back_with_the_frames_of_caller_and_task() -> None:
    """A user debugs from one traceback; both sides of the hop have to be in it."""
    with pytest.raises(TornError) as caught:
        run(tear, bytearray(3))

    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == ["test_exception_comes_back_with_the_frames_of_caller_and_task", "run", "tear"]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_exception_holds_no_cycle() -> None:
    """A failed read must not keep its buffer until the next garbage collection."""

    def fail() -> weakref.ref[TornError]:
        try:
            run(tear, bytearray(3))
        except TornError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        gone = fail()
        deadline = time.monotonic() + 10  # the loop drops its own last references a moment after it wakes us
        while gone() is not None and time.monotonic() < deadline:
            run(double, 1)
        assert gone() is None
    finally:
        gc.enable()


def test_only_the_task_holds_the_arguments() -> None:
    """`readinto` lends a view of the caller's bytearray, which the caller may resize as soon as it is back."""

    class Lent(bytearray):
        pass

    async def drop(lent: Lent) -> bool:
        reference = weakref.ref(lent)
        del lent
        await asyncio.sleep(0)
        return reference() is None

    freed = run(drop, Lent(8))  # not inside the assert, which keeps what it evaluates
    assert freed


def test_wrong_arguments_raise_in_the_caller() -> None:
    """A call that never becomes a task must not leave its caller waiting."""
    with pytest.raises(TypeError, match="argument"):
        run(double)  # type: ignore[arg-type]


def test_cancellation_inside_the_loop_is_no_cancelled_error() -> None:
    """A caller inside another loop's task would take CancelledError for its own cancellation."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled inside the event loop"):
        run(give_up)


def test_system_exit_of_a_task_reaches_its_caller_and_the_next_call_works() -> None:
    """asyncio stops its loop for SystemExit; the file layer must not be dead for the rest of the process."""

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        run(leave)
    assert caught.value.code == 3

    for thread in threading.enumerate():
        if thread.name == "azstoragetorch":
            thread.join()
    assert run(double, 2) == 4


def test_context_variables_of_the_caller_are_seen() -> None:
    """Tracing and logging contexts have to reach the requests made for them."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")

    async def read_and_change() -> str:
        value = variable.get()
        await asyncio.sleep(0)
        variable.set("task's")
        return value

    assert run(read_and_change) == "mine"
    assert variable.get() == "mine"


def test_call_on_the_loop_thread_is_refused() -> None:
    """A wait for oneself would hang without a word."""

    async def misuse() -> int:
        return run(double, 1)

    with pytest.raises(RuntimeError, match="AsyncBlobIO"):
        run(misuse)


async def test_run_works_under_a_running_loop() -> None:
    """Jupyter runs every cell inside a loop."""
    assert asyncio.get_running_loop().is_running()
    assert run(double, 4) == 8


def test_many_threads_share_one_loop_thread() -> None:
    """Data pipelines read from many threads; each gets its own answer from the same loop."""

    async def where(number: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return number, threading.get_ident()

    together = threading.Barrier(32)

    def work(number: int) -> set[int]:
        together.wait()
        answers = [run(where, number * 1000 + round) for round in range(50)]
        assert [answer for answer, _ in answers] == [number * 1000 + round for round in range(50)]
        return {ident for _, ident in answers}

    with ThreadPoolExecutor(32) as pool:
        idents = set().union(*pool.map(work, range(32)))

    assert len(idents) == 1
    assert sum(thread.name == "azstoragetorch" for thread in threading.enumerate()) == 1
    assert run(count_tasks) == 1


def test_calls_overlap() -> None:
    """A slow operation of one thread must not hold up another's."""
    opened = threading.Event()

    async def wait_for_other() -> str:
        gate = asyncio.Event()
        gates.append(gate)
        opened.set()
        await gate.wait()
        return "woken"

    async def open_gate() -> None:
        gates[0].set()

    gates: list[asyncio.Event] = []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run, wait_for_other)
        opened.wait()
        run(open_gate)
        assert waiting.result() == "woken"


def test_blocking_calls_of_the_loop_run_beside_it() -> None:
    """Name lookups go through the loop's executor, here daemon threads."""

    async def look() -> tuple[bool, str]:
        loop = asyncio.get_running_loop()
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        addresses = await loop.getaddrinfo("127.0.0.1", 80)
        return bool(addresses), name

    assert run(look) == (True, "azstoragetorch-blocking")


def test_failing_blocking_call_raises_in_its_coroutine() -> None:
    """An unknown host has to be an error, not a hang."""

    async def look() -> None:
        def fail() -> None:
            raise TornError

        await asyncio.get_running_loop().run_in_executor(None, fail)

    with pytest.raises(TornError):
        run(look)


def test_call_runs_on_the_loop_thread() -> None:
    """Finalizers use it to abort what only the loop may touch."""
    run(double, 1)
    done = threading.Event()
    names: list[str] = []

    def note(suffix: str) -> None:
        names.append(threading.current_thread().name + suffix)
        done.set()

    call(note, "!")

    assert done.wait(10)
    assert names == ["azstoragetorch!"]


def test_nothing_starts_before_the_first_run(tmp_path: Path) -> None:
    """Import and finalizers must not cost a thread, and a fork before first use must find none."""
    printed = output_of(
        """
        import threading
        from azstoragetorch._bridge import at_exit, call, generation, run

        call(print, "never printed")
        at_exit(lambda: None)
        print(threading.active_count(), generation())

        async def name():
            return threading.current_thread().name, threading.current_thread().daemon

        print(run(name), threading.active_count())
        """,
        tmp_path,
    )
    assert printed == ["1 0", "('azstoragetorch', True) 2"]


def test_generation_is_stable_within_a_process() -> None:
    """Files compare it on every operation."""
    assert generation() == generation()


def test_public_names_are_those_listed() -> None:
    """Other packages import from the package alone."""
    assert sorted(_bridge.__all__) == ["at_exit", "call", "generation", "run"]
    assert all(hasattr(_bridge, name) for name in _bridge.__all__)


def test_cost_of_a_hop(capsys: pytest.CaptureFixture[str]) -> None:
    """Printed only: the figure depends on the machine."""

    async def nothing() -> None:
        return None

    run(nothing)
    count = 2000
    started = time.perf_counter()
    for _ in range(count):
        run(nothing)
    hop = (time.perf_counter() - started) / count
    with capsys.disabled():
        print(f"\none hop to the loop thread and back: {hop * 1e6:.0f} us")
    assert hop > 0
