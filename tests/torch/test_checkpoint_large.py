"""One tensor of more than 2 GiB: sizes that do not fit a C int, in a file whose records are beyond 32 bits."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch

from azstoragetorch import TransferOptions
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, crc32
from tests.blobserver.content import BytesContent, JoinedContent, SyntheticContent

pytestmark = pytest.mark.timeout(180)

MiB = 1024 * 1024
SIZE = (2 << 30) + 3 * MiB + 1
OPTIONS = TransferOptions(checksum="none")  # 2 GiB of MD5 are 3 s on either side


class Sums(io.RawIOBase):
    """What a local file would hold: the CRC-32 of each stretch of it, and the bytes around its one large record."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sums: list[int] = []
        self.small = [bytearray(), bytearray()]
        self._sizes = list(sizes)
        self._left, self._sum = self._sizes.pop(0), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        if len(view) < MiB:
            self.small[-1 if self.sums else 0] += view
        done = 0
        while done < len(view):
            part = view[done : done + self._left]
            self._sum = zlib.crc32(part, self._sum)
            done += len(part)
            self._left -= len(part)
            if self._left == 0:
                self.sums.append(self._sum)
                self._left, self._sum = self._sizes.pop(0) if self._sizes else 1 << 62, 0
        return len(view)


def test_tensor_over_two_gib_is_saved_and_loaded(server: BlobServer) -> None:
    """Large models have such tensors. The server keeps checksums and computes content: only tensors take memory."""
    server.put_synthetic("raw", SIZE)
    tensor = torch.empty(SIZE, dtype=torch.uint8)
    with BlobIO(server.url("raw"), "rb", credential=False) as file:
        assert file.readinto(tensor.numpy()) == SIZE

    server.discard_uploads = True
    with BlobIO(server.url("model.pth"), "wb", credential=False, options=OPTIONS) as file:
        torch.save(tensor, file)

    blocks = server.version("model.pth").blocks
    local = Sums([block.content.size for block in blocks])
    torch.save(tensor, cast(Any, local))
    assert [crc32(block.content) for block in blocks] == local.sums
    assert server.version("model.pth").size == SIZE + sum(map(len, local.small))

    del tensor
    head, tail = (BytesContent(bytes(part)) for part in local.small)
    server.store.put(server.container, "model.pth", JoinedContent([head, SyntheticContent(SIZE, 0), tail]))
    with BlobIO(server.url("model.pth"), "rb", credential=False) as file:
        loaded = torch.load(file)

    expected = SyntheticContent(SIZE, 0)
    position = 0
    for piece in expected.slices(0, SIZE):
        assert memoryview(loaded.numpy())[position : position + len(piece)] == piece
        position += len(piece)
    assert (loaded.dtype, loaded.shape, position) == (torch.uint8, (SIZE,), SIZE)
