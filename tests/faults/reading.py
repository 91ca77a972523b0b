"""The ways in which a case reads its blob, and in which it spoils the answers."""

from __future__ import annotations

__all__ = [
    "ASYNC",
    "ATTEMPTS",
    "DATASET",
    "FILE",
    "FILES",
    "FOREVER",
    "GET",
    "LISTED",
    "MANY",
    "PARTS",
    "READINTO",
    "READS",
    "SHORT",
    "THIRD",
    "TWICE",
    "UNANSWERED",
    "broken",
    "later",
    "loading",
    "spoil",
]

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import Loading, checked_loading
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import Action, on
from tests.faults.case import BRIEF, Case, KiB, Use, raises
from tests.faults.scene import Scene


def _by_file(scene: Scene, options: TransferOptions) -> bytes:
    with BlobIO(scene.url, "rb", credential=scene.credential, options=options) as file:
        return file.read()


async def _by_async_file(scene: Scene, options: TransferOptions) -> bytes:
    async with AsyncBlobIO(scene.url, "rb", credential=scene.credential, options=options) as file:
        return await file.read()


def _by_readinto(scene: Scene, options: TransferOptions) -> bytes:
    data = bytearray(len(scene.content))
    with BlobIO(scene.url, "rb", credential=scene.credential, options=options) as file:
        return bytes(data[: file.readinto(data)])


def loading(scene: Scene, options: TransferOptions, prefetch: int = 4) -> Loading:
    """What a dataset is inside: the classes around it need torch."""
    return checked_loading(Access.of(scene.credential, options), None, prefetch, "raise")


def _by_dataset(scene: Scene, options: TransferOptions) -> bytes:
    made = loading(scene, options)
    with closing(made.samples([Blob(BlobUrl.parse(scene.url), made.access)])) as samples:
        (sample,) = samples
    return bytes(sample["data"])


async def _by_listed_dataset(scene: Scene, options: TransferOptions) -> bytes:
    made = loading(scene, options)
    blob = Blob(BlobUrl.parse(scene.url), made.access, size=len(scene.content), etag=scene.etag)
    (sample,) = [sample async for sample in made.samples_async([blob])]
    return bytes(sample["data"])


def _by_two_reads(scene: Scene, options: TransferOptions) -> bytes:
    half = len(scene.content) // 2
    with BlobIO(scene.url, "rb", credential=scene.credential, options=options) as file:
        data = file.read(10)
        scene.meanwhile()
        file.seek(half)
        rest = file.read()
        file.seek(10)
        return data + file.read(half - 10) + rest


FILE = Use("BlobIO", _by_file)
ASYNC = Use("AsyncBlobIO", _by_async_file)
READINTO = Use("BlobIO.readinto", _by_readinto)
DATASET = Use("dataset", _by_dataset)
LISTED = Use("listed dataset", _by_listed_dataset)
TWICE = Use("BlobIO, two reads", _by_two_reads)

FILES = (FILE, ASYNC)
PARTS = (FILE, ASYNC, READINTO)
"""Of a blob of many ranges."""
READS = (FILE, ASYNC, DATASET, LISTED)
"""All ways of reading one small blob; each sends one request when nothing goes wrong."""
FOREVER = (FILE, LISTED)
"""One of each loop, for what takes until the deadline."""

GET = on("GET", "")
THIRD = on("GET", range=(128 * KiB, 192 * KiB))
"""The request for one range of ``MANY``, when size and ETag are known."""
MANY = 10 * 64 * KiB + 33
"""Bytes of a blob of eleven ranges of ``BRIEF``."""

SHORT = replace(BRIEF, deadline=1)
ATTEMPTS = (2, 8)
"""Requests of a read whose every answer is broken, until the deadline of 1 s or the eighth attempt."""
UNANSWERED = (4, 16)
"""The same where there is no answer at all: the HTTP client itself asks each time once more."""


def spoil(*actions: Action, times: int | None = 1) -> Callable[[Scene], object]:
    """Return a fault that spoils so many answers; ``None`` is all."""
    return lambda scene: scene.server.fault(GET, *actions, times=times)


def later(*actions: Action, times: int | None = 1) -> Callable[[Scene], object]:
    """Return a fault of the third range of many."""
    return lambda scene: scene.server.fault(THIRD, *actions, times=times)


def broken(
    name: str,
    action: Action,
    error: type[Exception],
    *,
    thrice: bool = False,
    requests: tuple[int, int] = ATTEMPTS,
) -> list[Case]:
    """Return the cases of an answer that comes broken once, perhaps three times, and always."""
    cases = [Case(name=f"{name}, once", fault=spoil(action), requests=2, uses=READS, seconds=1)]
    if thrice:
        # Three waits of at most 0.1, 0.2 and 0.4 s.
        cases.append(Case(name=f"{name}, three times", fault=spoil(action, times=3), requests=4, uses=READS, seconds=2))
    cases.append(
        Case(
            name=f"{name}, always",
            fault=spoil(action, times=None),
            options=SHORT,
            outcome=raises(error),
            requests=requests,
            uses=FOREVER,
            seconds=3,
        )
    )
    return cases
