"""What a file may not leave behind on its event loop: leased memory, tasks, connections."""

from __future__ import annotations

__all__ = ["Leaks", "kept_connections", "no_leaks"]

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp.connector import Connection

from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Memory
from azstoragetorch.aio import aclose
from tests.blobserver import BlobServer


def kept_connections() -> list[str]:
    """Return what some code of this process has taken from a pool and neither given back nor closed.

    The end of a session closes them as well, so whoever looks at the service then sees nothing of it; until then each
    takes a place of the pool.
    """
    # By type: a class of ours might answer the question by itself.
    objects = (item for item in gc.get_objects() if type(item) is Connection)
    return [repr(connection) for connection in objects if connection.protocol is not None]


class Leaks:
    """Tells what the loop of the sync files holds beyond what it held when this was made."""

    def __init__(self) -> None:
        run(self._note)

    async def _note(self) -> None:
        self._known = asyncio.all_tasks()
        self._used = Memory.current().used

    def tasks(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that run now."""
        return run(self._tasks)

    def memory(self) -> int:
        """Return the bytes leased now."""
        return run(self._memory)

    def wait(self) -> None:
        """Wait for the end of the tasks that run now: those of a file that was collected, which waits for nothing."""
        run(self._wait)

    def connections(self) -> list[str]:
        """Return the connections that are in use now."""
        return run(self._connections)

    async def _tasks(self) -> set[asyncio.Task[Any]]:
        current = asyncio.current_task()
        return {task for task in asyncio.all_tasks() - self._known if task is not current}

    async def _memory(self) -> int:
        return Memory.current().used - self._used

    async def _connections(self) -> list[str]:
        return kept_connections()

    async def _wait(self) -> None:
        if tasks := await self._tasks():
            await asyncio.wait(tasks)


@contextmanager
def no_leaks(server: BlobServer) -> Iterator[Leaks]:
    """Fail if the sync files used inside leave anything."""
    leaks = Leaks()
    yield leaks
    assert not leaks.tasks(), "tasks are left"
    assert leaks.memory() == 0, "memory is left"
    assert not leaks.connections(), "connections are kept"
    run(aclose)
    server.wait_closed()
