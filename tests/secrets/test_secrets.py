"""No signature, key or token comes out of anything that people log, print, pickle or paste into an issue."""

from __future__ import annotations

import gc
import io
import logging
import multiprocessing
import pickle
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import AZStorageTorchError, UncommittedBlobWarning
from azstoragetorch.io import BlobIO
from tests.blobserver import Action, BlobServer, CutBody, Drop, Garbage, Hang, LoseAnswer, Redirect, Status, on
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of

BRIEF = TransferOptions(block_size=1000, deadline=0.12, idle_timeout=0.05, connect_timeout=0.1)
CONTENT = bytes(range(256)) * 12


class Credential:
    """A token credential whose own repr shows nothing, as those of the SDK."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


def in_url(url: str) -> tuple[str, Any]:
    return f"{url}?sv=2021&sig={quote(SIGNATURE, safe='')}", None


def sas(url: str) -> tuple[str, Any]:
    return url, AzureSasCredential(in_url("")[0])


def key(url: str) -> tuple[str, Any]:
    return url, AzureNamedKeyCredential("devstoreaccount1", KEY)


def token(url: str) -> tuple[str, Any]:
    return url, Credential()


ACCESSES = pytest.mark.parametrize("access", [in_url, sas, key, token])
Access = Callable[[str], tuple[str, Any]]


class Everything(logging.Handler):
    """Keeps every record of every logger, formatted with its exception, and the raw parts it was made of."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
        self.texts.append(repr(record.args))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged at DEBUG, by anybody."""
    handler = Everything()
    names = ["azure", "azure.core", "azure.storage", "azure.identity", "aiohttp", "asyncio", "azstoragetorch"]
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in names)]
    levels = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield handler.texts
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def use(url: str, credential: Any, mode: Any, size: int, seen: list[str], options: TransferOptions = BRIEF) -> None:
    """Read or write through BlobIO; ``seen`` gets what the file says of itself."""
    with BlobIO(url, mode, credential=credential, options=options) as file:
        seen += [repr(file), str(file), file.name, repr(file.stats())]
        file.read() if mode == "rb" else file.write(CONTENT[:size])
        seen.append(repr(file))


async def use_async(
    url: str, credential: Any, mode: Any, size: int, seen: list[str], options: TransferOptions = BRIEF
) -> None:
    """The same through AsyncBlobIO."""
    async with AsyncBlobIO(url, mode, credential=credential, options=options) as file:
        seen += [repr(file), str(file), file.name, repr(file.stats())]
        await file.read() if mode == "rb" else await file.write(CONTENT[:size])


def test_canaries_are_found() -> None:
    """The tests below search for nothing if these are not found where they are."""
    error = ValueError(in_url("https://host/c/b")[0])
    error.__cause__ = KeyError({"Authorization": f"Bearer {TOKEN}"})
    assert len(found_in(texts_of(error))) > 4
    assert found_in([f"sig={SIGNATURE}"])
    assert found_in([KEY])


@ACCESSES
@pytest.mark.parametrize("mode", ["rb", "wb", "xb"])
async def test_success_and_retry(server: BlobServer, logged: list[str], access: Access, mode: Any) -> None:
    """The usual day: at DEBUG the SDK logs every request and retry, and files are printed."""
    server.put("a", CONTENT)
    for number, face in enumerate((use, use_async)):
        url, credential = access(server.url("a" if mode == "rb" else f"new{number}"))
        server.fault(on(), Status(503, "ServerBusy"))
        server.fault(on(), Drop())
        seen: list[str] = []
        with warnings.catch_warnings(record=True) as warned:
            waiting = face(url, credential, mode, len(CONTENT), seen, TransferOptions(block_size=1000))
            if waiting is not None:
                await waiting
        assert not found_in(seen)
        assert not found_in(str(warning.message) for warning in warned)

    derived = _sent(server, access)
    assert len(logged) > 4
    assert not found_in(logged)
    assert not [text for text in logged for signature in derived if signature in text]


FAULTS: dict[str, Action] = {
    "403": Status(403, "AuthenticationFailed"),
    "404": Status(404, "BlobNotFound"),
    "409": Status(409, "BlobAlreadyExists"),
    "412": Status(412, "ConditionNotMet"),
    "400": Status(400, "InvalidInput"),
    "503": Status(503, "ServerBusy"),
    "echoing": Status(400, "InvalidUri", body=f"The URI ?sig={SIGNATURE} is wrong, Bearer {TOKEN}".encode()),
    "reset": Drop("reset"),
    "closed": Drop("close"),
    "answer lost": LoseAnswer(),
    "garbage": Garbage(),
    "half a head": Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: what\r\n\r\n"),
    "silence": Hang(),
    "redirect": Redirect("http://127.0.0.1:1/elsewhere"),
}


@pytest.mark.parametrize("access", [in_url, key, token])
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize(
    ("mode", "size"), [("rb", 0), ("wb", 10), ("wb", 3000), ("xb", 3000)], ids=["read", "put", "blocks", "create"]
)
async def test_failure(server: BlobServer, logged: list[str], access: Access, fault: str, mode: Any, size: int) -> None:
    """The bad day: what is raised goes to logs, to other processes and to bug reports, with all it hangs on."""
    server.put("a", CONTENT)
    server.fault(on(), FAULTS[fault], times=None)
    for number, face in enumerate((use, use_async)):
        url, credential = access(server.url("a" if mode == "rb" else f"new{number}"))
        seen: list[str] = []
        try:
            waiting = face(url, credential, mode, size, seen)
            if waiting is not None:
                await waiting
        except AZStorageTorchError as error:
            failure = error
        else:
            pytest.fail("no error")
        assert not found_in(seen)
        assert not found_in(texts_of(failure))
        logging.getLogger("application").error("saving failed", exc_info=failure)
        clone = pickle.loads(pickle.dumps(failure))
        assert type(clone) is type(failure)
        assert str(clone) == str(failure)
        assert not found_in(texts_of(clone))

    derived = _sent(server, access)
    assert not found_in(logged)
    assert not [text for text in logged for signature in derived if signature in text]


@ACCESSES
@pytest.mark.parametrize("comp", ["blocklist", "block"])
@pytest.mark.parametrize("fault", ["403", "503", "garbage", "silence", "answer lost"])
def test_failure_of_one_step_of_a_write(
    server: BlobServer, logged: list[str], access: Access, comp: str, fault: str
) -> None:
    """Commit, its look at the block list, and blocks have error paths of their own."""
    server.fault(on("PUT", comp), FAULTS[fault], times=None)
    server.fault(on("GET", "blocklist"), FAULTS[fault], times=None)
    with pytest.raises(AZStorageTorchError) as caught:
        use(*access(server.url("a")), "wb", 3000, [])
    assert not found_in(texts_of(caught.value))
    assert not found_in(logged)


@ACCESSES
def test_body_that_is_cut(server: BlobServer, logged: list[str], access: Access) -> None:
    """A read that got its head and not its body."""
    server.put("a", CONTENT)
    server.fault("GET", CutBody(0), times=None)
    with pytest.raises(AZStorageTorchError) as caught:
        use(*access(server.url("a")), "rb", 0, [])
    assert not found_in(texts_of(caught.value))
    assert not found_in(logged)


@ACCESSES
@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_nobody_answers(logged: list[str], access: Access, mode: Any) -> None:
    """A refused connection: aiohttp's errors name the host, the SDK's the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(AZStorageTorchError) as caught:
        use(*access(f"http://127.0.0.1:{port}/devstoreaccount1/data/a"), mode, 10, [])
    assert not found_in(texts_of(caught.value))
    assert not found_in(logged)


