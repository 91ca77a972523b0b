"""A write that fails says so once and for ever, one that can be saved is saved, and no answer is taken for another."""

from __future__ import annotations

import base64
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ResourceExistsError, ResourceNotFoundError

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import (
    AZStorageTorchError,
    BlobAccessError,
    BlobExistsError,
    BlobServiceError,
    BlobTimeoutError,
    CommitOutcomeUnknownError,
    ContainerNotFoundError,
    FatalBlobIOWriteError,
)
from azstoragetorch.io import BlobIO
from tests.blobserver import (
    Action,
    BlobServer,
    Call,
    CutUpload,
    Drop,
    Garbage,
    Hang,
    LoseAnswer,
    StallUpload,
    Status,
    on,
)
from tests.conftest import TlsBlobServer
from tests.files.leaks import Leaks, no_leaks

BLOCK = 1000
SMALL = TransferOptions(block_size=BLOCK, in_flight=4)
BRIEF = TransferOptions(block_size=BLOCK, in_flight=4, deadline=0.4, idle_timeout=0.1)
CONTENT = random.Random(7).randbytes(4500)
PART = CONTENT[:500]

PUT_BLOCK, PUT_BLOCK_LIST, PUT_BLOB = on("PUT", "block"), on("PUT", "blocklist"), on("PUT", "")
REFUSED = Status(403, "AuthorizationPermissionMismatch")
BUSY = Status(503, "ServerBusy")


@pytest.fixture(autouse=True)
def leaks(server: BlobServer) -> Iterator[Leaks]:
    with no_leaks(server) as checked:
        yield checked


def open_blob(server: BlobServer, mode: Any = "wb", options: TransferOptions = SMALL) -> BlobIO:
    return BlobIO(server.url("a"), mode, credential=False, options=options)


def write(server: BlobServer, content: bytes, mode: Any = "wb", options: TransferOptions = SMALL) -> BlobIO:
    with open_blob(server, mode, options) as file:
        file.write(content)
    assert file.committed
    return file


def test_first_error_is_raised_by_everything_after_it(server: BlobServer) -> None:
    """torch.save goes on writing after an error, and what it reports itself says nothing about the reason."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, REFUSED)
    server.fault(PUT_BLOCK, Status(404, "ContainerNotFound"), times=None)
    file = open_blob(server)
    file.write(CONTENT[: 2 * BLOCK])
    with pytest.raises(FatalBlobIOWriteError) as first:
        file.flush()
        file.flush()
    operations: list[Callable[[], object]] = [lambda: file.write(b"x"), lambda: file.write(b""), file.flush, file.close]
    for operation in operations:
        with pytest.raises(FatalBlobIOWriteError) as later:
            operation()
        assert later.value.__cause__ is first.value.__cause__

    cause = first.value.__cause__
    assert isinstance(cause, BlobAccessError)
    assert (cause.status_code, cause.error_code) == (403, "AuthorizationPermissionMismatch")
    assert server.url("a") in str(first.value)
    assert "nothing was committed" in str(first.value)
    assert "Storage Blob Data Contributor" in str(first.value)
    assert file.closed
    assert not file.committed
    assert server.get("a") == b"good"
    assert not server.requests("PUT", comp="blocklist")


def test_error_is_seen_behind_the_one_it_caused(server: BlobServer) -> None:
    """Code between write and with may turn the error into one of its own that says nothing about the network."""
    server.fault(PUT_BLOCK, REFUSED, times=None)

    with pytest.raises(FatalBlobIOWriteError) as caught, open_blob(server) as file:
        with contextlib.suppress(FatalBlobIOWriteError):
            file.write(CONTENT)
            file.flush()
        raise RuntimeError("unexpected pos")

    assert isinstance(caught.value.__cause__, BlobAccessError)


def test_swallowed_error_still_fails_the_close(server: BlobServer) -> None:
    """Whoever ignores what write raises must not get a blob with a hole."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, REFUSED)

    with pytest.raises(FatalBlobIOWriteError), open_blob(server) as file:
        for start in range(0, len(CONTENT), 100):
            with contextlib.suppress(OSError, AZStorageTorchError):
                file.write(CONTENT[start : start + 100])

    assert server.get("a") == b"good"


