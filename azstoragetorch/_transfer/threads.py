"""Work that takes longer than the loop may wait, in a thread of the loop's executor.

*Warning*: on a user's own loop the executor is the user's, too, and all its threads may be busy for ever. So the wait
for one has a deadline. The work itself has none: it computes, for as long as its size needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from azstoragetorch.exceptions import BlobTimeoutError

__all__ = ["in_thread"]

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T], *, doing: str, deadline: float) -> _T:
    """Return ``work()``.

    :param doing: start of the message.
    :param deadline: seconds until it must have begun.
    :raises BlobTimeoutError: if no thread was free; it is not begun any more then.
    """
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    def begin() -> _T:
        loop.call_soon_threadsafe(begun.set)
        return work()

    # Not anyio's threads: their first use imports a module, and a child forked meanwhile keeps half of it.
    running = loop.run_in_executor(None, begin)
    waiting = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait([waiting], timeout=deadline)
        if begun.is_set():
            return await running
    finally:
        waiting.cancel()
        running.cancel()  # of no effect on what is done
    raise BlobTimeoutError(
        f"{doing}: no thread of the event loop's executor was free within the deadline of {deadline:g} s"
    )
