"""What to do about a failure: words for people who meet it for the first time.

Nothing here decides anything. A text is the end of a message that has said before what happened to which blob.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

__all__ = ["ADVICE", "LOGIN", "ROOT", "address_words", "advice_for_token", "stranger", "tls_words"]

ADVICE = {
    "AccountIsDisabled": "the account is disabled",
    "AccountRequiresHttps": "the account takes https only; write https:// in the URL",
    "AuthorizationFailure": "the credential lacks the right for this, or the account's firewall does not let this "
    "machine in, or the SAS was made for another blob or container, or was changed when it was copied",
    "AuthorizationPermissionMismatch": "the identity or SAS lacks the right for this; reading needs the role 'Storage "
    "Blob Data Reader', writing 'Storage Blob Data Contributor'",
    "AuthorizationSourceIPMismatch": "the SAS or the account's firewall does not let this machine's address in",
    "KeyBasedAuthenticationNotPermitted": "the account accepts no keys and no SAS made with one; use a token "
    "credential",
    "PublicAccessNotPermitted": "the account lets nobody in without a credential; pass credential=, or add a SAS to "
    "the URL",
    "ResourceNotFound": "a private container gives this answer, too, where no credential was sent",
    "UnauthorizedBlobOverwrite": "the blob exists, and the credential allows to create blobs, not to replace them (w "
    "in the sp= of a SAS)",
    "LeaseIdMissing": "somebody holds a lease on the blob; break the lease or write another blob",
    "InvalidBlobType": "the blob is not a block blob; delete it or write another name",
    "BlobArchived": "the blob is in the archive tier; rehydrate it first",
    "BlobImmutableDueToPolicy": "an immutability policy or a legal hold keeps the blob from being replaced until it "
    "ends; write another name",
    "ContainerBeingDeleted": "the container was deleted a moment ago; wait a minute to create it again",
    "InvalidResourceName": "a name in the URL is none that the service allows; check the container and the blob",
    "InvalidBlockList": "somebody else wrote the blob meanwhile, which discards the blocks of all other writers; "
    "it does not hold what was written here. Give every writer (every rank) a name of its own",
    "InvalidBlobOrBlock": "the blob has uncommitted blocks of another writer with ids of another length; a write of "
    "content that fits one block discards them, as the service does after a week; or write another name",
}
"""By the service's names of its errors:
https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes"""

_OF_A_TOKEN = {
    "AuthorizationFailure": "the account's firewall or network rules do not let this machine in, or the identity lacks "
    "the role 'Storage Blob Data Reader' (to write: 'Storage Blob Data Contributor')",
    "AuthorizationPermissionMismatch": "the identity lacks the role for this, on the account or the container: reading "
    "needs 'Storage Blob Data Reader', writing 'Storage Blob Data Contributor'; a new one takes minutes to count",
}

LOGIN = "log in (az login), give this machine a managed identity, put a SAS behind the URL, or pass credential="
"""What to do where nothing says who asks."""

ROOT = (
    "One name behind the host is a blob of the container $root; if it is a container, add the name of a blob: "
    "/<container>/<blob>"
)
"""What a container URL that was given in place of a blob's looks like to the service."""


def advice_for_token(code: str) -> str | None:
    """Return what to do about this refusal of a token, if anything is known of it."""
    return _OF_A_TOKEN.get(code, ADVICE.get(code))


def stranger(headers: Mapping[str, str]) -> str:
    """Return the end of a message that says that somebody else answered in the service's place; empty if nobody did.

    A network that wants a login in the browser, for one, answers everything with its page.
    """
    if headers.get("x-ms-request-id") is not None:
        return ""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    what = " and is a page for a browser (text/html)" if kind == "text/html" else ""
    return (
        f". That answer has no x-ms-request-id{what}, so it is not the service's own: a network that wants a login, a "
        f"proxy or another server gave it. Open any web page on this machine, and check the host in the URL"
    )


def address_words(error: OSError, proxy: str | None = None) -> str:
    """Say why there is no connection.

    :param error: of the name lookup, or of the connection.
    :param proxy: what was to be connected to, if that is a proxy.
    """
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return "the host name could not be looked up for now; check the network"
        return "the host name is unknown; check the account name in the URL, or the network"
    what, where = ("proxy", f"to {proxy} ") if proxy else ("host", "")
    return f"no connection {where}({type(error).__name__}: {error.strerror or error}); is the {what} right and up?"


def tls_words(error: BaseException) -> str:
    """Say why there is no TLS connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the TLS certificate was not accepted ({error.verify_message}); is the host right? Name your authorities "
            f"in options.ca_file or in the environment variable SSL_CERT_FILE"
        )
    # Of OpenSSL: what came first was no TLS, but the "HTTP/1.1 400" of a server that does not speak it.
    reason = getattr(error, "reason", None) or type(error).__name__
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return f"the TLS handshake failed ({reason}); does the other side speak https on this port, or http:// only?"
    return f"the TLS handshake failed ({reason}); does a proxy or firewall on the way take TLS apart?"
