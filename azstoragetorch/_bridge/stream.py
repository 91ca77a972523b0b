"""Take what the event loop prepares ahead, from a thread, without a hop for each item.

The window on the loop puts outcomes into a queue as they are ready; the thread takes them and says from time to time
how many it took (its *credits*). A thread that finds the queue filled neither waits nor wakes the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from azstoragetorch._bridge.fork import generation
from azstoragetorch._bridge.loop_thread import LOOK_SECONDS
from azstoragetorch._bridge.process import end_daemon_at_exit, run
from azstoragetorch._transfer.prefetch import Deliver, Outcome

__all__ = ["Stream"]

T = TypeVar("T")


class Ahead(Protocol):
    """What runs on the loop: :class:`~azstoragetorch._transfer.prefetch.Window`."""

    @property
    def starved(self) -> bool: ...

    def release(self, count: int) -> None: ...

    def abandon(self) -> None: ...


class Stream(Generic[T]):
    """The outcomes of a window, for one thread at a time.

    :param open_window: makes the window, on the loop, that delivers to what it is given.
    :param depth: items that the window keeps ahead; credits are paid when a quarter of them was taken, or at
        once where the window waits for memory.
    """

    _window: Ahead | None = None  # also where Ctrl-C came before anything was set, and the rest is finalized

    def __init__(self, open_window: Callable[[Deliver[T]], Awaitable[Ahead]], depth: int) -> None:
        self._queue: queue.SimpleQueue[Outcome[T] | None] = queue.SimpleQueue()
        self._most_owed = max(1, depth // 4)
        self._owed = 0
        self._generation = generation()
        self._loop: asyncio.AbstractEventLoop
        try:
            run(self._open, open_window)
        except BaseException:  # Ctrl-C may come when the window exists already
            self.close()
            raise

    async def _open(self, open_window: Callable[[Deliver[T]], Awaitable[Ahead]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._window = await open_window(self._queue.put)

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        """Return the next item, waiting for it.

        :raises StopIteration: after the last one.
        :raises RuntimeError: if this process was forked from the one that made the stream, or the loop has ended.
        :raises BaseException: whatever the job of the item raised; nothing follows it.
        """
        if self._generation != generation():
            raise RuntimeError(
                "the iteration was begun before this process was forked, and its transfers belong to the parent; "
                "iterate over the dataset again"
            )
        if self._window is None:
            raise StopIteration
        try:
            outcome = self._queue.get_nowait()
        except queue.Empty:
            self._pay()
            outcome = self._wait()
        self._owed += 1
        # A few large samples may be all that the memory holds: those that were taken must not hold up the next ones.
        if self._owed >= self._most_owed or self._window.starved:
            self._pay()
        if outcome is not None and outcome.error is None:
            return outcome.value  # type: ignore[return-value]  # a value may be None
        self.close()
        if outcome is None:
            raise StopIteration
        if isinstance(outcome.error, asyncio.CancelledError):
            raise _stopped()
        assert outcome.error is not None
        try:
            raise outcome.error
        finally:
            del outcome  # its error's traceback holds this frame

    def close(self) -> None:
        """End what runs on the loop; returns at once. Does nothing the second time, or in a forked child."""
        window = self._window
        if window is not None and self._generation == generation():
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(window.abandon)
        self._window = None  # only now: Ctrl-C may come in between, and to abandon a window twice does no harm

    def __del__(self) -> None:
        self.close()

    def _pay(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and self._window is not None:
            with contextlib.suppress(RuntimeError):  # closed; whoever waits finds out
                self._loop.call_soon_threadsafe(self._window.release, owed)

    def _wait(self) -> Outcome[T] | None:
        while True:
            try:
                return self._queue.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self._loop.is_closed():
                    raise _stopped() from None


def _stopped() -> RuntimeError:
    end_daemon_at_exit()
    return RuntimeError("the event loop that fetches the samples was stopped")
