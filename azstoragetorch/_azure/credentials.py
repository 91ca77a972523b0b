"""What proves to the service who asks, added to every request at the last moment.

The SDK's objects never see a signature or a token: the transport adds them to what goes on the wire and takes them off
again, so the SDK's logs, errors and pickles cannot show them.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
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

from azstoragetorch._azure.advice import LOGIN
from azstoragetorch._azure.errors import FailedAttempt, Failure, Kind
from azstoragetorch._values.sas import sas_fields
from azstoragetorch._values.unforked import unforked
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.exceptions import BlobAccessError, RedactedCause

__all__ = [
    "Authentication",
    "Credential",
    "Proof",
    "TokenSource",
    "authentication_for",
    "check_credential",
    "token_source",
]

Credential: TypeAlias = (
    AzureSasCredential | AzureNamedKeyCredential | TokenCredential | AsyncTokenCredential | Literal[False] | None
)
"""Who asks: ``None`` for ``DefaultAzureCredential``, ``False`` for nobody (anonymous access), or a credential."""

Proof: TypeAlias = Literal["none", "url", "sas", "key", "token"]
"""What proves who asks: nothing, the SAS of the URL, an AzureSasCredential, a SAS made from a key, a token."""

_logger = logging.getLogger("azstoragetorch.credentials")

SCOPE = "https://storage.azure.com/.default"

REFRESH_BEFORE = 300.0
"""Seconds before its end from which a token is renewed: more than any request's deadline."""

LONGEST_REASON = 400
"""Characters of a credential's own words in a message; the cause has 2,048 of them."""

KEY_SAS_LIFETIME = timedelta(hours=1)
"""Life of a SAS derived from an account key; renewed at half of it."""

_CHALLENGE = re.compile(r"authorization_uri=\"?https://[^/\s]+/([A-Za-z0-9.-]+)", re.IGNORECASE)

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What a header can carry; a token that was read from a file easily has a line's end."""

_SAS = re.compile(r"\s*\??(?!.*://)(?:[\x21-\x7e]*&)?sig=[\x21-\x7e]+\s*", re.IGNORECASE)


class Authentication(Protocol):
    """Adds proof to requests."""

    kind: Proof

    async def query(self) -> str:
        """Return the pairs to add to the query, or an empty string."""

    async def authorization(self) -> str | None:
        """Return the Authorization header, or ``None``."""

    async def challenged(self, headers: Mapping[str, str], sent: str | None) -> bool:
        """Learn from a 401's headers; return whether asking once again may help.

        :param sent: the Authorization header that was refused.
        """


class _Anonymous:
    kind: Proof = "none"

    async def query(self) -> str:
        return ""

    async def authorization(self) -> str | None:
        return None

    async def challenged(self, headers: Mapping[str, str], sent: str | None) -> bool:
        return False


class _Signature(_Anonymous):
    """A SAS: fixed in the URL, or read from its credential at every request, so that a renewed one counts at once."""

    def __init__(self, kind: Proof, read: Callable[[], str]) -> None:
        self.kind = kind
        self._read = read

    async def query(self) -> str:
        return self._read().strip().lstrip("?")  # a line read from a file has an end


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
                permission=AccountSasPermissions(read=True, write=True, create=True, list=True),
                expiry=now + KEY_SAS_LIFETIME,
            )
            self._derived = (key, sas, now + KEY_SAS_LIFETIME / 2)
        return self._derived[1]


class TokenSource:
    """Tokens of one credential on one event loop, one request for a token at a time however many wait for it.

    :param credential: returns the credential, when the first token is needed.
    :param key: what the tokens are kept by for the process.
    """

    def __init__(self, credential: Callable[[], TokenCredential | AsyncTokenCredential], key: object) -> None:
        self._credential = credential
        self._key = key
        self._lock = asyncio.Lock()

    async def token(self, tenant: str | None, refused: str | None = None) -> str:
        """Return a token of ``tenant`` (``None``: of the credential's own), other than the one that was refused.

        :raises FailedAttempt: if the credential has none.
        """
        token = self._kept(tenant)
        if token is None or token.expires_on - time.time() < REFRESH_BEFORE or token.token == refused:
            async with self._lock:
                token = self._kept(tenant)
                if token is None or token.expires_on - time.time() < REFRESH_BEFORE or token.token == refused:
                    token = await self._renewed(tenant, token if token and token.token != refused else None)
        return token.token

    def _kept(self, tenant: str | None) -> AccessToken | None:
        return _tokens.get(self._key, {}).get(tenant)

    async def _renewed(self, tenant: str | None, current: AccessToken | None) -> AccessToken:
        cause: RedactedCause | None = None
        try:
            token = await self._ask(tenant)
        except Exception as error:
            cause = RedactedCause(error)
        else:
            text = getattr(token, "token", None)
            if isinstance(text, str) and _TOKEN.fullmatch(text):
                _tokens.setdefault(self._key, {})[tenant] = token
                kind, left = type(self._credential()).__name__, token.expires_on - time.time()
                _logger.debug("got a token of %s, good for %.0f s", kind, left)
                return token
            cause = RedactedCause("the credential returned none, or one with characters that no header can carry")
        if current is not None and current.expires_on - time.time() > 0:
            return current  # it is still good for a while; the next request tries again
        # The first line only: DefaultAzureCredential's text has twenty, and the cause has all of them.
        text = f"no token could be had: {str(cause).partition(chr(10))[0][:LONGEST_REASON]}"
        if self._key is _DEFAULT:
            text = f"{text.rstrip('.')}. To get one, {LOGIN}; what was tried stands in the cause"
        raise FailedAttempt(Failure(Kind.FINAL, BlobAccessError, text, cause))

    async def _ask(self, tenant: str | None) -> AccessToken:
        get_token: Callable[..., Any] = self._credential().get_token
        options = {"tenant_id": tenant} if tenant is not None else {}
        if inspect.iscoroutinefunction(get_token):
            token = await get_token(SCOPE, **options)
        else:
            # A sync credential blocks for a whole round trip: off the loop with it.
            def get() -> Any:
                with unforked():
                    return get_token(SCOPE, **options)

            token = await anyio.to_thread.run_sync(get, abandon_on_cancel=True)
            if inspect.isawaitable(token):
                token = await cast(Awaitable[AccessToken], token)
        return cast(AccessToken, token)


