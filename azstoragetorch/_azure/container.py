"""One container of the service: its listing, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from azure.storage.blob.aio import ContainerClient

from azstoragetorch._azure.credentials import Credential
from azstoragetorch._azure.retry import persist
from azstoragetorch._azure.session import Account, Session
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch._values.version import ListedBlob

__all__ = ["AzureContainer"]


class AzureContainer:
    """:class:`azstoragetorch._transfer.remote.RemoteContainer` over the SDK's public API."""

    def __init__(self, url: ContainerUrl, account: Account, options: TransferOptions, stats: TransferStats) -> None:
        self.name = str(url)
        self.stats = stats
        self._options = options
        self._client: ContainerClient = account.service.get_container_client(url.container)

    @classmethod
    async def open(
        cls, url: ContainerUrl, credential: Credential, options: TransferOptions, stats: TransferStats
    ) -> AzureContainer:
        """Return the container over the session of the running loop; sends nothing."""
        session = await Session.current()
        return cls(url, await session.account(url, credential, options), options, stats)

    async def pages(self, prefix: str | None = None, *, page_size: int = 5000) -> AsyncIterator[list[ListedBlob]]:
        """List Blobs; each page is asked for again on its own, so a failure late in a listing repeats one page."""
        marker: str | None = None
        while True:

            async def attempt(after: str | None = marker) -> tuple[list[ListedBlob], str | None]:
                self.stats.requests += 1
                listing = self._client.list_blobs(name_starts_with=prefix, results_per_page=page_size)
                pages = listing.by_page(after)
                page = await anext(pages)
                # The service quotes an ETag in headers and not in listings.
                blobs = [ListedBlob(blob.name, blob.size, '"' + blob.etag.strip('"') + '"') async for blob in page]
                return blobs, pages.continuation_token  # type: ignore[attr-defined]  # public, but not in the hint

            blobs, marker = await persist(
                attempt, doing=f"listing {self.name}", options=self._options, stats=self.stats
            )
            yield blobs
            if not marker:
                return
