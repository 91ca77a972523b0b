"""Checksums, in both directions: of what is sent, for the service to verify, and of what came, against the service's.

Of the two that the service knows, CRC64 costs a third of MD5, but its implementation is an extra. It keeps the
interpreter's lock while it computes, so a thread would not keep it off the loop: it is computed piece by piece, 0.2 ms
each. MD5 gives the lock up, so it runs in a thread and uses another core.
https://learn.microsoft.com/rest/api/storageservices/get-blob#request-headers
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from azstoragetorch._azure.body import SLICE
from azstoragetorch._azure.errors import FailedAttempt, Failure, Kind, unusable
from azstoragetorch._values.options import Checksum, KiB, has_crc64
from azstoragetorch.exceptions import BlobIntegrityError

__all__ = ["MD5", "Proof", "RangeChecksums", "checksum_headers", "checksum_wanted"]

_T = TypeVar("_T")

HASH_INLINE = 64 * KiB
"""Content up to this is hashed on the loop (0.1 ms); more in a thread."""


MD5 = "Content-MD5"


def checksum_wanted(kind: Checksum, *, secure: bool) -> bool:
    """Whether what is sent carries a checksum.

    :param secure: whether the connection authenticates every byte already, so that ``"auto"`` adds nothing.
    """
    return kind != "none" and not (kind == "auto" and secure)


async def checksum_headers(content: memoryview, kind: Checksum, *, secure: bool) -> dict[str, str]:
    """Return the header that makes the service verify ``content``, if one is wanted."""
    if not checksum_wanted(kind, secure=secure):
        return {}
    if kind == "crc64":
        _crc64_of(b"", 0)  # imported here: a child forked while a thread imports would wait for that import for ever
        return {"x-ms-content-crc64": await _off_loop(_crc64, content)}
    return {MD5: await _off_loop(_md5, content)}


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    asked: str
    """The header that asks for the checksum of a range."""
    answered: str
    """The header that it comes in."""


_MD5 = _Kind("MD5", "x-ms-range-get-content-md5", MD5)
_CRC64 = _Kind("CRC64", "x-ms-range-get-content-crc64", "x-ms-content-crc64")


class RangeChecksums:
    """Which checksum of a range one endpoint is asked for: CRC64 as long as both sides know it, else MD5."""

    def __init__(self) -> None:
        self._without_crc64 = False

    @property
    def kind(self) -> _Kind:
        """The one to ask for next."""
        return _MD5 if self._without_crc64 or not has_crc64() else _CRC64

    def give_up_crc64(self) -> None:
        """Say that the endpoint does not know it."""
        self._without_crc64 = True


class Proof:
    """Verifies one answer: ``headers`` ask for it, ``expect`` its headers, ``add`` its pieces, ``check`` the whole."""

    def __init__(self, checksums: RangeChecksums) -> None:
        self._checksums = checksums
        self._kind = checksums.kind
        self.headers = {self._kind.asked: "true"}  # asking for both is an error to the service
        self._expected: str | None = None
        self._crc64 = 0

    def refused(self, status: int, code: str | None) -> FailedAttempt | None:
        """Return what to raise for an error that may mean no more than that the service does not know CRC64."""
        # The emulator answers 500 FeatureNotSupported.
        if self._kind is not _CRC64 or not (status in (400, 501) or code == "FeatureNotSupported"):
            return None
        return self._without_crc64(f"the service refused a range with its CRC64 ({status})")

    def expect(self, headers: Mapping[str, str]) -> None:
        """Take the checksum from the headers of the answer.

        :raises FailedAttempt: if there is none.
        """
        self._expected = headers.get(self._kind.answered)
        if self._expected:
            return
        if self._kind is _CRC64:
            raise self._without_crc64("the answer has no CRC64 of its bytes")
        text = (
            "the service sent no checksum of the bytes that were asked for, so they cannot be verified; something "
            "between here and it removes x-ms-range-get-content-md5 or Content-MD5. Read from the account's own "
            "endpoint, or without verify='range'"
        )
        raise FailedAttempt(Failure(Kind.FINAL, BlobIntegrityError, text))

    def _without_crc64(self, text: str) -> FailedAttempt:
        self._checksums.give_up_crc64()
        return unusable(f"{text}; asking for their MD5 instead")

    def add(self, piece: bytes) -> None:
        """Add the next bytes of the body as they come."""
        if self._kind is _CRC64:
            self._crc64 = _crc64_of(piece, self._crc64)

    async def check(self, content: memoryview) -> None:
        """Compare; ``content`` is the whole body, and is not read any more when this returns or raises.

        :raises FailedAttempt: if these are not the bytes that the service sent.
        """
        found = _base64_of(self._crc64) if self._kind is _CRC64 else await _off_loop(_md5, content)
        if found != self._expected:
            raise unusable(f"the {len(content)} bytes that came do not have the {self._kind.name} that came with them")


async def _off_loop(compute: Callable[[memoryview], _T], content: memoryview) -> _T:
    """Return ``compute(content)``, in a thread unless it is short.

    No thread reads ``content`` when this returns or raises: its memory is somebody's who may use it again.
    """
    if len(content) <= HASH_INLINE:
        return compute(content)
    handed = [content]

    def work() -> _T | None:
        try:
            taken = handed.pop()
        except IndexError:
            return None  # given up while this waited for a thread
        return compute(taken)

    # Not anyio's threads: their first use imports a module, and a child forked meanwhile would inherit its lock.
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        # Shielded: cancelling does not stop a thread.
        result = await asyncio.shield(running)
    except asyncio.CancelledError:
        try:
            handed.pop()
            running.cancel()
        except IndexError:
            while not running.done():  # 6 ms for 4 MiB; a second cancellation does not end it sooner
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
        raise
    assert result is not None
    return result


def _md5(content: memoryview) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _crc64(content: memoryview) -> str:
    value = 0
    # It takes nothing but bytes. Slice by slice the copies stay in the cache, and the loop gets its turns between.
    for start in range(0, len(content), SLICE):
        value = _crc64_of(bytes(content[start : start + SLICE]), value)
    return _base64_of(value)


def _crc64_of(data: bytes, value: int) -> int:
    from azure.storage.extensions.checksums import crc64  # an extra

    return int(crc64.compute(data, value))


def _base64_of(value: int) -> str:
    return base64.b64encode(value.to_bytes(8, "little")).decode()
