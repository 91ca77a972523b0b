"""Reach a container or a blob, one step after the other, so that the first that fails says where to look.

name -> connect -> TLS -> credential -> list or read -> write

The first three are made beside the transfers, on a connection of their own that sends nothing; everything from the
credential on goes the way of all requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlsplit

from azstoragetorch._azure.advice import address_words, tls_words
from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._azure.credentials import Credential
from azstoragetorch._azure.errors import FailedAttempt
from azstoragetorch._azure.session import Account, Session
from azstoragetorch._azure.tracing import UNTRACED
from azstoragetorch._check.screen import line, shown_rate, shown_size, shown_time
from azstoragetorch._values.options import MiB, TransferOptions
from azstoragetorch._values.sas import Need, objections, sas_fields, shown_fields
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import AZStorageTorchError, CommitOutcomeUnknownError, RedactedCause

__all__ = ["Found", "StepFailed", "parse_url", "reach", "write"]

_T = TypeVar("_T")

WRITTEN = 16 * MiB
"""Bytes that the step "write" writes: four blocks, so that it is Put Block and Put Block List that are tried."""


class StepFailed(Exception):
    """A step did not succeed, and was printed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What can be measured."""

    blobs: list[tuple[BlobUrl, int]] = field(default_factory=list)
    """With their sizes; none of them is empty."""


def parse_url(text: str) -> BlobUrl | ContainerUrl:
    """Take the URL of a blob or of a container apart.

    :raises ValueError: if it is neither.
    """
    try:
        return ContainerUrl.parse(text)
    except ValueError:
        return BlobUrl.parse(text)


async def reach(url: BlobUrl | ContainerUrl, credential: Credential, options: TransferOptions) -> Found:
    """Go all steps that change nothing, and print each.

    :param credential: as of BlobIO.
    :raises StepFailed: at the first that fails.
    """

    async def opened() -> tuple[str, Account]:
        account = await (await Session.current()).account(url, credential, options)
        proxy = account.transport.proxy
        return f"{url}{f', through the proxy {_host_of(proxy)}' if proxy else ''}", account

    account = await _step("URL", opened, options)
    proxy = account.transport.proxy
    host, port = _address(proxy or url.endpoint)
    await _step("name", lambda: _look_up(host, port), options)
    await _step("connect", lambda: _connect(host, port, proxy), options)
    if url.scheme == "https" and proxy is None:
        await _step("TLS", lambda: _shake_hands(host, port, account.transport.tls), options)
    await _step("credential", lambda: _prove(url, account), options)
    if isinstance(url, BlobUrl):
        return await _step("read", lambda: _read(url, credential, options), options)
    found = await _step("list", lambda: _list(url, credential, options), options)
    if found.blobs:
        first = found.blobs[0][0]
        await _step("read", lambda: _read(first, credential, options), options)
    return found


async def write(url: BlobUrl | ContainerUrl, credential: Credential, options: TransferOptions) -> None:
    """Write a blob of a new name beside the one that ``url`` names, or into the container, and delete it.

    :raises StepFailed: if it cannot be written.
    """
    name = f"azstoragetorch-check-{secrets.token_hex(8)}"
    blob = BlobUrl(url.scheme, url.host, url.account_path, url.container, name, sas=url.sas)

    async def written() -> tuple[str, None]:
        address = f"{blob.url}?{blob.sas}" if blob.sas else blob.url
        since = time.monotonic()
        doubt = ""
        try:
            async with AsyncBlobIO(address, "wb", credential=credential, options=options) as file:
                await file.write(bytes(WRITTEN))
        except CommitOutcomeUnknownError as error:
            doubt = f"{error}; if {blob.url} is there, delete it"
        if doubt:
            raise ValueError(doubt)
        rate = shown_rate(WRITTEN / (time.monotonic() - since))
        return f"{shown_size(WRITTEN)} at {rate}, as {name}", None

    async def deleted() -> tuple[str, None]:
        account = await (await Session.current()).account(blob, credential, options)
        await account.service.get_blob_client(blob.container, blob.name).delete_blob(**UNTRACED)
        return f"{name} is gone", None

    await _step("write", written, options)
    try:
        await _step("delete", deleted, options)
    except StepFailed:
        line("", f"the right to delete is not needed otherwise; {blob.url} stays behind")


async def _step(label: str, do: Callable[[], Awaitable[tuple[str, _T]]], options: TransferOptions) -> _T:
    since = time.monotonic()
    why, details = "", ""
    try:
        async with asyncio.timeout(options.deadline + 1):  # requests have the deadline themselves, and better words
            text, value = await do()
        line(label, f"ok      {text} ({shown_time(time.monotonic() - since)})")
        return value
    except FailedAttempt as error:  # of the credential
        why, _, others = f"{error.failure.text}\n{error.failure.cause}".partition("\n")
        details = others.partition("\n")[2]  # its first line is in the text
    except (AZStorageTorchError, ValueError) as error:
        why = str(error)
    except TimeoutError:
        why = f"nothing within {options.deadline:g} s"
    except OSError as error:
        why = address_words(error)
    except Exception as error:  # of the SDK, which shows the URL it was given; without its SAS, which it never sees
        why = str(RedactedCause(error)).partition("\n")[0]
    line(label, f"FAILED  {why}\n{details}")
    raise StepFailed(label)


async def _look_up(host: str, port: int) -> tuple[str, None]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)  # TCP
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    others = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return f"{host} is {addresses[0]}{others}", None


async def _connect(host: str, port: int, proxy: str | None) -> tuple[str, None]:
    _, writer = await asyncio.open_connection(host, port)
    await _hang_up(writer)
    return f"port {port}{' of the proxy' if proxy else ''}", None


async def _shake_hands(host: str, port: int, tls: ssl.SSLContext) -> tuple[str, None]:
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=tls)
    except ssl.SSLError as error:
        why = tls_words(error)
    else:
        version = writer.get_extra_info("ssl_object").version()
        until = ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
        await _hang_up(writer)
        day = datetime.fromtimestamp(until, UTC).date()
        return f"{version}, the certificate is accepted and good until {day}", None
    raise ValueError(why)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):  # how the other side takes it does not matter
        await writer.wait_closed()


async def _prove(url: BlobUrl | ContainerUrl, account: Account) -> tuple[str, None]:
    authentication = account.transport.authentication
    if authentication.kind == "none":
        return "none, anonymous access", None
    if authentication.kind == "token":
        await authentication.authorization()
        return "a token of DefaultAzureCredential", None
    fields = sas_fields(await authentication.query())
    blob = url if isinstance(url, BlobUrl) else None
    need = Need(
        "r" if blob else "l",
        secure=url.scheme == "https",
        snapshot=blob is not None and blob.snapshot is not None,
        version=blob is not None and blob.version_id is not None,
    )
    doubts = "".join(f"; it {doubt}" for doubt in objections(fields, need, datetime.now(UTC)))
    return f"the SAS of the URL: {shown_fields(fields)}{doubts}", None


async def _list(url: ContainerUrl, credential: Credential, options: TransferOptions) -> tuple[str, Found]:
    container = await AzureContainer.open(url, credential, options, TransferStats())
    async with aclosing(container.pages()) as pages:
        async for page in pages:  # a page without blobs may be followed by one that has some
            if len(page.blobs) or not page.more:
                break
    if not len(page.blobs):
        return "there are no blobs, so nothing can be read or measured", Found()
    blobs = [(url.blob(entry.name), entry.size) for entry in page.blobs if entry.size]
    mean = shown_size(sum(size for _, size in blobs) / max(1, len(blobs)))
    more = "; there are more" if page.more else ""
    return f"{len(page.blobs)} blobs, {mean} each on average{more}", Found(blobs)


async def _read(url: BlobUrl, credential: Credential, options: TransferOptions) -> tuple[str, Found]:
    blob = await AzureBlob.open(url, credential, options, TransferStats())
    read = await blob.read_into(memoryview(bytearray(1)), 0)
    size = read.version.size if read.version is not None else 0
    return f"{url}, {shown_size(size)}", Found([(url, size)] if size else [])


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _host_of(url: str) -> str:
    host, port = _address(url)
    return f"{host}:{port}"
