"""One event loop in one daemon thread, and the calls that wait for its tasks.

A call is *pending* from before it is handed to the loop until `LoopThread.finish`, whoever gets there first: its
task's done callback, the end of the thread, or a failed hand-over. Leaving the set ``pending`` is the one atomic
step that decides, so a waiter is released exactly once and never forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import selectors
import stat
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from azstoragetorch._bridge.executor import DaemonExecutor
from azstoragetorch._values.graveyard import bury

__all__ = ["LOOK_SECONDS", "Call", "LoopThread"]

_log = logging.getLogger("azstoragetorch.bridge")

LOOK_SECONDS = 0.5
"""How often a waiting thread wakes for a moment. A signal that arrives between Python's last look for one and the start
of the wait interrupts neither: without this Ctrl-C would be noticed when the operation ends, or never."""

PARK_SECONDS = 10.0
"""How long a fork waits for the loop to get between two callbacks. An idle loop is there in 0.05 ms, a busy one as soon
as it gets a processor. A child that is forked earlier may inherit a lock of OpenSSL from the middle of a handshake, and
would hang for ever in its own first one. Only a blocking call in somebody's coroutine outlasts this, and is forked."""

STOPPED = "the event loop thread of azstoragetorch has stopped; the operation did not complete"


class Call:
    """One coroutine function on its way through the loop, and its outcome on the way back.

    Lighter than `concurrent.futures.Future`: no condition variable, no callbacks, one raw lock.
    """

    __slots__ = ("_args", "_context", "_func", "_task", "_thread", "_unwanted", "_waiter", "ended", "error", "result")

    def __init__(
        self, thread: LoopThread, func: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]
    ) -> None:
        self._thread = thread
        self._func: Callable[..., Coroutine[Any, Any, Any]] | None = func
        self._args = args
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[Any] | None = None
        self._unwanted = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self._waiter = threading.Lock()
        self._waiter.acquire()

    def wait(self) -> None:
        """Wait until the call has ended; what a signal handler raises meanwhile comes out of here."""
        while not self._waiter.acquire(timeout=LOOK_SECONDS):
            pass

    def end(self, error: BaseException | None) -> None:
        """Say how it ended and release whoever waits."""
        self.error = error
        # Ended is set first: a waiter that is interrupted neither misses the end nor waits for it twice.
        self.ended = True
        self._waiter.release()

    def start(self) -> None:
        """Create the task (on the loop)."""
        func, args = self._func, self._args
        # The caller may resize its buffer as soon as it is released, so nothing but the task may hold the arguments.
        self._func, self._args = None, ()
        if func is None or self.ended:
            return
        if self._thread.stopping:
            self._thread.finish(self, RuntimeError(STOPPED))
            return
        try:
            self._task = self._thread.loop.create_task(func(*args), context=self._context)
        except BaseException as error:  # func refused its arguments; its caller has to know
            self._thread.finish(self, error)
        else:
            self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel the task once (on the loop); a task that cleans up is not disturbed by a second Ctrl-C.

        The loop runs callbacks in the order of their hand-over, so a call that has no task here never gets one:
        the interrupt came before the hand-over.
        """
        if self._task is None:
            self._thread.finish(self, None)
        elif not self._unwanted:
            self._unwanted = True
            self._task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled():
            # Take its CancelledError out of the task. The frames it refers to hold the caller's buffer, and they may
            # refer to the task (a TaskGroup does): a cycle, so the buffer would stay locked until the next collection.
            with contextlib.suppress(asyncio.CancelledError):
                task.exception()
            # Not CancelledError: the caller may itself run inside a task of another loop, which would take it
            # for its own cancellation.
            message = STOPPED if self._thread.stopping else "the operation was cancelled inside the event loop"
            self._thread.finish(self, RuntimeError(message))
            return
        error = task.exception()
        if error is None:
            self.result = task.result()
        self._thread.finish(self, error)


class _Loop(asyncio.SelectorEventLoop):
    """Buries, when it closes, the transports that still have something to send to a peer that takes nothing.

    They have been closed, and nothing more can be done for them; collected, they would warn of being unclosed.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._registered = selector

    def close(self) -> None:
        """Close the loop."""
        if not self.is_closed():
            bury([key.data for key in self._registered.get_map().values()])
        super().close()


