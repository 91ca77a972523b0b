"""The file of a listing: write it, and read it without believing it.

    offset 0   8 bytes    MAGIC
           8   4          version of this format, little-endian as all that follows
          12   4          bytes of the header
          16   16         BLAKE2b of the header
          32              header: JSON in UTF-8, spaces at its end
          64 * n          the columns of the table, as they are in memory (azstoragetorch/_values/table.py)

The table starts at a multiple of 64, so that a mapped file is the table. Its digest is in the header, whose own digest
is in front of it: what was cut, damaged or never a manifest is told from one, whichever byte it is.

*Warning*: a digest is no signature. Whoever can write the file can name another container in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from azstoragetorch._values.shared import SharedMemory
from azstoragetorch._values.table import BlobTable, Shape

__all__ = ["Manifest", "map_manifest", "read_manifest", "write_manifest"]

# The first byte is no text, the last ones come out changed where line ends are converted.
MAGIC = b"\x89azbl\r\n\n"
VERSION = 1
_FRONT = struct.Struct("<8sII16s")
_ALIGN = 64


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readinto(self, buffer: memoryview, /) -> int: ...


class _Writable(Protocol):
    def write(self, data: bytes | memoryview, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a listing is, apart from what may read it."""

    container: str
    """URL of the container, without any query."""
    prefix: str | None
    archived: tuple[str, ...]
    table: BlobTable
    digest: str
    """`BlobTable.digest` of the table."""


@dataclass(frozen=True, slots=True)
class _Header:
    container: str
    prefix: str | None
    archived: tuple[str, ...]
    shape: Shape
    digest: str

    def manifest(self, memory: SharedMemory, offset: int, source: str) -> Manifest:
        table = BlobTable(memory, self.shape, offset)
        if table.digest() != self.digest:
            raise _refused(source, "its table is damaged; save the listing again")
        return Manifest(self.container, self.prefix, self.archived, table, self.digest)


def write_manifest(manifest: Manifest, file: _Writable) -> None:
    """Write ``manifest`` to ``file``, from its position on.

    :raises Exception: what ``file`` raises.
    """
    fields = {
        "container": manifest.container,
        "prefix": manifest.prefix,
        "archived": manifest.archived,
        "shape": list(manifest.table.shape),
        "byteorder": sys.byteorder,
        "digest": manifest.digest,
    }
    header = json.dumps(fields, ensure_ascii=False).encode()
    header += b" " * (-(len(header) + _FRONT.size) % _ALIGN)
    file.write(_FRONT.pack(MAGIC, VERSION, len(header), _digest(header)) + header)
    file.write(manifest.table.content)


def read_manifest(file: _Readable, size: int, source: str) -> Manifest:
    """Read the manifest that ``file`` holds from its beginning, where it stands, to its end.

    :param size: bytes of the file.
    :param source: what messages call it.
    :raises ValueError: if it is no manifest, is cut or damaged, or was written by a newer version or another machine.
    :raises OSError: if memory for it cannot be had.
    """
    front = file.read(_FRONT.size)
    header_size, digest = _front(front, size, source)
    header = _header(file.read(header_size), digest, size - _FRONT.size - header_size, source)
    memory = SharedMemory(header.shape.nbytes)
    file.readinto(memory.view)  # if there is less than was promised, zeros are left, which the digest finds
    return header.manifest(memory, 0, source)


def map_manifest(path: Path) -> Manifest:
    """Map a local file: nothing is copied, and all processes that do so share its pages.

    It must be replaced and never be written to while it is in use.

    :raises OSError: if it cannot be opened or mapped.
    :raises ValueError: as `read_manifest`.
    """
    source = str(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header_size, digest = _front(file.read(_FRONT.size), size, source)
        offset = _FRONT.size + header_size
        header = _header(file.read(header_size), digest, size - offset, source)
        memory = SharedMemory.adopt(os.dup(file.fileno()), size, writable=False)
    return header.manifest(memory, offset, source)


def _front(front: bytes, size: int, source: str) -> tuple[int, bytes]:
    """Take the first bytes apart into size and digest of the header."""
    if front[: len(MAGIC)] != MAGIC[: len(front)] or not front:
        raise _refused(source, "it does not start as one does; give a file or blob that BlobListing.save wrote")
    if len(front) < _FRONT.size:
        raise _cut(source)
    _, version, header_size, digest = _FRONT.unpack(front)
    if version != VERSION:
        raise _refused(source, f"it is of version {version}, and this azstoragetorch reads version {VERSION}")
    if header_size > size - _FRONT.size:
        raise _cut(source)
    return header_size, digest


def _header(header: bytes, digest: bytes, left: int, source: str) -> _Header:
    """Read the header, knowing that ``left`` bytes follow it."""
    if _digest(header) != digest:
        raise _refused(source, "its header is damaged; save the listing again")
    fields: dict[str, Any] = json.loads(header)
    if fields["byteorder"] != sys.byteorder:
        raise _refused(source, f"it was written by a {fields['byteorder']}-endian machine; save the listing here")
    read = _Header(
        fields["container"], fields["prefix"], tuple(fields["archived"]), Shape(*fields["shape"]), fields["digest"]
    )
    if left < read.shape.nbytes:
        raise _cut(source)
    if left > read.shape.nbytes:
        raise _refused(source, f"{left - read.shape.nbytes} bytes follow its end; save the listing again")
    return read


def _digest(header: bytes) -> bytes:
    return hashlib.blake2b(header, digest_size=16).digest()


def _cut(source: str) -> ValueError:
    return _refused(source, "its end is missing; copy it again or save the listing again")


def _refused(source: str, why: str) -> ValueError:
    return ValueError(f"{source} is not a usable manifest of a listing: {why}")
