"""What a window does ahead, and what came of it: see `azstoragetorch._transfer.prefetch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from azstoragetorch._transfer.memory import Lease

__all__ = ["Deliver", "Grants", "Job", "Outcome", "Slot"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one job."""

    value: T | None = None
    error: BaseException | None = None


Deliver = Callable[[Outcome[T] | None], object]
"""Receives outcomes on the loop, and ``None`` after the last; must not raise or wait."""


class Job(Protocol[T_co]):
    """One thing to do ahead."""

    @property
    def size(self) -> int:
        """Bytes of memory to account for before it starts."""

    @property
    def beside(self) -> int:
        """Bytes more that its transfers take until they have ended, see `azstoragetorch._transfer.memory`."""

    @property
    def buffered(self) -> bool:
        """Whether it wants a buffer of that size; otherwise it allocates the memory itself."""

    async def run(self, slot: Slot) -> T_co:
        """Do it. What it raises is delivered in its turn and ends the window."""


class Grants(Protocol):
    """The window, as a slot sees it."""

    async def admit_more(self, number: int, size: int, beside: int) -> Lease:
        """See ``Window.admit_more``."""

    def settled(self) -> None:
        """See ``Window.settled``."""


class Slot:
    """The place of one job in a window, and its memory."""

    __slots__ = ("_number", "_window", "leases", "task")

    def __init__(self, window: Grants, number: int, lease: Lease) -> None:
        self._window = window
        self._number = number
        self.leases = [lease]
        self.task: asyncio.Task[Any]

    @property
    def lease(self) -> Lease:
        """The memory that was leased before the job started."""
        return self.leases[0]

    async def grow(self, size: int, beside: int = 0) -> None:
        """Lease ``size`` bytes more, without a buffer, for a job that turned out larger.

        :param beside: as of :class:`Job`, for what is transferred from now on.
        """
        # Idle while it waits: the head is granted more than the limit only when no buffer is active, and it may be
        # this job, or one like it, that holds what the head waits for.
        self.settle()
        self.leases.append(await self._window.admit_more(self._number, size, beside))

    def settle(self) -> None:
        """Say that no request uses the memory any more: others may then be granted more than the limit."""
        for lease in self.leases:
            lease.settle()
        self._window.settled()

    def free(self) -> None:
        """Give all memory back."""
        for lease in self.leases:
            lease.free()
