"""Listings made with a service and without, and what makes two of them the same."""

from __future__ import annotations

from azstoragetorch._values.table import BlobTable, TableChunk
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer
from tests.secrets.canaries import SIGNATURE

__all__ = ["CONTAINER", "NAMES", "ROWS", "SAS", "Row", "build", "filled", "listing_of", "names", "same"]

CONTAINER = "https://account.blob.core.windows.net/container"
SAS = f"sv=2021&sig={SIGNATURE.replace('/', '%2F').replace('+', '%2B').replace('=', '%3D')}"
NAMES = ["a.txt", "train/b c.JPG", "train/deep/d.jpg", "train/e.png", "train/ü%+#?\n.jpg", "z"]

Row = tuple[str, int | None, str | None, int | None]
ROWS: list[Row] = [(name, 10 * i, f'"0x8D{i}"', 1_700_000_000 + i) for i, name in enumerate(NAMES)]


def listing_of(rows: list[Row], url: str = CONTAINER, archived: tuple[str, ...] = ()) -> BlobListing:
    """Make a listing without a service."""
    chunk = TableChunk()
    for row in rows:
        chunk.append(*row)
    return BlobListing(ContainerUrl.parse(url), BlobTable.of([chunk]), prefix=None, archived=archived)


def build(server: BlobServer, prefix: str | None = None) -> BlobListing:
    return BlobListing.build(server.container_url, prefix=prefix, credential=False)


def filled(server: BlobServer) -> BlobServer:
    for name in NAMES:
        server.put(name, name.encode())
    return server


def names(listing: BlobListing) -> list[str]:
    return [entry.name for entry in listing]


def same(loaded: BlobListing, listing: BlobListing) -> None:
    assert list(loaded) == list(listing)
    assert (loaded.container_url, loaded.prefix, loaded.archived, loaded.size, loaded.fingerprint) == (
        listing.container_url,
        listing.prefix,
        listing.archived,
        listing.size,
        listing.fingerprint,
    )
