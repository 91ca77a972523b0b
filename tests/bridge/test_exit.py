"""The end of the interpreter: soon, and without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.script import output_of

pytestmark = pytest.mark.timeout(60)

# Registered before the bridge's handler, so it runs after it: prints whether the bridge let go in time.
COMMON = """
import asyncio, atexit, sys, threading, time

left_at = None


def report():
    print("in time" if time.monotonic() - left_at < 8 else "late", flush=True)


atexit.register(report)
from azstoragetorch._bridge import at_exit, call, run


async def nothing():
    pass


def in_background(func):
    "Run ``func`` from a daemon thread, return once its task is under way; the outcome goes to ``ended``."
    started = threading.Event()

    async def begin():
        started.set()
        await func()

    def work():
        try:
            run(begin)
        except Exception as error:
            ended.append(error)

    threading.Thread(target=work, daemon=True).start()
    started.wait()


ended = []
"""

LEAVE = """
left_at = time.monotonic()
"""


def test_exit_after_use_is_silent_and_closes_async_generators(tmp_path: Path) -> None:
    """Sessions are held by async generators: their sockets close in order."""
    printed = output_of(
        COMMON
        + """
async def session():
    try:
        yield "open"
    finally:
        await asyncio.sleep(0)
        print("session closed", flush=True)


async def open_session():
    return await anext(generator)


generator = session()
print(run(open_session))
"""
        + LEAVE,
        tmp_path,
    )
    assert printed == ["open", "session closed", "in time"]


def test_exit_cancels_what_still_runs_and_releases_who_waits(tmp_path: Path) -> None:
    """A daemon thread in the middle of a read is told, and the read's clean-up runs."""
    printed = output_of(
        COMMON
        + """
async def forever():
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)


in_background(forever)
"""
        + LEAVE,
        tmp_path,
    )
    assert printed == ["cleaned up", "in time"]


def test_daemon_thread_that_waits_is_released_and_ends(tmp_path: Path) -> None:
    """Else it would never unwind its own clean-up; an error would end it with a traceback on stderr."""
    printed = output_of(
        """
        import atexit
        def report():
            worker.join(10)
            print(ended)
        atexit.register(report)

        import asyncio, threading
        from azstoragetorch._bridge import run
        ended, started = [], threading.Event()

        async def forever():
            started.set()
            await asyncio.Event().wait()

        def work():
            for attempt in range(2):
                try:
                    run(forever)
                except SystemExit as error:
                    ended.append(str(error))

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        started.wait()
        """,
        tmp_path,
    )
    assert printed == [str(["the interpreter is exiting"] * 2)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("await asyncio.sleep(3600)", id="cancelled-twice"),
        pytest.param("raise ValueError('of the clean-up')", id="failing-clean-up"),
        pytest.param("return", id="success"),
    ],
)
def test_exit_with_a_task_that_suppresses_the_first_cancel(body: str, tmp_path: Path) -> None:
    """Clean-up code swallows cancellations; the second one, or its end, has to do."""
    printed = output_of(
        COMMON
        + f"""
async def stubborn():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("suppressed", flush=True)
    {body}


in_background(stubborn)
run(nothing)
"""
        + LEAVE,
        tmp_path,
    )
    assert printed == ["suppressed", "in time"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("await refuse()", id="task-refuses-every-cancel"),
        pytest.param("time.sleep(3600)", id="loop-blocked"),
        pytest.param(
            "await asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)", id="name-lookup-hangs"
        ),
    ],
)
def test_exit_is_not_held_up(body: str, tmp_path: Path) -> None:
    """A server or resolver that hangs must not keep a finished job from exiting."""
    printed = output_of(
        COMMON
        + f"""
async def refuse():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


async def hang():
    {body}


in_background(hang)
"""
        + LEAVE,
        tmp_path,
        seconds=20,
    )
    assert printed == ["in time"]


def test_background_tasks_end_in_silence(tmp_path: Path) -> None:
    """Readahead tasks have no waiter; at exit their errors are nobody's business."""
    printed = output_of(
        COMMON
        + """
async def fail_on_cancel():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("of a background task") from None


async def spawn():
    tasks.append(asyncio.create_task(fail_on_cancel()))
    await asyncio.sleep(0)


tasks = []
run(spawn)
"""
        + LEAVE,
        tmp_path,
    )
    assert printed == ["in time"]


def test_farewells_run_before_the_loop_stops(tmp_path: Path) -> None:
    """Open writers are aborted and named while their loop still lives, the latest registered first."""
    printed = output_of(
        COMMON
        + """
async def greet(name):
    return f"bye from {name}"


run(nothing)
at_exit(lambda: print(run(greet, "first"), flush=True))
at_exit(lambda: print(run(greet, "second"), flush=True))
"""
        + LEAVE,
        tmp_path,
    )
    assert printed == ["bye from second", "bye from first", "in time"]


def test_failing_farewell_stops_neither_the_others_nor_the_loop(tmp_path: Path) -> None:
    """With warnings as errors the warning about an open writer is an exception."""
    printed = output_of(
        COMMON
        + """
def fail():
    raise ValueError("open writer")


async def session():
    try:
        yield
    finally:
        print("session closed", flush=True)


async def begin():
    await anext(generator)


at_exit(lambda: print("other", flush=True))
at_exit(fail)
generator = session()
run(begin)
"""
        + LEAVE,
        tmp_path,
        complaint="ValueError: open writer",
    )
    assert printed == ["other", "session closed", "in time"]


def test_use_after_exit_is_refused(tmp_path: Path) -> None:
    """A handler that runs before the bridge's may still read; a later one gets an error that says so."""
    printed = output_of(
        """
        import atexit

        def too_late():
            call(print, "never printed")
            try:
                run(answer)
            except RuntimeError as error:
                print(error)

        atexit.register(too_late)
        from azstoragetorch._bridge import call, run

        async def answer():
            return 42

        run(answer)
        atexit.register(lambda: print(run(answer)))
        """,
        tmp_path,
    )
    assert printed == ["42", "the interpreter is exiting: azstoragetorch no longer reads or writes blobs"]


def test_child_that_exits_says_its_own_farewell(tmp_path: Path) -> None:
    """A forked child that used its own loop closes it as the parent does."""
    printed = output_of(
        """
        import asyncio, os, sys
        from azstoragetorch._bridge import run

        async def session():
            try:
                yield
            finally:
                print("closed by", "child" if os.getpid() != parent else "parent", flush=True)

        async def begin(generator):
            await anext(generator)

        parent = os.getpid()
        generators = [session()]
        run(begin, generators[0])
        if (child := os.fork()) == 0:
            generators.append(session())
            run(begin, generators[1])
            sys.exit(0)
        os.waitpid(child, 0)
        """,
        tmp_path,
    )
    assert printed == ["closed by child", "closed by parent"]


def test_first_use_after_exit_starts_nothing(tmp_path: Path) -> None:
    """A thread that starts now would be killed in the middle of its work."""
    printed = output_of(
        """
        import atexit, threading

        def too_late():
            try:
                run(answer)
            except RuntimeError as error:
                print(error, threading.active_count())

        atexit.register(too_late)
        from azstoragetorch._bridge import run

        async def answer():
            return 42
        """,
        tmp_path,
    )
    assert printed == ["the interpreter is exiting: azstoragetorch no longer reads or writes blobs 1"]