@pytest.mark.parametrize("content", [PART, CONTENT], ids=["one request", "blocks"])
@pytest.mark.parametrize("status", [(403, "AuthorizationFailure"), (400, "InvalidHeaderValue"), (413, "")])
def test_refusal_is_final_at_once(server: BlobServer, status: tuple[int, str], content: bytes) -> None:
    """Asking again would bring the same answer, later."""
    server.put("a", b"good")
    server.fault("PUT", Status(*status), times=None)
    file = open_blob(server, options=TransferOptions(block_size=BLOCK, in_flight=1))

    with pytest.raises((FatalBlobIOWriteError, BlobServiceError)) as caught, file:
        file.write(content)

    error = caught.value.__cause__ if content is CONTENT else caught.value
    assert isinstance(error, BlobServiceError)
    assert error.status_code == status[0]
    assert len(server.requests("PUT")) == 1
    assert file.stats().retries == 0
    assert server.get("a") == b"good"


def test_refused_write_is_a_permission_error(server: BlobServer) -> None:
    """So that code which knows files, or the SDK, catches it."""
    server.fault("PUT", REFUSED)
    with pytest.raises(PermissionError) as caught:
        write(server, PART)
    assert isinstance(caught.value, BlobAccessError)
    assert isinstance(caught.value, ClientAuthenticationError)


@pytest.mark.parametrize("content", [PART, CONTENT], ids=["one request", "blocks"])
def test_missing_container(server: BlobServer, content: bytes) -> None:
    """A typing error in the URL is the likeliest mistake of all."""
    url = server.url("a").replace("/data/", "/dada/")

    with pytest.raises((FatalBlobIOWriteError, ContainerNotFoundError)) as caught:  # noqa: SIM117
        with BlobIO(url, "wb", credential=False, options=SMALL) as file:
            file.write(content)

    error = caught.value.__cause__ if content is CONTENT else caught.value
    assert isinstance(error, ContainerNotFoundError)
    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, ResourceNotFoundError)
    assert url in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [BUSY, Status(500, "InternalError"), Status(429), Drop("reset"), Drop("close"), Garbage(), LoseAnswer("reset")],
    ids=["503", "500", "429", "reset", "closed", "garbage", "answer lost"],
)
@pytest.mark.parametrize(
    ("request_", "content"),
    [(PUT_BLOCK, CONTENT), (PUT_BLOCK_LIST, CONTENT), (PUT_BLOB, PART), (PUT_BLOB, b"")],
    ids=["block", "commit", "blob", "empty blob"],
)
def test_passing_trouble_costs_a_retry(server: BlobServer, request_: Any, content: bytes, fault: Action) -> None:
    """An hour's checkpoint must not be lost to one busy front end."""
    rule = server.fault(request_, fault, times=2)
    file = write(server, content)

    assert rule.hits == 2
    assert server.get("a") == content
    assert len(server.version("a").blocks) == (5 if content is CONTENT else 0)
    assert file.stats().bytes == len(content)
    assert file.stats().retries >= 1


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("after", [0, 1, 300_000, 999_999])
def test_cut_body_is_sent_again_whole(server: BlobServer, after: int, how: Any) -> None:
    """What the first attempt sent is lost with its connection; the second starts at the first byte again."""
    content = random.Random(1).randbytes(2_500_000)
    rule = server.fault(PUT_BLOCK, CutUpload(after, how), times=2)
    with open_blob(server, options=TransferOptions(block_size=1_000_000)) as file:
        file.write(content)

    assert rule.hits == 2
    assert server.get("a") == content


def test_cut_body_of_a_single_request_is_sent_again_whole(server: BlobServer) -> None:
    """The same where the content is small enough for one Put Blob."""
    content = random.Random(1).randbytes(900_000)
    server.fault(PUT_BLOB, CutUpload(500_000), times=2)
    with open_blob(server, options=TransferOptions(block_size=1_000_000)) as file:
        file.write(content)

    assert server.get("a") == content


@pytest.mark.parametrize("fault", [Hang(), StallUpload(100)], ids=["no answer", "body not read"])
def test_silent_service_is_asked_again(server: BlobServer, fault: Action) -> None:
    """A load balancer that forgot a connection says nothing, for ever."""
    rule = server.fault(PUT_BLOCK, fault)
    options = TransferOptions(block_size=4_000_000, idle_timeout=0.2)
    content = random.Random(2).randbytes(5_000_000)
    with open_blob(server, options=options) as file:
        file.write(content)

    assert rule.hits == 1
    assert server.get("a") == content
    server.drop_connections()  # one that is not read from does not see that its peer has gone


