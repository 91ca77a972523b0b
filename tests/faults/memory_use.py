"""How much memory a process needs to move much data with a small budget through slow connections.

The client is a process of its own and the server another, so that only buffers of the client are counted: the growth of
its resident memory over what it has after a first small transfer, when everything is imported and connected.
"""

from __future__ import annotations

from pathlib import Path

from tests.blobserver import ServerProcess
from tests.bridge.script import output_of
from tests.conftest import TlsFiles

__all__ = ["BUDGET", "WORKS", "MiB", "growth", "most"]

MiB = 1 << 20
BUDGET = 32 * MiB
PREFETCH = 32


def most(what: str, tls: TlsFiles | None) -> int:
    """Return the bytes that resident memory may grow by: the budget and a fifth of it, for sockets and objects.

    Over https also what Python's TLS keeps for each connection that has received much at once: 0.6 to 0.8 MiB
    (measured; a buffer of 256 KiB, and the ciphertext in front of it), which is not ours and not on the account. A file
    has as many connections at work as blocks of 4 MiB fit the budget, the samples of a dataset one each.
    """
    connections = 0 if tls is None else BUDGET // (4 * MiB) if what in ("read", "write") else PREFETCH
    return BUDGET * 6 // 5 + connections * MiB * 4 // 5


SLOW = 20 * MiB
"""Bytes a second of one connection: less than any disk, and a third of what one to the service carries."""

SCRIPT = """
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


def iterate(size, known={known}):
    access = Access(False, OPTIONS)
    listing = BlobListing.build(CONTAINER, prefix="sample", credential=False, options=OPTIONS)
    blobs = (
        Blob(BlobUrl.parse(CONTAINER + "/" + entry.name), access, size=entry.size, etag=entry.etag if known else None)
        for entry in listing[: size // MiB]
    )
    loading = checked_loading(access, None, {prefetch}, "raise")
    assert sum(len(sample["data"]) for sample in loading.samples(blobs)) == size


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

WORKS = {"read": ("read", True), "write": ("write", True), "iterate": ("iterate", True), "discover": ("iterate", False)}


def growth(what: str, size: int, folder: Path, tls: TlsFiles | None = None, *, seconds: float) -> tuple[int, float]:
    """Return the bytes that resident memory grew by while ``size`` bytes were moved, and the seconds that took.

    :param what: ``"read"``, ``"write"``, ``"iterate"`` over blobs of 1 MiB, or ``"discover"``: the same without knowing
        their sizes.
    :param tls: over https, with this certificate.
    """
    secure = [] if tls is None else ["--tls", str(tls.cert_file), str(tls.key_file)]
    ca_file = None if tls is None else str(tls.ca_file)
    work, known = WORKS[what]
    with ServerProcess("--bandwidth", str(SLOW), "--latency", "0.002", "--discard-uploads", *secure) as server:
        server.put_synthetic(("source", size), ("small", 1000))
        server.put_synthetic(*((f"sample{number:05d}", MiB) for number in range(size // MiB)))
        source = SCRIPT.format(
            budget=BUDGET,
            container=server.container_url,
            ca_file=ca_file,
            size=size,
            work=work,
            known=known,
            prefetch=PREFETCH,
        )
        # `read` warms up with the start of what it reads.
        (line,) = output_of(source, folder, seconds=seconds)
    peak, wall = line.split()
    return int(peak), float(wall)
