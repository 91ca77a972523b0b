"""One blob of the service: ranged reads over the lean pipeline, everything else through the SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient

from azstoragetorch._azure.body import Slices, checksum_headers
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._azure.errors import Failure
from azstoragetorch._azure.ranged_get import RangedGet
from azstoragetorch._azure.retry import persist
from azstoragetorch._azure.session import Account, Session
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion, RangeRead
from azstoragetorch.exceptions import AZStorageTorchError, BlobExistsError, CommitOutcomeUnknownError

__all__ = ["AzureBlob"]

_T = TypeVar("_T")


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

    async def read_into(
        self,
        view: memoryview,
        offset: int,
        *,
        etag: str | None = None,
        opened: Callable[[BlobVersion], None] | None = None,
    ) -> RangeRead:
        """Fill ``view`` from byte ``offset``; a cut body goes on at the byte that is missing."""
        read = RangedGet(
            self._account.reads, self._url.request_url, view, offset, etag, opened, self._options, self.stats
        )
        return await self._persist(read.attempt, "reading", progress=lambda: read.filled)

    async def stage(self, block_id: str, content: memoryview) -> bool:
        """Put Block."""
        headers = await self._checksum(content)
        attempts = 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            self.stats.requests += 1
            await self._sdk.stage_block(
                block_id, cast(Any, Slices(content)), length=len(content), headers=dict(headers)
            )

        await self._persist(attempt, "staging a block of")
        self.stats.bytes += len(content)
        return attempts == 1

    async def put(self, content: memoryview) -> None:
        """Put Blob."""
        body = bytes(content)
        headers = await self._checksum(content)
        unanswered = _Unanswered(self._account)

        async def attempt() -> None:
            self.stats.requests += 1
            await self._sdk.upload_blob(body, length=len(body), overwrite=True, headers=dict(headers))

        refusal: AZStorageTorchError | None = None
        try:
            await self._persist(attempt, "writing", failed=unanswered.note)
        except AZStorageTorchError as error:
            refusal = error
        if refusal is None:
            self.stats.bytes += len(body)
        elif unanswered.any:
            raise self._unknown("writing", None) from refusal
        else:
            raise refusal

    async def commit(self, block_ids: Sequence[str], *, create_only: bool) -> None:
        """Put Block List, and where its answer does not tell, Get Block List to see whose content the blob holds."""
        unanswered = _Unanswered(self._account)
        options: dict[str, Any] = {"match_condition": MatchConditions.IfMissing} if create_only else {}

        async def attempt() -> None:
            self.stats.requests += 1
            await self._sdk.commit_block_list([BlobBlock(block_id) for block_id in block_ids], **options)

        refusal: AZStorageTorchError | None = None
        try:
            await self._persist(attempt, "committing", failed=unanswered.note)
        except AZStorageTorchError as error:
            refusal = error
        if refusal is None:
            return
        # aiohttp itself sends a PUT a second time on a connection that was reset, so a first 409 or 400 may be the
        # answer to a commit that won. Ids are unique to one writer: the committed list proves whose content stands.
        doubtful = isinstance(refusal, BlobExistsError) or getattr(refusal, "status_code", 0) == 400
        if not doubtful and not unanswered.any:
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
        if not unanswered.any or (silence is None and block_ids):
            raise refusal
        raise self._unknown("committing", silence) from refusal

    async def exists(self) -> bool:
        """Get Blob Properties."""

        async def attempt() -> bool:
            self.stats.requests += 1
            return bool(await self._sdk.exists())

        return await self._persist(attempt, "looking for")

    def _unknown(self, doing: str, silence: AZStorageTorchError | None) -> CommitOutcomeUnknownError:
        reason = f" ({silence})" if silence is not None else ""
        return CommitOutcomeUnknownError(
            f"{doing} {self.name} was not answered, and what became of it cannot be told{reason}; the blob holds "
            f"either its previous or the new content, whole. Read it before writing again"
        )

    async def _committed_ids(self) -> list[str]:
        self.stats.requests += 1
        try:
            committed, _ = await self._sdk.get_block_list("committed")
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
        return await persist(
            attempt,
            doing=f"{doing} {self.name}",
            options=self._options,
            stats=self.stats,
            progress=progress,
            failed=failed,
        )

    async def _checksum(self, content: memoryview) -> dict[str, str]:
        return await checksum_headers(content, self._options.checksum, secure=self._url.scheme == "https")


class _Unanswered:
    """Remembers whether an attempt may have succeeded without its answer arriving."""

    def __init__(self, account: Account) -> None:
        self.any = False
        self._account = account

    def note(self, failure: Failure) -> None:
        self.any = self.any or failure.ambiguous or (failure.unconnected and self._account.transport.answered)
