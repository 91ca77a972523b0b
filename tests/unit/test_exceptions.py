"""Errors reach logs, pickles and bug reports: what they keep, what they catch, and what they must never show."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import time
import traceback
import weakref
from typing import Any, ClassVar

import pytest
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
from hypothesis import assume, given
from hypothesis import strategies as st

from azstoragetorch import exceptions
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobExistsError,
    BlobFileForkedError,
    BlobModifiedError,
    BlobNotFoundError,
    BlobRequestError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
    ClientRequestIdMismatchError,
    CommitOutcomeUnknownError,
    ContainerNotFoundError,
    FatalBlobIOWriteError,
    RedactedCause,
    UncommittedBlobWarning,
    redact,
)

CANARY = "CaNaRy%2Bsecret%3D"
SIGNED = f"https://acct.blob.core.windows.net/models/a.pt?sv=2025-01-05&sig={CANARY}&se=2030-01-01"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

PUBLIC = [getattr(exceptions, name) for name in exceptions.__all__]
ERRORS = [item for item in PUBLIC if isinstance(item, type) and issubclass(item, AZStorageTorchError)]
SERVICE_ERRORS = [item for item in ERRORS if issubclass(item, BlobServiceError)]
BUILT_FROM_A_MESSAGE = [*ERRORS, RedactedCause]


class Answer:
    """What azure-core reads from the response of a failed request."""

    status_code = 403
    reason = f"Forbidden {CANARY}"
    request = SIGNED
    headers: ClassVar[dict[str, str]] = {"x-ms-request-id": "0f5a-61"}

    def text(self) -> str:
        return f"<Error><Code>AuthenticationFailed</Code><Message>{SIGNED}</Message></Error>"


def sdk_error() -> HttpResponseError:
    error = HttpResponseError(message=f"not allowed: {SIGNED}", response=Answer())
    error.error_code = "AuthenticationFailed"  # type: ignore[attr-defined]  # as the storage SDK does
    return error


def everything(error: BaseException) -> str:
    """All that a log, a debugger, a pickle or a crash report could show of ``error``."""
    attributes = {name: getattr(error, name, None) for name in dir(error) if name not in ("__dict__", "__doc__")}
    shown = "".join(traceback.format_exception(error))
    return f"{error}{error!r}{vars(error)}{attributes}{pickle.dumps(error)!r}{shown}"


def test_docstring_draws_the_real_tree() -> None:
    """The tree is what people read first; a class that moved must move there too."""
    parents: list[tuple[int, type]] = []
    drawn = []
    for line in (exceptions.__doc__ or "").splitlines():
        match = re.match(r"( {4,})([A-Z]\w+(?:Error|Cause|Warning))\b", line)
        if match is None:
            continue
        indent, item = len(match[1]), getattr(exceptions, match[2])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        if parents:
            assert (
                item.__mro__[1] is parents[-1][1]
                or parents[-1][1] in item.__bases__
                or (item.__bases__[0].__name__.startswith("_") and parents[-1][1] in item.__mro__)
            )
        parents.append((indent, item))
        drawn.append(item)

    assert set(drawn) == {item for item in PUBLIC if isinstance(item, type)}
    assert len(drawn) == len(set(drawn))


@pytest.mark.parametrize("error_type", BUILT_FROM_A_MESSAGE)
def test_message_is_shown_as_it_was_given(error_type: type[Any]) -> None:
    """OSError and HttpResponseError print themselves in their own ways; ours must not change with the base class."""
    error = error_type("blob https://acct.blob.core.windows.net/c/b is gone")

    assert str(error) == error.message == error.args[0] == "blob https://acct.blob.core.windows.net/c/b is gone"
    assert len(error.args) == 1


@pytest.mark.parametrize("error_type", BUILT_FROM_A_MESSAGE)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_gives_an_equal_error(error_type: type[Any], protocol: int) -> None:
    """Errors cross from worker processes; facts and notes are what the other side decides by."""
    error = error_type("it failed")
    error.add_note("while loading shard 3")
    if issubclass(error_type, BlobServiceError):
        error = error_type("it failed", status_code=418, error_code="Teapot", request_id="r-1")

    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is error_type
        assert again.args == error.args
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize("error_type", BUILT_FROM_A_MESSAGE)
def test_one_string_rebuilds_an_error(error_type: type[Any]) -> None:
    """A DataLoader rebuilds the error of a worker as ``type(text)``; if that fails the user sees a RuntimeError."""
    text = f"Caught {error_type.__name__} in DataLoader worker process 0.\nOriginal Traceback ..."

    rebuilt = error_type(text)

    assert type(rebuilt) is error_type
    assert str(rebuilt) == text


@pytest.mark.parametrize("error_type", BUILT_FROM_A_MESSAGE)
def test_error_made_while_another_is_handled_keeps_nothing_of_it(error_type: type[Any]) -> None:
    """azure-core's base class stores ``sys.exc_info()``, and with it a signed URL and every local variable."""
    made = []
    try:
        raise sdk_error()
    except HttpResponseError:
        made.append(error_type("refused"))

    (error,) = made
    assert CANARY not in everything(error)
    if isinstance(error, AzureError):
        assert (error.inner_exception, error.exc_type, error.exc_value, error.exc_traceback) == (None,) * 4
        assert error.exc_msg == "refused"
        assert error.continuation_token is None


