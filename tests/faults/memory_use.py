"""How much memory a process needs to move much data with a small budget through slow connections.

The client is a process of its own and the server another, so that only buffers of the client are counted: the growth of
its resident memory over what it has after a first small transfer, when everything is imported and connected.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.blobserver import ServerProcess
from tests.bridge.script import output_of
from tests.conftest import TlsFiles

__all__ = ["BUDGET", "MOST", "WORKS", "MiB", "growth"]

KiB = 1 << 10
MiB = 1 << 20
BUDGET = 32 * MiB
MOST = BUDGET * 6 // 5
"""Bytes that resident memory may grow by: the budget and a fifth of it, for sockets and objects."""

SLOW = 20 * MiB
"""Bytes a second of one connection: less than any disk, and a third of what one to the service carries."""

SCRIPT = """
import threading

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.benchmarks.measure import Figures, measured

MiB = 1 << 20
OPTIONS = TransferOptions(memory_budget={budget}, ca_file={ca_file!r})
CONTAINER = {container!r}
SIZE = {size}


def read(size):
    done = 0
    with BlobIO(CONTAINER + "/source", "rb", credential=False, options=OPTIONS) as file:
        while data := file.read(MiB):
            done += len(data)
    assert done == size


def write(size):
    piece = bytes(MiB)
    with BlobIO(CONTAINER + "/target", "wb", credential=False, options=OPTIONS) as file:
        for _ in range(size // MiB):
            file.write(piece)


def iterate(size, known={known}, each={each}):
    access = Access(False, OPTIONS)
    listing = BlobListing.build(CONTAINER, prefix="sample", credential=False, options=OPTIONS)
    blobs = (
        Blob(BlobUrl.parse(CONTAINER + "/" + entry.name), access, size=entry.size, etag=entry.etag if known else None)
        for entry in listing[: size // each]
    )
    loading = checked_loading(access, None, {prefetch}, "raise")
    assert sum(len(sample["data"]) for sample in loading.samples(blobs)) == size


def together(size):
    saving = threading.Thread(target=write, args=(size,))
    saving.start()
    iterate(size)
    saving.join()


# Everything is imported, connected and listed once; with so little that no buffer stays in the pool for reuse.
with BlobIO(CONTAINER + "/warm", "wb", credential=False, options=OPTIONS) as file:
    file.write(bytes(1000))
with BlobIO(CONTAINER + "/small", "rb", credential=False, options=OPTIONS) as file:
    assert len(file.read()) == 1000
BlobListing.build(CONTAINER, prefix="sample", credential=False, options=OPTIONS)
figures = Figures()
with measured(figures):
    {work}(SIZE)
print(figures.peak, figures.wall)
"""


@dataclass(frozen=True)
class Work:
    """What moves the bytes.

    :ivar name: a function of the script.
    :ivar known: whether the sizes of the samples are known.
    :ivar each: bytes of a sample.
    :ivar prefetch: samples at a time.
    """

    name: str
    known: bool = True
    each: int = MiB
    prefetch: int = 32


WORKS = {
    "read": Work("read"),
    "write": Work("write"),
    "iterate": Work("iterate"),
    "discover": Work("iterate", known=False),
    "together": Work("together"),
    "many": Work("iterate", each=128 * KiB, prefetch=256),
}
"""``together`` saves a checkpoint while it iterates; ``many`` has more connections than memory for them."""


def growth(what: str, size: int, folder: Path, tls: TlsFiles | None = None, *, seconds: float) -> tuple[int, float]:
    """Return the bytes that resident memory grew by while ``size`` bytes were moved, and the seconds that took.

    :param what: one of `WORKS`.
    :param tls: over https, with this certificate.
    """
    secure = [] if tls is None else ["--tls", str(tls.cert_file), str(tls.key_file)]
    ca_file = None if tls is None else str(tls.ca_file)
    work = WORKS[what]
    with ServerProcess("--bandwidth", str(SLOW), "--latency", "0.002", "--discard-uploads", *secure) as server:
        server.put_synthetic(("source", size), ("small", 1000))
        server.put_synthetic(*((f"sample{number:05d}", work.each) for number in range(size // work.each)))
        source = SCRIPT.format(
            budget=BUDGET,
            container=server.container_url,
            ca_file=ca_file,
            size=size,
            work=work.name,
            known=work.known,
            each=work.each,
            prefetch=work.prefetch,
        )
        # `read` warms up with the start of what it reads.
        (line,) = output_of(source, folder, seconds=seconds)
    peak, wall = line.split()
    return int(peak), float(wall)
