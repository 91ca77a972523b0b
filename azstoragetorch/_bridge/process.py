"""The loop thread of this process: started by first use, renewed after a fork, stopped at exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

from azstoragetorch._bridge import fork
from azstoragetorch._bridge.loop_thread import PARK_SECONDS, Call, LoopThread
from azstoragetorch._values.unforked import wait_until_forkable

__all__ = ["at_exit", "call", "end_daemon_at_exit", "run"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STOP_SECONDS = 1.5  # closing idle connections takes milliseconds; a hung server must not hold up exit

_thread: LoopThread | None = None
_exiting = False
_farewells: list[Callable[[], object]] = []
# Reentrant, because a signal handler that saves a checkpoint may interrupt the very first `run` of its thread.
_lock = threading.RLock()
# Per forking thread the gate that holds the loop. A stack, because a signal handler may fork within a fork's hooks:
# inner forks find the loop held, and put None.
_gates: dict[int, list[threading.Lock | None]] = {}


def run(func: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
    """Run ``func(*args)`` as a task on the loop thread, wait for its end and return its result.

    Any thread may call it, also one that has a running event loop of its own (Jupyter), which then waits as well.
    The task sees a copy of the caller's context variables. If a signal handler raises in the waiting thread
    (Ctrl-C), the task is cancelled, its end is awaited, since it may be writing into the caller's buffer, and only
    then is the interrupt raised; a success that came in between is dropped.

    :raises RuntimeError: when called on the loop thread itself, where waiting would wait forever; when the
        interpreter exits; when the task was cancelled from inside the loop.
    :raises SystemExit: in a daemon thread, when the interpreter exits.
    :raises BaseException: whatever the task raised.
    """
    if _gates:
        _open_gates()
    thread = _thread
    if thread is None or thread.ended:
        thread = _start()
    if thread.is_current:
        raise RuntimeError(
            "a blocking file operation was called on the event loop thread that must carry it out; "
            "inside coroutines use azstoragetorch.aio.AsyncBlobIO, and aread() or areader() of a dataset's Blob"
        )
    pending = Call(thread, func, args)
    del args  # only the task holds them now, neither this frame nor the tracebacks that it appears in
    thread.pending.add(pending)
    try:
        thread.submit(pending)
        pending.wait()
    except BaseException as error:  # raised again below, once the task has ended
        interrupt = error
        while not pending.ended:
            try:
                thread.cancel(pending)
                pending.wait()
            except BaseException as later:  # kept or dropped, never obeyed before the end
                # The first interrupt counts, unless a real one (Ctrl-C) follows an alarm handler's exception.
                if isinstance(interrupt, Exception):
                    interrupt = later
        pending.error = pending.result = None
        try:
            if interrupt is error:
                raise
            raise interrupt from None
        finally:
            del interrupt, pending
    if pending.error is None:
        result: T = pending.result
        return result
    failure, pending.error = pending.error, None
    try:
        end_daemon_at_exit()
        raise failure
    finally:
        # The traceback refers to this frame: without this the exception would hold itself, and with it the
        # caller's buffers, until the next garbage collection.
        del failure, pending


def call(func: Callable[[*Ts], object], *args: *Ts) -> None:
    """Schedule the plain function ``func`` on the loop thread if there is one; for finalizers.

    Never waits, never raises and never starts the loop.
    """
    thread = _thread
    if thread is not None:
        with contextlib.suppress(Exception):  # closed meanwhile; a finalizer has nobody to tell
            thread.loop.call_soon_threadsafe(func, *args)


def at_exit(callback: Callable[[], object]) -> None:
    """Call ``callback`` at interpreter exit, before the loop stops; the latest registered goes first.

    It should not wait for the network. Threads that are not daemons have ended by then. What it raises is shown
    by the interpreter after everything has stopped.
    """
    _farewells.append(callback)


def _start() -> LoopThread:
    global _thread
    with _lock:
        if _exiting:
            end_daemon_at_exit()
            raise RuntimeError("the interpreter is exiting: azstoragetorch no longer reads or writes blobs")
        if _thread is None or _thread.ended:
            fresh = LoopThread()
            fresh.start()
            if _thread is None or _thread.ended:
                _thread = fresh
            else:  # a signal handler came in between and started one
                fresh.stop(STOP_SECONDS)
            if fork.generation():
                # multiprocessing clears the exit handlers in the children that it forks.
                atexit.unregister(_exit)
                atexit.register(_exit)
        return _thread


def end_daemon_at_exit() -> None:
    """End the calling thread if the interpreter exits and it is a daemon: Python stops those without a word too.

    What the exit broke is no error of theirs, and its traceback would be noise. Of all exceptions only this one lets
    a thread clean up and end silently.

    :raises SystemExit: in that case.
    """
    if _exiting and threading.current_thread().daemon:
        raise SystemExit("the interpreter is exiting") from None


def _exit() -> None:
    global _exiting, _thread
    failure: BaseException | None = None
    while _farewells:
        try:
            _farewells.pop()()
        except Exception as error:  # raised at the end: the others and the loop come first
            failure = failure or error
    _exiting = True
    thread, _thread = _thread, None  # from here on `run` refuses and `call` does nothing
    if thread is not None:
        thread.stop(STOP_SECONDS)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


def _before_fork() -> None:
    # Ctrl-C in here ends the waiting, and the fork goes on: Python shows what its hooks raise, and drops it.
    thread, ident = _thread, threading.get_ident()
    if thread is not None and thread.is_current:
        # Without the lock: another thread that forks may hold it and wait for this one.
        _wait_for_threads(thread)
        return
    _lock.acquire()  # until the fork is over nobody starts a loop, and nobody else forks
    thread = _thread
    if ident in _gates:
        _gates[ident].append(None)
        return
    for _ in range(3):
        if thread is not None:
            gate = threading.Lock()
            gate.acquire()
            _gates[ident] = [gate]
            thread.park(gate)
        _wait_for_threads(thread)
        if thread is None or ident in _gates:  # else a signal handler came in between, and let the loop go
            return


def _wait_for_threads(thread: LoopThread | None) -> None:
    wait_until_forkable(PARK_SECONDS)
    if thread is not None:
        thread.settle()
        wait_until_forkable(PARK_SECONDS)  # for what had its thread, and had not begun in it


def _open_gates() -> None:
    """Let the loop go that this thread holds for its fork: a signal handler within the hooks waits for it."""
    for gate in _gates.pop(threading.get_ident(), ()):
        if gate is not None:
            gate.release()


def _after_fork_in_parent() -> None:
    ident = threading.get_ident()
    gates = _gates.get(ident)
    if gates:
        gate = gates.pop()
        if not gates:
            _gates.pop(ident, None)
        if gate is not None:
            gate.release()
    with contextlib.suppress(RuntimeError):  # forked on the loop's thread, or Ctrl-C before the hook had the lock
        _lock.release()


def _after_fork_in_child() -> None:
    global _thread, _lock, _gates
    inherited, _thread = _thread, None
    _lock, _gates = threading.RLock(), {}  # other threads of the parent may have held them
    fork.advance()
    if inherited is not None:
        inherited.disown()
        # Only a thread that forked inside a signal handler, while it waited, can be left here; its task is not.
        inherited.abandon("the process was forked while it waited for this operation; the parent carries it out")


atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
