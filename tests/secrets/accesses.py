"""Every way to prove who asks, with secrets that a test can recognise."""

from __future__ import annotations

__all__ = ["ACCESSES", "Access", "Credential", "given_away", "in_url", "key", "sas", "token"]

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential

from tests.blobserver import BlobServer
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in

Access = Callable[[str], tuple[str, Any]]


class Credential:
    """A token credential whose own repr shows nothing, as those of the SDK."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


def in_url(url: str) -> tuple[str, Any]:
    """A SAS in the URL."""
    return f"{url}?sv=2021&sig={quote(SIGNATURE, safe='')}", None


def sas(url: str) -> tuple[str, Any]:
    """A SAS of its own."""
    return url, AzureSasCredential(in_url("")[0])


def key(url: str) -> tuple[str, Any]:
    """An account's key."""
    return url, AzureNamedKeyCredential("devstoreaccount1", KEY)


def token(url: str) -> tuple[str, Any]:
    """A bearer token."""
    return url, Credential()


ACCESSES: list[Access] = [in_url, sas, key, token]


def given_away(texts: Iterable[str], server: BlobServer, access: Access) -> list[str]:
    """Return the texts with a secret in them, a signature made from the key included.

    :raises AssertionError: unless the secret was in use at all.
    """
    records = server.requests()
    assert records
    derived: set[str] = set()
    for record in records:
        if access is token:
            assert record.headers["authorization"] == f"Bearer {TOKEN}"
        elif access is key:
            derived |= {record.query["sig"], quote(record.query["sig"], safe="")}
        else:
            assert record.query["sig"] == SIGNATURE
    texts = list(texts)
    return [*found_in(texts), *(text for text in texts if any(signature in text for signature in derived))]
