"""Content is published by a clean close and by nothing else: a checkpoint that exists is whole."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._face import Mode
from azstoragetorch.exceptions import FatalBlobIOWriteError, UncommittedBlobWarning
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Hold, Status, on
from tests.files.leaks import Leaks, no_leaks

SMALL = TransferOptions(block_size=1000, in_flight=4)
SIZES = pytest.mark.parametrize("size", [0, 10, 1000, 4500], ids=["nothing", "part", "one block", "many blocks"])
MODES = pytest.mark.parametrize("mode", ["wb", "xb"])


class Torn(Exception):
    """What a training step raises in the middle of a save."""


@pytest.fixture(autouse=True)
def leaks(server: BlobServer) -> Iterator[Leaks]:
    with no_leaks(server) as checked:
        yield checked


def writer(server: BlobServer, mode: Mode = "wb") -> BlobIO:
    return BlobIO(server.url("model"), mode, credential=False, options=SMALL)


def prepare(server: BlobServer, mode: Mode) -> None:
    """The previous content; a file that only creates has none."""
    if mode == "wb":
        server.put("model", b"good")


def assert_untouched(server: BlobServer, mode: Mode = "wb") -> None:
    """Neither the blob nor anything that could change it was touched."""
    server.wait_idle()
    assert not server.requests("PUT", comp="blocklist")
    assert not server.requests("PUT", comp="")
    if mode == "wb":
        assert server.get("model") == b"good"
    else:
        with pytest.raises(KeyError):
            server.get("model")


@MODES
@SIZES
@pytest.mark.parametrize("kind", [Torn, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_exception_in_with_publishes_nothing(
    server: BlobServer, kind: type[BaseException], size: int, mode: Mode
) -> None:
    """A crash or Ctrl-C inside torch.save must not replace the last good checkpoint by half of one."""
    prepare(server, mode)
    file = writer(server, mode)

    with pytest.raises(kind), file:
        file.write(b"x" * size)
        raise kind

    assert file.closed
    assert not file.committed
    assert_untouched(server, mode)


@MODES
@SIZES
def test_abort_publishes_nothing(server: BlobServer, size: int, mode: Mode) -> None:
    """Giving up on purpose is as safe as a crash."""
    prepare(server, mode)
    with writer(server, mode) as file:
        file.write(b"x" * size)
        file.abort()
        assert file.closed

    file.abort()
    file.close()
    assert not file.committed
    assert_untouched(server, mode)


def test_abort_after_flush_publishes_nothing(server: BlobServer) -> None:
    """What was flushed is with the service already, and must stay invisible all the same."""
    prepare(server, "wb")
    file = writer(server)
    file.write(b"x" * 3000)
    file.flush()
    file.abort()

    assert len(server.requests("PUT", comp="block")) == 3
    assert_untouched(server)


def test_exception_ends_uploads_in_flight(server: BlobServer, leaks: Leaks) -> None:
    """The program that handles the error must not share its network and memory with a file that is over."""
    prepare(server, "wb")
    held = server.fault(on("PUT", "block"), Hold(), times=None)

    with pytest.raises(Torn), writer(server) as file:
        file.write(b"x" * 4500)
        held.wait(4)
        raise Torn

    assert not leaks.tasks()
    assert leaks.memory() == 0
    assert_untouched(server)


@SIZES
def test_collected_writer_publishes_nothing_and_says_so(
    server: BlobServer, leaks: Leaks, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """A forgotten close must neither publish what may be half a file nor lose it in silence."""
    prepare(server, "wb")
    file = writer(server)
    file.write(b"x" * size)

    with caplog.at_level(logging.ERROR), pytest.warns(UncommittedBlobWarning, match=server.url("model")):
        del file

    leaks.wait()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert server.url("model") in caplog.text
    assert_untouched(server)


def test_collected_writer_says_so_although_the_loop_is_quicker(server: BlobServer, leaks: Leaks) -> None:
    """The loop's thread ends the file at once, and may have closed it before the finalizer looks."""
    prepare(server, "wb")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            file = writer(server)
            file.write(b"x" * 1500)
            with pytest.warns(UncommittedBlobWarning):
                del file
    finally:
        sys.setswitchinterval(interval)
    leaks.wait()
    assert_untouched(server)


def test_closed_writer_is_collected_in_silence(server: BlobServer, caplog: pytest.LogCaptureFixture) -> None:
    """A warning for the usual case would be turned off, and the real one with it."""
    with writer(server) as file:
        file.write(b"x")
    del file
    gc.collect()
    file = writer(server)
    file.abort()
    del file
    gc.collect()

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_collected_reader_says_nothing(server: BlobServer, leaks: Leaks, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost with it."""
    server.put("model", b"x" * 5000)
    file = BlobIO(server.url("model"), "rb", credential=False)
    file.read(1)
    del file
    gc.collect()

    leaks.wait()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_nothing_is_visible_before_close(server: BlobServer) -> None:
    """A reader sees the previous content until the new one is whole."""
    prepare(server, "wb")
    with writer(server) as file:
        file.write(b"x" * 4500)
        file.flush()
        assert server.get("model") == b"good"
        assert not file.committed

    assert file.committed
    assert server.get("model") == b"x" * 4500


@MODES
@SIZES
def test_clean_close_publishes(server: BlobServer, size: int, mode: Mode) -> None:
    """The other half: what was closed is there, also when nothing was written."""
    prepare(server, mode)
    content = bytes(range(250)) * (size // 250) + b"y" * (size % 250)
    with writer(server, mode) as file:
        assert file.write(content) == size
        assert file.tell() == size

    assert file.committed
    assert server.get("model") == content


def test_second_close_does_nothing(server: BlobServer) -> None:
    """A wrapper closes what it wraps, and the with statement closes it again."""
    file = writer(server)
    file.write(b"x" * 2500)
    file.close()
    server.clear()
    file.close()
    file.abort()

    assert file.committed
    assert not server.requests()


def test_failed_close_is_not_repeated_by_the_next(server: BlobServer) -> None:
    """A commit that was refused must not happen behind the back of whoever handled the error."""
    prepare(server, "wb")
    server.fault(on("PUT", "blocklist"), Status(403, "AuthorizationFailure"))
    file = writer(server)
    file.write(b"x" * 2500)
    with pytest.raises(PermissionError):
        file.close()
    file.close()

    assert file.closed
    assert not file.committed
    assert len(server.requests("PUT", comp="blocklist")) == 1
    assert server.get("model") == b"good"


def test_interrupted_write_cannot_be_committed(server: BlobServer) -> None:
    """After Ctrl-C nobody knows how much of that write was taken: a commit would publish content with a gap."""
    prepare(server, "wb")
    file = writer(server)

    failing = file._file.writing.write(memoryview(b"x" * 2500))
    next(failing)
    with pytest.raises(KeyboardInterrupt):
        failing.throw(KeyboardInterrupt)

    with pytest.raises(FatalBlobIOWriteError, match="interrupted by KeyboardInterrupt"):
        file.write(b"more")
    with pytest.raises(FatalBlobIOWriteError, match="interrupted by KeyboardInterrupt"):
        file.close()
    assert not file.committed
    assert_untouched(server)
