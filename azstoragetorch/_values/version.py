"""What an answer says about the blob it is of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import get_type_hints

__all__ = ["BlobEntry", "BlobVersion", "RangeRead"]


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
class BlobEntry:
    """One blob as a listing names it.

    :ivar name: name of the blob in its container, decoded: ``dir/a b.bin`` and not ``dir/a%20b.bin``.
    :ivar size: bytes of the blob; ``None`` where it was named by a URL and nobody has asked yet.
    :ivar etag: ETag of its content, quoted as in a header; ``None`` where it is not known.
    :ivar last_modified: when it was written, in UTC, to the second; ``None`` where it is not known.
    """

    name: str
    size: int | None
    etag: str | None
    last_modified: datetime | None = None


# Where users find it: in pickles and in `help`. What its hints name is here, so they are resolved before it moves.
BlobEntry.__annotations__ = get_type_hints(BlobEntry)
BlobEntry.__module__ = "azstoragetorch.listing"