def test_trouble_that_does_not_pass_ends_at_the_deadline(server: BlobServer) -> None:
    """A save that can never succeed must end, with the reason."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK, BUSY, times=None)
    with pytest.raises(FatalBlobIOWriteError, match="503 ServerBusy") as caught:
        write(server, CONTENT, options=BRIEF)

    assert isinstance(caught.value.__cause__, BlobServiceError)
    assert caught.value.__cause__.status_code == 503
    assert server.get("a") == b"good"


def test_service_that_stays_silent_leaves_the_outcome_unknown(server: BlobServer) -> None:
    """It may have taken the content or not: to call that a plain failure would be a guess."""
    server.fault(PUT_BLOB, Hang(), times=None)
    with pytest.raises(CommitOutcomeUnknownError) as caught:
        write(server, PART, options=BRIEF)
    assert isinstance(caught.value.__cause__, BlobTimeoutError)


def test_lost_answers_to_a_small_blob_leave_the_outcome_unknown(server: BlobServer) -> None:
    """The blob was replaced: an error that says nothing was committed would be wrong."""
    server.fault(PUT_BLOB, LoseAnswer("reset"), times=None)
    with pytest.raises(CommitOutcomeUnknownError):
        write(server, PART, options=BRIEF)
    assert server.get("a") == PART


def test_lost_answer_before_a_refused_connection_leaves_the_outcome_unknown(server: BlobServer) -> None:
    """The HTTP client asks again by itself on a used connection: that the second try was refused proves nothing."""
    with BlobServer() as other:
        url = other.url("a")
        with BlobIO(url, "wb", credential=False, options=BRIEF) as file:
            file.write(b"previous")
        other.fault(PUT_BLOB, LoseAnswer("reset"))
        file = BlobIO(url, "wb", credential=False, options=BRIEF)
        file.write(PART)
        other.fault(PUT_BLOB, Drop("reset"), times=None)
        with pytest.raises(CommitOutcomeUnknownError):
            file.close()
        assert other.get("a") == PART


def test_damaged_content_that_is_always_refused_is_known_not_to_be_written(server: BlobServer) -> None:
    """A 400 is an answer, however often it comes."""
    server.fault(PUT_BLOB, Status(400, "Md5Mismatch"), times=None)
    with pytest.raises(BlobServiceError, match="Md5Mismatch"):
        write(server, PART)
    with pytest.raises(KeyError):
        server.get("a")


def test_throttled_small_blob_is_known_not_to_be_written(server: BlobServer) -> None:
    """A 503 is an answer: nothing happened, and the error may say so."""
    server.fault(PUT_BLOB, Status(503, "ServerBusy"), times=None)
    with pytest.raises(BlobServiceError) as caught:
        write(server, PART, options=BRIEF)
    assert caught.value.status_code == 503


def test_stalled_upload_is_sent_again_before_its_deadline(server: BlobServer) -> None:
    """A connection that dies in the middle of a block must cost an idle timeout, not the checkpoint."""
    server.fault(on("PUT", "block"), StallUpload(1000))
    content = bytes(range(256)) * (64 << 10)  # more than the buffers of a socket take
    write(server, content, options=TransferOptions(block_size=8 << 20, idle_timeout=0.3, deadline=30))
    assert server.get("a") == content
    server.drop_connections()  # the stalled one still wants to send what it took


def test_commit_that_hangs_is_unknown_when_the_service_cannot_be_asked(server: BlobServer) -> None:
    """The deadline is one more way not to learn the outcome."""
    server.fault(on("PUT", "blocklist"), Hang(perform=True), times=None)
    server.fault(on("GET", "blocklist"), Hang(), times=None)
    with pytest.raises(CommitOutcomeUnknownError):
        write(server, CONTENT, options=BRIEF)


def test_service_that_is_not_there(leaks: Leaks) -> None:
    """A wrong port is a clear error, and nothing hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/devstoreaccount1/data/a"
    with pytest.raises(FatalBlobIOWriteError, match="no connection"):  # noqa: SIM117
        with BlobIO(url, "wb", credential=False, options=BRIEF) as file:
            file.write(CONTENT)


# Create only.


@pytest.mark.parametrize("content", [b"", PART, CONTENT], ids=["empty", "one block", "blocks"])
def test_create_leaves_an_existing_blob_alone(server: BlobServer, content: bytes) -> None:
    """What mode x is for: the other one's work stands, and the error is the one that open() raises."""
    server.put("a", b"good")

    with pytest.raises(FileExistsError, match="exists already") as caught:
        write(server, content, "xb")

    assert isinstance(caught.value, BlobExistsError)
    assert isinstance(caught.value, ResourceExistsError)
    assert server.get("a") == b"good"


