"""From blobs to samples: fetch ahead on the event loop, transform where the samples are wanted.

blobs --> SampleJob (on the loop: the content, and a coroutine transform) --> Fetched
      --> finish (in the consumer's thread: a plain transform, what to do about an error) --> sample
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

import anyio.to_thread

from azstoragetorch._bridge.stream import Stream
from azstoragetorch._data.access import Access, Tally
from azstoragetorch._data.blob import Blob
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.prefetch import Deliver, Slot, Window, ahead
from azstoragetorch._transfer.whole import Head, fetch_head, fetch_known, fetch_rest
from azstoragetorch._values.options import KiB
from azstoragetorch.exceptions import AZStorageTorchError, redact

__all__ = ["Blobs", "Loading", "OnError", "Transform", "checked_loading"]

_logger = logging.getLogger("azstoragetorch.datasets")

Transform: TypeAlias = Callable[[Blob], Any]
"""Makes a sample of a blob; a coroutine function runs on the event loop."""
OnError: TypeAlias = Literal["raise", "skip"] | Callable[[Blob, Exception], Any]
"""What an error of one sample does: it ends the iteration, leaves the blob out, or gives another sample."""
Blobs: TypeAlias = Iterable[Blob] | Callable[[], AsyncGenerator[Blob]]
"""What to read: blobs at hand, or a function that finds them on the event loop."""

SKIPPED: Final = object()
"""Stands for a sample that is left out."""

MAX_PREFETCH = 4096


@dataclass(slots=True)
class Fetched:
    """A blob whose sample is next."""

    blob: Blob
    value: Any = None
    transformed: bool = False
    error: Exception | None = None


class SampleJob:
    """One blob to fetch, and to transform if its transform is a coroutine function."""

    __slots__ = ("_blob", "_loading", "beside", "buffered", "size")

    def __init__(self, blob: Blob, loading: Loading) -> None:
        self._blob = blob
        self._loading = loading
        self.size = self.beside = 0
        self.buffered = False
        if loading.prefetch:
            known = blob.version
            if known is None:
                self.size, self.buffered = loading.head.size, True
                self.beside = blob.beside(self.size)
            elif known.size <= loading.access.options.prefetch_max_blob:
                self.size = known.size
                self.beside = blob.beside(self.size)

    async def run(self, slot: Slot) -> Fetched:
        """Fetch the blob. An error belongs to its sample and does not end the others."""
        blob, loading = self._blob, self._loading
        try:
            if loading.prefetch:
                await self._fetch(slot)
            if loading.is_async:
                # Content at rest: a transform that waits for memory to read something else must not wait for itself.
                slot.settle()
                return Fetched(blob, await loading.apply_async(blob), transformed=True)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # Something that the transform waited for was cancelled, and neither it nor the consumer.
            return Fetched(blob, error=RuntimeError(f"the transform of {blob.url} was cancelled inside the event loop"))
        except Exception as error:
            return Fetched(blob, error=error)
        return Fetched(blob)

    async def _fetch(self, slot: Slot) -> None:
        blob, options = self._blob, self._loading.access.options
        known = blob.version
        if known is not None and known.size > options.prefetch_max_blob:
            return  # opened when the transform reads it
        remote = await blob.connect()
        if known is not None:
            blob.hold(await fetch_known(remote, known, options), known)
            return
        lease = slot.lease
        filled, version = await fetch_head(remote, memoryview(lease.buffer), options)
        self._loading.head.fit(version.size)
        if version.size > options.prefetch_max_blob:
            blob.pin(version)
            lease.free()
            return
        if version.size > lease.size:
            await slot.grow(version.size, blob.beside(version.size - filled))
        content = await fetch_rest(remote, memoryview(lease.buffer)[:filled], version, options)
        if version.size > lease.size:
            lease.free()
        else:
            lease.shrink(version.size)
        blob.hold(content, version)


@dataclass(frozen=True, slots=True)
class Loading:
    """How the samples of one dataset are made.

    :ivar prefetch: samples on their way at once; 0 fetches nothing ahead.
    """

    access: Access
    transform: Transform | None
    prefetch: int
    on_error: OnError
    is_async: bool
    """Whether the transform is a coroutine function."""
    share: int
    """Bytes that samples ahead may take: half of the budget, because an iteration that pauses for a checkpoint keeps
    them. 96 MiB on their way fill 10 Gb/s at 70 ms a sample."""
    head: Head

    def fetch(self, blobs: Blobs) -> Generator[Fetched]:
        """Yield the blobs in order, fetched ahead, to a thread."""
        if not callable(blobs) and not self.prefetch and not self.is_async:
            for blob in blobs:
                yield Fetched(blob)
            return
        depth = max(1, self.prefetch)
        with contextlib.closing(Stream(partial(self._open, blobs, depth), depth)) as stream:
            yield from stream

    def fetch_async(self, blobs: Blobs) -> AsyncGenerator[Fetched]:
        """Yield the blobs in order, fetched ahead, to a task of the running loop."""
        limit, share = self.access.options.memory_budget, self.share
        return ahead(self._jobs(blobs), depth=max(1, self.prefetch), memory=Memory.current(), limit=limit, share=share)

    def finish(self, fetched: Fetched) -> Any:
        """Return the sample, or :data:`SKIPPED`; in the consumer's thread.

        :raises Exception: what fetching or the transform raised, unless ``on_error`` says what to do instead.
        """
        if fetched.error is None:
            try:
                sample = fetched.value if fetched.transformed else self._apply(fetched.blob)
            except Exception as error:
                if self.on_error == "raise":
                    _name(error, fetched.blob)
                    raise
                fetched.error = error
            else:
                self.access.stats.samples += 1
                return sample
        return self._replace(fetched)

    async def finish_async(self, fetched: Fetched) -> Any:
        """Like :meth:`finish`, on the event loop; a plain transform runs in a thread beside it."""
        if self.transform is None and fetched.error is None:
            try:
                fetched.value = {"url": fetched.blob.url, "data": await fetched.blob.aread()}
                fetched.transformed = True
            except Exception as error:
                fetched.error = error
        if fetched.transformed or (fetched.error is not None and not callable(self.on_error)):
            return self.finish(fetched)
        return await anyio.to_thread.run_sync(self.finish, fetched)

    def samples(self, blobs: Blobs, done: Callable[[], object] = lambda: None) -> Generator[Any]:
        """Yield samples to a thread.

        :param done: called for every blob, skipped or not, before its sample is handed out.
        """
        with Tally(self.access.stats) as tally, contextlib.closing(self.fetch(blobs)) as fetched:
            for item in fetched:
                sample = self.finish(item)
                del item  # with what was fetched: a consumer that keeps only what was made of it has no use for that
                done()
                if sample is not SKIPPED:
                    tally.samples += 1
                    yield sample

    async def samples_async(self, blobs: Blobs, done: Callable[[], object] = lambda: None) -> AsyncGenerator[Any]:
        """Yield samples to a task of the running loop; parameters as of :meth:`samples`."""
        with Tally(self.access.stats) as tally:
            async with contextlib.aclosing(self.fetch_async(blobs)) as fetched:
                async for item in fetched:
                    sample = await self.finish_async(item)
                    del item
                    done()
                    if sample is not SKIPPED:
                        tally.samples += 1
                        yield sample

    async def apply_async(self, blob: Blob) -> Any:
        """Return what the coroutine transform makes of ``blob``."""
        assert self.transform is not None
        return await self.transform(blob)

    def _apply(self, blob: Blob) -> Any:
        if self.transform is None:
            return {"url": blob.url, "data": blob.read()}
        sample = self.transform(blob)
        if inspect.iscoroutine(sample):
            sample.close()  # or Python warns that nobody awaited it, some time and somewhere
            raise TypeError(
                "the transform returned a coroutine: pass the coroutine function itself, or a partial of it"
            )
        return sample

    def _replace(self, fetched: Fetched) -> Any:
        # Taken out of it: the error's traceback holds frames that hold the item, and with it the content of the blob,
        # until the next garbage collection.
        blob, error, fetched.error = fetched.blob, fetched.error, None
        assert error is not None
        try:
            if self.on_error == "raise":
                _name(error, blob)
                raise error
            stats = self.access.stats
            if self.on_error == "skip":
                stats.skipped += 1
                kind = type(error)  # it may be the transform's, of a library that shows the URL it was given
                _logger.warning("skipped %s: %s.%s: %s", blob.url, kind.__module__, kind.__name__, redact(str(error)))
                return SKIPPED
            stats.samples += 1
            try:
                return self.on_error(blob, error)
            except Exception as failure:
                _name(failure, blob)
                raise
        finally:
            del error

    async def _open(self, blobs: Blobs, depth: int, deliver: Deliver[Fetched]) -> Window[Fetched]:
        limit, memory = self.access.options.memory_budget, Memory.current()
        return Window(self._jobs(blobs), deliver, depth=depth, memory=memory, limit=limit, share=self.share)

    def _jobs(self, blobs: Blobs) -> Iterable[SampleJob] | AsyncGenerator[SampleJob]:
        if callable(blobs):
            return self._jobs_found(blobs())
        return (SampleJob(blob, self) for blob in blobs)

    async def _jobs_found(self, blobs: AsyncGenerator[Blob]) -> AsyncGenerator[SampleJob]:
        async with contextlib.aclosing(blobs):
            async for blob in blobs:
                yield SampleJob(blob, self)


def is_coroutine_function(function: object) -> bool:
    """Whether calling ``function`` makes a coroutine; a callable object and a partial count as what they call."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        callable(function) and inspect.iscoroutinefunction(type(function).__call__)
    )


