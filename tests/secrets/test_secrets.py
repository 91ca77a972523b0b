"""No signature, key or token comes out of anything that people log, print, pickle or paste into an issue."""

from __future__ import annotations

import gc
import io
import logging
import multiprocessing
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import AZStorageTorchError, UncommittedBlobWarning
from azstoragetorch.io import BlobIO
from tests.blobserver import Action, BlobServer, CutBody, Drop, Garbage, Hang, LoseAnswer, Redirect, Status, on
from tests.faults.play import Seen, watch
from tests.secrets.accesses import ACCESSES, Access, given_away, in_url, key, token
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of

# The first request of a busy machine, with its token, has to be sent within this.
BRIEF = TransferOptions(block_size=1000, deadline=0.4, idle_timeout=0.15, connect_timeout=0.3)
CONTENT = bytes(range(256)) * 12
EACH_ACCESS = pytest.mark.parametrize("access", ACCESSES)


@pytest.fixture
def logged() -> Iterator[Seen]:
    """What is logged at DEBUG, by anybody, and what is warned of; nothing of it may hold a secret."""
    with watch() as seen:
        yield seen
    assert not found_in(seen.texts())


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


@EACH_ACCESS
@pytest.mark.parametrize("mode", ["rb", "wb", "xb"])
async def test_success_and_retry(server: BlobServer, logged: Seen, access: Access, mode: Any) -> None:
    """The usual day: at DEBUG the SDK logs every request and retry, and files are printed."""
    server.put("a", CONTENT)
    for number, face in enumerate((use, use_async)):
        url, credential = access(server.url("a" if mode == "rb" else f"new{number}"))
        server.fault(on(), Status(503, "ServerBusy"))
        server.fault(on(), Drop())
        seen: list[str] = []
        waiting = face(url, credential, mode, len(CONTENT), seen, TransferOptions(block_size=1000))
        if waiting is not None:
            await waiting
        assert not found_in(seen)

    assert len(logged.lines) > 4
    assert not given_away(logged.texts(), server, access)


FAULTS: dict[str, Action] = {
    "403": Status(403, "AuthenticationFailed"),
    "404": Status(404, "BlobNotFound"),
    "409": Status(409, "BlobAlreadyExists"),
    "412": Status(412, "ConditionNotMet"),
    "400": Status(400, "InvalidInput"),
    "503": Status(503, "ServerBusy"),
    "echoing": Status(400, "InvalidUri", body=f"The URI ?sig={SIGNATURE} is wrong, Bearer {TOKEN}".encode()),
    "reset": Drop("reset"),
    "answer lost": LoseAnswer(),
    "garbage": Garbage(),
    "half a head": Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: what\r\n\r\n"),
    "silence": Hang(),
    "redirect": Redirect("http://127.0.0.1:1/elsewhere"),
}


# A SAS in the URL is what all cases of tests/faults are played with, on both faces; for others see test_reliability.
@pytest.mark.parametrize(("access", "face"), [(key, use), (token, use_async)], ids=["key", "token-async"])
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize(
    ("mode", "size"), [("rb", 0), ("wb", 10), ("wb", 3000), ("xb", 3000)], ids=["read", "put", "blocks", "create"]
)
async def test_failure(
    server: BlobServer, logged: Seen, access: Access, face: Any, fault: str, mode: Any, size: int
) -> None:
    """The bad day: what is raised goes to logs, to other processes and to bug reports, with all it hangs on."""
    server.put("a", CONTENT)
    server.fault(on(), FAULTS[fault], times=None)
    url, credential = access(server.url("a" if mode == "rb" else "new"))
    seen: list[str] = []
    with pytest.raises(AZStorageTorchError) as caught:
        waiting = face(url, credential, mode, size, seen)
        if waiting is not None:
            await waiting
    assert not found_in(seen)
    assert not found_in(texts_of(caught.value))
    logging.getLogger("application").error("saving failed", exc_info=caught.value)
    clone = pickle.loads(pickle.dumps(caught.value))
    assert type(clone) is type(caught.value)
    assert str(clone) == str(caught.value)
    assert not found_in(texts_of(clone))
    assert not given_away(logged.texts(), server, access)


@pytest.mark.parametrize("access", [key, token])
@pytest.mark.parametrize("comp", ["blocklist", "block"])
@pytest.mark.parametrize("fault", ["403", "silence", "answer lost"])
def test_failure_of_one_step_of_a_write(
    server: BlobServer, logged: Seen, access: Access, comp: str, fault: str
) -> None:
    """Commit, its look at the block list, and blocks have error paths of their own."""
    server.fault(on("PUT", comp), FAULTS[fault], times=None)
    server.fault(on("GET", "blocklist"), FAULTS[fault], times=None)
    with pytest.raises(AZStorageTorchError) as caught:
        use(*access(server.url("a")), "wb", 3000, [])
    assert not found_in(texts_of(caught.value))


@EACH_ACCESS
def test_body_that_is_cut(server: BlobServer, logged: Seen, access: Access) -> None:
    """A read that got its head and not its body."""
    server.put("a", CONTENT)
    server.fault("GET", CutBody(0), times=None)
    with pytest.raises(AZStorageTorchError) as caught:
        use(*access(server.url("a")), "rb", 0, [])
    assert not found_in(texts_of(caught.value))


@EACH_ACCESS
@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_nobody_answers(logged: Seen, access: Access, mode: Any) -> None:
    """A refused connection: aiohttp's errors name the host, the SDK's the URL."""
    with BlobServer(listening=False) as nobody, pytest.raises(AZStorageTorchError) as caught:
        use(*access(nobody.url("a")), mode, 10, [])
    assert not found_in(texts_of(caught.value))


@EACH_ACCESS
def test_create_of_what_exists(server: BlobServer, logged: Seen, access: Access) -> None:
    """An error of ours, not of the service."""
    server.put("a", CONTENT)
    for size in (10, 3000):
        with pytest.raises(FileExistsError) as caught:
            use(*access(server.url("a")), "xb", size, [])
        assert not found_in(texts_of(caught.value))


@EACH_ACCESS
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


@EACH_ACCESS
def test_forgotten_writer(server: BlobServer, logged: Seen, access: Access) -> None:
    """The warning names the blob, and only that."""
    url, credential = access(server.url("a"))
    file = BlobIO(url, "wb", credential=credential)
    file.write(b"x")
    with pytest.warns(UncommittedBlobWarning) as warned:
        del file
    gc.collect()
    assert not found_in(str(warning.message) for warning in warned)
    assert any("nothing was committed" in text for text in logged.lines)


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_credential_that_tells_its_secret(server: BlobServer, logged: Seen, mode: Any) -> None:
    """An identity library's error may hold the request it made, with the token or the client's secret in it."""

    class Talkative:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            raise ClientAuthenticationError(message=f"refused: Authorization: Bearer {TOKEN}, client_secret={KEY}")

    with pytest.raises(AZStorageTorchError) as caught:
        use(server.url("a"), Talkative(), mode, 10, [])
    assert "refused" in str(caught.value)
    assert not found_in(texts_of(caught.value))


def _fail_in_child(url: str, credential: Any, mode: str, size: int) -> None:
    use(url, credential, mode, size, [], TransferOptions(block_size=1000))


@pytest.mark.parametrize("access", [in_url, token])
@pytest.mark.parametrize(("mode", "size"), [("rb", 0), ("wb", 3000)])
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
