"""Run the loop's blocking calls (name lookups) in threads that do not hold up interpreter exit.

The threads of the standard pool are joined before any ``atexit`` handler runs, so a lookup that hangs because the
network is gone would delay exit by the resolver's timeout (5 to 30 s), also after Ctrl-C.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["DaemonExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(ThreadPoolExecutor):
    """One short-lived daemon thread per call; unlike its base it works while the interpreter exits.

    Subclasses the pool because ``loop.set_default_executor`` accepts nothing else. Lookups are few (one per host
    at a time, then cached by the connector), so a pool would save nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._alive: list[threading.Thread] = []
        # An ended thread still is one of the kernel's for a moment, and in it takes a lock of OpenSSL, to free what
        # that kept for the thread.
        self._latest: deque[threading.Thread] = deque(maxlen=64)

    def wait(self, seconds: float) -> None:
        """Wait until the threads of all calls so far have ended, for the kernel, too; at most so long."""
        stop = time.monotonic() + seconds
        for thread in {*self._alive, *self._latest} - {threading.current_thread()}:
            thread.join(max(0, stop - time.monotonic()))
            while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < stop:
                time.sleep(0.0001)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start ``fn(*args, **kwargs)`` at once in a thread of its own.

        :raises RuntimeError: if the system refuses another thread.
        """
        future: Future[T] = Future()
        thread = threading.Thread(
            target=_fill, args=(future, fn, args, kwargs), name="azstoragetorch-blocking", daemon=True
        )
        thread.start()
        self._alive = [one for one in (*self._alive, thread) if one.is_alive()]
        self._latest.append(thread)
        return future


def _fill(future: Future[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # whatever it is belongs to the waiting coroutine
        future.set_exception(error)
        del future  # else error -> traceback -> this frame -> future -> error is a cycle