def test_create_fails_before_uploading(server: BlobServer) -> None:
    """An hour's upload is not spent on finding out that the name is taken."""
    server.put("a", b"good")
    file = open_blob(server, "xb")
    with pytest.raises(BlobExistsError):
        for _ in range(3):
            file.write(CONTENT[:BLOCK])

    assert not server.requests("PUT")
    with pytest.raises(FileExistsError) as caught:
        file.close()
    assert isinstance(caught.value.__cause__, BlobExistsError)


def test_create_that_loses_the_reason_on_the_way(server: BlobServer) -> None:
    """torch.save turns what write raises into an error of its own; a name that is taken has to stay recognisable."""
    server.put("a", b"good")
    with pytest.raises(FileExistsError), open_blob(server, "xb") as file:
        with contextlib.suppress(BlobExistsError):
            file.write(CONTENT)
        raise RuntimeError("unexpected pos")


@pytest.mark.parametrize("content", [b"", PART, CONTENT], ids=["empty", "one block", "blocks"])
def test_create_of_a_blob_that_appears_meanwhile(server: BlobServer, content: bytes) -> None:
    """Between the first look and the commit anybody may come first."""
    server.fault(PUT_BLOCK_LIST, Call(lambda: server.put("a", b"first")))

    with pytest.raises(BlobExistsError):
        write(server, content, "xb")

    assert server.get("a") == b"first"


