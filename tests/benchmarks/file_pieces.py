"""Pieces of work with one file: reads, writes, and torch on top of them.

They use only what both versions have: ``BlobIO(url, mode, credential=False)``; options where a case gives some.
"""

from __future__ import annotations

import io
import random
import zlib
from typing import TYPE_CHECKING

from tests.benchmarks.bare import HEADERS, connected, receive
from tests.benchmarks.measure import Figures, Parameters, Piece, measured, touched

if TYPE_CHECKING:
    import torch

__all__ = ["PIECES"]

BLOCK = 8 << 20
"""Bytes per ``write``, and per Put Block of the bare socket."""


def read(parameters: Parameters, figures: Figures) -> None:
    """Read a whole blob into new ``bytes``."""
    from azstoragetorch.io import BlobIO

    with measured(figures), BlobIO(parameters.url, "rb", credential=False) as file:
        content = file.read()
    figures.check = zlib.crc32(content)


def readinto(parameters: Parameters, figures: Figures) -> None:
    """Read a whole blob into memory that the caller has; 0.2.0 has no ``readinto``, its ``read`` is what it offers."""
    from azstoragetorch.io import BlobIO

    if not hasattr(BlobIO, "readinto"):
        read(parameters, figures)
        return
    buffer = touched(parameters.size)
    chosen = parameters.chosen()
    with measured(figures), BlobIO(parameters.url, "rb", credential=False, **chosen) as file:
        filled = file.readinto(buffer)
    figures.check = zlib.crc32(memoryview(buffer)[:filled])


def random_reads(parameters: Parameters, figures: Figures) -> None:
    """Read 4 KiB at random places of one open file."""
    from azstoragetorch.io import BlobIO

    places = random.Random(1)
    offsets = [places.randrange(parameters.size - 4096) for _ in range(parameters.reads)]
    check = 0
    with measured(figures), BlobIO(parameters.url, "rb", credential=False) as file:
        for offset in offsets:
            file.seek(offset)
            check = zlib.crc32(file.read(4096), check)
    figures.check = check


def write(parameters: Parameters, figures: Figures) -> None:
    """Write a blob, block by block, from memory that the caller has."""
    from azstoragetorch.io import BlobIO

    view = memoryview(touched(parameters.size))
    chosen = parameters.chosen()
    with measured(figures), BlobIO(parameters.url, "wb", credential=False, **chosen) as file:
        for start in range(0, len(view), BLOCK):
            file.write(view[start : start + BLOCK])


def load(parameters: Parameters, figures: Figures) -> None:
    """``torch.load`` of a state dict."""
    import torch

    from azstoragetorch.io import BlobIO

    chosen = parameters.chosen()
    with measured(figures), BlobIO(parameters.url, "rb", credential=False, **chosen) as file:
        state = torch.load(file)
    figures.check = _check(state)


def save(parameters: Parameters, figures: Figures) -> None:
    """``torch.save`` of a state dict."""
    import torch

    from azstoragetorch.io import BlobIO

    state = _state(parameters)
    chosen = parameters.chosen()
    with measured(figures), BlobIO(parameters.url, "wb", credential=False, **chosen) as file:
        torch.save(state, file)


def floor_load(parameters: Parameters, figures: Figures) -> None:
    """``torch.load`` from memory."""
    import torch

    file = io.BytesIO()
    torch.save(_state(parameters), file)
    file.seek(0)
    with measured(figures):
        state = torch.load(file)
    figures.check = _check(state)


def floor_save(parameters: Parameters, figures: Figures) -> None:
    """``torch.save`` to memory."""
    import torch

    state = _state(parameters)
    with measured(figures):
        torch.save(state, io.BytesIO())


def floor_receive(parameters: Parameters, figures: Figures) -> None:
    """Receive the blob through a bare TLS socket into memory that the caller has."""
    buffer = touched(parameters.size)
    with measured(figures), connected(parameters.url) as (connection, url):
        receive(connection, url.path, memoryview(buffer))
    figures.check = zlib.crc32(buffer)


def floor_send(parameters: Parameters, figures: Figures) -> None:
    """Send the blob as blocks through a bare TLS socket, each one's answer awaited."""
    content = memoryview(touched(parameters.size))
    with measured(figures), connected(parameters.url) as (connection, url):
        for number, start in enumerate(range(0, len(content), BLOCK)):
            block = content[start : start + BLOCK]
            path = f"{url.path}?comp=block&blockid={number:08d}"
            connection.sendall(f"PUT {path} HTTP/1.1\r\n{HEADERS}Content-Length: {len(block)}\r\n\r\n".encode())
            connection.sendall(block)
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 201 "):
                raise RuntimeError(f"the block was refused: {answer!r}")


def _state(parameters: Parameters) -> dict[str, torch.Tensor]:
    """Make tensors of equal size; each holds numbers of its own, so that none can stand for another."""
    import torch

    items = parameters.size // 4 // parameters.tensors
    return {
        f"layers.{number}.weight": torch.arange(items, dtype=torch.float32) + number
        for number in range(parameters.tensors)
    }


def _check(state: dict[str, torch.Tensor]) -> int:
    check = 0
    for name in sorted(state):
        tensor = state[name]
        check = zlib.crc32(f"{name} {tuple(tensor.shape)} {tensor.double().sum().item()}".encode(), check)
    return check


PIECES: dict[str, Piece] = {
    "read": read,
    "readinto": readinto,
    "random-reads": random_reads,
    "write": write,
    "load": load,
    "save": save,
    "floor-receive": floor_receive,
    "floor-send": floor_send,
    "floor-load": floor_load,
    "floor-save": floor_save,
}
