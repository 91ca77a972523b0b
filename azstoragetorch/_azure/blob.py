"""One blob of the service: ranged reads over the lean pipeline, everything else through the SDK."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar, cast

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient

from azstoragetorch._azure.advice import ROOT
from azstoragetorch._azure.body import Slices
from azstoragetorch._azure.checksum import MD5, checksum_headers, checksum_wanted
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._azure.errors import Failure
from azstoragetorch._azure.ranged_get import RangedGet
from azstoragetorch._azure.refusal import explained
from azstoragetorch._azure.retry import persist
from azstoragetorch._azure.sent import Sent
from azstoragetorch._azure.session import Account, Session
from azstoragetorch._azure.tracing import UNTRACED, in_span
from azstoragetorch._values.beside import beside
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.sas import Need
from azstoragetorch._values.stats import TransferStats, count_bytes
from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion, RangeRead
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobNotFoundError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
)

__all__ = ["AzureBlob"]

_T = TypeVar("_T")

_SPANS = {
    "reading": "azstoragetorch.get_blob",
    "staging a block of": "azstoragetorch.put_block",
    "writing": "azstoragetorch.put_blob",
    "committing": "azstoragetorch.put_block_list",
    "asking what was committed to": "azstoragetorch.get_block_list",
    "asking what was written to": "azstoragetorch.get_blob_properties",
    "looking for": "azstoragetorch.get_blob_properties",
}
"""Names of spans: the service's names of these operations."""

_WRITES = frozenset({"staging a block of", "writing", "committing"})


