"""Cancel a task at a chosen await of its own, or of any task that works for it.

*Operations*: ``Awaits.install`` makes a loop count every suspension of every task; ``Awaits.cancel`` runs a coroutine
and cancels it at suspension ``number``.

*Plan*: a task factory puts each coroutine behind one that passes everything on and sees what the task waits for. A
cancellation can meet an await at two moments, and each has broken programs of its own: while it *waits*, and when what
it waited for was *granted* and the task has not gone on yet. For the second the cancellation is a callback of the
awaited future, ahead of the one that wakes the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

__all__ = ["Awaits", "End", "Moment"]

Moment = Literal["waiting", "granted"]


@dataclass(frozen=True, slots=True)
class End:
    """How a coroutine ended.

    :ivar awaits: how many were met, of all tasks.
    :ivar struck: the cancellation met it, so that ``CancelledError`` was raised at one of its awaits.
    :ivar late: the cancellation came when it had ended: the await was one of a task that worked for it, and the last.
    :ivar cancelled: it ended by ``CancelledError``; where it was struck and this is false, somebody swallowed that.
    """

    awaits: int
    struck: bool
    late: bool
    cancelled: bool
    error: BaseException | None


class Awaits:
    """Counts what the tasks of one loop wait for."""

    def __init__(self) -> None:
        self._count = 0
        self._at = 0
        self._moment: Moment = "waiting"
        self._twice = False
        self._struck = self._late = False
        self._target: asyncio.Task[Any] | None = None
        self._caller: asyncio.Task[Any] | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count from now on; tasks that run already are not counted."""

        def make(
            loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
        ) -> asyncio.Task[Any]:
            return asyncio.Task(_Watched(coroutine, self), loop=loop, **options)

        loop.set_task_factory(make)  # type: ignore[arg-type]  # typeshed wants generators to be accepted as well

    async def cancel(
        self, work: Coroutine[Any, Any, object], number: int = 0, moment: Moment = "waiting", *, twice: bool = False
    ) -> End:
        """Run ``work`` as a task, cancel it at await ``number`` and wait for its end.

        :param number: counted from 1 over all tasks but the one that waits here; with 0, or if there are not as many,
            nothing is cancelled.
        :param twice: cancel once more at the next await, which is one of the clean-up unless another task comes first.
        """
        self._count, self._at, self._moment, self._twice = 0, number, moment, twice
        self._struck = self._late = False
        self._caller = asyncio.current_task()
        task = self._target = asyncio.get_running_loop().create_task(work)
        try:
            await asyncio.wait({task})
            await asyncio.sleep(0)  # a second cancellation may be on its way yet, and it holds the task and all it held
        finally:
            self._target = self._caller = None
        cancelled = task.cancelled()
        error = None if cancelled else task.exception()
        return End(self._count, self._struck, self._late, cancelled, error)

    def suspended(self, awaited: Any) -> None:
        """Count one suspension; called by the coroutine that waits for ``awaited``."""
        target = self._target
        if target is None or asyncio.current_task() is self._caller:
            return
        self._count += 1
        if self._count == self._at + 1 and self._twice:
            target.get_loop().call_soon(self._strike, target)
        if self._count != self._at:
            return
        if self._moment == "granted" and isinstance(awaited, asyncio.Future):
            awaited.add_done_callback(lambda _: self._strike(target))
        else:
            # Not at once: a task that is in its step would only be cancelled at its next await.
            target.get_loop().call_soon(self._strike, target)

    def _strike(self, target: asyncio.Task[Any]) -> None:
        if target.cancel():
            self._struck = True
        else:
            self._late = not self._struck


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that tells of each of its suspensions."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaits: Awaits) -> None:
        self._coroutine = coroutine
        self._awaits = awaits

    def send(self, value: Any, /) -> Any:
        awaited = self._coroutine.send(value)
        self._awaits.suspended(awaited)
        return awaited

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        awaited = self._coroutine.throw(kind)
        self._awaits.suspended(awaited)
        return awaited

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        raise TypeError("only a task may run this")
