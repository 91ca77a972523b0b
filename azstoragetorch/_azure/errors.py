"""Turn whatever a request raised into one of our own errors, and say whether asking again can help.

The errors of the SDK hold the request with its signature, so nothing of them is kept but a redacted stand-in.
"""

from __future__ import annotations

import enum
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)

from azstoragetorch._azure.advice import ADVICE, address_words, stranger, tls_words
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobExistsError,
    BlobIntegrityError,
    BlobModifiedError,
    BlobNotFoundError,
    BlobRequestError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    ClientRequestIdMismatchError,
    ContainerNotFoundError,
    RedactedCause,
    redact,
)

__all__ = ["FailedAttempt", "Failure", "Kind", "answered", "classify", "status_failure", "unusable"]


class Kind(enum.Enum):
    """What a failure says about asking again."""

    FINAL = enum.auto()
    """The answer will be the same."""
    BUSY = enum.auto()
    """The service is overloaded or slow: ask again until the deadline."""
    BROKEN = enum.auto()
    """The connection broke or the answer is not usable: ask again a few times."""
    REFUSED = enum.auto()
    """There was no connection: ask again for a few seconds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    kind: Kind
    type: type[AZStorageTorchError]
    text: str
    """What happened and what to do, without the name of the blob."""
    cause: BaseException | None = None
    retry_after: float | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    sent_at: datetime | None = None
    """The time at the service when it answered with an error, by its clock."""
    unconnected: bool = False
    """Whether it failed before there was a connection. On a connection that was used before, the HTTP client asks once
    more by itself, so the request may still have been sent the first time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redact(self.text))  # it is logged, and may quote an answer

    @property
    def ambiguous(self) -> bool:
        """Whether the service may have done what it was asked, although it did not say so."""
        # Without a code it is not the service that says so: a gateway may have lost its connection to the service.
        status, code = self.facts.get("status_code"), self.facts.get("error_code")
        answered = isinstance(status, int) and (status == 503 or (400 <= status < 500 and status != 408))
        return self.kind in (Kind.BUSY, Kind.BROKEN) and not (answered and code) and not self.unconnected

    @property
    def silent(self) -> bool:
        """Whether somebody gave up waiting for the service, which may do later what it was asked.

        That was the client, a gateway (504) or the service itself, of its own storage.
        """
        timeout = self.type is BlobTimeoutError and not self.unconnected
        return timeout or self.facts.get("status_code") == 504 or self.facts.get("error_code") == "OperationTimedOut"

    def error(self, prefix: str, suffix: str = "") -> AZStorageTorchError:
        """Build the error to raise: ``prefix`` says what was being done to which blob."""
        error = self.type(f"{prefix}: {self.text}{suffix}", **self.facts)
        error.__cause__ = self.cause
        return error


_BUSY = frozenset({408, 429, 500, 502, 503, 504})

_DAMAGED = frozenset({"Md5Mismatch", "Crc64Mismatch"})
"""The service received other bytes than were sent: send them again."""

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""No signature, of 44 characters, nor account key, of 88, because both end in ``=``."""


def answered(status: object, code: object) -> str:
    """Return the words for an error status and the service's name for the error."""
    return f"the service answered {status}{f' {code}' if code else ''}"


def status_failure(status: int, code: str | None, headers: Mapping[str, str], cause: BaseException | None) -> Failure:
    """Say what an error status means.

    :param code: the service's name for the error.
    """
    code, request_id = _word(code), _word(headers.get("x-ms-request-id"))
    kind = Kind.BUSY if status in _BUSY else Kind.BROKEN if code in _DAMAGED else Kind.FINAL
    text = answered(status, code)
    error: type[BlobServiceError] = BlobServiceError
    if status == 404:
        missing_container = code in ("ContainerNotFound", "ContainerBeingDeleted")
        error = ContainerNotFoundError if missing_container else BlobNotFoundError
        what = "container" if missing_container else "blob"
        text = f"the {what} does not exist ({text}); check the URL: upper and lower case differ"
    elif status in (401, 403) or code == "PublicAccessNotPermitted":
        error = BlobAccessError
        text = f"access was refused ({text})"
    elif status == 409 and code == "BlobAlreadyExists":
        error = BlobExistsError
        text = f"the blob exists already ({text}); mode 'xb' never replaces a blob, 'wb' does"
    elif status == 412 and code in ("ConditionNotMet", "TargetConditionNotMet", None):
        error = BlobModifiedError
        text = f"the blob was replaced or deleted since it was opened or listed ({text}); open or list again"
    elif code == "InvalidBlockList":
        error = BlobModifiedError
    elif status == 407:
        text = f"a proxy wants a user and a password ({text}); put them into the variable http_proxy"
    elif 300 <= status < 400:
        text = f"{text}; redirects are not followed, because credentials must not go elsewhere{stranger(headers)}"
    if code in ADVICE:
        text = f"{text}: {ADVICE[code]}"
    facts = {"status_code": status, "error_code": code, "request_id": request_id}
    now = _date(headers.get("Date"))
    return Failure(kind, error, text, cause, _retry_after(headers.get("Retry-After")), facts, now)


