"""The iterable-style dataset."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch.utils.data import IterableDataset

from azstoragetorch._azure.credentials import Credential
from azstoragetorch._data.access import Access
from azstoragetorch._data.loading import Loading, OnError, Transform, checked_loading
from azstoragetorch._data.pickling import require_functions
from azstoragetorch._data.schedule import Schedule
from azstoragetorch._data.source import LazySource, ListingSource, Source, UrlSource
from azstoragetorch._data.topology import Sharding, in_worker
from azstoragetorch._data.turn import Plan
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.shards import Uneven
from azstoragetorch._values.stats import DatasetStats
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.listing import BlobListing

__all__ = ["IterableBlobDataset"]

T_co = TypeVar("T_co", covariant=True)
"""What the transform makes of a blob."""

SWITCH_SECONDS = 0.0005
"""How long, in a DataLoader worker, a transform in pure Python may keep the interpreter while the event loop wants it.
At Python's 5 ms a loop beside a busy transform receives 20 MiB/s, at this 230 (https, two cores, measured 2026-11)."""


class IterableBlobDataset(IterableDataset[T_co]):
    """Blobs as an iterable-style dataset, fetched ahead while samples are used.

    Made by :meth:`from_container_url`, :meth:`from_blob_urls` or :meth:`from_listing`. Iterate over it with
    ``for``, with ``async for``, or through a ``DataLoader``. Its workers share the blobs, and so do the ranks of
    ``torch.distributed``.
    """

    def __init__(self, source: Source | LazySource, loading: Loading, plan: Plan) -> None:
        self._loading = loading
        self._schedule = Schedule(source, plan)

    @classmethod
    def from_container_url(
        cls,
        container_url: str,
        *,
        prefix: str | None = None,
        credential: Credential = None,
        transform: Transform | None = None,
        prefetch: int = 32,
        options: TransferOptions | None = None,
        sharding: Sharding = "auto",
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "none",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        on_error: OnError = "raise",
        lazy: bool = False,
        progress: bool = False,
        allow_modified: bool = False,
    ) -> IterableBlobDataset[Any]:
        """List a container and make a dataset of its blobs, in the order of their names.

        The listing is made here, once, and shared with DataLoader workers. Blobs in the archive tier cannot be read and
        are left out with a warning; directories of accounts with a hierarchical namespace are no samples.

        :param container_url: URL of the container, with a SAS or without.
        :param prefix: take the blobs whose names start with it; not percent-encoded. ``None`` takes all.
        :param credential: as of :class:`azstoragetorch.io.BlobIO`.
        :param transform: called with a :class:`Blob`, returns the sample; by default a ``dict`` with ``"url"`` (without
            any query) and ``"data"`` (``bytes``). A coroutine function runs on the event loop, for several blobs at
            once; anything else runs where the samples are wanted.
        :param prefetch: blobs fetched ahead at most, up to 4,096, within half of ``options.memory_budget`` bytes; 0
            fetches each when its transform reads it, which suits transforms that do not read all of it.
        :param options: how to transfer; ``None`` for the defaults.
        :param sharding: who shares the blobs: DataLoader workers and ranks (``"auto"``), workers only (``"workers"``),
            nobody (``"none"``: every worker of every rank reads all).
        :param rank: rank of this process, with ``world_size``. Otherwise that of ``torch.distributed``, once it is
            initialised, or what torchrun sets in ``RANK`` and ``WORLD_SIZE``. Looked up when iteration starts.
        :param uneven: where the ranks cannot read equally many: some read one more (``"none"``), the last samples are
            left out (``"drop"``), or the first are read again to fill up (``"pad"``).
        :param batch_size: the ``batch_size`` of the ``DataLoader``. The order of the batches is then the same for any
            number of workers, only the last one is short, and :meth:`resume` can count them. ``None`` deals single
            samples to the workers.
        :param shuffle: read each epoch in an order of its own.
        :param seed: chooses the orders; the same on all ranks. At least 0.
        :param on_error: ``"raise"``, a function of the blob and the error that returns a sample in its place, or
            ``"skip"`` to log a warning and leave the blob out (not with ``uneven`` ``"drop"`` or ``"pad"``).
        :param lazy: list while iterating, in every worker and epoch, for containers too large to list first. Then
            there is no ``len``, ``shuffle`` or resuming.
        :param progress: show a progress bar while listing; needs ``tqdm``, ``pip install 'azstoragetorch[progress]'``.
        :param allow_modified: read what the blobs hold when they are read. Otherwise a blob that was replaced since it
            was listed raises :class:`~azstoragetorch.exceptions.BlobModifiedError`.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if an argument is out of its bounds, two contradict each other, or the URL is not one of a
            container.
        :raises ContainerNotFoundError: if there is no such container.
        :raises AZStorageTorchError: if it could not be listed.
        """
        loading = _loading(credential, options, transform, prefetch, on_error, uneven)
        plan = Plan.of(sharding, rank, world_size, uneven, batch_size, shuffle, seed)
        if lazy:
            if shuffle or uneven != "none" or progress:
                raise ValueError("lazy=True lists while it reads: it cannot shuffle, make ranks even or show progress")
            url = ContainerUrl.parse(container_url)
            return cls(LazySource(url, prefix, loading.access, allow_modified=allow_modified), loading, plan)
        listing = BlobListing.build(
            container_url, prefix=prefix, credential=credential, options=options, progress=progress
        )
        return cls(ListingSource(listing, loading.access, allow_modified=allow_modified), loading, plan)

    @classmethod
    def from_blob_urls(
        cls,
        blob_urls: str | Iterable[str],
        *,
        credential: Credential = None,
        transform: Transform | None = None,
        prefetch: int = 32,
        options: TransferOptions | None = None,
        sharding: Sharding = "workers",
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "none",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        on_error: OnError = "raise",
    ) -> IterableBlobDataset[Any]:
        """Make a dataset of these blobs, in this order; sends nothing.

        :param blob_urls: one URL or several, also of several containers and accounts; each may have a SAS of its own.
            An iterator is read to its end, here.
        :param sharding: ``"workers"`` unless you say otherwise, because such lists are often cut for each rank already
            (``urls[rank::world_size]``). Where all ranks are given all URLs, pass ``"auto"``.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if one of the URLs is not that of a blob, an argument is out of its bounds, or two
            contradict each other.

        The other arguments are as in :meth:`from_container_url`.
        """
        loading = _loading(credential, options, transform, prefetch, on_error, uneven)
        plan = Plan.of(sharding, rank, world_size, uneven, batch_size, shuffle, seed)
        return cls(UrlSource(blob_urls, loading.access), loading, plan)

    @classmethod
    def from_listing(
        cls,
        listing: BlobListing,
        *,
        credential: Credential = None,
        transform: Transform | None = None,
        prefetch: int = 32,
        options: TransferOptions | None = None,
        sharding: Sharding = "auto",
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "none",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        on_error: OnError = "raise",
        allow_modified: bool = False,
    ) -> IterableBlobDataset[Any]:
        """Make a dataset of the blobs of a listing; sends nothing.

        :param listing: made by :meth:`BlobListing.build <azstoragetorch.listing.BlobListing.build>`, loaded from a file
            or filtered; the dataset has its order.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if an argument is out of its bounds, or two contradict each other.

        The other arguments are as in :meth:`from_container_url`.
        """
        loading = _loading(credential, options, transform, prefetch, on_error, uneven)
        plan = Plan.of(sharding, rank, world_size, uneven, batch_size, shuffle, seed)
        return cls(ListingSource(listing, loading.access, allow_modified=allow_modified), loading, plan)

    def __getstate__(self) -> dict[str, Any]:
        require_functions({"transform": self._loading.transform, "on_error": self._loading.on_error})
        return self.__dict__

    def __repr__(self) -> str:
        return f"<IterableBlobDataset of {self._schedule.source}>"

    def __len__(self) -> int:
        """Return how many samples this rank reads in a whole epoch, by all its workers together.

        ``len`` of a ``DataLoader`` is then exact if the dataset has its ``batch_size``. Without it each worker ends
        with a short batch of its own, so there may be more batches.

        :raises TypeError: if the dataset is lazy.
        """
        return self._schedule.rank_size()

    def __iter__(self) -> Iterator[T_co]:
        """Begin an epoch and yield the samples of this process in order, fetched ahead; inside a worker, its share.

        :raises BlobModifiedError: if a blob was replaced since it was listed, unless ``allow_modified`` says otherwise.
        :raises AZStorageTorchError: if a blob could not be read.
        :raises Exception: what the transform raised, with a note that names the blob. ``on_error`` may prevent all of
            these.
        """
        if in_worker() and sys.getswitchinterval() > SWITCH_SECONDS:
            sys.setswitchinterval(SWITCH_SECONDS)
        turn, blobs = self._schedule.begin()
        return self._loading.samples(blobs, turn.advance)

    def __aiter__(self) -> AsyncGenerator[T_co]:
        """Do the same on the running event loop, for ``async for``; no thread is involved.

        :raises: as :meth:`__iter__`.
        """
        turn, blobs = self._schedule.begin()
        return self._loading.samples_async(blobs, turn.advance)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration reads, in this process and in its DataLoader workers, persistent ones too.

        Without it epochs begin at 0 and advance by themselves. After :meth:`resume` or :meth:`load_state_dict` it may
        name the epoch that goes on.

        :param epoch: at least 0; the same on all ranks.
        :raises TypeError: if it is not an ``int``.
        :raises ValueError: if it is negative.
        """
        self._schedule.set_epoch(epoch)

    def resume(self, *, epoch: int, batches: int, world_size: int | None = None) -> None:
        """Let the next iteration go on in an epoch after ``batches`` batches, with any number of workers and ranks.

        :param epoch: the epoch that was interrupted, at least 0.
        :param batches: batches that each rank has consumed of it, of the ``batch_size`` of this dataset.
        :param world_size: ranks that consumed them; ``None`` for as many as there are now.
        :raises ValueError: if the dataset was made without ``batch_size``, skips errors, or the epoch is shorter.
        """
        if self._loading.on_error == "skip":
            raise ValueError("with on_error='skip' a batch has no fixed place; use state_dict() and load_state_dict()")
        self._schedule.resume(epoch, batches, world_size)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is: a few numbers and strings, none of them secret.

        Counts samples that were handed out; those that were only prefetched come again. ``StatefulDataLoader`` of
        ``torchdata`` calls it in the process that reads. A lazy dataset returns a state that cannot be loaded.

        :raises RuntimeError: in the main process if DataLoader workers read the samples: only they know.
        """
        return self._schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where :meth:`state_dict` was called.

        :param state: what it returned, of the same worker of the same rank.
        :raises ValueError: if the state belongs to other blobs, to another order, or to one of several workers that
            this process is not.
        """
        self._schedule.load_state_dict(state)

    def stats(self) -> DatasetStats:
        """Return the counters, as they are now, of what this process has read."""
        return replace(self._loading.access.stats)


def _loading(
    credential: Credential,
    options: TransferOptions | None,
    transform: object,
    prefetch: object,
    on_error: object,
    uneven: Uneven,
) -> Loading:
    if on_error == "skip" and uneven != "none":
        raise ValueError(
            f"on_error='skip' would make the ranks uneven again, against uneven={uneven!r}; pass a function that "
            f"returns a sample in place of one that failed"
        )
    return checked_loading(Access.of(credential, options), transform, prefetch, on_error)
