"""What an answer says about the blob it is of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlobVersion", "ListedBlob", "RangeRead"]


@dataclass(frozen=True, slots=True)
class BlobVersion:
    """Which content of a blob an answer speaks of."""

    size: int
    """Bytes of the whole blob."""
    etag: str | None
    """ETag of the content; ``None`` only for an empty blob, which has no range whose answer would carry one."""


@dataclass(frozen=True, slots=True)
class RangeRead:
    """What one ranged read brought."""

    filled: int
    """Bytes written into the caller's view, from its start."""
    version: BlobVersion | None
    """The version that was read; ``None`` where the service only said that the offset is past the end."""


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """One blob as a listing names it."""

    name: str
    size: int
    """Bytes of the blob."""
    etag: str
    """ETag of its content, quoted as in a header."""
