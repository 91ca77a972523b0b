"""One timed piece of work, in a process of its own: ``python piece.py NAME PARAMETERS``, both as the runner gives them.

Runs under either version's interpreter, so it uses only what both have: ``BlobIO(url, mode, credential=False)``. What
is checked or prepared is not timed: imports, the memory a caller brings along, checksums. Prints one line of JSON.

A floor is the same bytes with nothing of the library in between: a bare TLS socket, or torch with a file in memory.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import platform
import random
import ssl
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    import torch

BLOCK = 8 << 20
"""Bytes per ``write``, and per Put Block of the bare socket: the block size of this library."""

HEADERS = "Host: 127.0.0.1\r\nx-ms-version: 2021-12-02\r\n"


@dataclass
class Parameters:
    """:ivar size: bytes of the blob, or of all tensors together."""

    url: str
    size: int
    tensors: int = 0
    reads: int = 0


@dataclass
class Figures:
    """:ivar wall: seconds. :ivar cpu: seconds of user and system time of the whole process.
    :ivar peak: bytes of resident memory at most, above what was resident when the clock started.
    :ivar check: CRC-32 of what was read, where something was.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    check: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


@contextmanager
def _measured(figures: Figures) -> Iterator[None]:
    gc.collect()
    # Sets the high-water mark of resident memory back to what is resident now; where it cannot be, imports count.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    resident = _status("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    figures.wall = time.perf_counter() - wall
    figures.cpu = time.process_time() - cpu
    figures.peak = max(0, _status("VmHWM") - resident)


def _status(name: str) -> int:
    """Return a size from /proc/self/status in bytes, 0 where there is none."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _touched(size: int) -> bytearray:
    """Return memory whose pages exist: a caller that reads or writes again and again has paid for them once."""
    return bytearray(b"\x5a") * size


def read(parameters: Parameters, figures: Figures) -> None:
    """Read a whole blob into new ``bytes``."""
    from azstoragetorch.io import BlobIO

    with _measured(figures), BlobIO(parameters.url, "rb", credential=False) as file:
        content = file.read()
    figures.check = zlib.crc32(content)


def readinto(parameters: Parameters, figures: Figures) -> None:
    """Read a whole blob into memory that the caller has; 0.2.0 has no ``readinto``, its ``read`` is what it offers."""
    from azstoragetorch.io import BlobIO

    if not hasattr(BlobIO, "readinto"):
        read(parameters, figures)
        return
    buffer = _touched(parameters.size)
    with _measured(figures), BlobIO(parameters.url, "rb", credential=False) as file:
        filled = file.readinto(buffer)
    figures.check = zlib.crc32(memoryview(buffer)[:filled])


def random_reads(parameters: Parameters, figures: Figures) -> None:
    """Read 4 KiB at random places of one open file."""
    from azstoragetorch.io import BlobIO

    places = random.Random(1)
    offsets = [places.randrange(parameters.size - 4096) for _ in range(parameters.reads)]
    check = 0
    with _measured(figures), BlobIO(parameters.url, "rb", credential=False) as file:
        for offset in offsets:
            file.seek(offset)
            check = zlib.crc32(file.read(4096), check)
    figures.check = check


def write(parameters: Parameters, figures: Figures) -> None:
    """Write a blob, block by block, from memory that the caller has."""
    from azstoragetorch.io import BlobIO

    view = memoryview(_touched(parameters.size))
    with _measured(figures), BlobIO(parameters.url, "wb", credential=False) as file:
        for start in range(0, len(view), BLOCK):
            file.write(view[start : start + BLOCK])


def load(parameters: Parameters, figures: Figures) -> None:
    """``torch.load`` of a state dict."""
    import torch

    from azstoragetorch.io import BlobIO

    with _measured(figures), BlobIO(parameters.url, "rb", credential=False) as file:
        state = torch.load(file)
    figures.check = _check(state)


def save(parameters: Parameters, figures: Figures) -> None:
    """``torch.save`` of a state dict."""
    import torch

    from azstoragetorch.io import BlobIO

    state = _state(parameters)
    with _measured(figures), BlobIO(parameters.url, "wb", credential=False) as file:
        torch.save(state, file)


def floor_load(parameters: Parameters, figures: Figures) -> None:
    """``torch.load`` from memory."""
    import torch

    file = io.BytesIO()
    torch.save(_state(parameters), file)
    file.seek(0)
    with _measured(figures):
        state = torch.load(file)
    figures.check = _check(state)


def floor_save(parameters: Parameters, figures: Figures) -> None:
    """``torch.save`` to memory."""
    import torch

    state = _state(parameters)
    with _measured(figures):
        torch.save(state, io.BytesIO())


def floor_receive(parameters: Parameters, figures: Figures) -> None:
    """Receive the blob through a bare TLS socket into memory that the caller has."""
    buffer = _touched(parameters.size)
    with _measured(figures), _connected(parameters) as (connection, url):
        connection.sendall(f"GET {url.path} HTTP/1.1\r\n{HEADERS}\r\n".encode())
        head = bytearray()
        while b"\r\n\r\n" not in head:
            head += _received(connection.recv(65536))
        filled = len(body := head[head.index(b"\r\n\r\n") + 4 :])
        view = memoryview(buffer)
        view[:filled] = body
        while filled < len(view):
            count = connection.recv_into(view[filled:])
            if not count:
                raise EOFError("the answer was cut")
            filled += count
    figures.check = zlib.crc32(buffer)


def floor_send(parameters: Parameters, figures: Figures) -> None:
    """Send the blob as blocks through a bare TLS socket, each one's answer awaited."""
    content = memoryview(_touched(parameters.size))
    with _measured(figures), _connected(parameters) as (connection, url):
        for number, start in enumerate(range(0, len(content), BLOCK)):
            block = content[start : start + BLOCK]
            path = f"{url.path}?comp=block&blockid={number:08d}"
            connection.sendall(f"PUT {path} HTTP/1.1\r\n{HEADERS}Content-Length: {len(block)}\r\n\r\n".encode())
            connection.sendall(block)
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 201 "):
                raise RuntimeError(f"the block was refused: {answer!r}")


@contextmanager
def _connected(parameters: Parameters) -> Iterator[tuple[ssl.SSLSocket, SplitResult]]:
    import socket

    url = urlsplit(parameters.url)
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    with (
        socket.create_connection((url.hostname or "", url.port or 443)) as plain,
        context.wrap_socket(plain, server_hostname=url.hostname) as connection,
    ):
        yield connection, url


def _received(data: bytes) -> bytes:
    if not data:
        raise EOFError("the answer was cut")
    return data


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


PIECES: dict[str, Callable[[Parameters, Figures], None]] = {
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


def _versions() -> dict[str, str]:
    """Return what ran: the library itself first, by what it says (a checkout has no metadata)."""
    versions = {"python": platform.python_version()}
    if (library := sys.modules.get("azstoragetorch")) is not None:
        own: Any = getattr(library, "__version__", None)
        versions["azstoragetorch"] = own or metadata.version("azstoragetorch")
    for name in ("torch", "azure-storage-blob", "azure-core", "aiohttp", "requests"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def main() -> None:
    """Run the piece that the command line names."""
    name, parameters = sys.argv[1:]
    figures = Figures()
    PIECES[name](Parameters(**json.loads(parameters)), figures)
    figures.versions = _versions()
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
