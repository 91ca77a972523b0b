"""The errors of this package, one tree, one class per thing a caller can do something about.

    AZStorageTorchError(Exception)
      FatalBlobIOWriteError              the write failed; nothing was committed (but see the next one)
        CommitOutcomeUnknownError        nobody can tell whether it was committed: catch it before its base class
      ClientRequestIdMismatchError       an answer belongs to another request
      BlobFileForkedError                a file opened before a fork was used in the child (also ValueError)
      BlobServiceError                   the service answered with an error status (also HttpResponseError)
        BlobNotFoundError                (also ResourceNotFoundError, FileNotFoundError)
          ContainerNotFoundError
        BlobExistsError                  (also ResourceExistsError, FileExistsError)
        BlobModifiedError                (also ResourceModifiedError)
        BlobAccessError                  401, 403, expired SAS (also ClientAuthenticationError, PermissionError)
      BlobRequestError                   no connection: refused, unknown name, certificate (also ServiceRequestError)
      BlobResponseError                  the answer was cut or malformed (also ServiceResponseError)
        BlobTimeoutError                 the deadline or the idle timeout passed (also TimeoutError)
        BlobIntegrityError               the answer was verified and found wrong
    RedactedCause(Exception)             stand-in for an exception of another package
    UncommittedBlobWarning(RuntimeWarning)

Errors end up in logs, pickles and bug reports, so what they keep is fixed: one message that went through
`redact`, and the facts named in the constructor. No response, no inner exception, no frame. They pickle to
themselves and can be rebuilt from one string, which is what a DataLoader does with the error of a worker.
"""

from __future__ import annotations

import errno as _errno
import http.client
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

__all__ = [
    "AZStorageTorchError",
    "BlobAccessError",
    "BlobExistsError",
    "BlobFileForkedError",
    "BlobIntegrityError",
    "BlobModifiedError",
    "BlobNotFoundError",
    "BlobRequestError",
    "BlobResponseError",
    "BlobServiceError",
    "BlobTimeoutError",
    "ClientRequestIdMismatchError",
    "CommitOutcomeUnknownError",
    "ContainerNotFoundError",
    "FatalBlobIOWriteError",
    "RedactedCause",
    "UncommittedBlobWarning",
    "redact",
]

# Words that follow "Bearer" and "SharedKey" in prose and in challenges, where no secret follows.
_PROSE = (
    r"(?!(?:tokens?|auth|authentication|authorization|scheme|challenge|credentials?)(?:[\s.,:;)]|$))"
    r"(?!(?:realm|authorization_uri)=)"
)
_KEY_NAMES = (
    r"(?:account_?key|shared_?access_?key|x-ms-encryption-key"
    r"|client_secret|client_assertion|access_token|refresh_token|id_token)"
)
# Each pattern captures what stays in front of the secret (and nothing else). Ends are generous: to lose the
# character behind a secret is cheaper than to show the last one of it.
_SECRETS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(://)[^/\s?#\"']+(?=@)",
        r"(authorization[\"']?\s*[:=]\s*(?:b?[\"'])?)(?!REDACTED\b)[^\r\n\"']+",
        # A SAS inside another URL is percent-encoded once more for each level: sig%3D..., sig%253D...
        r"(sig(?:=|%(?:25)*3D)[\"']?)(?:(?!%(?:25)*26)[^&\s\"'<>])+",
        r"(sig[\"']\s*[:,]\s*[\[(]?\s*b?[\"'])[^\"']+",
        # "The MAC signature found in the HTTP request '...' is not the same as any computed signature."
        r"(signature found in the HTTP request ')[^'\s]+",
        rf"(bearer(?:\s|%20)+){_PROSE}[^\s\"',;<>]+",
        rf"(shared_?key(?:lite)?(?:\s|%20)+){_PROSE}[^\s\"',;<>]+",
        rf"({_KEY_NAMES}[\"']?\s*(?:[:=,]|%(?:25)*3D)\s*(?:b?[\"'])?)(?:(?!%(?:25)*(?:26|3B))[^;&\s\"'<>])+",
        r"()(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)*",  # JSON Web Token
        r"()(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==",  # an account key: 64 bytes in base64
    )
)