class _Token:
    """Bearer tokens for one account, which names its tenant when it is asked without the right one."""

    kind: Proof = "token"

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._tenant: str | None = None
        self._refused: str | None = None

    async def query(self) -> str:
        return ""

    async def authorization(self) -> str | None:
        refused, self._refused = self._refused, None  # one renewal serves all requests
        return f"Bearer {await self._source.token(self._tenant, refused)}"

    async def challenged(self, headers: Mapping[str, str], sent: str | None) -> bool:
        # Only the tenant is taken from a challenge, never the scope: a token for storage is all a server can ask for.
        match = _CHALLENGE.search(headers.get("WWW-Authenticate", ""))
        self._tenant = match[1] if match is not None else self._tenant
        self._refused = sent.removeprefix("Bearer ") if sent is not None else None
        return True


class _TokenKey:
    """Stands for a credential that cannot be a key itself."""


_DEFAULT = _TokenKey()
"""Key of the tokens of ``credential=None``, one for the process."""

_tokens: weakref.WeakKeyDictionary[object, dict[str | None, AccessToken]] = weakref.WeakKeyDictionary()
"""Tokens of this process by credential and tenant: event loops share them, and a token outlives the loop that asked
for it. A token is assigned and read whole, so loops in several threads need no lock."""


def check_credential(url: BlobUrl | ContainerUrl, credential: object) -> None:
    """Refuse early what could never work.

    :raises TypeError: if ``credential`` is of no supported kind.
    :raises ValueError: if a token or key, or a SAS that forbids it, would travel over plain http to another machine,
        or a key or SAS is not one.
    """
    supported = credential is None or credential is False or hasattr(credential, "get_token")
    if not supported and not isinstance(credential, AzureSasCredential | AzureNamedKeyCredential):
        raise TypeError(
            f"credential must be None, False, AzureSasCredential, AzureNamedKeyCredential or a TokenCredential, "
            f"not {type(credential).__name__}"
        )
    if isinstance(credential, AzureNamedKeyCredential):
        try:
            base64.b64decode(credential.named_key.key, validate=True)
            valid = True
        except ValueError:
            valid = False  # raised outside: the error holds the key
        if not valid:
            raise ValueError("the key of the AzureNamedKeyCredential is not base64; copy the whole account key")
    signature = url.sas
    if signature is None and isinstance(credential, AzureSasCredential):
        signature = credential.signature
        if not _SAS.fullmatch(signature):
            raise ValueError("the AzureSasCredential holds no SAS; give it the query of one, with its sig=, and no URL")
    if url.is_secure:
        return
    # Anyone on the way can copy a SAS, too. But it opens what its maker chose, for as long, and says itself whether
    # it may travel like that; the service would refuse one that may not, when it is too late.
    if signature is not None and sas_fields(signature).get("spr") == "https":
        raise ValueError(f"{url}: this SAS must not be sent over plain http (it has spr=https); use https")
    if signature is None and credential is not False:
        raise ValueError(
            f"{url}: a token or account key is never sent over plain http to another machine; use https, "
            f"a SAS in the URL, or credential=False"
        )


def token_source(credential: Credential, default: Callable[[], AsyncTokenCredential]) -> TokenSource:
    """Return the tokens of ``credential``.

    :param default: returns the loop's ``DefaultAzureCredential``, for ``None``.
    """
    if credential is None:
        return TokenSource(default, _DEFAULT)
    chosen = cast(TokenCredential | AsyncTokenCredential, credential)
    return TokenSource(lambda: chosen, credential if _can_key(credential) else _TokenKey())


def authentication_for(
    credential: Credential, sas: str | None, tokens: Callable[[Credential], TokenSource]
) -> Authentication:
    """Return how to authenticate with ``credential``, where a SAS of the URL wins.

    :param tokens: returns the loop's tokens of a credential.
    """
    if sas is not None:
        return _Signature("url", lambda: sas)
    if credential is False:
        return _Anonymous()
    if isinstance(credential, AzureSasCredential):
        return _Signature("sas", lambda: credential.signature)
    if isinstance(credential, AzureNamedKeyCredential):
        return _Signature("key", _KeySignature(credential))
    return _Token(tokens(credential))


def _can_key(credential: object) -> bool:
    """Whether tokens can be kept by this credential: some classes have slots, or an ``__eq__`` without a hash."""
    try:
        weakref.WeakKeyDictionary({credential: None})
    except TypeError:
        return False
    return True
