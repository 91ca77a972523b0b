"""Read one range over azure-core's own pipeline, into the caller's memory.

The one place that steps beside the blob SDK: its download costs three times the CPU for a small blob
(docs/internals.md). The pipeline ends at the headers; the body is taken here, piece by piece and with one copy, and a
cut one goes on at the byte that is missing. Where bytes are verified by a checksum, none of them has been received
before all of them are, so a cut answer begins anew.
"""

from __future__ import annotations

import platform
import re
import uuid
from collections.abc import Callable, Mapping

import aiohttp
from azure.core.pipeline import AsyncPipeline
from azure.core.pipeline.transport import AsyncHttpResponse, HttpRequest

from azstoragetorch import __version__
from azstoragetorch._azure.advice import stranger
from azstoragetorch._azure.answer import drain, let_go, take
from azstoragetorch._azure.checksum import Proof, RangeChecksums
from azstoragetorch._azure.errors import FailedAttempt, status_failure, unusable
from azstoragetorch._values.options import MAX_BLOCK_SIZE, MAX_BLOCKS, TransferOptions
from azstoragetorch._values.stats import TransferStats, count_bytes
from azstoragetorch._values.version import BlobVersion, RangeRead

__all__ = ["API_VERSION", "USER_AGENT", "RangedGet", "lean_get"]

API_VERSION = "2021-12-02"
"""Version of the service's protocol: has all that is used here, and older than any cloud or emulator in use."""

USER_AGENT = f"azstoragetorch/{__version__} python/{platform.python_version()}"

# At most 19 digits, a signed 64-bit number: of more than 4,300 Python makes no int, but a ValueError.
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_PAST_END = re.compile(r"bytes \*/(\d{1,19})")


class RangedGet:
    """One range, over as many answers as it takes."""

    def __init__(
        self,
        pipeline: AsyncPipeline[HttpRequest, AsyncHttpResponse],
        url: str,
        view: memoryview,
        offset: int,
        etag: str | None,
        opened: Callable[[BlobVersion], None] | None,
        checksums: RangeChecksums | None,
        options: TransferOptions,
        stats: TransferStats,
    ) -> None:
        self.filled = 0
        self._pipeline = pipeline
        self._url = url
        self._options = options
        self._stats = stats
        self._view = view
        self._offset = offset
        self._etag = etag
        self._opened = opened
        self._checksums = checksums
        self._version: BlobVersion | None = None

    async def attempt(self) -> RangeRead:
        """Ask for what is missing and take the body in place."""
        view = self._view
        start = self._offset + self.filled
        request = lean_get(self._url)
        request.headers["Range"] = f"bytes={start}-{self._offset + len(view) - 1}"
        if self._etag is not None:
            request.headers["If-Match"] = self._etag
        proof: Proof | None = None
        if self._checksums is not None:
            proof = Proof(self._checksums)
            request.headers.update(proof.headers)
        response = (await self._pipeline.run(request, stream=True)).http_response
        answer = response.internal_response
        try:
            if response.status_code == 416:
                return self._past_end(start, response.headers)
            if response.status_code != 206:
                await drain(answer.content)
                raise self._refused(response.status_code, response.headers, proof)
            blob_version, stop = self._verified(start, response.headers)
            if proof is not None:
                proof.expect(response.headers)
            if self._version is None:
                self._version, self._etag = blob_version, blob_version.etag
                if self._opened is not None:
                    self._opened(blob_version)
            await self._take(answer.content, stop - self._offset, proof)
            return RangeRead(self.filled, blob_version)
        finally:
            let_go(answer)

    async def _take(self, content: aiohttp.StreamReader, end: int, proof: Proof | None) -> None:
        """Copy the body into the view, up to its byte ``end``."""
        view, stats = self._view, self._stats
        filled = self.filled

        def put(piece: bytes) -> None:
            nonlocal filled
            size = len(piece)
            if filled + size > end:
                raise unusable(f"the body is longer than the {end} bytes it was announced with")
            view[filled : filled + size] = piece
            filled += size
            count_bytes(stats, size)
            if proof is None:
                self.filled = filled
            else:
                proof.add(piece)

        await take(content, put, self._options)
        if filled < end:
            raise unusable(f"the body ended after {filled} of {end} bytes")
        if proof is not None:
            await proof.check(view[self.filled : end])
            self.filled = end

    def _past_end(self, start: int, headers: Mapping[str, str]) -> RangeRead:
        if self._version is not None or start > self._offset:
            raise unusable("a range inside the blob was answered with 416")
        match = _PAST_END.fullmatch(headers.get("Content-Range", ""))
        if match is not None and int(match[1]) > start:
            raise unusable(f"a range that starts at {start} of {match[1]} bytes was answered with 416")
        etag = headers.get("ETag")
        if start == 0:
            return RangeRead(0, BlobVersion(0, etag))
        # Without an ETag the size alone is worth nothing: the blob could change under it unnoticed.
        return RangeRead(0, BlobVersion(int(match[1]), etag) if match and etag else None)

    def _refused(self, status: int, headers: Mapping[str, str], proof: Proof | None) -> FailedAttempt:
        if status == 200:
            who = stranger(headers)
            if who:
                return unusable(f"the answer is another than was asked for (status 200 instead of 206){who}")
            return unusable("the service sent the whole blob instead of the range that was asked for")
        if 200 < status < 300:
            return unusable(f"the service answered a read with status {status}")
        code = headers.get("x-ms-error-code")
        asks_otherwise = proof.refused(status, code) if proof is not None else None
        return asks_otherwise or FailedAttempt(status_failure(status, code, headers, None))

    def _verified(self, start: int, headers: Mapping[str, str]) -> tuple[BlobVersion, int]:
        """Return the version the answer is of and where its body stops, after checking all it says of itself."""
        text = headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None:
            raise unusable(f"the answer's Content-Range {text[:80]!r} cannot be understood")
        first, last, total = int(match[1]), int(match[2]), int(match[3])
        if total > MAX_BLOCKS * MAX_BLOCK_SIZE:
            raise unusable(f"the answer says that the blob has {total} bytes, more than any blob can have")
        stop = min(self._offset + len(self._view), total)
        if first != start or last + 1 != stop:
            raise unusable(f"asked for bytes {start}-{stop - 1}, the answer brings {text[:80]!r}")
        length = headers.get("Content-Length")
        if length != str(stop - start):
            raise unusable(f"the answer's Content-Length is {length!r} for {stop - start} bytes")
        etag = headers.get("ETag")
        if not etag:
            raise unusable("the answer has no ETag")
        if self._etag is not None and etag != self._etag:
            raise FailedAttempt(status_failure(412, "ConditionNotMet", headers, None))
        if self._version is not None and self._version.size != total:
            raise unusable(f"the blob's size changed from {self._version.size} to {total} under one ETag")
        return BlobVersion(total, etag), stop


def lean_get(url: str, version: str = API_VERSION) -> HttpRequest:
    """Return a GET with what every one of them carries, for the pipeline without policies."""
    request = HttpRequest("GET", url)
    request.headers["x-ms-version"] = version
    request.headers["x-ms-client-request-id"] = str(uuid.uuid4())
    request.headers["User-Agent"] = USER_AGENT
    request.headers["Accept-Encoding"] = "identity"  # aiohttp offers gzip by itself; a proxy might take it up
    return request