def test_two_creators_race(server: BlobServer) -> None:
    """Two ranks that save under one name: one wins whole, the other is told."""
    first, second = open_blob(server, "xb"), open_blob(server, "xb")
    first.write(b"1" * 4500)
    second.write(b"2" * 4500)
    outcomes: dict[bytes, BaseException | None] = {}
    together = threading.Barrier(2)

    def close(file: BlobIO, letter: bytes) -> None:
        together.wait(10)
        try:
            file.close()
        except BlobExistsError as error:
            outcomes[letter] = error
        else:
            outcomes[letter] = None

    threads = [threading.Thread(target=close, args=pair) for pair in ((first, b"1"), (second, b"2"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winners = [letter for letter, error in outcomes.items() if error is None]
    assert len(outcomes) == 2
    assert len(winners) == 1
    assert server.get("a") == winners[0] * 4500
    assert (first.committed, second.committed) == (winners == [b"1"], winners == [b"2"])


@pytest.mark.parametrize("mode", ["wb", "xb"])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("content", [PART, CONTENT], ids=["one block", "blocks"])
def test_lost_answer_to_a_commit_that_won(server: BlobServer, content: bytes, how: Any, times: int, mode: Any) -> None:
    """Asked again, the service says that the blob exists: it is this very content, so the file is saved."""
    request = PUT_BLOCK_LIST if mode == "xb" or content is CONTENT else PUT_BLOB
    rule = server.fault(request, LoseAnswer(how), times=times)
    write(server, content, mode)

    assert rule.hits >= 1
    assert server.get("a") == content


def test_lost_answer_to_the_creation_of_an_empty_blob(server: BlobServer) -> None:
    """Nothing tells whose empty blob it is, and lock files are empty: a false success would let two owners in."""
    server.fault(PUT_BLOCK_LIST, LoseAnswer(), times=4)
    with pytest.raises((BlobExistsError, CommitOutcomeUnknownError)):
        write(server, b"", "xb")
    assert server.get("a") == b""


@pytest.mark.parametrize("fault", [LoseAnswer(), Hang(perform=True)], ids=["reset", "silence"])
def test_commit_that_is_never_answered_is_looked_up(server: BlobServer, fault: Action) -> None:
    """The committed block list proves whose content the blob holds, whatever became of the answers."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK_LIST, fault, times=None)
    with open_blob(server, options=BRIEF) as file:
        file.write(CONTENT)

    assert file.committed
    assert server.get("a") == CONTENT


@pytest.mark.parametrize("performed", [True, False])
@pytest.mark.parametrize("mode", ["wb", "xb"])
def test_commit_whose_outcome_cannot_be_known(server: BlobServer, mode: Any, performed: bool) -> None:
    """To say 'failed' or 'saved' would be a guess: the error says that it is not known."""
    if mode == "wb":
        server.put("a", b"good")
    server.fault(PUT_BLOCK_LIST, LoseAnswer() if performed else Drop(), times=None)
    server.fault(on("GET", "blocklist"), Drop(), times=None)
    file = open_blob(server, mode, BRIEF)
    file.write(CONTENT)

    with pytest.raises(CommitOutcomeUnknownError, match="either its previous or the new content"):
        file.close()

    assert not file.committed
    if performed:
        assert server.get("a") == CONTENT
    elif mode == "wb":
        assert server.get("a") == b"good"


def test_commit_that_never_happened_is_told_apart(server: BlobServer) -> None:
    """Where the service can be asked, an unanswered commit that did not happen is a plain failure."""
    server.put("a", b"good")
    server.fault(PUT_BLOCK_LIST, Drop(), times=None)
    file = open_blob(server, options=BRIEF)
    file.write(CONTENT)

    with pytest.raises(AZStorageTorchError) as caught:
        file.close()

    assert not isinstance(caught.value, CommitOutcomeUnknownError)
    assert server.get("a") == b"good"


def test_lost_answer_and_another_winner(server: BlobServer) -> None:
    """The same answer, 'exists', where it is somebody else's content: no success may be claimed."""
    server.fault(PUT_BLOCK_LIST, Drop(), Call(lambda: server.put("a", b"other")))
    server.fault(PUT_BLOCK_LIST, Call(lambda: server.put("a", b"other")))

    with pytest.raises(BlobExistsError):
        write(server, CONTENT, "xb")
    assert server.get("a") == b"other"


# Checksums.


def test_blocks_over_http_carry_their_md5(server: BlobServer) -> None:
    """Nothing else guards the bytes on a connection without TLS."""
    write(server, CONTENT)
    write(server, PART)

    content = server.requests("PUT", comp="block") + server.requests("PUT", comp="")
    assert len(content) == 6
    assert all(len(base64.b64decode(record.headers["content-md5"])) == 16 for record in content)


@pytest.mark.parametrize("content", [PART, CONTENT], ids=["one request", "blocks"])
def test_body_changed_on_the_way_is_sent_again(server: BlobServer, content: bytes) -> None:
    """A bad memory chip in a router flips bits that TCP's checksum does not see."""
    with FlippingProxy(server.port, content[100:150]) as proxy:
        url = server.url("a").replace(f":{server.port}/", f":{proxy.port}/")
        with BlobIO(url, "wb", credential=False, options=SMALL) as file:
            file.write(content)

    assert proxy.flipped
    assert [record.error_code for record in server.requests("PUT") if record.status != 201] == ["Md5Mismatch"]
    assert server.get("a") == content
    assert file.stats().retries == 1


def test_crc64_is_sent_on_request(server: BlobServer) -> None:
    """Twice as fast as MD5; the bytes are those that the service computes (its published check value)."""
    check = b"123456789"
    write(server, check, options=TransferOptions(checksum="crc64"))
    write(server, CONTENT, options=TransferOptions(checksum="crc64", block_size=BLOCK))

    # CRC-64/NVME of "123456789" is AE8B14860A799888: https://reveng.sourceforge.io/crc-catalogue/all.htm
    (single,) = server.requests("PUT", comp="")
    expected = base64.b64encode(0xAE8B14860A799888.to_bytes(8, "little")).decode()
    assert single.headers["x-ms-content-crc64"] == expected
    blocks = server.requests("PUT", comp="block")
    assert len(blocks) == 5
    assert all(len(base64.b64decode(record.headers["x-ms-content-crc64"])) == 8 for record in blocks)
    assert all("content-md5" not in record.headers for record in server.requests())


def test_no_checksum_on_request(server: BlobServer) -> None:
    """Who trusts the network does not pay."""
    write(server, CONTENT, options=TransferOptions(checksum="none", block_size=BLOCK))
    for record in server.requests():
        assert not {"content-md5", "x-ms-content-crc64"} & set(record.headers)


def test_no_checksum_over_https_unless_asked(tls_server: TlsBlobServer) -> None:
    """TLS authenticates every byte; MD5 would double the cost of an upload."""
    options = TransferOptions(block_size=BLOCK, ca_file=tls_server.ca_file)
    write(tls_server, CONTENT, options=options)
    assert all("content-md5" not in record.headers for record in tls_server.requests())
    tls_server.clear()

    write(tls_server, CONTENT, options=TransferOptions(block_size=BLOCK, ca_file=tls_server.ca_file, checksum="md5"))
    assert all("content-md5" in record.headers for record in tls_server.requests("PUT", comp="block"))


class FlippingProxy:
    """Forwards connections to a port of this machine, and once changes a bit of ``target`` on the way there."""

    def __init__(self, port: int, target: bytes) -> None:
        self.flipped = False
        self._to = port
        self._target = target
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> FlippingProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += (client, server)
                self._start(self._forward, client, server)
                self._start(self._forward, server, client)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                at = data.find(self._target)
                if at >= 0 and not self.flipped:
                    self.flipped = True
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