class AzureBlob:
    """:class:`azstoragetorch._transfer.remote.RemoteBlob` over the SDK's public API."""

    def __init__(self, url: BlobUrl, account: Account, options: TransferOptions, stats: TransferStats) -> None:
        self.name = str(url)
        self.stats = stats
        self._url = url
        self._account = account
        self._options = options
        self._client: BlobClient | None = None

    @classmethod
    async def open(
        cls, url: BlobUrl, credential: Credential, options: TransferOptions, stats: TransferStats
    ) -> AzureBlob:
        """Return the blob over the session of the running loop; sends nothing."""
        session = await Session.current()
        return cls(url, await session.account(url, credential, options), options, stats)

    def beside(self, size: int) -> int:
        """Return what a transfer of ``size`` bytes takes in memory beside their buffer."""
        return beside(self._url.scheme, size, self._options)

    async def read_into(
        self,
        view: memoryview,
        offset: int,
        *,
        etag: str | None = None,
        opened: Callable[[BlobVersion], None] | None = None,
    ) -> RangeRead:
        """Fill ``view`` from byte ``offset``; a cut body goes on at the byte that is missing."""
        account, options, url = self._account, self._options, self._url.request_url
        checksums = account.checksums if options.verify == "range" else None
        read = RangedGet(account.reads, url, view, offset, etag, opened, checksums, options, self.stats)
        return await self._persist(read.attempt, "reading", progress=lambda: read.filled)

    async def stage(self, block_id: str, content: memoryview) -> bool:
        """Put Block."""
        headers = await self._checksum(content, self._options.checksum)
        attempts = 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            body = cast(Any, Slices(content))
            await self._sdk.stage_block(block_id, body, length=len(content), headers=dict(headers), **UNTRACED)

        await self._persist(attempt, "staging a block of")
        count_bytes(self.stats, len(content))
        return attempts == 1

    async def put(self, content: memoryview) -> None:
        """Put Blob."""
        body = bytes(content)
        headers = await self._checksum(content, self._options.checksum)
        sent = Sent()
        options: dict[str, Any] = {"overwrite": True, "raw_request_hook": sent.follow, **UNTRACED}

        async def attempt() -> None:
            await self._sdk.upload_blob(body, length=len(body), headers=dict(headers), **options)

        refusal: AZStorageTorchError | None = None
        try:
            await self._persist(attempt, "writing", failed=sent.note)
        except AZStorageTorchError as error:
            refusal = error
        if refusal is not None:
            if not sent.unanswered:
                raise refusal
            silence: AZStorageTorchError | None = None
            stands: bool | None = None
            try:
                digest = headers.get(MD5) or (await self._checksum(content, "md5"))[MD5]
                stands = await self._persist(partial(self._holds, len(body), digest), "asking what was written to")
            except AZStorageTorchError as error:
                silence = error
            if stands is None:
                raise self._unknown("writing", silence) from refusal
            if not stands:
                self._raise_refusal("writing", refusal, sent)
        count_bytes(self.stats, len(body))

    async def commit(self, block_ids: Sequence[str], *, create_only: bool) -> None:
        """Put Block List, and where its answer does not tell, Get Block List to see whose content the blob holds."""
        sent = Sent()
        options: dict[str, Any] = {"match_condition": MatchConditions.IfMissing} if create_only else {}
        options |= {"raw_request_hook": sent.follow, **UNTRACED}
        # One bit in the list is enough to put one block in another's place, and the service would not see it. The SDK
        # writes the list, so only it can compute the sum: always MD5, whatever the blocks have.
        options["validate_content"] = checksum_wanted(self._options.checksum, secure=self._secure)

        async def attempt() -> None:
            await self._sdk.commit_block_list([BlobBlock(block_id) for block_id in block_ids], **options)

        refusal: AZStorageTorchError | None = None
        try:
            await self._persist(attempt, "committing", failed=sent.note)
        except AZStorageTorchError as error:
            refusal = error
        if refusal is None:
            return
        # aiohttp itself sends a PUT a second time on a connection that was reset, so a first 409 (exists, must not be
        # changed), 412 (leased) or 400 (blocks replaced since) may be the answer to a commit that won. Ids are unique
        # to one writer: the committed list proves whose content stands.
        doubtful = getattr(refusal, "status_code", None) in (400, 409, 412)
        if not doubtful and not sent.unanswered:
            raise refusal
        silence: AZStorageTorchError | None = None
        committed: list[str] = []
        try:
            committed = await self._persist(self._committed_ids, "asking what was committed to")
        except AZStorageTorchError as error:
            silence = error
        if block_ids and committed == list(block_ids):
            return
        # An empty list proves nothing: every blob written by Put Blob has one.
        if silence is None and block_ids:
            self._raise_refusal("committing", refusal, sent)
        if not sent.unanswered:
            raise refusal
        raise self._unknown("committing", silence) from refusal

    async def exists(self) -> bool:
        """Get Blob Properties."""

        async def attempt() -> bool:
            return bool(await self._sdk.exists(**UNTRACED))

        try:
            return await self._persist(attempt, "looking for")
        except BlobNotFoundError:  # said by something that is not the service, so not by the SDK
            return False

    def _raise_refusal(self, doing: str, refusal: AZStorageTorchError, sent: Sent) -> NoReturn:
        """Raise what is to be said of a write that the blob does not hold.

        :raises CommitOutcomeUnknownError: if it may come to hold it yet.
        """
        # What the service refuses for a reason of its own (the blob exists, somebody holds a lease, the blocks are
        # gone) it refuses an earlier attempt, too, that it comes to later.
        settled = getattr(refusal, "status_code", None) in (400, 409, 412) and getattr(refusal, "error_code", None)
        if not sent.pending or settled:
            raise refusal
        raise CommitOutcomeUnknownError(
            f"{doing} {self.name} was not answered; the blob does not hold the new content yet, but the service may "
            f"still apply what it was sent. Read the blob before writing again. The last attempt: {refusal}"
        ) from refusal

    def _unknown(self, doing: str, silence: AZStorageTorchError | None) -> CommitOutcomeUnknownError:
        reason = f" ({silence})" if silence is not None else ""
        return CommitOutcomeUnknownError(
            f"{doing} {self.name} was not answered, and what became of it cannot be told{reason}; the blob holds "
            f"either its previous or the new content, whole. Read it before writing again"
        )

    async def _holds(self, size: int, md5: str) -> bool | None:
        """Whether the blob's content has this size and checksum; ``None`` where the service keeps no checksum."""
        try:
            properties = await self._sdk.get_blob_properties(**UNTRACED)
        except ResourceNotFoundError:
            return False
        kept = properties.content_settings.content_md5
        if properties.size != size:
            return False
        return None if kept is None else base64.b64encode(kept).decode() == md5

    async def _committed_ids(self) -> list[str]:
        try:
            committed, _ = await self._sdk.get_block_list("committed", **UNTRACED)
        except ResourceNotFoundError:
            return []
        return [block.id for block in committed]

    @property
    def _sdk(self) -> BlobClient:
        if self._client is None:
            self._client = self._account.service.get_blob_client(self._url.container, self._url.name)
        return self._client

    async def _persist(
        self,
        attempt: Callable[[], Awaitable[_T]],
        doing: str,
        progress: Callable[[], int] = lambda: 0,
        failed: Callable[[Failure], None] | None = None,
    ) -> _T:
        operation = partial(
            persist,
            attempt,
            doing=f"{doing} {self.name}",
            options=self._options,
            stats=self.stats,
            pace=self._account.pace,
            progress=progress,
            failed=failed,
            explain=lambda failure: self._explained(failure, writing=doing in _WRITES),
        )
        return await in_span(self._account.tracing, _SPANS[doing], operation)

    async def _explained(self, failure: Failure, *, writing: bool) -> Failure:
        version, snapshot = self._url.version_id is not None, self._url.snapshot is not None
        need = Need("w" if writing else "r", secure=self._secure, snapshot=snapshot, version=version)
        failure = await explained(failure, self._account.transport.authentication, need)
        if self._url.container == "$root" and failure.facts.get("status_code") in (401, 403, 404):
            failure = replace(failure, text=f"{failure.text}. {ROOT}")
        return failure

    async def _checksum(self, content: memoryview, kind: Literal["auto", "md5", "crc64", "none"]) -> dict[str, str]:
        deadline = self._options.deadline
        timeout = asyncio.timeout(deadline)
        try:
            async with timeout:
                return await checksum_headers(content, kind, secure=self._secure)
        except TimeoutError:
            if not timeout.expired():
                raise
        raise BlobTimeoutError(
            f"writing {self.name}: no thread of the event loop's executor was free to compute a checksum within the "
            f"deadline of {deadline:g} s"
        )

    @property
    def _secure(self) -> bool:
        return self._url.scheme == "https"
