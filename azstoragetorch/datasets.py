"""Blobs as datasets, for a ``DataLoader`` or to iterate over.

    dataset = BlobDataset.from_container_url(CONTAINER_URL, prefix="train/")          # map-style
    loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=2)

    dataset = IterableBlobDataset.from_container_url(CONTAINER_URL, prefetch=32)      # iterable-style
    loader = DataLoader(dataset, batch_size=32, num_workers=4)
    async for sample in dataset: ...                                                  # on an event loop, no thread

A container is listed once, when the dataset is made. Samples are fetched ahead, many at a time, and come in order.
``Transform``, ``OnError``, ``Sharding`` and ``Uneven`` are the types of arguments, for annotations.
"""

from __future__ import annotations

import azstoragetorch._data.torch_installed  # noqa: F401 - before the modules that import it
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.iterable_style import IterableBlobDataset
from azstoragetorch._data.loading import OnError, Transform
from azstoragetorch._data.map_style import BlobDataset
from azstoragetorch._data.topology import Sharding
from azstoragetorch._values.shards import Uneven

__all__ = ["Blob", "BlobDataset", "IterableBlobDataset", "OnError", "Sharding", "Transform", "Uneven"]

for _public in (Blob, BlobDataset, IterableBlobDataset):
    _public.__module__ = __name__  # where users find them: in messages, in pickles
del _public
