"""Read a blob from its first byte to its last, into ``bytes`` of their own.

Where a listing named the size, one request brings a small blob into memory of exactly that size. Where nothing did, the
first request asks for a *head* as large as the caller can spare; what it brings is copied, and most blobs end there.
"""

from __future__ import annotations

from azstoragetorch._transfer.memory import Memory
from azstoragetorch._transfer.reader import Reader
from azstoragetorch._transfer.remote import RemoteBlob
from azstoragetorch._values.buffers import fillable_bytes
from azstoragetorch._values.options import MiB, TransferOptions
from azstoragetorch._values.version import BlobVersion
from azstoragetorch.exceptions import BlobIntegrityError

__all__ = ["HEAD", "Head", "fetch_head", "fetch_known", "fetch_rest", "fetch_whole"]

HEAD = 1 * MiB
"""Bytes asked for of a blob of unknown size when it is read alone: more than most samples, and a quarter of what a
connection carries during a round trip."""


class Head:
    """How much to ask for first of many blobs whose sizes nobody knows: `HEAD`, until one of them was larger.

    :param most: bytes that it grows to: one range, or the share of each blob in the memory budget.
    """

    __slots__ = ("_most", "size")

    def __init__(self, most: int) -> None:
        self._most = most
        self.size: int = min(HEAD, most)

    def fit(self, size: int) -> None:
        """Take note of a blob of ``size`` bytes."""
        while self.size < min(size, self._most):  # by doubling: buffers are found again by their size
            self.size = min(2 * self.size, self._most)


async def fetch_known(blob: RemoteBlob, version: BlobVersion, options: TransferOptions) -> bytes:
    """Return the content of ``version``.

    :raises BlobModifiedError: if the blob is another version by now.
    """
    size = version.size
    if size > options.largest_range:
        content, view = fillable_bytes(size, blob.name)
        _check(blob, await Reader(blob, options, version).read_at(0, view), size)
        return content
    # A range has at least one byte, so an empty blob is asked for one as well, and answers that it has none.
    content, view = fillable_bytes(max(size, 1), blob.name)
    read = await blob.read_into(view, 0, etag=version.etag)
    if read.version is not None:
        _check(blob, read.version.size, size)
    _check(blob, read.filled, size)
    return content if size else b""


async def fetch_head(
    blob: RemoteBlob, view: memoryview, options: TransferOptions, etag: str | None = None
) -> tuple[int, BlobVersion]:
    """Fill ``view`` from the start of the blob with one request.

    :return: bytes filled, and the version they belong to, with the size of the whole blob.
    """
    read = await blob.read_into(view, 0, etag=etag)
    version = read.version
    if version is None or (version.etag is None and version.size):
        raise BlobIntegrityError(f"reading {blob.name}: the answer names neither its size nor its ETag")
    _check(blob, read.filled, min(len(view), version.size))
    return read.filled, version


async def fetch_rest(blob: RemoteBlob, head: memoryview, version: BlobVersion, options: TransferOptions) -> bytes:
    """Return the content of ``version``, of which ``head`` is the start."""
    if len(head) == version.size:
        return bytes(head)
    content, view = fillable_bytes(version.size, blob.name)
    view[: len(head)] = head
    rest = await Reader(blob, options, version).read_at(len(head), view[len(head) :])
    _check(blob, len(head) + rest, version.size)
    return content


async def fetch_whole(
    blob: RemoteBlob, *, size: int | None, etag: str | None, options: TransferOptions, memory: Memory
) -> tuple[bytes, BlobVersion]:
    """Return the content of the blob and its version.

    :param size: bytes of the version that ``etag`` names; ``None`` for both reads whatever the blob holds.
    :raises BlobModifiedError: if the blob is not the version that ``etag`` names.
    """
    if size is not None and etag is not None:
        version = BlobVersion(size, etag)
        return await fetch_known(blob, version, options), version
    head = min(HEAD, options.largest_range)
    lease = await memory.take(head, options.memory_budget, blob.beside(head))
    try:
        filled, version = await fetch_head(blob, memoryview(lease.buffer), options, etag)
        lease.settle()
        return await fetch_rest(blob, memoryview(lease.buffer)[:filled], version, options), version
    finally:
        lease.free()


def _check(blob: RemoteBlob, found: int, size: int) -> None:
    if found != size:
        raise BlobIntegrityError(f"reading {blob.name}: one version of it has {size} bytes, and then {found}")