@ACCESSES
def test_create_of_what_exists(server: BlobServer, logged: list[str], access: Access) -> None:
    """An error of ours, not of the service."""
    server.put("a", CONTENT)
    for size in (10, 3000):
        with pytest.raises(FileExistsError) as caught:
            use(*access(server.url("a")), "xb", size, [])
        assert not found_in(texts_of(caught.value))
    assert not found_in(logged)


@ACCESSES
def test_wrong_use(server: BlobServer, access: Access) -> None:
    """Errors of Python's own kind: closed file, wrong mode, pickling, another fork."""
    url, credential = access(server.url("a"))
    file = BlobIO(url, "wb", credential=credential)
    for operation in (file.read, lambda: file.seek(0), file.fileno, lambda: pickle.dumps(file), file.detach):
        with pytest.raises((OSError, TypeError, io.UnsupportedOperation)) as caught:
            operation()
        assert not found_in(["".join(map(str, caught.value.args)), repr(caught.value)])
    file.abort()
    with pytest.raises(ValueError, match="closed") as closed:
        file.write(b"")
    assert not found_in(texts_of(closed.value))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/container/b",
        "https://user:pw@h/container/b",
        "https://h/container/b#x",
        "https://h/container/../b",
        "h",
    ],
)
def test_url_that_is_refused(url: str) -> None:
    """The message shows the URL, and the URL holds the signature."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is examined
        BlobIO(f"{url}?sig={SIGNATURE}" if "#" not in url else f"{url}sig={SIGNATURE}", "rb")
    assert not found_in(texts_of(caught.value))


@ACCESSES
def test_forgotten_writer(server: BlobServer, logged: list[str], access: Access) -> None:
    """The warning names the blob, and only that."""
    url, credential = access(server.url("a"))
    file = BlobIO(url, "wb", credential=credential)
    file.write(b"x")
    with pytest.warns(UncommittedBlobWarning) as warned:
        del file
    gc.collect()
    assert not found_in(str(warning.message) for warning in warned)
    assert any("nothing was committed" in text for text in logged)
    assert not found_in(logged)


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_credential_that_tells_its_secret(server: BlobServer, logged: list[str], mode: Any) -> None:
    """An identity library's error may hold the request it made, with the token or the client's secret in it."""

    class Talkative:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            raise ClientAuthenticationError(message=f"refused: Authorization: Bearer {TOKEN}, client_secret={KEY}")

    with pytest.raises(AZStorageTorchError) as caught:
        use(server.url("a"), Talkative(), mode, 10, [])
    assert "refused" in str(caught.value)
    assert not found_in(texts_of(caught.value))
    assert not found_in(logged)


def _fail_in_child(url: str, credential: Any, mode: str, size: int) -> None:
    use(url, credential, mode, size, [])


@pytest.mark.parametrize("access", [in_url, token])
@pytest.mark.parametrize(("mode", "size"), [("rb", 0), ("wb", 10), ("wb", 3000)])
def test_failure_in_another_process(server: BlobServer, access: Access, mode: str, size: int) -> None:
    """A worker's error comes home as a pickle and as the text of its traceback."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with pytest.raises(AZStorageTorchError) as caught:
            pool.apply(_fail_in_child, (*access(server.url("a")), mode, size))
        pool.close()
        pool.join()
    assert "403" in str(caught.value)
    assert server.url("a") in str(caught.value)
    assert not found_in(texts_of(caught.value))


def _sent(server: BlobServer, access: Access) -> set[str]:
    """Return the signatures that were made of a key, in both spellings; fail unless the secret was in use at all."""
    records = server.requests()
    assert records
    derived = set()
    for record in records:
        if access is token:
            assert record.headers["authorization"] == f"Bearer {TOKEN}"
        elif access is key:
            derived |= {record.query["sig"], quote(record.query["sig"], safe="")}
        else:
            assert record.query["sig"] == SIGNATURE
    return derived
