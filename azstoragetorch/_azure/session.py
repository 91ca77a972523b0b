"""The connections of one event loop.

*Operations*: ``Session.current`` returns the session of the running loop, opening it on first use; ``account`` gives
the pipelines for one URL; ``Session.close_current`` ends it.

*Goals*: one pool of connections for everything a loop does; a user's own loop ends without "Unclosed client session";
nothing opens before the first request.

*Plan*: sessions are kept by loop. One on a user's loop is held by an async generator that was started there: the end
of ``asyncio.run`` closes every async generator of its loop, and with it the session. Accounts (URL, credential) are
cheap and kept in a bounded list, so a signature of its own for each of a million URLs costs no memory.

*Warning*: a forked child must neither use nor close what it inherits: closing removes the sockets from the epoll set
that the parent waits on. The sessions move to a list that is never freed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
import ssl
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline import AsyncPipeline
from azure.core.pipeline.transport import AsyncHttpResponse, HttpRequest
from azure.storage.blob.aio import BlobServiceClient

from azstoragetorch._azure.answer import BoundedResponse
from azstoragetorch._azure.checksum import RangeChecksums
from azstoragetorch._azure.credentials import (
    Credential,
    TokenSource,
    authentication_for,
    check_credential,
    token_source,
)
from azstoragetorch._azure.pace import Pace
from azstoragetorch._azure.proxies import Proxies
from azstoragetorch._azure.ranged_get import API_VERSION, USER_AGENT
from azstoragetorch._azure.tracing import TracingSwitch
from azstoragetorch._azure.transport import BlobTransport
from azstoragetorch._values.graveyard import bury
from azstoragetorch._values.options import KiB, MiB, TransferOptions
from azstoragetorch._values.unforked import unforked
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.exceptions import BlobTimeoutError

__all__ = ["Account", "Session"]

_logger = logging.getLogger("azstoragetorch.session")

# The SDK names the platform in its User-Agent. The first to ask for that name starts a process (`uname -p`) and, before
# Python 3.12, holds a lock of functools meanwhile: on the loop it would block, in another thread a child forked at that
# moment would wait for the lock for ever. From then on it is cached.
platform.platform()

MAX_CONNECTIONS = 256
"""Connections of one loop, the most ``in_flight`` may ask for; below the usual limit of 1,024 descriptors."""

READ_BUFFER = 512 * KiB
"""Bytes aiohttp takes from a socket before it waits for us. The default of 64 KiB stops and starts the socket for
every quarter of what one ``recv`` brings; more than twice that brings nothing (tests/benchmarks)."""

MAX_ACCOUNTS = 64

FAREWELL = 0.5
"""Seconds that the end of a session waits for connections to close: a round trip to any region, and nobody notices."""

DEAD_AFTER = 60_000
"""Milliseconds, twice the default ``idle_timeout``: whoever waits for the connection has gone by then."""


@dataclass(frozen=True, slots=True)
class Account:
    """One endpoint with one credential: both pipelines over the loop's connections."""

    reads: AsyncPipeline[HttpRequest, AsyncHttpResponse]
    """Without policies: ``persist`` retries, the transport authenticates. A third of the CPU of the SDK's pipeline
    for a small GET (265 against 820 us, docs/internals.md)."""
    transport: BlobTransport
    """What both end in."""
    service: BlobServiceClient
    credential: Credential
    """Kept alive: accounts are found by the identity of their credential."""
    pace: Pace
    """One for all credentials of the endpoint: it is the endpoint that refuses."""
    tracing: TracingSwitch
    """The loop's."""
    checksums: RangeChecksums = field(default_factory=RangeChecksums)
    """What the endpoint is asked for by ``verify="range"``."""


