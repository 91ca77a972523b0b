"""One of several processes that read through a service which refuses what is too much.

``python -m tests.faults.throttled CONTAINER_URL SECONDS`` prints a line when it is ready, begins when it is told to,
and reads sample after sample with a prefetch of 32 for so long.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import closing

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._values.url import BlobUrl

__all__ = ["PREFETCH", "SAMPLE_SIZE"]

SAMPLE_SIZE = 1000
PREFETCH = 32


def main(container_url: str, seconds: float) -> None:
    # Anonymous: a default credential would look for an identity, beyond loopback.
    made = checked_loading(Access.of(False, TransferOptions()), None, PREFETCH, "raise")

    def blobs() -> Iterator[Blob]:
        for number in itertools.count():
            yield Blob(BlobUrl.parse(f"{container_url}/sample-{number % 8}"), made.access)

    print("ready", flush=True)
    sys.stdin.readline()
    with closing(made.samples(blobs())) as samples:
        next(samples)  # the first takes the import of the SDK
        until = time.monotonic() + seconds
        for sample in samples:
            assert len(sample["data"]) == SAMPLE_SIZE
            if time.monotonic() > until:
                break


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
