"""The asyncio-native connector between Azure Blob Storage and PyTorch.

    azstoragetorch.io           BlobIO, a blob as a binary file
    azstoragetorch.aio          AsyncBlobIO, the same for code that runs on an event loop
    azstoragetorch.datasets     BlobDataset and IterableBlobDataset, for a DataLoader
    azstoragetorch.listing      BlobListing, what is in a container
    azstoragetorch.exceptions   every error

``azstoragetorch.TransferOptions`` says how to transfer, and ``azstoragetorch.stats()`` counts what the process sent and
received. ``Credential``, ``Mode``, ``Checksum`` and ``Verify`` are the types of arguments, for annotations.

Importing this package loads neither torch nor azure; the names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azstoragetorch._azure.credentials import Credential
    from azstoragetorch._transfer.file import Mode
    from azstoragetorch._values.options import Checksum, TransferOptions, Verify
    from azstoragetorch._values.stats import DatasetStats, TransferStats
    from azstoragetorch._values.stats import process_stats as stats

__all__ = [
    "Checksum",
    "Credential",
    "DatasetStats",
    "Mode",
    "TransferOptions",
    "TransferStats",
    "Verify",
    "__version__",
    "stats",
]

__version__ = "1.0.0.dev0"  # the build reads it from here

_HOMES = {
    "Checksum": ("azstoragetorch._values.options", "Checksum"),
    "Credential": ("azstoragetorch._azure.credentials", "Credential"),
    "DatasetStats": ("azstoragetorch._values.stats", "DatasetStats"),
    "Mode": ("azstoragetorch._transfer.file", "Mode"),
    "TransferOptions": ("azstoragetorch._values.options", "TransferOptions"),
    "TransferStats": ("azstoragetorch._values.stats", "TransferStats"),
    "Verify": ("azstoragetorch._values.options", "Verify"),
    "stats": ("azstoragetorch._values.stats", "process_stats"),
}

if not TYPE_CHECKING:  # or a type checker would take every name, typos too, for one of this package

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        value = getattr(importlib.import_module(module), attribute)
        globals()[name] = value  # the next use does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
