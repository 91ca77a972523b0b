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

TEARDOWN_SECONDS = 0.5
"""It takes microseconds, and a processor; a thread that has not ended, for a name lookup perhaps, is not waited for."""

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(ThreadPoolExecutor):
    """One short-lived daemon thread per call; unlike its base it works while the interpreter exits.

    Subclasses the pool because ``loop.set_default_executor`` accepts nothing else. Lookups are few (one per host
    at a time, then cached by the connector), so a pool would save nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._latest: deque[int | None] = deque(maxlen=64)
        """What the kernel calls the threads that were begun last."""

    def settle(self) -> None:
        """Wait, at most `TEARDOWN_SECONDS`, until threads that have ended for Python are gone for the kernel, too."""
        stop = time.monotonic() + TEARDOWN_SECONDS
        while self._latest:
            path = f"/proc/self/task/{self._latest.popleft()}"
            while os.path.exists(path) and time.monotonic() < stop:
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
        self._latest.append(thread.native_id)
        return future


def _fill(future: Future[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # whatever it is belongs to the waiting coroutine
        future.set_exception(error)
        del future  # else error -> traceback -> this frame -> future -> error is a cycle