class LoopThread:
    """A loop that exists at once and a thread that starts to serve it with `start`."""

    def __init__(self) -> None:
        # Always the standard loop: what a process installed as policy (uvloop) is not measured to be faster here
        # and has fork rules of its own. A selector of our own, because `disown` needs its descriptor.
        self._selector = selectors.DefaultSelector() if os.name == "posix" else None
        factory = None if self._selector is None else functools.partial(_Loop, self._selector)
        self._runner = asyncio.Runner(loop_factory=factory)
        # In an empty context: the runner keeps a copy, which would keep the first caller's variables alive.
        self.loop = contextvars.Context().run(self._runner.get_loop)
        self._executor = DaemonExecutor()
        self.loop.set_default_executor(self._executor)
        self.pending: set[Call] = set()
        self.stopping = False
        self.ended = False
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="azstoragetorch", daemon=True)

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: if there can be no other thread (the system's limit; 3.12 also refuses while the
            interpreter exits); the loop is closed then.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise
        except BaseException:  # Ctrl-C: nobody can tell whether the thread runs, and nobody will use it
            bury(self)
            self.loop.call_soon_threadsafe(self._wind_down)
            raise

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return threading.get_ident() == self._thread.ident

    def submit(self, call: Call) -> None:
        """Hand ``call``, already in ``pending``, to the loop; if it is gone the call ends with an error."""
        try:
            self.loop.call_soon_threadsafe(call.start)
        except RuntimeError:
            self.finish(call, RuntimeError(STOPPED))

    def cancel(self, call: Call) -> None:
        """Ask for the end of ``call``; returns before it has ended."""
        try:
            self.loop.call_soon_threadsafe(call.cancel)
        except RuntimeError:
            self.finish(call, RuntimeError(STOPPED))

    def finish(self, call: Call, error: BaseException | None) -> None:
        """End ``call`` and release its waiter; does nothing if it has ended."""
        try:
            self.pending.remove(call)
        except KeyError:
            return
        call.end(error)

    def abandon(self, reason: str) -> None:
        """Release every waiter with a `RuntimeError`, whatever becomes of the tasks."""
        for call in tuple(self.pending):
            self.finish(call, RuntimeError(reason))

    def park(self, gate: threading.Lock) -> None:
        """Hold the loop between two callbacks until ``gate`` opens, and wait for it to get there.

        Waits at most `PARK_SECONDS`; a callback that comes later finds the gate open and passes.
        """
        stop = time.monotonic() + PARK_SECONDS
        parked = threading.Lock()
        parked.acquire()

        def hold() -> None:
            parked.release()
            with gate:
                pass

        try:
            self.loop.call_soon_threadsafe(hold)
        except RuntimeError:  # closed: nothing to hold
            return
        # In slices: the loop may close, after a SystemExit in a task, with what was handed to it.
        while not parked.acquire(timeout=0.1) and self._thread.is_alive() and time.monotonic() < stop:
            pass

    def settle(self) -> None:
        """Wait until the threads that worked for the loop are torn down: in that, too, they take a lock of OpenSSL."""
        self._executor.settle()

    def stop(self, timeout: float) -> None:
        """Cancel all tasks, close the loop and wait at most ``timeout`` seconds for that.

        Afterwards no thread waits for a call. A loop that did not end in time stays with its daemon thread.
        """
        with contextlib.suppress(RuntimeError):  # closed
            self.loop.call_soon_threadsafe(self._wind_down)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.bury()
        self.abandon(STOPPED)

    def bury(self) -> None:
        """Let nothing of this loop ever be finalized; also for a loop that would not end before exit."""
        bury(self)
        # The loop knows its tasks weakly; one that waits for nothing but itself would be collected, noisily.
        bury(tuple(asyncio.all_tasks(self.loop)))

    def disown(self) -> None:
        """Bury this loop in a forked child and cut it off from what it shares with the parent.

        Finalizers of objects that nobody buried (a stream that a user's object holds) may still close a transport
        of this loop here. They find `os.devnull` in place of the epoll set and of the sockets, so they can neither
        unregister the parent's sockets nor write into its connections. It also lets the peer see the end of a
        connection as soon as the parent closes it, however long this child lives.
        """
        self.bury()
        if self._selector is None:
            return
        shared = [key.fd for key in self._selector.get_map().values() if _is_socket(key.fd)]
        with contextlib.suppress(OSError):  # no descriptor left: buried is enough for everything of this package
            null = os.open(os.devnull, os.O_RDWR)
            if (fileno := getattr(self._selector, "fileno", None)) is not None:  # epoll and kqueue have one
                shared.append(fileno())
            for fd in shared:
                os.dup2(null, fd, inheritable=False)
            os.close(null)

    def _serve(self) -> None:
        _log.debug("the event loop of process %d runs in a thread of its own", os.getpid())
        try:
            with self._runner:
                self._runner.run(self._stop.wait(), context=contextvars.Context())
        except BaseException:  # SystemExit of a task ends the loop; its caller receives it too
            _log.debug("the event loop ended early", exc_info=True)
        finally:
            # The loop is closed by now, so a call that is handed over after this sees an error at once.
            self.ended = True
            self.abandon(STOPPED)

    def _wind_down(self) -> None:
        self.stopping = True
        # Waiters receive the errors of their tasks; printing them once more at exit would be noise.
        self.loop.set_exception_handler(_log_quietly)
        for call in tuple(self.pending):
            call.cancel()
        self._stop.set()


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _log_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _log.debug("while the event loop closes: %s", context.get("message"), exc_info=context.get("exception"))
