"""The knobs of a transfer, with the reason for every default."""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args, get_type_hints

__all__ = ["Checksum", "TransferOptions", "Verify", "has_crc64"]

KiB = 1024
MiB = 1024 * KiB

MAX_BLOCK_SIZE = 4000 * MiB
"""Largest block the service accepts: https://learn.microsoft.com/rest/api/storageservices/put-block#remarks"""

MAX_BLOCKS = 50_000
"""https://learn.microsoft.com/rest/api/storageservices/put-block-list#remarks"""

MAX_VERIFIED = 4 * MiB
"""Most that the service computes a checksum of when it is read:
https://learn.microsoft.com/rest/api/storageservices/get-blob#request-headers"""

Checksum: TypeAlias = Literal["auto", "md5", "crc64", "none"]
"""What is sent with a block for the service to verify; see :class:`TransferOptions`."""

Verify: TypeAlias = Literal["none", "range"]
"""What of a read is compared with a checksum of the service; see :class:`TransferOptions`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferOptions:
    """How blobs are read and written; every value has a default that suits a training job.

    Sizes are bytes, times are seconds. An instance cannot be changed; it compares by value, and it pickles.

    :param range_size: bytes asked for by one GET of a large read, 64 KiB to 1 GiB. Default 8 MiB: small enough that 16
        of them fit the budget and spread over 16 connections, large enough that a request's fixed cost (0.3 ms of CPU)
        is lost in its transfer.
    :param block_size: bytes in one block of an upload, 1 to 4,000 MiB. Default 4 MiB: smaller than a range, because a
        save ends with a wait for its last blocks; 32 of 4 MiB in flight need the memory of 16 of 8 MiB and are faster.
        Doubled every 2,500 blocks, so that no blob needs more than the 50,000 blocks the service allows. Content that
        fits one block is uploaded by a single Put Blob.
    :param in_flight: requests of one file at the same time, 1 to 256. Default 32: one connection to the service carries
        about 60 MB/s, so 32 fill a link of 16 Gb/s. Reading ahead has a bound of its own, ``readahead``; samples of a
        dataset are bounded by its ``prefetch``.
    :param readahead: ranges of ``range_size`` fetched ahead of a sequential reader at most, 0 to 1,024. Default 16:
        128 MiB, which fit the budget and cover a delay of 60 ms on a link of 16 Gb/s. With 0 nothing is fetched before
        it is asked for, though a small read still brings 256 KiB.
    :param memory_budget: bytes of buffers that one event loop (so one process, for everything sync) may hold for
        transfers, 1 MiB at least. Default 192 MiB: what one sequential reader has ahead, 128 MiB, and half as much for
        all else. Multiply by DataLoader workers and by ranks for the memory of a machine.
    :param prefetch_max_blob: bytes of the largest blob that a dataset fetches before its sample is asked for. Default
        64 MiB: three of this size fill the memory budget. Larger ones are opened when the transform reads them, with
        the read-ahead of a file.
    :param connect_timeout: seconds to open a connection, at most 86,400. Default 10 s: a reachable service answers in
        milliseconds, and a lost SYN is repeated after 1, 3 and 7 s.
    :param idle_timeout: seconds without one received byte, before the first or between two, at most 86,400. Default
        30 s: the service answers within its own time-out of 30 s or fails.
    :param deadline: seconds that one range, one block or one commit may take with all its retries, at most 86,400.
        Default 120 s: four times the longest silence, so that a request that hangs is followed by others.
    :param min_rate: bytes per second below which a transfer that has run for ``idle_timeout`` seconds counts as stalled
        and is asked for again; 0 turns the watchdog off. Default 4 KiB: slower than any link that could carry a
        checkpoint. What is sent is counted in pieces of 256 KiB, one of which must go in that time.
    :param checksum: sent with every block and verified by the service: ``"md5"``, ``"crc64"`` (needs
        ``azure-storage-extensions``; the list of blocks has MD5), ``"none"`` or ``"auto"``. Default ``"auto"``: MD5
        over plain http and none over https, where TLS already authenticates every byte. Of an upload over http,
        MD5 triples the CPU time and CRC64 nearly doubles it.
    :param verify: whether what is read is compared with a checksum that the service computes of it: ``"none"``, or
        ``"range"`` for every range, before it counts as received: CRC64 where its extra is installed and the service
        knows it, else MD5. Ranges are then at most 4 MiB, the most that it computes one of. Default ``"none"``: over
        https TLS detects whatever happens on the way, and it costs as much CPU time as ``checksum`` does.
    :param ca_file: PEM file with the certificate authorities to trust. Default ``None``: that of ``SSL_CERT_FILE``,
        else of ``REQUESTS_CA_BUNDLE``, else the system's.
    :raises TypeError: if a value is of the wrong type.
    :raises ValueError: if a value is out of its bounds; the message names the option.
    """

    range_size: int = 8 * MiB
    block_size: int = 4 * MiB
    in_flight: int = 32
    readahead: int = 16
    memory_budget: int = 192 * MiB
    prefetch_max_blob: int = 64 * MiB
    connect_timeout: float = 10
    idle_timeout: float = 30
    deadline: float = 120
    min_rate: int = 4 * KiB
    checksum: Checksum = "auto"
    verify: Verify = "none"
    ca_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("range_size", 64 * KiB, 1024 * MiB),
            ("block_size", 1, MAX_BLOCK_SIZE),
            ("in_flight", 1, 256),
            ("readahead", 0, 1024),
            ("memory_budget", 1 * MiB, 1 << 50),
            ("prefetch_max_blob", 0, 1 << 50),
            ("min_rate", 0, 1 << 50),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, got {value}")
        for name in ("connect_timeout", "idle_timeout", "deadline"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
            if not 0 < value <= 86_400:
                raise ValueError(f"{name} must be more than 0 and at most 86400 seconds, got {value}")
        if self.checksum not in get_args(Checksum):
            raise ValueError(f"checksum must be one of {get_args(Checksum)}, got {self.checksum!r}")
        if self.verify not in get_args(Verify):
            raise ValueError(f"verify must be one of {get_args(Verify)}, got {self.verify!r}")
        if self.checksum == "crc64" and not has_crc64():
            raise ValueError("checksum 'crc64' needs an extra: pip install 'azstoragetorch[crc64]'")
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            raise ValueError(f"ca_file {os.fspath(self.ca_file)!r} is not a file")

    @property
    def largest_range(self) -> int:
        """Bytes that one GET asks for at most: ``range_size``, or less where ``verify`` needs that."""
        return self.range_size if self.verify == "none" else min(self.range_size, MAX_VERIFIED)


# Where users find it: in pickles and in `help`. What its hints name is here, so they are resolved before it moves.
TransferOptions.__annotations__ = get_type_hints(TransferOptions)
TransferOptions.__module__ = "azstoragetorch"


@functools.cache
def has_crc64() -> bool:
    """Return whether the extra that computes CRC64 is installed; looked for once, because that reads folders."""
    try:
        return importlib.util.find_spec("azure.storage.extensions") is not None
    except ModuleNotFoundError:  # not even its parent
        return False
