"""Ctrl-C and other exceptions of signal handlers while a thread waits for the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.script import output_of

pytestmark = pytest.mark.timeout(60)


def test_task_has_ended_before_the_interrupt_surfaces(tmp_path: Path) -> None:
    """The task writes into the caller's buffer: it must not go on after the caller has moved on."""
    printed = output_of(
        """
        import asyncio, os, signal
        from azstoragetorch._bridge import run

        events = []

        async def interrupted():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                for _ in range(100):
                    await asyncio.sleep(0)
                events.append("cleaned up")

        async def tasks():
            return len(asyncio.all_tasks())

        try:
            run(interrupted)
        except KeyboardInterrupt:
            events.append("interrupt")
        print(events, run(tasks))
        """,
        tmp_path,
    )
    assert printed == ["['cleaned up', 'interrupt'] 2"]


def test_second_interrupt_does_not_cut_the_wait_short(tmp_path: Path) -> None:
    """People press Ctrl-C twice; the buffer still belongs to the task, whose clean-up is not disturbed."""
    printed = output_of(
        """
        import asyncio, os, signal
        from azstoragetorch._bridge import run

        events, interrupts = [], 0

        def interrupt(number, frame):
            global interrupts
            interrupts += 1
            raise KeyboardInterrupt(f"number {interrupts}")

        async def interrupted():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                for number in (2, 3):
                    os.kill(os.getpid(), signal.SIGINT)
                    while interrupts < number:
                        await asyncio.sleep(0.001)
                events.append("cleaned up")

        signal.signal(signal.SIGINT, interrupt)
        try:
            run(interrupted)
        except KeyboardInterrupt as error:
            events.append(str(error))
        print(events, interrupts)
        """,
        tmp_path,
    )
    assert printed == ["['cleaned up', 'number 1'] 3"]


def test_interrupt_is_raised_although_the_task_succeeded(tmp_path: Path) -> None:
    """Ctrl-C that is swallowed by a lucky race would have to be pressed again."""
    printed = output_of(
        """
        import asyncio, os, signal
        from azstoragetorch._bridge import run

        async def finish_anyway():
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "done"

        try:
            print(run(finish_anyway))
        except KeyboardInterrupt:
            print("interrupt")
        """,
        tmp_path,
    )
    assert printed == ["interrupt"]


def test_interrupt_overrides_an_earlier_exception_of_an_alarm(tmp_path: Path) -> None:
    """A caller that retries on its alarm's exception must not retry after Ctrl-C."""
    printed = output_of(
        """
        import asyncio, os, signal
        from azstoragetorch._bridge import run

        seen = []

        def ring(number, frame):
            seen.append(number)
            raise TimeoutError if number == signal.SIGALRM else KeyboardInterrupt

        async def interrupted():
            try:
                os.kill(os.getpid(), signal.SIGALRM)
                await asyncio.Event().wait()
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                while len(seen) < 2:
                    await asyncio.sleep(0.001)

        signal.signal(signal.SIGALRM, ring)
        signal.signal(signal.SIGINT, ring)
        try:
            run(interrupted)
        except BaseException as error:
            print(type(error).__name__)
        """,
        tmp_path,
    )
    assert printed == ["KeyboardInterrupt"]


def test_signal_handler_may_itself_run(tmp_path: Path) -> None:
    """A preempted job saves its checkpoint in the SIGTERM handler, often in the middle of a read."""
    printed = output_of(
        """
        import asyncio, os, signal
        from azstoragetorch._bridge import run

        saved = []

        async def save():
            await asyncio.sleep(0)
            return "saved"

        async def read():
            os.kill(os.getpid(), signal.SIGTERM)
            while not saved:
                await asyncio.sleep(0.001)
            return "read"

        signal.signal(signal.SIGTERM, lambda number, frame: saved.append(run(save)))
        print(run(read), saved)
        """,
        tmp_path,
    )
    assert printed == ["read ['saved']"]


def test_interrupts_at_any_instruction_leave_neither_hang_nor_task(tmp_path: Path) -> None:
    """The wait is only as good as its worst moment, so an alarm strikes hundreds of times at random ones."""
    printed = output_of(
        """
        import asyncio, random, signal, sys
        from azstoragetorch._bridge import run

        class Alarm(Exception):
            pass

        def ring(number, frame):
            raise Alarm

        def swallowed(what):
            # Python drops what is raised in a finalizer, or in a callback of a weak reference.
            assert isinstance(what.exc_value, Alarm), what
            signal.setitimer(signal.ITIMER_REAL, 0.0001)

        sys.unraisablehook = swallowed
        active = 0

        async def work():
            global active
            active += 1
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0.0005)
            finally:
                active -= 1

        async def idle():
            while len(asyncio.all_tasks()) > 2:
                await asyncio.sleep(0)
            return active

        run(work)
        random.seed(7)
        signal.signal(signal.SIGALRM, ring)
        rung = 0
        while rung < 400:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.001))
                while True:
                    run(work)
            except Alarm:
                rung += 1
        print(run(idle))
        """,
        tmp_path,
    )
    assert printed == ["0"]
