"""One container of the service: its listing, page by page.

Beside the blob SDK, as the ranged read is: its listing costs 1,000 ms of CPU a page, on the loop (docs/internals.md).
The requests go through the lean pipeline of reads; the pages are parsed in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from functools import partial
from urllib.parse import quote

from azstoragetorch._azure.advice import ADVICE, stranger
from azstoragetorch._azure.answer import drain, let_go, take
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._azure.errors import FailedAttempt, Failure, answered, status_failure, unusable
from azstoragetorch._azure.list_page import parse_page
from azstoragetorch._azure.ranged_get import API_VERSION, lean_get
from azstoragetorch._azure.refusal import explained
from azstoragetorch._azure.retry import persist
from azstoragetorch._azure.session import Account, Session
from azstoragetorch._azure.tracing import in_span
from azstoragetorch._values.chunk import ListPage
from azstoragetorch._values.options import MiB, TransferOptions
from azstoragetorch._values.sas import Need
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.exceptions import BlobNotFoundError, ContainerNotFoundError

__all__ = ["AzureContainer"]

_logger = logging.getLogger("azstoragetorch.listing")

START_FROM_VERSION = "2026-02-06"
"""First version of the service's protocol with ``startFrom``. Only requests that need it name it: emulators and
gateways refuse versions newer than themselves."""

MAX_PAGE = 64 * MiB
"""Most that is read of a page. 5,000 blobs with metadata of 8 KiB each, the most the service stores, are 40 MiB."""


class AzureContainer:
    """:class:`azstoragetorch._transfer.remote.RemoteContainer` over the lean pipeline."""

    def __init__(self, url: ContainerUrl, account: Account, options: TransferOptions, stats: TransferStats) -> None:
        self.name = str(url)
        self.stats = stats
        self._options = options
        self._account = account
        self._url = url

    @classmethod
    async def open(
        cls, url: ContainerUrl, credential: Credential, options: TransferOptions, stats: TransferStats
    ) -> AzureContainer:
        """Return the container over the session of the running loop; sends nothing."""
        session = await Session.current()
        return cls(url, await session.account(url, credential, options), options, stats)

    async def pages(
        self, prefix: str | None = None, *, page_size: int = 5000, start_from: str | None = None
    ) -> AsyncGenerator[ListPage, None]:
        """List Blobs; each page is asked for again on its own, so a failure late in a listing repeats one page.

        Without ``start_from`` the next page is on its way while one is used; with it there may be no need of one.
        """
        # Metadata is what tells a placeholder of a directory from an empty blob.
        url = f"{self._url.url}?restype=container&comp=list&include=metadata&maxresults={page_size}"
        for name, value in (("prefix", prefix), ("startFrom", start_from)):
            if value:
                url += f"&{name}={quote(value, safe='')}"
        version = START_FROM_VERSION if start_from else API_VERSION
        ahead: asyncio.Task[tuple[ListPage, str]] | None = None
        try:
            followed: set[str] = set()
            page, marker = await self._page(url, version, "", followed)
            while marker:
                if start_from:
                    yield page
                    page, marker = await self._page(url, version, marker, followed)
                else:
                    ahead = asyncio.create_task(self._page(url, version, marker, followed))
                    yield page
                    page, marker = await ahead
            yield page
        finally:
            if ahead is not None and not ahead.done():
                ahead.cancel()
                await asyncio.wait([ahead])
            if ahead is not None and not ahead.cancelled():
                ahead.exception()  # seen here, or asyncio would complain that nobody did

    async def _page(self, url: str, version: str, marker: str, followed: set[str]) -> tuple[ListPage, str]:
        """Return a page and the marker of the next.

        :param followed: markers that came before, to which that of the next is added: a circle would have no end.
        """
        address = f"{url}&marker={quote(marker, safe='')}" if marker else url

        async def attempt() -> tuple[ListPage, str]:
            pieces = await self._body(address, version)
            # Not anyio's threads: their first use imports a module, and a child forked meanwhile keeps half of it.
            page, following = await asyncio.get_running_loop().run_in_executor(None, parse_page, pieces)
            if following in followed:
                raise unusable("the service sent a page that is followed by itself, or by one before it")
            return page, following

        doing, options, pace = f"listing {self.name}", self._options, self._account.pace
        need, authentication = Need("l", secure=self._url.scheme == "https"), self._account.transport.authentication
        since = time.monotonic()
        page, following = await in_span(
            self._account.tracing,
            "azstoragetorch.list_blobs",
            partial(
                persist,
                attempt,
                doing=doing,
                options=options,
                stats=self.stats,
                pace=pace,
                explain=lambda failure: explained(failure, authentication, need),
            ),
        )
        if following:
            followed.add(following)
        if _logger.isEnabledFor(logging.DEBUG):
            more = "more follow" if following else "the last"
            seconds = time.monotonic() - since
            _logger.debug("%s: a page of %d blobs in %.3f s, %s", doing, len(page.blobs), seconds, more)
        return page, following

    async def _body(self, url: str, version: str) -> list[bytes]:
        """Ask once and return the answer's body as it came."""
        response = (await self._account.reads.run(lean_get(url, version), stream=True)).http_response
        answer = response.internal_response
        pieces: list[bytes] = []
        size = 0

        def put(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > MAX_PAGE:
                raise unusable(f"the list of blobs that the service sends is longer than {MAX_PAGE} bytes")
            pieces.append(piece)

        try:
            if response.status_code != 200:
                await drain(answer.content)
                raise FailedAttempt(_refusal(response.status_code, response.headers))
            if "html" in response.headers.get("Content-Type", "") and (who := stranger(response.headers)):
                raise unusable(f"the answer is no list of blobs{who}")
            await take(answer.content, put, self._options)
            return pieces
        finally:
            let_go(answer)


def _refusal(status: int, headers: Mapping[str, str]) -> Failure:
    """Say what an error means to a listing, which is of a container."""
    code = headers.get("x-ms-error-code")
    if status < 300:
        return unusable(f"the service answered a listing with status {status}").failure
    failure = status_failure(status, code, headers, None)
    if failure.type is BlobNotFoundError:
        text = f"the container does not exist ({answered(404, code)}); check the URL: upper and lower case differ"
        if code in ADVICE:
            text = f"{text}: {ADVICE[code]}"
        return replace(failure, type=ContainerNotFoundError, text=text)
    return failure
