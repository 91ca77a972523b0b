"""What proves to the service who asks, added to every request at the last moment.

The SDK's objects never see a signature or a token: the transport adds them to what goes on the wire and takes them off
again, so the SDK's logs, errors and pickles cannot show them.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias, cast

import anyio.to_thread
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

from azstoragetorch._values.url import BlobUrl, ContainerUrl

__all__ = ["Authentication", "Credential", "authentication_for", "check_credential"]

Credential: TypeAlias = (
    AzureSasCredential | AzureNamedKeyCredential | TokenCredential | AsyncTokenCredential | Literal[False] | None
)

SCOPE = "https://storage.azure.com/.default"

REFRESH_BEFORE = 300.0
"""Seconds before its end from which a token is renewed: more than any request's deadline."""

KEY_SAS_LIFETIME = timedelta(hours=1)
"""Life of a SAS derived from an account key; renewed at half of it."""

_CHALLENGE = re.compile(r"authorization_uri=\"?https://[^/\s]+/([^/\s,\"]+)", re.IGNORECASE)


class Authentication(Protocol):
    """Adds proof to requests."""

    async def query(self) -> str:
        """Return the pairs to add to the query, or an empty string."""

    async def authorization(self) -> str | None:
        """Return the Authorization header, or ``None``."""

    async def challenged(self, headers: Mapping[str, str]) -> bool:
        """Learn from a 401's headers; return whether asking again may help."""


class _Anonymous:
    async def query(self) -> str:
        return ""

    async def authorization(self) -> str | None:
        return None

    async def challenged(self, headers: Mapping[str, str]) -> bool:
        return False


class _Signature(_Anonymous):
    """A SAS: fixed in the URL, or read from its credential at every request, so that a renewed one counts at once."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    async def query(self) -> str:
        return self._read().lstrip("?")


class _KeySignature:
    """Account SAS derived from a key, because signing requests with the key itself is not public API of the SDK."""

    def __init__(self, credential: AzureNamedKeyCredential) -> None:
        self._credential = credential
        self._derived: tuple[str, str, datetime] | None = None

    def __call__(self) -> str:
        name, key = self._credential.named_key
        now = datetime.now(UTC)
        if self._derived is None or self._derived[0] != key or now > self._derived[2]:
            sas = generate_account_sas(
                name,
                key,
                resource_types=ResourceTypes(container=True, object=True),
                permission=AccountSasPermissions(read=True, write=True, create=True, list=True, add=True, delete=True),
                expiry=now + KEY_SAS_LIFETIME,
            )
            self._derived = (key, sas, now + KEY_SAS_LIFETIME / 2)
        return self._derived[1]


class _Token:
    """Bearer tokens from a credential, one request for a token at a time however many requests wait for it."""

    def __init__(self, credential: Callable[[], TokenCredential | AsyncTokenCredential], key: object) -> None:
        self._credential = credential
        self._key = key
        self._lock = asyncio.Lock()
        self._tenant: str | None = None

    async def query(self) -> str:
        return ""

    async def authorization(self) -> str | None:
        token = _tokens.get(self._key)
        if token is None or token.expires_on - time.time() < REFRESH_BEFORE:
            async with self._lock:
                token = _tokens.get(self._key)
                if token is None or token.expires_on - time.time() < REFRESH_BEFORE:
                    token = await self._renew(token)
        return f"Bearer {token.token}"

    async def challenged(self, headers: Mapping[str, str]) -> bool:
        # Only the tenant is taken from a challenge, never the scope: a token for storage is all a server can ask for.
        match = _CHALLENGE.search(headers.get("WWW-Authenticate", ""))
        if match is None or match[1] == self._tenant:
            return False
        async with self._lock:
            self._tenant = match[1]
            _tokens.pop(self._key, None)
        return True

    async def _renew(self, current: AccessToken | None) -> AccessToken:
        try:
            token = await self._ask()
        except Exception:
            if current is not None and current.expires_on - time.time() > 0:
                return current  # it is still good for a while; the next request tries again
            raise
        _tokens[self._key] = token
        return token

    async def _ask(self) -> AccessToken:
        get_token: Callable[..., Any] = self._credential().get_token
        options = {"tenant_id": self._tenant} if self._tenant is not None else {}
        if inspect.iscoroutinefunction(get_token):
            token = await get_token(SCOPE, **options)
        else:
            # A sync credential blocks for a whole round trip: off the loop with it.
            token = await anyio.to_thread.run_sync(lambda: get_token(SCOPE, **options), abandon_on_cancel=True)
            if inspect.isawaitable(token):
                token = await cast(Awaitable[AccessToken], token)
        return cast(AccessToken, token)


class _TokenKey:
    """Stands for a credential that cannot be a key itself."""


_DEFAULT = _TokenKey()
"""Key of the tokens of ``credential=None``, one for the process."""

_tokens: weakref.WeakKeyDictionary[object, AccessToken] = weakref.WeakKeyDictionary()
"""Tokens of this process by credential: event loops share them, and a token outlives the loop that asked for it. A
token is assigned and read whole, so loops in several threads need no lock."""


def check_credential(url: BlobUrl | ContainerUrl, credential: object) -> None:
    """Refuse early what could never work.

    :raises TypeError: if ``credential`` is of no supported kind.
    :raises ValueError: if a token or key would travel over plain http to another machine.
    """
    supported = credential is None or credential is False or hasattr(credential, "get_token")
    if not supported and not isinstance(credential, AzureSasCredential | AzureNamedKeyCredential):
        raise TypeError(
            f"credential must be None, False, AzureSasCredential, AzureNamedKeyCredential or a TokenCredential, "
            f"not {type(credential).__name__}"
        )
    open_to_all = url.sas is not None or credential is False or isinstance(credential, AzureSasCredential)
    if not open_to_all and not url.is_secure:
        raise ValueError(
            f"{url}: a token or account key is never sent over plain http to another machine; use https, "
            f"a SAS in the URL, or credential=False"
        )


def authentication_for(
    credential: Credential, sas: str | None, default: Callable[[], AsyncTokenCredential]
) -> Authentication:
    """Return how to authenticate with ``credential``, where a SAS of the URL wins.

    :param default: returns the loop's ``DefaultAzureCredential``, called when the first token is needed.
    """
    if sas is not None:
        return _Signature(lambda: sas)
    if credential is None:
        return _Token(default, _DEFAULT)
    if credential is False:
        return _Anonymous()
    if isinstance(credential, AzureSasCredential):
        return _Signature(lambda: credential.signature)
    if isinstance(credential, AzureNamedKeyCredential):
        return _Signature(_KeySignature(credential))
    return _Token(lambda: credential, credential if _can_key(credential) else _TokenKey())


def _can_key(credential: object) -> bool:
    """Whether tokens can be kept by this credential: some classes have slots, or an ``__eq__`` without a hash."""
    try:
        weakref.WeakKeyDictionary({credential: None})
    except TypeError:
        return False
    return True