def checked_loading(access: Access, transform: object, prefetch: object, on_error: object) -> Loading:
    """Return how samples are made.

    :raises TypeError: if an argument is of the wrong type.
    :raises ValueError: if it is out of its bounds.
    """
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be callable with a Blob, not {type(transform).__name__}")
    if not isinstance(prefetch, int) or isinstance(prefetch, bool):
        raise TypeError(f"prefetch must be a number of samples, not {type(prefetch).__name__}")
    if not 0 <= prefetch <= MAX_PREFETCH:
        raise ValueError(f"prefetch must be between 0 and {MAX_PREFETCH} samples, got {prefetch}")
    if on_error not in ("raise", "skip") and not callable(on_error):
        raise ValueError(f"on_error must be 'raise', 'skip' or callable with a Blob and an error, not {on_error!r}")
    if is_coroutine_function(on_error):
        raise TypeError("on_error cannot be a coroutine function; it runs in the thread that takes the samples")
    options = access.options
    share = options.memory_budget // 2
    head = Head(max(64 * KiB, min(options.largest_range, share // max(1, prefetch))))
    return Loading(access, transform, prefetch, cast(OnError, on_error), is_coroutine_function(transform), share, head)


def _name(error: Exception, blob: Blob) -> None:
    """Note the blob on an error that is not ours; a DataLoader worker sends notes along with the traceback."""
    if not isinstance(error, AZStorageTorchError):
        with contextlib.suppress(Exception):
            error.add_note(f"while making the sample of {blob.url}")
