"""What all blobs of one dataset share: who asks, how to transfer, and the counters.

It goes to worker processes with the dataset, and with every :class:`~azstoragetorch.datasets.Blob` that a transform
returns. Clients, sessions and tokens do not: each process has its own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._bridge.fork import generation
from azstoragetorch._data.pickling import require_credential
from azstoragetorch._face import checked_options
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import DatasetStats, in_words
from azstoragetorch._values.url import BlobUrl

__all__ = ["Access", "Tally"]

_logger = logging.getLogger("azstoragetorch.datasets")


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """How to reach the blobs of a dataset. Its counters start at zero in another process, pickled or forked.

    :raises TypeError: on pickling, if the credential cannot be pickled.
    """

    credential: Credential = field(repr=False)
    options: TransferOptions
    _counted: dict[int, DatasetStats] = field(default_factory=dict, init=False, repr=False)
    """By generation. A forked child gets others, and not these at zero: requests of its parent that are collected in
    the child end in the ones that they began in."""

    @classmethod
    def of(cls, credential: Credential, options: TransferOptions | None) -> Access:
        """Return the access that a dataset is made with; the credential is checked with each URL.

        :raises TypeError: if ``options`` is of the wrong type.
        """
        return cls(credential, checked_options(options))

    @property
    def stats(self) -> DatasetStats:
        """Counters of what this process has asked for, for any of the blobs."""
        process = generation()
        try:
            return self._counted[process]
        except KeyError:
            return self._counted.setdefault(process, DatasetStats())  # of two threads at once the first one's

    async def open(self, url: BlobUrl) -> AzureBlob:
        """Return the remote end of a blob on the running loop; sends nothing."""
        return await AzureBlob.open(url, self.credential, self.options, self.stats)

    def __reduce__(self) -> tuple[Any, ...]:
        require_credential(self.credential)
        return Access, (self.credential, self.options)


class Tally:
    """Counts the samples of one iteration, or one batch, and logs at its end what that took.

    :param stats: counters of the dataset.
    """

    __slots__ = ("_since", "_stats", "samples")

    def __init__(self, stats: DatasetStats) -> None:
        self._stats = stats
        self._since = time.monotonic()
        self.samples = 0

    def __enter__(self) -> Tally:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _logger.isEnabledFor(logging.DEBUG):
            seconds, stats = time.monotonic() - self._since, self._stats
            text = "%d samples in %.3f s; the dataset so far: samples %d, %s"
            _logger.debug(text, self.samples, seconds, stats.samples, in_words(stats))
