"""What a piece of work is given, what it gives back, and the clock around it.

Imported by either version's interpreter, so it needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Check", "Figures", "Parameters", "Piece", "measured", "sample_blob", "touched"]


@dataclass
class Parameters:
    """Of one run.

    :ivar url: of the blob, or of the container.
    :ivar size: bytes of the blob, of all tensors together, or of each sample.
    :ivar reads: random places that are read, or how often a small thing is done.
    :ivar count: blobs in the container.
    :ivar burn: seconds of pure Python that a dataset's transform computes for each sample.
    :ivar workers: processes of the DataLoader.
    :ivar spinning: another thread of the process computes in pure Python all the time.
    :ivar prefetch: samples that a dataset fetches ahead; 0 for the default. Only this library has that.
    :ivar options: of `TransferOptions`, which only this library has.
    :ivar without: a module that counts as not installed.
    """

    url: str
    size: int
    tensors: int = 0
    reads: int = 0
    count: int = 0
    burn: float = 0.0
    workers: int = 0
    spinning: bool = False
    prefetch: int = 0
    options: dict[str, str | int] = field(default_factory=dict)
    without: str = ""

    def chosen(self) -> dict[str, Any]:
        """Return the arguments that only this library has; none where the case gives none."""
        arguments: dict[str, Any] = {"prefetch": self.prefetch} if self.prefetch else {}
        if self.without:
            sys.modules[self.without] = None  # type: ignore[assignment]  # what the import system takes for missing
        if self.options:
            from azstoragetorch import TransferOptions

            arguments["options"] = TransferOptions(**self.options)  # type: ignore[arg-type]
        return arguments


@dataclass
class Figures:
    """:ivar wall: seconds. :ivar cpu: seconds of user and system time of the whole process and of its children.
    :ivar peak: bytes of resident memory at most, above what was resident when the clock started; without children.
    :ivar kept: bytes resident above the same when the work was done, its result still held, and free memory returned.
    :ivar check: CRC-32 of what was read, where something was.
    :ivar pickled: bytes of the pickled result, where that is measured.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    kept: int = 0
    check: int | None = None
    pickled: int = 0
    versions: dict[str, str] = field(default_factory=dict)


Piece: TypeAlias = Callable[[Parameters, Figures], None]


@contextmanager
def measured(figures: Figures) -> Iterator[None]:
    """Take the figures of the block; what it made is still held if the caller's names hold it."""
    _return_free_memory()
    # Sets the high-water mark of resident memory back to what is resident now; where it cannot be, imports count.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    resident = _status("VmRSS")
    children, cpu, wall = _children(), time.process_time(), time.perf_counter()
    yield
    figures.wall = time.perf_counter() - wall
    figures.cpu = time.process_time() - cpu + _children() - children
    figures.peak = max(0, _status("VmHWM") - resident)
    _return_free_memory()
    figures.kept = max(0, _status("VmRSS") - resident)


def _return_free_memory() -> None:
    """Return to the system what the allocator has free, because nobody keeps it; where it is not glibc's, it counts."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _children() -> float:
    """Return the seconds of children that have ended: a DataLoader joins its workers when it is exhausted."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> int:
    """Return a size from /proc/self/status in bytes, 0 where there is none."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def touched(size: int) -> bytearray:
    """Return memory whose pages exist: a caller that reads or writes again and again has paid for them once."""
    return bytearray(b"\x5a") * size


def sample_blob(number: int, size: int) -> tuple[str, int]:
    """Return name and size of a container's blob: each is one byte longer than the one before.

    The content of all is the same, so it is the size, and what the last bytes are, that tells them apart.
    """
    return f"{number:07d}.bin", size + number


class Check:
    """A sum over samples in any order: of each its name, its size and its ends.

    Cheap (1 us), because it runs between the samples; a CRC-32 of them would cost as much as the samples themselves.
    """

    def __init__(self) -> None:
        self.value = 0

    def add(self, url: str, data: bytes) -> None:
        ends = data[:64] + data[-64:]
        self.value += zlib.crc32(ends, zlib.crc32(f"{url.rpartition('/')[2]} {len(data)}".encode()))