def redact(text: str) -> str:
    """Replace signatures, tokens, keys and passwords in ``text`` by ``REDACTED`` and leave the rest.

    Covers ``sig=`` (raw, quoted and percent-encoded), ``Bearer``, ``SharedKey`` and ``Authorization:`` values,
    ``AccountKey=``, OAuth secrets, JSON Web Tokens, bare account keys and the user information of URLs.
    To redact twice changes nothing.
    """
    for pattern in _SECRETS:
        text = pattern.sub(r"\1REDACTED", text)
    return text


class AZStorageTorchError(Exception):
    """Base class of the errors of this package.

    :param message: what happened, to which blob, what to do. Secrets in it are redacted.
    """

    message: str
    # Names of the attributes that are kept beside the message, in pickles too.
    _facts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: object = "") -> None:
        self.message = redact(str(message))
        # Not super(): in the classes below that would run AzureError.__init__, which stores sys.exc_info(), and
        # with it the frames and the signed URL of whatever is being handled at that moment.
        Exception.__init__(self, self.message)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: value for name, value in vars(self).items() if name in self._facts or name == "__notes__"}
        return type(self), (self.message,), facts


class FatalBlobIOWriteError(AZStorageTorchError):
    """The write failed and nothing of it was committed; the blob keeps its previous content.

    Except :class:`CommitOutcomeUnknownError`, a subclass, which says that nobody can tell: catch it first. What went
    wrong is its ``__cause__``. To try again, open a new file and write everything again: this one is of no more use.

    :param underlying_exception: the message, or the exception that ended the write.
    """

    _summary: ClassVar[str] = "the write failed; nothing was committed, the blob keeps its previous content"

    def __init__(self, underlying_exception: BaseException | str = "") -> None:
        if isinstance(underlying_exception, BaseException):
            underlying_exception = f"{self._summary}: {RedactedCause(underlying_exception)}"
        super().__init__(underlying_exception)


class CommitOutcomeUnknownError(FatalBlobIOWriteError):
    """Nobody can tell whether it was committed, or may be yet; read the blob before writing again.

    The blob holds its previous or the new content, whole.
    """

    _summary = "the answer to the commit was lost; the blob holds either its previous or the new content"


class ClientRequestIdMismatchError(AZStorageTorchError):
    """An answer echoes the id of another request, so its content is not what was asked for.

    A connection that is shared by accident does this, for instance one used on both sides of a fork.

    :param request_client_id: the id that was sent; or, when it is the only argument, the message.
    :param response_client_id: the id that came back.
    :param service_request_id: the id the service gave the request.
    """

    def __init__(
        self,
        request_client_id: str = "",
        response_client_id: str | None = None,
        service_request_id: str | None = None,
    ) -> None:
        message = request_client_id
        if response_client_id is not None or service_request_id is not None:
            message = (
                f"request {request_client_id} was answered with the answer to request {response_client_id} "
                f"(service request id {service_request_id}); check that no connection is shared between processes"
            )
        super().__init__(message)


class BlobFileForkedError(AZStorageTorchError, ValueError):
    """A file that was opened before a fork is used in the child; open it again there."""


class _AzureShaped(AZStorageTorchError, AzureError):
    """What code written for azure-core reads from an error; always empty here, see the module's docstring."""

    inner_exception: BaseException | None = None
    exc_type: type[Any] | None = None
    exc_value: BaseException | None = None
    exc_traceback: TracebackType | None = None
    continuation_token: str | None = None

    def __init__(self, message: object = "") -> None:
        super().__init__(message)
        self.exc_msg: str = self.message


