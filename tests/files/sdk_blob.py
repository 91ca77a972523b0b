"""The seam's reads over the blob SDK's own `download_blob`: the slower way, for comparison with ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob.aio import BlobClient

from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.version import BlobVersion, RangeRead
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobModifiedError,
    BlobNotFoundError,
    BlobServiceError,
    ContainerNotFoundError,
)

__all__ = ["SdkBlob"]


class SdkBlob:
    """`RemoteBlob.read_into` with nothing of ours between the caller and the SDK."""

    def __init__(self, client: BlobClient, name: str) -> None:
        self.name = name
        self.stats = TransferStats()
        self._client = client

    def beside(self, size: int) -> int:
        return 0

    async def read_into(
        self,
        view: memoryview,
        offset: int,
        *,
        etag: str | None = None,
        opened: Callable[[BlobVersion], None] | None = None,
    ) -> RangeRead:
        condition: dict[str, Any] = (
            {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag is not None else {}
        )
        failure: AZStorageTorchError | None = None
        try:
            stream = await self._client.download_blob(offset, len(view), **condition)
            size = int(stream.properties.content_range.rpartition("/")[2]) if stream.properties.content_range else 0
            version = BlobVersion(size, stream.properties.etag)
            if opened is not None and stream.size:
                opened(version)
            filled = 0
            async for chunk in stream.chunks():
                view[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            return RangeRead(filled, version)
        except HttpResponseError as error:
            status, headers = error.status_code, getattr(error.response, "headers", {})
            code = headers.get("x-ms-error-code")
            if status == 416:
                total = headers.get("Content-Range", "").rpartition("/")[2]
                return RangeRead(0, BlobVersion(int(total), headers.get("ETag")) if total else None)
            kind: type[BlobServiceError] = BlobServiceError
            if isinstance(error, ResourceNotFoundError):
                kind = ContainerNotFoundError if code == "ContainerNotFound" else BlobNotFoundError
            elif isinstance(error, ResourceModifiedError):
                kind = BlobModifiedError
            failure = kind(f"reading {self.name}: {status}", status_code=status, error_code=code)
        raise failure