class Session:
    """Connections, accounts and certificate stores of one event loop."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, socket_factory=partial(_socket, self._sockets)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # else blobs with a Content-Encoding arrive inflated, and every offset is wrong
            read_bufsize=READ_BUFFER,
            response_class=BoundedResponse,  # the SDK reads answers whole, and whoever answers decides their length
            trust_env=False,  # looked up here once; aiohttp would do it for every request, at 500 us each
        )
        self._proxies = Proxies()
        self._tls: dict[str | None, asyncio.Future[ssl.SSLContext]] = {}
        self._accounts: OrderedDict[tuple[object, ...], Account] = OrderedDict()
        self._sources: OrderedDict[int, tuple[Credential, TokenSource]] = OrderedDict()
        self._paces: weakref.WeakValueDictionary[str, Pace] = weakref.WeakValueDictionary()
        self._default: AsyncTokenCredential | None = None
        self._tracing = TracingSwitch()
        self._holder: AsyncGenerator[None] | None = None

    @classmethod
    async def current(cls) -> Session:
        """Return the session of the running loop."""
        loop = asyncio.get_running_loop()
        session = _sessions.get(loop)
        if session is None:
            for reference in _sessions.keyrefs():  # a list of its own: loops of other threads come and go
                other = reference()
                if other is not None and other.is_closed():
                    _sessions.pop(other, None)
            session = _sessions[loop] = cls()
            session._holder = session._hold()
            await anext(session._holder)
            _logger.debug("opened the connections of an event loop, at most %d", MAX_CONNECTIONS)
        return session

    async def account(self, url: BlobUrl | ContainerUrl, credential: Credential, options: TransferOptions) -> Account:
        """Return both pipelines for the account of ``url``.

        :raises ValueError: if the proof of who asks would travel in the open.
        """
        ca_file = os.fspath(options.ca_file) if options.ca_file is not None else None
        identity = url.sas if url.sas is not None else id(credential)
        limits = (options.connect_timeout, options.idle_timeout, options.min_rate)
        key = (url.endpoint, url.sas is not None, identity, ca_file, limits)
        # Before the look: nothing may come between it and the entry below, or a hundred first requests would make
        # a hundred accounts, and each would ask for a token of its own.
        tls = await self._trust(ca_file, options.deadline)
        account = self._accounts.get(key)
        if account is not None:
            self._accounts.move_to_end(key)
            return account
        check_credential(url, credential)  # as every face has done before: this is where it counts
        proxy = self._proxies.of(url, anonymous=url.sas is None and credential is False)
        authentication = authentication_for(credential, url.sas, self._tokens_of)
        _logger.debug(
            "%s: asked with %s, %s",
            *(url.endpoint, _proof(url, credential), f"through {urlsplit(proxy).hostname}" if proxy else "directly"),
        )
        transport = BlobTransport(
            self._http,
            authentication,
            tls=tls,
            proxy=proxy,
            connect_timeout=options.connect_timeout,
            idle_timeout=options.idle_timeout,
            min_rate=options.min_rate,
        )
        service = BlobServiceClient(
            url.endpoint,
            transport=transport,
            api_version=API_VERSION,
            user_agent=USER_AGENT,
            permit_redirects=False,  # a redirect would carry the credential elsewhere
            retry_total=0,
            retry_connect=0,
            retry_read=0,
            retry_status=0,
            max_single_put_size=5000 * MiB,  # Put Blob's limit: whatever reaches it goes in one request
        )
        account = self._accounts[key] = Account(
            AsyncPipeline(transport), transport, service, credential, self._pace_of(url.endpoint), self._tracing
        )
        if len(self._accounts) > MAX_ACCOUNTS:
            self._accounts.popitem(last=False)
        return account

    @classmethod
    async def close_current(cls) -> None:
        """Close every connection of the running loop, if there is any; the next use opens a new session."""
        session = _sessions.get(asyncio.get_running_loop())
        if session is not None and session._holder is not None:
            await session._holder.aclose()

    async def _hold(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            _sessions.pop(asyncio.get_running_loop(), None)
            self._accounts.clear()
            try:
                if self._default is not None:
                    await self._default.close()
            finally:
                await self._http.close()
                await self._farewell()
                _logger.debug("closed the connections of an event loop")

    async def _farewell(self) -> None:
        """Wait until connections that were closed in the middle of an answer are gone.

        TLS says goodbye and waits for the same, which takes a round trip, and aiohttp no longer knows of them. A loop
        that is closed earlier leaves transports behind that warn of it.
        """
        until = time.monotonic() + FAREWELL
        while any(one.fileno() != -1 for one in self._sockets):
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.001)

    async def _trust(self, ca_file: str | None, deadline: float) -> ssl.SSLContext:
        """Return the TLS context that trusts ``ca_file``, or what the environment names.

        :raises BlobTimeoutError: if no thread of the loop, which may be the user's, had the time within ``deadline``.
        """
        # aiohttp's own context was built when it was imported, and does not know a variable that was set since.
        ca_file = ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None
        context = self._tls.get(ca_file)
        if context is None:
            # In a thread: reading the certificates takes up to 50 ms. As a future, so that many first requests
            # share one context: connections are pooled by it.
            # Not anyio's threads: their first use imports a module, and a child forked meanwhile keeps half of it.
            context = self._tls[ca_file] = asyncio.get_running_loop().run_in_executor(None, _tls_context, ca_file)
        if not context.done():
            await asyncio.wait([context], timeout=deadline)
        if not context.done():
            raise BlobTimeoutError(
                f"the certificate authorities were not read within the deadline of {deadline:g} s: the file system "
                f"does not answer, or no thread of the event loop's executor is free"
            )
        try:
            return context.result()
        except OSError as error:
            self._tls.pop(ca_file, None)
            raise ValueError(f"the certificate authorities in {ca_file!r} could not be read: {error}") from None

    def _pace_of(self, endpoint: str) -> Pace:
        pace = self._paces.get(endpoint)
        if pace is None:
            pace = self._paces[endpoint] = Pace(endpoint)
        return pace

    def _tokens_of(self, credential: Credential) -> TokenSource:
        # One for all accounts of a credential: their first requests must not fetch a token each.
        source = self._sources.pop(id(credential), None) or (
            credential,
            token_source(credential, self._default_credential),
        )
        self._sources[id(credential)] = source
        if len(self._sources) > MAX_ACCOUNTS:
            self._sources.popitem(last=False)
        return source[1]

    def _default_credential(self) -> AsyncTokenCredential:
        if self._default is None:
            from azure.identity.aio import DefaultAzureCredential  # 150 ms of imports that a SAS does not need

            self._default = DefaultAzureCredential()
        return self._default


def _socket(made_so_far: weakref.WeakSet[socket.socket], address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket that the kernel gives up when the other side takes nothing for a minute.

    A connection given up in the middle of an upload closes only when the rest was sent: one that is dead would keep its
    descriptor and its block for ever.
    """
    family, kind, protocol, _, place = address
    _logger.debug("connecting to %s, port %s", place[0], place[1])
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER)
    made_so_far.add(made)
    return made


def _proof(url: BlobUrl | ContainerUrl, credential: Credential) -> str:
    """Say, without a secret, what proves to the service who asks."""
    if url.sas is not None:
        return "the SAS of the URL"
    if credential is False:
        return "no credential"
    return "DefaultAzureCredential" if credential is None else type(credential).__name__


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    with unforked():
        return ssl.create_default_context(cafile=ca_file)


_sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Session] = weakref.WeakKeyDictionary()


def _bury_inherited() -> None:
    inherited = dict(_sessions)
    _sessions.clear()
    if inherited:
        bury(inherited)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_bury_inherited)
