"""What every script starts with: files on the server of the test, and lines to and from the test."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
from typing import Any

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobFileForkedError
from azstoragetorch.io import BlobIO

__all__ = [
    "OPTIONS",
    "AsyncBlobIO",
    "BlobFileForkedError",
    "BlobIO",
    "TransferOptions",
    "async_file",
    "asyncio",
    "content",
    "file",
    "gc",
    "multiprocessing",
    "os",
    "refused",
    "reads_and_writes",
    "say",
    "signal",
    "sys",
    "threading",
    "url",
    "wait",
    "wait_for",
]

KiB = 1024

# Small ranges and blocks: a blob of 1 MiB is many of both.
OPTIONS = TransferOptions(
    range_size=128 * KiB,
    block_size=64 * KiB,
    in_flight=4,
    ca_file=os.environ.get("TEST_CA_FILE") or None,
)


def content(size: int, seed: int = 0) -> bytes:
    """Return ``size`` bytes that repeat nowhere, the same in every process."""
    return random.Random(seed).randbytes(size)


def url(name: str) -> str:
    return f"{os.environ['TEST_CONTAINER_URL']}/{name}"


def file(name: str, mode: Any = "rb") -> BlobIO:
    return BlobIO(url(name), mode, credential=False, options=OPTIONS)


def async_file(name: str, mode: Any = "rb") -> AsyncBlobIO:
    return AsyncBlobIO(url(name), mode, credential=False, options=OPTIONS)


def say(*words: object) -> None:
    """Tell the test; in one write, since children share the pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def wait() -> None:
    """Wait until the test says ``go``; unbuffered, so that no child inherits a line."""
    while os.read(0, 1) != b"\n":
        pass


def wait_for(child: int) -> None:
    """Wait for a forked child, which must end well."""
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status


def reads_and_writes(name: str, size: int, copy: str) -> None:
    """Prove that the library works here: read a blob made by `content` and write it to another name."""
    with file(name) as source:
        data = source.read()
    assert data == content(size)
    with file(copy, "wb") as target:
        target.write(data)
    assert target.committed


def refused(*attempts: Any) -> int:
    """Call each and count those that raise `BlobFileForkedError`."""
    count = 0
    for attempt in attempts:
        try:
            attempt()
        except BlobFileForkedError:
            count += 1
    return count