class BlobServiceError(_AzureShaped, HttpResponseError):
    """The service answered with an error status; ``response``, ``model`` and ``error`` of azure-core are ``None``.

    :param status_code: HTTP status; ``None`` where it is not known.
    :param error_code: the service's name for the error, such as ``"BlobNotFound"``; ``None`` if it gave none.
    :param request_id: ``x-ms-request-id``, which Azure support asks for; ``None`` if it gave none.
    """

    _facts = ("status_code", "error_code", "request_id")
    response: None = None
    model: None = None
    error: None = None

    def __init__(
        self,
        message: object = "",
        *,
        status_code: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_code = error_code
        self.request_id = request_id

    @property
    def reason(self) -> str | None:  # type: ignore[override]  # azure-core declares a plain attribute
        """The standard phrase for the status, such as ``"Not Found"``."""
        return None if self.status_code is None else http.client.responses.get(self.status_code)


class BlobNotFoundError(BlobServiceError, ResourceNotFoundError, FileNotFoundError):
    """The blob, or the container it should be in, does not exist."""

    errno: int | None = _errno.ENOENT


class ContainerNotFoundError(BlobNotFoundError):
    """The container does not exist."""


class BlobExistsError(BlobServiceError, ResourceExistsError, FileExistsError):
    """The blob exists and was to be created, by mode ``"xb"``; it is as it was."""

    errno: int | None = _errno.EEXIST


class BlobModifiedError(BlobServiceError, ResourceModifiedError):
    """The blob was replaced, or deleted, since it was opened or since its dataset listed it.

    Open it again, or make the listing again, to read the new content; ``allow_modified=True`` lets a dataset read on.
    A writer raises it when another writer's commit discarded its blocks: the blob holds the other content.
    """


class BlobAccessError(BlobServiceError, ClientAuthenticationError, PermissionError):
    """The service refused the credential: missing, wrong, expired, or without the right that is needed."""

    errno: int | None = _errno.EACCES


class BlobRequestError(_AzureShaped, ServiceRequestError):
    """No connection: refused, unknown host name, certificate not trusted. The message says which."""


class BlobResponseError(_AzureShaped, ServiceResponseError):
    """The answer was cut or is not valid HTTP."""


class BlobTimeoutError(BlobResponseError, TimeoutError):
    """The deadline of a request or the longest allowed silence passed."""

    errno: int | None = _errno.ETIMEDOUT


class BlobIntegrityError(BlobResponseError):
    """The answer is complete, but not what was asked for: wrong range, length or checksum."""


class RedactedCause(Exception):
    """Stand in, as ``__cause__``, for an exception of another package.

    SDK and HTTP errors hold the request with its signature, and a traceback prints its causes. This keeps the type's
    name, the text after :func:`redact` (at most 2,048 characters), ``status_code``, ``error_code`` and ``request_id``.

    :param error: the exception, which is read and not kept; or a text.
    """

    def __init__(self, error: BaseException | str = "") -> None:
        self.status_code: int | None = None
        self.error_code: str | None = None
        self.request_id: str | None = None
        message = error
        if isinstance(error, BaseException):
            response = getattr(error, "response", None)
            headers = getattr(response, "headers", None)
            status = getattr(error, "status_code", None) or getattr(error, "status", None)
            code = getattr(error, "error_code", None)
            request_id = getattr(error, "request_id", None)
            if request_id is None and isinstance(headers, Mapping):
                request_id = headers.get("x-ms-request-id")
            self.status_code = status if isinstance(status, int) else None
            self.error_code = None if code is None else redact(str(getattr(code, "value", code)))
            self.request_id = None if request_id is None else redact(str(request_id))
            try:
                text = redact(str(error))[:2048]  # cut after redacting: half a secret matches no pattern
            except Exception:  # a broken __str__ must not hide the error it belongs to
                text = ""
            message = f"{type(error).__name__}: {text}" if text else type(error).__name__
        self.message: str = redact(str(message))
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,), dict(vars(self))


class UncommittedBlobWarning(RuntimeWarning):
    """A file open for writing was collected, or left open at exit, before ``close``: nothing was committed."""