@pytest.mark.parametrize("error_type", BUILT_FROM_A_MESSAGE)
def test_secret_in_a_message_is_redacted(error_type: type[Any]) -> None:
    """The last line of defence: a message assembled carelessly still shows no signature and no key."""
    error = error_type(f"GET {SIGNED} with AccountKey={KEY};")

    assert "CaNaRy" not in everything(error)
    assert KEY not in everything(error)
    assert "https://acct.blob.core.windows.net/models/a.pt?sv=2025-01-05&sig=REDACTED&se=2030-01-01" in str(error)


@pytest.mark.parametrize(
    ("error_type", "caught_as"),
    [
        (BlobServiceError, HttpResponseError),
        (BlobNotFoundError, ResourceNotFoundError),
        (BlobNotFoundError, FileNotFoundError),
        (ContainerNotFoundError, ResourceNotFoundError),
        (ContainerNotFoundError, FileNotFoundError),
        (ContainerNotFoundError, BlobNotFoundError),
        (BlobExistsError, ResourceExistsError),
        (BlobExistsError, FileExistsError),
        (BlobModifiedError, ResourceModifiedError),
        (BlobAccessError, ClientAuthenticationError),
        (BlobAccessError, PermissionError),
        (BlobAccessError, OSError),
        (BlobRequestError, ServiceRequestError),
        (BlobResponseError, ServiceResponseError),
        (BlobTimeoutError, ServiceResponseError),
        (BlobTimeoutError, TimeoutError),
        (BlobFileForkedError, ValueError),
        (CommitOutcomeUnknownError, FatalBlobIOWriteError),
        *((error_type, AZStorageTorchError) for error_type in ERRORS),
    ],
)
def test_existing_except_clauses_catch(error_type: type[Exception], caught_as: type[Exception]) -> None:
    """Code written for the SDK and for files keeps working without an edit."""
    with pytest.raises(caught_as) as caught:
        raise error_type("no")

    assert type(caught.value) is error_type


@pytest.mark.parametrize("error_type", SERVICE_ERRORS)
def test_http_attributes_are_those_of_the_sdk(error_type: type[BlobServiceError]) -> None:
    """Handlers read ``error.status_code`` and ``error.error_code`` and log ``error.reason`` and ``error.message``."""
    error = error_type("no such blob", status_code=404, error_code="BlobNotFound", request_id="5d1c")

    assert (error.status_code, error.error_code, error.request_id) == (404, "BlobNotFound", "5d1c")
    assert error.reason == "Not Found"
    assert error.message == "no such blob"
    assert (error.response, error.model, error.error) == (None, None, None)
    assert error_type("no such blob").reason is None
    assert error_type("no such blob", status_code=599).reason is None


def test_os_errors_carry_their_errno() -> None:
    """``error.errno == errno.ENOENT`` is how much file code tells a missing file from a broken one."""
    for error_type, builtin in (
        (BlobNotFoundError, FileNotFoundError),
        (BlobExistsError, FileExistsError),
        (BlobAccessError, PermissionError),
        (BlobTimeoutError, TimeoutError),
    ):
        number = error_type("x").errno
        assert isinstance(number, int)
        assert isinstance(OSError(number, "what Python makes of this number"), builtin)


