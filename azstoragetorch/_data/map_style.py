"""The map-style dataset."""

from __future__ import annotations

import operator
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, SupportsIndex, TypeVar

from torch.utils.data import Dataset

from azstoragetorch._azure.credentials import Credential
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import Loading, Transform, checked_loading
from azstoragetorch._data.pickling import require_functions
from azstoragetorch._data.source import ListingSource, Source, UrlSource
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import DatasetStats
from azstoragetorch.listing import BlobListing

__all__ = ["BlobDataset"]

T_co = TypeVar("T_co", covariant=True)
"""What the transform makes of a blob."""


class BlobDataset(Dataset[T_co]):
    """Blobs as a map-style dataset: ``dataset[i]`` reads blob ``i`` and returns its sample.

    A ``DataLoader`` with ``batch_size=`` fetches the blobs of a batch at the same time. Made by
    :meth:`from_container_url`, :meth:`from_blob_urls` or :meth:`from_listing`.
    """

    def __init__(self, source: Source, loading: Loading) -> None:
        self._source = source
        self._loading = loading

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
        on_error: Literal["raise"] | Callable[[Blob, Exception], Any] = "raise",
        progress: bool = False,
        allow_modified: bool = False,
    ) -> BlobDataset[Any]:
        """List a container and make a dataset of its blobs, in the order of their names.

        The listing is made here, once, and shared with DataLoader workers. Blobs in the archive tier cannot be read and
        are left out with a warning; directories of accounts with a hierarchical namespace are no samples.

        :param container_url: URL of the container, with a SAS or without.
        :param prefix: take the blobs whose names start with it; not percent-encoded. ``None`` takes all.
        :param credential: as of :class:`azstoragetorch.io.BlobIO`.
        :param transform: called with a :class:`Blob`, returns the sample; by default a ``dict`` with ``"url"`` (without
            any query) and ``"data"`` (``bytes``). A coroutine function runs on the event loop, anything else where
            the samples are wanted.
        :param prefetch: blobs fetched at once for a batch or an iteration, at most 4,096; 0 fetches each when its
            transform reads it, which suits transforms that do not read all of it.
        :param options: how to transfer; ``None`` for the defaults.
        :param on_error: ``"raise"``, or a function of the blob and the error that returns a sample in its place.
        :param progress: show a progress bar while listing; needs ``tqdm``, ``pip install 'azstoragetorch[progress]'``.
        :param allow_modified: read what the blobs hold when they are read. Otherwise a blob that was replaced since it
            was listed raises :class:`~azstoragetorch.exceptions.BlobModifiedError`.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if an argument is out of its bounds, or the URL is not one of a container.
        :raises ContainerNotFoundError: if there is no such container.
        :raises AZStorageTorchError: if it could not be listed.
        """
        access, loading = _prepare(credential, options, transform, prefetch, on_error)
        listing = BlobListing.build(
            container_url, prefix=prefix, credential=credential, options=options, progress=progress
        )
        return cls(ListingSource(listing, access, allow_modified=allow_modified), loading)

    @classmethod
    def from_blob_urls(
        cls,
        blob_urls: str | Iterable[str],
        *,
        credential: Credential = None,
        transform: Transform | None = None,
        prefetch: int = 32,
        options: TransferOptions | None = None,
        on_error: Literal["raise"] | Callable[[Blob, Exception], Any] = "raise",
    ) -> BlobDataset[Any]:
        """Make a dataset of these blobs, in this order; sends nothing.

        :param blob_urls: one URL or several, also of several containers and accounts; each may have a SAS of its own.
            An iterator is read to its end, here.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if one of the URLs is not that of a blob, or an argument is out of its bounds.

        The other arguments are as in :meth:`from_container_url`.
        """
        access, loading = _prepare(credential, options, transform, prefetch, on_error)
        return cls(UrlSource(blob_urls, access), loading)

    @classmethod
    def from_listing(
        cls,
        listing: BlobListing,
        *,
        credential: Credential = None,
        transform: Transform | None = None,
        prefetch: int = 32,
        options: TransferOptions | None = None,
        on_error: Literal["raise"] | Callable[[Blob, Exception], Any] = "raise",
        allow_modified: bool = False,
    ) -> BlobDataset[Any]:
        """Make a dataset of the blobs of a listing; sends nothing.

        :param listing: made by :meth:`BlobListing.build <azstoragetorch.listing.BlobListing.build>`, loaded from a file
            or filtered; the dataset has its order.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if an argument is out of its bounds.

        The other arguments are as in :meth:`from_container_url`.
        """
        access, loading = _prepare(credential, options, transform, prefetch, on_error)
        return cls(ListingSource(listing, access, allow_modified=allow_modified), loading)

    def __getstate__(self) -> dict[str, Any]:
        require_functions({"transform": self._loading.transform, "on_error": self._loading.on_error})
        return self.__dict__

    def __repr__(self) -> str:
        return f"<BlobDataset of {len(self)} blobs of {self._source.name}>"

    def __len__(self) -> int:
        """Return how many blobs there are."""
        return len(self._source)

    def __getitem__(self, index: SupportsIndex) -> T_co:
        """Read one blob and return its sample.

        :param index: from 0; negative ones count from the end.
        :raises IndexError: if there is no such blob.
        :raises BlobModifiedError: if it was replaced since it was listed, unless ``allow_modified`` says otherwise.
        :raises AZStorageTorchError: if it could not be read.
        :raises Exception: what the transform raised, with a note that names the blob.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[T_co]:
        """Read several blobs at the same time and return their samples in this order; a ``DataLoader`` calls it.

        :param indices: as of :meth:`__getitem__`; an index may come twice.
        :raises: as :meth:`__getitem__`, for the first sample in this order that fails.
        """
        return list(self._loading.samples(self._blobs(indices)))

    def __iter__(self) -> Iterator[T_co]:
        """Yield all samples in order, fetched ahead.

        :raises: as :meth:`__getitem__`.
        """
        return self._loading.samples(self._blobs(range(len(self))))

    async def aget(self, index: SupportsIndex) -> T_co:
        """Read one blob on the running event loop and return its sample: ``dataset[index]`` for coroutines.

        :param index: from 0; negative ones count from the end.
        :raises: as :meth:`__getitem__`.
        """
        return (await self.aget_many([index]))[0]

    async def aget_many(self, indices: Iterable[SupportsIndex]) -> list[T_co]:
        """Read several blobs at the same time on the running event loop and return their samples in this order.

        A transform that is no coroutine function runs in a thread, so that it does not hold up the loop.

        :param indices: from 0, negative ones count from the end; an index may come twice.
        :raises: as :meth:`__getitem__`, for the first sample in this order that fails.
        """
        return [sample async for sample in self._loading.samples_async(self._blobs(list(indices)))]

    def __aiter__(self) -> AsyncGenerator[T_co]:
        """Yield all samples in order, fetched ahead, on the running event loop; no thread is involved.

        :raises: as :meth:`__getitem__`.
        """
        return self._loading.samples_async(self._blobs(range(len(self))))

    def stats(self) -> DatasetStats:
        """Return the counters, as they are now, of what this process has read."""
        return replace(self._loading.access.stats)

    def _blobs(self, indices: Sequence[SupportsIndex]) -> Iterable[Blob]:
        """Return the blobs of ``indices``, checked at once and made one by one."""
        size = len(self)
        # An array that a batch sampler yields would compare item by item.
        everything = isinstance(indices, range) and indices == range(size)
        checked = range(size) if everything else [_position(index, size) for index in indices]
        return (self._source.blob(index) for index in checked)


def _position(index: SupportsIndex, size: int) -> int:
    position = operator.index(index)
    if not -size <= position < size:
        raise IndexError(f"index {position} of a dataset with {size} blobs")
    return position % size


def _prepare(
    credential: Credential, options: TransferOptions | None, transform: object, prefetch: object, on_error: object
) -> tuple[Access, Loading]:
    if on_error == "skip":
        raise ValueError(
            "on_error='skip' is for IterableBlobDataset: index i of a map-style dataset has to give a sample; pass a "
            "function that returns one in its place"
        )
    access = Access.of(credential, options)
    return access, checked_loading(access, transform, prefetch, on_error)