def classify(error: Exception, idle_timeout: float) -> Failure | None:
    """Say what ``error``, raised by one attempt, means; ``None`` for what no request raises (a defect of ours)."""
    if isinstance(error, FailedAttempt):
        return error.failure
    if isinstance(error, ClientRequestIdMismatchError):
        return Failure(Kind.BROKEN, ClientRequestIdMismatchError, error.message)
    if isinstance(error, AZStorageTorchError):
        return Failure(Kind.FINAL, type(error), error.message)
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        if error.status_code < 300:
            text = f"the answer cannot be understood{stranger(headers)}"
            return Failure(Kind.BROKEN, BlobIntegrityError, text, _stand_in(error))
        code = getattr(error, "error_code", None) or headers.get("x-ms-error-code")
        return status_failure(error.status_code, getattr(code, "value", code), headers, _stand_in(error))
    inner = error.inner_exception if isinstance(error, AzureError) else None
    return _connection_failure(error, inner if isinstance(inner, Exception) else error, idle_timeout)


def _connection_failure(outer: Exception, error: Exception, idle_timeout: float) -> Failure | None:
    cause = _stand_in(error)
    if isinstance(outer, ServiceRequestTimeoutError) or isinstance(error, aiohttp.ConnectionTimeoutError):
        text = "no connection within connect_timeout; is the host right, and does a firewall let this machine reach it?"
        return Failure(Kind.BUSY, BlobTimeoutError, text, cause, unconnected=True)
    if isinstance(outer, ServiceResponseTimeoutError) or isinstance(error, TimeoutError):
        text = f"the service sent nothing for {idle_timeout:g} s (idle_timeout)"
        return Failure(Kind.BUSY, BlobTimeoutError, text, cause)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure(Kind.FINAL, BlobRequestError, tls_words(error.certificate_error), cause)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(Kind.FINAL, BlobRequestError, tls_words(error), cause)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return Failure(Kind.BROKEN, BlobRequestError, tls_words(error.os_error), cause, unconnected=True)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_failure(error.status, cause)
    if isinstance(error, aiohttp.ClientConnectorError):
        os_error, proxy = error.os_error, isinstance(error, aiohttp.ClientProxyConnectionError)
        passing = not isinstance(os_error, socket.gaierror) or os_error.errno == socket.EAI_AGAIN
        text = address_words(os_error, f"the proxy {error.host}:{error.port}" if proxy else None)
        return Failure(Kind.REFUSED if passing else Kind.FINAL, BlobRequestError, text, cause, unconnected=passing)
    if isinstance(error, RuntimeError) and isinstance(outer, RuntimeError) and str(error) == "Session is closed":
        return Failure(Kind.FINAL, BlobRequestError, "the connections of this event loop were closed", cause)
    # Of the resolver. Up to Python 3.12 it is the base class itself, later one that names the codec.
    if type(error) is UnicodeError or getattr(error, "encoding", None) == "idna":
        text = "no resolver can be asked for a host name like this; check the URL, and the proxy in the environment"
        return Failure(Kind.FINAL, BlobRequestError, text, RedactedCause(type(error).__name__), unconnected=True)
    if isinstance(error, aiohttp.InvalidURL):  # which it quotes, without its scheme: user and password have no mark
        return Failure(Kind.FINAL, BlobRequestError, "the URL is not valid", RedactedCause("InvalidURL"))
    if isinstance(error, aiohttp.ClientError | ConnectionError | ServiceResponseError | ServiceRequestError | OSError):
        return Failure(Kind.BROKEN, BlobResponseError, f"the connection broke ({cause})", cause)
    return None


def _proxy_failure(status: int, cause: RedactedCause) -> Failure:
    """Say what it means that a proxy did not connect."""
    text = f"the proxy did not connect ({cause})"
    if status == 407:
        text = f"the proxy wants a user and a password ({cause}); put them into the variable https_proxy"
    kind = Kind.FINAL if 400 <= status < 500 and status not in _BUSY else Kind.BROKEN
    return Failure(kind, BlobRequestError, text, cause, unconnected=True)


def _stand_in(error: BaseException) -> RedactedCause:
    cause = RedactedCause(error)
    cause.error_code, cause.request_id = _word(cause.error_code), _word(cause.request_id)
    return cause


def _word(value: str | None) -> str | None:
    """Return what a header of an answer says, if it can be a name or an id.

    Whoever answers may put there what was sent to him, secrets included, and there they have no mark to know them by.
    """
    return value if value is not None and _WORD.fullmatch(value) else None


class FailedAttempt(Exception):
    """Carries a :class:`Failure` out of an attempt."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def unusable(text: str) -> FailedAttempt:
    """Return what to raise for an answer that is complete but not what was asked for."""
    return FailedAttempt(Failure(Kind.BROKEN, BlobIntegrityError, text))


def _retry_after(value: str | None) -> float | None:
    """Seconds asked for by a Retry-After header: a number, or a date."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    when = _date(value)
    return None if when is None else max(0.0, (when - datetime.now(UTC)).total_seconds())


def _date(value: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError, TypeError):  # a year of 20 digits is no number of C's
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