@pytest.mark.parametrize("error_type", [FatalBlobIOWriteError, CommitOutcomeUnknownError])
def test_write_error_is_built_from_an_exception_as_before(error_type: type[FatalBlobIOWriteError]) -> None:
    """0.2.0 built it from the underlying exception, whose text may hold a signed URL."""
    for error in (error_type(sdk_error()), error_type(underlying_exception=sdk_error())):
        assert "HttpResponseError" in str(error)
        assert "not allowed" in str(error)
        assert "blob" in str(error)
        assert "CaNaRy" not in everything(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(error_type(ValueError("disk on fire"))).endswith("ValueError: disk on fire")


def test_mismatch_error_is_built_from_three_ids_as_before() -> None:
    """0.2.0's constructor took the three ids, by position or by name."""
    error = ClientRequestIdMismatchError("id-a", "id-b", "id-c")
    named = ClientRequestIdMismatchError(request_client_id="id-a", response_client_id="id-b", service_request_id="id-c")

    assert all(part in str(error) for part in ("id-a", "id-b", "id-c"))
    assert str(error) == str(named) == str(pickle.loads(pickle.dumps(error)))
    assert "id-c" in str(ClientRequestIdMismatchError("id-a", None, "id-c"))


def test_cause_keeps_facts_and_lets_the_original_go() -> None:
    """The stand-in has what a bug report needs; the original holds the request and its signature."""
    original = sdk_error()
    alive = weakref.ref(original)

    cause = RedactedCause(original)
    del original
    gc.collect()

    assert alive() is None
    assert str(cause).startswith("HttpResponseError: not allowed: https://acct.blob.core.windows.net/models/a.pt?sv=")
    assert (cause.status_code, cause.error_code, cause.request_id) == (403, "AuthenticationFailed", "0f5a-61")
    assert vars(pickle.loads(pickle.dumps(cause))) == vars(cause)
    assert "CaNaRy" not in everything(cause)


def test_cause_of_an_error_that_cannot_be_printed_names_its_type() -> None:
    """An error in the error report must not replace the error."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert str(RedactedCause(Broken())) == "Broken"
    assert str(RedactedCause(TimeoutError())) == "TimeoutError"


def test_cause_is_cut_behind_the_redaction() -> None:
    """Cut first, and half a token would be left that no pattern knows."""
    token = "eyJ0eXAiOiJKV1QifQ." + "x" * 400 + "." + "y" * 400
    cause = RedactedCause(ValueError("a" * 1500 + " " + token + " " + "b" * 9000))

    assert "eyJ0" not in str(cause)
    assert len(str(cause)) < 2200


def test_chained_traceback_shows_no_secret() -> None:
    """A traceback prints its causes; this is where signatures usually escape to a log."""
    failure: Exception | None = None
    try:
        raise sdk_error()
    except HttpResponseError as error:
        failure = error
    assert failure is not None

    with pytest.raises(BlobAccessError) as caught:
        raise BlobAccessError("refused", status_code=403) from RedactedCause(failure)

    shown = "".join(traceback.format_exception(caught.value))
    assert "CaNaRy" not in shown
    assert "RedactedCause: HttpResponseError: not allowed" in shown


def test_uncommitted_blob_warning_is_shown_by_default() -> None:
    """Python hides ResourceWarning and DeprecationWarning; losing a checkpoint must be seen."""
    assert issubclass(UncommittedBlobWarning, RuntimeWarning)
    assert not issubclass(UncommittedBlobWarning, (ResourceWarning, DeprecationWarning, ImportWarning))


SECRETS = [
    ("https://h/c/b?sv=1&sig={}&se=2", "https://h/c/b?sv=1&sig=REDACTED&se=2", "a%2Fb%2Bc%3D"),
    ("see 'https://h/c/b?SIG={}' here", "see 'https://h/c/b?SIG=REDACTED' here", "a/b+c="),
    ('<a href="?sig={}">', '<a href="?sig=REDACTED">', "abc"),
    ("https%3A%2F%2Fh%2Fc%3Fsig%3D{}%26se%3D1", "https%3A%2F%2Fh%2Fc%3Fsig%3DREDACTED%26se%3D1", "a%252Fb%253D"),
    ("x%253Fsig%253D{}%2526se", "x%253Fsig%253DREDACTED%2526se", "a%25252Fb"),
    ("{{'sv': '1', 'sig': '{}'}}", "{'sv': '1', 'sig': 'REDACTED'}", "a/b+c="),
    ("{{'sig': ['{}']}}", "{'sig': ['REDACTED']}", "a/b+c="),
    ("[('sig', '{}')]", "[('sig', 'REDACTED')]", "a/b+c="),
    ("Authorization: Bearer {}\r\nAccept: a", "Authorization: REDACTED\r\nAccept: a", "abc.def"),
    ("{{'Authorization': 'SharedKey acct:{}', 'x': 1}}", "{'Authorization': 'REDACTED', 'x': 1}", "abc+/="),
    ("{{b'authorization': b'Bearer {}'}}", "{b'authorization': b'REDACTED'}", "abc"),
    ("with Bearer {} sent", "with Bearer REDACTED sent", "short"),
    ("bearer%20{}", "bearer%20REDACTED", "abc"),
    ("SharedKey acct:{} sent", "SharedKey REDACTED sent", "abc/+="),
    ("SharedKeyLite acct:{}", "SharedKeyLite REDACTED", "abc/+="),
    ("AccountName=a;AccountKey={};EndpointSuffix=e", "AccountName=a;AccountKey=REDACTED;EndpointSuffix=e", KEY),
    ("AccountKey%3D{}%3BEndpoint", "AccountKey%3DREDACTED%3BEndpoint", "ab%2Bc%3D%3D"),
    ("account_key='{}'", "account_key='REDACTED'", "short=="),
    ("the key {}.", "the key REDACTED.", KEY),
    ('{{"access_token": "{}", "a": 1}}', '{"access_token": "REDACTED", "a": 1}', "opaque"),
    ("client_id=1&client_secret={}&b", "client_id=1&client_secret=REDACTED&b", "p~w.d"),
    ("token {} refused", "token REDACTED refused", "eyJ0eXAi.eyJhdWQi.c2lnbmF0dXJl"),
    ("proxy http://{}@proxy:80/x", "proxy http://REDACTED@proxy:80/x", "user:pa@ss"),
    ("The MAC signature found in the HTTP request '{}' is not", None, "a/b+c="),
]


@pytest.mark.parametrize(("text", "expected", "secret"), SECRETS)
def test_redact_removes_the_secret_and_nothing_else(text: str, expected: str | None, secret: str) -> None:
    """Every form in which the service, the SDK, aiohttp, or a dump of headers shows a secret."""
    redacted = redact(text.format(secret))

    assert secret not in redacted
    assert redacted == (expected or text.format("REDACTED"))


@given(
    st.sampled_from([text for text, _, secret in SECRETS if secret != KEY and "eyJ" not in secret]),
    st.text("ABCDEFabcdef0123456789", min_size=12, max_size=60),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_redact_finds_any_secret_in_any_text(text: str, secret: str, before: str, after: str) -> None:
    """What stands around a secret must not hide it."""
    assume(secret not in before + after)
    assert secret not in redact(f"{before} {text.format(secret)} {after}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://acct.blob.core.windows.net/c/design/signals.bin?sv=2025-01-05&se=2030&sr=b&sp=r",
        "Bearer token authentication is not permitted for non-TLS protected (non-https) URLs.",
        "SharedKey authentication is disabled",
        'Bearer authorization_uri=https://login.microsoftonline.com/x/oauth2 resource_id="https://storage.azure.com"',
        "Server failed to authenticate the request. Code: AuthenticationFailed",
        "c/b changed: ETag 0x8DC1F2E3A4B5C6D, MD5 CY9rzUYh03PK3k6DJie09g==",
        "https://acct.blob.core.windows.net/c/user@example.com/a.bin",
        "AccountName=acct",
    ],
)
def test_redact_leaves_plain_text_alone(text: str) -> None:
    """A message that lost its facts helps nobody."""
    assert redact(text) == text


@given(st.lists(st.sampled_from([*"aB3 =&'\";:%@/.?{}\n", "sig", "%3D", "%26", "://", "eyJ", "Bearer ", "SharedKey "])))
def test_redacting_twice_changes_nothing(pieces: list[str]) -> None:
    """Messages are redacted where they are made and again in the constructor and at unpickling."""
    once = redact("".join(pieces))

    assert redact(once) == once


@pytest.mark.parametrize(
    "piece", ["eyJ-", "sig=", "://a", "Bearer ", "AccountKey", "authorization ", "sig%3D", "A" * 85]
)
def test_redact_is_linear(piece: str) -> None:
    """A service that answers with a hostile text must not stop the event loop."""
    start = time.process_time()
    redact(piece * (200_000 // len(piece)))

    assert time.process_time() - start < 2  # 10 to 60 ms here; a quadratic pattern takes minutes
