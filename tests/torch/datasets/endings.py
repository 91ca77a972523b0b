"""Programs that end iterations early, over and over, or lose a worker, and count what is left of it."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from azstoragetorch._bridge import run
from azstoragetorch.aio import aclose
from tests.torch.datasets.child import checked, job_of, made, say

__all__ = ["breaks", "loses_a_worker"]

WARM_UP, TIMES = 8, 50


def breaks(path: str) -> None:
    """Leave a loop 50 times in each way; say for each what was counted before and after, and how much more is held.

    Held are blocks of Python's allocator and MiB of the process. The first says whether anything is left of a loop: it
    comes back to within 200 of where it was. The second moves by up to 8 MiB in the first hundred loops, as malloc's
    arenas fill, and stays where it is in the thousand after them: only large buffers would show in it.
    """
    job = job_of(path)
    gc.freeze()  # what importing torch made: each of the collections below would look through it
    for way, spec in job["ways"]:
        dataset = made(job["container_url"], spec)
        leave: Callable[[Any], None] = globals()[way]
        for _ in range(WARM_UP):
            leave(dataset)
        before, blocks, memory = counted(), sys.getallocatedblocks(), resident()
        for _ in range(TIMES if way != "by_break_with_a_worker" else 20):
            leave(dataset)
        after = counted()
        say([before, after, sys.getallocatedblocks() - blocks, resident() - memory])


def by_break(dataset: Any) -> None:
    for number, sample in enumerate(dataset):
        checked(sample)
        if number == 2:
            break


def by_error(dataset: Any) -> None:
    """An exception, whose traceback keeps the iterator until it is handled."""
    try:
        for sample in dataset:
            checked(sample)
            raise KeyError("of the training loop")
    except KeyError:
        pass


def by_close(dataset: Any) -> None:
    samples = iter(dataset)
    checked(next(samples))
    samples.close()


def by_never_starting(dataset: Any) -> None:
    iter(dataset)


def by_a_cycle(dataset: Any) -> None:
    """An iterator that only the garbage collector finds."""
    samples = iter(dataset)
    checked(next(samples))
    cycle: list[Any] = [samples]
    cycle.append(cycle)


def by_two_at_once(dataset: Any) -> None:
    for one, other in zip(dataset, dataset, strict=True):
        checked(one)
        checked(other)
        break


def by_break_in_async_for(dataset: Any) -> None:
    async def main() -> None:
        async for sample in dataset:
            checked(sample)
            break

    asyncio.run(main())


def by_break_in_a_loader(dataset: Any) -> None:
    for batch in DataLoader(dataset, batch_size=4, collate_fn=list):
        for sample in batch:
            checked(sample)
        break


def by_break_with_a_worker(dataset: Any) -> None:
    loader: Any = DataLoader(dataset, batch_size=4, collate_fn=list, num_workers=1, multiprocessing_context="fork")
    for batch in loader:
        for sample in batch:
            checked(sample)
        break


def counted() -> list[int]:
    """Return how many descriptors, threads, tasks of the event loop and children there are, without pooled sockets."""
    gc.collect()
    left = run(tasks)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":  # a DataLoader tells it to end, and does not wait until it has
            thread.join(10)
    kernel_threads = len(os.listdir("/proc/self/task"))
    children = len(multiprocessing.active_children())
    return [len(os.listdir("/proc/self/fd")), kernel_threads, threading.active_count(), left, children]


async def tasks() -> int:
    await aclose()
    for _ in range(2000):  # what was let go ends by itself, when the loop comes to it
        if len(asyncio.all_tasks()) == 2:  # this one and the one that keeps the loop running
            break
        await asyncio.sleep(0.005)
    return len(asyncio.all_tasks())


def resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def loses_a_worker(path: str) -> None:
    """Kill a worker in the middle of an epoch, as the kernel does when memory runs out; say what became of it."""
    job = job_of(path)
    for method in job["methods"]:
        dataset = made(job["container_url"], job["dataset"])
        loader: Any = DataLoader(
            dataset,
            batch_size=1,
            collate_fn=list,
            num_workers=2,
            multiprocessing_context=method,
            prefetch_factor=1,
            persistent_workers=True,
        )
        batches = iter(loader)
        checked(next(batches)[0])
        victim = multiprocessing.active_children()[-1]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        seen = 0
        try:
            for batch in batches:
                checked(batch[0])
                seen += 1
        except RuntimeError as error:
            message = str(error)
        else:
            message = f"no error, {seen} samples"
        del loader, batches
        gc.collect()
        children = [child.name for child in multiprocessing.active_children()]
        # The library still works: here, and in new workers.
        alone = sorted(checked(sample) for sample in dataset)
        again: Any = DataLoader(dataset, collate_fn=list, batch_size=4, num_workers=2, multiprocessing_context=method)
        workers = sorted(checked(sample) for batch in again for sample in batch)
        say([message, children, alone, workers])
